"""Answers to chapter 9's exercises: right ones, and wrong ones with a part of the message."""

import numpy as np
import torch

from trc_lib.course.exercises import van_der_pol as checks

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
          end="g", begin="q_final"):
    def answer(A, B, q, q_final, r):
        names = {"A": A, "B": B, "q": q, "r": r, "N": len(A), "np": np}
        names["p"] = eval(begin, {"q_final": q_final})
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


# ------------------------------------------------------------------ sweep_back

CLIP = "np.clip(-Q_u / Q_uu, -limit - u[i], limit - u[i])"
NEW = "np.clip(u[i] - Q_u / Q_uu, -limit, limit)"
HOLD = "0 if abs(u[i] + k[i]) >= limit else -Q_ux / Q_uu"


def back(change=CLIP, gain=HOLD, end="k, K", turn="A[i].T"):
    """A sweep back whose k and K, whose answer, and whose A' are the given expressions."""
    def answer(A, B, x, u, limit):
        Q, R, Q_final = np.diag([10.0, 5.0]), 0.1, 20 * np.diag([10.0, 5.0])
        k, K = np.zeros(len(u)), np.zeros((len(u), 2))
        p, P = 2 * Q_final @ x[-1], 2 * Q_final
        for i in reversed(range(len(u))):
            Q_u, Q_uu = 2 * R * u[i] + B[i] @ p, 2 * R + B[i] @ P @ B[i]
            Q_ux = B[i] @ P @ A[i]
            names = {"np": np, "Q_u": Q_u, "Q_uu": Q_uu, "Q_ux": Q_ux, "A": A, "u": u, "i": i,
                     "limit": limit, "k": k}
            k[i] = eval(change, names)
            K[i] = eval(gain, names)
            T = eval(turn, names)
            p = 2 * Q @ x[i] + T @ p + K[i] * (Q_uu * k[i] + Q_u) + Q_ux * k[i]
            P = (2 * Q + T @ P @ A[i] + Q_uu * np.outer(K[i], K[i])
                 + np.outer(K[i], Q_ux) + np.outer(Q_ux, K[i]))
        return eval(end, {"np": np, "torch": torch, "k": k, "K": K, "u": u, "limit": limit})
    return answer


def back_by_the_new_control(A, B, x, u, limit):
    """Clips u + k, and takes the cost of a held control from the whole quadratic form."""
    Q, R, Q_final = np.diag([10.0, 5.0]), 0.1, 20 * np.diag([10.0, 5.0])
    changes, gains, slope, curvature = [], [], 2 * Q_final @ x[-1], 2 * Q_final
    for i in range(len(u) - 1, -1, -1):
        both = np.column_stack([A[i], B[i]])
        H = both.T @ curvature @ both + 2 * np.diag([*np.diag(Q), R])
        g = both.T @ slope + 2 * np.array([*(Q @ x[i]), R * u[i]])
        target = u[i] - g[2] / H[2, 2]
        new = min(max(target, -limit), limit)
        gain = -H[2, :2] / H[2, 2] * float(new == target)
        lift = np.vstack([np.eye(2), gain])
        slope, curvature = lift.T @ (g + H[:, 2] * (new - u[i])), lift.T @ H @ lift
        changes.insert(0, new - u[i])
        gains.insert(0, gain)
    return changes, gains


def spoils_u(A, B, x, u, limit):
    u += 1
    return u, np.zeros((len(u), 2))


def named(*names):
    """The names for noise 0, 0.05 and 0.2."""
    return lambda noise: dict(zip((0, 0.05, 0.2), names))[noise]


FREE, OWN = "-Q_u / Q_uu", "-Q_ux / Q_uu"
LATE = "np.clip(k, -limit - u, limit - u)"

