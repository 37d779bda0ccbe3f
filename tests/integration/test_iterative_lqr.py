"""The iterative LQR at the full length of chapter 9's problem, and on other systems."""

import math

import numpy as np
import pytest
import torch

from tests.unit.teachers.test_ilqr import (
    COST,
    DT,
    LIMIT,
    Q,
    R,
    best_of_ipopt,
    oscillator,
    oscillator_teacher,
    runge_kutta,
)
from trc_lib.costs import QuadraticCost
from trc_lib.data import generate_dataset, sample_states
from trc_lib.systems import System, VanDerPol
from trc_lib.teachers import ClippedLQR, IterativeLQR


@pytest.fixture(scope="module")
def teacher():
    return oscillator_teacher(100)


class Mechanical(System):
    """x' = slope(x, u), one Runge-Kutta step of fourth order with the control held."""

    def __init__(self, slope, state_dim, dt, control_limit):
        self.slope = slope
        super().__init__(state_dim, len(control_limit), dt, control_limit)

    def dynamics(self, state, control):
        return torch.stack(runge_kutta(self.slope, state.unbind(-1), control.unbind(-1), self.dt),
                           dim=-1)


def pendulum(s, u):
    """Angle from hanging, rad, and its rate; the torque lifts it to 24 degrees at most."""
    return [s[1], u[0] - 9.81 * s[0].sin() - 0.1 * s[1]]


def cart_pole(s, u):
    """Position of the cart, m, angle of the pole from hanging, rad, and their rates."""
    _, angle, speed, rate = s
    cart, pole, length, sine, cosine = 1.0, 0.3, 0.5, angle.sin(), angle.cos()
    mass = cart + pole * sine * sine
    return [speed, rate,
            (u[0] + pole * sine * (length * rate * rate + 9.81 * cosine)) / mass,
            -(u[0] * cosine + pole * length * rate * rate * cosine * sine
              + (cart + pole) * 9.81 * sine) / (length * mass)]


def quadrotor(s, u):
    """Two coordinates, m, and tilt, rad, and their rates; the two thrusts, m/s^2, only push."""
    _, _, tilt, vx, vy, rate = s
    return [vx, vy, rate, -(u[0] + u[1]) * tilt.sin(), (u[0] + u[1]) * tilt.cos() - 9.81,
            4 * (u[0] - u[1])]


def against_ipopt(teacher, slope, problems, half, target, seed=11):
    """The share of problems solved; and solved at a cost within 1e-4 of the best that IPOPT found.

    The starts are uniform in a box with these half sides.
    """
    half = torch.tensor(half, dtype=torch.float64)
    x0 = half * sample_states(problems, seed, state_dim=len(half), state_range=1.0)[0]
    xT = torch.tensor(target, dtype=torch.float64).expand_as(x0)
    controls, solved = teacher.try_solve(x0, xT)
    total = teacher.cost(x0, xT, controls.nan_to_num()).numpy()
    low, high = teacher.system.bounds
    assert bool(((controls[solved] >= low) & (controls[solved] <= high)).all())
    best = best_of_ipopt(teacher, slope, x0, xT)
    assert np.isfinite(best).all()
    good = solved.numpy() & (total <= best * (1 + 1e-4))
    return float(solved.double().mean()), float(good.mean())


TERMINAL = QuadraticCost(0 * Q, R, 20 * Q)


@pytest.mark.parametrize("mu, limit, horizon, cost, guesses, problems, share", [
    pytest.param(1.0, LIMIT, 100, COST, 1, 12, 1.0, id="the course's"),
    pytest.param(4.0, LIMIT, 100, COST, 1, 6, 1.0, id="mu=4"),
    pytest.param(1.0, 0.3, 60, COST, 1, 12, 1.0, id="weak controls"),
    pytest.param(1.0, LIMIT, 100, TERMINAL, 1, 15, 0.8, id="terminal cost"),
    pytest.param(1.0, LIMIT, 100, TERMINAL, 6, 15, 0.9, id="terminal cost, 6 guesses"),
])
def test_the_oscillator_against_ipopt(mu, limit, horizon, cost, guesses, problems, share):
    teacher = IterativeLQR(VanDerPol(mu, DT, limit), horizon, cost, guesses=guesses)
    solved, good = against_ipopt(teacher, oscillator(mu), problems, [2.0, 2.0], [0.0, 0.0])
    assert solved == 1.0 and good >= share


@pytest.mark.parametrize("slope, half, target, limit, N, dt, weights, guesses, problems, shares", [
    pytest.param(pendulum, [1.0, 1.0], [math.pi, 0.0], [(-4.0, 4.0)], 60, 0.06,
                 ([1.0, 0.1], 0.1, [200.0, 20.0]), 3, 15, (1.0, 0.8), id="pendulum"),
    pytest.param(cart_pole, [0.5, 0.5, 0.5, 0.5], [0.0, math.pi, 0.0, 0.0], [(-10.0, 10.0)], 35,
                 0.06, ([1.0, 1.0, 0.1, 0.1], 0.1, [200.0, 200.0, 20.0, 20.0]), 1, 5, (1.0, 0.8),
                 id="cart-pole"),
    pytest.param(quadrotor, [2.0, 2.0, 0.5, 1.0, 1.0, 1.0], [0.0] * 6, [(0.0, 10.0)] * 2, 25, 0.08,
                 ([1.0, 1.0, 0.1, 0.1, 0.1, 0.1], 0.05, [100.0, 100.0, 20.0, 20.0, 20.0, 20.0]), 3,
                 10, (0.9, 0.9), id="quadrotor"),
])
def test_mechanical_systems_against_ipopt(slope, half, target, limit, N, dt, weights, guesses,
                                          problems, shares):
    Q, R, Q_final = weights
    cost = QuadraticCost(np.diag(Q), R * np.eye(len(limit)), np.diag(Q_final))
    teacher = IterativeLQR(Mechanical(slope, len(half), dt, limit), N, cost, guesses=guesses)
    solved, good = against_ipopt(teacher, slope, problems, half, target)
    assert solved >= shares[0] and good >= shares[1]


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
