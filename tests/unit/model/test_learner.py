"""Physical units outside, scaled inside; limits are kept and bad arguments refused by name."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from trc_lib.data import generate_dataset
from trc_lib.model import TinyRecursiveControl
from trc_lib.model.baselines import MLP
from trc_lib.model.learner import straight_through_clamp
from trc_lib.systems import DoubleIntegrator, LinearSystem
from trc_lib.teachers import MinimumEnergyController
from trc_lib.training import train


def test_scaling_is_the_root_mean_square_of_the_dataset(scaled, dataset):
    model = scaled()
    states = np.concatenate([dataset.initial_states, dataset.target_states])
    np.testing.assert_allclose(model.state_scale, np.sqrt((states**2).mean(axis=0)), rtol=1e-6)
    scale = np.sqrt((dataset.controls.numpy()**2).mean(axis=(0, 1)))
    np.testing.assert_allclose(model.control_scale, scale, rtol=1e-6)


@pytest.mark.parametrize("leading", [(), (3,), (2, 4)])
def test_solve_has_the_interface_of_a_teacher(scaled, leading):
    model = scaled()
    generator = torch.Generator().manual_seed(0)
    x0, xT = torch.rand(2, *leading, 2, dtype=torch.float64, generator=generator)
    controls = model.solve(x0, xT)
    assert controls.dtype == torch.float64 and not controls.requires_grad
    assert tuple(controls.shape) == (*leading, 15, 1)
    expected = model(x0.reshape(-1, 2), xT.reshape(-1, 2))["controls"].double()
    torch.testing.assert_close(controls.reshape(-1, 15, 1), expected)


@pytest.mark.parametrize("call", ["forward", "trace"])
@pytest.mark.parametrize(("bad", "error", "reason"), [
    (torch.zeros(4, 3), ValueError, r"has shape \[4, 3\]; needs \[\.\.\., any, 2\]"),
    (torch.zeros(2), ValueError, r"has shape \[2\]; needs"),
    (torch.zeros(1, 4, 2), ValueError, r"has shape \[1, 4, 2\]; needs \[batch, 2\]"),
    (torch.full((4, 2), torch.nan), ValueError, "holds NaN or infinite values"),
    (torch.zeros(4, 2, dtype=torch.int64), TypeError, r"has dtype torch\.int64"),
    ("here", TypeError, "cannot be read"),
])
def test_states_that_make_no_sense_are_refused_by_name(tiny, call, bad, error, reason):
    model, good = tiny(), torch.zeros(4, 2)
    with pytest.raises(error, match=f"initial_state {reason}"):
        getattr(model, call)(bad, good)
    with pytest.raises(error, match=f"target_state {reason}"):
        getattr(model, call)(good, bad)


def test_starts_and_targets_of_different_number_are_refused(tiny):
    with pytest.raises(ValueError, match="target_state has 3 rows and initial_state 4"):
        tiny()(torch.zeros(4, 2), torch.zeros(3, 2))


@pytest.mark.parametrize(("H_cycles", "error"), [
    (-1, ValueError), (2.0, TypeError), (True, TypeError)])
def test_a_number_of_cycles_that_makes_no_sense_is_refused(tiny, H_cycles, error):
    with pytest.raises(error, match=f"H_cycles={H_cycles}"):
        tiny()(torch.zeros(1, 2), torch.zeros(1, 2), H_cycles=H_cycles)


def test_a_system_that_does_not_fit_is_refused(tiny):
    with pytest.raises(ValueError, match="does not fit state_dim=3, control_dim=1"):
        tiny(state_dim=3)


@pytest.mark.parametrize("limit", [0.1, 1.0])
def test_controls_stay_within_their_limits_in_every_cycle(limit, dataset):
    model, free = (TinyRecursiveControl.create_two_level_small(system, seed=2) for system in (
        DoubleIntegrator(control_limit=limit), DoubleIntegrator()))
    for each in (model, free):
        each.set_scaling(dataset)
        each.initial_generator[-1].weight.data.mul_(30)  # so that many would be beyond
    x0, xT = dataset.initial_states.float(), dataset.target_states.float()
    cycles, unlimited = (each(x0, xT)["cycle_controls"].detach().double() for each in (model, free))
    held = float(cycles.abs().max())
    assert 0.999999 * limit < held <= limit
    assert float((cycles.abs() == held).double().mean()) > 0.1  # equal to the bit
    assert not bool(((cycles.abs() > (1 - 4e-7) * limit) & (cycles.abs() < held)).any())
    torch.testing.assert_close(cycles[0], unlimited[0].clamp(-limit, limit), rtol=1e-6, atol=1e-7)


def test_a_control_beyond_its_limit_still_has_a_gradient():
    raw = torch.tensor([-3.0, 0.5, 3.0], requires_grad=True)
    controls = straight_through_clamp(raw, torch.tensor(-1.0), torch.tensor(1.0))
    assert controls.tolist() == [-1.0, 0.5, 1.0]
    (controls - torch.tensor([-1.0, 1.0, 0.0])).square().sum().backward()
    assert raw.grad.tolist() == [0.0, -1.0, 2.0]  # zero only where the limit is right


def test_inside_the_network_controls_exceed_their_limit_by_a_millionth_at_most():
    model = TinyRecursiveControl.create_two_level_small(DoubleIntegrator(control_limit=0.7))
    model.control_scale.fill_(0.3)
    clamped = model.clamp(torch.tensor([[-9.0, 9.0, *[0.5] * 13]])) * model.control_scale
    assert clamped[0, :3].tolist() == pytest.approx([-0.7, 0.7, 0.15], rel=2e-6)


def test_limits_that_are_not_symmetric_hold_in_every_cycle(dataset):
    system = DoubleIntegrator(control_limit=[[-0.1, 0.4]])
    model = TinyRecursiveControl.create_two_level_small(system, seed=2)
    model.set_scaling(dataset)
    model.initial_generator[-1].weight.data.mul_(30)  # so that many would be beyond
    for each in (model, copy.deepcopy(model).double()):
        problems = dataset.initial_states, dataset.target_states
        cycles = each(*problems)["cycle_controls"].detach().double()
        assert float(cycles.min()) >= -0.1 and float(cycles.max()) <= 0.4
        assert float((cycles < -0.0999999).double().mean()) > 0.1
        assert float((cycles > 0.3999999).double().mean()) > 0.1


def test_thrust_that_cannot_be_negative_is_never_negative(dataset):
    model = TinyRecursiveControl.create_two_level_small(
        DoubleIntegrator(control_limit=[[0.0, np.inf]]), seed=2)
    model.set_scaling(dataset)
    controls = model.solve(dataset.initial_states, dataset.target_states)
    assert float(controls.min()) == 0.0 and float(controls.max()) > 0.1


@pytest.mark.parametrize("change", [torch.nn.Module.bfloat16, torch.nn.Module.half])
def test_a_network_in_half_precision_is_refused_by_name(tmp_path, dataset, change):
    model = change(TinyRecursiveControl.create_two_level_small())
    for use in (lambda: model(dataset.initial_states, dataset.target_states),
                lambda: model.save(tmp_path / "model.pt"),
                lambda: train(model, dataset, dataset, progress=False)):
        with pytest.raises(TypeError, match=r"model has dtype torch\.\w*float16.*mixed_precision"):
            use()


def test_sizes_come_from_the_system():
    system = LinearSystem(torch.eye(3).double(), torch.ones(3, 2).double(), 0.1)
    network = TinyRecursiveControl.create_two_level_medium(system, horizon=7)
    mlp = MLP.within(10_000, system, horizon=7)
    for model in (network, mlp):
        assert (model.config.state_dim, model.config.control_dim) == (3, 2)
        assert model.solve(torch.zeros(5, 3), torch.ones(5, 3)).shape == (5, 7, 2)
    with pytest.raises(ValueError, match="does not fit state_dim=4"):
        TinyRecursiveControl.create_two_level_small(system, state_dim=4)


def test_scales_and_units_follow_any_magnitude():
    model = TinyRecursiveControl.create_two_level_small()
    for state, control in ((1.0, 1.0), (1e-9, 1e6), (1e12, 1e-12)):
        cart = DoubleIntegrator()
        system = LinearSystem(cart.A, cart.B * state / control, 0.33)
        data = generate_dataset(200, 1, MinimumEnergyController(system, success=state), 2.5 * state)
        fitting = TinyRecursiveControl.create_two_level_small(system)
        fitting.set_scaling(data)
        model.set_scaling(generate_dataset(200, 1))
        for scale, unit, mine, size in zip(
                (fitting.state_scale, fitting.control_scale), fitting.units,
                (model.state_scale, model.control_scale), (state, control)):
            torch.testing.assert_close(scale / size, mine, rtol=1e-4, atol=0)
            torch.testing.assert_close(unit, torch.full_like(unit, size), rtol=1e-5, atol=0)


def test_a_state_or_control_that_is_always_zero_has_the_scale_of_the_others(dataset):
    model = TinyRecursiveControl.create_two_level_small()
    still = dataclasses.replace(
        dataset, initial_states=dataset.initial_states * torch.tensor([2.0, 0.0]),
        target_states=dataset.target_states * torch.tensor([2.0, 0.0]),
        controls=0 * dataset.controls)
    model.set_scaling(still)
    assert float(model.state_scale[0]) == float(model.state_scale[1]) > 1
    assert model.control_scale.tolist() == [1.0]


@pytest.mark.parametrize("limit", [[[0.5, 2.0]], [[-2.0, -0.5]]])
def test_limits_on_one_side_of_zero_are_reached_exactly(dataset, limit):
    model = TinyRecursiveControl.create_two_level_small(
        DoubleIntegrator(control_limit=limit), seed=2)
    model.set_scaling(dataset)
    model.initial_generator[-1].weight.data.mul_(100)
    controls = model.solve(dataset.initial_states, dataset.target_states)
    assert [float(controls.min()), float(controls.max())] == limit[0]
