"""Answers to chapter 6's exercises: right ones, and wrong ones with a part of the message."""

import functools
import itertools

import numpy as np
import scipy.stats
import torch

from trc_lib.course.exercises import fair_comparison as checks
from trc_lib.course.experiments import Variant, run_variant
from trc_lib.data import generate_dataset
from trc_lib.model.baselines import MLP, LinearMap

DATA = generate_dataset(50, seed=0)

# ------------------------------------------------------------------ train_rival

class Straight(MLP):
    """An MLP without its activations."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        linear = [each for each in self.layers if isinstance(each, torch.nn.Linear)]
        self.layers = torch.nn.Sequential(*linear)


def straight(teacher, seed):
    return Straight.within(146_295, teacher.system, seed, horizon=teacher.horizon)


@functools.cache
def trained(seed, network=straight, lr=2e-3):
    """What `run_variant` returns: the network, and its figures."""
    rival = Variant("rival", "a rival", network, trainings=({"epochs": 3},))
    return run_variant(rival, lr, seed)


def with_activations(teacher, seed):
    return MLP.within(146_295, teacher.system, seed, horizon=teacher.horizon)


# ------------------------------------------------------------------ holm

def holm(p):
    result = [0.0] * len(p)
    for i, mine in enumerate(p):
        result[i] = min(1.0, max(other * sum(each >= other for each in p)
                                 for other in p if other <= mine))
    return result


def step_down(p, factor=lambda count, rank: count - rank, running=True, cap=1.0, ordered=True):
    order, largest, result = sorted(range(len(p)), key=p.__getitem__), 0.0, {}
    for rank, i in enumerate(order):
        scaled = p[i] * factor(len(p), rank)
        largest = max(largest, scaled) if running else scaled
        result[i] = min(largest, cap)
    return [result[i] for i in (range(len(p)) if ordered else order)]


# ------------------------------------------------------------------ held_reward

def held_reward(J, w):
    before = J[:-1].detach()
    return J[-1] - w * ((before - J[1:]) / before).sum()


def held_by_loop(J, w):
    total = J[-1]
    for before, after in itertools.pairwise(J):
        total = total - w * (1 - after / before.item())
    return total


RIGHT = {
    checks.train_rival: [lambda seed: trained(seed)[0], trained],
    checks.holm: [
        holm,
        step_down,
        lambda p: np.array(holm(p), dtype=np.float32),
        lambda p: tuple(torch.tensor(holm(p))),
    ],
    checks.held_reward: [
        held_reward,
        held_by_loop,
        lambda J, w: held_reward(J.float(), w),
        lambda J, w: held_reward(J, w)[None],
    ],
}

WRONG = {
    checks.holm: [
        (lambda p: [min(1.0, each * len(p)) for each in p], "Bonferroni"),
        (lambda p: [1 - (1 - each) ** len(p) for each in p], "Šidák"),
        (lambda p: step_down(p, ordered=False), "sorted"),
        (lambda p: step_down(p, running=False), "running maximum"),
        (lambda p: step_down(p, cap=9.0), "above 1"),
        (lambda p: step_down(p, running=False, cap=9.0), "running maximum"),
        (lambda p: step_down(p, factor=lambda count, rank: rank + 1), "wrong way"),
        (lambda p: np.array(step_down(p, ordered=False))[np.argsort(p)], "wrong places"),
        (lambda p: np.minimum(np.maximum.accumulate(step_down(p, running=False, cap=9.0)), 1),
         "along the sorted values"),
        (scipy.stats.false_discovery_control, "Benjamini"),
        (lambda p: p, "corrected ones are"),
        (lambda p: p[:1], "shape"),
    ],
    checks.train_rival: [
        (lambda seed: trained(seed, with_activations)[0], "activations are still in it"),
        (lambda seed: straight(DATA.teacher, seed), "no better than untrained"),
        (lambda seed: trained(seed, lr=5e-5)[0], "three epochs"),
        (lambda seed: trained(0)[0], "the seed is not used"),
        (lambda seed: LinearMap(DATA), "has 60 numbers"),
        (lambda seed: trained(seed)[1], "not dict"),
        (lambda seed: 1.7e-14, "not float"),
    ],
    checks.held_reward: [
        (lambda J, w: J[-1] - w * ((J[:-1] - J[1:]) / J[:-1]).sum(), "nothing is detached"),
        (lambda J, w: J[-1] - w * ((J[:-1].detach() - J[1:]) / J[:-1]).sum(),
         "not in the denominator"),
        (lambda J, w: J[-1] - w * ((J[:-1] - J[1:]) / J[:-1].detach()).sum(),
         "not in the numerator"),
        (lambda J, w: held_reward(J.detach(), w), "no gradient at all"),
        (lambda J, w: J[-1] - w * ((J[:-1] - J[1:]) / J[:-1]).sum().detach(),
         "all of the reward is detached"),
        (lambda J, w: J[-1] - w * ((J[:-1] - J[1:].detach()) / J[:-1]).sum(), "*later*"),
        (lambda J, w: held_reward(J, w) - J[-1] + J[-1].detach(), "J[H] itself is detached"),
        (lambda J, w: held_reward(J, w) + J[0] - J[0].detach(), "its gradient should"),
        (lambda J, w: 2 * J[-1] - held_reward(J, w), "The sign"),
        (lambda J, w: J[-1] + w * ((J[:-1] - J[1:]) / J[:-1]).sum(), "The sign"),
        (lambda J, w: J[-1] - w * (J[0].detach() - J[-1]), "telescope"),
        (lambda J, w: J[-1] - w * (J[:-1].detach() - J[1:]).sum(), "telescope"),
        (lambda J, w: J[-1] - w * (1 - J[-1] / J[0].detach()), "from the first to the last"),
        (lambda J, w: held_reward(J, w) - J[-1], "J[H], the error of the finished controls"),
        (lambda J, w: w * held_reward(J, 1), "not J[H] as well"),
        (lambda J, w: held_reward(J, 1), "w is not used"),
        (lambda J, w: J[-1] - w * ((J[:-1].detach() - J[1:]) / J[1:]).sum(),
         "divide by the later error"),
        (lambda J, w: J[-1] - w * ((J[:-1].detach() - J[1:]) / J[:-1].detach()).mean(),
         "mean of the gains"),
        (lambda J, w: J[-1] + w * (J[1:] / J[:-1].detach()).sum(), "The 1 in"),
        (lambda J, w: J[-1] - w * (1 - J[1:] / J[:-1].detach()).clamp(min=0).sum(),
         "cut losses off"),
        (lambda J, w: J[-1] - w * sum(1 - J[h] / J[h - 1].detach() for h in range(len(J))),
         "h counts from 1"),
        (lambda J, w: J[-1] - w * sum(1 - J[h] / J[h - 1].detach() for h in range(1, len(J) - 1)),
         "last cycle's gain"),
        (lambda J, w: held_reward(J, 2 * w), "the objective is"),
        (lambda J, w: held_reward(J, w).item(), "as a tensor"),
        (lambda J, w: J, "one number"),
    ],
}
