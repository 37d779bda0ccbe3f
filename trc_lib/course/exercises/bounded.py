"""Checks of chapter 7: the equation of the multiplier, a proof that a target is out of reach, and a step of Newton."""

import numpy as np
import torch

from trc_lib.course.exercises.check_result import Wrong, as_array, exercise, recognise


def _problems():
    """(lam, C, d, u_max) with some steps at the limit on either side and some inside, none within rounding of it."""
    r = np.random.default_rng(7)
    for n, N, u_max in ((2, 9, 1.5), (3, 12, 0.5), (2, 15, 2.0), (1, 6, 0.25)):
        C = r.normal(size=(n, N))
        wanted = np.zeros(N)
        while not (2 <= (np.abs(wanted) > u_max).sum() <= N - n - 1 and wanted.min() < -u_max and wanted.max() > u_max):
            lam = r.normal(size=n) * u_max
            wanted = C.T @ lam
        yield lam, C, r.normal(size=n) * u_max, u_max


def _unchanged(before, after):
    for name, old, new in zip(("lam", "C", "d"), before, after):
        if not np.array_equal(old, new):
            raise Wrong(f"{name} was changed in place; work on a copy, for the caller still needs it.")


def _called(answer, first, C, d, u_max):
    given = first.copy(), C.copy(), d.copy()
    result = answer(*given, u_max)
    _unchanged((first, C, d), given)
    return result


@exercise
def miss_of(answer):
    """``answer(lam, C, d, u_max)`` gives C clip(C' lam) - d."""
    for lam, C, d, u_max in _problems():
        given, wanted = as_array(_called(answer, lam, C, d, u_max), d.shape, "the miss"), C.T @ lam
        u = np.clip(wanted, -u_max, u_max)
        recognise(given, [
            (C @ wanted - d, "The controls are not cut to their limits: clip C' lam before you multiply by C."),
            (np.clip(C @ wanted, -u_max, u_max) - d, "You clip the final state; it is the controls that have limits."),
            (np.clip(C @ wanted - d, -u_max, u_max), "You clip the miss; it is the controls that have limits."),
            (d - C @ u, "The sign is turned round: C u - d is wanted, not d - C u."),
            (C @ u, "That is where the controls lead; take d off."),
            (C @ u + d, "d is to be taken off, not added."),
            (C @ np.clip(wanted, None, u_max) - d, "Only the upper limit is kept; below -u_max the controls are cut, too."),
            (C @ np.clip(wanted, 0, u_max) - d, "The lower limit is -u_max, not 0: the motor can brake."),
            (C @ np.clip(wanted, -1, 1) - d, "The limit is u_max, not 1."),
            (C @ (u_max * np.sign(wanted)) - d, "That is full thrust at every step; inside the limits u is C' lam itself."),
            (C @ (u_max * np.tanh(wanted / u_max)) - d, "tanh bends everywhere; clip changes nothing inside the limits."),
            (C @ np.where(np.abs(wanted) < u_max, wanted, 0) - d,
             "A control beyond its limit is put *at* the limit, not to zero.")])
        if not np.allclose(given, C @ u - d, rtol=0, atol=1e-9):
            raise Wrong(f"for lam = {lam.round(2)} the miss is {given.round(3)}; it should be {(C @ u - d).round(3)}.")
    return "fifteen unknowns have become as many as the state has."


def _directions():
    """(y, C, d, u_max, whether y proves it) on both sides of the edge, and exactly on it."""
    r = np.random.default_rng(8)
    for n, N, u_max in ((2, 15, 1.0), (3, 8, 0.5), (2, 6, 2.0)):
        for share in (0.5, 0.9, 1.1, 3.0, -3.0):
            C, y = r.normal(size=(n, N)), r.normal(size=n)
            furthest = u_max * np.abs(C.T @ y).sum()
            d = share * furthest * y / (y @ y)
            d += (lambda other: other - y * (other @ y) / (y @ y))(r.normal(size=n))     # sideways: y does not see it
            yield y, C, d, u_max, share > 1
    C = np.array([[1.0, -1.0, 2.0, 0.5]])
    yield np.array([1.0]), C, np.array([4.5]), 1.0, False                               # exactly as far as one gets: in reach
    yield np.array([0.0]), C, np.array([9.0]), 1.0, False                               # no direction at all


@exercise
def proves_out_of_reach(answer):
    """``answer(y, C, d, u_max)`` says whether y separates d from all that can be reached."""
    for y, C, d, u_max, right in _directions():
        given = _called(answer, y, C, d, u_max)
        if torch.is_tensor(given) or isinstance(given, np.ndarray):
            if given.size != 1 if isinstance(given, np.ndarray) else given.numel() != 1:
                raise Wrong("Return one True or False, not one for each component.")
            given = given.item()
        if not isinstance(given, (bool, np.bool_)):
            raise Wrong(f"Return True or False, not {type(given).__name__}.")
        if bool(given) == right:
            continue
        furthest = u_max * np.abs(C.T @ y).sum()
        if y @ d == furthest:
            raise Wrong("d is exactly as far as one gets, or y is zero: that is no proof. The sign is >, not >=.")
        if y @ d < 0 and given:
            raise Wrong("Here d lies in the *opposite* direction of y: y proves nothing. Do not take the size of y'd.")
        how = f"y'd = {y @ d:.2f}; within the limits one gets as far as {furthest:.2f} in the direction y"
        raise Wrong(f"{how}, so y {'does' if right else 'does not'} prove it. "
                    "(One limit for every step: the sum of |C' y|, times u_max.)")
    return "a refusal that comes with its reason."


@exercise
def newton_step(answer):
    """``answer(lam, C, d, u_max)`` gives the next lam."""
    for lam, C, d, u_max in _problems():
        given, wanted = as_array(_called(answer, lam, C, d, u_max), lam.shape, "the next lam"), C.T @ lam
        free, miss = np.abs(wanted) < u_max, C @ np.clip(wanted, -u_max, u_max) - d
        step = np.linalg.solve(C[:, free] @ C[:, free].T, miss)
        recognise(given, [
            (lam - np.linalg.solve(C @ C.T, miss), "That is the slope of all steps; those at their limit do not answer to lam."),
            (lam + step, "The sign is turned round: lam *minus* the slope's inverse times the miss."),
            (-step, "That is the step alone; add it to lam."), (step, "That is the step alone, and with the wrong sign."),
            (lam - miss, "That is a step of gradient descent; Newton divides by the slope."),
            (lam - np.linalg.solve(C[:, free] @ C[:, free].T, C @ wanted - d),
             "The miss is that of the *cut* controls: C clip(C' lam) - d."),
            (lam - np.linalg.solve(C[:, ~free] @ C[:, ~free].T, miss) if (~free).sum() >= len(lam) else lam + np.nan,
             "You take the steps at their limit; those *inside* answer."),
            (lam - step / 2, "That is half of a step of Newton."),
            (lam - (C[:, free] @ C[:, free].T) @ miss, "You multiply by the slope; Newton divides by it (solve)."),
            (lam, "Nothing has moved.")])
        if not np.allclose(given, lam - step, rtol=0, atol=1e-8 * max(1, np.abs(step).max())):
            raise Wrong(f"for lam = {lam.round(2)} the next one is {given.round(3)}; it should be {(lam - step).round(3)}.")
    return "on each piece of the map the equation is linear, and one such step solves it."
