"""Checks of chapter 10: thrusts that hover, Jacobians by differences, a step that mixes a batch."""

import numpy as np

from trc_lib.course.exercises.check_result import Wrong, as_array, exercise, judge, on_copies, same

GRAVITY = 9.81


@exercise
def hover(answer):
    """Check ``answer(mass, parcel, gravity)``: the left and the right thrust (N), ``[2]``.

    The parcel hangs right under the right rotor.
    """
    r = np.random.default_rng(90)
    for _ in range(3):
        mass, parcel, gravity = r.uniform(0.3, 2), r.uniform(0.05, 0.4), r.uniform(3, 12)
        given = on_copies(answer, mass=mass, parcel=parcel, gravity=gravity)
        given = as_array(given, (2,), "The two thrusts")
        half, extra = mass * gravity / 2, parcel * gravity
        right = np.array([half, half + extra])
        judge(given, right, [
            (right[::-1], "Left and right are swapped: the parcel hangs under the *right* rotor."),
            ([half + extra / 2, half + extra / 2],
             "It does not fall, but it turns: the parcel pulls on the right arm alone."),
            ([half, half], "That is without the parcel: it sinks, and turns."),
            (2 * right, "Twice as much: the two rotors share the weight."),
            (right / gravity, "Those are masses (kg); a thrust is a force: times gravity."),
            ([half - extra / 2, half + extra / 2],
             "It does not turn, but it sinks: the parcel's weight must be carried, too."),
        ], f"For {mass:.2f} kg and a parcel of {parcel:.2f} kg you give {given.round(3)} N; it "
           f"should be {right.round(3)} N.")
    return ("it neither sinks nor turns. Thrusts near these are a good first guess for a teacher, "
            "and far from zero: a box of limits around zero would not do.")


def _maps():
    """(f, x, u) with other dimensions, and curvature."""
    r = np.random.default_rng(91)
    W, V = r.normal(size=(3, 3)), r.normal(size=(3, 2))
    yield (lambda x, u: np.sin(W @ x) + np.exp(V @ u / 3)), r.normal(size=3), r.normal(size=2)
    yield (lambda x, u: np.array([x[0] + x[1] * u[0], x[1] ** 3 + u[0]])), r.normal(size=2), \
        r.normal(size=1)


@exercise
def jacobians_by_differences(answer):
    """Check ``answer(f, x, u)``: A ``[n, n]`` and B ``[n, m]``."""
    for f, x, u in _maps():
        n, m = len(x), len(u)
        given = on_copies(lambda x, u, f=f: answer(f, x, u), x=x, u=u)
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise Wrong("Return two matrices: A, B.")
        swapped = {(m, n): "B is transposed: a row for each state, a column for each control."}
        A = as_array(given[0], (n, n), "A")
        B = as_array(given[1], (n, m), "B", swapped if m != n else None)
        for name, mine, at, call in (("A", A, x, lambda z, f=f, u=u: f(z, u)),
                                     ("B", B, u, lambda z, f=f, x=x: f(x, z))):
            right = np.stack([(call(at + 1e-5 * e) - call(at - 1e-5 * e)) / 2e-5
                              for e in np.eye(len(at))], axis=1)
            if same(mine, right, 1e-6):
                continue
            where = f"In {name}: "
            if mine.shape == right.T.shape and same(mine.T, right, 1e-6):
                raise Wrong(where + "it is transposed: column j is the change with component j.")
            if same(mine, 2 * right, 1e-5) or same(mine, right / 2, 1e-5):
                raise Wrong(where + "a factor of two: the two points are 2 h apart.")
            if same(mine, right, 0.05):
                raise Wrong(where + f"right to {np.abs(mine - right).max():.0e} only. Take a step "
                            "on both sides, of about 1e-5: much smaller ones drown in rounding.")
            raise Wrong(where + f"{mine.round(3).tolist()}; it should be "
                        f"{right.round(3).tolist()}.")
    return "an oracle for any derivative: two evaluations a column, and no code shared with it."


def _steps(r):
    """Dynamics, and whether rows of a batch are kept apart."""
    w, dt = r.uniform(1, 3), r.uniform(0.05, 0.2)

    def good(x, u):
        return np.stack([x[..., 0] + dt * x[..., 1],
                         x[..., 1] + dt * (u[..., 0] - w * np.sin(x[..., 0]))], axis=-1)

    def mean(x, u):
        return good(x - 0.1 * x.mean(axis=0, keepdims=x.ndim > 1) * (x.ndim > 1), u)

    def first_control(x, u):
        return good(x, u.reshape(-1, u.shape[-1])[0])

    def norm(x, u):
        return good(x, u) / max(1.0, np.abs(x).max() / 1.5)

    def other(x, u):
        return x + dt * np.concatenate([x[..., 1:], u - w * x[..., :1] ** 3], axis=-1)

    def reverse(x, u):
        return good(x, u[::-1] if u.ndim > 1 else u)

    return [(good, True), (mean, False), (first_control, False), (norm, False), (other, True),
            (reverse, False)]


@exercise
def mixes_the_batch(answer):
    """Check ``answer(f, x, u)``: whether f gives rows of a batch other results than each alone."""
    for seed in range(3):
        r = np.random.default_rng(92 + seed)
        x, u = r.normal(size=(6, 2)) * 2, r.normal(size=(6, 1))
        steps = _steps(r)
        for i in r.permutation(len(steps)):
            f, apart = steps[i]
            given = on_copies(lambda x, u, f=f: answer(f, x, u), x=x, u=u)
            if not isinstance(given, bool | np.bool_):
                raise Wrong(f"Return True or False, not {type(given).__name__}.")
            if apart and given:
                raise Wrong("You blame dynamics that keep the rows apart. Compare with a tolerance "
                            "for rounding, and give f one row at a time: x[i], u[i].")
            if not apart and not given:
                raise Wrong(f"You let one pass ({f.__name__}): there, a row of the batch does not "
                            "get what it gets alone. Compare *every* row, and all of its states.")
    return ("the commonest fault of a system of one's own. A teacher, a network and a referee that "
            "all share it agree with each other, and none is right.")
