"""The bounded minimum-energy law, against convex solvers, which share no code with it."""

import math

import numpy as np
import pytest
import scipy.optimize
import torch

from trc_lib.data import LQRDataset, generate_dataset, sample_states
from trc_lib.systems import DoubleIntegrator, LinearSystem
from trc_lib.teachers import (
    BoundedMinimumEnergyController,
    MinimumEnergyController,
    Unsolved,
    bounded,
)
from trc_lib.teachers.bounded import SOLVED, UNDECIDED, UNREACHABLE

cvxpy = pytest.importorskip("cvxpy")


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


# ---------------------------------------------------------------- near the edge

def edge_points(system, horizon, count, seed):
    """Targets on the edge of what is within reach of the origin, and the middle of that."""
    rng, n = np.random.default_rng(seed), system.state_dim
    A, B = system.A.numpy(), system.B.numpy()
    low, high = (np.tile(bound.numpy(), horizon) for bound in system.bounds)
    C = np.hstack([np.linalg.matrix_power(A, horizon - 1 - k) @ B for k in range(horizon)])
    outwards = rng.normal(size=(count, n)) @ C
    return np.where(outwards > 0, high, low) @ C.T, (low + high) / 2 @ C.T


EDGES = [(3, 1, 12, 1.0), (2, 2, 20, [[0.0, 2.0], [-1.0, 0.5]]), (4, 1, 25, 1e-7), (1, 1, 5, 1e6),
         (3, 2, 9, [[1.0, 3.0], [-2.0, -1.0]])]


@pytest.mark.parametrize("size", EDGES, ids=str)
@pytest.mark.parametrize("distance", [0.3, 1e-2, 1e-4, 1e-6, 1e-8, 3e-9])
def test_every_target_is_decided_up_to_a_billionth_of_the_edge(size, distance):
    states, controls, horizon, limit = size
    rng = np.random.default_rng(states)
    A = rng.normal(size=(states, states))
    A *= 0.95 / np.abs(np.linalg.eigvals(A)).max()
    limit = limit if isinstance(limit, list) else [limit] * controls
    system = LinearSystem(A, rng.normal(size=(states, controls)), 0.1, limit)
    teacher = BoundedMinimumEnergyController(system, horizon)
    edge, middle = edge_points(system, horizon, 60, seed=1)
    zero = np.zeros(states)
    inside, outside = (middle + (edge - middle) * (1 + sign * distance) for sign in (-1, 1))
    u, verdict = teacher.decide(zero, inside)
    assert verdict.tolist() == [1] * 60
    low, high = system.bounds
    assert bool(((u >= low) & (u <= high)).all())
    ends = teacher.system.rollout(torch.zeros(60, states).double(), u)[:, -1].numpy()
    assert np.abs(ends - inside).max() <= 1e-9 * np.abs(edge - middle).max()
    u, verdict = teacher.decide(zero, outside)
    assert verdict.tolist() == [-1] * 60 and bool(u.isnan().all())


def test_on_the_edge_itself_a_batch_is_answered_and_nothing_is_raised():
    teacher = BoundedMinimumEnergyController()
    edge, _ = edge_points(teacher.system, 15, 300, seed=2)
    near = edge * (1 + 1e-13 * np.random.default_rng(0).normal(size=(300, 1)))
    mixed = np.concatenate([near, 0.5 * edge, 2 * edge])
    u, solved = teacher.try_solve(np.zeros(2), mixed)
    assert bool(solved[300:600].all()) and not bool(solved[600:].any())
    assert torch.equal(solved, ~u.isnan().flatten(1).any(dim=1))


@pytest.mark.parametrize("limit", [1e-9, 1e-7, 1.0, 1e5])
def test_the_answer_scales_with_the_limits(limit):
    """Limits, starts and targets times a factor: the same problem in other units."""
    unit = BoundedMinimumEnergyController(DoubleIntegrator(control_limit=1.0))
    other = BoundedMinimumEnergyController(DoubleIntegrator(control_limit=limit))
    x0, xT = np.random.default_rng(3).uniform(-2, 2, size=(2, 500, 2))
    u, verdict = unit.decide(x0, xT)
    scaled, same = other.decide(limit * x0, limit * xT)
    assert torch.equal(verdict, same) and bool((verdict == 1).any() & (verdict == -1).any())
    solved = verdict == 1
    torch.testing.assert_close(scaled[solved] / limit, u[solved], rtol=0, atol=1e-8)


