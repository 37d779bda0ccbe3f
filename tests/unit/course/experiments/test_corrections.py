"""Rivals that need no training, against NumPy's pseudo-inverse, a convex solver and plain loops."""

import numpy as np
import pytest
import torch

from trc_lib.costs import QuadraticCost
from trc_lib.course.experiments import STUDIES, Correction, corrections
from trc_lib.data import sample_states
from trc_lib.problems import bounded_inputs, double_integrator, van_der_pol
from trc_lib.systems import DoubleIntegrator, LinearSystem
from trc_lib.teachers import BoundedMinimumEnergyController, IterativeLQR, MinimumEnergyController

STEPS = range(9)
LINEAR = ("exact", "newton_on_free", "newton_on_dual")


def coupled(control_limit=None):
    """Three states and two controls."""
    rng = np.random.default_rng(0)
    A, B = np.eye(3) + 0.2 * rng.normal(size=(3, 3)), 0.4 * rng.normal(size=(3, 2))
    return LinearSystem(A, B, 0.2, control_limit)


UNEVEN = [[-0.9, 0.4], [-1.0, 2.0]]
TEACHERS = {
    "cart": MinimumEnergyController(),
    "limited cart": BoundedMinimumEnergyController(DoubleIntegrator(control_limit=1.0)),
    "coupled": MinimumEnergyController(coupled(), 8),
    "coupled, uneven limits": BoundedMinimumEnergyController(coupled(UNEVEN), 8)}
LIMITED = ("limited cart", "coupled, uneven limits")
each_teacher = pytest.mark.parametrize("teacher", TEACHERS.values(), ids=list(TEACHERS))
each_limited = pytest.mark.parametrize("teacher", [TEACHERS[name] for name in LIMITED], ids=LIMITED)


def final_states(system, x0, controls):
    x = np.asarray(x0)
    for k in range(controls.shape[-2]):
        x = x @ system.A.numpy().T + np.asarray(controls)[..., k, :] @ system.B.numpy().T
    return x


def misses(teacher, problems, controls):
    return np.linalg.norm(final_states(teacher.system, problems[0], controls) - problems[1].numpy(),
                          axis=-1)


def solved(teacher, count=60):
    """Problems that have a solution within the limits, and their solutions."""
    x0, xT = sample_states(4 * count, 3, teacher.system.state_dim, 1.5)
    controls, known = teacher.try_solve(x0, xT)
    assert known.sum() >= count
    return (x0[known][:count], xT[known][:count]), controls[known][:count]


