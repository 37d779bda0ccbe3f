"""Answers to chapter 7's exercises: right ones, and those that learners plausibly give, with a word of what they are told."""

import numpy as np
import scipy.optimize

from trc_lib.course.exercises import bounded as checks

# ------------------------------------------------------------------ miss_of

def miss(expression):
    """A miss_of that returns ``expression`` of C, d, w = C' lam, u_max, and u = clip(w)."""
    def answer(lam, C, d, u_max):
        w = C.T @ lam
        return eval(expression, {"np": np, "C": C, "d": d, "w": w, "u_max": u_max, "u": np.clip(w, -u_max, u_max)})
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
    """A newton_step that returns ``expression`` of lam, the miss m, S = C_F C_F' and what `miss` knows."""
    def answer(lam, C, d, u_max):
        names = {"np": np, "lam": lam, "C": C, "d": d, "u_max": u_max, "w": C.T @ lam, "solve": np.linalg.solve}
        names["F"] = C[:, eval(free, names)]
        names |= {"m": C @ np.clip(names["w"], -u_max, u_max) - d, "S": names["F"] @ names["F"].T}
        return eval(expression, names)
    return answer


RIGHT = [
    (checks.miss_of, miss("C @ u - d")), (checks.miss_of, miss_by_loop),
    (checks.miss_of, miss("C @ (np.sign(w) * np.minimum(abs(w), u_max)) - d")),
    (checks.proves_out_of_reach, proof("y @ d > u_max * np.abs(w).sum()")), (checks.proves_out_of_reach, by_programme),
    (checks.proves_out_of_reach, proof("bool(y @ d > (C @ (u_max * np.sign(w))) @ y)")),
    (checks.newton_step, newton("lam - solve(S, m)")), (checks.newton_step, newton("lam - np.linalg.inv(S) @ m")),
    (checks.newton_step, newton("lam - solve(C @ np.diag(np.abs(w) < u_max) @ C.T, m)")),
]

WRONG = [
    (checks.miss_of, miss("C @ w - d"), "not cut"),
    (checks.miss_of, miss("np.clip(C @ w, -u_max, u_max) - d"), "clip the final state"),
    (checks.miss_of, miss("np.clip(C @ w - d, -u_max, u_max)"), "clip the miss"),
    (checks.miss_of, miss("d - C @ u"), "turned round"),
    (checks.miss_of, miss("C @ u"), "take d off"),
    (checks.miss_of, miss("C @ u + d"), "not added"),
    (checks.miss_of, miss("C @ np.minimum(w, u_max) - d"), "upper limit"),
    (checks.miss_of, miss("C @ np.clip(w, 0, u_max) - d"), "can brake"),
    (checks.miss_of, miss("C @ np.clip(w, -1, 1) - d"), "not 1"),
    (checks.miss_of, miss("C @ (u_max * np.sign(w)) - d"), "full thrust"),
    (checks.miss_of, miss("C @ (u_max * np.tanh(w / u_max)) - d"), "tanh"),
    (checks.miss_of, miss("C @ np.where(abs(w) < u_max, w, 0) - d"), "*at* the limit"),
    (checks.miss_of, miss("2 * (C @ u - d)"), "it should be"),
    (checks.miss_of, miss("np.linalg.norm(C @ u - d)"), "it should have"),
    (checks.miss_of, in_place, "d was changed in place"),
    (checks.proves_out_of_reach, proof("y @ d >= u_max * np.abs(w).sum()"), "not >="),
    (checks.proves_out_of_reach, proof("abs(y @ d) > u_max * np.abs(w).sum()"), "opposite"),
    (checks.proves_out_of_reach, proof("y @ d > np.abs(w).sum()"), "times u_max"),
    (checks.proves_out_of_reach, proof("y @ d > u_max * abs(w.sum())"), "the sum of |C' y|"),
    (checks.proves_out_of_reach, proof("y @ d > u_max * np.linalg.norm(w)"), "the sum of |C' y|"),
    (checks.proves_out_of_reach, proof("y @ d < u_max * np.abs(w).sum()"), "prove it"),
    (checks.proves_out_of_reach, proof("True"), "prove it"),
    (checks.proves_out_of_reach, proof("False"), "does prove it"),
    (checks.proves_out_of_reach, proof("y * d > u_max * np.abs(w).sum()"), "one for each component"),
    (checks.proves_out_of_reach, proof("y @ d - u_max * np.abs(w).sum()"), "Return True or False"),
    (checks.newton_step, newton("lam - solve(C @ C.T, m)"), "slope of all steps"),
    (checks.newton_step, newton("lam + solve(S, m)"), "turned round"),
    (checks.newton_step, newton("-solve(S, m)"), "step alone"),
    (checks.newton_step, newton("solve(S, m)"), "wrong sign"),
    (checks.newton_step, newton("lam - m"), "gradient descent"),
    (checks.newton_step, newton("lam - solve(S, C @ w - d)"), "*cut* controls"),
    (checks.newton_step, newton("lam - solve(S, m) / 2"), "half"),
    (checks.newton_step, newton("lam - S @ m"), "divides"),
    (checks.newton_step, newton("lam"), "Nothing has moved"),
    (checks.newton_step, newton("lam - solve(S, m)", free="w < u_max"), "it should be"),
    (checks.newton_step, newton("lam - 0.1 * solve(S, m)"), "it should be"),
]
