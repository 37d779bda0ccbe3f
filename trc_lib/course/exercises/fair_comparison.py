"""Checks of chapter 6: the rank test, Holm's correction, a detached reward."""

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
    same,
    several,
)

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


# ------------------------------------------------------------------ many tests at once

def _corrected(p, running=True, cap=True, factors=None, back=True):
    """Holm's correction, or what it gives without one of its parts."""
    p, count = np.asarray(p), len(p)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * (count - np.arange(count) if factors is None else factors)
    scaled = np.maximum.accumulate(scaled) if running else scaled
    scaled = np.minimum(scaled, 1.0) if cap else scaled
    if not back:
        return scaled
    result = np.empty(count)
    result[order] = scaled
    return result


@exercise
def holm(answer):
    """Check ``answer(p)``: p-values corrected for their number by Holm's rule, in their order."""
    for p in ([0.03, 0.001, 0.02], [0.04, 0.011, 0.012, 0.6], [0.2, 0.02, 0.021, 0.9, 0.001],
              [0.7, 0.02, 0.6]):
        count, right = len(p), _corrected(p)
        given = as_array(answer(list(p)), (count,), "the corrected p-values")
        by_benjamini = scipy.stats.false_discovery_control(p)
        judge(given, right, [
            (_corrected(p, factors=count), "That is Bonferroni's correction: every p times their "
             "number. Holm's multiplies only the smallest by it, the next by one less."),
            (_corrected(p, back=False),
             "The values are right, but sorted. Return them in the order of the p that came in."),
            (_corrected(p, running=False), "The order is lost: one comparison ends with a smaller "
             "value than another that had the smaller p. Take the running maximum."),
            (_corrected(p, cap=False), "A probability above 1: cut them at 1."),
            (_corrected(p, running=False, cap=False),
             "Take the running maximum, from the smallest p on, and cut at 1."),
            (_corrected(p, factors=1 + np.arange(count)),
             "The factors run the wrong way: the smallest p is multiplied by the largest factor."),
            (by_benjamini, "That is the correction of Benjamini and Hochberg, which bounds the "
             "share of false verdicts, not the chance of a single one."),
        ], f"For p = {p} the corrected ones are {np.round(right, 4).tolist()}; yours are "
           f"{np.round(given, 4).tolist()}.", 1e-9)
    return "with it, a family of true ties gives a false verdict at most once in twenty."


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
