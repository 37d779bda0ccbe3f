"""Checks of chapter 6: the rank test, a reward that cannot be cheated, stopping in time, and a correction in proportion."""

import itertools
import math

import numpy as np
import scipy.stats
import torch

from trc_lib.course.exercises.check_result import Wrong, as_array, exercise, recognise


def _two(given, what):
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise Wrong(f"Return two things: {what}.")
    return given


def _number(value, what):
    try:
        return np.float64(value.item() if torch.is_tensor(value) else value)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"{what} should be a number, not {type(value).__name__}.") from None


# ------------------------------------------------------------------ the rank test

def _sides():
    """Pairs of sequences without ties: a is somewhat better, clearly better, better throughout, worse, and neither."""
    r = np.random.default_rng(3)
    yield r.normal(size=5), r.normal(size=5) + 0.8
    yield r.normal(size=4), r.normal(size=6) + 1.2
    yield -1 - r.random(3), r.random(3)
    yield r.normal(size=5) + 1.5, r.normal(size=4)
    yield np.array([1.0, 4.0, 5.0, 8.0]), np.array([2.0, 3.0, 6.0, 7.0])       # 8 of 16 pairs: the middle itself


def _p_values(a, b, wins):
    """What plausible mistakes give for p, each with what to say about it; the right p is SciPy's."""
    numbers, pairs = np.concatenate([a, b]), len(a) * len(b)
    ours = [np.isin(np.arange(len(numbers)), deal) for deal in itertools.combinations(range(len(numbers)), len(a))]
    ways = np.array([(numbers[side][:, None] < numbers[~side]).sum() for side in ours])             # wins of each deal
    apart = np.array([abs(numbers[side].mean() - numbers[~side].mean()) for side in ours])
    far, distance = np.abs(ways - pairs / 2), abs(wins - pairs / 2)
    as_far, tails = (far >= distance).sum(), [(ways <= wins).mean(), (ways >= wins).mean()]
    yield from ((tail, "That is one-sided: as far from the middle in the other direction counts as well.")
                for tail in (*tails, 1 - tails[0], 1 - tails[1]))
    yield from ((2 * tail, "That is one side's share, doubled, and above 1: " +
                 ("the middle itself is on both sides." if distance == 0 else "it is the wrong side's.") +
                 " Count both sides at once, by their distance from the middle.") for tail in tails)
    yield (far > distance).mean(), "You count what is further away than this deal; *at least* as far is wanted: >=, not >."
    yield (far == distance).mean(), "You count what is exactly as far away as this deal; *at least* as far is wanted: >=, not ==."
    yield (far <= distance).mean(), "You count the deals that are nearer to the middle; extreme ones are far from it."
    yield 1 - (far >= distance).mean(), "That is 1 − p: p is the share that is *at least* as extreme."
    yield as_far, f"That is above 1: divide by the number of ways to deal, here {len(ways)}."
    yield as_far / 252, f"252 is for five against five; here there are {len(ways)} ways to deal."
    yield (np.abs(ways - 12.5) >= abs(wins - 12.5)).mean(), f"12.5 is the middle of 25 pairs; here there are {pairs}."
    yield from ((share, "The deal that we saw is one of the ways, no more and no less: no 1 is added or taken off.")
                for share in ((as_far + 1) / (len(ways) + 1), (as_far - 1) / len(ways), (as_far - 1) / (len(ways) - 1)))
    yield ((apart >= apart[0] - 1e-12).mean(),                                 # the first deal is the one that we saw
           "That compares the *means* of the two sides, deal by deal; wanted is the number of pairs won.")
    yield (scipy.stats.mannwhitneyu(a, b, method="asymptotic").pvalue,
           "That is the normal approximation. With so few seeds count the ways to deal the numbers, all of them.")
    yield (scipy.stats.mannwhitneyu(a, b, method="asymptotic", use_continuity=False).pvalue,
           "That is the normal approximation. With so few seeds count the ways to deal the numbers, all of them.")
    yield from ((scipy.stats.ttest_ind(a, b, equal_var=equal).pvalue,
                 "That is the t-test, which assumes a bell curve. Count the ways to deal the numbers instead.")
                for equal in (True, False))
    if len(a) == len(b):
        yield from ((test(a, b).pvalue, "That is a test for *paired* numbers. Seeds are not paired: deal them to two sides.")
                    for test in (scipy.stats.wilcoxon, scipy.stats.ttest_rel))


