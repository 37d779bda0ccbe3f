"""Checks of chapter 8: proofs that a target is out of reach, the weakest motor, two trainings."""

import functools

import numpy as np
import scipy.optimize
import torch

from trc_lib.course.exercises.check_result import (
    Wrong,
    apart,
    as_array,
    as_number,
    exercise,
    on_copies,
    refuse,
    several,
)
from trc_lib.evaluation import cycle_controls, final_error
from trc_lib.model import FinalError, OneCall, Proportional
from trc_lib.model.learner import Learner
from trc_lib.problems import bounded_inputs
from trc_lib.systems import DoubleIntegrator

HORIZON = 15


def _farthest(y, C):
    """The largest y'C u of all u within 1."""
    return np.abs(C.T @ y).sum()


def _refuse_no_proof(y, C, d, u_max, where=""):
    """Raise `Wrong` unless y proves that no u within u_max has C u = d."""
    gained, farthest = y @ d, u_max * _farthest(y, C)
    if gained > farthest * (1 + 1e-12):
        return
    refuse((not y.any(), f"{where}y is zero, which is not a direction."),
           (-gained > farthest * (1 + 1e-12), f"{where}-y proves it, y does not: y'd has to be "
                                              "*larger* than the farthest y'C u."),
           (True, "{}y proves nothing: y'd is {}, and the farthest y'C u within the limits is {}, "
                  "which is not less.".format(where, *apart(gained, farthest))))


# ------------------------------------------------------------------ a proof

def _out_of_reach():
    """(C, d, u_max): a target that no u within the limits reaches."""
    C = DoubleIntegrator().controllability_matrix(HORIZON).numpy()
    for d, u_max in (([5.0, 0.0], 0.8), ([7.0, 0.0], 1.0), ([-3.0, 5.5], 1.0), ([5.0, 0.0], 0.3),
                     ([12.8, 4.5], 1.0), ([6.4, 2.25], 0.5),  # the first λ is no proof for these;
                     ([10.0, 4.5], 1.0)):                     # the last takes three steps
        yield C, np.array(d), u_max
    r = np.random.default_rng(11)
    for n, N, u_max, beyond in ((2, 9, 1.5, 1.2), (3, 12, 0.5, 1.5), (2, 20, 2.0, 1.1)):
        C, y = r.normal(size=(n, N)), r.normal(size=n)
        yield C, beyond * u_max * C @ np.sign(C.T @ y), u_max


@exercise
def certificate(answer):
    """Check ``answer(C, d, u_max)``: a direction y that proves that d is out of reach."""
    for C, d, u_max in _out_of_reach():
        y = as_array(on_copies(answer, C=C, d=d, u_max=u_max), d.shape, "y", {
            (C.shape[1],): f"y has one number for each component of d, {len(d)}; yours has one "
                           "for each step. (Is it u?)"})
        _refuse_no_proof(y, C, d, u_max, f"For d = {d.round(2).tolist()} and u_max = {u_max}: ")
    return ("each y is a proof: nothing within the limits gets as far as d in its direction. For "
            "the cart with 0.8 m/s² the line without limits is one already, after no step; for "
            "d = [12.8, 4.5] with 1 m/s² Newton's method takes one.")


# ------------------------------------------------------------------ the weakest motor

def _journeys():
    for start, target in (((-2.5, 0.0), (2.5, 0.0)), ((0.0, 1.0), (1.0, 0.0)),
                          ((1.0, 0.0), (-1.5, 0.0)), ((-4.0, 0.0), (4.0, 0.0))):
        yield torch.tensor(start, dtype=torch.float64), torch.tensor(target, dtype=torch.float64)


def _weakest(C, d):
    """The smallest limit with which C u = d has a solution, by linear programming."""
    n, N = C.shape
    steps = np.vstack([np.c_[np.eye(N), -np.ones(N)], np.c_[-np.eye(N), -np.ones(N)]])
    return scipy.optimize.linprog(np.r_[np.zeros(N), 1], steps, np.zeros(2 * N),
                                  np.c_[C, np.zeros(n)], d, [(None, None)] * N + [(0, None)]).fun


