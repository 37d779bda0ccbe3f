"""Answers to chapter 8's exercises: right ones, and those that learners plausibly give, with a word of what they are told."""

import numpy as np
import torch

from trc_lib.course.exercises import van_der_pol as checks

# ------------------------------------------------------------------ rk4_step

def step(expression, second="x + dt / 2 * k1", third="x + dt / 2 * k2", fourth="x + dt * k3"):
    """An rk4_step that returns ``expression`` of x, dt and the slopes at the three places that are given."""
    def answer(f, x, u, dt):
        names = {"x": x, "dt": dt, "k1": f(x, u)}
        names["k2"] = f(eval(second, names), u)
        names["k3"] = f(eval(third, names), u)
        names["k4"] = f(eval(fourth, names), u)
        return eval(expression, names)
    return answer


def moves_x(f, x, u, dt):
    k1 = f(x, u)
    x += dt / 2 * k1
    return x


WHOLE = "x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)"

# ------------------------------------------------------------------ adjoint

def by_autograd(A, B, q, q_final, r):
    """The same cost by automatic differentiation: sum of q_k' x_k + r_k' u_k, and q_final' x_N, for x_0 = 0."""
    A, B, q, q_final, r = (torch.tensor(value) for value in (A, B, q, q_final, r))
    u, x, total = torch.zeros(r.shape, dtype=torch.float64, requires_grad=True), torch.zeros(A.shape[1]).double(), 0.0
    for k in range(len(A)):
        total = total + q[k] @ x + r[k] @ u[k]
        x = A[k] @ x + B[k] @ u[k]
    (total + q_final @ x).backward()
    return u.grad


def sweep(line="r[k] + B[k].T @ p", carry="q[k] + A[k].T @ p", order="reversed(range(N))", end="g"):
    def answer(A, B, q, q_final, r):
        names = {"A": A, "B": B, "q": q, "r": r, "p": q_final, "N": len(A), "np": np, "q_final": q_final}
        g = np.zeros_like(r)
        for k in eval(order, names):
            names["k"] = k
            names["before"] = eval(carry, names)
            g[k] = eval(line, names)
            names["p"] = names["before"]
        return eval(end, names | {"g": g})
    return answer


def spoils_r(A, B, q, q_final, r):
    r += 1
    return r


# ------------------------------------------------------------------ worth_telling

def told(expression):
    def answer(slopes, u, u_max):
        return eval(expression, {"np": np, "slopes": slopes, "u": u, "u_max": u_max})
    return answer


def told_by_loop(slopes, u, u_max):
    return [0.0 if (a >= u_max and s < 0) or (a <= -u_max and s > 0) else s for s, a in zip(slopes, u)]


def spoils_slopes(slopes, u, u_max):
    slopes[np.abs(u) >= u_max] = 0
    return slopes


RIGHT = [
    (checks.rk4_step, step(WHOLE)), (checks.rk4_step, step("x + dt * (k1 / 6 + k2 / 3 + k3 / 3 + k4 / 6)")),
    (checks.adjoint, by_autograd), (checks.adjoint, sweep()),
    (checks.worth_telling, told_by_loop),
    (checks.worth_telling, told("np.where((np.abs(u) == u_max) & (np.sign(slopes) == -np.sign(u)), 0, slopes)")),
]

WRONG = [
    (checks.rk4_step, step("x + dt * k1"), "Euler"),
    (checks.rk4_step, step("x + dt * k2"), "midpoint"),
    (checks.rk4_step, step("x + dt * (k1 + k2 + k3 + k4) / 4"), "count double"),
    (checks.rk4_step, step("x + dt * (k1 + 2 * k2 + 2 * k3 + k4)"), "sum of the weights"),
    (checks.rk4_step, step("x + (k1 + 2 * k2 + 2 * k3 + k4) / 6"), "multiply by dt"),
    (checks.rk4_step, step("dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)"), "add it to x"),
    (checks.rk4_step, step(WHOLE, fourth="x + dt / 2 * k3"), "*end* of the step"),
    (checks.rk4_step, step(WHOLE, second="x + dt * k1", third="x + dt * k2"), "*middle* of the step"),
    (checks.rk4_step, step("x + dt / 6 * (k1 + 4 * k2 + k3)"), "k4 is not there"),
    (checks.rk4_step, step("x"), "Nothing has moved"),
    (checks.rk4_step, step("x + dt / 6 * (2 * k1 + k2 + k3 + 2 * k4)"), "it should be"),
    (checks.rk4_step, moves_x, "changed in place"),
    (checks.rk4_step, step("k1.sum()"), "it should have"),
    (checks.adjoint, sweep(line="r[k] + B[k].T @ before"), "*after* the step"),
    (checks.adjoint, sweep(carry="q[k] + A[k] @ p"), "transposed"),
    (checks.adjoint, sweep(carry="A[k].T @ p"), "on the way"),
    (checks.adjoint, sweep(line="B[k].T @ p"), "add r_k"),
    (checks.adjoint, sweep(order="range(N)"), "runs backwards"),
    (checks.adjoint, sweep(end="g[::-1]"), "wrong order"),
    (checks.adjoint, sweep(end="-g"), "turned round"),
    (checks.adjoint, sweep(end="r.copy()"), "all later states"),
    (checks.adjoint, sweep(end="2 * g"), "it should be"),
    (checks.adjoint, sweep(end="g.sum(axis=0)"), "it should have"),
    (checks.adjoint, sweep(end="np.concatenate([g[:1], g[1:] + 1])"), "of control 1 of 4 is"),
    (checks.adjoint, spoils_r, "changed in place"),
    (checks.worth_telling, told("np.where(np.abs(u) >= u_max, 0, slopes)"), "come *back*"),
    (checks.worth_telling, told("np.where((np.abs(u) >= u_max) & (slopes * u > 0), 0, slopes)"), "other way round"),
    (checks.worth_telling, told("np.where(slopes * u < 0, 0, slopes)"), "not at their limit"),
    (checks.worth_telling, told("np.where((u >= u_max) & (slopes < 0), 0, slopes)"), "lower limit"),
    (checks.worth_telling, told("np.where((np.abs(u) >= u_max) & (slopes * u < 0), slopes, 0)"), "keep what should go"),
    (checks.worth_telling, told("np.clip(slopes, -u_max, u_max)"), "not the slopes"),
    (checks.worth_telling, told("slopes"), "Nothing was silenced"),
    (checks.worth_telling, told("-slopes"), "it should be"),
    (checks.worth_telling, told("np.where((np.abs(u) >= 0.97 * u_max) & (slopes * u < 0), 0, slopes)"), "it should be"),
    (checks.worth_telling, spoils_slopes, "changed in place"),
]
