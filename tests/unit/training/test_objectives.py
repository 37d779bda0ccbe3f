"""Every objective is its formula."""

import numpy as np
import pytest
import torch

from trc_lib.costs import QuadraticCost
from trc_lib.problems import van_der_pol
from trc_lib.systems import DoubleIntegrator
from trc_lib.teachers import IterativeLQR
from trc_lib.training import TrainConfig, imitation_loss
from trc_lib.training.objectives import cost_loss, objective_of


@pytest.fixture
def cycles(dataset):
    optimum = dataset.controls[:8]
    noise = torch.randn(4, *optimum.shape, dtype=torch.float64,
                        generator=torch.Generator().manual_seed(0))
    return optimum + noise, optimum


@pytest.mark.parametrize(("objective", "by_hand"), [
    ("mse", lambda J, w: J[3] + w * (J[0] + J[1] + J[2])),
    ("rms", lambda J, w: J[3] ** 0.5 + w * (J[0] ** 0.5 + J[1] ** 0.5 + J[2] ** 0.5)),
    ("improvement", lambda J, w: (1 + w) * J[3] - w * J[0]),  # the sum of the gains telescopes
    ("relative improvement", lambda J, w: J[3] - w * (3 - J[1] / J[0] - J[2] / J[1] - J[3] / J[2])),
])
def test_every_objective_is_its_formula(cycles, objective, by_hand):
    J = [float(np.mean((np.asarray(u) - np.asarray(cycles[1])) ** 2)) for u in cycles[0]]
    value, loss = imitation_loss(*cycles, cycle_weight=0.3, objective=objective)
    assert float(value) == pytest.approx(by_hand(J, 0.3), rel=1e-8)
    assert float(loss) == pytest.approx(J[3], rel=1e-12)


