"""Answers to chapter 6's exercises: right ones, and wrong ones with a part of the message."""

import itertools
import math

import scipy.stats

from trc_lib.course.exercises import fair_comparison as checks

# ------------------------------------------------------------------ pairs_won

def at_least_as_far(wins, ours, middle):
    return abs(wins - middle) >= abs(ours - middle) - 1e-9


def pairs_won(a, b, extreme=at_least_as_far, divide=True):
    def won(a, b):
        return sum(x < y for x in a for y in b)

    numbers, ours, middle = [*a, *b], won(a, b), len(a) * len(b) / 2
    splits = list(itertools.combinations(range(len(numbers)), len(a)))
    as_far = 0
    for split in splits:
        rest = [numbers[i] for i in range(len(numbers)) if i not in split]
        as_far += extreme(won([numbers[i] for i in split], rest), ours, middle)
    return ours, as_far / len(splits) if divide else as_far


def by_scipy(a, b, **options):
    options = {"method": "exact", "alternative": "two-sided"} | options
    test = scipy.stats.mannwhitneyu(a, b, **options)
    return len(a) * len(b) - test.statistic, test.pvalue


def doubled(*sides):
    """A pairs_won whose p is twice the share on one side, the smallest of those that are named."""
    def answer(a, b):
        return by_scipy(a, b)[0], 2 * min(by_scipy(a, b, alternative=side)[1] for side in sides)
    return answer


def by_means(a, b):
    def apart(x, y, axis):
        return abs(x.mean(axis=axis) - y.mean(axis=axis))

    test = scipy.stats.permutation_test((a, b), apart, alternative="greater", n_resamples=10_000)
    return by_scipy(a, b)[0], test.pvalue


# ------------------------------------------------------------------ holm

def holm(p):
    result = [0.0] * len(p)
    for i, mine in enumerate(p):
        result[i] = min(1.0, max(other * sum(each >= other for each in p)
                                 for other in p if other <= mine))
    return result


def step_down(p, factor=lambda count, rank: count - rank, running=True, cap=1.0, ordered=True):
    order, largest, result = sorted(range(len(p)), key=p.__getitem__), 0.0, {}
    for rank, i in enumerate(order):
        scaled = p[i] * factor(len(p), rank)
        largest = max(largest, scaled) if running else scaled
        result[i] = min(largest, cap)
    return [result[i] for i in (range(len(p)) if ordered else order)]


# ------------------------------------------------------------------ held_reward

def held_reward(J, w):
    before = J[:-1].detach()
    return J[-1] - w * ((before - J[1:]) / before).sum()


def held_by_loop(J, w):
    total = J[-1]
    for before, after in itertools.pairwise(J):
        total = total - w * (1 - after / before.item())
    return total


RIGHT = {
    checks.pairs_won: [pairs_won, by_scipy],
    checks.holm: [holm, step_down],
    checks.held_reward: [held_reward, held_by_loop],
}

