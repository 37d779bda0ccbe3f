"""Checks of chapter 8: the equation of the multiplier, a proof of unreachability, a Newton step."""

import numpy as np

from trc_lib.course.exercises.check_result import as_array, exercise, judge, on_copies, refuse


def _problems():
    """(lam, C, d, u_max): some controls beyond each limit, some inside, none within rounding."""
    r = np.random.default_rng(7)
    for n, N, u_max in ((2, 9, 1.5), (3, 12, 0.5), (2, 15, 2.0), (1, 6, 0.25)):
        C = r.normal(size=(n, N))
        wanted = np.zeros(N)
        while not (2 <= (np.abs(wanted) > u_max).sum() <= N - n - 1
                   and wanted.min() < -u_max and wanted.max() > u_max):
            lam = r.normal(size=n) * u_max
            wanted = C.T @ lam
        yield lam, C, r.normal(size=n) * u_max, u_max


@exercise
def miss_of(answer):
    """Check ``answer(lam, C, d, u_max)``: the terminal error C clip(C' lam) - d, ``[n]``."""
    for lam, C, d, u_max in _problems():
        given = on_copies(answer, lam=lam, C=C, d=d, u_max=u_max)
        given, w = as_array(given, d.shape, "The terminal error"), C.T @ lam
        u = np.clip(w, -u_max, u_max)
        right = C @ u - d
        judge(given, right, [
            (C @ w - d, "The controls are not clipped: clip C' lam, then multiply by C."),
            (np.clip(C @ w, -u_max, u_max) - d, "You clip the final state, not the controls."),
            (np.clip(C @ w - d, -u_max, u_max), "You clip the terminal error, not the controls."),
            (-right, "The sign is reversed: return C u - d, not d - C u."),
            (C @ u, "That is C u, where the controls lead; subtract d."),
            (C @ u + d, "d is subtracted, not added."),
            (C @ np.minimum(w, u_max) - d, "Only the upper limit is kept; clip at -u_max, too."),
            (C @ np.clip(w, 0, u_max) - d, "The lower limit is -u_max, not 0: a cart can brake."),
            (C @ np.clip(w, -1, 1) - d, "The limit is u_max, not 1."),
            (C @ (u_max * np.sign(w)) - d, "That is full thrust at every step; clip C' lam."),
            (C @ (u_max * np.tanh(w / u_max)) - d,
             "tanh changes every control; clip changes none that is inside the limits."),
            (C @ np.where(np.abs(w) < u_max, w, 0) - d,
             "A control beyond its limit is put *at* the limit, not to zero."),
        ], f"For lam = {lam.round(2)} the terminal error is {given.round(3)}; it should be "
           f"{right.round(3)}.")
    return "N unknown controls are reduced to as many multipliers as the state has components."


def _directions():
    """(y, C, d, u_max, whether y proves it) on both sides of the boundary, and exactly on it."""
    r = np.random.default_rng(8)
    for n, N, u_max in ((2, 15, 1.0), (3, 8, 0.5), (2, 6, 2.0)):
        for share in (0.5, 0.9, 1.1, 3.0, -3.0):
            C, y = r.normal(size=(n, N)), r.normal(size=n)
            furthest = u_max * np.abs(C.T @ y).sum()
            other = r.normal(size=n)
            perpendicular = other - y * (other @ y) / (y @ y)  # changes d, but not y'd
            yield y, C, share * furthest * y / (y @ y) + perpendicular, u_max, share > 1
    C = np.array([[1.0, -1.0, 2.0, 0.5]])
    yield np.array([1.0]), C, np.array([4.5]), 1.0, False  # d on the boundary can be reached
    yield np.array([0.0]), C, np.array([9.0]), 1.0, False  # y = 0 is not a direction


@exercise
def proves_out_of_reach(answer):
    """Check ``answer(y, C, d, u_max)``: whether y separates d from every C u within the limits."""
    for y, C, d, u_max, right in _directions():
        given = on_copies(answer, y=y, C=C, d=d, u_max=u_max)
        refuse((np.asarray(given).size != 1, "Return one True or False, not one a component."),
               (np.asarray(given).dtype != bool,
                f"Return True or False, not {type(given).__name__}."))
        furthest = u_max * np.abs(C.T @ y).sum()
        if bool(given) != right:
            refuse(
                (y @ d == furthest,
                 "d is on the boundary, or y is zero: no proof. The sign is >, not >=."),
                (y @ d < 0 and given, "Here d lies in the *opposite* direction of y, so y proves "
                                      "nothing. Do not take the absolute value of y'd."),
                (True, f"y'd = {y @ d:.2f}, and the largest y'C u within the limits is "
                       f"{furthest:.2f}, so y {'does' if right else 'does not'} prove it. (With "
                       "one limit for all steps that is the sum of |C' y|, times u_max.)"))
    return "y is a certificate: it proves that no controls within the limits reach d."


@exercise
def newton_step(answer):
    """Check ``answer(lam, C, d, u_max)``: the next lam, ``[n]``."""
    for lam, C, d, u_max in _problems():
        given = on_copies(answer, lam=lam, C=C, d=d, u_max=u_max)
        given, w = as_array(given, lam.shape, "The next lam"), C.T @ lam
        free, error = np.abs(w) < u_max, C @ np.clip(w, -u_max, u_max) - d
        slope, at_limit = C[:, free] @ C[:, free].T, C[:, ~free] @ C[:, ~free].T
        step = np.linalg.solve(slope, error)
        right = lam - step
        judge(given, right, [
            (lam - np.linalg.solve(C @ C.T, error),
             "That is the slope of all steps; controls at a limit do not change with lam."),
            (lam + step, "The sign is reversed: lam *minus* the inverse slope times the error."),
            (-step, "That is the step alone; add it to lam."),
            (step, "That is the step alone, and with the wrong sign."),
            (lam - error, "That is a step of gradient descent; Newton divides by the slope."),
            (lam - np.linalg.solve(slope, C @ w - d),
             "The error is that of the *clipped* controls: C clip(C' lam) - d."),
            (lam - np.linalg.pinv(at_limit) @ error,
             "You take the steps at their limit; those *inside* change with lam."),
            (lam - step / 2, "That is half of a Newton step."),
            (lam - slope @ error, "You multiply by the slope; Newton divides by it (solve)."),
            (lam, "You return lam unchanged."),
        ], f"For lam = {lam.round(2)} the next one is {given.round(3)}; it should be "
           f"{right.round(3)}.")
    return "the equation is piecewise linear: within one piece a single such step solves it."
