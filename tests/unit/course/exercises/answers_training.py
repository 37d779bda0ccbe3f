"""Answers to chapter 4's exercises: right ones, and wrong ones with a part of the message."""

import functools
import itertools
import math

import numpy as np
import torch

from trc_lib.course.exercises import training as checks
from trc_lib.data import EVAL_SEED, generate_dataset
from trc_lib.evaluation import cycle_controls, final_error
from trc_lib.model import NoFeedback, TinyRecursiveControl
from trc_lib.training import TrainConfig, train


@functools.cache
def trained(feedback, seed, weight=0.1, L_cycles=1, order=None):
    """Final errors [H+1, n] of a network of the exercise, trained here as a learner would."""
    problems, unseen = generate_dataset(1_000, seed=0), generate_dataset(500, seed=EVAL_SEED)
    network = TinyRecursiveControl.create_two_level_small(seed=seed, L_cycles=L_cycles,
                                                          feedback=feedback and feedback())
    recipe = TrainConfig(epochs=8, lr=3e-3, cycle_weight=weight,
                         seed=seed if order is None else order)
    train(network, problems, unseen, recipe, progress=False)
    x0, xT = unseen.initial_states, unseen.target_states
    return torch.stack([final_error(unseen.system, x0, xT, controls)
                        for controls in cycle_controls(network.cpu(), unseen)])


def looks(change=lambda errors: errors[:, :, -1].mean(dim=-1), factor=3):
    """A look that returns something else of what was measured, [2, 2, H+1, n]."""
    return lambda problems, unseen: (factor, change(torch.stack([
        torch.stack([trained(feedback, seed) for seed in (0, 1)])
        for feedback in (None, NoFeedback)])))


def says(*errors, factor=3):
    return lambda problems, unseen: (factor, errors)


def otherwise(**other):
    """A look whose networks were trained in another way; the check knows it by one of them."""
    return lambda problems, unseen: (
        3, [[0.05, trained(None, 1, **other)[-1].mean()], [0.1, 0.2]])


def last(errors):
    return errors[:, :, -1]


def reads(train=0.5, evaluated=0.9, rise=3, above=min, of=None, words=str, lowest_train=min):
    """A diagnose with other thresholds; ``of``: what the last eval loss is compared with."""
    def answer(train_losses, eval_losses):
        if lowest_train(train_losses) > train * train_losses[0]:
            return words("not learning")
        if above(eval_losses) > evaluated * eval_losses[0]:
            return words("different units")
        lowest = min(eval_losses) if of is None else of(train_losses, eval_losses)
        return words("overfitting" if eval_losses[-1] >= rise * lowest else "learning")
    return answer


diagnose = reads()


def reads_the_worst_after_the_lowest(train_losses, eval_losses):
    said, lowest = diagnose(train_losses, eval_losses), min(eval_losses)
    after = eval_losses[eval_losses.index(lowest):]
    return "overfitting" if said == "learning" and max(after) >= 3 * lowest else said


def stays(train_losses, eval_losses):
    """The table's own words: "different units" only if the eval loss does not rise either."""
    if min(train_losses) > train_losses[0] / 2:
        return "not learning"
    if max(abs(loss / eval_losses[0] - 1) for loss in eval_losses) <= 0.1:
        return "different units"
    return "overfitting" if eval_losses[-1] >= 3 * min(eval_losses) else "learning"


def rate_at(step, total_steps, warm_steps, lr):
    if step < warm_steps:
        return lr * (step + 1) / warm_steps
    return lr * (1 + math.cos(math.pi * (step - warm_steps) / (total_steps - warm_steps))) / 2


def rate(warm="(step + 1) / warm", fall="(1 + cos(pi * (step - warm) / (total - warm))) / 2",
         until="step < warm"):
    def answer(step, total_steps, warm_steps, lr):
        names = {"step": step, "total": total_steps, "warm": warm_steps, "cos": math.cos,
                 "pi": math.pi}
        return lr * eval(warm if eval(until, names) else fall, names)
    return answer


def fears_bumps(train_losses, eval_losses):
    bump = any(b > 2 * a for a, b in itertools.pairwise(eval_losses[:-1]))
    return "overfitting" if bump else diagnose(train_losses, eval_losses)


def wants_equal_losses(train_losses, eval_losses):
    if eval_losses[0] < 0.5 * train_losses[0]:
        return "different units"
    return diagnose(train_losses, eval_losses)


RIGHT = {
    checks.look: [
        looks(),
        looks(lambda errors: last(errors).mean(dim=-1).tolist(), factor=0.5),
        looks(lambda errors: tuple(last(errors).float().mean(dim=-1).numpy()), factor=[1.0]),
        looks(lambda errors: last(errors).mean(dim=-1).round(decimals=4)),
    ],
    checks.read_log: [
        diagnose, stays, reads(1 / 3, 1 / 3), reads(words=str.upper),
        reads(words=lambda said: said.replace(" ", "_")),
        lambda train, evaluated: diagnose(np.array(train), np.array(evaluated)),
    ],
    checks.schedule: [rate_at, rate(), lambda *given: np.float32(rate_at(*given)),
                      lambda *given: torch.tensor([rate_at(*given)])],
}

