"""Checks of chapter 5: the two parts of an error, the linear map, the effect of each cycle."""

import numpy as np
import torch
from scipy.linalg import null_space

from trc_lib.course.exercises.check_result import (
    Wrong,
    as_array,
    as_number,
    exercise,
    first,
    judge,
    recognise,
    refuse,
    same,
    several,
)


def _end_points(dt, N):
    """C [2, N] of the cart, by the laws of motion: x_N = A^N x_0 + C u."""
    return np.array([[dt**2 * (N - k - 0.5) for k in range(N)], [dt] * N])


# ------------------------------------------------------------------ the two parts of an error

DEPENDENT = ("Right where the rows of C are independent. Here one row is the sum of two others: "
             "C Cᵀ has no inverse, and a basis made of all three rows has a direction too many. "
             "Use a pseudo-inverse.")


def _differences():
    """Matrices C and differences d; in the last C, one row is the sum of two others."""
    r = np.random.default_rng(0)
    cart, random = _end_points(0.33, 15), r.normal(size=(3, 8))
    dependent = np.vstack([random[:2], random[0] + random[1]])
    for C, batch in ((cart, 6), (random, 5), (dependent, 7)):
        yield C, r.normal(size=(batch, C.shape[1]))


@exercise
def miss_and_waste(answer):
    """Check ``answer(C, difference)``: the squared lengths of its two parts, ``[n]`` each.

    The part in the row space of C is the terminal error, that in the null space the excess energy.
    """
    for C, d in _differences():
        try:
            parts = answer(torch.tensor(C), torch.tensor(d))
        except (torch.linalg.LinAlgError, np.linalg.LinAlgError):
            raise Wrong(DEPENDENT) from None
        n, N = d.shape
        axis = f"The sum is over the wrong axis: sum over the {N} components, one number a problem."
        hints = {(N,): axis, (): axis, (n, N): f"You return the two parts themselves, [{n}, {N}]; "
                                               f"return their squared lengths, [{n}]."}
        names = "The terminal error", "The excess energy"
        parts = several(parts, *names)
        a, b = (as_array(part, (n,), name, hints) for part, name in zip(parts, names))
        total = (d**2).sum(axis=1)
        excess = ((d @ null_space(C)) ** 2).sum(axis=1)
        terminal = total - excess
        if same([a, b], [terminal, excess], 1e-6):
            continue
        recognise([a, b], [
            ([excess, terminal],
             "The two are swapped: the part in the row space of C moves the end (terminal error), "
             "the part in the null space only costs energy."),
            ([terminal, total],
             "Your excess energy is all of the difference; subtract the terminal error."),
        ], 1e-6)
        refuse((same(a, np.sqrt(terminal), 1e-6) or same(b, np.sqrt(excess), 1e-6),
                "These are lengths; return their squares. Only squares add up (Pythagoras)."))
        recognise(a, [
            (terminal / N, f"You average over the {N} components; an energy is a sum of squares."),
            (((d @ C.T) ** 2).sum(axis=1), "Your terminal error is |C d|², an error of the final "
                                           "state. Return the part of d that causes it."),
            (((d @ C.T @ C) ** 2).sum(axis=1),
             "CᵀC d lies in the row space, but is no projection: (C Cᵀ)⁻¹ belongs in between."),
        ], 1e-6)
        refuse((np.linalg.matrix_rank(C) < len(C), DEPENDENT))
        raise Wrong("For the first problem the terminal error and the excess energy should be "
                    f"{terminal[0]:.3g} and {excess[0]:.3g}; yours are {a[0]:.3g} and {b[0]:.3g} "
                    f"(|d|² = {total[0]:.3g}).")
    return ("the two add up to |u − u*|². Once the terminal error is zero, the excess energy is "
            "exactly the energy above the least possible.")


# ------------------------------------------------------------------ the linear map

def _teacher(dt, N=15):
    """The least-energy controls of a cart as a map [x0, xT] -> u, ``[4, N]``."""
    drift = np.array([[1.0, N * dt], [0.0, 1.0]])
    return (np.linalg.pinv(_end_points(dt, N)) @ np.hstack([-drift, np.eye(2)])).T


def _penalty(X, Y, W):
    """The ridge penalty for which W is the fit, or None if there is none."""
    left = X.T @ (Y - X @ W)  # penalty * W, if W is such a fit
    penalty = (left * W).sum() / (W**2).sum()
    fits = np.allclose(left, penalty * W, rtol=1e-3, atol=1e-6 * np.abs(left).max())
    return penalty if penalty > 1e-9 and fits else None


