"""Answers to chapter 5's exercises: right ones, and wrong ones with a part of the message."""

import functools

import scipy.linalg
import torch

from trc_lib.course.exercises import evaluation as checks
from trc_lib.systems import DoubleIntegrator


def miss_and_waste(C, difference):
    in_row_space = difference @ (torch.linalg.pinv(C) @ C)
    return in_row_space.square().sum(dim=1), (difference - in_row_space).square().sum(dim=1)


def ruler(given, projector="torch.linalg.pinv(C) @ C"):
    """A miss_and_waste that is an expression in C, d, a (row-space part) and b (the rest)."""
    def answer(C, d):
        names = {"torch": torch, "C": C, "d": d}
        names["a"] = d @ eval(projector, names)
        return eval(given, names | {"b": d - names["a"]})
    return answer


@functools.cache
def learned(price, seed=0, steps=400):
    """The chapter's evolution strategies, with a price on the energy of a problem."""
    system, g = DoubleIntegrator(), torch.Generator().manual_seed(seed)
    weights = torch.zeros(4, 15, dtype=torch.float64)
    for _ in range(steps):
        shake = torch.randn(16, 4, 15, generator=g, dtype=torch.float64)
        tries = weights + 0.05 * torch.cat([shake, -shake])
        x0, xT = (5 * torch.rand(2, 32, 2, generator=g, dtype=torch.float64) - 2.5).expand(
            32, -1, -1, -1).unbind(1)
        u = (torch.cat([x0, xT], dim=-1) @ tries)[..., None]
        missed = (system.rollout(x0, u)[..., -1, :] - xT).norm(dim=-1).mean(dim=-1)
        r = -missed - price * u.square().sum(dim=(-1, -2)).mean(dim=-1)
        weights = weights + 0.02 * ((r[:16] - r[16:])[:, None, None] * shake).mean(0) / r.std()
    return weights


def fool(controls, C):
    seen = torch.linalg.pinv(C) @ C
    added = torch.randn(len(controls), 15, generator=torch.Generator().manual_seed(0)).double()
    return controls + 3 * (added - added @ seen)[..., None]


def just_too_little(controls, C):
    """The same ends, at 1.998 times the energy: what is added is orthogonal to the optimum."""
    added = fool(controls, C) - controls
    return controls + (0.998 * controls.square().sum() / added.square().sum()).sqrt() * added


def along_one_direction(controls, C):
    """The same vector that C does not see, added to every problem's controls."""
    return controls + 10 * torch.tensor(scipy.linalg.null_space(C))[:, :1]


def cycle_by_cycle(errors):
    return (errors[1:] < errors[:-1]).double().mean(dim=1), errors.min(dim=0).values.mean()


def cycles(shares="(e[1:] < e[:-1]).double().mean(1)", best="e.min(0).values.mean()"):
    return lambda errors: (eval(shares, {"e": errors}), eval(best, {"e": errors}))


SQUARES = "(a.square().sum(1), b.square().sum(1))"
RIGHT = {
    checks.miss_and_waste: [
        miss_and_waste,
        ruler(SQUARES, "torch.linalg.pinv(C) @ C"),
        ruler("torch.stack((a.square().sum(1), b.square().sum(1)))"),
        ruler("(a.square().sum(1, keepdim=True), b.square().sum(1, keepdim=True).float())"),
        ruler("torch.stack((a.square().sum(1), b.square().sum(1))).float().numpy()"),
        ruler("(a.square().sum(1), b.square().sum(1, keepdim=True))"),
        lambda *p: [part.tolist() for part in miss_and_waste(*p)],
    ],
    checks.price_of_energy: [learned, lambda price: learned(price, 1).float().tolist()],
    checks.fool: [
        fool,
        along_one_direction,
        lambda u, C: fool(u, C).float(),
        lambda u, C: fool(u, C)[..., 0].numpy(),
        lambda u, C: fool(u, C)[..., 0].tolist(),
    ],
    checks.cycle_by_cycle: [
        cycle_by_cycle,
        cycles(),
        cycles(best="e.min(0).values.mean()[None]"),
        cycles("[float((b < a).double().mean()) for a, b in zip(e, e[1:])]"),
        cycles("(e[1:] < e[:-1]).double().mean(1, keepdim=True)"),
        cycles("(e[1:] < e[:-1]).float().mean(1)", "e.min(0).values.mean().float()"),
    ],
}

