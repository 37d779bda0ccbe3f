"""Checks of chapter 6: the rank test, a detached reward, stopping, a correction in proportion."""

import itertools
import math

import numpy as np
import scipy.stats
import torch

from trc_lib.course.exercises.check_result import (
    Wrong,
    as_array,
    as_number,
    exercise,
    judge,
    recognise,
    refuse,
    same,
    several,
)

CLOSE = 1e-5  # the tolerance where float32 is accepted

# ------------------------------------------------------------------ the rank test

def _sides():
    """Pairs of sequences a, b without ties; in the last, a wins exactly half of the pairs."""
    r = np.random.default_rng(3)
    yield r.normal(size=5), r.normal(size=5) + 0.8
    yield r.normal(size=4), r.normal(size=6) + 1.2
    yield -1 - r.random(3), r.random(3)
    yield r.normal(size=5) + 1.5, r.normal(size=4)
    yield np.array([1.0, 4.0, 5.0, 8.0]), np.array([2.0, 3.0, 6.0, 7.0])


def _p_mistakes(a, b, wins):
    """What plausible mistakes give for p, with their messages."""
    numbers, pairs = np.concatenate([a, b]), len(a) * len(b)
    groups = [np.isin(np.arange(len(numbers)), split)  # the first one is the split that we saw
              for split in itertools.combinations(range(len(numbers)), len(a))]
    ways = np.array([(numbers[side][:, None] < numbers[~side]).sum() for side in groups])
    apart = np.array([abs(numbers[side].mean() - numbers[~side].mean()) for side in groups])
    far, distance, count = np.abs(ways - pairs / 2), abs(wins - pairs / 2), len(ways)
    as_far, low, high = (far >= distance).sum(), (ways <= wins).mean(), (ways >= wins).mean()

    def p(test, *arguments, **options):
        return test(a, b, *arguments, **options).pvalue

    mistakes = [
        (low, high, 1 - low, 1 - high,
         "That is one-sided: as far from the middle in the other direction counts as well."),
        (2 * low, 2 * high, "That is one side's share, doubled, and above 1: "
         f"{'half of the pairs is on both sides' if distance == 0 else 'it is the wrong side'}. "
         "Count both sides at once, by their distance from the middle."),
        ((far > distance).mean(),
         "You count what is further away than this split; *at least* as far is meant: >=, not >."),
        ((far == distance).mean(),
         "You count what is exactly as far as this split; *at least* as far is meant: >=, not ==."),
        ((far <= distance).mean(),
         "You count the splits that are nearer to the middle; extreme ones are far from it."),
        (1 - as_far / count, "That is 1 − p: p is the share that is *at least* as extreme."),
        (as_far, f"That is above 1: divide by the number of ways to split, here {count}."),
        (as_far / 252, f"252 is for five against five; here there are {count} ways to split."),
        ((np.abs(ways - 12.5) >= abs(wins - 12.5)).mean(),
         f"12.5 is the middle of 25 pairs; here there are {pairs}."),
        ((as_far + 1) / (count + 1), (as_far - 1) / count, (as_far - 1) / (count - 1),
         "The split that we saw is one of the ways: add no 1, and subtract none."),
        ((apart >= apart[0] - 1e-12).mean(),
         "That compares the *means* of the two groups, split by split, not the pairs won."),
        (p(scipy.stats.mannwhitneyu, method="asymptotic"),
         p(scipy.stats.mannwhitneyu, method="asymptotic", use_continuity=False),
         "That is the normal approximation. With so few seeds count all ways to split."),
        (p(scipy.stats.ttest_ind), p(scipy.stats.ttest_ind, equal_var=False),
         "That is the t-test, which assumes normal errors. Count the ways to split instead."),
    ]
    if len(a) == len(b):
        mistakes.append((p(scipy.stats.wilcoxon), p(scipy.stats.ttest_rel),
                         "That is a test for *paired* numbers. Seeds are not paired: split them."))
    return mistakes


