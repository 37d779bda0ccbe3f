"""Checks of chapter 6: a rival without activations, Holm's correction, a detached reward."""

import numpy as np
import scipy.stats
import torch

from trc_lib.course.exercises.check_result import (
    Wrong,
    as_array,
    exercise,
    judge,
    refuse,
)
from trc_lib.data import generate_dataset

# ------------------------------------------------------------------ a rival of one's own

SMALLEST, LARGEST = 100_000, 200_000  # numbers of a rival; the chapter's MLP has 146,295


def _network(given):
    """The network of an answer, which may be all that `run_variant` returns."""
    if isinstance(given, (tuple, list)) and given:
        given = given[0]
    if not callable(getattr(given, "solve", None)):
        raise Wrong("Return the trained network, which is the first of the two things that "
                    f"run_variant returns, not {type(given).__name__}.")
    return given


def _bend(network, x0, xT, other_x0, other_xT):
    """How far a network is from a linear map: the largest |f(a) + f(b) - f(a + b) - f(0)|."""
    def solved(*problem):
        return torch.as_tensor(network.solve(*problem)).double()
    parts = solved(x0, xT) + solved(other_x0, other_xT)
    whole = solved(x0 + other_x0, xT + other_xT) + solved(0 * x0, 0 * xT)
    return (parts - whole).abs().max().item()


@exercise
def train_rival(answer):
    """Check ``answer(seed)``: a network without activations, trained; its outcome is measured."""
    problems, others = (generate_dataset(300, seed=seed) for seed in (8_000_000, 8_000_001))
    x0, xT = problems.initial_states, problems.target_states
    found = []
    for seed in (0, 1):
        network = _network(answer(seed))
        controls = torch.as_tensor(network.solve(x0, xT)).double()
        off = (controls - problems.controls).square().mean().item()
        where = f"With the seed {seed} the control MSE on new problems is {off:.1e} (m/s²)². "
        count = getattr(network, "num_parameters", SMALLEST)
        refuse((not SMALLEST <= count <= LARGEST,
                f"Your network has {count:,} numbers. Keep the sizes of the chapter's MLP, with "
                "146,295, so that the activations are the only difference."))
        if off > 1e-11:
            bend = _bend(network, x0, xT, others.initial_states, others.target_states)
            refuse(
                (bend > 1e-4, where + "The activations are still in it: for the sum of two "
                                      f"problems its answer is off the sum by {bend:.1e} m/s²."),
                (off > 0.1, where + "That is no better than untrained: return what run_variant "
                                    "trained."))
            raise Wrong(where + "The network is linear, and could come below 1e-11: train it for "
                                "three epochs, with a learning rate near 2e-3.")
        found.append(controls)
    refuse((torch.equal(*found), "Both seeds give the same network: the seed is not used."))
    return ("with both seeds the control MSE is below 1e-11; it can come to about 2e-14, seven "
            "powers of ten below the MLP with its activations.")


# ------------------------------------------------------------------ many tests at once

def _corrected(p, running=True, cap=True, factors=None, back=True):
    """Holm's correction, or what it gives without one of its parts."""
    p, count = np.asarray(p), len(p)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * (count - np.arange(count) if factors is None else factors)
    scaled = np.maximum.accumulate(scaled) if running else scaled
    scaled = np.minimum(scaled, 1.0) if cap else scaled
    if not back:
        return scaled
    result = np.empty(count)
    result[order] = scaled
    return result


@exercise
def holm(answer):
    """Check ``answer(p)``: p-values corrected for their number by Holm's rule, in their order."""
    for p in ([0.03, 0.001, 0.02], [0.04, 0.011, 0.012, 0.6], [0.2, 0.02, 0.021, 0.9, 0.001],
              [0.7, 0.02, 0.6]):
        count, right = len(p), _corrected(p)
        given = as_array(answer(list(p)), (count,), "the corrected p-values")
        by_benjamini = scipy.stats.false_discovery_control(p)
        uncut = _corrected(p, running=False, cap=False)
        judge(given, right, [
            (_corrected(p, factors=count), "That is Bonferroni's correction: every p times their "
             "number. Holm's multiplies only the smallest by it, the next by one less."),
            (1 - (1 - np.array(p)) ** count, "That is Šidák's correction, the same for every p. "
             "Holm's depends on the rank: the smallest p times their number, the next times one "
             "less."),
            (_corrected(p, back=False),
             "The values are right, but sorted. Return them in the order of the p that came in."),
            (_corrected(p, running=False), "The order is lost: one comparison ends with a smaller "
             "value than another that had the smaller p. Take the running maximum."),
            (_corrected(p, cap=False), "A probability above 1: cut them at 1."),
            (uncut,
             "Take the running maximum, from the smallest p on, and cut at 1."),
            (_corrected(p, factors=1 + np.arange(count)),
             "The factors run the wrong way: the smallest p is multiplied by the largest factor."),
            (_corrected(p, back=False)[np.argsort(p)],
             "The values are right, but in the wrong places: result[order] = values puts them "
             "back, and values[order] does not."),
            (np.minimum(np.maximum.accumulate(uncut), 1),
             "The running maximum goes along the sorted values, before they go back to their "
             "places."),
            (by_benjamini, "That is the correction of Benjamini and Hochberg, or a running minimum "
             "from the largest p on. Holm's takes the running maximum, from the smallest p on."),
        ], f"For p = {p} the corrected ones are {np.round(right, 4).tolist()}; yours are "
           f"{np.round(given, 4).tolist()}.", 1e-9)
    return ("with it, a family of true ties gives a false verdict at most once in twenty. Without "
            "it, ten independent ties give at least one in 40 % of the families, 1 − 0.95¹⁰.")