RIGHT = {
    checks.adjoint: [by_autograd, sweep(), sweep(end="g.tolist()"),
                     sweep(end="g.astype(np.float32)")],
    checks.sweep_back: [
        back(), back_by_the_new_control, back(end="[k.tolist(), K.tolist()]"),
        back(end="(torch.tensor(k), torch.tensor(K, dtype=torch.float32))"),
        back(gain="-Q_ux / Q_uu * (abs(u[i] + k[i]) < limit)")],
    checks.cheapest: [named("once", "MLP", "law"), named("planned once", "mlp", "LAW"),
                      named(["once"], np.array(["MLP"]), np.str_("law"))],
}

# A gain that is zero also where the control was at its limit and leaves it.
EVER_HELD = "0 * Q_ux if max(abs(u[i]), abs(u[i] + k[i])) >= limit else -Q_ux / Q_uu"

WRONG = {
    checks.adjoint: [
        (sweep(line="r[k] + B[k].T @ before"), "*after* the step"),
        (sweep(carry="q[k] + A[k] @ p"), "transposed"),
        (sweep(carry="A[k].T @ (q[k] + p)"), "carries back p alone"),
        (sweep(carry="A[k].T @ p"), "on the way"),
        (sweep(line="B[k].T @ p"), "add r_k"),
        (sweep(begin="0 * q_final"), "p begins as q_final"),
        (sweep(order="range(N)"), "runs backwards"),
        (sweep(end="g[::-1]"), "wrong order"),
        (sweep(end="-g"), "reversed"),
        (sweep(end="r.copy()"), "all later states"),
        (sweep(end="2 * g"), "it should be"),
        (sweep(end="g.sum(axis=0)"), "it should have"),
        (sweep(end="np.concatenate([g[:1], g[1:] + 1])"), "of control 1 (of 0 to 3) is"),
        (spoils_r, "changed in place"),
    ],
    checks.sweep_back: [
        (back(FREE, OWN), "forget the limits"), (back(gain=OWN), "K does not"),
        (back(FREE), "k does not"),
        (back(FREE, OWN, f"({LATE}, K)"), "K does not"),
        (back(FREE, OWN, f"({LATE}, np.where(np.abs(u + {LATE})[:, None] >= limit, 0, K))"),
         "inside the loop"),
        (back(FREE, OWN, "(np.clip(k, -limit, limit), K)"), "new control"),
        (back("np.clip(-Q_u / Q_uu, -limit, limit)"), "clip the change"),
        (back("np.clip(-Q_u / Q_uu, -limit, limit)", OWN), "clip the change"),
        (back("np.clip(-Q_u / Q_uu, -limit, limit)", "0 if abs(k[i]) >= limit else -Q_ux / Q_uu"),
         "clip the change"),
        (back(NEW, "-Q_ux / Q_uu * (abs(k[i]) < limit)"), "k is the new control"),
        (back(NEW, OWN), "k is the new control"),
        (back(end="(u + k, K)"), "k is the new control"),
        (back(turn="A[i]"), "it should be"), (back(end="(k, 2 * K)"), "wrong: K["),
        (back(gain=f"{OWN} * k[i] / ({FREE})"), "wrong: K[11]"),
        (back(NEW + " - u[i]", "-Q_ux / Q_uu * (k[i] == -Q_u / Q_uu)"), "Rounding"),
        (back("0 if abs(u[i]) >= limit else np.clip(-Q_u / Q_uu, -limit - u[i], limit - u[i])",
              EVER_HELD), "it should be"),
        (back(gain=EVER_HELD), "the old control u"),
        (back(gain="0 * Q_ux if abs(u[i]) >= limit else -Q_ux / Q_uu"), "the old control u"),
        (back(end="k"), "two things"), (back(end="(K, k)"), "k has shape"),
        (spoils_u, "changed in place"),
    ],
    checks.cheapest: [
        (named("once", "once", "law"), "noise 0.05"), (named("MLP", "MLP", "law"), "At noise 0 "),
        (named("once", "MLP", "MLP"), "noise 0.2"), (named(628.0, 1, 2), "one of"),
        (named(("once", "MLP"), "MLP", "law"), "one of"), (named("iLQR", "", ""), "one of"),
    ],
}
