"""Checks of chapter 5: the ruler, the linear map, and what each cycle does."""

import numpy as np
import torch
from scipy.linalg import null_space

from trc_lib.course.exercises.check_result import Wrong, as_array, exercise


def _pair(given, what):
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise Wrong(f"Return two things: {what}.")
    return given


# ------------------------------------------------------------------ the ruler

DEPENDENT = ("Right where the rows of C are independent. Here one row is the sum of two others: C Cᵀ has no inverse, and "
             "a basis made of all three rows has a direction too many. A pseudo-inverse does not mind.")

def _rulers():
    """Matrices C and differences d; in the last C, one row is the sum of two others."""
    r = np.random.default_rng(0)
    dt, N = 0.33, 15
    cart = np.array([[dt**2 * (N - k - 0.5) for k in range(N)], [dt] * N])     # x_N = A^N x_0 + C u, by the laws of motion
    random = r.normal(size=(3, 8))
    dependent = np.vstack([random[:2], random[0] + random[1]])
    for C, batch in ((cart, 6), (random, 5), (dependent, 7)):
        yield C, r.normal(size=(batch, C.shape[1]))


@exercise
def miss_and_waste(answer):
    """``answer(C, difference)`` gives the squared lengths of the row-space and null-space parts, ``[n]`` each."""
    for C, d in _rulers():
        try:
            given = _pair(answer(torch.tensor(C), torch.tensor(d)), "miss, waste")
        except (torch.linalg.LinAlgError, np.linalg.LinAlgError):
            raise Wrong(DEPENDENT) from None
        total = (d**2).sum(axis=1)
        Z = null_space(C)                                                      # columns span what C does not see
        waste = ((d @ Z) ** 2).sum(axis=1)
        miss = total - waste
        shapes = [tuple(getattr(value, "shape", ())) for value in given]
        if d.shape in shapes:
            raise Wrong(f"You return the two parts themselves, {list(d.shape)}; wanted are their squared lengths, {[len(d)]}.")
        if (d.shape[1],) in shapes or () in shapes:
            raise Wrong(f"The sum goes over the wrong axis: one number a problem is wanted, {[len(d)]}; sum over the "
                        f"{d.shape[1]} components.")
        a, b = (as_array(value, (len(d),), name) for value, name in zip(given, ("miss", "waste")))

        def same(x, y):
            return np.allclose(x, y, rtol=1e-6, atol=1e-9)

        if same(a, miss) and same(b, waste):
            continue
        if same(a, waste) and same(b, miss):
            raise Wrong("The two are swapped: the row space of C is what moves the end (miss), the null space only "
                        "costs energy (waste).")
        if same(a, np.sqrt(miss)) or same(b, np.sqrt(waste)):
            raise Wrong("These are lengths; squared lengths are wanted. Only squares add up (Pythagoras), and only "
                        "squares are energy.")
        if same(a * d.shape[1], miss):
            raise Wrong(f"You average over the {d.shape[1]} components; sum their squares, so that the waste is an energy.")
        if same(a, ((d @ C.T) ** 2).sum(axis=1)):
            raise Wrong("Your miss is |C d|², an error of the final state. Wanted is the part of d itself that causes "
                        "it: project d.")
        if same(a, ((d @ C.T @ C) ** 2).sum(axis=1)):
            raise Wrong("CᵀC d lies in the row space, but it is no projection: the size of C is still in it. (C Cᵀ)⁻¹ "
                        "belongs in between.")
        if same(a, miss) and same(b, total):
            raise Wrong("Your waste is all of the difference; the part that misses has to be taken off.")
        if np.linalg.matrix_rank(C) < len(C):
            raise Wrong(DEPENDENT)
        raise Wrong(f"For the first problem miss and waste should be {miss[0]:.3g} and {waste[0]:.3g}; yours are "
                    f"{a[0]:.3g} and {b[0]:.3g} "
                    f"(|d|² = {total[0]:.3g}).")
    return "the two add up to |u − u*|², and the waste is exactly the energy above the least possible, once the miss is zero."