def guesses(teacher, best):
    """Nothing, and two guesses off the solution, one within the limits by far and one at them."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(best.shape, generator=generator, dtype=torch.float64)
    (low, high) = teacher.system.bounds
    return {"nothing": torch.zeros_like(best), "inside": 0.3 * best + 0.01 * noise.clamp(-2, 2),
            "near": (best + 0.05 * noise).clamp(low, high)}


def within(teacher, controls):
    low, high = teacher.system.bounds
    return bool(((controls >= low) & (controls <= high)).all())


# ---------------------------------------------------------------- one problem and a batch

@each_teacher
@pytest.mark.parametrize("name", LINEAR)
def test_one_problem_in_numpy_is_as_it_is_in_the_batch_after_every_iteration(teacher, name):
    (x0, xT), best = solved(teacher)
    batch, one = getattr(corrections, name)(teacher), getattr(corrections, f"{name}_one")(teacher)
    for guess in guesses(teacher, best).values():
        before = guess.clone()
        for iterations in STEPS:
            together = batch(x0, xT, guess, iterations)
            alone = np.stack([one(*(each.numpy() for each in problem), iterations)
                              for problem in zip(x0, xT, guess)])
            assert together.shape == guess.shape and together.dtype == torch.float64
            np.testing.assert_allclose(alone, together, rtol=0, atol=1e-9)
            assert iterations or torch.equal(together, guess)
        assert torch.equal(guess, before)  # it is not written into


@each_teacher
@pytest.mark.parametrize("name", ["exact", "newton_on_free"])
def test_iterations_can_be_made_in_two_halves(teacher, name):
    problems, best = solved(teacher)
    refine, guess = getattr(corrections, name)(teacher), guesses(teacher, best)["near"]
    for first in range(4):
        half = refine(*problems, guess, first)
        torch.testing.assert_close(refine(*problems, half, 4 - first),
                                   refine(*problems, guess, 4), rtol=0, atol=1e-9)
    assert not torch.allclose(refine(*problems, guess, 1), guess, atol=1e-3)


# ---------------------------------------------------------------- the exact correction

@pytest.mark.parametrize("name", ["cart", "coupled"])
def test_without_limits_one_exact_correction_is_the_least_change_that_arrives(name):
    teacher = TEACHERS[name]
    problems, best = solved(teacher)
    A, B, N = teacher.system.A.numpy(), teacher.system.B.numpy(), teacher.horizon
    C = np.hstack([np.linalg.matrix_power(A, N - 1 - k) @ B for k in range(N)])
    for guess in guesses(teacher, best).values():
        found = corrections.exact(teacher)(*problems, guess, 1)
        assert misses(teacher, problems, found).max() < 1e-12
        lacking = problems[1].numpy() - final_states(teacher.system, problems[0], guess)
        change = (lacking @ np.linalg.pinv(C).T).reshape(guess.shape)
        np.testing.assert_allclose(found, guess.numpy() + change, rtol=0, atol=1e-11)
    law = corrections.exact(teacher)(*problems, torch.zeros_like(best), 1)
    torch.testing.assert_close(law, best, rtol=0, atol=1e-10)  # of nothing: the law itself


@each_limited
def test_within_limits_each_exact_correction_is_cut_off_there(teacher):
    problems, best = solved(teacher)
    low, high = (bound.numpy() for bound in teacher.system.bounds)
    A, B, N = teacher.system.A.numpy(), teacher.system.B.numpy(), teacher.horizon
    C = np.hstack([np.linalg.matrix_power(A, N - 1 - k) @ B for k in range(N)])
    guess = torch.zeros_like(best)
    u, clipped = guess.numpy(), 0
    for iterations in (1, 2, 3):
        lacking = problems[1].numpy() - final_states(teacher.system, problems[0], u)
        free = u + (lacking @ np.linalg.pinv(C).T).reshape(u.shape)
        u, clipped = free.clip(low, high), clipped + (free != free.clip(low, high)).sum()
        found = corrections.exact(teacher)(*problems, guess, iterations)
        np.testing.assert_allclose(found, u, rtol=0, atol=1e-10)
    assert clipped > 20


# ---------------------------------------------------------------- Newton's method

def minimum_energy(teacher, x0, xT):
    """The bounded problem's solution by OSQP."""
    cvxpy = pytest.importorskip("cvxpy")
    system, N = teacher.system, teacher.horizon
    low, high = (np.tile(bound.numpy(), (N, 1)) for bound in system.bounds)
    u, x = cvxpy.Variable(low.shape), cvxpy.Variable((N + 1, system.state_dim))
    A, B = system.A.numpy(), system.B.numpy()
    rules = [x[0] == x0, x[N] == xT, u >= low, u <= high]
    rules += [x[k + 1] == A @ x[k] + B @ u[k] for k in range(N)]
    cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(u)), rules).solve(
        solver="OSQP", eps_abs=1e-10, eps_rel=1e-10, max_iter=200_000)
    return u.value


def test_newtons_method_on_the_dual_ends_at_the_solution_of_a_convex_solver():
    problem = bounded_inputs()
    data, teacher = problem.dataset(25, seed=4), problem.teacher
    problems = data.initial_states, data.target_states
    expected = np.stack([minimum_energy(teacher, *(state.numpy() for state in one))
                         for one in zip(*problems)])
    assert (abs(abs(expected) - 1) < 1e-7).sum() > 20  # the limits bind
    for guess in guesses(teacher, data.controls).values():
        found = corrections.newton_on_dual(teacher)(*problems, guess, 30)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        assert within(teacher, found) and misses(teacher, problems, found).max() < 1e-9


def test_from_nothing_newtons_method_on_the_dual_solves_all_problems_of_the_course():
    problem = bounded_inputs()
    data, refine = problem.dataset(500, seed=5), corrections.newton_on_dual(problem.teacher)
    problems, nothing = (data.initial_states, data.target_states), torch.zeros_like(data.controls)
    errors = [float((refine(*problems, nothing, steps) - data.controls).abs().max())
              for steps in (1, 20)]
    assert errors[0] > 0.1 and errors[1] < 1e-8


@pytest.mark.parametrize("name", ["cart", "coupled"])
def test_without_limits_newtons_methods_arrive_at_once(name):
    teacher = TEACHERS[name]
    problems, best = solved(teacher)
    for guess in guesses(teacher, best).values():
        on_dual = corrections.newton_on_dual(teacher)(*problems, guess, 1)
        on_free = corrections.newton_on_free(teacher)(*problems, guess, 1)
        torch.testing.assert_close(on_dual, best, rtol=0, atol=1e-8)
        torch.testing.assert_close(on_free, corrections.exact(teacher)(*problems, guess, 1),
                                   rtol=0, atol=1e-8)


@each_limited
def test_newtons_method_on_the_free_steps_stays_within_the_limits_wherever_it_begins(teacher):
    problems, best = solved(teacher)
    low, high = teacher.system.bounds
    noise = torch.randn(best.shape, generator=torch.Generator().manual_seed(2)).double()
    at_limits = (2 * noise).clamp(low, high)
    for guess in (*guesses(teacher, best).values(), at_limits, low.expand_as(best)):
        for iterations in STEPS:
            assert within(teacher, corrections.newton_on_free(teacher)(*problems, guess,
                                                                       iterations))


