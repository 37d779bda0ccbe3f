"""Checks of chapter 7: stopping, a correction in proportion, cycles that make nothing worse."""

import math

import numpy as np
import torch

from trc_lib.course.exercises.check_result import (
    Wrong,
    as_array,
    exercise,
    judge,
    recognise,
    refuse,
    same,
    several,
)

CLOSE = 1e-5  # the tolerance where float32 is accepted

# ------------------------------------------------------------------ stopping

def _leading(go_on):
    """How many rows of go_on [H, n] are True before the first False, for each column."""
    return np.array([next((h for h, go in enumerate(column) if not go), len(column))
                     for column in go_on.T])


def _stop_mistakes(errors, gain, threshold, used):
    """The cycles that plausible mistakes give instead of ``used``, with their messages."""
    H, n = gain.shape
    go_on = gain > threshold
    again, own = "A problem that has stopped does not start again", "Each stops by its own gains."
    return [
        (go_on.sum(axis=0),
         f"You count every gain above the threshold. {again}: stop at the first that is not."),
        ((go_on * np.arange(1, H + 1)[:, None]).max(axis=0),
         f"You go on to the *last* cycle with a gain above the threshold. {again}."),
        (np.minimum(used + 1, H), used + 1,
         "One cycle too many: row h is predicted *before* cycle h + 1 is run, which it saves."),
        (np.maximum(used - 1, 0), used - 1,
         "One cycle too few: as long as the gains are above the threshold, cycles are run."),
        (_leading(gain >= threshold),
         "A gain that only equals the threshold is not above it: stop there."),
        (_leading(~go_on), "The other way round: go on while the gain is above the threshold."),
        (np.where(used == H, 0, used), "A problem whose gains are all above the threshold uses all "
                                       f"{H}, not 0 (argmax gives 0 if nothing is True)."),
        (np.cumprod(go_on, axis=1).sum(axis=0), "The product is along the problems, so one that "
                                                "stops ends the others. Use dim 0, the cycles."),
        (np.full(n, _leading(gain.mean(axis=1, keepdims=True) > threshold)),
         f"All stop together, where the *mean* gain is too small. {own}"),
        (np.full(n, min(used)), f"All stop with the first that stops. {own}"),
        (np.full(n, max(used)), f"All go on until the last one stops. {own}"),
        (_leading(errors[:-1] - errors[1:] > threshold),
         "You stop by the actual gain, known only once a cycle is run. Use the predicted gain."),
        (_leading(np.abs(gain) > threshold),
         "You take the absolute value of the gain; a negative one makes the error worse."),
        (_leading(errors[:-1] > threshold), "You compare the error, not the gain."),
        (errors.argmin(axis=0), "That is each problem's best cycle, known only once all are run."),
    ]


@exercise
def stop_when(answer):
    """Check ``answer(errors, predicted_gain, threshold)``: cycles used and errors at the stop."""
    r = np.random.default_rng(1)
    for H, n, threshold in ((4, 12, 0.1), (3, 9, 0.0), (5, 11, 0.2)):
        errors = r.uniform(0.1, 1, size=(H + 1, n))
        gain = r.choice([-0.3, 0.0, 0.1, 0.2, 0.5], size=(H, n))
        gain[:, 0], gain[:, 1] = 1.0, -1.0  # one never stops, one never starts
        gain[:, 2] = [1.0, -1.0] + [1.0] * (H - 2)  # a high gain after the stop
        used, columns = _leading(gain > threshold), np.arange(n)
        cycles, error = several(answer(torch.tensor(errors), torch.tensor(gain), threshold),
                                "cycles used", "error at the stop")
        single = f"Return one number for each problem, [{n}], not a single number."
        mine = as_array(cycles, (n,), "cycles used", {
            (): single,
            (H,): f"The wrong axis: return one number for each of the {n} problems, not for each "
                  f"of the {H} cycles. Go along the rows, dim 0.",
            (H, n): f"You return which cycles are run, [{H}, {n}]; return how many, [{n}].",
        })
        error = as_array(error, (n,), "error at the stop", {
            (): single,
            (n, n): "errors[cycles] takes whole rows: take row cycles[i] of column i alone.",
        })
        i = int(np.argmax(mine != used))
        judge(mine, used, _stop_mistakes(errors, gain, threshold, used),
              f"Predicted gains {gain[:, i].tolist()}, threshold {threshold}: {used[i]} cycles; "
              f"you say {mine[i]:g}.")
        kind = str(cycles.dtype if torch.is_tensor(cycles) else np.asarray(cycles).dtype)
        if kind not in ("int64", "torch.int64"):
            raise Wrong(f"The numbers are right, their type is not: int64, not {kind}.")
        judge(error, errors[used, columns], [
            (errors[np.minimum(used + 1, H), columns],
             "that of one cycle later. Row k of errors is after k cycles."),
            (errors[np.maximum(used - 1, 0), columns], errors[used - 1, columns],
             "that of one cycle earlier. Row k of errors is after k cycles."),
            (errors[-1], "that after the last cycle, for all problems."),
            (errors[0], "that of the first proposal, for all problems."),
            (errors.min(axis=0), "each problem's smallest, wherever it stopped."),
            ([errors[:k + 1, i].min() for i, k in enumerate(used)],
             "the smallest so far. Return that of the cycle it stopped at."),
            (np.full(n, errors[used, columns].mean()), errors[used].mean(axis=1),
             "a mean over the problems. Each has its own."),
        ], "wrong: take row cycles[i] of column i.", CLOSE, "The cycles are right; the error is ")
    return "a problem that has stopped stays stopped: by cumprod, or by a loop with a break."


