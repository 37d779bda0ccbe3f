"""Checks of chapter 5: two parts of an error, rewards, what success hides, each cycle's effect."""

import numpy as np
import torch
from scipy.linalg import null_space

from trc_lib.course.exercises.check_result import (
    Wrong,
    as_array,
    as_number,
    exercise,
    judge,
    on_copies,
    recognise,
    refuse,
    same,
    several,
)
from trc_lib.data import generate_dataset
from trc_lib.evaluation import measure


def _end_points(dt, N):
    """C [2, N] of the cart, by the laws of motion: x_N = A^N x_0 + C u."""
    return np.array([[dt**2 * (N - k - 0.5) for k in range(N)], [dt] * N])


# ------------------------------------------------------------------ the two parts of an error

DEPENDENT = ("Right where the rows of C are independent. Here one row is the sum of two others: "
             "C Cᵀ has no inverse, and a basis made of all three rows has a direction too many. "
             "Use a pseudo-inverse.")


def _differences():
    """Matrices C and differences d; in the last C, one row is the sum of two others."""
    r = np.random.default_rng(0)
    cart, random = _end_points(0.33, 15), r.normal(size=(3, 8))
    dependent = np.vstack([random[:2], random[0] + random[1]])
    for C, batch in ((cart, 6), (random, 5), (dependent, 7)):
        yield C, r.normal(size=(batch, C.shape[1]))


def _column(part, n):
    """``part``, without a last dimension of 1."""
    return part[..., 0] if np.shape(part) == (n, 1) and not isinstance(part, list) else part


@exercise
def miss_and_waste(answer):
    """Check ``answer(C, difference)``: the squared lengths of its two parts, ``[n]`` each.

    The part in the row space of C is the terminal error, that in the null space the excess energy.
    """
    for C, d in _differences():
        try:
            parts = answer(torch.tensor(C), torch.tensor(d))
        except (torch.linalg.LinAlgError, np.linalg.LinAlgError):
            raise Wrong(DEPENDENT) from None
        n, N = d.shape
        hints = {
            (N,): f"The sum is over the wrong axis: sum over the {N} components of each problem.",
            (): f"That is one number for all problems; return one for each of the {n}.",
            (n, N): f"You return the two parts themselves, [{n}, {N}]; return their squared "
                    f"lengths, [{n}]."}
        names = "The terminal error", "The excess energy"
        a, b = (as_array(_column(part, n), (n,), name, hints)
                for part, name in zip(several(parts, *names), names))
        total = (d**2).sum(axis=1)
        excess = ((d @ null_space(C)) ** 2).sum(axis=1)
        terminal = total - excess
        if same([a, b], [terminal, excess], 1e-6):
            continue
        recognise([a, b], [
            ([excess, terminal],
             "The two are swapped: the part in the row space of C moves the end (terminal error), "
             "the part in the null space only costs energy."),
            ([terminal, total],
             "Your excess energy is all of the difference; subtract the terminal error."),
        ], 1e-6)
        refuse((same(a, np.sqrt(terminal), 1e-6) or same(b, np.sqrt(excess), 1e-6),
                "These are lengths; return their squares. Only squares add up (Pythagoras)."))
        recognise(a, [
            (terminal / N, f"You average over the {N} components; an energy is a sum of squares."),
            (((d @ C.T) ** 2).sum(axis=1), "Your terminal error is |C d|², an error of the final "
                                           "state. Return the part of d that causes it."),
            (((d @ C.T @ C) ** 2).sum(axis=1),
             "CᵀC d lies in the row space, but is no projection: (C Cᵀ)⁻¹ belongs in between."),
        ], 1e-6)
        refuse((np.linalg.matrix_rank(C) < len(C), DEPENDENT))
        raise Wrong("For the first problem the terminal error and the excess energy should be "
                    f"{terminal[0]:.3g} and {excess[0]:.3g}; yours are {a[0]:.3g} and {b[0]:.3g} "
                    f"(|d|² = {total[0]:.3g}).")
    return ("the two add up to |u − u*|². Once the terminal error is zero, the excess energy is "
            "exactly the energy above the least possible.")


# ------------------------------------------------------------------ a price for energy

PRICE = 0.03  # at which the carts no longer arrive, so that they need less than the least energy


@exercise
def price_of_energy(answer):
    """Check ``answer(price)``: a linear map ``[4, 15]`` learned from a reward with such a price."""
    problems = generate_dataset(500, seed=60)
    states = torch.cat([problems.initial_states, problems.target_states], dim=1)
    for price in (0.0, PRICE):
        weights = as_array(answer(price), (4, 15), "The matrix of weights", {
            (15, 4): "Your matrix is transposed: [x0, xT] @ weights gives the controls, so the "
                     "weights are [4, 15].",
            (401, 4, 15): "That is the whole path of the learner; return its last entry."})
        found = measure(problems, (states @ torch.tensor(weights))[..., None])
        error, ratio = found.final_error_mean, found.cost_ratio
        where = (f"With the price {price:g} your carts end {error:.2g} from their targets on "
                 f"average, and their energy ratio is {ratio:.3f}. ")
        if price == 0:
            refuse((error > 0.01, where + "Without a price they should arrive, within 0.01: use "
                                          "the reward of the chapter, and its 400 steps."))
            continue
        refuse(
            (error < 0.001, where + "That is what a price of 0 gives: does the energy reach the "
                                    "reward, with one number for each of the tries? (A mean over "
                                    "all tries is the same for each, and changes nothing.)"),
            (ratio > 1.2, where + "More energy than without a price: it has to be subtracted."),
            (error < 0.02, where + "The price counts some 15 times too little: the energy of a "
                                   "problem is the sum of its 15 squared controls, neither their "
                                   "mean nor the root of it."),
            (ratio > 0.97, where + "The price counts too little: the energy is the sum of the "
                                   "squares, without a factor."),
            (ratio < 0.85, where + "The price counts too much: sum over the 15 steps, and take "
                                   "the mean over the carts."))
    return ("with a price on energy the carts stop short. They need less than the least energy for "
            "arriving, because they do not arrive.")


