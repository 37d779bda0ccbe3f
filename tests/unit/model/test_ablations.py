"""The gradient of the last cycle alone, and loops that carry less, written out by hand."""

import pytest
import torch

from tests.unit.model.by_hand import gradients, refined_by_hand
from trc_lib.model import (
    FinalError,
    LastCycleGradient,
    NoCarry,
    NoFeedback,
    OneCall,
    Proportional,
    TinyRecursiveControl,
)
from trc_lib.systems import DoubleIntegrator

FEEDBACKS = {"final error": FinalError, "none": NoFeedback,
             "proportional": lambda system: Proportional(FinalError(system))}
each_feedback = pytest.mark.parametrize("feedback", FEEDBACKS.values(), ids=list(FEEDBACKS))
each_loop = pytest.mark.parametrize("network", [NoCarry, OneCall])


def test_last_cycle_gradient_is_that_of_earlier_cycles_without_gradient(
        scaled, dataset, problems):
    truncated, full = scaled(LastCycleGradient), scaled()
    optimal = dataset.controls[:8].float()
    got = gradients(truncated, truncated(*problems)["cycle_controls"], optimal)
    by_hand = gradients(full, refined_by_hand(full, *problems, first_gradient_cycle=2), optimal)
    whole = gradients(full, full(*problems)["cycle_controls"], optimal)
    assert torch.equal(truncated(*problems)["controls"], full(*problems)["controls"])
    for name in got:
        torch.testing.assert_close(got[name], by_hand[name], rtol=1e-4, atol=1e-6)
        assert not torch.allclose(got[name], whole[name], rtol=1e-2), name


def test_no_graph_is_built_where_gradients_are_off(problems):
    model = LastCycleGradient.create_two_level_small()
    with torch.no_grad():
        history, carry = model.recursive_reasoning(*problems, 3)
        assert not any(value.requires_grad for value in (history, *carry))
    assert model(*problems)["cycle_controls"].requires_grad


# ---------------------------------------------------------------- loops that carry less