@exercise
def fit_map(answer):
    """Check ``answer(x0, xT, controls)``: the matrix ``[4, 15]`` that made the data, exactly."""
    r = np.random.default_rng(0)
    for n, dt in ((50, 0.33), (4, 0.33), (8, 0.5)):
        X, true, new = r.uniform(-1, 3, (n, 4)), _teacher(dt), r.uniform(-2.5, 2.5, (100, 4))
        Y = X @ true
        W = answer(torch.tensor(X[:, :2]), torch.tensor(X[:, 2:]), torch.tensor(Y)[:, :, None])
        W = as_array(W, (4, 15), "The matrix", {
            (15, 4): "Your matrix is transposed, [15, 4]: [x0, xT] @ matrix gives the controls.",
            (5, 15):
             "Five rows: is one an intercept? A cart at rest at its target needs no control.",
        })
        worst = np.abs(new @ (W - true)).max()
        if worst < 1e-8:
            continue
        factor = (W * true).sum() / (true**2).sum()
        factors = (W * true).sum(axis=1) / (true**2).sum(axis=1)
        where = f"Fitted to {n} problems, it is off by up to {worst:.2g} m/s² on new ones. "
        recognise(W, [
            (true[[2, 3, 0, 1]], "The rows are swapped: x0 comes first, then xT."),
            (factor * true,
             f"It is the right matrix times {factor:.3g}: controls scaled, and not scaled back?"),
            (factors[:, None] * true,
             f"Each row is right but for a factor ({', '.join(f'{f:.2f}' for f in factors)}): the "
             "inputs were normalised, and new problems are not. Undo it in the matrix."),
        ], where=where)
        penalty = _penalty(X, Y, W)
        raise Wrong(where + first(
            (penalty, f"It is a ridge fit with a penalty of {penalty or 0:.2g}, which pulls the "
                      "numbers towards zero. These data have no noise, so they need none."),
            (worst < 1e-4,
             "That is single precision, or a tiny penalty: use float64, least squares."),
            (n == 4, "With 50 problems it was exact. Four are enough for four unknowns in each "
                     "control, but not for five: do you fit an intercept, or centre the data?"),
            (True, "Plain least squares from [x0, xT] to the 15 controls, without centring or "
                   "scaling, leaves 1e-14.")))
    return "exact on new problems, from four examples: no network can be more accurate here."


# ------------------------------------------------------------------ cycle by cycle

@exercise
def cycle_by_cycle(answer):
    """Check ``answer(errors [H+1, n])``: the shares improved by each cycle, ``[H]``, and a mean.

    The mean is that of the error after each problem's best cycle.
    """
    r = np.random.default_rng(0)
    for H, n in ((3, 200), (5, 48), (2, 7)):
        errors = np.exp(r.normal(size=(H + 1, n)) - 0.4 * np.arange(H + 1)[:, None])
        errors[-1] *= 3  # the last cycle does not have the lowest mean
        errors[-1, :n // 5 + 1] = errors[-2, :n // 5 + 1]  # nor does it change these problems
        shares, best = several(answer(torch.tensor(errors)), "the shares [H]",
                               "the mean error at each problem's best cycle")
        shares = as_array(shares, (H,), "The shares", {
            (n,):
             f"The mean is over the cycles; take it over the {n} problems, one for each cycle."})
        best, now, before = as_number(best, "The mean error"), errors[1:], errors[:-1]
        right = (now < before).mean(axis=1)
        judge(shares, right, [
            ((now <= before).mean(axis=1),
             "Your shares include the problems that did not change: improved is <, not <=."),
            ((now > before).mean(axis=1), "That is the share of problems made worse: improved "
                                          "means that the later error is the smaller one."),
            ((now >= before).mean(axis=1),
             "Yours are all that were not improved, with those that did not change among them."),
            ((now < errors[0]).mean(axis=1),
             "You compare with the first proposal; compare each cycle with the one before it."),
            ((now < before).sum(axis=1), "These are numbers of problems; divide by all problems."),
            (100 * right, "These are percent; a share lies between 0 and 1."),
            (1 - now.mean(axis=1) / before.mean(axis=1),
             "That is by how much the mean error falls; return on how many problems it falls."),
        ], "Compare row k with row k − 1, problem by problem, and take the mean over the problems.",
            1e-6, f"The first cycle improves {right[0]:.3f}, the last {right[-1]:.3f}; you say "
                  f"{shares[0]:.3f} and {shares[-1]:.3f}. ")
        each = errors.min(axis=0)
        judge(best, each.mean(), [
            (errors.mean(axis=1).min(),
             "That is the best cycle in the mean. Each problem has its own best cycle."),
            (errors.min(), "That is the smallest of all; take each problem's, then the mean."),
            (errors.min(axis=1).mean(),
             "The minimum is over the problems; take it over the cycles, one for each problem."),
            (now.min(axis=0).mean(), "The first proposal is left out; it can be a problem's best."),
            (errors[-1].mean(),
             "That is the last cycle's; for many problems an earlier one is better."),
            (each.sum(), "That is a sum; take the mean over the problems."),
            (np.median(each), "That is the median; take the mean over the problems."),
        ], "For each problem the smallest error of any cycle; then the mean.", 1e-6,
            "The shares are right. With each problem stopped at its best cycle the mean error is "
            f"{each.mean():.4f}, not {best:.4f}. ")
    return ("“better on average” and “better on every problem” are two claims; a boxplot shows the "
            "first, only this count shows the second.")
