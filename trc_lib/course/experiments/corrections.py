"""Rivals that need no training: exact and Newton-like steps, from any guess.

Whatever a network may simulate, these may, too. Each is written twice: for a batch, in PyTorch, and
for one problem, in NumPy, where that is faster; the faster one is timed.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from trc_lib.course.experiments import landing, solvers
from trc_lib.model.baselines import LinearMap
from trc_lib.teachers import ClippedLQR

SINGULAR = 1e-11  # of C C^T, added to its part of the free steps, which may be fewer than states


@dataclasses.dataclass(frozen=True)
class Correction:
    """A guess, and iterations that improve it.

    Attributes:
        name, label: as in `Variant`.
        start: what makes the guess: one of `STARTS`, or the name of a variant of the study.
        refine: makes from a teacher the function ``(x0, xT, guess, iterations) -> controls`` for a
            batch, all tensors in float64; None if problems are solved one after the other.
        one: makes the same for one problem, NumPy arrays ``[state_dim]`` and ``[horizon,
            control_dim]``; None if the batch of one is to be used.
        iterations: after how many it is measured.
        package: what must be installed for it; else it is left out.
    """

    name: str
    label: str
    start: str
    refine: Callable | None
    one: Callable | None = None
    iterations: tuple = (0, 1, 2, 3)
    package: str | None = None


# ---------------------------------------------------------------- guesses

def _nothing(teacher, train_set):
    shape = teacher.horizon, teacher.system.control_dim
    return lambda x0, xT: torch.zeros(len(x0), *shape, dtype=torch.float64)


def _linear(teacher, train_set):
    return LinearMap(train_set).solve


def _nearest(teacher, train_set):
    known = torch.cat([train_set.initial_states, train_set.target_states], dim=1)

    def solve(x0, xT):
        return train_set.controls[torch.cdist(torch.cat([x0, xT], dim=1), known).argmin(dim=1)]
    return solve


def _clipped(teacher, train_set):
    return ClippedLQR(teacher.system, teacher.horizon, teacher.quadratic_cost).solve


# from a teacher and a training set to solve(x0, xT)
STARTS = {"nothing": _nothing, "linear map": _linear, "nearest neighbour": _nearest,
          "clipped law": _clipped, "polynomial law": landing.polynomial_law}


# ---------------------------------------------------------------- linear systems

def _prediction(teacher):
    """A^N and C, with x_N = A^N x0 + C u."""
    A, horizon = teacher.system.A, teacher.horizon
    return torch.linalg.matrix_power(A, horizon), teacher.system.controllability_matrix(horizon)


def exact(teacher):
    """u - C^+ (x_N - x_T), within the limits: the smallest change that arrives, if none binds."""
    drift, C = _prediction(teacher)
    gain, (low, high) = torch.linalg.pinv(C), teacher.system.bounds

    def refine(x0, xT, guess, iterations):
        u, fixed = guess.flatten(1), x0 @ drift.T - xT
        for _ in range(iterations):
            u = (u - (fixed + u @ C.T) @ gain.T)
            u = u.unflatten(1, guess.shape[1:]).clamp(low, high).flatten(1)
        return u.reshape(guess.shape)
    return refine


def exact_one(teacher):
    """The same for one problem."""
    drift, C = (matrix.numpy() for matrix in _prediction(teacher))
    gain, (low, high) = np.linalg.pinv(C), (bound.numpy() for bound in teacher.system.bounds)
    limited = np.isfinite(low).any() or np.isfinite(high).any()

    def refine(x0, xT, guess, iterations):
        u, fixed = guess.ravel(), drift @ x0 - xT
        for _ in range(iterations):
            u = u - gain @ (fixed + C @ u)
            if limited:
                u = u.reshape(guess.shape).clip(low, high).ravel()
        return u.reshape(guess.shape)
    return refine


def _bounded(teacher):
    """A^N, C and the limits of the whole sequence, as tensors."""
    low, high = (bound.repeat(teacher.horizon) for bound in teacher.system.bounds)
    return *_prediction(teacher), low, high


def newton_on_free(teacher):
    """u - C_F^+ (x_N - x_T), clipped, on the steps F that are within their limits."""
    drift, C, low, high = _bounded(teacher)
    little = SINGULAR * torch.trace(C @ C.T) * torch.eye(len(C)).to(C)

    def refine(x0, xT, guess, iterations):
        u, fixed = guess.flatten(1), x0 @ drift.T - xT
        for _ in range(iterations):
            free = ((u > low) & (u < high)).to(u)                              # [batch, N m]
            slope = torch.einsum("ik,bk,jk->bij", C, free, C) + little
            step = torch.linalg.solve(slope, fixed + u @ C.T)                  # [batch, n]
            u = (u - free * (step @ C)).clamp(low, high)
        return u.reshape(guess.shape)
    return refine


def newton_on_free_one(teacher):
    """The same for one problem."""
    drift, C, low, high = (each.numpy() for each in _bounded(teacher))
    little = SINGULAR * np.trace(C @ C.T) * np.eye(len(C))

    def refine(x0, xT, guess, iterations):
        u, fixed = guess.ravel(), drift @ x0 - xT
        for _ in range(iterations):
            free = (u > low) & (u < high)
            slope = (C * free) @ C.T + little
            u = (u - free * (np.linalg.solve(slope, fixed + C @ u) @ C)).clip(low, high)
        return u.reshape(guess.shape)
    return refine


def newton_on_dual(teacher):
    """Newton's method, undamped, for lambda with C clip(C^T lambda) = x_T - A^N x_0.

    It begins with the lambda that fits the guess best on its free steps: for a guess of zeros
    after one iteration with the law that knows no limits.
    """
    drift, C, low, high = _bounded(teacher)
    little = SINGULAR * torch.trace(C @ C.T) * torch.eye(len(C)).to(C)

    def refine(x0, xT, guess, iterations):
        wanted, u = xT - x0 @ drift.T, guess.flatten(1)
        free = ((u > low) & (u < high)).to(u)
        slope = torch.einsum("ik,bk,jk->bij", C, free, C) + little
        multiplier = torch.linalg.solve(slope, (free * u) @ C.T)               # [batch, n]
        for _ in range(iterations):
            line = multiplier @ C
            free, miss = ((line > low) & (line < high)).to(u), line.clamp(low, high) @ C.T - wanted
            slope = torch.einsum("ik,bk,jk->bij", C, free, C) + little
            multiplier = multiplier - torch.linalg.solve(slope, miss)
        if iterations:
            u = (multiplier @ C).clamp(low, high)
        return u.reshape(guess.shape)
    return refine


def newton_on_dual_one(teacher):
    """The same for one problem."""
    drift, C, low, high = (each.numpy() for each in _bounded(teacher))
    little = SINGULAR * np.trace(C @ C.T) * np.eye(len(C))

    def refine(x0, xT, guess, iterations):
        wanted, u = xT - drift @ x0, guess.ravel()
        free = (u > low) & (u < high)
        multiplier = np.linalg.solve((C * free) @ C.T + little, C @ (free * u))
        for _ in range(iterations):
            line = multiplier @ C
            u, free = line.clip(low, high), (line > low) & (line < high)
            multiplier -= np.linalg.solve((C * free) @ C.T + little, C @ u - wanted)
        if iterations:
            u = (multiplier @ C).clip(low, high)
        return u.reshape(guess.shape)
    return refine


# ---------------------------------------------------------------- nonlinear systems

def iterative_lqr(teacher):
    """Iterations of the teacher, an `IterativeLQR`."""
    return lambda x0, xT, guess, iterations: (
        teacher.iterate(x0, xT, guess, most=iterations).controls if iterations else guess)


def projected_gradient(teacher):
    """Descent along the gradient, cut at the limits, with the step of Barzilai and Borwein.

    Controls are measured in half their ranges, or in one where those are infinite. The first step
    changes the one with the largest slope by a tenth; then the long and the short of their two
    steps take turns. A step that does not lower the cost is taken back, and the next one is half as
    long.

    Source: Barzilai and Borwein (1988), Two-point step size gradient methods.
    """
    system, cost, (low, high) = teacher.system, teacher.quadratic_cost, teacher.system.bounds
    half = (high - low) / 2
    unit = half.where(half.isfinite() & (half > 0), 1.0)

    def refine(x0, xT, guess, iterations):
        def slope_of(u):
            states = system.rollout_unchecked(x0, u)
            return cost.total(states, u, xT), unit * cost.gradient(system, states, u, xT)

        if not iterations:
            return guess
        u, (value, slope) = guess, slope_of(guess)
        length = 0.1 / slope.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-300)
        for step in range(iterations):
            other = (u - length * unit * slope).clamp(low, high)
            new_value, new_slope = slope_of(other)
            move, turn = (other - u) / unit, new_slope - slope
            along, straight, bent = ((a * b).sum(dim=(1, 2), keepdim=True)
                                     for a, b in ((move, turn), (move, move), (turn, turn)))
            fit = straight / along if step % 2 else along / bent  # the long one, the short one
            better = (new_value < value)[:, None, None]
            length = torch.where(better & (fit > 0) & fit.isfinite(), fit, length / 2)
            u, slope = torch.where(better, other, u), torch.where(better, new_slope, slope)
            value = torch.minimum(value, new_value)
        return u
    return refine


# ---------------------------------------------------------------- of the studies

def of_the_cart(*networks):
    """The law itself, as one correction of nothing; and one correction of each network."""
    return tuple(Correction(f"exact_{start.replace(' ', '_')}", f"{start} + C⁺ correction", start,
                            exact, exact_one, (0, 1)) for start in ("nothing", *networks))


def of_bounded_inputs(*networks):
    """Newton's method from nothing, and three corrections of each network."""
    steps = tuple(range(9))
    cold = (Correction("newton", "Newton on the dual, from nothing", "nothing",
                       newton_on_dual, newton_on_dual_one, steps),
            Correction("linear_newton", "linear map + Newton on the dual", "linear map",
                       newton_on_dual, newton_on_dual_one, steps))
    return cold + tuple(
        Correction(f"{network}_{name}", f"{network} + {text}", network, batch, one, steps[:6])
        for network in networks
        for name, text, batch, one in (
            ("clip", "clip(u − C⁺ miss)", exact, exact_one),
            ("free", "Newton on the free steps", newton_on_free, newton_on_free_one),
            ("dual", "Newton on the dual", newton_on_dual, newton_on_dual_one)))