@exercise
def pairs_won(answer):
    """Check ``answer(a, b)``: the pairs that a wins, and the exact two-sided p of the rank test."""
    for a, b in _sides():
        given, p = several(answer(a.tolist(), b.tolist()), "wins", "p")
        given, p = as_number(given, "wins"), as_number(p, "p")
        wins, pairs = sum(x < y for x in a for y in b), len(a) * len(b)
        judge(given, wins, [
            (pairs - wins, "You count the pairs in which a is larger. Errors: smaller is better."),
            (sum(x < y for x, y in zip(a, b)),
             "Every seed of a meets every seed of b, not only that at the same place: not paired."),
            (wins / pairs,
             f"That is the share of the pairs. Return their number, here {wins} of {pairs}."),
            (scipy.stats.rankdata([*a, *b])[:len(a)].sum(),
             "That is the sum of a's ranks; return the number of pairs."),
            (wins - pairs / 2, "That is the number minus half of the pairs; return the number."),
            (2 * wins - pairs, "That is pairs won minus pairs lost; return those that are won."),
        ], f"{wins} of {pairs} pairs are won here; you count {given:g}.")
        right = scipy.stats.mannwhitneyu(a, b, method="exact", alternative="two-sided").pvalue
        if same(p, right, 1e-9):
            continue
        recognise(p, _p_mistakes(a, b, wins))
        where = f"p should be {right:.4f} here, with {wins} of {pairs} pairs; yours is {p:.4f}."
        if abs(p - right) < 0.05 * right:
            raise Wrong(f"{where} That is near, but not exact: is it rounded, or are the splits "
                        f"drawn at random? There are only {math.comb(len(a) + len(b), len(a))}: "
                        "take each once.")
        raise Wrong(f"{where} Split all numbers into two groups in every way, and count how many "
                    "ways are at least as far from half of the pairs.")
    return "with five seeds on each side, 25 of 25 pairs gives p = 2/252, the smallest p possible."


# ------------------------------------------------------------------ a reward with a detached error

def _objective(last, top, bottom, after, w):
    """J[H] - w * sum((top - after) / bottom), of four copies of J."""
    return last[-1] - w * ((top[:-1] - after[1:]) / bottom[:-1]).sum()


def _slope(J, w, moving):
    """The gradient of `_objective` by finite differences; only the ``moving`` copies change."""
    def moved(step):
        return _objective(*(J + step if name in moving.split() else J
                            for name in ("last", "top", "bottom", "after")), w)
    return np.array([(moved(step) - moved(-step)) / 2e-5 for step in 1e-5 * np.eye(len(J))])


STILL_HAS_A_SLOPE = ("The value is right; J[h-1] is detached in the {}, but not in the {}, so that "
                     "J[0] still has a gradient. Detach it in both places.")
DETACHED = [  # the copies of J that have a gradient, and the message
    ("last top bottom after", "The value is right, but nothing is detached: J[0] still has a "
                              "gradient, so a bad first proposal is rewarded. Use .detach()."),
    ("last bottom after", STILL_HAS_A_SLOPE.format("numerator", "denominator")),
    ("last top after", STILL_HAS_A_SLOPE.format("denominator", "numerator")),
    ("last", "The value is right, but all of the reward is detached, so it has no effect. Detach "
             "the earlier error, not the later one."),
    ("last top bottom", "The value is right; you detach the *later* error. It is the earlier one, "
                        "J[h-1], whose increase should not be rewarded."),
    ("after", "The value is right; J[H] itself is detached. Detach only the earlier errors."),
]