# ------------------------------------------------------------------ a reward with a detached error

def _objective(last, top, bottom, after, w):
    """J[H] - w * sum((top - after) / bottom), of four copies of J."""
    return last[-1] - w * ((top[:-1] - after[1:]) / bottom[:-1]).sum()


def _slope(J, w, moving):
    """The gradient of `_objective` by finite differences; only the ``moving`` copies change."""
    def moved(step):
        return _objective(*(J + step if name in moving.split() else J
                            for name in ("last", "top", "bottom", "after")), w)
    return np.array([(moved(step) - moved(-step)) / 2e-5 for step in 1e-5 * np.eye(len(J))])


STILL_HAS_A_SLOPE = ("The value is right; J[h-1] is detached in the {}, but not in the {}, so that "
                     "J[0] still has a gradient. Detach it in both places.")
DETACHED = [  # the copies of J that have a gradient, and the message
    ("last top bottom after", "The value is right, but nothing is detached: J[0] still has a "
                              "gradient, and training is drawn to a bad first proposal. Use "
                              ".detach()."),
    ("last bottom after", STILL_HAS_A_SLOPE.format("numerator", "denominator")),
    ("last top after", STILL_HAS_A_SLOPE.format("denominator", "numerator")),
    ("last", "The value is right, but all of the reward is detached, so it has no effect. Detach "
             "the earlier error, not the later one."),
    ("last top bottom", "The value is right; you detach the *later* error. Detach the earlier one, "
                        "J[h-1]."),
    ("after", "The value is right; J[H] itself is detached. Detach only the earlier errors."),
]


@exercise
def held_reward(answer):
    """Check ``answer(J, w)``: J[H] - w * sum(1 - J[h] / J[h-1]), the earlier errors detached."""
    for J, w in (([3.0, 1.0, 0.5, 0.2], 0.1), ([0.4, 0.8, 0.1], 0.5), ([2.0, 1.0], 0.3)):
        tensor = torch.tensor(J, dtype=torch.float64, requires_grad=True)
        given = answer(tensor, w)
        if not torch.is_tensor(given) or given.numel() != 1:
            raise Wrong("Return one number, as a tensor with a gradient.")
        J, value = np.array(J), given.item()
        before, after, last = J[:-1], J[1:], J[-1]
        gains = 1 - after / before
        right = _objective(J, J, J, J, w)
        judge(value, right, [
            (last + w * gains.sum(), "The sign: a reward is subtracted from what is minimised."),
            (last - w * (J[0] - last),
             "You reward plain differences: they telescope, and only the first and the last error "
             "are left. Divide each by the error at the start of its cycle, J[h-1]."),
            (last - w * (J[0] - last) / J[0],
             "That is the gain from the first to the last, over J[0]. Divide each cycle's gain by "
             "the error that *it* began with, J[h-1]."),
            (-w * gains.sum(), "J[H], the error of the finished controls, is missing."),
            (gains.sum(), "That is the reward alone; the objective is J[H] − w times the reward."),
            (last - gains.sum(), "The weight w is not used."),
            (w * (last - gains.sum()), "w multiplies the reward alone, not J[H] as well."),
            (last - w * ((before - after) / after).sum(),
             "You divide by the later error, J[h]; divide by the earlier one, J[h-1]."),
            (last - w * gains.mean(), "You take the mean of the gains; take their sum."),
            (last + w * (after / before).sum(), "The 1 in 1 − J[h] / J[h-1] is missing. It changes "
                                                "no gradient, but it changes the value."),
            (last - w * np.maximum(gains, 0).sum(),
             "You cut losses off at zero; a cycle that increases the error should be penalised."),
            (last - w * np.abs(gains).sum(),
             "You reward every change; a cycle that increases the error should be penalised."),
            (last - w * (gains.sum() + 1 - J[0] / last),
             "With h = 0, J[h-1] is J[-1], the last error: h counts from 1."),
            (last - w * gains[:-1].sum(),
             "The last cycle's gain is missing: h goes from 1 to H, and J has H + 1 entries."),
            (last - w * gains[1:].sum(), "The first cycle's gain is missing: h goes from 1 to H."),
        ], f"For J = {J.tolist()} and w = {w} the objective is {right:.4f}; yours is {value:.4f}.")
        slope = None
        if given.requires_grad:
            slope = torch.autograd.grad(given, tensor, allow_unused=True)[0]
        if slope is None:
            raise Wrong("The value is right, but it has no gradient at all: detach the earlier "
                        "errors, and nothing else.")
        slope, wanted = slope.numpy(), _slope(J, w, "last after")
        judge(slope, wanted, ((_slope(J, w, moving), message) for moving, message in DETACHED),
              f"The value is right; for J = {J.tolist()} and w = {w} its gradient should be "
              f"{np.round(wanted, 3).tolist()}, and is {np.round(slope, 3).tolist()}.", 1e-6)
    return ("the gradient for J[0] is zero, so training is not drawn to a bad first proposal. (The "
            "value of the reward still grows with J[0].)")
