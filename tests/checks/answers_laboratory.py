"""Answers to chapter 6's exercises: right ones, and those that learners plausibly give, with a word of what they are told."""

import itertools
import math

import scipy.stats
import torch

from trc_lib.checks import laboratory as checks

# ------------------------------------------------------------------ pairs_won

def pairs_won(a, b, extreme=lambda wins, ours, middle: abs(wins - middle) >= abs(ours - middle) - 1e-9, divide=True):
    def won(a, b):
        return sum(x < y for x in a for y in b)

    numbers, ours, middle = [*a, *b], won(a, b), len(a) * len(b) / 2
    deals = list(itertools.combinations(range(len(numbers)), len(a)))
    as_far = 0
    for deal in deals:
        rest = [numbers[i] for i in range(len(numbers)) if i not in deal]
        as_far += extreme(won([numbers[i] for i in deal], rest), ours, middle)
    return ours, as_far / len(deals) if divide else as_far


def by_scipy(a, b, **options):
    test = scipy.stats.mannwhitneyu(a, b, **{"method": "exact", "alternative": "two-sided"} | options)
    return len(a) * len(b) - test.statistic, test.pvalue


# ------------------------------------------------------------------ held_reward

def held_reward(J, w):
    before = J[:-1].detach()
    return J[-1] - w * ((before - J[1:]) / before).sum()


def held_by_loop(J, w):
    total = J[-1]
    for before, after in itertools.pairwise(J):
        total = total - w * (1 - after / before.item())
    return total


# ------------------------------------------------------------------ stop_when

def stop_when(errors, predicted_gain, threshold):
    used = (predicted_gain > threshold).cumprod(dim=0).sum(dim=0)
    return used, errors.gather(0, used[None])[0]


def stop_by_loop(errors, predicted_gain, threshold):
    used = []
    for gains in predicted_gain.T.tolist():
        used.append(0)
        for gain in gains:
            if gain <= threshold:
                break
            used[-1] += 1
    return torch.tensor(used), errors[torch.tensor(used), torch.arange(len(used))]


def stop(used, row="used"):
    """A stop_when in which ``used``, and the row that is read, are expressions."""
    def answer(errors, gain, threshold):
        names = {"torch": torch, "errors": errors, "gain": gain, "threshold": threshold, "H": len(gain)}
        names["used"] = eval(used, names)
        return names["used"], errors[eval(row, names), torch.arange(errors.shape[1])]
    return answer


GO_ON = "(gain > threshold).cumprod(dim=0).sum(dim=0)"


# ------------------------------------------------------------------ proportional

def proportional(size="(e.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()", direction="e / size", told="size.log() / 4",
                 correction="size * d"):
    """A proportional whose parts are expressions."""
    def answer(e, d):
        names = {"torch": torch, "e": e, "d": d}
        names["size"] = eval(size, names)
        return torch.cat([eval(direction, names), eval(told, names).expand(len(e), 1)], dim=1), eval(correction, names)
    return answer


RIGHT = [
    (checks.pairs_won, pairs_won),
    (checks.pairs_won, by_scipy),
    (checks.held_reward, held_reward),
    (checks.held_reward, held_by_loop),
    (checks.stop_when, stop_when),
    (checks.stop_when, stop_by_loop),
    (checks.proportional, proportional()),
    (checks.proportional, proportional(size="(e[:, :1] ** 2 + e[:, 1:] ** 2 + 1e-12) ** 0.5", correction="d * size")),
]