# ------------------------------------------------------------------ the linear map

def _teacher(dt, N=15):
    """The least-energy controls of a cart as a map [x0, xT] -> u, ``[4, N]``, from the laws of motion and a pseudo-inverse."""
    C = np.array([[dt**2 * (N - k - 0.5) for k in range(N)], [dt] * N])
    free = np.array([[1.0, N * dt], [0.0, 1.0]])                               # where a cart drifts without a push
    return (np.linalg.pinv(C) @ np.hstack([-free, np.eye(2)])).T


def _penalty(X, Y, W):
    """The ridge penalty with which W would be the fit; None if it is no such fit."""
    left = X.T @ (Y - X @ W)                                                   # = penalty * W
    penalty = (left * W).sum() / (W**2).sum()
    return penalty if penalty > 1e-9 and np.allclose(left, penalty * W, rtol=1e-3, atol=1e-6 * np.abs(left).max()) else None


@exercise
def fit_map(answer):
    """``answer(x0, xT, controls)`` gives the ``[4, 15]`` matrix of the map that made the data; four problems must do."""
    r = np.random.default_rng(0)
    for n, dt in ((50, 0.33), (4, 0.33), (8, 0.5)):
        X, true, new = r.uniform(-1, 3, (n, 4)), _teacher(dt), r.uniform(-2.5, 2.5, (100, 4))
        Y = X @ true
        W = answer(torch.tensor(X[:, :2]), torch.tensor(X[:, 2:]), torch.tensor(Y)[:, :, None])
        shape = tuple(getattr(W, "shape", ()))
        if shape == (15, 4):
            raise Wrong("Your matrix is transposed, [15, 4]: wanted is [4, 15], so that [x0, xT] @ matrix gives the controls.")
        if shape == (5, 15):
            raise Wrong("Five rows: there is an intercept in it. This map has none: a cart that rests at its target "
                        "needs no push.")
        W = as_array(W, (4, 15), "The matrix")
        worst = np.abs(new @ (W - true)).max()
        if worst < 1e-8:
            continue
        which = f"Fitted to {n} problems, it is off by up to {worst:.2g} m/s² on new ones."
        if np.allclose(W, true[[2, 3, 0, 1]]):
            raise Wrong(f"{which} The rows are swapped: x0 comes first, then xT.")
        factor = (W * true).sum() / (true**2).sum()
        if np.allclose(W, factor * true, rtol=1e-6, atol=1e-9):
            raise Wrong(f"{which} It is the right matrix times {factor:.3g}: are the controls scaled, and not scaled back?")
        factors = (W * true).sum(axis=1) / (true**2).sum(axis=1)
        if np.allclose(W, factors[:, None] * true, rtol=1e-6, atol=1e-9):
            raise Wrong(f"{which} Each row is right but for a factor ({', '.join(f'{f:.2f}' for f in factors)}): "
                        "the inputs were normalised, and new problems are not. Undo it in the matrix.")
        penalty = _penalty(X, Y, W)
        if penalty is not None:
            raise Wrong(f"{which} It is a ridge fit with a penalty of {penalty:.2g}, which pulls the numbers towards zero. "
                        "These data have no noise: nothing needs to be tamed.")
        if worst < 1e-4:
            raise Wrong(f"{which} That is rounding of single precision, or a tiny penalty: stay in float64, plain least squares.")
        if n == 4:
            raise Wrong(f"{which} With 50 problems it was exact. Four are enough for four unknowns in each control, "
                        "but not for five: do you fit an intercept, or centre the data?")
        raise Wrong(f"{which} Plain least squares from [x0, xT] to the 15 controls, without centring or scaling, leaves 1e-14.")
    return "exact on problems it has never seen, from four examples: nothing can beat it here, and a network least of all."


# ------------------------------------------------------------------ cycle by cycle

