"""Answers to chapter 8's exercises: right ones, and wrong ones with a part of the message."""

import numpy as np
import scipy.optimize

from trc_lib.course.exercises import bounded as checks

# ------------------------------------------------------------------ miss_of

def miss(expression):
    """A miss_of that returns ``expression`` of C, d, w = C' lam, u_max, and u = clip(w)."""
    def answer(lam, C, d, u_max):
        w = C.T @ lam
        names = {"np": np, "C": C, "d": d, "w": w, "u_max": u_max, "u": np.clip(w, -u_max, u_max)}
        return eval(expression, names)
    return answer


def miss_by_loop(lam, C, d, u_max):
    total = -d.copy()
    for k in range(C.shape[1]):
        total = total + C[:, k] * min(max(C[:, k] @ lam, -u_max), u_max)
    return total


def in_place(lam, C, d, u_max):
    d *= -1
    d += C @ np.clip(C.T @ lam, -u_max, u_max)
    return d


# ------------------------------------------------------------------ proves_out_of_reach

def proof(expression):
    def answer(y, C, d, u_max):
        return eval(expression, {"np": np, "C": C, "d": d, "y": y, "u_max": u_max, "w": C.T @ y})
    return answer


def by_programme(y, C, d, u_max):
    """The furthest in the direction y, by linear programming."""
    furthest = -scipy.optimize.linprog(-C.T @ y, bounds=[(-u_max, u_max)] * C.shape[1]).fun
    return bool(y @ d > furthest * (1 + 1e-9) + 1e-12)


# ------------------------------------------------------------------ newton_step

def newton(expression, free="np.abs(w) < u_max"):
    """A newton_step that returns ``expression`` of lam, C, d, w, the error m and S = C_F C_F'."""
    def answer(lam, C, d, u_max):
        names = {"np": np, "lam": lam, "C": C, "d": d, "u_max": u_max, "w": C.T @ lam,
                 "solve": np.linalg.solve}
        names["F"] = C[:, eval(free, names)]
        names |= {"m": C @ np.clip(names["w"], -u_max, u_max) - d, "S": names["F"] @ names["F"].T}
        return eval(expression, names)
    return answer


RIGHT = {
    checks.miss_of: [
        miss("C @ u - d"),
        miss_by_loop,
        miss("C @ (np.sign(w) * np.minimum(abs(w), u_max)) - d"),
    ],
    checks.proves_out_of_reach: [
        proof("y @ d > u_max * np.abs(w).sum()"),
        by_programme,
        proof("bool(y @ d > (C @ (u_max * np.sign(w))) @ y)"),
    ],
    checks.newton_step: [
        newton("lam - solve(S, m)"),
        newton("lam - np.linalg.inv(S) @ m"),
        newton("lam - solve(C @ np.diag(np.abs(w) < u_max) @ C.T, m)"),
    ],
}

WRONG = {
    checks.miss_of: [
        (miss("C @ w - d"), "not clipped"),
        (miss("np.clip(C @ w, -u_max, u_max) - d"), "clip the final state"),
        (miss("np.clip(C @ w - d, -u_max, u_max)"), "clip the terminal error"),
        (miss("d - C @ u"), "reversed"),
        (miss("C @ u"), "subtract d"),
        (miss("C @ u + d"), "not added"),
        (miss("C @ np.minimum(w, u_max) - d"), "upper limit"),
        (miss("C @ np.clip(w, 0, u_max) - d"), "can brake"),
        (miss("C @ np.clip(w, -1, 1) - d"), "not 1"),
        (miss("C @ (u_max * np.sign(w)) - d"), "full thrust"),
        (miss("C @ (u_max * np.tanh(w / u_max)) - d"), "tanh"),
        (miss("C @ np.where(abs(w) < u_max, w, 0) - d"), "*at* the limit"),
        (miss("2 * (C @ u - d)"), "it should be"),
        (miss("np.linalg.norm(C @ u - d)"), "it should have"),
        (in_place, "d was changed in place"),
    ],
    checks.proves_out_of_reach: [
        (proof("y @ d >= u_max * np.abs(w).sum()"), "not >="),
        (proof("abs(y @ d) > u_max * np.abs(w).sum()"), "opposite"),
        (proof("y @ d > np.abs(w).sum()"), "times u_max"),
        (proof("y @ d > u_max * abs(w.sum())"), "the sum of |C' y|"),
        (proof("y @ d > u_max * np.linalg.norm(w)"), "the sum of |C' y|"),
        (proof("y @ d < u_max * np.abs(w).sum()"), "prove it"),
        (proof("True"), "prove it"),
        (proof("False"), "does prove it"),
        (proof("y * d > u_max * np.abs(w).sum()"), "one a component"),
        (proof("y @ d - u_max * np.abs(w).sum()"), "Return True or False"),
    ],
    checks.newton_step: [
        (newton("lam - solve(C @ C.T, m)"), "slope of all steps"),
        (newton("lam + solve(S, m)"), "reversed"),
        (newton("-solve(S, m)"), "step alone"),
        (newton("solve(S, m)"), "wrong sign"),
        (newton("lam - m"), "gradient descent"),
        (newton("lam - solve(S, C @ w - d)"), "*clipped* controls"),
        (newton("lam - solve(S, m) / 2"), "half"),
        (newton("lam - S @ m"), "divides"),
        (newton("lam"), "lam unchanged"),
        (newton("lam - solve(S, m)", free="w < u_max"), "it should be"),
        (newton("lam - 0.1 * solve(S, m)"), "it should be"),
    ],
}
