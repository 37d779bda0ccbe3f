"""The iterative LQR at the full length of chapter 8's problem."""

import pytest
import torch

from tests.unit.teachers.test_ilqr import (
    COST,
    LIMIT,
    assert_no_cost_is_above_that_of_ipopt,
    oscillator_teacher,
)
from trc_lib.data import generate_dataset, sample_states
from trc_lib.teachers import ClippedLQR


@pytest.fixture(scope="module")
def teacher():
    return oscillator_teacher(100)


def test_no_cost_is_above_that_of_ipopt_from_any_of_three_guesses(teacher):
    assert_no_cost_is_above_that_of_ipopt(teacher, 50)


def test_other_guesses_lead_to_the_same_minimum(teacher):
    x0, xT = sample_states(100, seed=12, state_range=2.0, target_range=0.0)
    generator, found = torch.Generator().manual_seed(0), teacher.iterate(x0, xT)
    shape = 100, teacher.horizon, 1
    for guess in (2 * torch.randn(shape, generator=generator, dtype=torch.float64),
                  torch.full((100, teacher.horizon, 1), 5.0, dtype=torch.float64)):
        other = teacher.iterate(x0, xT, guess)
        assert bool(other.solved.all())
        torch.testing.assert_close(other.total, found.total, rtol=1e-6, atol=0)


def test_every_problem_of_the_course_is_solved_within_the_limits(teacher):
    data = generate_dataset(500, seed=13, teacher=teacher, state_range=2.0, target_range=0.0)
    assert len(data) == 500 and float(data.controls.abs().max()) <= LIMIT
    assert 0.1 < float((data.controls.abs() == LIMIT).double().mean()) < 0.3
    errors = teacher.system.rollout(data.initial_states, data.controls)[:, -1].norm(dim=1)
    assert float(errors.mean()) <= 0.003 and float(errors.max()) <= 0.02
    noise = torch.randn(data.controls.shape, generator=torch.Generator().manual_seed(1),
                        dtype=torch.float64)
    least, nudged = (
        teacher.cost(data.initial_states, data.target_states, controls)
        for controls in (data.controls, (data.controls + 1e-3 * noise).clamp(-LIMIT, LIMIT)))
    assert bool((nudged >= least * (1 - 1e-9)).all())


def test_the_clipped_regulator_costs_more_than_the_optimum_and_stays_within_the_limits(teacher):
    x0, xT = sample_states(200, seed=15, state_range=2.0, target_range=0.0)
    regulator = ClippedLQR(teacher.system, teacher.horizon, COST)
    weak = regulator.solve(x0, xT)
    assert float(weak.abs().max()) <= LIMIT
    ratio = teacher.cost(x0, xT, weak) / teacher.iterate(x0, xT).total
    assert float(ratio.min()) >= 1 - 1e-9 and float(ratio.mean()) > 1.001
    small = 1e-3 * x0  # near the origin the oscillator is linear, and the regulator optimal
    ratio = teacher.cost(small, xT, regulator.solve(small, xT)) / teacher.iterate(small, xT).total
    assert float(ratio.max()) < 1.001