def corrections_by_hand(model, x0, xT, think, limit=None):
    """The controls of every cycle, ``think(block, z_initial, x)`` being what a cycle decodes.

    From the weights alone, for a cart of 15 steps of 0.33 s; ``limit`` is the largest |u|.
    """
    w = dict(model.named_parameters())

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)

    def silu(x):
        return x / (1 + torch.exp(-x))

    def block(x):
        for i in range(model.config.block_layers):
            gate, value = linear(f"block.layers.{i}.gate_and_value", x).chunk(2, dim=-1)
            x = x + linear(f"block.layers.{i}.down", silu(gate) * value)
            x = x / (x.square().mean(dim=-1, keepdim=True) + torch.finfo(x.dtype).eps).sqrt()
        return x

    def clipped(scaled):
        if limit is None:
            return scaled
        return scaled.clamp(-limit / model.control_scale, limit / model.control_scale)

    def signal(controls):
        p, v, dt = x0[:, 0], x0[:, 1], 0.33
        for u in (controls * model.control_scale).T:
            p, v = p + v * dt + u * dt**2 / 2, v + u * dt
        return (torch.stack([p, v], dim=1) - xT) / model.state_scale

    time = torch.full_like(x0[:, :1], 15 * 0.33)
    x = torch.cat([x0 / model.state_scale, xT / model.state_scale, time], dim=1)
    z_initial = linear("encoder.4", silu(linear("encoder.2", silu(linear("encoder.0", x)))))
    controls = linear("initial_generator.2", silu(linear("initial_generator.0", z_initial)))
    controls = clipped(controls)
    history = [controls]
    for _ in range(model.config.H_cycles):
        x, gain = z_initial + linear("control_embedding", controls), 1.0
        if not isinstance(model.feedback, NoFeedback):
            error = signal(controls)
            if isinstance(model.feedback, Proportional):
                gain = (error.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
                error = torch.cat([error / gain, gain.log() / 4], dim=1)
            x = x + linear("error_embedding", error)
        answer = think(block, z_initial, x)
        correction = linear("decoder.2", silu(linear("decoder.0", answer)))
        controls = clipped(controls + gain * correction)
        history.append(controls)
    return torch.stack(history)[..., None] * model.control_scale


def think_anew(L_cycles):
    """What `NoCarry` does in a cycle."""
    def think(block, z_initial, x):
        z_L = 0 * z_initial
        for _ in range(L_cycles):
            z_L = block(z_L + z_initial + x)
        return block(z_initial + z_L)
    return think


def think_once(block, z_initial, x):
    """What `OneCall` does in a cycle."""
    return block(x)


@each_feedback
@pytest.mark.parametrize("sizes", [{}, {"H_cycles": 1}, {"H_cycles": 5, "L_cycles": 2}], ids=str)
def test_without_a_carry_each_cycle_is_the_loop_written_out_by_hand(
        scaled, problems, feedback, sizes):
    model = scaled(NoCarry, feedback, **sizes)
    expected = corrections_by_hand(model, *problems, think_anew(model.config.L_cycles))
    output = model(*problems)
    torch.testing.assert_close(output["cycle_controls"], expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(output["controls"], output["cycle_controls"][-1])


@each_feedback
@pytest.mark.parametrize("sizes", [{}, {"H_cycles": 1}, {"H_cycles": 5, "L_cycles": 2}], ids=str)
def test_with_one_call_each_cycle_is_the_loop_written_out_by_hand(
        scaled, problems, feedback, sizes):
    model = scaled(OneCall, feedback, **sizes)
    expected = corrections_by_hand(model, *problems, think_once)
    output = model(*problems)
    torch.testing.assert_close(output["cycle_controls"], expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(output["controls"], output["cycle_controls"][-1])


@pytest.mark.parametrize(("network", "think"), [(NoCarry, think_anew(4)), (OneCall, think_once)])
def test_the_loops_that_carry_less_keep_the_limits(scaled, problems, network, think):
    model = scaled(network, FEEDBACKS["proportional"], DoubleIntegrator(control_limit=0.05),
                   L_cycles=4)
    controls = model(*problems)["cycle_controls"]
    expected = corrections_by_hand(model, *problems, think, limit=0.05)
    torch.testing.assert_close(controls, expected, rtol=1e-5, atol=2e-6)
    assert controls.abs().max() <= 0.05 and (controls.abs() == controls.abs().max()).sum() > 5


def test_without_a_carry_one_cycle_is_that_of_the_full_network_and_the_second_is_not(
        scaled, problems):
    cut, full = scaled(NoCarry)(*problems), scaled()(*problems)
    assert torch.equal(cut["cycle_controls"][:2], full["cycle_controls"][:2])
    assert not torch.allclose(cut["cycle_controls"][2], full["cycle_controls"][2], atol=1e-4)


@pytest.mark.parametrize(("network", "calls"), [(NoCarry, 4), (OneCall, 1)])
def test_each_cycle_calls_the_block_as_often_as_its_name_says(scaled, problems, network, calls):
    model, counted = scaled(network, L_cycles=3), []
    model.block.register_forward_hook(lambda *call: counted.append(call))
    for H_cycles in (0, 1, 3, 7):
        counted.clear()
        model(*problems, H_cycles=H_cycles)
        assert len(counted) == calls * H_cycles


@each_loop
def test_nothing_but_the_controls_is_carried_on(scaled, problems, network):
    model = scaled(network)
    whole, _ = model.recursive_reasoning(*problems, 5)
    first, (z_H, z_L, controls) = model.recursive_reasoning(*problems, 2)
    for latents in ((z_H, z_L), (z_H + 7, z_L - 3)):
        rest, _ = model.recursive_reasoning(*problems, 3, (*latents, controls))
        assert torch.equal(torch.cat([first, rest[1:]]), whole)
    other, _ = model.recursive_reasoning(*problems, 3, (z_H, z_L, controls + 0.1))
    assert not torch.allclose(other, whole[2:], atol=1e-3)


@each_loop
@each_feedback
def test_gradients_reach_every_parameter(scaled, dataset, problems, network, feedback):
    model = scaled(network, feedback)
    optimal = dataset.controls[:8].float()
    for cycle_weight in (0.0, 0.1):
        got = gradients(model, model(*problems)["cycle_controls"], optimal, cycle_weight)
        assert [name for name, gradient in got.items() if not gradient.any()] == []


@each_loop
def test_the_loops_that_carry_less_have_the_weights_of_the_full_network(network):
    one, full = network.create_two_level_small(seed=4), TinyRecursiveControl.create_two_level_small(
        seed=4)
    assert {name: value.tolist() for name, value in one.named_parameters()} == {
        name: value.tolist() for name, value in full.named_parameters()}


@each_loop
def test_the_loops_that_carry_less_come_back_from_a_file(scaled, problems, network, tmp_path):
    model = scaled(network, FEEDBACKS["proportional"])
    model.save(tmp_path / "model.pt")
    for kind in (network, TinyRecursiveControl):
        loaded = kind.load(tmp_path / "model.pt")
        assert type(loaded) is network
        assert torch.equal(loaded(*problems)["cycle_controls"], model(*problems)["cycle_controls"])


def test_a_network_without_latents_refuses_to_be_traced(scaled, problems):
    model = scaled(OneCall)
    for H_cycles in (None, 0, 2):
        with pytest.raises(ValueError, match="a OneCall has no latents to trace"):
            model.trace(*problems, H_cycles)
