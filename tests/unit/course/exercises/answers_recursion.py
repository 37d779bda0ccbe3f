"""Answers to chapter 6's exercises: right ones, and wrong ones with a part of the message."""

import itertools
import math

import scipy.stats
import torch

from trc_lib.course.exercises import recursion as checks

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
        names = {"torch": torch, "errors": errors, "gain": gain, "threshold": threshold,
                 "H": len(gain)}
        names["used"] = eval(used, names)
        return names["used"], errors[eval(row, names), torch.arange(errors.shape[1])]
    return answer


GO_ON = "(gain > threshold).cumprod(dim=0).sum(dim=0)"


# ------------------------------------------------------------------ proportional

def proportional(size="(e.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()", direction="e / size",
                 logarithm="size.log() / 4", correction="size * d"):
    """A proportional whose parts are expressions."""
    def answer(e, d):
        names = {"torch": torch, "e": e, "d": d}
        names["size"] = eval(size, names)
        columns = eval(direction, names), eval(logarithm, names).expand(len(e), 1)
        return torch.cat(columns, dim=1), eval(correction, names)
    return answer


RIGHT = {
    checks.pairs_won: [pairs_won, by_scipy],
    checks.held_reward: [held_reward, held_by_loop],
    checks.stop_when: [
        stop_when,
        stop_by_loop,
        lambda *p: (stop_when(*p)[0].tolist(), stop_when(*p)[1].float()),
    ],
    checks.proportional: [
        proportional(),
        proportional(size="(e[:, :1] ** 2 + e[:, 1:] ** 2 + 1e-12) ** 0.5", correction="d * size"),
    ],
}