@exercise
def held_reward(answer):
    """Check ``answer(J, w)``: J[H] - w * sum(1 - J[h] / J[h-1]), the earlier errors detached."""
    for J, w in (([3.0, 1.0, 0.5, 0.2], 0.1), ([0.4, 0.8, 0.1], 0.5), ([2.0, 1.0], 0.3)):
        tensor = torch.tensor(J, dtype=torch.float64, requires_grad=True)
        given = answer(tensor, w)
        if not torch.is_tensor(given) or given.numel() != 1:
            raise Wrong("Return one number, as a tensor with a gradient.")
        J, value = np.array(J), given.item()
        before, after, last = J[:-1], J[1:], J[-1]
        gains = 1 - after / before
        right = _objective(J, J, J, J, w)
        judge(value, right, [
            (last + w * gains.sum(), "The sign: a reward is subtracted from what is minimised."),
            (last - w * (J[0] - last),
             "You reward plain differences: they telescope, and only the first and the last error "
             "are left. Divide each by the error at the start of its cycle, J[h-1]."),
            (last - w * (J[0] - last) / J[0],
             "That is the gain from the first to the last, over J[0]. Divide each cycle's gain by "
             "the error that *it* began with, J[h-1]."),
            (-w * gains.sum(), "J[H], the error of the finished controls, is missing."),
            (gains.sum(), "That is the reward alone; the objective is J[H] − w times the reward."),
            (last - gains.sum(), "The weight w is not used."),
            (w * (last - gains.sum()), "w multiplies the reward alone, not J[H] as well."),
            (last - w * ((before - after) / after).sum(),
             "You divide by the later error, J[h]; divide by the earlier one, J[h-1]."),
            (last - w * gains.mean(), "You take the mean of the gains; take their sum."),
            (last + w * (after / before).sum(), "The 1 in 1 − J[h] / J[h-1] is missing. It changes "
                                                "no gradient, but it changes the value."),
            (last - w * np.maximum(gains, 0).sum(),
             "You cut losses off at zero; a cycle that increases the error should be penalised."),
            (last - w * np.abs(gains).sum(),
             "You reward every change; a cycle that increases the error should be penalised."),
            (last - w * (gains.sum() + 1 - J[0] / last),
             "With h = 0, J[h-1] is J[-1], the last error: h counts from 1."),
            (last - w * gains[:-1].sum(),
             "The last cycle's gain is missing: h goes from 1 to H, and J has H + 1 entries."),
            (last - w * gains[1:].sum(), "The first cycle's gain is missing: h goes from 1 to H."),
        ], f"For J = {J.tolist()} and w = {w} the objective is {right:.4f}; yours is {value:.4f}.")
        slope = None
        if given.requires_grad:
            slope = torch.autograd.grad(given, tensor, allow_unused=True)[0]
        if slope is None:
            raise Wrong("The value is right, but it has no gradient at all: detach the earlier "
                        "errors, and nothing else.")
        slope, wanted = slope.numpy(), _slope(J, w, "last after")
        judge(slope, wanted, ((_slope(J, w, moving), message) for moving, message in DETACHED),
              f"The value is right; for J = {J.tolist()} and w = {w} its gradient should be "
              f"{np.round(wanted, 3).tolist()}, and is {np.round(slope, 3).tolist()}.", 1e-6)
    return "the gradient at the first proposal is zero, so a bad first proposal is not rewarded."


# ------------------------------------------------------------------ stopping

def _leading(go_on):
    """How many rows of go_on [H, n] are True before the first False, for each column."""
    return np.array([next((h for h, go in enumerate(column) if not go), len(column))
                     for column in go_on.T])


def _stop_mistakes(errors, gain, threshold, used):
    """The cycles that plausible mistakes give instead of ``used``, with their messages."""
    H, n = gain.shape
    go_on = gain > threshold
    again, own = "A problem that has stopped does not start again", "Each stops by its own gains."
    return [
        (go_on.sum(axis=0),
         f"You count every gain above the threshold. {again}: stop at the first that is not."),
        ((go_on * np.arange(1, H + 1)[:, None]).max(axis=0),
         f"You go on to the *last* cycle with a gain above the threshold. {again}."),
        (np.minimum(used + 1, H), used + 1,
         "One cycle too many: row h is predicted *before* cycle h + 1 is run, which it saves."),
        (np.maximum(used - 1, 0), used - 1,
         "One cycle too few: as long as the gains are above the threshold, cycles are run."),
        (_leading(gain >= threshold),
         "A gain that only equals the threshold is not above it: stop there."),
        (_leading(~go_on), "The other way round: go on while the gain is above the threshold."),
        (np.where(used == H, 0, used), "A problem whose gains are all above the threshold uses all "
                                       f"{H}, not 0 (argmax gives 0 if nothing is True)."),
        (np.cumprod(go_on, axis=1).sum(axis=0), "The product is along the problems, so one that "
                                                "stops ends the others. Use dim 0, the cycles."),
        (np.full(n, _leading(gain.mean(axis=1, keepdims=True) > threshold)),
         f"All stop together, where the *mean* gain is too small. {own}"),
        (np.full(n, min(used)), f"All stop with the first that stops. {own}"),
        (np.full(n, max(used)), f"All go on until the last one stops. {own}"),
        (_leading(errors[:-1] - errors[1:] > threshold),
         "You stop by the actual gain, known only once a cycle is run. Use the predicted gain."),
        (_leading(np.abs(gain) > threshold),
         "You take the absolute value of the gain; a negative one makes the error worse."),
        (_leading(errors[:-1] > threshold), "You compare the error, not the gain."),
        (errors.argmin(axis=0), "That is each problem's best cycle, known only once all are run."),
    ]