WRONG = {
    checks.miss_and_waste: [
        (ruler("(b.square().sum(1), a.square().sum(1))"), "swapped"),
        (ruler("(a.norm(dim=1), b.norm(dim=1))"), "lengths"),
        (ruler("(a.square().mean(1), b.square().mean(1))"), "average"),
        (ruler("(a.square().sum(0), b.square().sum(0))"), "wrong axis"),
        (ruler("(a.square().sum(), b.square().sum())"), "one number for all problems"),
        (ruler("(a.square().sum(1), b.square().sum())"), "one number for all problems"),
        (ruler("(a.square().sum(1), b.square().sum(0))"), "wrong axis"),
        (ruler("(a.square().sum(1), b)"), "parts themselves"),
        (ruler("(a, b)"), "parts themselves"),
        (ruler("((d @ C.T).square().sum(1), b.square().sum(1))"), "final state"),
        (ruler(SQUARES, "C.T @ C"), "no projection"),
        (ruler("(a.square().sum(1), d.square().sum(1))"), "subtract"),
        (ruler("(a.square().sum(1), a.square().sum(1) * 0 + 1)"), "should be"),
        (ruler("a.square().sum(1)"), "two things"),
        (ruler(SQUARES, "C.T @ torch.linalg.solve(C @ C.T, C)"), "no inverse"),
        (ruler(SQUARES, "torch.linalg.qr(C.T)[0] @ torch.linalg.qr(C.T)[0].T"),
         "direction too many"),
    ],
    checks.price_of_energy: [
        (lambda price: learned(price).T, "transposed"),
        (lambda price: torch.zeros(4, 15), "Without a price they should arrive"),
        (lambda price: learned(0.0), "changes nothing"),
        (lambda price: learned(price / 15), "15 times too little"),
        (lambda price: learned(price / 2), "without a factor"),
        (lambda price: learned(15 * price), "too much"),
        (lambda price: 1.2 * learned(price) if price else learned(price), "subtracted"),
        (lambda price: learned(price)[:3], "[4, 15]"),
        (lambda price: learned(price).expand(401, 4, 15), "whole path"),
    ],
    checks.fool: [
        (lambda u, C: u, "as they came"),
        (lambda u, C: 1.5 * u, "from where they ended before"),
        (lambda u, C: u + 1, "from where they ended before"),
        (lambda u, C: u + (fool(u, C) - u) / 10, "2 times at least"),
        (just_too_little, "is 1.998 times what it was"),
        (lambda u, C: u.mul_(2), "in place"),
        (lambda u, C: fool(u, C)[:5], "[200, 15, 1]"),
    ],
    checks.cycle_by_cycle: [
        (lambda e: cycle_by_cycle(e)[::-1], "swapped"),
        (cycles("(e[1:] <= e[:-1]).double().mean(1)"), "not <="),
        (cycles("(e[1:] > e[:-1]).double().mean(1)"), "made worse"),
        (cycles("(e[1:] >= e[:-1]).double().mean(1)"), "did not change"),
        (cycles("(e[1:] < e[0]).double().mean(1)"), "first proposal"),
        (cycles("(e[1:] < e.cummin(0).values[:-1]).double().mean(1)"), "best so far"),
        (cycles("(e[1:] < e[:-1]).sum(1)"), "numbers of problems"),
        (cycles("100 * (e[1:] < e[:-1]).double().mean(1)"), "percent"),
        (cycles("1 - e[1:].mean(1) / e[:-1].mean(1)"), "on how many"),
        (cycles("(e[1:] < e[:-1]).double().mean(0)"), "over the cycles"),
        (cycles("(e[1:] < e[:-1]).double().mean(1) / 3"), "row k"),
        (cycles(best="e.mean(1).min()"), "its own best cycle"),
        (cycles(best="e.min()"), "smallest of all"),
        (cycles(best="e.min(1).values.mean()"), "over the problems"),
        (cycles(best="e[1:].min(0).values.mean()"), "left out"),
        (cycles(best="e[-1].mean()"), "last cycle"),
        (cycles(best="e.min(0).values.sum()"), "a sum"),
        (cycles(best="e.min(0).values"), "one number"),
    ],
}