@pytest.mark.parametrize("objective", ["mse", "rms"])
def test_the_final_state_counts_by_its_weight(cycles, objective):
    errors = torch.randn(4, 8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    root = 1.0 if objective == "mse" else 0.5
    by_hand = sum(w * 0.7 * float((errors[h] ** 2).sum() / 16) ** root
                  for h, w in enumerate((0.3, 0.3, 0.3, 1.0)))
    without = imitation_loss(*cycles, 0.3, objective)
    with_it = imitation_loss(*cycles, 0.3, objective, errors, final_weight=0.7)
    assert float(with_it[0] - without[0]) == pytest.approx(by_hand, rel=1e-6)
    assert with_it[1] == without[1]


def test_the_root_objective_has_a_finite_slope_at_the_optimum(cycles):
    controls = cycles[1].expand(4, -1, -1, -1).clone().requires_grad_()
    imitation_loss(controls, cycles[1], 1.0, "rms")[0].backward()
    assert torch.isfinite(controls.grad).all() and not controls.grad.any()


@pytest.mark.parametrize("cycle_weight", [0.0, 0.1, 2.0])
def test_imitation_loss_is_the_error_of_the_last_cycle_and_a_share_of_the_others(cycle_weight):
    rng = np.random.default_rng(0)
    cycles, optimal = rng.normal(size=(4, 6, 5, 2)), rng.normal(size=(6, 5, 2))
    each = [((cycle - optimal)**2).sum() / (6 * 5 * 2) for cycle in cycles]
    objective, loss = imitation_loss(torch.tensor(cycles), torch.tensor(optimal), cycle_weight)
    assert float(loss) == pytest.approx(each[3], rel=1e-12)
    expected = each[3] + cycle_weight * (each[0] + each[1] + each[2])
    assert float(objective) == pytest.approx(expected, rel=1e-12)


def test_the_cost_loss_is_the_mean_gap_relative_to_the_optimum():
    costs, optimal = torch.tensor([[3.0, 5.0], [2.0, 4.0]]), torch.tensor([1.0, 3.0])
    objective, loss = cost_loss(costs, optimal, cycle_weight=0.5)
    assert float(loss) == pytest.approx(0.5)
    assert float(objective) == pytest.approx(0.5 + 0.5 * 1.0)


def test_the_root_of_each_gap_is_taken_problem_by_problem():
    costs = torch.tensor([[3.0, 5.0], [1.5, 2.9]]).double()
    optimal = torch.tensor([1.0, 3.0]).double()
    objective, loss = cost_loss(costs, optimal, cycle_weight=0.5, root=True)
    assert float(loss) == pytest.approx((0.25 - 0.05) / 2)  # negative gaps count
    by_hand = (0.25**0.5 + 0) / 2 + 0.5 * (1 + 1) / 2
    assert float(objective) == pytest.approx(by_hand, abs=1e-4)  # but have no root


def test_a_control_at_its_limit_has_no_gradient_of_the_cost():
    teacher, data = van_der_pol(horizon=8).teacher, van_der_pol(horizon=8).dataset(16, seed=0)
    saturated = torch.rand(1, 16, 8, 1, generator=torch.Generator().manual_seed(0)) < 0.5
    controls = torch.where(saturated, 2.0, 0.5).requires_grad_()
    values = [x.float() for x in (data.initial_states, data.target_states, data.controls)]
    objective_of(controls, *values, teacher, TrainConfig(objective="cost"))[0].backward()
    assert bool((controls.grad[saturated] == 0).all())
    assert bool((controls.grad[~saturated] != 0).all())


# ---------------------------------------------------------------- of a whole configuration

WEIGHTED = IterativeLQR(DoubleIntegrator(), 5, QuadraticCost(np.diag([2.0, 1.0]), [[0.5]],
                                                             np.diag([9.0, 4.0])))
IMITATIONS = [{"objective": objective} for objective in (
    "mse", "rms", "improvement", "relative improvement")]
CONFIGS = [*IMITATIONS, {"objective": "mse", "final_weight": 0.7},
           {"objective": "rms", "final_weight": 0.7}, {"objective": "cost"},
           {"objective": "root cost"}]
each_config = pytest.mark.parametrize(
    "config", [TrainConfig(cycle_weight=0.3, **changes) for changes in CONFIGS],
    ids=lambda config: f"{config.objective}, {config.final_weight}")


@pytest.fixture
def batch():
    """Controls of three cycles for two problems; starts, targets and the teacher's controls."""
    rng = np.random.default_rng(5)
    x0, xT = rng.normal(size=(2, 2, 2))
    optimal = WEIGHTED.solve(x0, xT)
    cycles = optimal + 0.5 * torch.tensor(rng.normal(size=(3, 2, 5, 1)))
    return cycles, torch.tensor(x0), torch.tensor(xT), optimal


def driven(x0, u, xT):
    """The final state less the target, and the cost, by a plain loop for one problem."""
    (p, v), dt, cost = x0 - xT, 0.33, 0.0
    goal_v = xT[1]
    for push in u[:, 0]:
        cost += 2 * p**2 + v**2 + 0.5 * push**2
        p, v = p + (v + goal_v) * dt + push * dt**2 / 2, v + push * dt
    return np.array([p, v]), cost + 9 * p**2 + 4 * v**2


@each_config
def test_an_objective_is_that_of_the_configuration_by_simulation(batch, config):
    cycles, x0, xT, optimal = (values.numpy() for values in batch)
    runs = [[driven(x0[i], u[i], xT[i]) for i in range(2)] for u in (*cycles, optimal)]
    J = [((u - optimal) ** 2).sum() / 10 for u in cycles]
    final = [sum((error**2).sum() for error, _ in run) / 4 for run in runs]
    best = [cost for _, cost in runs[3]]
    gaps = [[(cost - least) / (sum(best) / 2) for (_, cost), least in zip(run, best)]
            for run in runs[:3]]
    w, share = 0.3, config.final_weight
    expected = {
        "mse": J[2] + share * final[2] + w * (J[0] + J[1] + share * (final[0] + final[1])),
        "rms": (J[2] ** 0.5 + share * final[2] ** 0.5
                + w * sum(J[h] ** 0.5 + share * final[h] ** 0.5 for h in (0, 1))),
        "improvement": J[2] - w * (J[0] - J[2]),
        "relative improvement": J[2] - w * (2 - J[1] / J[0] - J[2] / J[1]),
        "cost": sum(gaps[2]) / 2 + w * (sum(gaps[0]) + sum(gaps[1])) / 2,
        "root cost": sum(each**0.5 for each in gaps[2]) / 2
        + w * sum(each**0.5 for gap in gaps[:2] for each in gap) / 2}[config.objective]
    value, loss = objective_of(*batch, WEIGHTED, config)
    assert float(value) == pytest.approx(expected, rel=1e-5)
    assert float(loss) == pytest.approx(sum(gaps[2]) / 2 if config.of_cost else J[2], rel=1e-9)


@each_config
def test_the_gradient_of_an_objective_is_that_of_finite_differences(batch, config):
    cycles, *problems = batch
    assert torch.autograd.gradcheck(
        lambda u: objective_of(u, *problems, WEIGHTED, config)[0], cycles.requires_grad_())


def test_limits_that_are_not_symmetric_stop_the_gradient_on_their_own_side():
    system = DoubleIntegrator(control_limit=[[0.25, 2.0]])
    cost = QuadraticCost(np.eye(2), [[1.0]], np.eye(2))
    teacher = IterativeLQR(system, 4, cost, guesses=1)
    cycles = torch.tensor([0.25, 2.0, 1.0, 0.25])[None, None, :, None].requires_grad_()
    x0, xT, optimal = torch.tensor([[3.0, 0.0]]), torch.zeros(1, 2), torch.full((1, 4, 1), 0.5)
    loss, _ = objective_of(cycles, x0, xT, optimal, teacher,
                           TrainConfig(objective="cost"))
    loss.backward()
    assert (cycles.grad[0, 0, :, 0] != 0).tolist() == [False, False, True, False]
