import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import torch

from trc_lib.systems import DoubleIntegrator, LinearSystem
from trc_lib.teachers import MinimumEnergyController, SampledContinuousController
from trc_lib.teachers.minimum_energy import controllable

cvxpy = pytest.importorskip("cvxpy")

SIZES = [(2, 1, 2), (2, 1, 15), (3, 2, 6), (4, 3, 8), (5, 5, 1)]  # states, controls, horizon
both_laws = pytest.mark.parametrize(
    "teacher", [MinimumEnergyController(), SampledContinuousController()],
    ids=lambda teacher: type(teacher).__name__)


def random_problem(states, controls, horizon, seed=0):
    """A random (almost surely controllable) system, start and target, and C, d with C u = d."""
    rng = np.random.default_rng(seed)
    A, B = rng.normal(size=(states, states)) / np.sqrt(states), rng.normal(size=(states, controls))
    x0, xT = rng.uniform(-5, 5, size=(2, states))
    C = np.hstack([np.linalg.matrix_power(A, horizon - 1 - k) @ B for k in range(horizon)])
    return LinearSystem(A, B, dt=0.1), x0, xT, C, xT - np.linalg.matrix_power(A, horizon) @ x0


def final_states(system, x0, controls):
    """Where the controls lead, by NumPy and a plain loop over the time steps."""
    x = np.asarray(x0, dtype=np.float64)
    for k in range(controls.shape[-2]):
        x = x @ system.A.numpy().T + np.asarray(controls)[..., k, :] @ system.B.numpy().T
    return x


@pytest.mark.parametrize("horizon", [2, 3, 15, 60])
def test_teacher_reaches_every_target(horizon):
    system = DoubleIntegrator()
    x0, xT = np.random.default_rng(0).uniform(-5, 5, size=(2, 500, 2))
    controls = MinimumEnergyController(system, horizon).solve(x0, xT)
    assert controls.shape == (500, horizon, 1)
    assert np.abs(final_states(system, x0, controls) - xT).max() <= 1e-9


@pytest.mark.parametrize(("states", "controls", "horizon"), SIZES)
def test_teacher_solves_the_optimality_conditions(states, controls, horizon):
    system, x0, xT, C, d = random_problem(states, controls, horizon)
    size = horizon * controls
    kkt = np.block([[2 * np.eye(size), C.T], [C, np.zeros((states, states))]])
    expected = scipy.linalg.solve(kkt, np.concatenate([np.zeros(size), d]))[:size]
    u = MinimumEnergyController(system, horizon).solve(x0, xT)
    largest = max(1, np.abs(expected).max())
    np.testing.assert_allclose(u.reshape(-1), expected, rtol=0, atol=1e-9 * largest)


@pytest.mark.parametrize(("states", "controls", "horizon"), SIZES)
def test_teacher_agrees_with_a_convex_solver(states, controls, horizon):
    system, x0, xT, C, d = random_problem(states, controls, horizon, seed=1)
    u = cvxpy.Variable(horizon * controls)
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(u)), [C @ u == d])
    energy = problem.solve(solver=cvxpy.CLARABEL)
    mine = MinimumEnergyController(system, horizon).solve(x0, xT)
    largest = np.abs(u.value).max()
    np.testing.assert_allclose(mine.reshape(-1), u.value, rtol=1e-5, atol=1e-5 * largest)
    assert float(mine.square().sum()) == pytest.approx(energy, rel=1e-6)


@pytest.mark.parametrize(("states", "controls", "horizon"), SIZES[1:-1])  # where there is a choice
def test_no_other_controls_that_arrive_have_less_energy(states, controls, horizon):
    """They are u* + n with C n = 0, and their energy is that of u* plus that of n."""
    system, x0, xT, C, d = random_problem(states, controls, horizon)
    best = MinimumEnergyController(system, horizon).solve(x0, xT).reshape(-1).numpy()
    null_space = scipy.linalg.null_space(C)
    detours = null_space @ np.random.default_rng(2).normal(size=(null_space.shape[1], 50))
    others = best[:, None] + detours
    targets = np.broadcast_to(d[:, None], (states, others.shape[1]))
    np.testing.assert_allclose(C @ others, targets, rtol=0, atol=1e-9)
    gain = (others**2).sum(axis=0) - (best**2).sum()
    np.testing.assert_allclose(gain, (detours**2).sum(axis=0), rtol=1e-8, atol=1e-8)


