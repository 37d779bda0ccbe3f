"""Checks of chapter 8: a step of Runge and Kutta, the gradient by the adjoint, and which slopes are worth telling."""

import numpy as np

from trc_lib.course.exercises.check_result import Wrong, as_array, exercise, recognise


def _systems():
    """(f, x, u, dt) of a few systems."""
    r = np.random.default_rng(80)
    A, b = r.normal(size=(3, 3)), r.normal(size=3)
    yield (lambda x, u: np.array([x[1], (1 - x[0] ** 2) * x[1] - x[0] + u])), np.array([1.5, -0.7]), 0.8, 0.5
    yield (lambda x, u: A @ x + b * u), r.normal(size=3), -1.3, 0.4
    yield (lambda x, u: np.sin(x) + u * x), np.array([0.9]), 0.5, 0.7


@exercise
def rk4_step(answer):
    """``answer(f, x, u, dt)`` gives the state after one step."""
    for f, x, u, dt in _systems():
        start = x.copy()
        given = as_array(answer(f, x, u, dt), x.shape, "the next state")
        if not np.array_equal(x, start):
            raise Wrong("x was changed in place; the caller still needs it.")
        k1 = f(x, u)
        k2 = f(x + dt / 2 * k1, u)
        k3 = f(x + dt / 2 * k2, u)
        k4 = f(x + dt * k3, u)
        full2 = f(x + dt * k1, u)
        recognise(given, [
            (x + dt * k1, "That is Euler's step: one look at the slope, at the beginning only."),
            (x + dt * k2, "That is the midpoint rule: two looks at the slope. Go on to four."),
            (x + dt / 4 * (k1 + k2 + k3 + k4), "The two slopes in the middle count double: weights 1, 2, 2, 1, over 6."),
            (x + dt * (k1 + 2 * k2 + 2 * k3 + k4), "Divide by the sum of the weights, 6."),
            (x + (k1 + 2 * k2 + 2 * k3 + k4) / 6, "The slopes are per second: multiply by dt."),
            (dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4), "That is how far it moves; add it to x."),
            (x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + f(x + dt / 2 * k3, u)),
             "The fourth slope is at the *end* of the step: x + dt k3."),
            (x + dt / 6 * (k1 + 2 * full2 + 2 * f(x + dt * full2, u) + f(x + dt * f(x + dt * full2, u), u)),
             "The second and third slopes are in the *middle* of the step: half a dt ahead."),
            (x + dt / 6 * (k1 + 4 * k2 + k3), "k3 is missing its weight, and k4 is not there: 1, 2, 2, 1."),
            (x, "Nothing has moved.")])
        right = x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        if not np.allclose(given, right, rtol=0, atol=1e-10 * max(1, np.abs(right).max())):
            raise Wrong(f"from {x.round(2)} one step of {dt} s leads to {given.round(4)}; it should be {right.round(4)}.")
    return "four looks at the slope: the error of a step falls with its fifth power."


def _sweeps():
    """(A, B, q, q_final, r) of trajectories with different numbers of steps, states and controls."""
    rng = np.random.default_rng(81)
    for N, n, m in ((4, 2, 1), (6, 3, 2), (1, 2, 1)):
        yield (rng.normal(size=(N, n, n)), rng.normal(size=(N, n, m)), rng.normal(size=(N, n)), rng.normal(size=n),
               rng.normal(size=(N, m)))


def _adjoint(A, B, q, q_final, r, transposed=True, late=True, running=True, controls=True, forwards=False):
    """The gradient [N, m]; the switches make the mistakes that people make."""
    N, gradient, p = len(A), np.zeros_like(r), q_final
    order = range(N) if forwards else reversed(range(N))
    for k in order:
        a = A[k].T if transposed else A[k]
        before = (q[k] if running else 0) + a @ p
        gradient[k] = (r[k] if controls else 0) + B[k].T @ (p if late else before)
        p = before
    return gradient


@exercise
def adjoint(answer):
    """``answer(A, B, q, q_final, r)`` gives the gradient in all controls, ``[N, m]``."""
    for arguments in _sweeps():
        copies = [array.copy() for array in arguments]
        given = as_array(answer(*copies), arguments[-1].shape, "the gradient")
        if not all(np.array_equal(copy, array) for copy, array in zip(copies, arguments)):
            raise Wrong("an argument was changed in place; work on a copy.")
        right = _adjoint(*arguments)
        if np.allclose(given, right, rtol=0, atol=1e-9 * max(1, np.abs(right).max())):
            continue
        recognise(given, [
            (_adjoint(*arguments, late=False), "u_k acts on x_(k+1): its slope is B_k' p_(k+1), with the p of *after* the step."),
            (_adjoint(*arguments, transposed=False), "Backwards the matrix is transposed: A_k' p, not A_k p."),
            (_adjoint(*arguments, running=False), "The states on the way cost something, too: add q_k as you pass step k."),
            (_adjoint(*arguments, controls=False), "The controls cost something themselves: add r_k."),
            (_adjoint(*arguments, forwards=True), "The sweep runs backwards, from the last step to the first."),
            (_adjoint(*arguments)[::-1], "The rows are in the wrong order: the first row belongs to the first step."),
            (-right, "The sign is turned round: this is the way *down*; the gradient points up."),
            (arguments[-1], "That is only what the controls cost themselves; each also moves all later states.")])
        k = int(np.abs(given - right).max(axis=1).argmax())
        raise Wrong(f"the gradient of control {k} of {len(right)} is {given[k].round(3)}; it should be {right[k].round(3)}.")
    return "one sweep backwards gives the slopes of all controls, for the price of about two simulations."


@exercise
def worth_telling(answer):
    """``answer(slopes, u, u_max)`` gives the slopes, with 0 where one pushes a control against its limit."""
    rng = np.random.default_rng(82)
    for u_max in (2.0, 0.5):
        slopes = rng.normal(size=40)
        u = np.clip(rng.normal(size=40) * u_max, -u_max, u_max)
        u[:4] = 0.999 * u_max * np.sign(-slopes[:4])                           # nearly there, and may go the rest of the way
        given_slopes, given_u = slopes.copy(), u.copy()
        given = as_array(answer(given_slopes, given_u, u_max), slopes.shape, "what is told")
        if not (np.array_equal(slopes, given_slopes) and np.array_equal(u, given_u)):
            raise Wrong("an argument was changed in place; work on a copy.")
        at, outward = np.abs(u) >= u_max, slopes * u < 0
        upper = (u >= u_max) & (slopes < 0)
        recognise(given, [
            (np.where(at, 0, slopes),
             "A control at its limit may still want to come *back*: only the slopes that push outwards are useless."),
            (np.where(at & ~outward, 0, slopes),
             "It is the other way round: at +u_max a *negative* slope says 'more', which is not to be had."),
            (np.where(outward, 0, slopes), "You silence controls that are not at their limit, too."),
            (np.where(upper, 0, slopes), "There is a lower limit, too: at -u_max it is the positive slope that pushes outwards."),
            (np.where(at & outward, slopes, 0), "You keep what should go, and drop what should stay."),
            (np.clip(slopes, -u_max, u_max), "It is not the slopes that have a limit, but the controls."),
            (slopes, "Nothing was silenced.")])
        right = np.where(at & outward, 0, slopes)
        if not np.array_equal(given, right):
            k = int((given != right).argmax())
            raise Wrong(f"for u = {u[k]:.2f}, u_max = {u_max} and the slope {slopes[k]:.2f} you tell {given[k]:.2f}; "
                        f"it should be {right[k]:.2f}.")
    return "what is left is zero where no small change within the limits gains anything: an error that vanishes at the optimum."
