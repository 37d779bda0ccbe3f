"""Checks of chapter 9: a Runge-Kutta step, the gradient by the adjoint, slopes at the limits."""

import functools

import numpy as np

from trc_lib.course.exercises.check_result import as_array, exercise, judge, on_copies


def _systems():
    """(f, x, u, dt) of a few systems."""
    r = np.random.default_rng(80)
    A, b = r.normal(size=(3, 3)), r.normal(size=3)

    def van_der_pol(x, u):
        return np.array([x[1], (1 - x[0] ** 2) * x[1] - x[0] + u])

    yield van_der_pol, np.array([1.5, -0.7]), 0.8, 0.5
    yield (lambda x, u: A @ x + b * u), r.normal(size=3), -1.3, 0.4
    yield (lambda x, u: np.sin(x) + u * x), np.array([0.9]), 0.5, 0.7


@exercise
def rk4_step(answer):
    """Check ``answer(f, x, u, dt)``: the state after one step, ``[n]``."""
    for f, x, u, dt in _systems():
        given = on_copies(functools.partial(answer, f), x=x, u=u, dt=dt)
        given = as_array(given, x.shape, "The next state")
        k1 = f(x, u)
        k2 = f(x + dt / 2 * k1, u)
        k3 = f(x + dt / 2 * k2, u)
        k4 = f(x + dt * k3, u)
        total = k1 + 2 * k2 + 2 * k3 + k4
        right = x + dt / 6 * total
        end2 = f(x + dt * k1, u)  # the second to fourth slopes, each a whole step ahead
        end3 = f(x + dt * end2, u)
        end4 = f(x + dt * end3, u)
        judge(given, right, [
            (x + dt * k1, "That is Euler's step: it uses the slope at the beginning only."),
            (x + dt * k2, "That is the midpoint rule, with two slopes; use all four."),
            (x + dt / 4 * (k1 + k2 + k3 + k4),
             "The two slopes in the middle count double: weights 1, 2, 2, 1, over 6."),
            (x + dt * total, "Divide by the sum of the weights, 6."),
            (x + total / 6, "The slopes are per second: multiply by dt."),
            (dt / 6 * total, "That is the change of the state; add it to x."),
            (x + dt / 6 * (total - k4 + f(x + dt / 2 * k3, u)),
             "The fourth slope is at the *end* of the step: x + dt k3."),
            (x + dt / 6 * (k1 + 2 * end2 + 2 * end3 + end4),
             "The second and third slopes are in the *middle* of the step: half a dt ahead."),
            (x + dt / 6 * (k1 + 4 * k2 + k3), "k3 has the wrong weight, and k4 is not there."),
            (x, "You return x unchanged."),
        ], f"From {x.round(2)} one step of {dt} s leads to {given.round(4)}; it should be "
           f"{right.round(4)}.")
    return "four evaluations of the slope: the error of one step falls with dt to the fifth power."


def _sweeps():
    """(A, B, q, q_final, r) of trajectories of different lengths and dimensions."""
    rng = np.random.default_rng(81)
    for N, n, m in ((4, 2, 1), (6, 3, 2), (1, 2, 1)):
        yield tuple(rng.normal(size=size) for size in ((N, n, n), (N, n, m), (N, n), n, (N, m)))


def _adjoint(A, B, q, q_final, r, transposed=True, late=True, running=True, controls=True,
             forwards=False):
    """The gradient [N, m]; each option makes one common mistake."""
    N, gradient, p = len(A), np.zeros_like(r), q_final
    for k in range(N) if forwards else reversed(range(N)):
        before = (q[k] if running else 0) + (A[k].T if transposed else A[k]) @ p
        gradient[k] = (r[k] if controls else 0) + B[k].T @ (p if late else before)
        p = before
    return gradient


@exercise
def adjoint(answer):
    """Check ``answer(A, B, q, q_final, r)``: the gradient in all controls, ``[N, m]``."""
    for A, B, q, q_final, r in _sweeps():
        given = on_copies(answer, A=A, B=B, q=q, q_final=q_final, r=r)
        given = as_array(given, r.shape, "The gradient")
        gradient = functools.partial(_adjoint, A, B, q, q_final, r)
        right = gradient()
        k = int(np.abs(given - right).max(axis=1).argmax())
        judge(given, right, [
            (gradient(late=False),
             "u_k acts on x_(k+1): its slope is B_k' p_(k+1), with the p of *after* the step."),
            (gradient(transposed=False), "The backward sweep is transposed: A_k' p, not A_k p."),
            (gradient(running=False), "The states on the way have a cost, too: add q_k at step k."),
            (gradient(controls=False), "The controls have a cost themselves: add r_k."),
            (gradient(forwards=True), "The sweep runs backwards, from the last step to the first."),
            (right[::-1], "The rows are in the wrong order: the first row is that of step 0."),
            (-right, "The sign is reversed: the gradient points *up*, not down."),
            (r, "That is the cost of the controls alone; each also changes all later states."),
        ], f"The gradient of control {k} of {len(right)} is {given[k].round(3)}; it should be "
           f"{right[k].round(3)}.")
    return "one backward sweep gives the whole gradient, at the cost of about two simulations."


@exercise
def worth_telling(answer):
    """Check ``answer(slopes, u, u_max)``: the slopes, 0 where one pushes u against its limit."""
    rng = np.random.default_rng(82)
    for u_max in (2.0, 0.5):
        slopes = rng.normal(size=40)
        u = np.clip(rng.normal(size=40) * u_max, -u_max, u_max)
        u[:4] = 0.999 * u_max * np.sign(-slopes[:4])  # near a limit, but not at it
        given = on_copies(answer, slopes=slopes, u=u, u_max=u_max)
        given = as_array(given, slopes.shape, "The slopes")
        at, outward = np.abs(u) >= u_max, slopes * u < 0
        right = np.where(at & outward, 0, slopes)
        k = int((given != right).argmax())
        judge(given, right, [
            (np.where(at, 0, slopes),
             "A control at its limit may come *back*: only a slope that pushes outwards is 0."),
            (np.where(at & ~outward, 0, slopes),
             "It is the other way round: at +u_max a *negative* slope asks for more control."),
            (np.where(outward, 0, slopes), "You also change slopes of controls inside the limits."),
            (np.where((u >= u_max) & (slopes < 0), 0, slopes),
             "There is a lower limit, too: at -u_max a positive slope pushes outwards."),
            (np.where(at & outward, slopes, 0), "You keep what should be 0, and drop the rest."),
            (np.clip(slopes, -u_max, u_max), "The controls have limits, not the slopes."),
            (slopes, "You return the slopes unchanged."),
        ], f"For u = {u[k]:.2f}, u_max = {u_max} and the slope {slopes[k]:.2f} you return "
           f"{given[k]:.2f}; it should be {right[k]:.2f}.")
    return ("what is left is zero where no small change within the limits lowers the cost: an "
            "error that vanishes at the optimum.")
