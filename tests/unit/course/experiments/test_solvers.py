"""Solvers as rivals, against the iterative LQR and PyTorch's derivatives, which share no code."""

import numpy as np
import pytest
import torch

from trc_lib.course.experiments import solvers
from trc_lib.problems import double_integrator, van_der_pol

pytest.importorskip("casadi")

LIMITS = (1.25, 0.6)
each_limit = pytest.mark.parametrize("limit", LIMITS)
each_program = pytest.mark.parametrize("name", ["fatrop", "ipopt"])


def some(limit, count=6):
    """A teacher with few steps, problems with targets off the origin, and their optima."""
    problem = van_der_pol(horizon=25, control_limit=limit)
    data = problem.dataset(count, seed=3)
    targets = 0.3 * data.initial_states.flip(0)
    return problem.teacher, data.initial_states, targets, problem.teacher.solve(
        data.initial_states, targets)


def cost(teacher, x0, xT, controls):
    return teacher.cost(x0, xT, torch.from_numpy(controls))


@each_limit
@each_program
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_they_find_the_optimum_of_the_iterative_lqr_within_the_limits(name, limit, warm):
    teacher, x0, xT, best = some(limit)
    refine = solvers.multiple_shooting(teacher, name)
    guesses = (0.7 * best if warm else torch.zeros_like(best)).numpy()
    found = np.stack([refine(*each, 100) for each in zip(x0.numpy(), xT.numpy(), guesses)])
    assert found.shape == best.shape and np.abs(found).max() <= limit
    assert np.isclose(np.abs(found), limit, atol=1e-6).any()  # the limits bind
    wanted = teacher.cost(x0, xT, best)
    torch.testing.assert_close(cost(teacher, x0, xT, found), wanted, rtol=1e-8, atol=0.0)


@each_program
def test_more_iterations_leave_less_and_none_leaves_the_guess(name):
    teacher, x0, xT, best = some(1.25)
    refine, guess = solvers.multiple_shooting(teacher, name), np.full((25, 1), 0.3)
    problem = x0[0].numpy(), xT[0].numpy()
    assert np.array_equal(refine(*problem, guess, 0), guess)
    left = [cost(teacher, x0[:1], xT[:1], refine(*problem, guess, most)[None])
            - teacher.cost(x0[:1], xT[:1], best[:1]) for most in (2, 8, 100)]
    assert left[0] > left[1] >= left[2] > -1e-9 and left[0] > 1e-3


@each_limit
def test_the_compiled_slope_is_that_of_pytorch(limit):
    teacher, x0, xT, best = some(limit)
    evaluate, controls = solvers.compiled_gradient(teacher), 0.7 * best
    controls.requires_grad_()
    total = teacher.cost(x0, xT, controls)
    total.sum().backward()
    for i, each in enumerate(controls.detach().numpy()):
        value, slope = evaluate(x0[i].numpy(), xT[i].numpy(), each)
        assert value == pytest.approx(total[i].item(), rel=1e-12)
        np.testing.assert_allclose(slope, controls.grad[i, :, 0], rtol=1e-9, atol=1e-9)


@each_limit
def test_l_bfgs_goes_down_to_the_optimum(limit):
    teacher, x0, xT, best = some(limit)
    refine, guess = solvers.limited_memory(teacher), np.zeros((25, 1))
    wanted = teacher.cost(x0, xT, best)
    for i, problem in enumerate(zip(x0.numpy(), xT.numpy())):
        left = [cost(teacher, x0[i], xT[i], refine(*problem, guess, most)) - wanted[i]
                for most in (0, 3, 10, 1000)]
        assert left[0] > left[1] >= left[2] >= left[3] > -1e-8 * wanted[i]
        assert left[3] < 1e-6 * wanted[i]
    assert np.abs(refine(*problem, guess, 1000)).max() <= limit


def test_other_systems_are_refused():
    with pytest.raises(TypeError, match=r"written for VanDerPol, not for DoubleIntegrator"):
        solvers.limited_memory(double_integrator().teacher)