@exercise
def weakest(answer):
    """Check ``answer(start, target)``: the smallest limit, and a y that proves 0.1 % less too
    little."""
    cart = DoubleIntegrator()
    C = cart.controllability_matrix(HORIZON).numpy()
    for start, target in _journeys():
        d = (target - torch.linalg.matrix_power(cart.A, HORIZON) @ start).numpy()
        limit, y = several(on_copies(answer, start=start, target=target), "the limit", "y")
        refuse((np.shape(limit) == (2,) and np.shape(y) in ((), (1,)),
                "The two are swapped: first the limit, then y."))
        limit, y = as_number(limit, "the limit"), as_array(y, (2,), "y")
        right, line = _weakest(C, d), np.abs(C.T @ np.linalg.solve(C @ C.T, d)).max()
        where = f"From {start.tolist()} to {target.tolist()}: "
        distance, time = abs(d[0]), HORIZON * cart.dt
        refuse(
            (limit <= 0, f"{where}a limit is above zero."),
            (abs(limit - line) < 1e-6 * line, f"{where}with {limit:.4f} m/s² the line needs no "
                                              "clipping. A weaker motor arrives, too."),
            (d[1] == 0 and abs(limit - 4 * distance / time**2) < 1e-5,
             f"{where}4 · distance / time² is right for controls that may switch at any time. Here "
             "they are held for whole steps, which takes a little more."),
            (limit < right * (1 - 2e-6), f"{where}with {apart(limit, right)[0]} m/s² there is "
                                         "no way; the smallest limit is larger."),
            (limit > right * (1 + 2e-6), f"{where}{apart(limit, right)[0]} m/s² is enough, but "
                                         "so is less. Search to 1e-6."))
        _refuse_no_proof(y, C, d, 0.999 * right, f"{where}with 0.1 % less than the smallest limit "
                                                 "(0.999 times it), ")
    return "one number that is enough, and a proof that a thousandth less is not."


# ------------------------------------------------------------------ propose, then refine

@functools.lru_cache(maxsize=1)
def _lesson():
    problem = bounded_inputs()
    return [problem.dataset(size, seed) for size, seed in
            ((2_000, 0), (300, 1_000_000), (1_000, 3_000_000))]


def small_network(seed=0):
    """An untrained loop of one call of the block, with about 20,000 parameters."""
    system = bounded_inputs().teacher.system
    return OneCall.create_two_level_small(system, seed, Proportional(FinalError(system)),
                                          latent_dim=32, block_hidden=32, head_hidden=64)


@exercise
def propose_then_refine(answer):
    """Check ``answer(network, train_set, eval_set)`` by where its proposals and its plans end."""
    train_set, eval_set, unseen = _lesson()
    network = answer(small_network(), train_set, eval_set)
    if not isinstance(network, Learner):
        raise Wrong(f"Return the trained network, not {type(network).__name__}.")
    ends = torch.stack([final_error(unseen.system, unseen.initial_states, unseen.target_states, u)
                        for u in cycle_controls(network, unseen)]).mean(dim=1).tolist()
    first, last = ends[0], ends[-1]
    measured = f"First proposals end {first:.3f} from their targets, plans after three cycles "
    measured += f"{last:.3f}"
    refuse(
        (not np.isfinite(ends).all(), "The controls are not finite; try smaller rates."),
        (first > 0.25, f"{measured}. The proposals are too bad (0.25 is asked for): train them by "
                       "themselves, before the cycles, for enough epochs, or with another rate."),
        (last > 0.5 * first, f"{measured}. The cycles help little or nothing: were they trained, "
                             "after the proposals, and at a rate that is not too large?"),
        (last > 0.03, f"{measured}; 0.03 is asked for. Were the cycles trained after the "
                      "proposals? Else give one of the trainings more epochs, or another rate."))
    return ("three cycles bring the plans to less than half of the distance at which the proposals "
            "end: below 0.03, from below 0.25.")
