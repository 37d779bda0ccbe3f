"""Checks of chapter 6: the rank test, a reward that cannot be cheated, stopping in time, and a correction in proportion."""

import itertools
import math

import numpy as np
import scipy.stats
import torch

from trc_lib.checks.verdict import Wrong, as_array, exercise


def _two(given, what):
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise Wrong(f"Return two things: {what}.")
    return given


# ------------------------------------------------------------------ the rank test

def _number(value, what):
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Wrong(f"{what} should be a number, not {type(value).__name__}.") from None


@exercise
def pairs_won(answer):
    """``answer(a, b)`` gives the pairs that a wins and the two-sided exact p-value of the rank test."""
    r = np.random.default_rng(0)
    for sizes in ((5, 5), (4, 6), (3, 3), (5, 5)):
        a, b = r.normal(size=sizes[0]), r.normal(size=sizes[1]) + 0.7
        if sizes == (3, 3):
            a = np.sort(b)[0] - 1 - a**2                                       # a wins every pair
        wins = sum(x < y for x in a for y in b)
        given_wins, given_p = _two(answer(a.tolist(), b.tolist()), "wins, p")
        given_wins, given_p = _number(given_wins, "wins"), _number(given_p, "p")
        pairs = len(a) * len(b)
        if given_wins == pairs - wins != wins:
            raise Wrong("You count the pairs in which a is larger. Errors: smaller is better.")
        if given_wins == sum(x < y for x, y in zip(a, b)) != wins:
            raise Wrong("Every seed of a meets every seed of b, not only the one at the same place: the seeds are not paired.")
        if wins and math.isclose(given_wins, wins / pairs):
            raise Wrong(f"That is the share of the pairs. Wanted is their number, here {wins} of {pairs}.")
        if given_wins != wins:
            raise Wrong(f"{wins} of {pairs} pairs are won here; you count {given_wins:g}.")
        right = scipy.stats.mannwhitneyu(a, b, method="exact", alternative="two-sided").pvalue
        lower = scipy.stats.mannwhitneyu(a, b, method="exact", alternative="less").pvalue
        if math.isclose(given_p, right, rel_tol=1e-9):
            continue
        if math.isclose(given_p, lower, rel_tol=1e-9) or math.isclose(given_p, 1 - lower, rel_tol=1e-9):
            raise Wrong("That is one-sided: as extreme in the other direction counts as well.")
        normal = scipy.stats.mannwhitneyu(a, b, method="asymptotic", alternative="two-sided").pvalue
        if math.isclose(given_p, normal, rel_tol=1e-6):
            raise Wrong("That is the normal approximation. With so few seeds count the ways to deal the numbers, all of them.")
        if math.isclose(given_p, scipy.stats.ttest_ind(a, b).pvalue, rel_tol=1e-6):
            raise Wrong("That is the t-test, which assumes a bell curve. Count the ways to deal the numbers instead.")
        if given_p > 1:
            raise Wrong(f"p = {given_p:.3g} is above 1: divide by the number of ways to deal.")
        raise Wrong(f"p should be {right:.4f} here, with {wins} of {pairs} pairs; yours is {given_p:.4f}. Deal all numbers to "
                    "two sides in every way, and count how many ways are at least as far from half of the pairs.")
    return "with five seeds each, 25 of 25 pairs means p = 2/252, and nothing can give less."


# ------------------------------------------------------------------ a reward that cannot be cheated

def _value_and_gradient(objective, J):
    J = torch.tensor(J, dtype=torch.float64, requires_grad=True)
    value = objective(J)
    if not torch.is_tensor(value) or value.numel() != 1:
        raise Wrong("Return one number, as a tensor that knows its gradient.")
    gradient = torch.autograd.grad(value, J, allow_unused=True)[0] if value.requires_grad else None
    return float(value), None if gradient is None else gradient.numpy()


def _ratio(J, w, hold_top, hold_bottom, sign=-1):
    top, bottom = J[:-1].detach() if hold_top else J[:-1], J[:-1].detach() if hold_bottom else J[:-1]
    return J[-1] + sign * w * ((top - J[1:]) / bottom).sum()