def test_a_batch_has_the_answers_of_its_rows():
    x0, xT = np.random.default_rng(3).uniform(-2, 2, size=(2, 4, 5, 2))
    for teacher in (MinimumEnergyController(), SampledContinuousController()):
        batch = teacher.solve(x0, xT)
        assert batch.shape == (4, 5, 15, 1)
        rows = [[teacher.solve(x0[i, j], xT[i, j]).numpy() for j in range(5)] for i in range(4)]
        np.testing.assert_allclose(batch, rows, rtol=0, atol=1e-13)
        repeated = teacher.solve(x0, 0 * xT + xT[0, 0])
        np.testing.assert_allclose(teacher.solve(x0, xT[0, 0]), repeated, rtol=0, atol=1e-13)


@both_laws
def test_answers_are_in_float64_whatever_the_states_are_in(teacher):
    x0, xT = torch.rand(2, 6, 2, generator=torch.Generator().manual_seed(0))
    controls = teacher.solve(x0, xT)
    assert controls.dtype == torch.float64
    assert torch.equal(controls, teacher.solve(x0.double(), xT.double()))


# ---------------------------------------------------------------- the continuous law, sampled

def test_continuous_law_solves_the_boundary_value_problem():
    """Pontryagin: p' = v, v' = u = -q2 / 2, q1' = 0, q2' = -q1, with both ends of p and v given."""
    x0, xT, T = np.array([1.3, -0.7]), np.array([-0.4, 1.9]), 15 * 0.33
    time = np.linspace(0, T, 11)
    solved = scipy.integrate.solve_bvp(
        lambda t, y: np.stack([y[1], -y[3] / 2, 0 * y[2], -y[2]]),
        lambda start, end: np.concatenate([start[:2] - x0, end[:2] - xT]),
        time, np.zeros((4, 11)), tol=1e-10)
    expected = -solved.sol(time)[3] / 2
    a, b = SampledContinuousController().coefficients(x0, xT)
    np.testing.assert_allclose(float(a) + float(b) * time, expected, rtol=0, atol=1e-8)