@exercise
def stop_when(answer):
    """Check ``answer(errors, predicted_gain, threshold)``: cycles used and errors at the stop."""
    r = np.random.default_rng(1)
    for H, n, threshold in ((4, 12, 0.1), (3, 9, 0.0), (5, 11, 0.2)):
        errors = r.uniform(0.1, 1, size=(H + 1, n))
        gain = r.choice([-0.3, 0.0, 0.1, 0.2, 0.5], size=(H, n))
        gain[:, 0], gain[:, 1] = 1.0, -1.0  # one never stops, one never starts
        gain[:, 2] = [1.0, -1.0] + [1.0] * (H - 2)  # a high gain after the stop
        used, columns = _leading(gain > threshold), np.arange(n)
        cycles, error = several(answer(torch.tensor(errors), torch.tensor(gain), threshold),
                                "cycles used", "error at the stop")
        single = f"Return one number for each problem, [{n}], not a single number."
        mine = as_array(cycles, (n,), "cycles used", {
            (): single,
            (H,): f"The wrong axis: return one number for each of the {n} problems, not for each "
                  f"of the {H} cycles. Go along the rows, dim 0.",
            (H, n): f"You return which cycles are run, [{H}, {n}]; return how many, [{n}].",
        })
        error = as_array(error, (n,), "error at the stop", {
            (): single,
            (n, n): "errors[cycles] takes whole rows: take row cycles[i] of column i alone.",
        })
        i = int(np.argmax(mine != used))
        judge(mine, used, _stop_mistakes(errors, gain, threshold, used),
              f"Predicted gains {gain[:, i].tolist()}, threshold {threshold}: {used[i]} cycles; "
              f"you say {mine[i]:g}.")
        kind = str(cycles.dtype if torch.is_tensor(cycles) else np.asarray(cycles).dtype)
        if kind not in ("int64", "torch.int64"):
            raise Wrong(f"The numbers are right, their type is not: int64, not {kind}.")
        judge(error, errors[used, columns], [
            (errors[np.minimum(used + 1, H), columns],
             "that of one cycle later. Row k of errors is after k cycles."),
            (errors[np.maximum(used - 1, 0), columns], errors[used - 1, columns],
             "that of one cycle earlier. Row k of errors is after k cycles."),
            (errors[-1], "that after the last cycle, for all problems."),
            (errors[0], "that of the first proposal, for all problems."),
            (errors.min(axis=0), "each problem's smallest, wherever it stopped."),
            ([errors[:k + 1, i].min() for i, k in enumerate(used)],
             "the smallest so far. Return that of the cycle it stopped at."),
            (np.full(n, errors[used, columns].mean()), errors[used].mean(axis=1),
             "a mean over the problems. Each has its own."),
        ], "wrong: take row cycles[i] of column i.", CLOSE, "The cycles are right; the error is ")
    return "a problem that has stopped stays stopped: by cumprod, or by a loop with a break."


# ------------------------------------------------------------------ a correction in proportion

TINY = 1e-12


def _size(e):
    """The size of each error, [n, 1]."""
    return np.sqrt((e**2).sum(axis=1, keepdims=True) + TINY)


def _parts(e, decoded, size=_size):
    """direction [n, 2], log-size [n, 1] and correction [n, N]."""
    s = size(e)
    return e / s, np.log(s) / 4, s * decoded