@exercise
def held_reward(answer):
    """``answer(J, w)`` is J[H] - w sum of (J[h-1] - J[h]) / J[h-1] with the earlier error held fixed."""
    for J, w in (([3.0, 1.0, 0.5, 0.2], 0.1), ([0.4, 0.8, 0.1], 0.5), ([2.0, 1.0], 0.3)):
        steps = list(itertools.pairwise(J))
        right = J[-1] - w * sum((before - after) / before for before, after in steps)
        slope = np.array([0.0] + [w / before for before, _ in steps])
        slope[-1] += 1
        value, gradient = _value_and_gradient(lambda given, w=w: answer(given, w), J)

        def is_like(*words, J=J, w=w, value=value, gradient=gradient):
            other = _value_and_gradient(lambda given: _ratio(given, w, *words), J)
            return gradient is not None and math.isclose(value, other[0], rel_tol=1e-9) and np.allclose(gradient, other[1])

        if math.isclose(value, right, rel_tol=1e-9):
            if gradient is None:
                raise Wrong("The value is right, but it has no gradient at all: hold the earlier error fixed, not the later one.")
            if np.allclose(gradient, slope):
                continue
            if is_like(False, False):
                raise Wrong("The value is right, but nothing is held fixed: J[0] still has a gradient, so a bad first proposal "
                            "pays. See what .detach() does.")
            if is_like(True, False):
                raise Wrong("The numerator's J[h-1] is held fixed, the denominator's is not: a larger J[h-1] still pays.")
            if is_like(False, True):
                raise Wrong("The denominator's J[h-1] is held fixed, the numerator's is not: a larger J[h-1] still pays.")
            raise Wrong(f"The value is right; its gradient should be {np.round(slope, 3).tolist()}, and is "
                        f"{np.round(gradient, 3).tolist()}.")
        if is_like(True, True, 1):
            raise Wrong("The sign: a reward is subtracted from what is descended.")
        gains = w * (J[0] - J[-1])
        if math.isclose(value, J[-1] - gains, rel_tol=1e-9) or math.isclose(value, J[-1] - w * (1 - J[-1] / J[0]), rel_tol=1e-9):
            raise Wrong("That is the gain from the first to the last. Each cycle's is divided by what *it* began with.")
        if math.isclose(value, right - J[-1], rel_tol=1e-9):
            raise Wrong("J[H], the error of the finished controls, is missing.")
        by_later = J[-1] - w * sum((before - after) / after for before, after in steps)
        if math.isclose(value, by_later, rel_tol=1e-9):
            raise Wrong("You divide by the later error, J[h]; the gain is a share of the earlier one, J[h-1].")
        mean = J[-1] - w * sum((before - after) / before for before, after in steps) / len(steps)
        if math.isclose(value, mean, rel_tol=1e-9):
            raise Wrong("The mean of the gains; wanted is their sum.")
        raise Wrong(f"For J = {J} and w = {w} the objective is {right:.4f}; yours is {value:.4f}.")
    return "nothing is left to win at the first proposal: its slope is zero."


# ------------------------------------------------------------------ stopping in time

@exercise
def stop_when(answer):
    """``answer(errors, predicted_gain, threshold)`` gives the cycles used, [n], and the errors at the stop, [n]."""
    r = np.random.default_rng(1)
    for H, n, threshold in ((4, 9, 0.1), (3, 6, 0.0), (5, 8, 0.2)):
        errors, gain = r.uniform(0.1, 1, size=(H + 1, n)), r.choice([-0.3, 0.0, 0.1, 0.2, 0.5], size=(H, n))
        gain[:, 0], gain[:, 1] = 1.0, -1.0                                     # one never stops, one never starts
        gain[:, 2] = [1.0, -1.0] + [1.0] * (H - 2)                             # worth it again after the stop
        used = np.array([next((h for h in range(H) if not gain[h, i] > threshold), H) for i in range(n)])
        at_stop = errors[used, np.arange(n)]
        given = _two(answer(torch.tensor(errors), torch.tensor(gain), threshold), "cycles used, error at the stop")
        shapes = [tuple(getattr(value, "shape", ())) for value in given]
        if () in shapes:
            raise Wrong(f"One number for each problem is wanted, [{n}]; you return a single number.")
        mine, error = as_array(given[0], (n,), "cycles used"), as_array(given[1], (n,), "error at the stop")
        if np.array_equal(mine, used):
            if np.allclose(error, at_stop):
                continue
            if np.allclose(error, errors[np.minimum(used + 1, H), np.arange(n)]):
                raise Wrong("The cycles are right; the error is that of one cycle later. Row k of errors is after k cycles.")
            if np.allclose(error, errors[np.maximum(used - 1, 0), np.arange(n)]):
                raise Wrong("The cycles are right; the error is that of one cycle earlier. Row k of errors is after k cycles.")
            if np.allclose(error, errors[-1]):
                raise Wrong("The cycles are right; the error is that after the last cycle, for everybody.")
            raise Wrong("The cycles are right, the errors are not: take row cycles[i] of column i.")
        if np.array_equal(mine, (gain > threshold).sum(axis=0)):
            raise Wrong("You count every cycle that is worth it. A problem that has stopped does not start again: only those "
                        "before the first that is not.")
        if np.array_equal(mine, np.minimum(used + 1, H)):
            raise Wrong("One cycle too many: the gain of row h is predicted *before* cycle h + 1 is run, and saves running it.")
        first_equal = np.array([next((h for h in range(H) if not gain[h, i] >= threshold), H) for i in range(n)])
        if np.array_equal(mine, first_equal):
            raise Wrong("A gain that only equals the threshold is not above it: stop there.")
        if np.array_equal(mine, np.array([next((h for h in range(H) if gain[h, i] > threshold), H) for i in range(n)])):
            raise Wrong("The other way round: go on while the gain is above the threshold.")
        never = np.array([next((h for h in range(H) if not gain[h, i] > threshold), 0) for i in range(n)])
        if np.array_equal(mine, never):
            raise Wrong(f"A problem whose gains are all above the threshold uses all {H}, not 0 (argmax over nothing gives 0).")
        i = int(np.flatnonzero(mine != used)[0])
        raise Wrong(f"Predicted gains {gain[:, i].tolist()}, threshold {threshold}: {used[i]} cycles; you say {mine[i]:g}.")
    return "stopped is stopped: cumprod, or a loop with a break, both know that."


