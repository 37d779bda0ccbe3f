"""The oscillator and the cost's gradient, against SciPy's integrator, autograd and differences."""

import numpy as np
import pytest
import scipy.integrate
import torch

from trc_lib.costs import QuadraticCost
from trc_lib.systems import LinearSystem, VanDerPol

RNG = np.random.default_rng(0)


def drawn(*shape):
    return torch.tensor(RNG.uniform(-2, 2, size=shape))


def integrated(mu, dt, state, control):
    """The state after ``dt`` seconds of a held control, to rounding."""
    def slope(t, s):
        return [s[1], mu * (1 - s[0] ** 2) * s[1] - s[0] + control]

    return scipy.integrate.solve_ivp(slope, (0, dt), state, rtol=1e-12, atol=1e-13).y[:, -1]


@pytest.mark.parametrize("mu", [0.0, 1.0, 3.0])
def test_a_step_follows_the_differential_equation_to_fourth_order(mu):
    state, control, worst = drawn(10, 2), drawn(10, 1), {}
    for dt in (0.1, 0.05):
        exact = np.array([integrated(mu, dt, s, float(c)) for s, c in zip(state.numpy(), control)])
        worst[dt] = np.abs(VanDerPol(mu, dt).dynamics(state, control).numpy() - exact).max()
    assert worst[0.05] < 1e-3
    assert worst[0.1] / worst[0.05] > 20 or worst[0.1] < 1e-6  # the error of one step is O(dt^5)


def test_a_rollout_is_one_step_after_another():
    system, x0, u = VanDerPol(), drawn(5, 2), drawn(5, 30, 1)
    states = system.rollout(x0, u)
    assert torch.equal(states[:, 0], x0) and states.shape == (5, 31, 2)
    for k in range(30):
        assert torch.equal(states[:, k + 1], system.dynamics(states[:, k], u[:, k]))


@pytest.mark.parametrize(
    "system", [VanDerPol(2.0, 0.1), LinearSystem(drawn(3, 3), drawn(3, 2), 0.1)],
    ids=["oscillator", "linear"])
def test_jacobians_are_those_of_autograd_and_of_finite_differences(system):
    state, control = drawn(7, system.state_dim), drawn(7, system.control_dim)
    A, B = system.jacobians(state, control)
    for i in range(7):
        at = state[i], control[i]
        by_state, by_control = torch.autograd.functional.jacobian(system.dynamics, at)
        torch.testing.assert_close(A[i], by_state, rtol=0, atol=1e-12)
        torch.testing.assert_close(B[i], by_control, rtol=0, atol=1e-12)
    small = 1e-5 * torch.eye(system.state_dim, dtype=torch.float64)
    for j in range(system.state_dim):
        after, before = (system.dynamics(state + sign * small[j], control) for sign in (1, -1))
        torch.testing.assert_close(A[..., j], (after - before) / 2e-5, rtol=0, atol=1e-8)


def test_near_the_origin_its_jacobians_describe_it():
    system, origin = VanDerPol(1.5), torch.zeros(2, dtype=torch.float64)
    linear = LinearSystem(*system.jacobians(origin, origin[:1]), system.dt)
    state, control = 1e-4 * drawn(20, 2), 1e-4 * drawn(20, 1)
    torch.testing.assert_close(linear.dynamics(state, control), system.dynamics(state, control),
                               rtol=0, atol=1e-11)


def test_without_control_it_ends_on_its_limit_cycle():
    still = torch.zeros(20, 1200, 1, dtype=torch.float64)
    amplitude = VanDerPol(1.0, 0.05).rollout(drawn(20, 2), still)[:, -200:, 0].abs().amax(dim=1)
    assert bool(((amplitude - 2.0086).abs() < 0.005).all())  # the known amplitude for mu = 1


COST = QuadraticCost([[10.0, 1.0], [1.0, 5.0]], [[0.1]], [[200.0, 0.0], [0.0, 100.0]])


@pytest.mark.parametrize(("system", "cost"), [
    (VanDerPol(), COST),
    (LinearSystem(drawn(3, 3) / 3, drawn(3, 2), 0.1),
     QuadraticCost(np.diag([1.0, 0.0, 2.0]), [[1.0, 0.3], [0.3, 2.0]], np.eye(3)))],
    ids=["oscillator", "linear"])
def test_the_adjoint_is_the_gradient_of_the_total(system, cost):
    x0, xT = drawn(4, system.state_dim), drawn(4, system.state_dim)
    u = drawn(4, 12, system.control_dim).requires_grad_()
    states = system.rollout_unchecked(x0, u)
    wanted, = torch.autograd.grad(cost.total(states, u, xT).sum(), u)
    given = cost.gradient(system, states.detach(), u.detach(), xT)
    torch.testing.assert_close(given, wanted, rtol=1e-11, atol=1e-11)


def test_the_cost_of_controls_is_differentiable_by_the_adjoint():
    system, x0, xT = VanDerPol(), drawn(5, 2), drawn(5, 2)
    u = drawn(3, 5, 12, 1).requires_grad_()  # [cycles, problems, horizon, control_dim]
    weights, starts, targets = drawn(3, 5), x0.expand(3, 5, 2), xT.expand(3, 5, 2)
    plain = COST.total(system.rollout_unchecked(starts, u), u, targets)
    ours = COST.of_controls(system, starts, u, targets)
    torch.testing.assert_close(ours, plain, rtol=0, atol=0)
    wanted, = torch.autograd.grad((weights * plain).sum(), u)
    given, = torch.autograd.grad((weights * ours).sum(), u)
    torch.testing.assert_close(given, wanted, rtol=1e-11, atol=1e-11)


def test_the_total_is_its_definition():
    x, u, xT = drawn(9, 2).numpy(), drawn(8, 1).numpy(), drawn(2).numpy()
    Q, R, Q_final = (matrix.numpy() for matrix in (COST.Q, COST.R, COST.Q_final))
    wanted = sum((x[k] - xT) @ Q @ (x[k] - xT) + u[k] @ R @ u[k] for k in range(8))
    wanted += (x[8] - xT) @ Q_final @ (x[8] - xT)
    assert float(COST.total(*map(torch.tensor, (x, u, xT)))) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("make", "error", "reason"), [
    (lambda: VanDerPol(mu=-1), ValueError, "mu=-1 is not accepted"),
    (lambda: VanDerPol(dt=0), ValueError, "dt=0 is not accepted"),
    (lambda: VanDerPol(control_limit=-1.0), ValueError, "control_limit=-1.0 is not accepted"),
    (lambda: QuadraticCost([[1.0, 2.0], [0.0, 1.0]], [[1.0]], np.eye(2)), ValueError,
     "Q=.* needs a symmetric matrix"),
    (lambda: QuadraticCost(np.eye(2), [[0.0]], np.eye(2)), ValueError,
     "R has the eigenvalue 0; needs all above zero"),
    (lambda: QuadraticCost(np.eye(2), [[1.0]], -np.eye(2)), ValueError,
     "Q_final has the eigenvalue -1; needs none below zero"),
    (lambda: QuadraticCost(np.eye(2), [[1.0]], np.eye(3)), ValueError,
     r"Q_final has shape \[3, 3\]; needs that of Q, \[2, 2\]")])
def test_invalid_parameters_are_refused(make, error, reason):
    with pytest.raises(error, match=reason):
        make()
