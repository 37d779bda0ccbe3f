"""Checks of chapter 9: the gradient by the adjoint, iLQR's sweep back, a choice of planners."""

import functools

import numpy as np

from trc_lib.course.exercises.check_result import (
    Wrong,
    apart,
    as_array,
    exercise,
    judge,
    on_copies,
    refuse,
    same,
    several,
)

# Chapter 9's cost.
Q, R, Q_FINAL = np.diag([10.0, 5.0]), 0.1, 20 * np.diag([10.0, 5.0])


def _sweep_back(A, B, x, u, limit, clip="control", hold=True):
    """Chapter 9's sweep: changes [N] and gains [N, 2]; each option makes one common mistake.

    clip: what keeps the limits, "control" (right), "change" or nothing; "new": k is the control.
    hold: whether a control at its limit has no gain; "old": one that was there before;
        "either": one that was or is there; "change": one whose change is.
    """
    k, K = np.zeros(len(u)), np.zeros((len(u), 2))
    p, P = 2 * Q_FINAL @ x[-1], 2 * Q_FINAL
    for i in reversed(range(len(u))):
        Q_u, Q_uu = 2 * R * u[i] + B[i] @ p, 2 * R + B[i] @ P @ B[i]
        Q_ux = B[i] @ P @ A[i]
        k[i], K[i] = -Q_u / Q_uu, -Q_ux / Q_uu
        if clip == "control":
            k[i] = np.clip(k[i], -limit - u[i], limit - u[i])
        elif clip == "change":
            k[i] = np.clip(k[i], -limit, limit)
        elif clip == "new":
            k[i] = np.clip(u[i] + k[i], -limit, limit)
        asked = (u[i] if hold == "old" else k[i] if clip == "new" or hold == "change"
                 else u[i] + k[i])
        if hold and (abs(asked) >= limit or (hold == "either" and abs(u[i]) >= limit)):
            K[i] = 0
        p = 2 * Q @ x[i] + A[i].T @ p + K[i] * (Q_uu * k[i] + Q_u) + Q_ux * k[i]
        P = (2 * Q + A[i].T @ P @ A[i] + Q_uu * np.outer(K[i], K[i])
             + np.outer(K[i], Q_ux) + np.outer(Q_ux, K[i]))
    return k, K


def _trajectories():
    """(A, B, x, u, limit), with controls inside and at their limits before and after a sweep."""
    rng = np.random.default_rng(83)
    for N, limit in ((12, 0.5), (6, 1.25)):
        A, B = rng.normal(size=(N, 2, 2)) / 2, rng.normal(size=(N, 2)) / 2
        x, u = rng.normal(size=(N + 1, 2)), rng.uniform(-limit, limit, N)
        u[::3] = limit * np.sign(u[::3])  # at a limit; the sweep frees some of these
        yield A, B, x, u, limit


@exercise
def sweep_back(answer):
    """Check ``answer(A, B, x, u, limit)``: changes ``[N]`` and gains ``[N, 2]``."""
    for A, B, x, u, limit in _trajectories():
        given = on_copies(answer, A=A, B=B, x=x, u=u, limit=limit)
        given = several(given, "k", "K")
        mine = as_array(given[0], u.shape, "k"), as_array(given[1], (len(u), 2), "K")
        sweep = functools.partial(_sweep_back, A, B, x, u, limit)
        right = sweep()
        if _both(mine, right):
            continue
        free = sweep(clip=None, hold=False)
        after = np.clip(free[0], -limit - u, limit - u)
        late = np.where((np.abs(u + after) >= limit)[:, None], 0, free[1])
        refuse(
            (_both(mine, free), "You still forget the limits: u + k leaves them."),
            (_both(mine, sweep(hold=False)),
             "k keeps the limits, K does not: a control that its limit holds cannot follow the "
             "state. What is its row of K then?"),
            (_both(mine, sweep(clip=None)),
             "K knows the limits, k does not: clip k, so that u + k keeps them."),
            (_both(mine, (after, free[1])) or _both(mine, (after, late)),
             "Your p and P do not know the limits: clip inside the loop, and compute p and P from "
             "the k and K that you changed."),
            (_both(mine, (np.clip(free[0], -limit, limit), free[1]))
             or any(_both(mine, sweep(clip="change", hold=hold))
                    for hold in (True, False, "change")),
             "You clip the change k to the limits. It is the new control, u + k, that has them."),
            (_both(mine, (u + right[0], right[1])) or _both(mine, sweep(clip="new"))
             or _both(mine, sweep(clip="new", hold=False)),
             "Your k is the new control. Return the change: the new control less u."),
            (_both(mine, sweep(hold="old")) or _both(mine, sweep(hold="either")),
             "K asks whether the old control u is at its limit. It is the new one, u + k, that the "
             "limit holds or frees."))
        off = [np.abs(one - two).reshape(len(u), -1).max(axis=1) > 1e-5 * max(1, np.abs(two).max())
               for one, two in zip(mine, right)]
        i = int(np.flatnonzero(off[0] | off[1])[-1])  # the sweep runs backward
        first = "From the end backward, the first that is wrong:"
        if off[0][i]:
            raise Wrong("{} k[{}] is {}; it should be {}.".format(
                first, i, *apart(mine[0][i], right[0][i])))
        compared = ("" if mine[1][i].any() else " A control that is free does follow the state. "
                    "(Do you compare two floats with == or !=? Rounding makes them differ.)")
        raise Wrong(f"{first} K[{i}] is {mine[1][i].round(4)}; it should be "
                    f"{right[1][i].round(4)}.{compared}")
    return "the limits are a part of the problem that each step solves."


