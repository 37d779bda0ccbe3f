"""Answers to chapter 4's exercises: right ones, and wrong ones with a part of the message."""

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
    """A cycle_loss that is an expression of c (scaled), u, s (scale), w (weights), d and mse."""
    def answer(c, u, s, w):
        d = c * s - u
        mse = d.square().mean(dim=(1, 2, 3))
        return eval(given, {"c": c, "u": u, "s": s, "w": w, "d": d, "mse": mse, "all": (1, 2, 3)})
    return answer


def rate(warm="(step + 1) / warm", fall="(1 + cos(pi * (step - warm) / (total - warm))) / 2",
         until="step < warm"):
    def answer(step, total_steps, warm_steps, lr):
        names = {"step": step, "total": total_steps, "warm": warm_steps, "cos": math.cos,
                 "pi": math.pi}
        return lr * eval(warm if eval(until, names) else fall, names)
    return answer


def compares_last_with_first(train_losses, eval_losses):
    said = diagnose(train_losses, eval_losses)
    return "learning" if said == "overfitting" and eval_losses[-1] < eval_losses[0] else said


def fears_bumps(train_losses, eval_losses):
    bump = any(b > 2 * a for a, b in itertools.pairwise(eval_losses))
    return "overfitting" if bump else diagnose(train_losses, eval_losses)


def wants_equal_losses(train_losses, eval_losses):
    if eval_losses[0] < 0.5 * train_losses[0]:
        return "different units"
    return diagnose(train_losses, eval_losses)


RIGHT = {
    checks.cycle_loss: [
        cycle_loss,
        lambda c, u, s, w: sum(w[k] * ((c[k] * s - u) ** 2).mean() for k in range(len(w))),
    ],
    checks.read_log: [diagnose],
    checks.schedule: [rate_at, rate()],
}

WRONG = {
    checks.cycle_loss: [
        (loss("(w * (c - u).square().mean(dim=all)).sum()"), "scale is forgotten"),
        (loss("(w * (c - u / s).square().mean(dim=all)).sum()"), "Both sides"),
        (loss("(w * (c / s - u).square().mean(dim=all)).sum()"), "divide by control_scale"),
        (loss("(w * d.abs().mean(dim=all)).sum()"), "absolute"),
        (loss("(w * d.mean(dim=all)).sum()"), "cancel"),
        (loss("(w * mse.sqrt()).sum()"), "root"),
        (loss("(w * mse).sum() / w.sum()"), "sum of the weights"),
        (loss("(w * mse).mean()"), "cycles are summed"),
        (loss("mse.sum()"), "not used"),
        (loss("mse.mean()"), "not used"),
        (loss("mse[-1]"), "last cycle"),
        (loss("(w.flip(0) * mse).sum()"), "reverse"),
        (loss("(w[:, None, None, None] * d).square().mean(dim=all).sum()"), "weights are squared"),
        (loss("(w * d.square().sum(dim=all)).sum()"), "sum the squares"),
        (loss("(w * d.square().sum(dim=1).mean(dim=(1, 2))).sum()"), "over the batch"),
        (loss("(w * d.square().sum(dim=2).mean(dim=(1, 2))).sum()"), "over the horizon"),
        (loss("(w * d.square()).mean()"), "Broadcasting"),
        (loss("w * mse"), "should have []"),
        (loss("(w * mse).sum().item()"), "no gradient"),
        (loss("(w * mse).sum().detach()"), "no gradient"),
    ],
    checks.read_log: [
        (lambda train, evaluated: "learning", "different units"),
        (lambda train, evaluated: "overfitting", "rises again"),
        (lambda train, evaluated: "underfitting", "one of"),
        (compares_last_with_first, "'overfitting': the eval loss falls first"),
        (fears_bumps, "'learning': both losses fall together"),
        (wants_equal_losses, "'learning': both losses fall together"),
        (lambda train, evaluated: diagnose([9, 1], evaluated),
         "'not learning': the train loss itself"),
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
