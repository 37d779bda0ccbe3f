"""What each cycle receives: the terminal error, or the gradient of a cost; and its gain."""

import math

import pytest
import torch

from tests.unit.model.by_hand import VARIANTS
from trc_lib.costs import QuadraticCost
from trc_lib.model import (
    CostGradient,
    FinalError,
    NoFeedback,
    Proportional,
    TinyRecursiveControl,
    TRCConfig,
)
from trc_lib.problems import van_der_pol
from trc_lib.systems import DoubleIntegrator, LinearSystem, VanDerPol


def change_signal(model, change):
    """Replace the signal of a network's feedback by what ``change`` makes of it."""
    source = getattr(model.feedback, "inner", model.feedback)
    return source.register_forward_hook(
        lambda module, inputs, output: (change(output[0]), output[1]))


def test_the_signal_reaches_the_controls_of_every_cycle_but_not_the_proposal(scaled, problems):
    model = scaled()
    before = model(*problems)["cycle_controls"]
    change_signal(model, lambda error: error + 0.5)
    after = model(*problems)["cycle_controls"]
    assert torch.equal(before[0], after[0])
    assert not any(torch.equal(b, a) for b, a in zip(before[1:], after[1:]))


@pytest.mark.parametrize("feedback", [FinalError, NoFeedback])
def test_the_matrices_of_the_system_are_seen_only_through_feedback(scaled, problems, feedback):
    cart = DoubleIntegrator()
    light, heavy = (scaled(feedback=feedback, system=system)(*problems)["controls"]
                    for system in (cart, LinearSystem(cart.A, cart.B / 3, cart.dt)))
    assert torch.equal(light, heavy) != (feedback is FinalError)


def test_final_error_is_where_the_controls_end_minus_the_target(scaled, dataset):
    model = scaled()
    x0, xT = dataset.initial_states.float(), dataset.target_states.float()
    u = dataset.controls.float()
    arrived, gain = model.feedback(x0, xT, u)
    assert float(arrived.abs().max()) < 1e-5 and gain == 1  # the teacher arrives
    missed, _ = model.feedback(x0, xT + torch.tensor([0.3, -0.2]), u)
    expected = (torch.tensor([-0.3, 0.2]) / model.state_scale).expand(len(x0), 2)
    torch.testing.assert_close(missed, expected, rtol=0, atol=1e-5)


def test_final_error_tells_the_components_that_count_alone(dataset, tmp_path):
    cart = DoubleIntegrator()
    model = TinyRecursiveControl(feedback=Proportional(FinalError(cart, [1])))
    model.set_scaling(dataset)
    x0, xT = dataset.initial_states.float(), dataset.target_states.float()
    u = dataset.controls.float()
    missed, _ = model.feedback.inner(x0, xT + torch.tensor([0.3, -0.2]), u)
    expected = (torch.tensor([0.2]) / model.state_scale[1]).expand(len(x0), 1)
    torch.testing.assert_close(missed, expected, rtol=0, atol=1e-5)
    _, gain = model.feedback(x0, xT + torch.tensor([0.3, 0.0]), u)  # the position is free
    assert float(gain.max()) < 1e-4
    model.save(tmp_path / "model.pt")
    loaded = TinyRecursiveControl.load(tmp_path / "model.pt")
    assert loaded.feedback.inner.components == [1]
    assert torch.equal(loaded(x0, xT)["cycle_controls"], model(x0, xT)["cycle_controls"])


@pytest.mark.parametrize(("components", "error"), [
    ([], "needs different numbers"), ([0, 0], "needs different numbers"), ([2], "too large"),
    ([-1], "too small"), ([0.5], "not a whole number")])
def test_components_that_the_state_lacks_are_refused(components, error):
    with pytest.raises((TypeError, ValueError), match=error):
        FinalError(DoubleIntegrator(), components)


def test_a_proportional_network_rests_where_it_arrives(scaled, problems):
    model = scaled(**VARIANTS["proportional"])
    moved = model(*problems)["cycle_controls"].detach().diff(dim=0).norm(dim=(2, 3))
    hook = change_signal(model, lambda error: 1e-4 * error)
    rested = model(*problems)["cycle_controls"].detach().diff(dim=0).norm(dim=(2, 3))
    assert bool((moved > 0).all()) and float((rested / moved).max()) < 1e-2
    hook.remove()
    change_signal(model, torch.zeros_like)
    assert float(model(*problems)["cycle_controls"].detach().diff(dim=0).abs().max()) < 1e-5


@pytest.fixture(scope="module")
def oscillator():
    problem = van_der_pol(horizon=12)
    return problem, problem.dataset(24, seed=0)


def network_for(problem, wrap=lambda inner: inner):
    teacher = problem.teacher
    feedback = wrap(CostGradient(teacher.system, teacher.quadratic_cost, 12))
    return TinyRecursiveControl.create_two_level_small(
        teacher.system, 0, feedback, horizon=12).double()


def test_the_gradient_of_the_cost_is_fed_back_over_that_of_the_first_proposals(oscillator):
    problem, data = oscillator
    model = network_for(problem)
    model.set_scaling(data)
    x0, xT, u = data.initial_states, data.target_states, 0.4 * data.controls
    gradient = model.feedback(x0, xT, u)[0] * model.feedback.scale

    def total(k, h):
        moved = u.clone()
        moved[:, k] += h
        return problem.teacher.cost(x0, xT, moved)

    differences = [(total(k, 1e-5) - total(k, -1e-5)) / 2e-5 for k in range(12)]
    torch.testing.assert_close(gradient, torch.stack(differences, dim=1), rtol=1e-5, atol=1e-5)
    proposals = model.predict(x0, xT, 0)["controls"]
    first, _ = model.feedback(x0, xT, proposals)
    assert float(first.square().sum(dim=1).mean()) == pytest.approx(1, rel=1e-4)