@exercise
def pairs_won(answer):
    """``answer(a, b)`` gives the pairs that a wins and the two-sided exact p-value of the rank test."""
    for a, b in _sides():
        given_wins, given_p = _two(answer(a.tolist(), b.tolist()), "wins, p")
        given_wins, given_p = _number(given_wins, "wins"), _number(given_p, "p")
        wins, pairs = sum(x < y for x in a for y in b), len(a) * len(b)
        if given_wins != wins:
            recognise(given_wins, [
                (pairs - wins, "You count the pairs in which a is larger. Errors: smaller is better."),
                (sum(x < y for x, y in zip(a, b)),
                 "Every seed of a meets every seed of b, not only the one at the same place: the seeds are not paired."),
                (wins / pairs, f"That is the share of the pairs. Wanted is their number, here {wins} of {pairs}."),
                (scipy.stats.rankdata([*a, *b])[:len(a)].sum(), "That is the sum of a's ranks; wanted is the number of pairs."),
                (wins - pairs / 2, "That is how far the number of pairs is from the middle; wanted is the number itself."),
                (2 * wins - pairs, "That is pairs won minus pairs lost; wanted are those that are won."),
            ])
            raise Wrong(f"{wins} of {pairs} pairs are won here; you count {given_wins:g}.")
        right = scipy.stats.mannwhitneyu(a, b, method="exact", alternative="two-sided").pvalue
        if math.isclose(given_p, right, rel_tol=1e-9):
            continue
        recognise(given_p, _p_values(a, b, wins))
        where = f"p should be {right:.4f} here, with {wins} of {pairs} pairs; yours is {given_p:.4f}."
        if abs(given_p - right) < 0.05 * right:
            raise Wrong(f"{where} That is near, but not exact: is it rounded, or are the deals drawn at random? There are only "
                        f"{math.comb(len(a) + len(b), len(a))}: take each once.")
        raise Wrong(f"{where} Deal all numbers to two sides in every way, and count how many ways are at least as far from half "
                    "of the pairs.")
    return "with five seeds each, 25 of 25 pairs means p = 2/252, and nothing can give less."


# ------------------------------------------------------------------ a reward that cannot be cheated

def _objective(last, top, bottom, after, w):
    """J[H] - w * sum((top - after) / bottom), from four copies of J, of which each may be moved by itself."""
    return last[-1] - w * sum((top[h - 1] - after[h]) / bottom[h - 1] for h in range(1, len(last)))


def _slope(J, w, moving):
    """The slope of `_objective` in J by finite differences, where only the copies named in ``moving`` move with J."""
    def moved(step):
        return _objective(*(J + step if name in moving.split() else J for name in ("last", "top", "bottom", "after")), w)
    return np.array([(moved(step) - moved(-step)) / 2e-5 for step in 1e-5 * np.eye(len(J))])


STILL_HAS_A_SLOPE = ("The value is right; the {}'s J[h-1] is held fixed, the {}'s is not, so that J[0] still has a slope. "
                     "Detach it in both places.")
HELD = [  # which copies move, and what that mistake is
    ("last top bottom after", "The value is right, but nothing is held fixed: J[0] still has a gradient, so a bad first proposal "
                              "pays. See what .detach() does."),
    ("last bottom after", STILL_HAS_A_SLOPE.format("numerator", "denominator")),
    ("last top after", STILL_HAS_A_SLOPE.format("denominator", "numerator")),
    ("last", "The value is right, but all of the reward is detached: nobody is paid for anything. Hold the earlier error fixed, "
             "and leave the later one free."),
    ("last top bottom", "The value is right; you hold the *later* error fixed. It is the earlier one, J[h-1], that nobody should "
                        "be paid for."),
    ("after", "The value is right; J[H] itself is detached. Only the earlier errors inside the sum are held fixed."),
]


