"""The iterative LQR, against IPOPT (by CasADi), a convex solver and least squares."""

import numpy as np
import pytest
import torch

from trc_lib.costs import QuadraticCost
from trc_lib.data import LQRDataset, generate_dataset, sample_states
from trc_lib.rebuild import rebuilt
from trc_lib.systems import LinearSystem, System, VanDerPol
from trc_lib.teachers import IterativeLQR, Unsolved, ilqr
from trc_lib.teachers.ilqr import bounded_quadratic

casadi = pytest.importorskip("casadi")
cvxpy = pytest.importorskip("cvxpy")

Q, R, HORIZON, DT, LIMIT = np.diag([10.0, 5.0]), np.array([[0.1]]), 25, 0.05, 2.0
COST = QuadraticCost(Q, R, 20 * Q)


def oscillator_teacher(horizon):
    return IterativeLQR(VanDerPol(1.0, DT, LIMIT), horizon, COST, success=0.2, guesses=1)


@pytest.fixture(scope="module")
def teacher():
    """With fewer steps than the course's: tests/integration/test_iterative_lqr.py has all 100."""
    return oscillator_teacher(HORIZON)


def oscillator(mu):
    return lambda s, u: [s[1], mu * (1 - s[0] ** 2) * s[1] - s[0] + u[0]]


def runge_kutta(slope, s, u, h):
    """One step of s' = slope(s, u), for lists of tensors and for CasADi's symbols."""
    def ahead(k, by):
        return [each + by * change for each, change in zip(s, k)]

    k1 = slope(s, u)
    k2 = slope(ahead(k1, h / 2), u)
    k3 = slope(ahead(k2, h / 2), u)
    k4 = slope(ahead(k3, h), u)
    return ahead([a + 2 * (b + c) + d for a, b, c, d in zip(k1, k2, k3, k4)], h / 6)


def ipopt(teacher, slope):
    """x0, xT, guess -> the cost IPOPT finds from these controls, for s' = slope(s, u).

    The states are variables too. They begin with those that the controls lead through, or, without
    a guess, on the straight line to the target; infinity if it fails.
    """
    system, N, cost = teacher.system, teacher.horizon, teacher.quadratic_cost
    n, m, (low, high) = system.state_dim, system.control_dim, (b.numpy() for b in system.bounds)
    Q, R, Q_final = (casadi.DM(weight.numpy()) for weight in (cost.Q, cost.R, cost.Q_final))
    s, u = casadi.SX.sym("s", n), casadi.SX.sym("u", m)
    step = casadi.Function("step", [s, u], [casadi.vertcat(*runge_kutta(
        slope, casadi.vertsplit(s), casadi.vertsplit(u), system.dt))])
    start, target = casadi.MX.sym("start", n), casadi.MX.sym("target", n)
    controls, states = casadi.MX.sym("controls", m, N), casadi.MX.sym("states", n, N)
    before = casadi.horzcat(start, states[:, :-1])
    total = casadi.bilin(Q_final, states[:, -1] - target) + sum(
        casadi.bilin(Q, before[:, k] - target) + casadi.bilin(R, controls[:, k]) for k in range(N))
    solver = casadi.nlpsol("solver", "ipopt", {
        "x": casadi.vertcat(casadi.vec(controls), casadi.vec(states)), "f": total,
        "p": casadi.vertcat(start, target),
        "g": casadi.vec(states - step.map(N)(before, controls))}, {
        "print_time": False, "ipopt": {"print_level": 0, "sb": "yes", "tol": 1e-9,
                                       "max_iter": 400}})
    free = np.full(n * N, np.inf)
    bounds = {"lbx": np.concatenate([np.tile(low, N), -free]),
              "ubx": np.concatenate([np.tile(high, N), free])}

    def solve(x0, xT, guess=None):
        states = np.linspace(x0, xT, N + 1)[1:]
        if guess is not None:
            states = system.rollout_unchecked(x0, torch.tensor(guess))[1:].numpy()
        guess = np.clip(np.zeros((N, m)), low, high) if guess is None else guess
        if not np.isfinite(states).all():
            return np.inf
        found = solver(x0=np.concatenate([guess.ravel(), states.ravel()]), lbg=0, ubg=0, **bounds,
                       p=np.concatenate([x0, xT]))
        return float(found["f"]) if solver.stats()["success"] else np.inf

    return solve