def _both(mine, other):
    """Whether changes and gains agree, but for the rounding of float32."""
    return all(same(one, two, 1e-5) for one, two in zip(mine, other))


def _sweeps():
    """(A, B, q, q_final, r) of trajectories of different lengths and dimensions."""
    rng = np.random.default_rng(81)
    for N, n, m in ((4, 2, 1), (6, 3, 2), (1, 2, 1)):
        yield tuple(rng.normal(size=size) for size in ((N, n, n), (N, n, m), (N, n), n, (N, m)))


def _adjoint(A, B, q, q_final, r, transposed=True, late=True, running=True, controls=True,
             forwards=False, mixed=False):
    """The gradient [N, m]; each option makes one common mistake."""
    N, gradient, p = len(A), np.zeros_like(r), q_final
    for k in range(N) if forwards else reversed(range(N)):
        before = (q[k] if running else 0) + (A[k].T if transposed else A[k]) @ p
        before = A[k].T @ (q[k] + p) if mixed else before
        gradient[k] = (r[k] if controls else 0) + B[k].T @ (p if late else before)
        p = before
    return gradient


@exercise
def adjoint(answer):
    """Check ``answer(A, B, q, q_final, r)``: the gradient in all controls, ``[N, m]``."""
    for A, B, q, q_final, r in _sweeps():
        given = on_copies(answer, A=A, B=B, q=q, q_final=q_final, r=r)
        given = as_array(given, r.shape, "The array of slopes")
        gradient = functools.partial(_adjoint, A, B, q, q_final, r)
        right = gradient()
        k = int(np.abs(given - right).max(axis=1).argmax())
        judge(given, right, [
            (gradient(late=False),
             "u_k acts on x_(k+1): its slope is B_k' p_(k+1), with the p of *after* the step."),
            (gradient(transposed=False), "The backward sweep is transposed: A_k' p, not A_k p."),
            (gradient(mixed=True), "q_k is a slope in x_k already: A_k' carries back p alone."),
            (gradient(running=False), "The states on the way have a cost, too: add q_k at step k."),
            (_adjoint(A, B, q, 0 * q_final, r),
             "The last state has a cost, too: p begins as q_final."),
            (gradient(controls=False), "The controls have a cost themselves: add r_k."),
            (gradient(forwards=True), "The sweep runs backwards, from the last step to the first."),
            (right[::-1], "The rows are in the wrong order: the first row is that of step 0."),
            (-right, "The sign is reversed: a positive slope points *up*."),
            (r, "That is the cost of the controls alone; each also changes all later states."),
        ], f"The slope of control {k} (of 0 to {len(right) - 1}) is {given[k].round(3)}; it "
           f"should be {right[k].round(3)}.")
    return "one backward sweep gives all slopes, however many controls there are."


# At each noise the cheapest of three planners, and why, as chapter 9 measures it with mu = 1.
CHEAPEST = {0: ("once", "the world does what the plan expects, and no plan is cheaper than the "
                        "optimum"),
            0.05: ("mlp", "the plan made once is soon for another state, and the law wastes the "
                          "weak motor"),
            0.2: ("law", "a plan that is kept for ten steps is soon for another state, the "
                         "optimum's, too, and the kicks carry the state where the MLP has not "
                         "learned")}


@exercise
def cheapest(answer):
    """Check ``answer(noise)``: the cheapest of three planners, at noise 0, 0.05 and 0.2."""
    for noise, (right, why) in CHEAPEST.items():
        name = np.squeeze(np.asarray(answer(noise), dtype=object)).tolist()
        known = [word for word in ("once", "law", "mlp") if word in str(name).lower()]
        if not isinstance(name, str) or len(known) != 1:
            raise Wrong(f"For noise {noise} you return {name!r}; return one of \"once\", \"law\" "
                        "and \"MLP\".")
        if known != [right]:
            raise Wrong(f"At noise {noise} another one is cheaper than {name!r}: {why}. Print "
                        "the three costs.")
    return "; ".join(f"at noise {noise} {why}" for noise, (_, why) in CHEAPEST.items()) + "."