# ------------------------------------------------------------------ a correction in proportion

TINY = 1e-12


def _size(e):
    """The size of each error, [n, 1]."""
    return np.sqrt((e**2).sum(axis=1, keepdims=True) + TINY)


def _parts(e, decoded, size=_size):
    """direction [n, 2], log-size [n, 1] and correction [n, N]."""
    s = size(e)
    return e / s, np.log(s) / 4, s * decoded


@exercise
def proportional(answer):
    """Check ``answer(error, decoded)``: the signal [n, 3] and the correction [n, N]."""
    r = np.random.default_rng(2)
    ordinary = r.normal(size=(6, 2)) * 10.0 ** r.uniform(-2, 0, size=(6, 1))
    tiny = r.normal(size=(5, 2)) * 10.0 ** r.uniform(-7, -5, size=(5, 1))
    zero = np.array([[0.3, -0.4], [0.0, 0.0], [-2e-3, 1e-3], [0.0, 0.0]])
    for e, N, check in ((ordinary, 15, _check_values), (r.normal(size=(4, 2)), 5, _check_values),
                        (zero, 7, _check_gradient), (tiny, 4, _check_values),
                        (zero, 8, _check_at_zero)):
        n, d = len(e), r.normal(size=(len(e), N))
        error = torch.tensor(e, requires_grad=True)
        given = several(answer(error, torch.tensor(d)), "the signal", "the correction")
        refuse((not all(torch.is_tensor(value) for value in given),
                "Return tensors: training sends its gradient back through both of them."))
        refuse((e is zero and not all(torch.isfinite(value).all() for value in given),
                "Right, but not where the error is exactly zero: there it gives NaN or infinity "
                "(0 / 0, log 0). Add 1e-12 *under* the root."))
        as_array(given[0], (n, 3), "The signal", {
            (n, N): "The two are swapped: first the signal, then the correction.",
            (n, 2): "The signal has two columns; the logarithm of the size, over 4, is the third.",
        })
        as_array(given[1], (n, N), "The correction")
        check(given, error, d)
    return "at zero error the correction is zero: controls that arrive are not changed."


def _check_at_zero(given, error, d):
    signal, correction, e = (value.detach().numpy() for value in (*given, error))
    direction, log_size, _ = _parts(e, d)
    if not (same(signal, np.hstack([direction, log_size]), CLOSE)
            and same(correction / _size(e), d, CLOSE)):
        raise Wrong("Where the error is exactly zero, the size is the root of 1e-12, the direction "
                    f"0, and the third column {math.log(1e-6) / 4:.2f}; your answer treats it as a "
                    "separate case.")