WRONG = {
    checks.look: [
        (looks(lambda errors: last(errors).mean(dim=-1).flip(0)), "rows are swapped"),
        (looks(lambda errors: last(errors).mean(dim=-1).flip(1)), "columns are swapped"),
        (looks(lambda errors: last(errors).mean(dim=-1).T), "Rows and columns are swapped"),
        (looks(lambda errors: errors[:, :, 0].mean(dim=-1)), "earlier cycle"),
        (looks(lambda errors: last(errors).square().mean(dim=-1)), "means of squares"),
        (looks(lambda errors: last(errors).square().mean(dim=-1).sqrt()), "roots of mean squares"),
        (looks(lambda errors: last(errors).amax(dim=-1)), "largest"),
        (otherwise(weight=0.0), "cycle_weight=0.1"),
        (otherwise(L_cycles=4), "L_cycles=1"),
        (otherwise(order=0), "give it to TrainConfig"),
        (says((0.03, 0.03001), (0.05, 0.05001)), "trained here"),
        (looks(lambda errors: last(errors).median(dim=-1).values), "trained here"),
        (says((6.9, 6.8), (6.9, 6.9)), "hardly trained"),
        (says((7.2e-5, 1.1e-4), (2.2e-4, 1.1e-4)), "too small for distances"),
        (says((0.03, 0.04), (0.03, 0.04)), "NoFeedback"),
        (says((0.03, 0.03), (0.08, 0.08)), "give the seed"),
        (says((0.03, 0.04), (0.08, 0.0)), "positive"),
        (says((0.03, 0.04), (0.08, 0.09), factor=-1), "positive"),
        (says((0.03, 0.04), (0.08, 0.09), factor="three"), "not text"),
        (says(0.03, 0.08), "should have [2, 2]"),
        (lambda problems, unseen: [0.03, 0.04, 0.08, 0.09], "two things"),
    ],
    checks.read_log: [
        (reads_the_worst_after_the_lowest, "This one is 'learning'"),
        (reads(lowest_train=lambda losses: losses[-1]), "(lowest 0.0"),
        (lambda train, evaluated: "learning", "different units"),
        (lambda train, evaluated: "overfitting", "ends at 3 times"),
        (lambda train, evaluated: "underfitting", "one of"),
        (reads(above=lambda losses: losses[-1]), "This one is 'overfitting'"),
        (reads(of=lambda train, evaluated: evaluated[0]), "This one is 'overfitting'"),
        (reads(of=lambda train, evaluated: train[-1]), "a constant factor"),
        (reads(rise=1.5), "This one is 'learning'"),
        (reads(rise=5), "This one is 'overfitting'"),
        (reads(evaluated=0.95), "This one is 'different units'"),
        (reads(evaluated=0.05), "This one is"),
        (reads(train=0.6), "This one is 'not learning'"),
        (reads(train=0.05), "This one is 'learning'"),
        (fears_bumps, "This one is 'learning'"),
        (wants_equal_losses, "This one is 'learning'"),
        (lambda train, evaluated: diagnose([9, 1], evaluated),
         "'not learning': the train loss does not"),
    ],
    checks.schedule: [
        (rate(warm="step / warm"), "step + 1"),
        (rate(until="step <= warm"), "overshoots"),
        (rate(warm="1"), "no warm-up"),
        (rate(fall="1"), "does not fall"),
        (rate(fall="(1 + cos(pi * step / total)) / 2"), "counts from step 0"),
        (rate(fall="(1 + cos(pi * (step - warm) / total)) / 2"), "does not reach zero"),
        (rate(fall="1 + cos(pi * (step - warm) / (total - warm))"), "½"),
        (rate(fall="cos(pi * (step - warm) / (total - warm))"), "bare cosine"),
        (rate(fall="cos(pi / 2 * (step - warm) / (total - warm))"), "quarter"),
        (rate(fall="(1 + cos(2 * pi * (step - warm) / (total - warm))) / 2"), "half a turn"),
        (rate(fall="(1 + cos(180 * (step - warm) / (total - warm))) / 2"), "radians"),
        (rate(fall="1 - (step - warm) / (total - warm)"), "straight line"),
        (rate(fall="(1 + cos(pi * (step + 1 - warm) / (total - warm))) / 2"), "one step early"),
        (rate(fall="(1 - cos(pi * (step - warm) / (total - warm))) / 2"), "sign"),
        (lambda *arguments: rate_at(*arguments) / 2, "step 0 (in the warm-up)"),
    ],
}