def test_a_gradient_that_pushes_against_a_limit_is_left_out(oscillator):
    problem, data = oscillator
    model = network_for(problem)
    model.set_scaling(data)
    x0, xT, teacher = data.initial_states, data.target_states, problem.teacher
    signs = torch.rand(24, 12, generator=torch.Generator().manual_seed(0)) < 0.5
    ends = torch.where(signs, 2.0, -2.0).double()
    saturated = model.to_physical(model.clamp(3 * ends / model.control_scale))
    signal, _ = model.feedback(x0, xT, saturated)
    controls = ends[..., None]
    states = teacher.system.rollout_unchecked(x0, controls)
    slopes = teacher.quadratic_cost.gradient(teacher.system, states, controls, xT)[..., 0]
    outward = slopes * ends < 0  # the cost would fall beyond the limit
    assert bool(outward.any()) and bool((~outward).any())
    assert bool((signal[outward] == 0).all()) and bool((signal[~outward] != 0).all())


@pytest.mark.parametrize("limit", [0.1, 0.7])
def test_a_control_at_a_limit_that_float32_rounds_counts_as_at_its_limit(limit):
    system = VanDerPol(control_limit=limit)
    cost = QuadraticCost(torch.eye(2).double(), [[0.1]], torch.eye(2).double())
    model = TinyRecursiveControl.create_two_level_small(
        system, feedback=CostGradient(system, cost, 12), horizon=12)
    saturated = model.to_physical(torch.full((1, 12), -9.0))
    signal, _ = model.feedback(torch.tensor([[-1.0, 0.0]]), torch.zeros(1, 2), saturated)
    free, _ = model.feedback(torch.tensor([[-1.0, 0.0]]), torch.zeros(1, 2), 0.5 * saturated)
    assert bool((free > 0).any()) and bool((signal <= 0).all())


def test_a_cost_that_does_not_fit_the_system_is_refused(oscillator):
    problem, _ = oscillator
    with pytest.raises(ValueError, match="cost is for 2 states and 1 controls"):
        other = LinearSystem(torch.eye(2).double(), torch.eye(2).double(), 0.1)
        CostGradient(other, problem.teacher.quadratic_cost, 12)


def test_a_feedback_that_does_not_fit_the_network_is_refused(oscillator):
    teacher = oscillator[0].teacher
    with pytest.raises(TypeError, match="feedback=True is not accepted; needs a Feedback"):
        TinyRecursiveControl(feedback=True)
    with pytest.raises(ValueError, match="feedback was made for another system"):
        TinyRecursiveControl(feedback=FinalError(DoubleIntegrator(0.2)))
    with pytest.raises(ValueError, match="feedback was made for 12 steps; the network has 15"):
        gradient = CostGradient(teacher.system, teacher.quadratic_cost, 12)
        TinyRecursiveControl(TRCConfig(), teacher.system, feedback=Proportional(gradient))


@pytest.mark.parametrize("wrap", [lambda inner: inner, Proportional], ids=["raw", "proportional"])
def test_a_network_is_saved_with_the_cost_of_its_feedback(oscillator, tmp_path, wrap):
    problem, data = oscillator
    model = network_for(problem, wrap).float()
    model.set_scaling(data)
    model.save(tmp_path / "model.pt")
    loaded = TinyRecursiveControl.load(tmp_path / "model.pt")
    states = data.initial_states.float(), data.target_states.float()
    assert torch.equal(loaded(*states)["cycle_controls"], model(*states)["cycle_controls"])
    cost = getattr(loaded.feedback, "inner", loaded.feedback).cost
    for name, matrix in problem.teacher.quadratic_cost.parameters().items():
        assert torch.equal(cost.parameters()[name], matrix)


def test_at_zero_error_the_gain_of_a_proportional_network_is_what_float32_resolves():
    cart = DoubleIntegrator()
    feedback = Proportional(FinalError(cart))
    rest = torch.zeros(1, 2)
    signal, gain = feedback(rest, rest, torch.zeros(1, 15, 1))
    assert gain.item() == pytest.approx(1e-6)
    assert signal.tolist() == [[0.0, 0.0, pytest.approx(math.log(1e-6) / 4)]]


def test_limits_that_are_not_symmetric_mask_the_gradient_on_their_own_side():
    system = DoubleIntegrator(control_limit=[[0.25, 2.0]])
    cost = QuadraticCost(torch.eye(2).double(), [[1.0]], torch.eye(2).double())
    feedback = CostGradient(system, cost, 4)
    controls = torch.tensor([[0.25], [2.0], [1.0], [0.25]])[None]
    for start in (50.0, -50.0):  # far off: every slope points the same way
        x0, rest = torch.tensor([[start, 0.0]]), torch.zeros(1, 2)
        told = feedback.gradient(x0, rest, controls)[0]
        expected = [0.0, 1.0, 1.0, 0.0] if start > 0 else [1.0, 0.0, 1.0, 1.0]
        assert (told != 0).float().tolist() == expected