@exercise
def held_reward(answer):
    """``answer(J, w)`` is J[H] - w * sum((J[h-1] - J[h]) / J[h-1]) with the earlier error held fixed."""
    for J, w in (([3.0, 1.0, 0.5, 0.2], 0.1), ([0.4, 0.8, 0.1], 0.5), ([2.0, 1.0], 0.3)):
        tensor = torch.tensor(J, dtype=torch.float64, requires_grad=True)
        given = answer(tensor, w)
        if not torch.is_tensor(given) or given.numel() != 1:
            raise Wrong("Return one number, as a tensor that knows its gradient.")
        J, steps, value = np.array(J), list(itertools.pairwise(J)), np.float64(given.item())
        gains = sum((before - after) / before for before, after in steps)
        right = _objective(J, J, J, J, w)
        if not math.isclose(value, right, rel_tol=1e-9):
            recognise(value, [
                (J[-1] + w * gains, "The sign: a reward is subtracted from what is descended."),
                (J[-1] - w * (J[0] - J[-1]), "You reward plain differences: they telescope, and only the first and the last "
                                             "error are left. Divide each by what its cycle began with, J[h-1]."),
                (J[-1] - w * (1 - J[-1] / J[0]), "That is the gain from the first to the last, as a share. Each cycle's gain is "
                                                 "divided by what *it* began with."),
                (J[-1] - w * (J[0] - J[-1]) / J[0], "You divide by J[0] throughout; each cycle's gain is divided by what *it* "
                                                    "began with."),
                (-w * gains, "J[H], the error of the finished controls, is missing."),
                (gains, "That is the reward alone, not weighted: the objective is J[H] − w times it."),
                (J[-1] - gains, "The weight w is not used."),
                (w * (J[-1] - gains), "w weighs the reward alone, not J[H] as well."),
                (J[-1] - w * sum((before - after) / after for before, after in steps),
                 "You divide by the later error, J[h]; the gain is a share of the earlier one, J[h-1]."),
                (J[-1] - w * gains / len(steps), "The mean of the gains; wanted is their sum."),
                (J[-1] + w * sum(after / before for before, after in steps),
                 "The 1 in 1 − J[h] / J[h-1] is missing. It moves no gradient, but the value is another one."),
                (J[-1] - w * sum(max(before - after, 0) / before for before, after in steps),
                 "You cut losses off at zero; a cycle that makes it worse pays for it."),
                (J[-1] - w * sum(abs(before - after) / before for before, after in steps),
                 "You reward every change; a cycle that makes it worse pays for it."),
                (J[-1] - w * sum((J[h - 1] - J[h]) / J[h - 1] for h in range(len(J))),
                 "With h = 0, J[h-1] is J[-1], the last error: h counts from 1."),
                (J[-1] - w * sum((before - after) / before for before, after in steps[:-1]),
                 "The last cycle's gain is missing: h goes from 1 to H, and J has H + 1 entries."),
                (J[-1] - w * sum((before - after) / before for before, after in steps[1:]),
                 "The first cycle's gain is missing: h goes from 1 to H."),
            ])
            raise Wrong(f"For J = {J.tolist()} and w = {w} the objective is {right:.4f}; yours is {value:.4f}.")
        slope = torch.autograd.grad(given, tensor, allow_unused=True)[0] if given.requires_grad else None
        if slope is None:
            raise Wrong("The value is right, but it has no gradient at all: hold the earlier error fixed, and nothing else.")
        slope, wanted = slope.numpy(), _slope(J, w, "last after")
        if np.allclose(slope, wanted, rtol=1e-6, atol=1e-8):
            continue
        for moving, message in HELD:
            if np.allclose(slope, _slope(J, w, moving), rtol=1e-6, atol=1e-8):
                raise Wrong(message)
        raise Wrong(f"The value is right; for J = {J.tolist()} and w = {w} its gradient should be "
                    f"{np.round(wanted, 3).tolist()}, and is {np.round(slope, 3).tolist()}.")
    return "nothing is left to win at the first proposal: its slope is zero."