@exercise
def proportional(answer):
    """Check ``answer(error, decoded)``: the signal [n, 3] and the correction [n, N]."""
    r = np.random.default_rng(2)
    ordinary = r.normal(size=(6, 2)) * 10.0 ** r.uniform(-2, 0, size=(6, 1))
    tiny = r.normal(size=(5, 2)) * 10.0 ** r.uniform(-7, -5, size=(5, 1))
    zero = np.array([[0.3, -0.4], [0.0, 0.0], [-2e-3, 1e-3], [0.0, 0.0]])
    for e, N, check in ((ordinary, 15, _check_values), (r.normal(size=(4, 2)), 5, _check_values),
                        (zero, 7, _check_gradient), (tiny, 4, _check_values),
                        (zero, 8, _check_at_zero)):
        n, d = len(e), r.normal(size=(len(e), N))
        error = torch.tensor(e, requires_grad=True)
        given = several(answer(error, torch.tensor(d)), "the signal", "the correction")
        refuse((not all(torch.is_tensor(value) for value in given),
                "Return tensors: training sends its gradient back through both of them."))
        refuse((e is zero and not all(torch.isfinite(value).all() for value in given),
                "Right, but not where the error is exactly zero: there it gives NaN or infinity "
                "(0 / 0, log 0). Add 1e-12 *under* the root."))
        as_array(given[0], (n, 3), "The signal", {
            (n, N): "The two are swapped: first the signal, then the correction.",
            (n, 2): "The signal has two columns; the logarithm of the size, over 4, is the third.",
        })
        as_array(given[1], (n, N), "The correction")
        check(given, error, d)
    return "at zero error the correction is zero: controls that arrive are not changed."


def _check_at_zero(given, error, d):
    signal, correction, e = (value.detach().numpy() for value in (*given, error))
    direction, log_size, _ = _parts(e, d)
    if not (same(signal, np.hstack([direction, log_size]), CLOSE)
            and same(correction / _size(e), d, CLOSE)):
        raise Wrong("Where the error is exactly zero, the size is the root of 1e-12, the direction "
                    f"0, and the third column {math.log(1e-6) / 4:.2f}; your answer treats it as a "
                    "separate case.")


def _check_values(given, error, d):
    signal, correction, e = (value.detach().numpy() for value in (*given, error))
    direction, log_size, _ = _parts(e, d)
    size, norm, mine = _size(e), np.sqrt((e**2).sum(axis=1, keepdims=True)), signal[:, :2]
    if not same(mine, direction, CLOSE):
        components = "the size is the root of the sum of squares."
        recognise(mine, [(e / wrong, message) for wrong, message in (
            (np.ones_like(norm), "The direction still has the size of the error: divide by it."),
            (np.abs(e), "One size a problem, not for each component: the length of its row."),
            (np.sqrt((e**2).sum()),
             "That is one size for the whole batch: sum over the components alone."),
            (np.sqrt((e**2).sum(axis=0)),
             "The wrong axis: sum over the two components of each problem, dim 1."),
            (norm**2, "The root is forgotten: the size is a length, not its square."),
            (norm / math.sqrt(2), f"You take the mean of the two squares; {components}"),
            (np.abs(e).sum(axis=1, keepdims=True), f"You add the absolute values; {components}"),
            (np.abs(e).max(axis=1, keepdims=True), f"That is the larger component; {components}"),
            (1 / norm, "You multiply by the size; the direction is the error divided by it."),
            (np.maximum(norm, 1e-6), "You cut the size off from below, so that it has no gradient "
                                     "for small errors; 1e-12 under the root is smooth."),
        )], CLOSE)
        _explain_tiny(mine, e, norm)
        recognise(signal, [
            (np.hstack([log_size, direction]), "The logarithm comes last, the direction first."),
            (np.hstack([-direction, signal[:, 2:]]),
             "The direction points the other way: it is error / size, without a minus."),
        ], CLOSE)
        raise Wrong("The first two columns should be the error over its size, "
                    f"{np.round(direction[0], 3).tolist()} in the first row; yours are "
                    f"{np.round(mine[0], 3).tolist()}.")
    judge(signal[:, 2:], log_size, [
        (np.log10(size) / 4, "The third column has the natural logarithm; yours is to base 10."),
        (np.log2(size) / 4, "The third column has the natural logarithm; yours is to base 2."),
        (np.log1p(size) / 4,
         "log1p is log(1 + size), which is nearly 0 for small errors. Take the plain logarithm."),
        (np.log(size), "The logarithm is divided by 4, to be no larger than the latents."),
        (np.log(size / 4), "That is the logarithm of size / 4: divide the logarithm itself by 4."),
        (np.log(size) / 2, "That is the logarithm of the *squared* size: its root is forgotten."),
        (-log_size, "The sign of the logarithm: a small size has a negative one."),
        (size, size / 4, "The third column is the *logarithm* of the size: it tells 0.001 from 0."),
    ], f"The third column should be log(size) / 4, {log_size[0, 0]:.3f} in the first row, not "
       f"{signal[0, 2]:.3f}.", CLOSE)
    judge(correction / size, d, [
        (d / size, "The correction is still the decoder's output: multiply it by the size."),
        (d / size**2, "Multiply by the size, do not divide: small errors need small corrections."),
        (1 + d / size, "You add the size to the decoder's output; multiply the two."),
        (size * d, "You multiply by the squared size; multiply by the size."),
        (log_size / size * d, "You multiply by the logarithm; multiply by the size."),
        (-d, "The sign: the correction is plus the size times the decoder's output."),
    ], "The correction should be the size times the decoder's output.", CLOSE)


