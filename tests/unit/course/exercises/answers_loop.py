"""Answers to chapter 7's exercises: right ones, and wrong ones with a part of the message."""

import torch

from trc_lib.course.exercises import loop as checks

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


# ------------------------------------------------------------------ never_worse

def never_worse(cycle, cost, u, cycles):
    for _ in range(cycles):
        after = cycle(u)
        u = torch.where((cost(after) < cost(u))[:, None], after, u)
    return u


def never_worse_by_loop(cycle, cost, u, cycles):
    for _ in range(cycles):
        after, before = cycle(u), u.clone()
        for i in range(len(u)):
            if cost(after)[i] < cost(before)[i]:
                u[i] = after[i]
    return u


def taking(where):
    """A never_worse that takes a cycle where ``where``, an expression, says so."""
    def answer(cycle, cost, u, cycles):
        for _ in range(cycles):
            names = {"torch": torch, "u": u, "cost": cost, "after": cycle(u)}
            u = torch.where(eval(where, names), names["after"], u)
        return u
    return answer


def cheapest_of_all(cycle, cost, u, cycles):
    plans = [u]
    for _ in range(cycles):
        plans.append(cycle(plans[-1]))
    plans = torch.stack(plans)
    costs = torch.stack([cost(plan) for plan in plans])
    return plans[costs.argmin(dim=0), torch.arange(len(u))]


RIGHT = {
    checks.never_worse: [never_worse, never_worse_by_loop,
                         lambda *given: never_worse(*given).numpy()],
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
    checks.never_worse: [
        (lambda cycle, cost, u, cycles: cost(never_worse(cycle, cost, u, cycles)), "not their"),
        (lambda cycle, cost, u, cycles: u, "Nothing is changed"),
        (taking("torch.tensor(True)"), "Every cycle is taken"),
        (taking("cost(after).mean() < cost(u).mean()"), "by the mean cost"),
        (taking("(cost(after) > cost(u))[:, None]"), "dearer"),
        (cheapest_of_all, "*kept*"),
        (lambda cycle, cost, u, cycles: never_worse(cycle, cost, u, 1), "That is one cycle; run"),
        (lambda cycle, cost, u, cycles: never_worse(cycle, cost, u, cycles + 1), "too many"),
        (lambda cycle, cost, u, cycles: 2 * u, "should cost"),
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