# ------------------------------------------------------------------ stopping in time

def _first(H, stops, otherwise=None):
    """The first h below H for which ``stops(h)``, or H, or ``otherwise``."""
    return next((h for h in range(H) if stops(h)), H if otherwise is None else otherwise)


def _stops(errors, gain, threshold):
    """The cycles that each problem uses, and what plausible mistakes give instead; plain loops over the problems."""
    H, n = gain.shape
    each = range(n)
    used = np.array([_first(H, lambda h, i=i: not gain[h, i] > threshold) for i in each])
    mean = _first(H, lambda h: not gain[h].mean() > threshold)
    return used, [
        ((gain > threshold).sum(axis=0), "You count every cycle that is worth it. A problem that has stopped does not start "
                                         "again: only those before the first that is not."),
        ([max((h + 1 for h in range(H) if gain[h, i] > threshold), default=0) for i in each],
         "You go on to the *last* cycle that is worth it. A problem that has stopped does not start again."),
        (np.minimum(used + 1, H), "One cycle too many: the gain of row h is predicted *before* cycle h + 1 is run, and saves "
                                  "running it."),
        (used + 1, "One cycle too many: the gain of row h is predicted *before* cycle h + 1 is run, and saves running it."),
        (np.maximum(used - 1, 0), "One cycle too few: as long as the gains are above the threshold, their cycles are run."),
        (used - 1, "One cycle too few: as long as the gains are above the threshold, their cycles are run."),
        ([_first(H, lambda h, i=i: not gain[h, i] >= threshold) for i in each],
         "A gain that only equals the threshold is not above it: stop there."),
        ([_first(H, lambda h, i=i: gain[h, i] > threshold) for i in each],
         "The other way round: go on while the gain is above the threshold."),
        ([_first(H, lambda h, i=i: not gain[h, i] > threshold, otherwise=0) for i in each],
         f"A problem whose gains are all above the threshold uses all {H}, not 0 (argmax over nothing gives 0)."),
        (np.cumprod(gain > threshold, axis=1).sum(axis=0), "The product runs along the problems, so that one that stops ends the "
                                                           "others' run. It should run along the cycles, dim 0."),
        (np.full(n, mean), "All stop together, where the *mean* gain is too small. Each problem decides by its own gains."),
        (np.full(n, min(used)), "All stop with the first that stops. Each problem decides by its own gains."),
        (np.full(n, max(used)), "All go on until the last one stops. Each problem decides by its own gains."),
        ([_first(H, lambda h, i=i: not errors[h, i] - errors[h + 1, i] > threshold) for i in each],
         "You stop by the gain that a cycle really brings. That is known only once it is run: decide by the predicted one."),
        ([_first(H, lambda h, i=i: not abs(gain[h, i]) > threshold) for i in each],
         "You look at the size of the gain alone; one that is negative makes the error worse."),
        ([_first(H, lambda h, i=i: not errors[h, i] > threshold) for i in each],
         "You compare the error with the threshold; it is the gain that is to be above it."),
        (errors.argmin(axis=0), "That is each problem's best cycle, which nobody knows before all are run."),
    ]