def _check_values(given, error, d):
    signal, correction, e = (value.detach().numpy() for value in (*given, error))
    direction, log_size, _ = _parts(e, d)
    size, norm, mine = _size(e), np.sqrt((e**2).sum(axis=1, keepdims=True)), signal[:, :2]
    if not same(mine, direction, CLOSE):
        components = "the size is the root of the sum of squares."
        recognise(mine, [(e / wrong, message) for wrong, message in (
            (np.ones_like(norm), "The direction still has the size of the error: divide by it."),
            (np.abs(e), "One size a problem, not for each component: the length of its row."),
            (np.sqrt((e**2).sum()),
             "That is one size for the whole batch: sum over the components alone."),
            (np.sqrt((e**2).sum(axis=0)),
             "The wrong axis: sum over the two components of each problem, dim 1."),
            (norm**2, "The root is forgotten: the size is a length, not its square."),
            (norm / math.sqrt(2), f"You take the mean of the two squares; {components}"),
            (np.abs(e).sum(axis=1, keepdims=True), f"You add the absolute values; {components}"),
            (np.abs(e).max(axis=1, keepdims=True), f"That is the larger component; {components}"),
            (1 / norm, "You multiply by the size; the direction is the error divided by it."),
            (np.maximum(norm, 1e-6), "You cut the size off from below, so that it has no gradient "
                                     "for small errors; 1e-12 under the root is smooth."),
        )], CLOSE)
        _explain_tiny(mine, e, norm)
        recognise(signal, [
            (np.hstack([log_size, direction]), "The logarithm comes last, the direction first."),
            (np.hstack([-direction, signal[:, 2:]]),
             "The direction points the other way: it is error / size, without a minus."),
        ], CLOSE)
        raise Wrong("The first two columns should be the error over its size, "
                    f"{np.round(direction[0], 3).tolist()} in the first row; yours are "
                    f"{np.round(mine[0], 3).tolist()}.")
    judge(signal[:, 2:], log_size, [
        (np.log10(size) / 4, "The third column has the natural logarithm; yours is to base 10."),
        (np.log2(size) / 4, "The third column has the natural logarithm; yours is to base 2."),
        (np.log1p(size) / 4,
         "log1p is log(1 + size), which is nearly 0 for small errors. Take the plain logarithm."),
        (np.log(size), "The logarithm is divided by 4, to be no larger than the latents."),
        (np.log(size / 4), "That is the logarithm of size / 4: divide the logarithm itself by 4."),
        (np.log(size) / 2, "That is the logarithm of the *squared* size: its root is forgotten."),
        (-log_size, "The sign of the logarithm: a small size has a negative one."),
        (size, size / 4, "The third column is the *logarithm* of the size: it tells 0.001 from 0."),
    ], f"The third column should be log(size) / 4, {log_size[0, 0]:.3f} in the first row, not "
       f"{signal[0, 2]:.3f}.", CLOSE)
    judge(correction / size, d, [
        (d / size, "The correction is still the decoder's output: multiply it by the size."),
        (d / size**2, "Multiply by the size, do not divide: small errors need small corrections."),
        (1 + d / size, "You add the size to the decoder's output; multiply the two."),
        (size * d, "You multiply by the squared size; multiply by the size."),
        (log_size / size * d, "You multiply by the logarithm; multiply by the size."),
        (-d, "The sign: the correction is plus the size times the decoder's output."),
    ], "The correction should be the size times the decoder's output.", CLOSE)


def _explain_tiny(direction, e, norm):
    """Raise `Wrong` if the direction is e over a size with another small number than 1e-12."""
    lengths = np.sqrt((direction**2).sum(axis=1, keepdims=True))
    if (lengths == 0).any() or not same(direction / lengths, e / norm, CLOSE):
        return
    size = norm / lengths
    for added, where in ((size - norm, "outside the root"), (size**2 - norm**2, "under the root")):
        if added.min() > 0 and np.ptp(added) < 1e-3 * added.max():
            raise Wrong(f"You add {added.mean():.1g} {where}; add 1e-12 *under* it.")
    if np.allclose(size, norm, rtol=1e-9):
        raise Wrong("The size has no 1e-12 *under* its root: it matters for the smallest errors.")


def _differences(function, e):
    """The gradients of two functionals of e by finite differences, [2, n, 2]."""
    slopes = np.zeros((2, *e.shape))
    for i, j in np.ndindex(e.shape):
        step = np.zeros_like(e)
        step[i, j] = 1e-4 * _size(e)[i, 0]
        slopes[:, i, j] = (function(e + step) - function(e - step)) / (2 * step[i, j])
    return slopes


