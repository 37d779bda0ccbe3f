"""Every objective is its formula."""

import numpy as np
import pytest
import torch

from trc_lib.problems import van_der_pol
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
