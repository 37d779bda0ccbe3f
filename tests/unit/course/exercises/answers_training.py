"""Answers to chapter 4's exercises: right ones, and those that learners plausibly give, with a word of what they are told."""

import itertools
import math

from trc_lib.course.exercises import training as checks


def cycle_loss(scaled_controls, optimal_controls, control_scale, cycle_weights):
    difference = scaled_controls * control_scale - optimal_controls
    return (cycle_weights * difference.square().mean(dim=(1, 2, 3))).sum()


def diagnose(train_losses, eval_losses):
    if train_losses[-1] > train_losses[0] / 3:
        return "not learning"
    if min(eval_losses) > eval_losses[0] / 3:
        return "different units"
    return "overfitting" if eval_losses[-1] > 2 * min(eval_losses) else "learning"


def rate_at(step, total_steps, warm_steps, lr):
    if step < warm_steps:
        return lr * (step + 1) / warm_steps
    return lr * (1 + math.cos(math.pi * (step - warm_steps) / (total_steps - warm_steps))) / 2


def loss(given):
    """A cycle_loss that is an expression in c (scaled controls), u, s (scale), w (weights) and mse (dim -> mean of squares)."""
    def answer(c, u, s, w):
        d = c * s - u
        return eval(given, {"c": c, "u": u, "s": s, "w": w, "d": d, "mse": d.square().mean(dim=(1, 2, 3)), "all": (1, 2, 3)})
    return answer


def rate(warm="(step + 1) / warm", fall="(1 + cos(pi * (step - warm) / (total - warm))) / 2", until="step < warm"):
    def answer(step, total_steps, warm_steps, lr):
        names = {"step": step, "total": total_steps, "warm": warm_steps, "cos": math.cos, "pi": math.pi}
        return lr * eval(warm if eval(until, names) else fall, names)
    return answer


def compares_last_with_first(train_losses, eval_losses):
    said = diagnose(train_losses, eval_losses)
    return "learning" if said == "overfitting" and eval_losses[-1] < eval_losses[0] else said


def fears_bumps(train_losses, eval_losses):
    bump = any(b > 2 * a for a, b in itertools.pairwise(eval_losses))
    return "overfitting" if bump else diagnose(train_losses, eval_losses)


def wants_equal_losses(train_losses, eval_losses):
    return "different units" if eval_losses[0] < 0.5 * train_losses[0] else diagnose(train_losses, eval_losses)


RIGHT = [
    (checks.cycle_loss, cycle_loss),
    (checks.cycle_loss, lambda c, u, s, w: sum(w[k] * ((c[k] * s - u) ** 2).mean() for k in range(len(w)))),
    (checks.read_log, diagnose),
    (checks.schedule, rate_at),
    (checks.schedule, rate()),
]

WRONG = [
    (checks.cycle_loss, loss("(w * (c - u).square().mean(dim=all)).sum()"), "scale is forgotten"),
    (checks.cycle_loss, loss("(w * (c - u / s).square().mean(dim=all)).sum()"), "Both sides"),
    (checks.cycle_loss, loss("(w * (c / s - u).square().mean(dim=all)).sum()"), "divide by control_scale"),
    (checks.cycle_loss, loss("(w * d.abs().mean(dim=all)).sum()"), "absolute"),
    (checks.cycle_loss, loss("(w * d.mean(dim=all)).sum()"), "cancel"),
    (checks.cycle_loss, loss("(w * mse.sqrt()).sum()"), "root"),
    (checks.cycle_loss, loss("(w * mse).sum() / w.sum()"), "sum of the weights"),
    (checks.cycle_loss, loss("(w * mse).mean()"), "cycles are summed"),
    (checks.cycle_loss, loss("mse.sum()"), "not used"),
    (checks.cycle_loss, loss("mse.mean()"), "not used"),
    (checks.cycle_loss, loss("mse[-1]"), "last cycle"),
    (checks.cycle_loss, loss("(w.flip(0) * mse).sum()"), "reverse"),
    (checks.cycle_loss, loss("(w[:, None, None, None] * d).square().mean(dim=all).sum()"), "weights are squared"),
    (checks.cycle_loss, loss("(w * d.square().sum(dim=all)).sum()"), "sum the squares"),
    (checks.cycle_loss, loss("(w * d.square().sum(dim=1).mean(dim=(1, 2))).sum()"), "over the batch"),
    (checks.cycle_loss, loss("(w * d.square().sum(dim=2).mean(dim=(1, 2))).sum()"), "over the horizon"),
    (checks.cycle_loss, loss("(w * d.square()).mean()"), "broadcasting"),
    (checks.cycle_loss, loss("w * mse"), "should have []"),
    (checks.cycle_loss, loss("(w * mse).sum().item()"), "no gradient"),
    (checks.cycle_loss, loss("(w * mse).sum().detach()"), "no gradient"),
    (checks.read_log, lambda train, evaluated: "learning", "different units"),
    (checks.read_log, lambda train, evaluated: "overfitting", "rises again"),
    (checks.read_log, lambda train, evaluated: "underfitting", "one of"),
    (checks.read_log, compares_last_with_first, "'overfitting': the eval loss falls first"),
    (checks.read_log, fears_bumps, "'learning': both losses fall together"),
    (checks.read_log, wants_equal_losses, "'learning': both losses fall together"),
    (checks.read_log, lambda train, evaluated: diagnose([9, 1], evaluated), "'not learning': the train loss itself"),
    (checks.schedule, rate(warm="step / warm"), "step + 1"),
    (checks.schedule, rate(until="step <= warm"), "overshoots"),
    (checks.schedule, rate(warm="1"), "no warm-up"),
    (checks.schedule, rate(fall="1"), "does not fall"),
    (checks.schedule, rate(fall="(1 + cos(pi * step / total)) / 2"), "counts from step 0"),
    (checks.schedule, rate(fall="(1 + cos(pi * (step - warm) / total)) / 2"), "never gets down"),
    (checks.schedule, rate(fall="1 + cos(pi * (step - warm) / (total - warm))"), "½"),
    (checks.schedule, rate(fall="cos(pi * (step - warm) / (total - warm))"), "bare cosine"),
    (checks.schedule, rate(fall="cos(pi / 2 * (step - warm) / (total - warm))"), "quarter"),
    (checks.schedule, rate(fall="(1 + cos(2 * pi * (step - warm) / (total - warm))) / 2"), "half a turn"),
    (checks.schedule, rate(fall="(1 + cos(180 * (step - warm) / (total - warm))) / 2"), "radians"),
    (checks.schedule, rate(fall="1 - (step - warm) / (total - warm)"), "straight line"),
    (checks.schedule, rate(fall="(1 + cos(pi * (step + 1 - warm) / (total - warm))) / 2"), "one step early"),
    (checks.schedule, rate(fall="(1 - cos(pi * (step - warm) / (total - warm))) / 2"), "sign"),
    (checks.schedule, lambda *arguments: rate_at(*arguments) / 2, "step 0 (in the warm-up)"),
]