WRONG = {
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
    checks.stop_when: [
        (stop("(gain > threshold).sum(dim=0)"), "does not start again"),
        (stop("((gain > threshold) * torch.arange(1, H + 1)[:, None]).max(dim=0).values"),
         "*last* cycle"),
        (stop(f"({GO_ON} + 1).clamp(max=H)"), "One cycle too many"),
        (stop(f"({GO_ON} - 1).clamp(min=0)"), "One cycle too few"),
        (stop("(gain >= threshold).cumprod(dim=0).sum(dim=0)"), "only equals the threshold"),
        (stop("(gain <= threshold).cumprod(dim=0).sum(dim=0)"), "other way round"),
        (stop("(gain <= threshold).int().argmax(dim=0)"), "argmax gives 0"),
        (stop("(gain.mean(dim=1) > threshold).int().cumprod(dim=0).sum().expand(gain.shape[1])"),
         "*mean* gain"),
        (stop(f"{GO_ON}.max().expand(gain.shape[1])"), "until the last one stops"),
        (stop("(gain > threshold).cumprod(dim=1).sum(dim=0)"), "along the problems"),
        (stop("torch.full((gain.shape[1],), H)"), "last one stops"),
        (stop("(errors[:-1] - errors[1:] > threshold).cumprod(dim=0).sum(dim=0)"), "actual gain"),
        (stop("(gain.abs() > threshold).cumprod(dim=0).sum(dim=0)"), "absolute value of the gain"),
        (stop("errors.argmin(dim=0)"), "best cycle"),
        (stop("(gain > 2 * threshold + 0.1).cumprod(dim=0).sum(dim=0)"), "Predicted gains"),
        (stop(GO_ON, row="(used + 1).clamp(max=H)"), "one cycle later"),
        (stop(GO_ON, row="(used - 1).clamp(min=0)"), "one cycle earlier"),
        (stop(GO_ON, row="used - 1"), "one cycle earlier"),
        (stop(GO_ON, row="H"), "after the last cycle"),
        (stop(GO_ON, row="0"), "of the first proposal"),
        (lambda errors, gain, t: (stop_when(errors, gain, t)[0], errors.min(dim=0).values),
         "smallest, wherever"),
        (lambda errors, gain, t: (stop_when(errors, gain, t)[0], -errors[0]), "take row cycles"),
        (lambda *p: (stop_when(*p)[0], p[0][stop_when(*p)[0]]), "whole rows"),
        (lambda *p: (stop_when(*p)[0].double(), stop_when(*p)[1]), "int64"),
        (lambda *p: tuple(value.double().mean() for value in stop_when(*p)), "single number"),
        (lambda *p: stop_when(*p)[0], "two things"),
        (lambda errors, gain, t: stop_when(errors.T, gain.T, t), "wrong axis"),
        (lambda errors, gain, t: ((gain > t).cumprod(dim=0), errors[0]), "which cycles are run"),
    ],
    checks.proportional: [
        (proportional(direction="e"), "still has the size"),
        (proportional(size="e.abs()", logarithm="e.abs()[:, :1].log() / 4", correction="d"),
         "not for each component"),
        (proportional(size="(e.square().sum() + 1e-12).sqrt()",
                      logarithm="size.log()[None, None] / 4"), "whole batch"),
        (proportional(size="(e.square().sum(dim=0) + 1e-12).sqrt()", logarithm="size[:1].log() / 4",
                      correction="size[:1] * d"), "wrong axis"),
        (proportional(size="e.square().sum(dim=1, keepdim=True) + 1e-12"), "root is forgotten"),
        (proportional(size="(e.square().mean(dim=1, keepdim=True) + 1e-12).sqrt()"),
         "mean of the two squares"),
        (proportional(size="e.abs().sum(dim=1, keepdim=True)"), "absolute values"),
        (proportional(direction="-e / size"), "other way"),
        (proportional(direction="(e / size).flip(1)"), "first two columns"),
        (proportional(logarithm="size.log10() / 4"), "base 10"),
        (proportional(logarithm="size.log2() / 4"), "base 2"),
        (proportional(logarithm="size.log()"), "divided by 4"),
        (proportional(logarithm="(size / 4).log()"), "divide the logarithm itself"),
        (proportional(logarithm="size.log1p() / 4"), "log1p"),
        (proportional(logarithm="size"), "*logarithm*"),
        (proportional(logarithm="size.log() / 3"), "third column"),
        (proportional(correction="d"), "multiply it by the size"),
        (proportional(correction="d / size"), "do not divide"),
        (proportional(correction="d + size"), "multiply the two"),
        (proportional(correction="2 * size * d"), "size times"),
        (proportional(size="e.norm(dim=1, keepdim=True)"), "NaN or infinity"),
        (proportional(size="e.square().sum(dim=1, keepdim=True).sqrt() + 1e-12"),
         "gradient is NaN"),
        (proportional(direction="torch.where(size > 1e-5, e / e.norm(dim=1, keepdim=True), 0)"),
         "gradient is NaN"),
        (proportional(size="e.norm(dim=1, keepdim=True) + 1e-12"), "outside the root"),
        (proportional(size="e.norm(dim=1, keepdim=True) + 1e-6"), "outside the root"),
        (proportional(size="(e.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()"),
         "1e-10 under the root"),
        (proportional(size="e.norm(dim=1, keepdim=True).clamp(min=1e-6)"), "cut the size off"),
        (proportional(size="(e.square().sum(dim=1, keepdim=True) + 1e-12).sqrt().detach()"),
         "size is detached"),
        (proportional(correction="size.detach() * d"), "in the correction the size is detached"),
        (lambda e, d: proportional()(e.detach(), d), "detach, item or numpy"),
        (proportional(logarithm="torch.where(e.abs().sum(dim=1)[:, None] > 0, size.log() / 4, 0)"),
         "separate case"),
        (lambda e, d: tuple(value.detach().numpy() for value in proportional()(e, d)),
         "Return tensors"),
        (lambda e, d: (proportional()(e, d)[0][:, [2, 0, 1]], proportional()(e, d)[1]),
         "logarithm comes last"),
        (lambda e, d: (proportional()(e, d)[0][:, :2], proportional()(e, d)[1]), "two columns"),
        (lambda e, d: proportional()(e, d)[::-1], "swapped"),
        (lambda e, d: proportional()(e, d)[0], "two things"),
    ],
}
assert math.isclose(by_scipy([1, 2, 3], [4, 5, 6])[1], 2 / math.comb(6, 3))  # SciPy's test is exact
