"""Answers to chapter 9's exercises: right ones, and wrong ones with a part of the message."""

import numpy as np
import torch

from trc_lib.course.exercises import van_der_pol as checks

# ------------------------------------------------------------------ rk4_step

def step(expression, second="x + dt / 2 * k1", third="x + dt / 2 * k2", fourth="x + dt * k3"):
    """An rk4_step that returns ``expression`` of x, dt and the slopes at the given places."""
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
    """Autograd of the sum of q_k' x_k + r_k' u_k, and q_final' x_N, for x_0 = 0."""
    A, B, q, q_final, r = (torch.tensor(value) for value in (A, B, q, q_final, r))
    u = torch.zeros(r.shape, dtype=torch.float64, requires_grad=True)
    x, total = torch.zeros(A.shape[1], dtype=torch.float64), 0.0
    for k in range(len(A)):
        total = total + q[k] @ x + r[k] @ u[k]
        x = A[k] @ x + B[k] @ u[k]
    (total + q_final @ x).backward()
    return u.grad


def sweep(line="r[k] + B[k].T @ p", carry="q[k] + A[k].T @ p", order="reversed(range(N))",
          end="g"):
    def answer(A, B, q, q_final, r):
        names = {"A": A, "B": B, "q": q, "r": r, "p": q_final, "N": len(A), "np": np}
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

def masked(expression):
    def answer(slopes, u, u_max):
        return eval(expression, {"np": np, "slopes": slopes, "u": u, "u_max": u_max})
    return answer


def masked_by_loop(slopes, u, u_max):
    return [0.0 if (a >= u_max and s < 0) or (a <= -u_max and s > 0) else s
            for s, a in zip(slopes, u)]


def spoils_slopes(slopes, u, u_max):
    slopes[np.abs(u) >= u_max] = 0
    return slopes


RIGHT = {
    checks.rk4_step: [step(WHOLE), step("x + dt * (k1 / 6 + k2 / 3 + k3 / 3 + k4 / 6)")],
    checks.adjoint: [by_autograd, sweep()],
    checks.worth_telling: [
        masked_by_loop,
        masked("np.where((np.abs(u) == u_max) & (np.sign(slopes) == -np.sign(u)), 0, slopes)"),
    ],
}

WRONG = {
    checks.rk4_step: [
        (step("x + dt * k1"), "Euler"),
        (step("x + dt * k2"), "midpoint"),
        (step("x + dt * (k1 + k2 + k3 + k4) / 4"), "count double"),
        (step("x + dt * (k1 + 2 * k2 + 2 * k3 + k4)"), "sum of the weights"),
        (step("x + (k1 + 2 * k2 + 2 * k3 + k4) / 6"), "multiply by dt"),
        (step("dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)"), "add it to x"),
        (step(WHOLE, fourth="x + dt / 2 * k3"), "*end* of the step"),
        (step(WHOLE, second="x + dt * k1", third="x + dt * k2"), "*middle* of the step"),
        (step("x + dt / 6 * (k1 + 4 * k2 + k3)"), "k4 is not there"),
        (step("x"), "x unchanged"),
        (step("x + dt / 6 * (2 * k1 + k2 + k3 + 2 * k4)"), "it should be"),
        (moves_x, "changed in place"),
        (step("k1.sum()"), "it should have"),
    ],
    checks.adjoint: [
        (sweep(line="r[k] + B[k].T @ before"), "*after* the step"),
        (sweep(carry="q[k] + A[k] @ p"), "transposed"),
        (sweep(carry="A[k].T @ p"), "on the way"),
        (sweep(line="B[k].T @ p"), "add r_k"),
        (sweep(order="range(N)"), "runs backwards"),
        (sweep(end="g[::-1]"), "wrong order"),
        (sweep(end="-g"), "reversed"),
        (sweep(end="r.copy()"), "all later states"),
        (sweep(end="2 * g"), "it should be"),
        (sweep(end="g.sum(axis=0)"), "it should have"),
        (sweep(end="np.concatenate([g[:1], g[1:] + 1])"), "of control 1 of 4 is"),
        (spoils_r, "changed in place"),
    ],
    checks.worth_telling: [
        (masked("np.where(np.abs(u) >= u_max, 0, slopes)"), "come *back*"),
        (masked("np.where((np.abs(u) >= u_max) & (slopes * u > 0), 0, slopes)"), "other way round"),
        (masked("np.where(slopes * u < 0, 0, slopes)"), "inside the limits"),
        (masked("np.where((u >= u_max) & (slopes < 0), 0, slopes)"), "lower limit"),
        (masked("np.where((np.abs(u) >= u_max) & (slopes * u < 0), slopes, 0)"),
         "keep what should be 0"),
        (masked("np.clip(slopes, -u_max, u_max)"), "not the slopes"),
        (masked("slopes"), "slopes unchanged"),
        (masked("-slopes"), "it should be"),
        (masked("np.where((np.abs(u) >= 0.97 * u_max) & (slopes * u < 0), 0, slopes)"),
         "it should be"),
        (spoils_slopes, "changed in place"),
    ],
}