@pytest.mark.parametrize("limit", [[[0.0, 1.5]], [[-0.2, 2.0]], [[0.3, 1.0]], [[-1.0, np.inf]]])
@pytest.mark.parametrize("inside", [True, False], ids=["Newton", "interior point"])
def test_limits_that_are_not_symmetric_agree_with_a_convex_solver(limit, inside, monkeypatch):
    if not inside:
        monkeypatch.setattr(bounded, "MOST_STEPS", 0)
    teacher = BoundedMinimumEnergyController(DoubleIntegrator(control_limit=limit), 10)
    system, rng = teacher.system, np.random.default_rng(4)
    low, high = (bound.numpy() for bound in system.bounds)
    C = system.controllability_matrix(10).numpy()
    tried = 0
    for _ in range(12):
        xT = C @ rng.uniform(low, np.minimum(high, 2), size=10) * rng.choice([1.0, 1.0, 4.0])
        u = cvxpy.Variable(10)
        limits = [u >= low[0]] + ([u <= high[0]] if np.isfinite(high[0]) else [])
        problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(u)), [C @ u == xT, *limits])
        problem.solve(solver=cvxpy.CLARABEL)
        mine, solved = teacher.try_solve(np.zeros(2), xT)
        assert bool(solved) == (problem.status == "optimal")
        if solved:
            tried += 1
            np.testing.assert_allclose(mine[:, 0], u.value, rtol=0, atol=2e-4)
            assert float(mine.square().sum()) <= problem.value * (1 + 1e-6) + 1e-9
    assert tried >= 5


ROTATING = LinearSystem(torch.matrix_exp(torch.tensor([[0, 0.3], [-0.3, 0]]).double()),
                        torch.tensor([[0.04], [0.3]]).double(), dt=0.3, control_limit=[[0, np.inf]])
COUPLED = LinearSystem(1.1 * torch.eye(2).double(), torch.tensor([[0.3, 0.1], [0, 0.3]]).double(),
                       dt=0.3, control_limit=[[-0.5, np.inf], [-np.inf, 0.2]])


@pytest.mark.parametrize(("system", "horizon"), [
    (DoubleIntegrator(0.3, [[-0.5, np.inf]]), 12), (DoubleIntegrator(0.3, [[-np.inf, 0.5]]), 12),
    (DoubleIntegrator(3e-4, [[-np.inf, 5e5]]), 12), (ROTATING, 3), (COUPLED, 8)],
    ids=["no upper", "no lower", "other units", "rotating", "two controls"])
def test_where_controls_lack_a_limit_every_problem_is_decided_as_by_a_linear_programme(system,
                                                                                       horizon):
    teacher = BoundedMinimumEnergyController(system, horizon)
    generator = torch.Generator().manual_seed(0)
    x0, xT = 5 * (2 * torch.rand(2, 60, 2, generator=generator, dtype=torch.float64) - 1)
    if system.dt < 1e-3:  # s in units of 1000 s: velocities are a thousand times as large
        x0, xT = (state * torch.tensor([1, 1e3]) for state in (x0, xT))
    C = system.controllability_matrix(horizon).numpy()
    drift = np.linalg.matrix_power(system.A.numpy(), horizon)
    limits = list(zip(*(bound.repeat(horizon).numpy() for bound in system.bounds)))
    feasible = [scipy.optimize.linprog(np.zeros(len(limits)), A_eq=C, b_eq=end - drift @ start,
                                       bounds=limits).status == 0
                for start, end in zip(x0.numpy(), xT.numpy())]
    verdict = teacher.decide(x0, xT)[1]
    assert verdict.tolist() == [SOLVED if each else UNREACHABLE for each in feasible]
    assert 0 < sum(feasible) < 60


def test_a_control_without_any_limit_is_never_proved_to_be_too_weak():
    system = LinearSystem(torch.eye(2).double(), torch.eye(2).double(), dt=1.0,
                          control_limit=[[-np.inf, np.inf], [-1.0, 1.0]])
    teacher = BoundedMinimumEnergyController(system, 3)
    verdict = teacher.decide(torch.zeros(2, 2), torch.tensor([[100.0, 2.0], [0.0, 10.0]]))[1]
    assert verdict.tolist() == [SOLVED, UNDECIDED]


def test_an_answer_does_not_depend_on_the_rest_of_its_batch():
    teacher = BoundedMinimumEnergyController(DoubleIntegrator(control_limit=[[0.0, 1.0]]))
    random = torch.rand(2, 60, 15, 1, generator=torch.Generator().manual_seed(0))
    small = 1e-7 * (random[0] * (random[1] > 0.8)).double()  # many of the answers have zeros
    rest = torch.zeros(60, 2).double()
    targets = teacher.system.rollout(rest, small)[:, -1]
    alone = teacher.solve(rest, targets)
    far = torch.tensor([[1e6, 1e6]]).double()
    together, verdict = teacher.decide(torch.cat([rest, far]), torch.cat([targets, -far]))
    assert verdict.tolist() == [1] * 60 + [-1]
    torch.testing.assert_close(together[:60], alone, rtol=0, atol=1e-14)