def test_continuous_law_arrives_and_detours_cost_energy():
    rng = np.random.default_rng(4)
    system, horizon = DoubleIntegrator(0.2), 10
    T = horizon * system.dt
    for x0, xT in rng.uniform(-3, 3, size=(5, 2, 2)):
        a, b = map(float, SampledContinuousController(system, horizon).coefficients(x0, xT))
        law = np.polynomial.Polynomial([a, b])
        driven = scipy.integrate.solve_ivp(lambda t, x, u=law: [x[1], u(t)], (0, T), x0,
                                           rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(driven.y[:, -1], xT, rtol=0, atol=1e-9)
        # Legendre polynomials of these degrees change neither the final velocity nor the position.
        for degree in (2, 3, 4):
            detour = np.polynomial.Legendre.basis(degree, domain=[0, T])
            energies = [scipy.integrate.quad(lambda t, u=law, s=s, f=detour: (u(t) + s * f(t))**2,
                                             0, T)[0] for s in (-0.3, 0, 0.3)]
            assert energies[1] < min(energies[0], energies[2])


def test_sampled_law_is_the_continuous_law_at_mid_step():
    teacher = SampledContinuousController(DoubleIntegrator(0.5), horizon=4)
    a, b = map(float, teacher.coefficients([1.0, 0.5], [-1.0, 2.0]))
    controls = teacher.solve([1.0, 0.5], [-1.0, 2.0])
    expected = [a + b * t for t in (0.25, 0.75, 1.25, 1.75)]
    np.testing.assert_allclose(controls[:, 0], expected, rtol=1e-13)


def gaps(horizon, duration=15 * 0.33, side=2.0):
    """Errors of the final state of the sampled law, [n, 2], over starts and targets in a box."""
    system = DoubleIntegrator(duration / horizon)
    x0, xT = np.random.default_rng(5).uniform(-side, side, size=(2, 4000, 2))
    return final_states(system, x0, SampledContinuousController(system, horizon).solve(x0, xT)) - xT


def test_sampled_law_gives_the_final_velocity_and_misses_the_position_a_little():
    gap = gaps(horizon=15)
    assert np.abs(gap[:, 1]).max() <= 1e-12
    assert np.linalg.norm(gap, axis=1).mean() == pytest.approx(0.0158, rel=0.05)


@pytest.mark.parametrize("horizon", [5, 15, 40])
def test_sampling_gap_falls_by_four_when_the_step_is_halved(horizon):
    np.testing.assert_allclose(gaps(horizon)[:, 0] / gaps(2 * horizon)[:, 0], 4, rtol=1e-6)


def test_sampled_law_costs_about_the_least_energy():
    x0, xT = np.random.default_rng(6).uniform(-2, 2, size=(2, 100, 2))
    best, sampled = (teacher(DoubleIntegrator(), 15).solve(x0, xT).square().sum(dim=(1, 2))
                     for teacher in (MinimumEnergyController, SampledContinuousController))
    assert float((sampled / best - 1).abs().max()) < 0.02


# ---------------------------------------------------------------- refusals

def test_a_system_that_cannot_be_controlled_is_refused():
    two_carts_one_force = LinearSystem(np.eye(2), np.ones((2, 1)), dt=1)
    message = r"system=.* is not controllable: its controls reach 1 of 2 directions"
    with pytest.raises(ValueError, match=message):
        MinimumEnergyController(two_carts_one_force)
    with pytest.raises(ValueError, match="reach 0 of 1 directions"):
        MinimumEnergyController(LinearSystem([[1.0]], [[0.0]], dt=1))


def test_units_do_not_decide_whether_a_system_is_controllable():
    for dt in (1e-4, 1.0, 1e3):
        assert MinimumEnergyController(DoubleIntegrator(dt), 10).horizon == 10


def test_a_horizon_too_short_is_refused_with_the_shortest_that_would_do():
    with pytest.raises(ValueError, match="horizon=1 cannot steer 2 states; needs at least 2 steps"):
        MinimumEnergyController(DoubleIntegrator(), horizon=1)
    chain = LinearSystem(np.eye(4, k=1) + np.eye(4), np.eye(4)[:, 3:], dt=1)
    with pytest.raises(ValueError, match="horizon=3 cannot steer 4 states; needs at least 4 steps"):
        MinimumEnergyController(chain, horizon=3)
    assert MinimumEnergyController(chain, horizon=4).solve(np.zeros(4), np.ones(4)).shape == (4, 1)


@pytest.mark.parametrize("teacher", [MinimumEnergyController, SampledContinuousController])
@pytest.mark.parametrize(("arguments", "error", "reason"), [
    ({"horizon": 0}, ValueError, "horizon=0 is too small"),
    ({"horizon": 2.0}, TypeError, r"horizon=2\.0 is not a whole number"),
    ({"system": "cart"}, TypeError, "system='cart' is not accepted"),
])
def test_invalid_arguments_of_a_teacher_are_refused(teacher, arguments, error, reason):
    with pytest.raises(error, match=reason):
        teacher(**arguments)


def test_the_continuous_law_is_refused_for_another_system():
    with pytest.raises(TypeError, match="needs a DoubleIntegrator"):
        SampledContinuousController(LinearSystem(np.eye(2), np.eye(2), dt=1))


@both_laws
@pytest.mark.parametrize(("bad", "error", "reason"), [
    ([0.0, float("nan")], ValueError, "holds NaN or infinite values"),
    ([float("inf"), 0.0], ValueError, "holds NaN or infinite values"),
    ([0.0, 0.0, 0.0], ValueError, r"has shape \[3\]; needs \[\.\.\., 2\]"),
    (0.0, ValueError, r"has shape \[\]"),
    (torch.zeros(2, dtype=torch.int64), TypeError, r"has dtype torch\.int64"),
    ("here", TypeError, "cannot be read as an array of numbers"),
])
def test_invalid_states_are_refused_by_name(teacher, bad, error, reason):
    with pytest.raises(error, match=f"initial_state {reason}"):
        teacher.solve(bad, [0.0, 0.0])
    with pytest.raises(error, match=f"target_state {reason}"):
        teacher.solve([0.0, 0.0], bad)


def test_starts_and_targets_that_do_not_pair_are_refused():
    message = r"target_state has shape \[4, 2\], which does not fit initial_state's \[3, 2\]"
    with pytest.raises(ValueError, match=message):
        MinimumEnergyController().solve(np.zeros((3, 2)), np.zeros((4, 2)))


@pytest.mark.parametrize(("system", "horizon"), [
    (DoubleIntegrator(1e-9), 15), (DoubleIntegrator(1e-8), 2),
    (LinearSystem([[2.0, 0.1], [0, 1]], [[0.0], [0.1]], 0.1), 200)])
def test_a_law_that_would_miss_by_rounding_is_refused(system, horizon):
    with pytest.raises(ValueError, match=rf"horizon={horizon} with system=.* is ill-conditioned"):
        MinimumEnergyController(system, horizon)


# ---------------------------------------------------------------- unstable systems

def accepted_and_refused(count, seed):
    """Random systems, many of them unstable, with horizons to 100: teachers, and the refusals."""
    rng, accepted, refused = np.random.default_rng(seed), [], []
    for _ in range(count):
        n, m = rng.integers(1, 5), rng.integers(1, 3)
        A, B = rng.normal(size=(n, n)), rng.normal(size=(n, m))
        A *= rng.uniform(0.5, 1.6) / np.abs(np.linalg.eigvals(A)).max()
        system, horizon = LinearSystem(A, B, 0.1), int(rng.integers(n, 101))
        try:
            accepted.append(MinimumEnergyController(system, horizon))
        except ValueError as error:
            refused.append(str(error))
    return accepted, refused


def test_random_unstable_systems_are_steered_to_their_targets_or_refused_as_ill_conditioned():
    accepted, refused = accepted_and_refused(100, seed=0)
    assert len(accepted) >= 70 and len(refused) >= 5
    assert all("is ill-conditioned: for states of size one" in message for message in refused)
    rng = np.random.default_rng(1)
    for teacher in accepted:
        x0, xT = rng.uniform(-1, 1, size=(2, 20, teacher.system.state_dim))
        ends = final_states(teacher.system, x0, teacher.solve(x0, xT))
        assert np.abs(ends - xT).max() <= 4e-9


@pytest.mark.parametrize(("horizon", "fits"), [(2, True), (20, True), (30, True), (50, False),
                                               (100, False)])
def test_a_mode_that_grows_beside_one_that_decays(horizon, fits):
    system = LinearSystem(np.diag([1.5, 0.75]), np.ones((2, 1)), 0.1)
    if not fits:
        with pytest.raises(ValueError, match=rf"horizon={horizon} .* is ill-conditioned"):
            MinimumEnergyController(system, horizon)
        return
    x0, xT = np.random.default_rng(0).uniform(-1, 1, size=(2, 50, 2))
    ends = final_states(system, x0, MinimumEnergyController(system, horizon).solve(x0, xT))
    assert np.abs(ends - xT).max() <= 1e-9


@pytest.mark.parametrize(("A", "B", "steps"), [
    (np.diag([1.6, 0.3, -1.4]), [[1.0], [1.0], [1.0]], 3),
    (np.diag([3.0, 3.0, 0.1]), [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], 2),
    ([[1, 1e-4], [0, 1]], [[1e-8], [1e-4]], 2), (np.eye(3), np.eye(3), 1),
    (np.diag([1e3, 1.0]), [[1e-3], [1.0]], 2), (np.diag([1e100, 1e-100]), [[1.0], [1.0]], 2),
    (np.diag([1e-100, 2e-100]), [[1.0], [1.0]], 2), ([[1, 1e200], [0, 1]], [[1.0], [1.0]], 2)])
def test_the_shortest_horizon_does_not_depend_on_how_fast_a_system_grows(A, B, steps):
    system = LinearSystem(A, B, 0.1)
    assert controllable(system) == (len(A), steps)
    if steps > 1:
        with pytest.raises(ValueError, match=rf"needs at least {steps} steps"):
            MinimumEnergyController(system, steps - 1)


@pytest.mark.parametrize(("A", "B", "reached"), [
    (np.diag([1.5, 1.5]), [[1.0], [1.0]], 1), (np.diag([2.0, 0.5]), [[1.0], [0.0]], 1),
    ([[1, 1, 0], [0, 1, 0], [0, 0, 2]], [[0.0], [1.0], [0.0]], 2)])
def test_an_uncontrollable_mode_is_found_however_long_the_horizon(A, B, reached):
    with pytest.raises(ValueError, match=f"its controls reach {reached} of {len(A)} directions"):
        MinimumEnergyController(LinearSystem(A, B, 0.1), 80)


@pytest.mark.parametrize("apart", [1e-2, 1e-4, 1e-6])
def test_two_modes_that_are_nearly_the_same_are_told_apart(apart):
    """Controls grow with 1 / apart, and arrive nevertheless."""
    system = LinearSystem(np.diag([0.9, 0.9 + apart]), np.ones((2, 1)), 0.1)
    assert controllable(system) == (2, 2)
    x0, xT = np.random.default_rng(0).uniform(-1, 1, size=(2, 20, 2))
    controls = MinimumEnergyController(system, 10).solve(x0, xT)
    assert np.abs(final_states(system, x0, controls) - xT).max() <= 1e-8
    assert 0.1 < float(controls.abs().max()) * apart < 10


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("A", "horizon"), [
    (np.diag([1e10, 0.5]), 200), (np.diag([1e100, 1e-100]), 10), (np.diag([2.0, 0.5]), 2000)])
def test_what_overflows_is_refused_without_a_warning(A, horizon):
    with pytest.raises(ValueError, match=r"is ill-conditioned: .* would miss the target by inf"):
        MinimumEnergyController(LinearSystem(A, np.ones((2, 1)), 0.1), horizon)