# ------------------------------------------------------------------ a correction in proportion

@exercise
def proportional(answer):
    """``answer(error, decoded)`` gives what the cycle is told, [n, 3], and the correction, [n, N]."""
    r = np.random.default_rng(2)
    for n, N in ((6, 15), (4, 5)):
        e, d = r.normal(size=(n, 2)) * 10.0 ** r.uniform(-4, 0, size=(n, 1)), r.normal(size=(n, N))
        size = np.array([math.sqrt(x**2 + y**2 + 1e-12) for x, y in e])[:, None]
        told, correction = np.concatenate([e / size, np.log(size) / 4], axis=1), size * d
        given = _two(answer(torch.tensor(e), torch.tensor(d)), "told, correction")
        mine, moved = as_array(given[0], (n, 3), "told"), as_array(given[1], (n, N), "correction")

        def like(x, y):
            return np.allclose(x, y, rtol=1e-5, atol=1e-9)

        if like(mine[:, :2], e):
            raise Wrong("The direction still has the size of the error: divide by it.")
        if like(mine[:, :2], np.sign(e)) or like(mine[:, :2], e / np.abs(e)):
            raise Wrong("One size for each problem, not for each component: the length of its row.")
        if like(mine[:, :2], e / np.sqrt((e**2).sum())):
            raise Wrong("That is the size of the whole batch. Each problem has its own: sum over the components alone.")
        if not like(mine[:, :2], told[:, :2]):
            raise Wrong(f"The first two columns should be the error over its size, {np.round(told[0, :2], 3).tolist()} in "
                        f"the first row; yours are {np.round(mine[0, :2], 3).tolist()}.")
        if like(mine[:, 2], np.log10(size[:, 0]) / 4):
            raise Wrong("The third column is the natural logarithm of the size over 4; yours is the one to base 10.")
        if like(mine[:, 2], np.log(size[:, 0])):
            raise Wrong("The logarithm is to be divided by 4, so that it is no larger than the latents that it is added to.")
        if like(mine[:, 2], size[:, 0]) or like(mine[:, 2], size[:, 0] / 4):
            raise Wrong("The third column is the *logarithm* of the size: a size of 0.001 should not look like 0.")
        if not like(mine[:, 2], told[:, 2]):
            raise Wrong(f"The third column should be log(size) / 4, {told[0, 2]:.3f} in the first row, not {mine[0, 2]:.3f}.")
        if like(moved, d):
            raise Wrong("The correction is still what the decoder says: multiply it by the size.")
        if like(moved, d / size):
            raise Wrong("Multiply by the size, do not divide: a small error asks for a small correction.")
        if not like(moved, correction):
            raise Wrong("The correction should be the size times what the decoder says.")
    e = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    told, moved = answer(e, torch.ones(2, 3, dtype=torch.float64))
    if not (torch.isfinite(told).all() and torch.isfinite(moved).all()):
        raise Wrong("Right, but not where the error is exactly zero: there it gives NaN or infinity. Add 1e-12 under the root.")
    slope = torch.autograd.grad((told.sum() + moved.sum()), e)[0]
    if not torch.isfinite(slope).all():
        raise Wrong("Right, but where the error is zero the gradient is NaN: a root has no slope there. Add 1e-12 *under* it.")
    return "no error, no correction: the controls rest where they arrive."
