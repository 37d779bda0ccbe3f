"""Answers to chapter 6's exercises: right ones, and those that learners plausibly give, with a word of what they are told."""

import itertools
import math

import scipy.stats
import torch

from trc_lib.course.exercises import recursion as checks

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


def doubled(*sides):
    """A pairs_won whose p is twice the share on one side, the smaller of those that are named."""
    def answer(a, b):
        return by_scipy(a, b)[0], 2 * min(by_scipy(a, b, alternative=side)[1] for side in sides)
    return answer


def by_means(a, b):
    def apart(x, y, axis):
        return abs(x.mean(axis=axis) - y.mean(axis=axis))

    return by_scipy(a, b)[0], scipy.stats.permutation_test((a, b), apart, alternative="greater", n_resamples=10_000).pvalue


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
    (checks.pairs_won, lambda a, b: (scipy.stats.rankdata([*a, *b])[:len(a)].sum(), 0.5), "sum of a's ranks"),
    (checks.pairs_won, lambda a, b: (0, 0.5), "pairs are won here"),
    (checks.pairs_won, lambda a, b: pairs_won(a, b, extreme=lambda wins, ours, middle: wins >= ours), "one-sided"),
    (checks.pairs_won, lambda a, b: by_scipy(a, b, alternative="less"), "one-sided"),
    (checks.pairs_won, lambda a, b: by_scipy(a, b, alternative="greater"), "one-sided"),
    (checks.pairs_won, doubled("less"), "wrong side"),
    (checks.pairs_won, doubled("less", "greater"), "on both sides"),
    (checks.pairs_won, lambda a, b: by_scipy(a, b, method="asymptotic"), "normal approximation"),
    (checks.pairs_won, lambda a, b: (by_scipy(a, b)[0], scipy.stats.ttest_ind(a, b).pvalue), "t-test"),
    (checks.pairs_won, lambda a, b: (by_scipy(a, b)[0], scipy.stats.wilcoxon(a, b).pvalue), "*paired*"),
    (checks.pairs_won, by_means, "compares the *means*"),
    (checks.pairs_won, lambda a, b: pairs_won(a, b, divide=False), "divide by the number of ways"),
    (checks.pairs_won, lambda a, b: (pairs_won(a, b)[0], pairs_won(a, b, divide=False)[1] / 252), "five against five"),
    (checks.pairs_won, lambda a, b: pairs_won(a, b, extreme=lambda w, ours, m: abs(w - 12.5) >= abs(ours - 12.5)),
     "middle of 25"),
    (checks.pairs_won, lambda a, b: pairs_won(a, b, extreme=lambda w, ours, m: abs(w - m) > abs(ours - m) + 1e-9), ">=, not >"),
    (checks.pairs_won, lambda a, b: pairs_won(a, b, extreme=lambda w, ours, m: abs(w - m) == abs(ours - m)), ">=, not =="),
    (checks.pairs_won, lambda a, b: pairs_won(a, b, extreme=lambda w, ours, m: abs(w - m) <= abs(ours - m)),
     "nearer to the middle"),
    (checks.pairs_won, lambda a, b: (pairs_won(a, b)[0], 1 - pairs_won(a, b)[1]), "1 − p"),
    (checks.pairs_won, lambda a, b: (pairs_won(a, b)[0], round(pairs_won(a, b)[1], 3)), "near, but not exact"),
    (checks.pairs_won, lambda a, b: (pairs_won(a, b)[0], 1e-9), "Deal all numbers"),
    (checks.pairs_won, lambda a, b: pairs_won(a, b)[0], "two things"),
    (checks.pairs_won, lambda a, b: ("all", 0.1), "should be a number"),
    (checks.held_reward, lambda J, w: J[-1] - w * ((J[:-1] - J[1:]) / J[:-1]).sum(), "nothing is held fixed"),
    (checks.held_reward, lambda J, w: J[-1] - w * ((J[:-1].detach() - J[1:]) / J[:-1]).sum(), "the denominator's is not"),
    (checks.held_reward, lambda J, w: J[-1] - w * ((J[:-1] - J[1:]) / J[:-1].detach()).sum(), "the numerator's is not"),
    (checks.held_reward, lambda J, w: held_reward(J.detach(), w), "no gradient at all"),
    (checks.held_reward, lambda J, w: J[-1] - w * ((J[:-1] - J[1:]) / J[:-1]).sum().detach(), "all of the reward is detached"),
    (checks.held_reward, lambda J, w: J[-1] - w * ((J[:-1] - J[1:].detach()) / J[:-1]).sum(), "*later*"),
    (checks.held_reward, lambda J, w: held_reward(J, w) - J[-1] + J[-1].detach(), "J[H] itself is detached"),
    (checks.held_reward, lambda J, w: held_reward(J, w) + J[0] - J[0].detach(), "its gradient should"),
    (checks.held_reward, lambda J, w: 2 * J[-1] - held_reward(J, w), "The sign"),
    (checks.held_reward, lambda J, w: J[-1] + w * ((J[:-1] - J[1:]) / J[:-1]).sum(), "The sign"),
    (checks.held_reward, lambda J, w: J[-1] - w * (J[0].detach() - J[-1]), "telescope"),
    (checks.held_reward, lambda J, w: J[-1] - w * (J[:-1].detach() - J[1:]).sum(), "telescope"),
    (checks.held_reward, lambda J, w: J[-1] - w * (1 - J[-1] / J[0].detach()), "from the first to the last"),
    (checks.held_reward, lambda J, w: held_reward(J, w) - J[-1], "J[H], the error of the finished controls"),
    (checks.held_reward, lambda J, w: w * held_reward(J, 1), "not J[H] as well"),
    (checks.held_reward, lambda J, w: held_reward(J, 1), "w is not used"),
    (checks.held_reward, lambda J, w: J[-1] - w * ((J[:-1].detach() - J[1:]) / J[1:]).sum(), "divide by the later error"),
    (checks.held_reward, lambda J, w: J[-1] - w * ((J[:-1].detach() - J[1:]) / J[:-1].detach()).mean(), "mean of the gains"),
    (checks.held_reward, lambda J, w: J[-1] + w * (J[1:] / J[:-1].detach()).sum(), "The 1 in"),
    (checks.held_reward, lambda J, w: J[-1] - w * (1 - J[1:] / J[:-1].detach()).clamp(min=0).sum(), "cut losses off"),
    (checks.held_reward, lambda J, w: J[-1] - w * sum(1 - J[h] / J[h - 1].detach() for h in range(len(J))), "h counts from 1"),
    (checks.held_reward, lambda J, w: J[-1] - w * sum(1 - J[h] / J[h - 1].detach() for h in range(1, len(J) - 1)),
     "last cycle's gain"),
    (checks.held_reward, lambda J, w: held_reward(J, 2 * w), "the objective is"),
    (checks.held_reward, lambda J, w: held_reward(J, w).item(), "as a tensor"),
    (checks.held_reward, lambda J, w: J, "one number"),
    (checks.stop_when, stop("(gain > threshold).sum(dim=0)"), "does not start again"),
    (checks.stop_when, stop("((gain > threshold) * torch.arange(1, H + 1)[:, None]).max(dim=0).values"), "*last* cycle"),
    (checks.stop_when, stop(f"({GO_ON} + 1).clamp(max=H)"), "One cycle too many"),
    (checks.stop_when, stop(f"({GO_ON} - 1).clamp(min=0)"), "One cycle too few"),
    (checks.stop_when, stop("(gain >= threshold).cumprod(dim=0).sum(dim=0)"), "only equals the threshold"),
    (checks.stop_when, stop("(gain <= threshold).cumprod(dim=0).sum(dim=0)"), "other way round"),
    (checks.stop_when, stop("(gain <= threshold).int().argmax(dim=0)"), "argmax over nothing"),
    (checks.stop_when, stop("(gain.mean(dim=1) > threshold).int().cumprod(dim=0).sum().expand(gain.shape[1])"), "*mean* gain"),
    (checks.stop_when, stop(f"{GO_ON}.max().expand(gain.shape[1])"), "until the last one stops"),
    (checks.stop_when, stop("(gain > threshold).cumprod(dim=1).sum(dim=0)"), "along the problems"),
    (checks.stop_when, stop("torch.full((gain.shape[1],), H)"), "last one stops"),
    (checks.stop_when, stop("(errors[:-1] - errors[1:] > threshold).cumprod(dim=0).sum(dim=0)"), "really brings"),
    (checks.stop_when, stop("(gain.abs() > threshold).cumprod(dim=0).sum(dim=0)"), "size of the gain alone"),
    (checks.stop_when, stop("errors.argmin(dim=0)"), "best cycle"),
    (checks.stop_when, stop("(gain > 2 * threshold + 0.1).cumprod(dim=0).sum(dim=0)"), "Predicted gains"),
    (checks.stop_when, stop(GO_ON, row="(used + 1).clamp(max=H)"), "one cycle later"),
    (checks.stop_when, stop(GO_ON, row="(used - 1).clamp(min=0)"), "one cycle earlier"),
    (checks.stop_when, stop(GO_ON, row="used - 1"), "one cycle earlier"),
    (checks.stop_when, stop(GO_ON, row="H"), "after the last cycle"),
    (checks.stop_when, stop(GO_ON, row="0"), "of the first proposal"),
    (checks.stop_when, lambda errors, gain, t: (stop_when(errors, gain, t)[0], errors.min(dim=0).values), "smallest, wherever"),
    (checks.stop_when, lambda errors, gain, t: (stop_when(errors, gain, t)[0], -errors[0]), "take row cycles"),
    (checks.stop_when, lambda errors, gain, t: (stop_when(errors, gain, t)[0], errors[stop_when(errors, gain, t)[0]]),
     "whole rows"),
    (checks.stop_when, lambda *p: (stop_when(*p)[0].double(), stop_when(*p)[1]), "int64"),
    (checks.stop_when, lambda *p: tuple(value.double().mean() for value in stop_when(*p)), "single number"),
    (checks.stop_when, lambda *p: stop_when(*p)[0], "two things"),
    (checks.stop_when, lambda errors, gain, t: stop_when(errors.T, gain.T, t), "wrong axis"),
    (checks.stop_when, lambda errors, gain, t: ((gain > t).cumprod(dim=0), errors[0]), "which cycles are run"),
    (checks.proportional, proportional(direction="e"), "still has the size"),
    (checks.proportional, proportional(size="e.abs()", told="e.abs()[:, :1].log() / 4", correction="d"),
     "not for each component"),
    (checks.proportional, proportional(size="(e.square().sum() + 1e-12).sqrt()", told="size.log()[None, None] / 4"),
     "whole batch"),
    (checks.proportional, proportional(size="(e.square().sum(dim=0) + 1e-12).sqrt()", told="size[:1].log() / 4",
                                       correction="size[:1] * d"), "wrong axis"),
    (checks.proportional, proportional(size="e.square().sum(dim=1, keepdim=True) + 1e-12"), "root is forgotten"),
    (checks.proportional, proportional(size="(e.square().mean(dim=1, keepdim=True) + 1e-12).sqrt()"), "mean of the two squares"),
    (checks.proportional, proportional(size="e.abs().sum(dim=1, keepdim=True)"), "absolute values"),
    (checks.proportional, proportional(direction="-e / size"), "other way"),
    (checks.proportional, proportional(direction="(e / size).flip(1)"), "first two columns"),
    (checks.proportional, proportional(told="size.log10() / 4"), "base 10"),
    (checks.proportional, proportional(told="size.log()"), "divided by 4"),
    (checks.proportional, proportional(told="(size / 4).log()"), "divide the logarithm itself"),
    (checks.proportional, proportional(told="size.log1p() / 4"), "log1p"),
    (checks.proportional, proportional(told="size"), "*logarithm*"),
    (checks.proportional, proportional(told="size.log() / 3"), "third column"),
    (checks.proportional, proportional(correction="d"), "multiply it by the size"),
    (checks.proportional, proportional(correction="d / size"), "do not divide"),
    (checks.proportional, proportional(correction="d + size"), "multiply the two"),
    (checks.proportional, proportional(correction="2 * size * d"), "size times"),
    (checks.proportional, proportional(size="e.norm(dim=1, keepdim=True)"), "NaN or infinity"),
    (checks.proportional, proportional(size="e.square().sum(dim=1, keepdim=True).sqrt() + 1e-12"), "gradient is NaN"),
    (checks.proportional, proportional(direction="torch.where(size > 1e-5, e / e.norm(dim=1, keepdim=True), 0)"),
     "gradient is NaN"),
    (checks.proportional, proportional(size="e.norm(dim=1, keepdim=True) + 1e-12"), "outside the root"),
    (checks.proportional, proportional(size="e.norm(dim=1, keepdim=True) + 1e-6"), "outside the root"),
    (checks.proportional, proportional(size="(e.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()"), "1e-10 under the root"),
    (checks.proportional, proportional(size="e.norm(dim=1, keepdim=True).clamp(min=1e-6)"), "cut the size off"),
    (checks.proportional, proportional(size="(e.square().sum(dim=1, keepdim=True) + 1e-12).sqrt().detach()"), "size is detached"),
    (checks.proportional, proportional(correction="size.detach() * d"), "in the correction the size is detached"),
    (checks.proportional, lambda e, d: proportional()(e.detach(), d), "detach, item or numpy"),
    (checks.proportional, proportional(told="torch.where(e.abs().sum(dim=1, keepdim=True) > 0, size.log() / 4, 0)"),
     "case of its own"),
    (checks.proportional, lambda e, d: tuple(value.detach().numpy() for value in proportional()(e, d)), "Return tensors"),
    (checks.proportional, lambda e, d: (proportional()(e, d)[0][:, [2, 0, 1]], proportional()(e, d)[1]), "logarithm comes last"),
    (checks.proportional, lambda e, d: (proportional()(e, d)[0][:, :2], proportional()(e, d)[1]), "two columns"),
    (checks.proportional, lambda e, d: proportional()(e, d)[::-1], "swapped"),
    (checks.proportional, lambda e, d: proportional()(e, d)[0], "two things"),
]
assert math.isclose(by_scipy([1, 2, 3], [4, 5, 6])[1], 2 / math.comb(6, 3))  # what SciPy's exact test is