def best_of_ipopt(teacher, slope, x0, xT, seed=0):
    """The least cost from five guesses: zeros, random, all at a limit, a line of states."""
    solve, rng, shape = ipopt(teacher, slope), np.random.default_rng(seed), (teacher.horizon, 1)
    low, high = (np.tile(bound.numpy(), shape) for bound in teacher.system.bounds)
    return np.array([min(solve(start, target, guess) for guess in (
        np.clip(0 * low, low, high), low, high, rng.uniform(low, high), None))
        for start, target in zip(x0, xT)])


def test_no_cost_is_above_that_of_ipopt_from_any_of_five_guesses(teacher):
    x0, xT = sample_states(6, seed=11, state_range=2.0, target_range=0.0)
    found = teacher.iterate(x0, xT)
    assert bool(found.solved.all())
    best = best_of_ipopt(teacher, oscillator(1.0), x0, xT)
    np.testing.assert_allclose(found.total, best, rtol=1e-6)


def linear_problem(limit):
    """Three states, two controls, 15 steps; the cost as |M u + m|^2 for u laid end to end."""
    rng = np.random.default_rng(4)
    A, B = np.eye(3) + 0.2 * rng.normal(size=(3, 3)), 0.5 * rng.normal(size=(3, 2))
    cost = QuadraticCost(np.diag([1.0, 2.0, 0.5]), [[0.5, 0.2], [0.2, 0.4]], 10 * np.eye(3))
    system, x0, xT = LinearSystem(A, B, 0.1, limit), *rng.normal(size=(2, 20, 3))
    roots = [np.linalg.cholesky(matrix.numpy()).T for matrix in (cost.Q, cost.R, cost.Q_final)]
    blocks, rest = [np.kron(np.eye(15), roots[1])], [np.zeros((20, 30))]
    forced, free = np.zeros((3, 30)), x0
    for k in range(16):
        root = roots[0] if k < 15 else roots[2]
        blocks.append(root @ forced)
        rest.append((free - xT) @ root.T)
        if k < 15:
            forced, free = A @ forced, free @ A.T
            forced[:, 2 * k:2 * k + 2] += B
    M, m = np.concatenate(blocks), np.concatenate(rest, axis=1)
    return IterativeLQR(system, 15, cost, guesses=1), x0, xT, M, m


def test_without_limits_a_linear_problem_is_least_squares():
    teacher, x0, xT, M, m = linear_problem(None)
    wanted = np.linalg.lstsq(M, -m.T, rcond=None)[0].T
    np.testing.assert_allclose(teacher.solve(x0, xT).flatten(1), wanted, rtol=0, atol=1e-8)


@pytest.mark.parametrize("limit", [(0.3, 0.8), [(0.05, 0.6), (-0.2, 0.9)]])
def test_with_limits_a_linear_problem_is_a_quadratic_programme(limit):
    """In the second the first control cannot be zero: the guess is moved to its lower limit."""
    teacher, x0, xT, M, m = linear_problem(limit)
    controls, (low, high) = teacher.solve(x0, xT), teacher.system.bounds
    u, offset = cvxpy.Variable(30), cvxpy.Parameter(len(M))
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(M @ u + offset)),
                            [u <= np.tile(high, 15), u >= np.tile(low, 15)])
    assert bool(((controls >= low) & (controls <= high)).all())
    assert 0.05 < float(((controls == low) | (controls == high)).double().mean()) < 0.95
    for i in range(len(x0)):
        offset.value = m[i]
        best = problem.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11)
        cost = teacher.cost(torch.tensor(x0[i]), torch.tensor(xT[i]), controls[i])
        assert float(cost) == pytest.approx(best, rel=1e-8)


def test_the_promised_improvement_of_a_linear_problem_is_the_one_that_comes():
    """The model is exact there: its first step promises and reaches the difference of the costs."""
    teacher, *states, _, _ = linear_problem(None)
    x0, xT = map(torch.tensor, states)
    u = torch.ones(len(x0), teacher.horizon, teacher.system.control_dim, dtype=torch.float64)
    states, bounds = teacher.system.rollout(x0, u), teacher.system.bounds
    before = teacher.quadratic_cost.total(states, u, xT)
    _, _, promised = teacher._backward(states, u, xT, torch.zeros(len(x0)).double(), *bounds)
    after = teacher.iterate(x0, xT, u, tolerance=1e-12).total
    torch.testing.assert_close(promised, before - after, rtol=1e-9, atol=1e-9)