def _explain_tiny(direction, e, norm):
    """Raise `Wrong` if the direction is e over a size with another small number than 1e-12."""
    lengths = np.sqrt((direction**2).sum(axis=1, keepdims=True))
    if (lengths == 0).any() or not same(direction / lengths, e / norm, CLOSE):
        return
    size = norm / lengths
    for added, where in ((size - norm, "outside the root"), (size**2 - norm**2, "under the root")):
        if added.min() > 0 and np.ptp(added) < 1e-3 * added.max():
            raise Wrong(f"You add {added.mean():.1g} {where}; add 1e-12 *under* it.")
    if np.allclose(size, norm, rtol=1e-9):
        raise Wrong("The size has no 1e-12 *under* its root: it matters for the smallest errors.")


def _differences(function, e):
    """The gradients of two functionals of e by finite differences, [2, n, 2]."""
    slopes = np.zeros((2, *e.shape))
    for i, j in np.ndindex(e.shape):
        step = np.zeros_like(e)
        step[i, j] = 1e-4 * _size(e)[i, 0]
        slopes[:, i, j] = (function(e + step) - function(e - step)) / (2 * step[i, j])
    return slopes


def _check_gradient(given, error, d):
    r, e = np.random.default_rng(4), error.detach().numpy()
    weights = [r.normal(size=tuple(value.shape)) for value in given]
    slopes = []
    for value, w in zip(given, weights):
        slope = None
        if value.requires_grad:
            slope = torch.autograd.grad((value * torch.tensor(w)).sum(), error, allow_unused=True,
                                        retain_graph=True)[0]
        slopes.append(np.zeros_like(e) if slope is None else slope.numpy())
    if not np.isfinite(slopes).all():
        raise Wrong("Right, but where the error is zero the gradient is NaN: a root has no slope "
                    "there. Add 1e-12 *under* it.")

    def weighed(moved, size=_size):
        direction, log_size, correction = _parts(moved, d, size)
        values = np.hstack([direction, log_size]), correction
        return np.array([(value * w).sum() for value, w in zip(values, weights)])

    somewhere = np.abs(e).sum(axis=1) > 0

    def close(slope, right):  # row by row, whose sizes differ by powers of ten
        return all(np.allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())
                   for a, b in zip(slope[somewhere], right[somewhere]))

    free = _differences(weighed, e)
    held = _differences(lambda moved: weighed(moved, lambda _: _size(e)), e)
    for slope, right, without, what in zip(slopes, free, held, ("the signal", "the correction")):
        if close(slope, right):
            continue
        if close(slope, without):
            raise Wrong(f"The values are right, but in {what} the size is detached: its gradient "
                        "is part of the answer. Detach nothing here.")
        raise Wrong(f"The values are right; the gradient of {what} is not (detach, item or numpy "
                    "on the way?).")
