import numpy as np
import pytest
import scipy.signal
import torch

from trc_lib.systems import DoubleIntegrator, LinearSystem

SIZES = [(1, 1), (2, 1), (3, 2), (4, 4)]  # states, controls


def random_system(states, controls, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(states, states)) / states
    return LinearSystem(A, rng.normal(size=(states, controls)), dt=0.1), rng


def stepped(system, initial_state, controls):
    """Every state, by NumPy and a plain loop over the time steps."""
    A, B = system.A.numpy(), system.B.numpy()
    states = [np.asarray(initial_state)]
    for k in range(controls.shape[-2]):
        states.append(states[-1] @ A.T + np.asarray(controls)[..., k, :] @ B.T)
    return np.stack(states, axis=-2)


@pytest.mark.parametrize("dt", [0.01, 0.33, 2.0])
def test_double_integrator_step_is_exact(dt):
    p, v, u = np.random.default_rng(0).uniform(-5, 5, size=(3, 50))
    state, control = torch.tensor(np.stack([p, v], axis=1)), torch.tensor(u[:, None])
    expected = np.stack([p + v * dt + u * dt**2 / 2, v + u * dt], axis=1)
    given = DoubleIntegrator(dt).dynamics(state, control)
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dt", [0.01, 0.33, 2.0])
def test_double_integrator_is_the_zero_order_hold_of_its_differential_equation(dt):
    continuous = [np.array(matrix)
                  for matrix in ([[0, 1], [0, 0]], [[0], [1]], np.eye(2), [[0], [0]])]
    A, B, *_ = scipy.signal.cont2discrete(continuous, dt, method="zoh")
    system = DoubleIntegrator(dt)
    np.testing.assert_allclose(system.A, A, atol=1e-14)
    np.testing.assert_allclose(system.B, B, atol=1e-14)


@pytest.mark.parametrize(("states", "controls"), SIZES)
def test_rollout_equals_a_loop_over_the_steps(states, controls):
    system, rng = random_system(states, controls)
    x0, u = rng.normal(size=(7, states)), rng.normal(size=(7, 20, controls))
    np.testing.assert_allclose(system.rollout(x0, u), stepped(system, x0, u), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("states", "controls"), SIZES)
def test_step_equals_the_first_step_of_a_rollout(states, controls):
    system, rng = random_system(states, controls)
    x0, u = rng.normal(size=(7, states)), rng.normal(size=(7, 1, controls))
    step = system.dynamics(torch.as_tensor(x0), torch.as_tensor(u[:, 0]))
    np.testing.assert_allclose(step, stepped(system, x0, u)[:, 1], rtol=0, atol=1e-13)


@pytest.mark.parametrize(("state_shape", "control_shape"), [
    ((2,), (5, 1)), ((1, 2), (6, 5, 1)), ((2,), (6, 5, 1)), ((6, 2), (5, 1)),
    ((3, 1, 2), (4, 5, 1)), ((0, 2), (0, 5, 1))])
def test_rollout_broadcasts_leading_dimensions(state_shape, control_shape):
    system, rng = DoubleIntegrator(), np.random.default_rng(1)
    x0, u = rng.normal(size=state_shape), rng.normal(size=control_shape)
    leading = np.broadcast_shapes(state_shape[:-1], control_shape[:-2])
    expected = stepped(system, np.broadcast_to(x0, (*leading, 2)),
                       np.broadcast_to(u, (*leading, 5, 1)))
    states = system.rollout(x0, u)
    assert tuple(states.shape) == (*leading, 6, 2)
    np.testing.assert_allclose(states, expected, rtol=0, atol=1e-12)