@exercise
def cycle_by_cycle(answer):
    """``answer(errors)``, ``[H+1, n]``, gives the shares improved by each cycle, ``[H]``, and the mean error at the best ones."""
    r = np.random.default_rng(0)
    for H, n in ((3, 200), (5, 48), (2, 7)):
        errors = np.exp(r.normal(size=(H + 1, n)) - 0.4 * np.arange(H + 1)[:, None])
        errors[-1] *= 3                                                        # in the mean, the last cycle is not the best
        errors[-1, :n // 5 + 1] = errors[-2, :n // 5 + 1]                      # here the last cycle changes nothing
        shares, best = _pair(answer(torch.tensor(errors)), "the shares [H] and the mean error at each problem's best cycle")
        if tuple(getattr(shares, "shape", ())) == (n,):
            raise Wrong(f"The mean goes over the cycles, one number for each of the {n} problems; wanted is one for "
                        f"each of the {H} cycles.")
        shares, best = as_array(shares, (H,), "The shares"), float(as_array(best, (), "The mean error"))
        rows = range(1, H + 1)
        better = np.array([np.sum(errors[k] < errors[k - 1]) / n for k in rows])
        if not np.allclose(shares, better, atol=1e-6):
            wrong = {
                "Problems that end exactly where they did before count as improved in your shares: that needs <, not <=.":
                    [np.sum(errors[k] <= errors[k - 1]) / n for k in rows],
                "That is the share of problems made worse: improved means that the later error is the smaller one.":
                    [np.sum(errors[k] > errors[k - 1]) / n for k in rows],
                "Yours counts all that were not improved; problems that did not change are among them.":
                    [np.sum(errors[k] >= errors[k - 1]) / n for k in rows],
                "You compare with the first proposal; compare each cycle with the one before it.":
                    [np.sum(errors[k] < errors[0]) / n for k in rows],
                "These are numbers of problems; a share is out of all problems.":
                    [np.sum(errors[k] < errors[k - 1]) for k in rows],
                "These are percent; a share lies between 0 and 1.": [100 * np.sum(errors[k] < errors[k - 1]) / n for k in rows],
                "That is how much the mean error falls; wanted is on how many problems the error falls.":
                    [1 - errors[k].mean() / errors[k - 1].mean() for k in rows],
            }
            hint = next((message for message, value in wrong.items() if np.allclose(shares, value, atol=1e-6)),
                        "Compare row k with row k − 1, problem by problem, and take the mean over the problems.")
            raise Wrong(f"The first cycle improves {better[0]:.3f}, the last {better[-1]:.3f}; you say "
                        f"{shares[0]:.3f} and {shares[-1]:.3f}. {hint}")
        lowest = errors.min(axis=0).mean()
        if not np.isclose(best, lowest, rtol=1e-6):
            wrong = [
                (errors.mean(axis=1).min(), "That is the best cycle in the mean, the same for all. Let each problem "
                                            "choose its own."),
                (errors.min(), "That is the smallest error of all; wanted is the mean over the problems of each one's smallest."),
                (errors.min(axis=1).mean(), "The minimum goes over the problems; it should go over the cycles, one "
                                            "for each problem."),
                (errors[1:].min(axis=0).mean(), "The first proposal is left out; it, too, can be a problem's best."),
                (errors[-1].mean(), "That is the last cycle's mean error; for many problems an earlier cycle is better."),
                (errors.min(axis=0).sum(), "That is a sum; take the mean over the problems."),
                (np.median(errors.min(axis=0)), "That is the median; take the mean over the problems."),
            ]
            hint = next((message for value, message in wrong if np.isclose(best, value, rtol=1e-6)),
                        "For each problem the smallest error of any cycle; then the mean.")
            raise Wrong(f"The shares are right. Stopped at its best cycle each, the problems' mean error is "
                        f"{lowest:.4f}, not {best:.4f}. {hint}")
    return "“better on average” and “better on every problem” are two claims; a boxplot shows the one, only this count the other."