@exercise
def stop_when(answer):
    """``answer(errors, predicted_gain, threshold)`` gives the cycles used, [n], and the errors at the stop, [n]."""
    r = np.random.default_rng(1)
    for H, n, threshold in ((4, 12, 0.1), (3, 9, 0.0), (5, 11, 0.2)):
        errors, gain = r.uniform(0.1, 1, size=(H + 1, n)), r.choice([-0.3, 0.0, 0.1, 0.2, 0.5], size=(H, n))
        gain[:, 0], gain[:, 1] = 1.0, -1.0                                     # one never stops, one never starts
        gain[:, 2] = [1.0, -1.0] + [1.0] * (H - 2)                             # worth it again after the stop
        used, mistakes = _stops(errors, gain, threshold)
        cycles, error = _two(answer(torch.tensor(errors), torch.tensor(gain), threshold), "cycles used, error at the stop")
        shapes = [tuple(np.shape(value)) for value in (cycles, error)]
        if () in shapes:
            raise Wrong(f"One number for each problem is wanted, [{n}]; you return a single number.")
        if shapes[0] == (H,):
            raise Wrong(f"The wrong axis: one number for each of the {n} problems is wanted, not for each of the {H} cycles. Go "
                        "along the rows, dim 0.")
        if shapes[0] == (H, n):
            raise Wrong(f"You return which cycles are run, [{H}, {n}]; wanted is how many, [{n}].")
        if shapes[1] == (n, n):
            raise Wrong("errors[cycles] takes whole rows, one for each problem: take row cycles[i] of column i alone.")
        mine, error = as_array(cycles, (n,), "cycles used"), as_array(error, (n,), "error at the stop")
        if not np.array_equal(mine, used):
            recognise(mine, mistakes)
            i = int(np.flatnonzero(mine != used)[0])
            raise Wrong(f"Predicted gains {gain[:, i].tolist()}, threshold {threshold}: {used[i]} cycles; you say {mine[i]:g}.")
        kind = str(cycles.dtype if torch.is_tensor(cycles) else np.asarray(cycles).dtype).removeprefix("torch.")
        if kind != "int64":
            raise Wrong(f"The numbers are right, their kind is not: cycles are counted, int64, and yours are {kind}.")
        columns = np.arange(n)
        if not np.allclose(error, errors[used, columns]):
            recognise(error, [
                (errors[np.minimum(used + 1, H), columns],
                 "The cycles are right; the error is that of one cycle later. Row k of errors is after k cycles."),
                (errors[np.maximum(used - 1, 0), columns],
                 "The cycles are right; the error is that of one cycle earlier. Row k of errors is after k cycles."),
                (errors[used - 1, columns],
                 "The cycles are right; the error is that of one cycle earlier. Row k of errors is after k cycles."),
                (errors[-1], "The cycles are right; the error is that after the last cycle, for everybody."),
                (errors[0], "The cycles are right; the error is that of the first proposal, for everybody."),
                (errors.min(axis=0), "The cycles are right; the error is each problem's smallest, wherever it stopped."),
                ([errors[:k + 1, i].min() for i, k in enumerate(used)],
                 "The cycles are right; the error is the smallest so far. Wanted is that of the cycle it stopped at."),
                *((mean, "The cycles are right; the error is a mean over the problems. Each has its own.")
                  for mean in (np.full(n, errors[used, columns].mean()), errors[used].mean(axis=1))),
            ])
            raise Wrong("The cycles are right, the errors are not: take row cycles[i] of column i.")
    return "stopped is stopped: cumprod, or a loop with a break, both know that."


# ------------------------------------------------------------------ a correction in proportion

TINY = 1e-12


def _size(e):
    return np.array([[math.sqrt(x**2 + y**2 + TINY)] for x, y in e])


def _wanted(e, decoded, size=_size):
    """told [n, 3] and correction [n, N], where the size of an error may be computed otherwise."""
    s = size(e)
    return np.hstack([e / s, np.log(s) / 4]), s * decoded


def _like(x, y):
    return np.allclose(x, y, rtol=1e-5, atol=1e-9)


