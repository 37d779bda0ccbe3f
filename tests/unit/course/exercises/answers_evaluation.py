"""Answers to chapter 5's exercises: right ones, and wrong ones with a part of the message."""

import torch

from trc_lib.course.exercises import evaluation as checks


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


def fit_map(x0, xT, controls):
    return torch.linalg.lstsq(torch.cat([x0, xT], dim=1), controls[:, :, 0]).solution


def ridge(x0, xT, controls, penalty=1e-2):
    X, Y = torch.cat([x0, xT], dim=1), controls[:, :, 0]
    return torch.linalg.solve(X.T @ X + penalty * torch.eye(4), X.T @ Y)


def with_intercept(x0, xT, controls):
    X = torch.cat([x0, xT, torch.ones(len(x0), 1)], dim=1)
    return torch.linalg.pinv(X) @ controls[:, :, 0]


def centred(x0, xT, controls):
    X = torch.cat([x0 - x0.mean(0), xT - xT.mean(0)], dim=1)
    return torch.linalg.pinv(X) @ (controls - controls.mean(0))[:, :, 0]


def cycle_by_cycle(errors):
    return (errors[1:] < errors[:-1]).double().mean(dim=1), errors.min(dim=0).values.mean()


def cycles(shares="(e[1:] < e[:-1]).double().mean(1)", best="e.min(0).values.mean()"):
    return lambda errors: (eval(shares, {"e": errors}), eval(best, {"e": errors}))


SQUARES = "(a.square().sum(1), b.square().sum(1))"
RIGHT = {
    checks.miss_and_waste: [
        miss_and_waste,
        ruler(SQUARES, "torch.linalg.pinv(C) @ C"),
        lambda *p: [part.tolist() for part in miss_and_waste(*p)],
    ],
    checks.fit_map: [
        fit_map,
        lambda x0, xT, u: torch.linalg.pinv(torch.cat([x0, xT], dim=1)) @ u.flatten(1),
    ],
    checks.cycle_by_cycle: [cycle_by_cycle, cycles()],
}

WRONG = {
    checks.miss_and_waste: [
        (ruler("(b.square().sum(1), a.square().sum(1))"), "swapped"),
        (ruler("(a.norm(dim=1), b.norm(dim=1))"), "lengths"),
        (ruler("(a.square().mean(1), b.square().mean(1))"), "average"),
        (ruler("(a.square().sum(0), b.square().sum(0))"), "wrong axis"),
        (ruler("(a.square().sum(), b.square().sum())"), "wrong axis"),
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
    checks.fit_map: [
        (lambda *data: fit_map(*data).T, "transposed"),
        (with_intercept, "intercept"),
        (lambda *data: with_intercept(*data)[:4], "five"),
        (centred, "centre"),
        (ridge, "ridge"),
        (lambda *data: fit_map(*(values.float() for values in data)), "single precision"),
        (lambda x0, xT, u: fit_map(x0 / x0.std(0), xT / xT.std(0), u), "normalised"),
        (lambda x0, xT, u: fit_map(x0, xT, u / u.std()), "scaled back"),
        (lambda x0, xT, u: fit_map(xT, x0, u), "swapped"),
        (lambda *data: fit_map(*data)[..., None], "[4, 15]"),
        (lambda x0, xT, u: fit_map(x0, xT, u.abs()), "Plain least squares"),
    ],
    checks.cycle_by_cycle: [
        (cycles("(e[1:] <= e[:-1]).double().mean(1)"), "not <="),
        (cycles("(e[1:] > e[:-1]).double().mean(1)"), "made worse"),
        (cycles("(e[1:] >= e[:-1]).double().mean(1)"), "did not change"),
        (cycles("(e[1:] < e[0]).double().mean(1)"), "first proposal"),
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
        (cycles(best="e.min(0).values"), "should have []"),
    ],
}
