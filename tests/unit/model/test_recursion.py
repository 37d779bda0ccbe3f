"""The network is the recursion written out by hand, learns everywhere, and can be continued."""

import ast
import inspect
import textwrap

import numpy as np
import pytest
import torch

from tests.unit.model.by_hand import VARIANTS, each_variant, gradients, refined_by_hand
from trc_lib.model import TinyRecursiveControl
from trc_lib.systems import LinearSystem
from trc_lib.training import imitation_loss


@pytest.mark.parametrize(("create", "size"), [
    (TinyRecursiveControl.create_two_level_small, 150_000),
    (TinyRecursiveControl.create_two_level_medium, 600_000)])
def test_network_has_about_the_parameters_of_the_description(create, size):
    model = create()
    counted = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert model.num_parameters == counted == pytest.approx(size, rel=0.1)


@each_variant
@pytest.mark.parametrize("sizes", [
    {}, {"H_cycles": 1, "L_cycles": 1, "block_layers": 1}, {"H_cycles": 5}], ids=str)
def test_forward_is_the_recursion_written_out_by_hand(scaled, problems, variant, sizes):
    model = scaled(**variant, **sizes)
    expected = refined_by_hand(model, *problems)
    output = model(*problems)
    torch.testing.assert_close(output["cycle_controls"], expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(output["controls"], output["cycle_controls"][-1])


def test_forward_serves_systems_of_several_states_and_controls(tiny):
    rng = np.random.default_rng(0)
    system = LinearSystem(rng.normal(size=(3, 3)) / 3, rng.normal(size=(3, 2)), dt=0.1)
    model = tiny(system=system, state_dim=3, control_dim=2, horizon=6)
    model.control_scale.copy_(torch.tensor([0.5, 3.0]))
    problems = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0))
    expected = refined_by_hand(model, *problems)
    torch.testing.assert_close(model(*problems)["cycle_controls"], expected, rtol=1e-5, atol=1e-5)


@each_variant
@pytest.mark.parametrize("cycle_weight", [0.0, 0.1])
def test_every_parameter_learns(scaled, dataset, problems, variant, cycle_weight):
    model = scaled(**variant)
    optimal = dataset.controls[:8].float()
    got = gradients(model, model(*problems)["cycle_controls"], optimal, cycle_weight)
    assert [name for name, gradient in got.items() if not gradient.any()] == []


@pytest.mark.parametrize("variant", ["recursive", "no feedback", "proportional", "single latent"])
def test_gradient_of_the_full_recursion_agrees_with_finite_differences(
        scaled, dataset, problems, variant):
    model = scaled(**VARIANTS[variant], L_cycles=2).double()
    problems = [states.double() for states in problems]

    def loss():
        cycles = model(*problems)["cycle_controls"]
        return imitation_loss(cycles, dataset.controls[:8], cycle_weight=0.1)[0]

    loss().backward()
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, dtype=torch.float64,
                                generator=torch.Generator().manual_seed(0))
        ends = []
        with torch.no_grad():
            for shift in (1e-6, -2e-6, 1e-6):  # there, to the other side, and back
                parameter += shift * direction
                ends.append(loss())
        slope = float(ends[0] - ends[1]) / 2e-6
        found = float((parameter.grad * direction).sum())
        assert found == pytest.approx(slope, rel=1e-5, abs=1e-7), name


def test_fewer_or_more_cycles_are_the_same_refinement_cut_or_continued(scaled, problems):
    model = scaled(H_cycles=3)
    controls = model(*problems)["cycle_controls"]
    for H_cycles in (0, 1, 2, 6):
        output = model(*problems, H_cycles=H_cycles)
        shared = min(H_cycles, 3) + 1
        assert output["cycle_controls"].shape[0] == H_cycles + 1
        assert torch.equal(output["cycle_controls"][:shared], controls[:shared])
        assert torch.equal(output["controls"], output["cycle_controls"][-1])
    assert model.trace(*problems, H_cycles=5).z_L.shape[:2] == (5, 5)
    assert torch.equal(model(*problems)["cycle_controls"], controls)  # the module is unchanged


@each_variant
def test_a_run_goes_on_from_its_carry_as_if_it_had_not_stopped(scaled, problems, variant):
    model = scaled(**variant)
    whole, end = model.recursive_reasoning(*problems, 3)
    first, carry = model.recursive_reasoning(*problems, 1)
    rest, end_of_rest = model.recursive_reasoning(*problems, 2, carry)
    assert torch.equal(torch.cat([first, rest[1:]]), whole)
    assert all(torch.equal(one, other) for one, other in zip(end, end_of_rest))
    trace, start = model.trace(*problems, 3), model.trace(*problems, 1)
    joined = start.followed_by(model.trace(*problems, 2, start.carry))
    for name in ("controls", "z_initial", "z_H", "z_L"):
        assert torch.equal(getattr(joined, name), getattr(trace, name)), name


def test_the_recursion_is_two_loops_without_a_branch():
    tree = ast.parse(textwrap.dedent(inspect.getsource(TinyRecursiveControl.recursive_reasoning)))
    kinds = [type(node) for node in ast.walk(tree)]
    assert kinds.count(ast.For) == 2
    assert not {ast.If, ast.IfExp, ast.While, ast.Try, ast.With} & set(kinds)
    body = tree.body[0].body[1:]  # without its docstring
    assert body[-1].end_lineno - body[0].lineno < 18


def test_a_batch_has_the_answers_of_its_rows(scaled, problems):
    model = scaled()
    rows = torch.cat([model(x0[None], xT[None])["controls"] for x0, xT in zip(*problems)])
    torch.testing.assert_close(model(*problems)["controls"], rows, rtol=0, atol=1e-6)


def test_seed_decides_the_weights_and_nothing_else_is_touched(tiny):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = tiny(seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = tiny(seed=3).state_dict(), tiny(seed=4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["encoder.0.weight"], other["encoder.0.weight"])


def test_parts_hold_every_weight_once(tiny):
    parts = tiny().parts
    proposal, cycles, everything = (
        {id(weight) for module in parts[part] for weight in module.parameters()}
        for part in ("proposal", "cycles", "all"))
    assert proposal and cycles and not proposal & cycles and proposal | cycles == everything


def test_the_first_corrections_are_a_tenth_of_a_proposal():
    model = TinyRecursiveControl.create_two_level_medium(seed=3)
    corrections, proposal = model.decoder[-1].weight, model.initial_generator[-1].weight
    assert float(corrections.std() / proposal.std()) == pytest.approx(0.1, rel=0.05)
