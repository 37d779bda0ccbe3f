"""The bounded minimum-energy law, against convex solvers, which share no code with it."""

import math

import cvxpy
import numpy as np
import pytest
import scipy.optimize
import torch

from trc_lib.data import LQRDataset, generate_dataset, sample_states
from trc_lib.systems import DoubleIntegrator, LinearSystem
from trc_lib.teachers import BoundedMinimumEnergyController, MinimumEnergyController, Unsolved


def chain(n, limit, dt=0.3):
    """A chain of n integrators, exactly discretised."""
    A = np.array([[dt ** (j - i) / math.factorial(j - i) if j >= i else 0.0 for j in range(n)]
                  for i in range(n)])
    B = np.array([[dt ** (n - i) / math.factorial(n - i)] for i in range(n)])
    return LinearSystem(A, B, dt, limit)


def coupled():
    """Four states and two controls with different bounds."""
    rng = np.random.default_rng(3)
    A, B = np.eye(4) + 0.2 * rng.normal(size=(4, 4)), 0.4 * rng.normal(size=(4, 2))
    return LinearSystem(A, B, 0.2, (0.5, 2.0))


SYSTEMS = {  # system, horizon, half the side of the box of the problems
    "double integrator": (DoubleIntegrator(control_limit=1.0), 15, 2.5),
    "shortest horizon": (DoubleIntegrator(control_limit=1.0), 2, 0.3),
    "triple integrator": (chain(3, 1.5), 20, 1.5),
    "four states, two controls": (coupled(), 12, 1.0)}


@pytest.fixture(params=SYSTEMS)
def case(request):
    system, horizon, box = SYSTEMS[request.param]
    problems = sample_states(50, 1, system.state_dim, box)
    return BoundedMinimumEnergyController(system, horizon), *problems


def final_states(system, x0, controls):
    x = np.asarray(x0)
    for k in range(controls.shape[-2]):
        x = x @ system.A.numpy().T + np.asarray(controls)[..., k, :] @ system.B.numpy().T
    return x


def test_every_reachable_target_is_reached_within_the_bounds(case):
    teacher, x0, xT = case
    controls, reachable = teacher.try_solve(x0, xT)
    assert 5 <= int(reachable.sum()) <= 45  # the problems are of both kinds
    reached = final_states(teacher.system, x0[reachable], controls[reachable])
    assert np.abs(reached - xT[reachable].numpy()).max() <= 1e-8
    assert bool((controls[reachable].abs() <= teacher.system.control_limit).all())
    assert bool(controls[~reachable].isnan().all())


def test_energy_and_reachability_are_those_of_a_convex_solver(case):
    teacher, x0, xT = case
    limit = np.tile(teacher.system.control_limit.numpy(), teacher.horizon)
    C = teacher.system.controllability_matrix(teacher.horizon).numpy()
    drift = np.linalg.matrix_power(teacher.system.A.numpy(), teacher.horizon)
    controls, reachable = teacher.try_solve(x0, xT)
    u, d = cvxpy.Variable(C.shape[1]), cvxpy.Parameter(C.shape[0])
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(u)),
                            [C @ u == d, u <= limit, u >= -limit])
    for i in range(len(x0)):
        d.value = xT[i].numpy() - drift @ x0[i].numpy()
        bounds = list(zip(-limit, limit))
        nothing = np.zeros(C.shape[1])
        programme = scipy.optimize.linprog(nothing, A_eq=C, b_eq=d.value, bounds=bounds)
        feasible = programme.status == 0
        assert bool(reachable[i]) == feasible
        if feasible:
            energy = problem.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11,
                                   tol_feas=1e-11)
            assert float(controls[i].square().sum()) == pytest.approx(energy, rel=1e-6)


def test_without_need_of_the_bounds_it_is_the_linear_law():
    x0, xT = sample_states(200, 0)
    wide = BoundedMinimumEnergyController(DoubleIntegrator(control_limit=100.0)).solve(x0, xT)
    torch.testing.assert_close(wide, MinimumEnergyController().solve(x0, xT), rtol=0, atol=1e-10)