@each_limited
def test_where_newtons_method_on_the_free_steps_stands_still_it_has_arrived(teacher):
    (x0, xT), best = solved(teacher, count=100)
    low, high = teacher.system.bounds
    refine, n = corrections.newton_on_free(teacher), teacher.system.state_dim
    for guess in guesses(teacher, best).values():
        end = refine(x0, xT, guess, 40)
        still = (refine(x0, xT, guess, 41) - end).abs().amax(dim=(1, 2)) < 1e-12
        free = ((end > low) & (end < high)).sum(dim=(1, 2)) > n
        assert (still & free).sum() > 80
        assert misses(teacher, (x0, xT), end)[still & free].max() < 1e-9


# ---------------------------------------------------------------- nonlinear systems

@pytest.fixture(scope="module")
def oscillator():
    """A short problem of the oscillator, its solutions and guesses."""
    problem = van_der_pol(horizon=20, control_limit=1.25)
    data = problem.dataset(12, seed=6)
    noise = torch.randn(data.controls.shape, generator=torch.Generator().manual_seed(0)).double()
    low, high = problem.teacher.system.bounds
    every = {"nothing": 0 * noise, "near": (data.controls + 0.1 * noise).clamp(low, high),
             "far": (2 * noise).clamp(low, high)}
    return problem.teacher, (data.initial_states, data.target_states), every


def costs(teacher, x0, xT, controls):
    """The cost of every problem, by a loop over time."""
    Q, R, last = (matrix.numpy() for matrix in (
        teacher.quadratic_cost.Q, teacher.quadratic_cost.R, teacher.quadratic_cost.Q_final))
    x, xT, u, total = x0, xT.numpy(), controls.numpy(), np.zeros(len(x0))
    for k in range(u.shape[1]):
        off = x.numpy() - xT
        total += ((off @ Q) * off).sum(axis=1) + ((u[:, k] @ R) * u[:, k]).sum(axis=1)
        x = teacher.system.dynamics(x, controls[:, k])
    off = x.numpy() - xT
    return total + ((off @ last) * off).sum(axis=1)


@pytest.mark.parametrize("guess", ["nothing", "near", "far"])
def test_iterations_of_the_iterative_lqr_are_those_of_the_teacher(oscillator, guess):
    teacher, problems, every = oscillator
    guess, refine = every[guess], corrections.iterative_lqr(teacher)
    assert torch.equal(refine(*problems, guess, 0), guess)
    before = costs(teacher, *problems, guess)
    for iterations in (1, 2, 3, 7):
        stopped = teacher.iterate(*problems, guess, most=iterations)
        found = refine(*problems, guess, iterations)
        assert torch.equal(found, stopped.controls) and within(teacher, found)
        after = costs(teacher, *problems, found)
        assert (after <= before * (1 + 1e-12)).all()
        np.testing.assert_allclose(after, stopped.total, rtol=1e-9)
        before = after


def test_the_teacher_makes_at_most_as_many_iterations_as_it_is_given(oscillator):
    teacher, problems, every = oscillator
    whole = teacher.iterate(*problems, every["far"])
    assert whole.solved.all() and whole.iterations.max() > 5
    for most in (1, 2, 5):
        found = teacher.iterate(*problems, every["far"], most=most)
        assert torch.equal(found.iterations, whole.iterations.clamp(max=most))
        assert torch.equal(found.solved, whole.iterations <= most)
    enough = teacher.iterate(*problems, every["far"], most=int(whole.iterations.max()))
    assert torch.equal(enough.controls, whole.controls) and enough.solved.all()
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"most={wrong} is too small; needs at least 1"):
            teacher.iterate(*problems, every["far"], most=wrong)


@pytest.mark.parametrize("guess", ["nothing", "near", "far"])
def test_projected_gradient_steps_never_raise_a_cost_and_stay_within_the_limits(oscillator, guess):
    teacher, problems, every = oscillator
    guess, refine = every[guess], corrections.projected_gradient(teacher)
    before = first = costs(teacher, *problems, guess)
    assert torch.equal(refine(*problems, guess, 0), guess)
    for iterations in range(1, 13):
        found = refine(*problems, guess, iterations)
        after = costs(teacher, *problems, found)
        assert within(teacher, found) and (after <= before * (1 + 1e-12)).all()
        before = after
    assert (before < 0.99 * first).any() and np.isfinite(before).all()