# ------------------------------------------------------------------ what success does not see

@exercise
def fool(answer):
    """Check ``answer(controls, C)``: controls with the same ends and at least twice the energy."""
    problems = generate_dataset(200, seed=61)
    C, controls = _end_points(0.33, 15), problems.controls
    given = on_copies(answer, controls=controls, C=torch.tensor(C))
    flat, n = controls.numpy()[..., 0], len(controls)
    if np.shape(given) == flat.shape:  # without the last dimension, which is 1
        given = as_array(given, flat.shape, "The array of controls")[..., None]
    given = as_array(given, (n, 15, 1), "The array of controls")[..., 0]
    moved = np.abs((given - flat) @ C.T).max()
    ratio = (given**2).sum() / (flat**2).sum()
    refuse(
        (same(given, flat), "These are the controls as they came. Add something to them."),
        (moved > 1e-4,
         f"Some carts end {moved:.2g} from where they ended before. Add only what C does not see: "
         "C @ added has to be 0 for every problem."),
        (ratio < 1.999, f"The ends are the same, but the energy is {ratio:.4g} times what it was; "
                        "make it 2 times at least."))
    return (f"the same ends, so the same final errors and success rate, at {ratio:.1f} times the "
            "energy. Neither of the two figures sees it.")


# ------------------------------------------------------------------ cycle by cycle

@exercise
def cycle_by_cycle(answer):
    """Check ``answer(errors [H+1, n])``: the shares improved by each cycle, ``[H]``, and a mean.

    The mean is that of the error after each problem's best cycle.
    """
    r = np.random.default_rng(0)
    for H, n in ((3, 200), (5, 48), (2, 7)):
        errors = np.exp(r.normal(size=(H + 1, n)) - 0.4 * np.arange(H + 1)[:, None])
        errors[-1] *= 3  # the last cycle does not have the lowest mean
        errors[-1, :n // 5 + 1] = errors[-2, :n // 5 + 1]  # nor does it change these problems
        shares, best = several(answer(torch.tensor(errors)), "the shares [H]",
                               "the mean error at each problem's best cycle")
        refuse((np.shape(shares) in ((), (1,)) and np.shape(best) == (H,),
                "The two are swapped: first the shares, [H], then the mean error."))
        shares = as_array(_column(shares, H), (H,), "The array of shares", {
            (n,):
             f"The mean is over the cycles; take it over the {n} problems, one for each cycle."})
        best, now, before = as_number(best, "The mean error"), errors[1:], errors[:-1]
        right = (now < before).mean(axis=1)
        judge(shares, right, [
            ((now <= before).mean(axis=1),
             "Your shares include the problems that did not change: improved is <, not <=."),
            ((now > before).mean(axis=1), "That is the share of problems made worse: improved "
                                          "means that the later error is the smaller one."),
            ((now >= before).mean(axis=1),
             "Yours are all that were not improved, with those that did not change among them."),
            ((now < errors[0]).mean(axis=1),
             "You compare with the first proposal; compare each cycle with the one before it."),
            ((now < np.minimum.accumulate(errors)[:-1]).mean(axis=1),
             "You compare with the best so far; compare each cycle with the one just before it."),
            ((now < before).sum(axis=1), "These are numbers of problems; divide by all problems."),
            (100 * right, "These are percent; a share lies between 0 and 1."),
            (1 - now.mean(axis=1) / before.mean(axis=1),
             "That is by how much the mean error falls; return on how many problems it falls."),
        ], "Compare row k with row k − 1, problem by problem, and take the mean over the problems.",
            1e-6, f"The first cycle improves {right[0]:.3f}, the last {right[-1]:.3f}; you say "
                  f"{shares[0]:.3f} and {shares[-1]:.3f}. ")
        each = errors.min(axis=0)
        judge(best, each.mean(), [
            (errors.mean(axis=1).min(),
             "That is the best cycle in the mean. Each problem has its own best cycle."),
            (errors.min(), "That is the smallest of all; take each problem's, then the mean."),
            (errors.min(axis=1).mean(),
             "The minimum is over the problems; take it over the cycles, one for each problem."),
            (now.min(axis=0).mean(), "The first proposal is left out; it can be a problem's best."),
            (errors[-1].mean(),
             "That is the last cycle's; for many problems an earlier one is better."),
            (each.sum(), "That is a sum; take the mean over the problems."),
            (np.median(each), "That is the median; take the mean over the problems."),
        ], "For each problem the smallest error of any cycle; then the mean.", 1e-6,
            "The shares are right. With each problem stopped at its best cycle the mean error is "
            f"{each.mean():.4f}, not {best:.4f}. ")
    return ("“better on average” and “better on every problem” are two claims; a table of means "
            "shows the first, only this count shows the second.")