WRONG = [
    (checks.pairs_won, lambda a, b: pairs_won(b, a), "larger"),
    (checks.pairs_won, lambda a, b: (sum(x < y for x, y in zip(a, b)), 0.5), "not paired"),
    (checks.pairs_won, lambda a, b: (pairs_won(a, b)[0] / len(a) / len(b), 0.5), "share of the pairs"),
    (checks.pairs_won, lambda a, b: (0, 0.5), "pairs are won here"),
    (checks.pairs_won, lambda a, b: pairs_won(a, b, extreme=lambda wins, ours, middle: wins >= ours), "one-sided"),
    (checks.pairs_won, lambda a, b: by_scipy(a, b, alternative="less"), "one-sided"),
    (checks.pairs_won, lambda a, b: by_scipy(a, b, method="asymptotic"), "normal approximation"),
    (checks.pairs_won, lambda a, b: (by_scipy(a, b)[0], scipy.stats.ttest_ind(a, b).pvalue), "t-test"),
    (checks.pairs_won, lambda a, b: pairs_won(a, b, divide=False), "divide by the number of ways"),
    (checks.pairs_won, lambda a, b: pairs_won(a, b, extreme=lambda w, ours, m: abs(w - m) > abs(ours - m) + 1e-9),
     "at least as far"),
    (checks.pairs_won, lambda a, b: pairs_won(a, b)[0], "two things"),
    (checks.pairs_won, lambda a, b: ("all", 0.1), "should be a number"),
    (checks.held_reward, lambda J, w: J[-1] - w * ((J[:-1] - J[1:]) / J[:-1]).sum(), "nothing is held fixed"),
    (checks.held_reward, lambda J, w: J[-1] - w * ((J[:-1].detach() - J[1:]) / J[:-1]).sum(), "denominator's is not"),
    (checks.held_reward, lambda J, w: J[-1] - w * ((J[:-1] - J[1:]) / J[:-1].detach()).sum(), "numerator's is not"),
    (checks.held_reward, lambda J, w: held_reward(J.detach(), w), "no gradient at all"),
    (checks.held_reward, lambda J, w: J[-1].detach() - J[-1].detach() + held_reward(J, w) - J[-1] + J[-1].detach(),
     "its gradient should"),
    (checks.held_reward, lambda J, w: 2 * J[-1] - held_reward(J, w), "The sign"),
    (checks.held_reward, lambda J, w: J[-1] - w * (J[0].detach() - J[-1]), "from the first to the last"),
    (checks.held_reward, lambda J, w: J[-1] - w * (1 - J[-1] / J[0].detach()), "from the first to the last"),
    (checks.held_reward, lambda J, w: held_reward(J, w) - J[-1], "J[H], the error of the finished controls"),
    (checks.held_reward, lambda J, w: J[-1] - w * ((J[:-1].detach() - J[1:]) / J[1:]).sum(), "divide by the later error"),
    (checks.held_reward, lambda J, w: J[-1] - w * ((J[:-1].detach() - J[1:]) / J[:-1].detach()).mean(), "mean of the gains"),
    (checks.held_reward, lambda J, w: held_reward(J, 2 * w), "the objective is"),
    (checks.held_reward, lambda J, w: float(held_reward(J, w)), "as a tensor"),
    (checks.held_reward, lambda J, w: J, "one number"),
    (checks.stop_when, stop("(gain > threshold).sum(dim=0)"), "does not start again"),
    (checks.stop_when, stop(f"({GO_ON} + 1).clamp(max=H)"), "One cycle too many"),
    (checks.stop_when, stop("(gain >= threshold).cumprod(dim=0).sum(dim=0)"), "only equals the threshold"),
    (checks.stop_when, stop("(gain <= threshold).cumprod(dim=0).sum(dim=0)"), "other way round"),
    (checks.stop_when, stop("(gain <= threshold).int().argmax(dim=0)"), "argmax over nothing"),
    (checks.stop_when, stop("torch.full((gain.shape[1],), H)"), "threshold"),
    (checks.stop_when, stop(GO_ON, row="(used + 1).clamp(max=H)"), "one cycle later"),
    (checks.stop_when, stop(GO_ON, row="(used - 1).clamp(min=0)"), "one cycle earlier"),
    (checks.stop_when, stop(GO_ON, row="H"), "after the last cycle"),
    (checks.stop_when, stop(GO_ON, row="0"), "take row cycles"),
    (checks.stop_when, lambda *p: tuple(value.double().mean() for value in stop_when(*p)), "single number"),
    (checks.stop_when, lambda *p: stop_when(*p)[0], "two things"),
    (checks.stop_when, lambda errors, gain, t: stop_when(errors.T, gain.T, t), "has shape"),
    (checks.proportional, proportional(direction="e"), "still has the size"),
    (checks.proportional, proportional(size="e.abs()", told="e.abs()[:, :1].log() / 4", correction="d"),
     "not for each component"),
    (checks.proportional, proportional(size="(e.square().sum() + 1e-12).sqrt()", told="size.log()[None, None] / 4"),
     "whole batch"),
    (checks.proportional, proportional(size="e.abs().sum(dim=1, keepdim=True)"), "first two columns"),
    (checks.proportional, proportional(told="size.log10() / 4"), "base 10"),
    (checks.proportional, proportional(told="size.log()"), "divided by 4"),
    (checks.proportional, proportional(told="size"), "*logarithm*"),
    (checks.proportional, proportional(told="size.log() / 3"), "third column"),
    (checks.proportional, proportional(correction="d"), "multiply it by the size"),
    (checks.proportional, proportional(correction="d / size"), "do not divide"),
    (checks.proportional, proportional(correction="2 * size * d"), "size times"),
    (checks.proportional, proportional(size="e.norm(dim=1, keepdim=True)"), "NaN or infinity"),
    (checks.proportional, proportional(size="e.square().sum(dim=1, keepdim=True).sqrt() + 1e-12"), "*under*"),
    (checks.proportional, proportional(size="(e.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()"), "first two columns"),
    (checks.proportional, lambda e, d: proportional()(e, d)[0], "two things"),
]
assert math.isclose(by_scipy([1, 2, 3], [4, 5, 6])[1], 2 / math.comb(6, 3))  # what SciPy's exact test is