WRONG = {
    checks.holm: [
        (lambda p: [min(1.0, each * len(p)) for each in p], "Bonferroni"),
        (lambda p: step_down(p, ordered=False), "sorted"),
        (lambda p: step_down(p, running=False), "running maximum"),
        (lambda p: step_down(p, cap=9.0), "above 1"),
        (lambda p: step_down(p, running=False, cap=9.0), "running maximum"),
        (lambda p: step_down(p, factor=lambda count, rank: rank + 1), "wrong way"),
        (scipy.stats.false_discovery_control, "Benjamini"),
        (lambda p: p, "corrected ones are"),
        (lambda p: p[:1], "shape"),
    ],
    checks.pairs_won: [
        (lambda a, b: pairs_won(b, a), "larger"),
        (lambda a, b: (sum(x < y for x, y in zip(a, b)), 0.5), "not paired"),
        (lambda a, b: (pairs_won(a, b)[0] / len(a) / len(b), 0.5), "share of the pairs"),
        (lambda a, b: (scipy.stats.rankdata([*a, *b])[:len(a)].sum(), 0.5), "sum of a's ranks"),
        (lambda a, b: (0, 0.5), "pairs are won here"),
        (lambda a, b: pairs_won(a, b, extreme=lambda wins, ours, middle: wins >= ours),
         "one-sided"),
        (lambda a, b: by_scipy(a, b, alternative="less"), "one-sided"),
        (lambda a, b: by_scipy(a, b, alternative="greater"), "one-sided"),
        (doubled("less"), "wrong side"),
        (doubled("less", "greater"), "on both sides"),
        (lambda a, b: by_scipy(a, b, method="asymptotic"), "normal approximation"),
        (lambda a, b: (by_scipy(a, b)[0], scipy.stats.ttest_ind(a, b).pvalue), "t-test"),
        (lambda a, b: (by_scipy(a, b)[0], scipy.stats.wilcoxon(a, b).pvalue), "*paired*"),
        (by_means, "compares the *means*"),
        (lambda a, b: pairs_won(a, b, divide=False), "divide by the number of ways"),
        (lambda a, b: (pairs_won(a, b)[0], pairs_won(a, b, divide=False)[1] / 252),
         "five against five"),
        (lambda a, b: pairs_won(a, b, extreme=lambda w, ours, m: abs(w - 12.5) >= abs(ours - 12.5)),
         "middle of 25"),
        (lambda a, b: pairs_won(a, b, extreme=lambda w, ours, m: abs(w - m) > abs(ours - m) + 1e-9),
         ">=, not >"),
        (lambda a, b: pairs_won(a, b, extreme=lambda w, ours, m: abs(w - m) == abs(ours - m)),
         ">=, not =="),
        (lambda a, b: pairs_won(a, b, extreme=lambda w, ours, m: abs(w - m) <= abs(ours - m)),
         "nearer to the middle"),
        (lambda a, b: (pairs_won(a, b)[0], 1 - pairs_won(a, b)[1]), "1 − p"),
        (lambda a, b: (pairs_won(a, b)[0], round(pairs_won(a, b)[1], 3)), "near, but not exact"),
        (lambda a, b: (pairs_won(a, b)[0], 1e-9), "Split all numbers"),
        (lambda a, b: pairs_won(a, b)[0], "two things"),
        (lambda a, b: ("all", 0.1), "should be a number"),
    ],
    checks.held_reward: [
        (lambda J, w: J[-1] - w * ((J[:-1] - J[1:]) / J[:-1]).sum(), "nothing is detached"),
        (lambda J, w: J[-1] - w * ((J[:-1].detach() - J[1:]) / J[:-1]).sum(),
         "not in the denominator"),
        (lambda J, w: J[-1] - w * ((J[:-1] - J[1:]) / J[:-1].detach()).sum(),
         "not in the numerator"),
        (lambda J, w: held_reward(J.detach(), w), "no gradient at all"),
        (lambda J, w: J[-1] - w * ((J[:-1] - J[1:]) / J[:-1]).sum().detach(),
         "all of the reward is detached"),
        (lambda J, w: J[-1] - w * ((J[:-1] - J[1:].detach()) / J[:-1]).sum(), "*later*"),
        (lambda J, w: held_reward(J, w) - J[-1] + J[-1].detach(), "J[H] itself is detached"),
        (lambda J, w: held_reward(J, w) + J[0] - J[0].detach(), "its gradient should"),
        (lambda J, w: 2 * J[-1] - held_reward(J, w), "The sign"),
        (lambda J, w: J[-1] + w * ((J[:-1] - J[1:]) / J[:-1]).sum(), "The sign"),
        (lambda J, w: J[-1] - w * (J[0].detach() - J[-1]), "telescope"),
        (lambda J, w: J[-1] - w * (J[:-1].detach() - J[1:]).sum(), "telescope"),
        (lambda J, w: J[-1] - w * (1 - J[-1] / J[0].detach()), "from the first to the last"),
        (lambda J, w: held_reward(J, w) - J[-1], "J[H], the error of the finished controls"),
        (lambda J, w: w * held_reward(J, 1), "not J[H] as well"),
        (lambda J, w: held_reward(J, 1), "w is not used"),
        (lambda J, w: J[-1] - w * ((J[:-1].detach() - J[1:]) / J[1:]).sum(),
         "divide by the later error"),
        (lambda J, w: J[-1] - w * ((J[:-1].detach() - J[1:]) / J[:-1].detach()).mean(),
         "mean of the gains"),
        (lambda J, w: J[-1] + w * (J[1:] / J[:-1].detach()).sum(), "The 1 in"),
        (lambda J, w: J[-1] - w * (1 - J[1:] / J[:-1].detach()).clamp(min=0).sum(),
         "cut losses off"),
        (lambda J, w: J[-1] - w * sum(1 - J[h] / J[h - 1].detach() for h in range(len(J))),
         "h counts from 1"),
        (lambda J, w: J[-1] - w * sum(1 - J[h] / J[h - 1].detach() for h in range(1, len(J) - 1)),
         "last cycle's gain"),
        (lambda J, w: held_reward(J, 2 * w), "the objective is"),
        (lambda J, w: held_reward(J, w).item(), "as a tensor"),
        (lambda J, w: J, "one number"),
    ],
}
assert math.isclose(by_scipy([1, 2, 3], [4, 5, 6])[1], 2 / math.comb(6, 3))  # SciPy's test is exact