def of_the_oscillator(*networks):
    """Iterations of the iterative LQR, gradient steps, and well-kept solvers, cold and warm."""
    starts = ("nothing", "clipped law", "nearest neighbour", *networks)
    ours = tuple(Correction(f"{start.replace(' ', '_')}_ilqr", f"{start} + iterative LQR", start,
                            iterative_lqr, None, (*range(5), 8) if start != "nothing" else
                            (0, 1, 2, 4, 6, 8, 10, 12)) for start in starts) + tuple(
        Correction(f"{start}_descent", f"{start} + projected gradient", start,
                   projected_gradient, None, (0, 3, 10, 30)) for start in networks)
    fatrop, ipopt = (partial(solvers.multiple_shooting, name=name) for name in ("fatrop", "ipopt"))
    return ours + tuple(
        Correction(f"{start}_{name.lower()}", f"{start} + {name}", start, None, one, counts,
                   "casadi")
        for start, name, one, counts in (
            ("nothing", "fatrop", fatrop, (5, 10, 20, 50)),
            ("mlp", "fatrop", fatrop, (2, 5, 10, 50)),
            ("nothing", "IPOPT", ipopt, (100,)), ("mlp", "IPOPT", ipopt, (100,)),
            ("mlp", "L-BFGS", solvers.limited_memory, (3, 10, 30))))


def of_powered_descent(*networks):
    """Newton's method, from guesses with and without learning; and cone programs."""
    steps = (0, 1, 2, 3, 5, 8)
    ours = (Correction(f"{start.replace(' ', '_')}_newton", f"{start} + Newton in the ring", start,
                       landing.newton, None, steps)
            for start in ("polynomial law", "nearest neighbour", *networks))
    return (*ours, Correction("cone_programs", "cone programs, in search of the time", "nothing",
                              None, landing.cone_programs, (1,)),
            *(Correction(f"{start.replace(' ', '_')}_cone_program",
                         f"{start} + one cone program in its time", start, None,
                         landing.one_cone_program, (1,))
              for start in ("polynomial law", "nearest neighbour", "mlp")))