def _check_gradient(given, error, d):
    r, e = np.random.default_rng(4), error.detach().numpy()
    weights = [r.normal(size=tuple(value.shape)) for value in given]
    slopes = []
    for value, w in zip(given, weights):
        slope = None
        if value.requires_grad:
            slope = torch.autograd.grad((value * torch.tensor(w)).sum(), error, allow_unused=True,
                                        retain_graph=True)[0]
        slopes.append(np.zeros_like(e) if slope is None else slope.numpy())
    if not np.isfinite(slopes).all():
        raise Wrong("Right, but where the error is zero the gradient is NaN: a root has no slope "
                    "there. Add 1e-12 *under* it.")

    def weighed(moved, size=_size):
        direction, log_size, correction = _parts(moved, d, size)
        values = np.hstack([direction, log_size]), correction
        return np.array([(value * w).sum() for value, w in zip(values, weights)])

    somewhere = np.abs(e).sum(axis=1) > 0

    def close(slope, right):  # row by row, whose sizes differ by powers of ten
        return all(np.allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())
                   for a, b in zip(slope[somewhere], right[somewhere]))

    free = _differences(weighed, e)
    held = _differences(lambda moved: weighed(moved, lambda _: _size(e)), e)
    for slope, right, without, what in zip(slopes, free, held, ("the signal", "the correction")):
        if close(slope, right):
            continue
        if close(slope, without):
            raise Wrong(f"The values are right, but in {what} the size is detached: its gradient "
                        "is part of the answer. Detach nothing here.")
        raise Wrong(f"The values are right; the gradient of {what} is not (detach, item or numpy "
                    "on the way?).")


# ------------------------------------------------------------------ cycles that make nothing worse

GOAL = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)  # the cheapest controls of all problems


def _cost(u):
    return (u - GOAL).square().sum(dim=1)


def _cycle(u):
    """Far from the goal it helps; near to it, it makes the controls worse, for the time being."""
    off = u - GOAL
    return GOAL + torch.where(off.norm(dim=1, keepdim=True) < 1, 3.0 * off, 0.2 * off)


def _kept(u, cycles, better):
    """What ``cycles`` cycles end with if those that are ``better`` are taken, and gone on from."""
    for _ in range(cycles):
        after = _cycle(u)
        u = torch.where(better(_cost(u), _cost(after))[:, None], after, u)
    return u


def _cheapest_of_all(u, cycles):
    """The cheapest plan of a run that takes every cycle."""
    best = u
    for _ in range(cycles):
        u = _cycle(u)
        best = torch.where((_cost(u) < _cost(best))[:, None], u, best)
    return best


@exercise
def never_worse(answer):
    """Check ``answer(cycle, cost, u, cycles)``: each problem keeps the cheaper controls."""
    start = torch.randn(9, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    sizes = torch.tensor([0.3, 0.5, 0.8, 0.95, 1.5, 2.0, 3.0, 4.9, 6.0], dtype=torch.float64)
    start = GOAL + sizes[:, None] * start / start.norm(dim=1, keepdim=True)

    def always(before, after):
        return torch.ones_like(before, dtype=torch.bool)

    def on_average(before, after):
        return (after.mean() < before.mean()).expand(len(before))

    for cycles in (2, 4, 1):
        right = _kept(start, cycles, lambda before, after: after < before)
        given = as_array(answer(_cycle, _cost, start.clone(), cycles), tuple(start.shape),
                         "the controls", {(len(start),): "Return the controls, not their costs."})
        judge(given, right.numpy(), [
            (_kept(start, cycles, always), "Every cycle is taken, also where it costs more."),
            (_kept(start, cycles, on_average),
             "All problems keep or take the new controls together, by the mean cost. Each by its "
             "own: torch.where."),
            (_kept(start, cycles, lambda before, after: after > before),
             "You keep the dearer of the two."),
            (start, "Nothing is changed: where a cycle costs less, take its controls."),
            (_kept(start, 1, lambda before, after: after < before),
             f"That is one cycle; run {cycles}, each from what was kept before it."),
            (_kept(start, cycles - 1, lambda before, after: after < before),
             "That is one cycle too few."),
            (_kept(start, cycles + 1, lambda before, after: after < before),
             "That is one cycle too many."),
            (_cheapest_of_all(start, cycles),
             "You run all cycles on, and pick the cheapest plan at the end. Go on from the plan "
             "that was *kept*: a cycle is not to start from controls that are worse."),
        ], f"After {cycles} cycles the controls should cost "
           f"{_cost(right).sum():.3f} together; yours cost "
           f"{_cost(torch.tensor(given)).sum():.3f}.", CLOSE)
    return "no cycle can make a plan worse now, however deep it runs."