def _name_size(direction, e):
    """Raise `Wrong` if the direction is the error over a size that is a well-known wrong one."""
    norm = np.sqrt((e**2).sum(axis=1, keepdims=True))
    for size, message in (
        (np.ones_like(norm), "The direction still has the size of the error: divide by it."),
        (np.abs(e), "One size for each problem, not for each component: the length of its row."),
        (np.sqrt((e**2).sum()), "That is the size of the whole batch. Each problem has its own: sum over the components alone."),
        (np.sqrt((e**2).sum(axis=0)), "The wrong axis: each problem has its own size, so sum over the two components, dim 1."),
        (norm**2, "The root is forgotten: the size is a length, not its square."),
        (norm / math.sqrt(2), "You take the mean of the two squares; the size is the root of their sum."),
        (np.abs(e).sum(axis=1, keepdims=True), "You add the components' absolute values; the size is the root of the sum of "
                                               "squares."),
        (np.abs(e).max(axis=1, keepdims=True), "That is the larger component; the size is the root of the sum of squares."),
        (1 / norm, "You multiply by the size; the direction is the error divided by it."),
        (np.maximum(norm, 1e-6), "You cut the size off from below. Then it stands still for small errors, and no gradient says "
                                 "how to make them smaller; 1e-12 under the root is smooth."),
    ):
        if _like(direction, e / size):
            raise Wrong(message)
    lengths = np.sqrt((direction**2).sum(axis=1, keepdims=True))
    if (lengths == 0).any() or not _like(direction / lengths, e / norm):
        return                                                                 # not the error over any size
    implied = norm / lengths                                                   # the size by which it was divided
    for added, where in ((implied - norm, "outside the root"), (implied**2 - norm**2, "under the root")):
        if added.min() > 0 and np.ptp(added) < 1e-3 * added.max():
            raise Wrong(f"You add {added.mean():.1g} {where}; wanted is 1e-12 *under* it.")
    if np.allclose(implied, norm, rtol=1e-9):
        raise Wrong("The size has no 1e-12 *under* its root: the smallest errors show it.")


def _gradients(function, e):
    """The slopes of two functionals of a function of e, by finite differences: [2, n, 2]."""
    slopes = np.zeros((2, *e.shape))
    for i, j in np.ndindex(e.shape):
        step = np.zeros_like(e)
        step[i, j] = 1e-4 * _size(e)[i, 0]
        slopes[:, i, j] = [(up - down) / (2 * step[i, j]) for up, down in zip(function(e + step), function(e - step))]
    return slopes


@exercise
def proportional(answer):
    """``answer(error, decoded)`` gives what the cycle is told, [n, 3], and the correction, [n, N]."""
    r = np.random.default_rng(2)
    zero = np.array([[0.3, -0.4], [0.0, 0.0], [-2e-3, 1e-3], [0.0, 0.0]])
    for e, N in ((r.normal(size=(6, 2)) * 10.0 ** r.uniform(-2, 0, size=(6, 1)), 15),
                 (r.normal(size=(4, 2)), 5),
                 (zero, 7),                                                    # first what is not finite, and the gradient
                 (r.normal(size=(5, 2)) * 10.0 ** r.uniform(-7, -5, size=(5, 1)), 4),
                 (zero, 8)):                                                   # and then the values
        n, d = len(e), r.normal(size=(len(e), N))
        error = torch.tensor(e, requires_grad=True)
        given = _two(answer(error, torch.tensor(d)), "told, correction")
        if not all(torch.is_tensor(value) for value in given):
            raise Wrong("Return tensors: training sends its gradient back through both of them.")
        if [tuple(value.shape) for value in given] == [(n, N), (n, 3)]:
            raise Wrong("The two are swapped: first what the cycle is told, then the correction.")
        if tuple(given[0].shape) == (n, 2):
            raise Wrong("told has two columns; the logarithm of the size, over 4, is the third.")
        if e is zero and not all(torch.isfinite(value).all() for value in given):
            raise Wrong("Right, but not where the error is exactly zero: there it gives NaN or infinity (0 / 0, log 0). Add "
                        "1e-12 *under* the root.")
        mine, moved = as_array(given[0], (n, 3), "told"), as_array(given[1], (n, N), "correction")
        if N == 7:
            _check_gradient(given, error, e, d)
        elif e is not zero:
            _check_values(mine, moved, e, d)
        elif not all(_like(value, right) for value, right in zip((mine, moved), _wanted(e, d))):
            raise Wrong("Where the error is exactly zero, the size is the root of 1e-12, the direction 0, and the third column "
                        f"{math.log(1e-6) / 4:.2f}; in your answer it is another case of its own.")
    return "no error, no correction: the controls rest where they arrive."