def test_the_small_quadratic_programme_is_solved():
    rng = np.random.default_rng(5)
    root, g = rng.normal(size=(60, 3, 3)), 3 * rng.normal(size=(60, 3))
    H = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(3)
    lower, upper = -rng.uniform(0, 1, size=(60, 3)), rng.uniform(0, 1, size=(60, 3))
    d, free = bounded_quadratic(*map(torch.tensor, (H, g, lower, upper)))
    variable = cvxpy.Variable(3)
    for i in range(60):
        size = cvxpy.quad_form(variable, cvxpy.psd_wrap(H[i])) / 2 + g[i] @ variable
        programme = cvxpy.Problem(cvxpy.Minimize(size),
                                  [variable >= lower[i], variable <= upper[i]])
        programme.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-12, tol_feas=1e-12)
        np.testing.assert_allclose(d[i], variable.value, atol=1e-6)
        inside = (d[i].numpy() > lower[i] + 1e-9) & (d[i].numpy() < upper[i] - 1e-9)
        assert (free[i].numpy() == inside).all()


def test_a_solution_is_as_good_as_one_with_a_much_smaller_tolerance(teacher):
    x0, xT = sample_states(20, seed=16, state_range=2.0, target_range=0.0)
    found, finer = teacher.iterate(x0, xT), teacher.iterate(x0, xT, tolerance=1e-14)
    assert float((found.total / finer.total - 1).max()) < 1e-10


def test_steps_that_all_fail_are_damped_until_it_gives_up_unsolved(teacher, monkeypatch):
    monkeypatch.setattr(ilqr, "_lower", lambda before, after: torch.full_like(after, -1.0))
    x0, xT = sample_states(5, seed=17, state_range=2.0, target_range=0.0)
    result = teacher.iterate(x0, xT, tolerance=1e-3)  # a damped step promises less than this
    assert not bool(result.solved.any()) and int(result.iterations.max()) < 20


def test_a_good_guess_saves_iterations(teacher):
    x0, xT = sample_states(20, seed=14, state_range=2.0, target_range=0.0)
    found = teacher.iterate(x0, xT)
    again = teacher.iterate(x0, xT, guess=found.controls)
    assert bool((again.iterations == 1).all()) and float(found.iterations.double().mean()) > 5


def test_solve_begins_with_a_given_guess():
    teacher = oscillator_teacher(5)
    x0, xT = sample_states(4, seed=14, state_range=2.0, target_range=0.0)
    guess = torch.full((5, 1), -LIMIT, dtype=torch.float64)
    wanted = teacher.iterate(x0, xT, guess).controls
    assert torch.equal(teacher.solve(x0, xT, guess=guess), wanted)
    assert not torch.equal(wanted, teacher.solve(x0, xT))


class Wavy(System):
    """One step, x1 = x0 + sin(3 u) + u / 5: several controls lead to about the same place."""

    def __init__(self):
        super().__init__(1, 1, 1.0, 3.0)

    def dynamics(self, state, control):
        return state + (3 * control).sin() + control / 5


def test_of_several_guesses_each_problem_gets_the_cheapest_solution():
    x0, xT = (x.reshape(2, 20, 1) for x in sample_states(40, 3, state_dim=1, state_range=1.0))
    one, three = (IterativeLQR(Wavy(), 1, QuadraticCost([[0.0]], [[0.01]], [[1.0]]), guesses=k)
                  for k in (1, 3))
    total = three.cost(x0, xT, three.solve(x0, xT))
    each = torch.stack([one.iterate(x0, xT, [[value]]).total for value in (0.0, -3.0, 3.0)])
    torch.testing.assert_close(total, each.amin(dim=0), rtol=1e-12, atol=0)
    u = torch.linspace(-3, 3, 60_001, dtype=torch.float64)
    best = (0.01 * u ** 2 + (Wavy().dynamics(x0, u) - xT) ** 2).amin(dim=-1)
    shares = [float((cost < best * 1.001).double().mean()) for cost in (each[0], total)]
    assert shares[0] < 0.9 < shares[1]


