"""Answers to chapter 4's exercises: right ones, and wrong ones with a part of the message."""

import dataclasses
import itertools
import math

import numpy as np
import torch

from trc_lib.course.exercises import training as checks
from trc_lib.evaluation import final_error
from trc_lib.model import NoFeedback, TinyRecursiveControl
from trc_lib.training import TrainConfig, train


def look(problems, unseen):
    recipe, errors = TrainConfig(epochs=8, lr=3e-3, cycle_weight=0.1), []
    x0, xT = unseen.initial_states[:100], unseen.target_states[:100]
    some = dataclasses.replace(unseen, initial_states=x0, target_states=xT,
                               controls=unseen.controls[:100])
    for feedback in (None, NoFeedback()):
        for seed in (0, 1):
            network = TinyRecursiveControl.create_two_level_small(seed=seed, feedback=feedback)
            train(network, problems, some, dataclasses.replace(recipe, seed=seed), progress=False)
            controls = network.cpu().solve(x0, xT)
            errors.append(final_error(unseen.system, x0, xT, controls).mean())
    return 2, torch.stack(errors).reshape(2, 2)


def looks(*errors, factor=3, form=list):
    return lambda problems, unseen: (factor, form(errors))


def reads(train=0.5, evaluated=0.9, rise=3, above=min, of=None, words=str):
    """A diagnose with other thresholds; ``of``: what the last eval loss is compared with."""
    def answer(train_losses, eval_losses):
        if train_losses[-1] > train * train_losses[0]:
            return words("not learning")
        if above(eval_losses) > evaluated * eval_losses[0]:
            return words("different units")
        lowest = min(eval_losses) if of is None else of(train_losses, eval_losses)
        return words("overfitting" if eval_losses[-1] >= rise * lowest else "learning")
    return answer


diagnose = reads()


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
        look,
        looks((0.033, 0.034), (0.089, 0.083)),
        looks((0.02, 0.03), (0.05, 0.04), factor=[1.0], form=np.float32),
    ],
    checks.read_log: [
        diagnose, reads(1 / 3, 1 / 3), reads(words=str.upper),
        reads(words=lambda said: said.replace(" ", "_")),
        lambda train, evaluated: diagnose(np.array(train), np.array(evaluated)),
    ],
    checks.schedule: [rate_at, rate(), lambda *given: np.float32(rate_at(*given)),
                      lambda *given: torch.tensor([rate_at(*given)])],
}

WRONG = {
    checks.look: [
        (looks((0.089, 0.083), (0.033, 0.034)), "rows swapped"),
        (looks((0.033, 0.09), (0.089, 0.083)), "With one seed"),
        (looks((6.9, 6.8), (6.9, 6.9)), "hardly trained"),
        (looks((0.03, 0.04), (0.03, 0.04)), "NoFeedback"),
        (looks((0.03, 0.03), (0.08, 0.08)), "give the seed"),
        (looks((8e-5, 9e-5), (2e-4, 1e-4)), "means of squares"),
        (looks((0.03, 0.04), (1.2, 1.1)), "cut after its training"),
        (looks((0.30, 0.22), (0.68, 0.26)), "too far away for 8 epochs"),
        (looks((0.005, 0.006), (0.02, 0.02)), "nearer than small networks come"),
        (looks((0.03, 0.04), (0.08, 0.0)), "positive"),
        (looks((0.03, 0.04), (0.08, 0.09), factor=-1), "positive"),
        (looks((0.03, 0.04), (0.08, 0.09), factor="three"), "not text"),
        (looks(0.03, 0.08), "should have [2, 2]"),
        (lambda problems, unseen: [0.03, 0.04, 0.08, 0.09], "two things"),
    ],
    checks.read_log: [
        (lambda train, evaluated: "learning", "different units"),
        (lambda train, evaluated: "overfitting", "rises again"),
        (lambda train, evaluated: "underfitting", "one of"),
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