def _check_values(mine, moved, e, d):
    told, correction = _wanted(e, d)
    if not _like(mine[:, :2], told[:, :2]):
        _name_size(mine[:, :2], e)
        if _like(mine[:, 1:], told[:, :2]) and _like(mine[:, 0], told[:, 2]):
            raise Wrong("The logarithm comes last: two columns of direction first, then log(size) / 4.")
        if _like(mine[:, :2], -told[:, :2]):
            raise Wrong("The direction points the other way: it is error / size, without a minus.")
        raise Wrong(f"The first two columns should be the error over its size, {np.round(told[0, :2], 3).tolist()} in the first "
                    f"row; yours are {np.round(mine[0, :2], 3).tolist()}.")
    size = _size(e)
    if not _like(mine[:, 2], told[:, 2]):
        s = size[:, 0]
        for column, message in (
            (np.log10(s) / 4, "The third column is the natural logarithm of the size over 4; yours is the one to base 10."),
            (np.log2(s) / 4, "The third column is the natural logarithm of the size over 4; yours is the one to base 2."),
            (np.log1p(s) / 4, "log1p is log(1 + size), which is nearly 0 for every small error. Take the plain logarithm."),
            (np.log(s), "The logarithm is to be divided by 4, so that it is no larger than the latents that it is added to."),
            (np.log(s / 4), "The logarithm of size / 4 is another thing: divide the logarithm itself by 4."),
            (np.log(s) / 2, "That is the logarithm of the *squared* size over 4: the root is forgotten there."),
            (-np.log(s) / 4, "The sign of the logarithm: a small size has a negative one."),
            (s, "The third column is the *logarithm* of the size: a size of 0.001 should not look like 0."),
            (s / 4, "The third column is the *logarithm* of the size: a size of 0.001 should not look like 0."),
        ):
            if _like(mine[:, 2], column):
                raise Wrong(message)
        raise Wrong(f"The third column should be log(size) / 4, {told[0, 2]:.3f} in the first row, not {mine[0, 2]:.3f}.")
    if not _like(moved, correction):
        for value, message in (
            (d, "The correction is still what the decoder says: multiply it by the size."),
            (d / size, "Multiply by the size, do not divide: a small error asks for a small correction."),
            (size + d, "You add the size to what the decoder says; multiply the two."),
            (size**2 * d, "You multiply by the squared size; the size itself is in proportion."),
            (np.log(size) / 4 * d, "You multiply by the logarithm; the size itself is in proportion."),
            (-correction, "The sign: the decoder has learned which way to push; the size is positive."),
        ):
            if _like(moved, value):
                raise Wrong(message)
        raise Wrong("The correction should be the size times what the decoder says.")


def _check_gradient(given, error, e, d):
    """Raise `Wrong` unless the gradients of what is told and of the correction are finite, and right."""
    r = np.random.default_rng(4)
    weights = [r.normal(size=tuple(value.shape)) for value in given]
    slopes = []
    for value, w in zip(given, weights):
        weighed = (value * torch.tensor(w)).sum()
        slope = torch.autograd.grad(weighed, error, allow_unused=True, retain_graph=True)[0] if value.requires_grad else None
        slopes.append(np.zeros_like(e) if slope is None else slope.numpy())
    if not np.isfinite(slopes).all():
        raise Wrong("Right, but where the error is zero the gradient is NaN: a root has no slope there. Add 1e-12 *under* it.")

    def weighed(moved, size=_size):
        return [(value * w).sum() for value, w in zip(_wanted(moved, d, size), weights)]

    def close(slope, right):                                                   # row by row: they differ by many powers of ten
        return all(np.allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max()) for a, b in zip(slope, right))

    somewhere = np.abs(e).sum(axis=1) > 0
    free, held = _gradients(weighed, e), _gradients(lambda moved: weighed(moved, lambda _: _size(e)), e)
    for slope, right, without, what in zip(slopes, free, held, ("what is told", "the correction")):
        if close(slope[somewhere], right[somewhere]):
            continue
        if close(slope[somewhere], without[somewhere]):
            raise Wrong(f"The values are right, but in {what} the size is detached: its gradient is part of the answer. Nothing "
                        "here has to be held fixed.")
        raise Wrong(f"The values are right; the gradient of {what} is not (detach, item or numpy on the way?).")