def test_guesses_stay_within_the_limits_and_are_the_same_each_time():
    system = LinearSystem(np.eye(3), np.ones((3, 2)), 0.1, [(0.2, 1.0), (-1.0, 3.0)])
    teacher = IterativeLQR(system, 15, QuadraticCost(np.eye(3), np.eye(2), np.eye(3)), guesses=6)
    guesses, (low, high) = teacher._guesses(), system.bounds
    assert guesses.shape == (6, 15, 2) and torch.equal(guesses, teacher._guesses())
    assert bool(((guesses[1:] >= low) & (guesses[1:] <= high)).all())
    assert len(guesses.unique(dim=0)) == 6


def test_a_file_holds_the_number_of_guesses(teacher):
    several = IterativeLQR(teacher.system, HORIZON, COST, guesses=4)
    assert teacher.parameters()["guesses"] == 1 and several.parameters()["guesses"] == 4
    assert rebuilt(IterativeLQR, several.contents()).guesses == 4


def test_a_problem_that_overflows_does_not_harm_the_others():
    """Far away the guess overflows, or only what is near it, or only the derivatives."""
    teacher = IterativeLQR(VanDerPol(4.0, DT, LIMIT), 8, COST, guesses=1)
    x0 = torch.tensor([[0.1, 0.2], [0.3, 0.1], [4.0, 9e9], [1e77, 1e70], [50.0, 0.0], [20.0, 1.0]],
                      dtype=torch.float64)
    found = teacher.iterate(x0, torch.zeros_like(x0))
    alone = teacher.iterate(x0[:2], torch.zeros(2, 2, dtype=torch.float64))
    assert found.solved[:4].tolist() == [True, True, False, False] and bool(alone.solved.all())
    torch.testing.assert_close(found.total[:2], alone.total, rtol=1e-9, atol=0)


def test_derivatives_that_overflow_do_not_harm_the_others(monkeypatch):
    teacher = oscillator_teacher(5)
    x0, xT = sample_states(4, seed=14, state_range=2.0, target_range=0.0)
    wanted, exact = teacher.iterate(x0, xT), teacher.system.jacobians

    def broken(state, control):
        A, B = exact(state, control)
        for row, start in enumerate(state[:, 0]):
            for value, bad in zip((torch.nan, torch.inf, 1e200), x0[:3]):
                if torch.equal(start, bad):
                    A[row] = B[row] = value
        return A, B

    monkeypatch.setattr(teacher.system, "jacobians", broken)
    found = teacher.iterate(x0, xT)
    assert found.solved.tolist() == [False, False, False, True]
    torch.testing.assert_close(found.total[3], wanted.total[3], rtol=1e-12, atol=0)


def test_a_dataset_of_the_oscillator_comes_back_from_disk(teacher, tmp_path):
    data = generate_dataset(8, seed=3, teacher=teacher, state_range=2.0, target_range=0.0)
    data.save(tmp_path / "oscillator.npz")
    loaded = LQRDataset.load(tmp_path / "oscillator.npz")
    assert loaded.fingerprint == data.fingerprint
    assert loaded.system.same_as(teacher.system) and loaded.teacher.success == 0.2
    assert torch.equal(loaded.teacher.solve(data.initial_states, data.target_states), data.controls)
    assert not bool(loaded.target_states.any())


def test_what_has_no_finite_answer_is_told_apart(teacher):
    controls, solved = teacher.try_solve([[1.0, 0.0], [1e3, 1e3]], [[0.0, 0.0], [0.0, 0.0]])
    assert solved.tolist() == [True, False]
    assert bool(controls[1].isnan().all()) and bool(controls[0].isfinite().all())
    with pytest.raises(Unsolved, match="was not solved: no minimum was found for 1 of 2 problems"):
        teacher.solve([[1.0, 0.0], [1e3, 1e3]], [[0.0, 0.0], [0.0, 0.0]])


def test_a_cost_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="cost is for 3 states and 1 controls"):
        IterativeLQR(VanDerPol(), 10, QuadraticCost(np.eye(3), [[1.0]], np.eye(3)))