def test_rollout_and_step_are_differentiable():
    system, rng = random_system(3, 2)
    x0 = torch.tensor(rng.normal(size=(2, 3)), requires_grad=True)
    u = torch.tensor(rng.normal(size=(2, 4, 2)), requires_grad=True)
    assert torch.autograd.gradcheck(system.rollout, (x0, u))
    assert torch.autograd.gradcheck(system.dynamics, (x0, u[:, 0]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_rollout_keeps_the_dtype(dtype, tolerance):
    system, rng = random_system(3, 2)
    x0 = torch.tensor(rng.normal(size=(5, 3)), dtype=dtype)
    u = torch.tensor(rng.normal(size=(5, 9, 2)), dtype=dtype)
    states = system.rollout(x0, u)
    assert states.dtype == system.dynamics(x0, u[:, 0]).dtype == dtype
    expected = stepped(system, x0.numpy(), u.numpy())
    np.testing.assert_allclose(states, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("states", "controls"), SIZES)
def test_controllability_matrix_holds_the_powers_of_A_times_B(states, controls):
    system, _ = random_system(states, controls)
    A, B = system.A.numpy(), system.B.numpy()
    expected = np.hstack([np.linalg.matrix_power(A, 6 - k) @ B for k in range(7)])
    np.testing.assert_allclose(system.controllability_matrix(7), expected, rtol=0, atol=1e-13)


def test_a_change_to_the_matrices_given_does_not_reach_the_system():
    A, B = torch.eye(2, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
    system = LinearSystem(A, B, dt=1)
    A.zero_()
    B.zero_()
    assert system.A.trace() == 2 and system.B.sum() == 2


@pytest.mark.parametrize(("arguments", "error", "reason"), [
    (([[1.0, 2.0]], [[1.0]], 1), ValueError,
     r"A has shape \[1, 2\]; needs \[state_dim, state_dim\]"),
    (([[1.0]], [[1.0], [1.0]], 1), ValueError, r"B has shape \[2, 1\]; needs \[1, control_dim\]"),
    (([1.0], [[1.0]], 1), ValueError, r"A has shape \[1\]"),
    (([[float("nan")]], [[1.0]], 1), ValueError, "A holds NaN"),
    (([[1.0]], [[float("inf")]], 1), ValueError, "B holds NaN or infinite"),
    (([[1.0]], [[1.0]], 0), ValueError, "dt=0 is not accepted"),
    (([[1.0]], [[1.0]], -0.1), ValueError, r"dt=-0\.1 is not accepted"),
    (("abc", [[1.0]], 1), TypeError, "A cannot be read"),
])
def test_an_invalid_system_is_refused(arguments, error, reason):
    with pytest.raises(error, match=reason):
        LinearSystem(*arguments)


@pytest.mark.parametrize(("x0", "u", "error", "reason"), [
    (torch.zeros(3), torch.zeros(5, 1), ValueError,
     r"initial_state has shape \[3\]; needs \[\.\.\., 2\]"),
    (torch.zeros(2), torch.zeros(5, 2), ValueError,
     r"controls has shape \[5, 2\]; needs \[\.\.\., any, 1\]"),
    (torch.zeros(2), torch.zeros(5, 1).double(), TypeError,
     r"initial_state has dtype torch\.float32 and controls"),
    (torch.zeros(2), torch.full((5, 1), torch.nan), ValueError, "controls holds NaN"),
    (torch.zeros(2).long(), torch.zeros(5, 1), TypeError,
     r"initial_state has dtype torch\.int64"),
    (torch.zeros(2), torch.zeros(0, 1), ValueError, "horizon=0 is too small"),
])
def test_rollout_refuses_what_does_not_fit(x0, u, error, reason):
    with pytest.raises(error, match=reason):
        DoubleIntegrator().rollout(x0, u)


@pytest.mark.parametrize("dt", [0, -1, float("nan"), float("inf")])
def test_double_integrator_refuses_a_dt_that_is_not_above_zero(dt):
    with pytest.raises(ValueError, match=r"dt=.* is not accepted"):
        DoubleIntegrator(dt)


def test_a_returned_controllability_matrix_can_be_changed_without_harm():
    system, x0 = DoubleIntegrator(), torch.zeros(2, dtype=torch.float64)
    controls = torch.ones(15, 1, dtype=torch.float64)
    before = system.rollout(x0, controls)
    system.controllability_matrix(15).zero_()
    assert torch.equal(system.rollout(x0, controls), before) and before[-1, 0] > 0


def test_a_horizon_that_would_fill_the_memory_is_refused():
    with pytest.raises(ValueError, match=r"horizon=100000 is too long; .* at most 7071 steps"):
        DoubleIntegrator().controllability_matrix(100_000)


def test_leading_dimensions_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="controls has shape"):
        DoubleIntegrator().rollout(torch.zeros(3, 2), torch.zeros(4, 15, 1))