def test_ten_thousand_problems_and_every_one_is_decided():
    x0, xT = sample_states(10_000, 0)
    controls, reachable = BoundedMinimumEnergyController().try_solve(x0, xT)
    assert 0.58 < float(reachable.double().mean()) < 0.64
    reached = final_states(DoubleIntegrator(), x0[reachable], controls[reachable])
    touched = (controls[reachable].abs() >= 1).flatten(1).any(dim=1).double().mean()
    assert np.abs(reached - xT[reachable].numpy()).max() <= 1e-8 and 0.4 < float(touched) < 0.5


def test_the_edge_of_what_can_be_reached_is_told_apart():
    teacher = BoundedMinimumEnergyController()
    rest, full = torch.zeros(2, dtype=torch.float64), torch.ones(15, 1, dtype=torch.float64)
    edge = teacher.system.rollout(rest, full)[-1]  # where full thrust leads
    _, reachable = teacher.try_solve(rest, torch.stack([0.999 * edge, 1.001 * edge]))
    assert reachable.tolist() == [True, False]


def test_solve_refuses_what_is_out_of_reach_and_says_how_many():
    teacher = BoundedMinimumEnergyController()
    message = "cannot be reached within the bounds for 1 of 2 problems"
    with pytest.raises(Unsolved, match=message) as refused:
        teacher.solve([[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [100.0, 0.0]])
    assert refused.value.solved.tolist() == [True, False]
    assert teacher.solve([0.0, 0.0], [1.0, 0.0]).shape == (15, 1)


@pytest.mark.parametrize(("limit", "error", "reason"), [
    (0.0, ValueError, "control_limit=0.0 is not accepted"),
    ((1.0, 2.0), ValueError, "has 2 numbers; needs one, or 1"),
    ("wide", TypeError, "control_limit='wide' is not a number"),
    (float("nan"), ValueError, "control_limit=nan")])
def test_invalid_bounds_are_refused(limit, error, reason):
    with pytest.raises(error, match=reason):
        DoubleIntegrator(control_limit=limit)


def test_a_system_without_limits_is_refused():
    message = "has no control_limit; give it one, or use MinimumEnergyController"
    with pytest.raises(ValueError, match=message):
        BoundedMinimumEnergyController(DoubleIntegrator())


def test_a_dataset_holds_reachable_problems_only_and_comes_back_from_disk(tmp_path):
    teacher = BoundedMinimumEnergyController()
    dataset = generate_dataset(300, seed=4, teacher=teacher)
    dataset.save(tmp_path / "bounded.npz")
    loaded = LQRDataset.load(tmp_path / "bounded.npz")
    assert loaded.fingerprint == dataset.fingerprint and loaded.system.same_as(teacher.system)
    arrived = final_states(loaded.system, loaded.initial_states, loaded.controls)
    assert np.abs(arrived - loaded.target_states.numpy()).max() <= 1e-8
    x0, xT = sample_states(600, seed=4)  # the same draws, of which the reachable ones are kept
    reachable = teacher.try_solve(x0, xT)[1]
    assert torch.equal(loaded.initial_states, x0[reachable][:300]) and int(reachable.sum()) > 300
    fewer = generate_dataset(20, seed=4, teacher=teacher)
    assert torch.equal(fewer.target_states, loaded.target_states[:20])


def test_a_target_just_inside_the_reachable_set_is_not_proved_unreachable():
    teacher = BoundedMinimumEnergyController()
    C = teacher.system.controllability_matrix(teacher.horizon)
    directions = torch.randn(300, 2, generator=torch.Generator().manual_seed(0)).double()
    edge = (directions @ C).sign() @ C.T  # the point furthest in each direction, |u| = 1
    _, inside = teacher.try_solve(torch.zeros(2).double(), (1 - 3e-4) * edge)
    _, outside = teacher.try_solve(torch.zeros(2).double(), (1 + 3e-4) * edge)
    assert bool(inside.all()) and not bool(outside.any())


def test_a_box_in_which_hardly_anything_can_be_reached_is_refused():
    with pytest.raises(ValueError, match=r"state_range=2000\S* is too wide"):
        generate_dataset(5, teacher=BoundedMinimumEnergyController(), state_range=2000)
