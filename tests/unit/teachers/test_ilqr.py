"""The iterative LQR, against IPOPT (by CasADi), a convex solver and least squares."""

import casadi
import cvxpy
import numpy as np
import pytest
import torch

from trc_lib.costs import QuadraticCost
from trc_lib.data import LQRDataset, generate_dataset, sample_states
from trc_lib.systems import LinearSystem, VanDerPol
from trc_lib.teachers import IterativeLQR, Unsolved, ilqr
from trc_lib.teachers.ilqr import bounded_quadratic

Q, R, HORIZON, DT, LIMIT = np.diag([10.0, 5.0]), np.array([[0.1]]), 25, 0.05, 2.0
COST = QuadraticCost(Q, R, 20 * Q)


def oscillator_teacher(horizon):
    return IterativeLQR(VanDerPol(1.0, DT, LIMIT), horizon, COST, success=0.2)


@pytest.fixture(scope="module")
def teacher():
    """With fewer steps than the course's: tests/integration/test_iterative_lqr.py has all 100."""
    return oscillator_teacher(HORIZON)


def ipopt(horizon):
    """x0, guess -> the cost that IPOPT finds for the same oscillator in CasADi's symbols."""
    def slope(s, u):
        return casadi.vertcat(s[1], (1 - s[0] ** 2) * s[1] - s[0] + u)

    s, u = casadi.MX.sym("s", 2), casadi.MX.sym("u")
    k1 = slope(s, u)
    k2 = slope(s + DT / 2 * k1, u)
    k3 = slope(s + DT / 2 * k2, u)
    k4 = slope(s + DT * k3, u)
    step = casadi.Function("step", [s, u], [s + DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4)])
    start, controls = casadi.MX.sym("start", 2), casadi.MX.sym("controls", horizon)
    states = casadi.MX.sym("states", 2, horizon)
    before = casadi.horzcat(start, states[:, :-1])
    cost = casadi.bilin(20 * Q, states[:, -1]) + sum(
        casadi.bilin(Q, before[:, k]) + R[0, 0] * controls[k] ** 2 for k in range(horizon))
    solver = casadi.nlpsol("solver", "ipopt", {
        "x": casadi.vertcat(controls, casadi.vec(states)), "p": start, "f": cost,
        "g": casadi.vec(states - step.map(horizon)(before, controls.T))}, {
        "print_time": False, "ipopt": {"print_level": 0, "sb": "yes", "tol": 1e-9}})
    free, bound = np.full(2 * horizon, np.inf), np.full(horizon, LIMIT)

    def solve(x0, guess, states_guess):
        found = solver(x0=np.concatenate([guess, states_guess.ravel()]), p=x0, lbg=0, ubg=0,
                       lbx=np.concatenate([-bound, -free]), ubx=np.concatenate([bound, free]))
        assert solver.stats()["success"]
        return float(found["f"])

    return solve


def assert_no_cost_is_above_that_of_ipopt(teacher, problems):
    """Held against IPOPT from three guesses: zeros, random controls, all at the lower limit."""
    x0, xT = sample_states(problems, seed=11, state_range=2.0, target_range=0.0)
    found, rng = teacher.iterate(x0, xT), np.random.default_rng(0)
    solve = ipopt(teacher.horizon)
    assert bool(found.solved.all())
    for i in range(problems):
        for guess in (np.zeros(teacher.horizon), rng.uniform(-LIMIT, LIMIT, teacher.horizon),
                      np.full(teacher.horizon, -LIMIT)):
            states = teacher.system.rollout(x0[i], torch.tensor(guess)[:, None])[1:].numpy()
            assert float(found.total[i]) <= solve(x0[i].numpy(), guess, states) * (1 + 1e-4)


def test_no_cost_is_above_that_of_ipopt_from_any_of_three_guesses(teacher):
    assert_no_cost_is_above_that_of_ipopt(teacher, 8)


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
    return IterativeLQR(system, 15, cost), x0, xT, M, m


def test_without_limits_a_linear_problem_is_least_squares():
    teacher, x0, xT, M, m = linear_problem(None)
    wanted = np.linalg.lstsq(M, -m.T, rcond=None)[0].T
    np.testing.assert_allclose(teacher.solve(x0, xT).flatten(1), wanted, rtol=0, atol=1e-8)


def test_with_limits_a_linear_problem_is_a_quadratic_programme():
    teacher, x0, xT, M, m = linear_problem((0.3, 0.8))
    controls = teacher.solve(x0, xT)
    limit, u, offset = np.tile([0.3, 0.8], 15), cvxpy.Variable(30), cvxpy.Parameter(len(M))
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(M @ u + offset)),
                            [u <= limit, u >= -limit])
    assert bool((controls.abs() <= teacher.system.control_limit).all())
    assert 0.05 < float((controls.abs() == teacher.system.control_limit).double().mean()) < 0.95
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
    states, limit = teacher.system.rollout(x0, u), torch.full((2,), torch.inf, dtype=torch.float64)
    before = teacher.quadratic_cost.total(states, u, xT)
    _, _, promised = teacher._backward(states, u, xT, torch.zeros(len(x0)).double(), limit)
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
    monkeypatch.setattr(ilqr, "MOST_HALVINGS", 0)
    x0, xT = sample_states(5, seed=17, state_range=2.0, target_range=0.0)
    result = teacher.iterate(x0, xT, tolerance=1e-3)  # a damped step promises less than this
    assert not bool(result.solved.any()) and int(result.iterations.max()) < 20


def test_a_good_guess_saves_iterations(teacher):
    x0, xT = sample_states(20, seed=14, state_range=2.0, target_range=0.0)
    found = teacher.iterate(x0, xT)
    again = teacher.iterate(x0, xT, guess=found.controls)
    assert bool((again.iterations == 1).all()) and float(found.iterations.double().mean()) > 5


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