def test_projected_gradient_steps_are_the_same_in_any_units_of_the_controls():
    A, B = coupled().A, coupled().B
    x0, xT = sample_states(20, 3, 3, 1.5)[0], torch.zeros(20, 3).double()
    found = []
    for units in (torch.ones(2).double(), torch.tensor([1e-3, 40.0]).double()):
        limits = torch.tensor(UNEVEN).double() * units[:, None]
        system = LinearSystem(A, B / units, 0.2, limits)
        cost = QuadraticCost(torch.eye(3), torch.diag(0.1 / units**2), 5 * torch.eye(3))
        refine = corrections.projected_gradient(IterativeLQR(system, 8, cost))
        guess = (0.3 * units).expand(20, 8, 2)
        found.append([refine(x0, xT, guess, steps) / units for steps in (1, 3, 10)])
    for one, other in zip(*found, strict=True):
        assert (one - 0.3).abs().max() > 0.01
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)


def test_many_projected_gradient_steps_end_where_the_iterative_lqr_ends():
    cost = QuadraticCost(np.diag([10.0, 5.0, 2.0]), np.diag([0.1, 0.3]), 20 * np.eye(3))
    teacher = IterativeLQR(coupled(UNEVEN), 8, cost, guesses=1)
    x0, xT = sample_states(10, 7, 3, 1.5)
    best, guess = teacher.solve(x0, xT), torch.zeros(10, 8, 2, dtype=torch.float64)
    low, high = teacher.system.bounds
    assert ((best <= low) | (best >= high)).sum() > 5  # convex, and limits bind
    found = corrections.projected_gradient(teacher)(x0, xT, guess, 500)
    np.testing.assert_allclose(costs(teacher, x0, xT, found), costs(teacher, x0, xT, best),
                               rtol=1e-6)


# ---------------------------------------------------------------- guesses, and the studies'

def test_the_guesses_are_what_their_names_say():
    problem = bounded_inputs()
    known, unseen = problem.dataset(40, seed=0), problem.dataset(9, seed=1)
    problems = unseen.initial_states, unseen.target_states
    made = {name: corrections.STARTS[name](problem.teacher, known)(*problems)
            for name in ("nothing", "linear map", "nearest neighbour")}
    assert torch.equal(made["nothing"], torch.zeros(9, 15, 1, dtype=torch.float64))
    x, y = (np.concatenate([data.initial_states, data.target_states], axis=1)
            for data in (known, unseen))
    W = np.linalg.lstsq(x, known.controls.numpy()[..., 0], rcond=None)[0]
    np.testing.assert_allclose(made["linear map"][..., 0], (y @ W).clip(-1, 1), rtol=0, atol=1e-9)
    nearest = [((x - one) ** 2).sum(axis=1).argmin() for one in y]
    assert len(set(nearest)) > 4
    assert torch.equal(made["nearest neighbour"], known.controls[nearest])


def test_the_clipped_law_drives_the_true_system_within_its_limits():
    problem = van_der_pol(horizon=20)
    teacher, x0 = problem.teacher, torch.tensor([[1.5, -0.5], [0.1, 0.1]], dtype=torch.float64)
    found = corrections.STARTS["clipped law"](teacher, None)(x0, torch.zeros_like(x0))
    x, gains = x0, []
    for k in range(20):  # u = clip(-K x) with one K, which two unsaturated steps determine
        gains.append((x.numpy(), found[:, k].numpy()))
        x = teacher.system.dynamics(x, found[:, k])
    inside = [(state, u) for states, controls in gains for state, u in zip(states, controls)
              if abs(u) < 2]
    states, controls = (np.array(each) for each in zip(*inside))
    K = np.linalg.lstsq(states, controls, rcond=None)[0]
    np.testing.assert_allclose(states @ K, controls, rtol=0, atol=1e-9)
    assert within(teacher, found)


@pytest.mark.parametrize("study", STUDIES.values(), ids=list(STUDIES))
def test_the_corrections_of_a_study_have_names_of_their_own_and_known_guesses(study):
    variants = {variant.name for variant in study.variants}
    names = [correction.name for correction in study.corrections]
    assert len(set(names)) == len(names) > 0 and not variants & set(names)
    assert len({correction.label for correction in study.corrections}) == len(names)
    for correction in study.corrections:
        assert isinstance(correction, Correction)
        assert correction.start in variants | set(corrections.STARTS)
        assert list(correction.iterations) == sorted(set(correction.iterations))
        assert correction.iterations[0] == 0 or correction.refine is None


def test_each_correction_of_the_cart_is_exact_after_its_one_iteration():
    problem = double_integrator()
    data = problem.dataset(20, seed=2)
    problems = data.initial_states, data.target_states
    for correction in STUDIES["sweep"].corrections:
        assert correction.iterations == (0, 1)
        found = correction.refine(problem.teacher)(*problems, 0.5 * data.controls, 1)
        assert misses(problem.teacher, problems, found).max() < 1e-12
