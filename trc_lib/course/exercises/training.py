"""Checks of chapter 4: the loss with cycle weights, a training log, and the learning-rate schedule."""

import math

import numpy as np
import torch

from trc_lib.course.exercises.check_result import Wrong, as_array, exercise

# ------------------------------------------------------------------ the loss


def _losses(scaled, optimal, scale, weights):
    """The right loss and what each plausible mistake gives instead, in NumPy."""
    difference = scaled * scale - optimal                                      # [H+1, batch, horizon, control_dim]
    mse = (difference**2).mean(axis=(1, 2, 3))                                 # [H+1]
    size = difference[0].size
    return (weights * mse).sum(), [
        ((weights * ((scaled - optimal)**2).mean(axis=(1, 2, 3))).sum(),
         "The scale is forgotten: a scaled prediction is compared with a raw answer. Bring it to m/s² first (times "
         "control_scale)."),
        ((weights * ((scaled - optimal / scale)**2).mean(axis=(1, 2, 3))).sum(),
         "Both sides are scaled, so that the loss has no units. Compare in m/s²: multiply the network's controls by "
         "control_scale."),
        ((weights * ((scaled / scale - optimal)**2).mean(axis=(1, 2, 3))).sum(),
         "You divide by control_scale; scaled times control_scale is what is in m/s²."),
        ((weights * np.abs(difference).mean(axis=(1, 2, 3))).sum(), "The square is forgotten: this is a mean of "
                                                                    "absolute differences."),
        ((weights * difference.mean(axis=(1, 2, 3))).sum(),
         "The square is forgotten: differences of both signs cancel, and a loss near zero says nothing."),
        ((weights * np.sqrt(mse)).sum(), "A root is taken: the loss is the mean of squares, without the root."),
        (mse @ weights / weights.sum(), "You divide by the sum of the weights; the loss is the plain weighted sum."),
        ((weights * mse).mean(), f"You take the mean over the {len(weights)} cycles; the weighted cycles are summed."),
        (mse.sum(), "The weights are not used: all cycles count alike."),
        (mse.mean(), "The weights are not used: this is the mean over everything, cycles too."),
        (mse[-1], "Only the last cycle counts in your loss; every cycle counts, with its weight."),
        ((weights[::-1] * mse).sum(), "The weights come in reverse order: weight k belongs to cycle k, the first one "
                                      "to the first proposal."),
        ((weights**2 * mse).sum(), "The weights are squared with the differences; weigh the squares instead."),
        ((weights * mse).sum() * size, "You sum the squares where their mean is wanted: such a loss grows with the batch."),
        ((weights * mse).sum() * difference.shape[1], "The squares are summed over the batch; average over batch, "
                                                      "horizon and components alike."),
        ((weights * mse).sum() * difference.shape[2], "The squares are summed over the horizon; average over batch, "
                                                      "horizon and components alike."),
        ((difference**2).mean() * weights.mean(),
         "The weights [H+1] meet the last axis of your differences, by broadcasting, and not the cycles. Average first: [H+1]."),
    ]


@exercise
def cycle_loss(answer):
    """``answer(scaled_controls, optimal_controls, control_scale, cycle_weights)`` gives the loss, in (m/s^2)^2."""
    for seed, (cycles, batch, horizon, parts) in enumerate(((4, 6, 5, 1), (3, 5, 7, 2), (6, 8, 4, 3))):
        g = torch.Generator().manual_seed(seed)
        scaled = torch.randn(cycles, batch, horizon, parts, generator=g, dtype=torch.float64, requires_grad=True)
        optimal = 2 * torch.randn(batch, horizon, parts, generator=g, dtype=torch.float64)
        scale = 1.5 + torch.rand(parts, generator=g, dtype=torch.float64)
        weights = torch.rand(cycles, generator=g, dtype=torch.float64)
        loss = answer(scaled, optimal.clone(), scale.clone(), weights.clone())
        given = float(as_array(loss, (), "The loss"))
        wanted, mistakes = _losses(*(value.detach().numpy() for value in (scaled, optimal, scale, weights)))
        if not math.isclose(given, wanted, rel_tol=1e-6):
            hint = next((message for value, message in mistakes if math.isclose(given, value, rel_tol=1e-6)),
                        "For each cycle: controls in m/s², difference, square, mean; then weigh the cycles and sum.")
            raise Wrong(f"With {cycles} cycles your loss is {given:.3f}; it should be {wanted:.3f}. {hint}")
        if not torch.is_tensor(loss) or not loss.requires_grad:
            raise Wrong("The number is right, but no gradient flows back from it (item, detach, numpy or float?): "
                        "nothing could learn.")
    return "weights 0, ..., 0, 1 give the reported loss; a small weight for the others makes every cycle's answer usable."


# ------------------------------------------------------------------ reading a log

KINDS = ("learning", "overfitting", "different units", "not learning")

WHY = {
    "learning": "both losses fall together and end together; a high first train loss or a bump on the way changes nothing",
    "overfitting": "the eval loss falls first and then rises again while the train loss goes on falling",
    "different units": "the train loss falls many-fold while the eval loss stands still from the first epoch on",
    "not learning": "the train loss itself does not fall",
}


def _logs():
    """The description's log, and synthetic ones, each with what it shows: clear cases, with a trap here and there."""
    yield "different units", [0.039347, 0.000193], [4.090335, 4.050885]
    r = np.random.default_rng(0)
    for i in range(24):
        kind, epochs = KINDS[i % 4], int(r.integers(12, 40))
        k = np.linspace(0, 1, epochs)
        jitter = np.exp(r.uniform(-0.08, 0.08, (2, epochs)))
        falling = 10**r.uniform(-1, 1.5) * 10 ** (-r.uniform(1.5, 3.5) * k)
        train, evaluated = falling * jitter[0], falling * jitter[1]
        if kind == "learning":
            train[0] *= 4                                                      # the average over a first epoch
            train[epochs // 2] *= 5
            evaluated[epochs // 2] *= 5                                        # a few bad steps
        elif kind == "overfitting":                                            # ends below where it began, or above
            lowest = epochs // 3
            rises = 10 ** (r.uniform(0.7, 2.2) * np.clip(k - k[lowest], 0, None) / (1 - k[lowest]))
            evaluated = falling[0] * 10 ** (-1.2 * np.clip(k / k[lowest], 0, 1)) * rises * jitter[1]
        elif kind == "different units":                                        # a floor above or below the train loss
            evaluated = falling[0] * 10**r.uniform(-1.5, 1.5) * (1 - 0.03 * k) * jitter[1] ** 0.1
        else:                                                                  # flat, or rising: too high a learning rate
            flat = falling[0] * 10 ** ((i % 8 > 3) * 0.5 * k)
            train, evaluated = flat * jitter[0], flat * 1.1 * jitter[1]
        yield kind, train.tolist(), evaluated.tolist()


@exercise
def read_log(answer):
    """``answer(train_losses, eval_losses)``, two lists, one number an epoch, gives one of `KINDS`."""
    right = 0
    for kind, train, evaluated in _logs():
        said = answer(list(train), list(evaluated))
        if said not in KINDS:
            raise Wrong(f"You say {said!r}; say one of {', '.join(map(repr, KINDS))}.")
        if said != kind:
            raise Wrong(f"{right} logs read right; then: train loss {train[0]:.2g} → {train[-1]:.2g}, eval loss "
                        f"{evaluated[0]:.2g} → "
                        f"{evaluated[-1]:.2g} (lowest {min(evaluated):.2g}) in {len(train)} epochs. You say {said!r}: "
                        f"there, {WHY[said]}. "
                        f"This one is {kind!r}: {WHY[kind]}.")
        right += 1
    return f"all {right} logs, the description's own among them: an eval loss that never moves measures something else."


# ------------------------------------------------------------------ the learning rate

def _rates():
    """The right schedule, and what each plausible mistake gives; all as functions of (step, total, warm, lr)."""
    def after(fall):
        return lambda step, total, warm, lr: lr * ((step + 1) / warm if step < warm else fall(step, total, warm))

    def cosine(step, total, warm):
        return (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2

    return after(cosine), [
        (lambda step, total, warm, lr: lr * (step / warm if step < warm else cosine(step, total, warm)),
         "In the warm-up your rate is lr · step / warm_steps, so the first step moves nothing: step counts from 0, "
         "use step + 1."),
        (lambda step, total, warm, lr: lr * ((step + 1) / warm if step <= warm else cosine(step, total, warm)),
         "The warm-up lasts one step too long and overshoots lr: it ends with step warm_steps − 1."),
        (lambda step, total, warm, lr: lr * cosine(step, total, warm) if step >= warm else lr,
         "There is no warm-up: the first warm_steps steps rise linearly from lr / warm_steps to lr."),
        (lambda step, total, warm, lr: lr * (step + 1) / warm if step < warm else lr, "After the warm-up the rate "
                                                                                      "does not fall."),
        (after(lambda step, total, warm: (1 + math.cos(math.pi * step / total)) / 2),
         "Your cosine counts from step 0, so the rate drops at once when the warm-up ends. Count from there: step − warm_steps."),
        (after(lambda step, total, warm: (1 + math.cos(math.pi * (step - warm) / total)) / 2),
         "Your cosine takes total_steps from the end of the warm-up on, so it never gets down to zero: only "
         "total_steps − warm_steps are left."),
        (after(lambda step, total, warm: 1 + math.cos(math.pi * (step - warm) / (total - warm))),
         "The factor ½ is missing: 1 + cos goes from 2 to 0, so the rate jumps to twice lr."),
        (after(lambda step, total, warm: math.cos(math.pi * (step - warm) / (total - warm))),
         "A bare cosine goes from 1 to −1: the second half climbs up the loss. Lift it by 1 and halve it."),
        (after(lambda step, total, warm: math.cos(math.pi / 2 * (step - warm) / (total - warm))),
         "A quarter of a cosine is not calm at the end; use (1 + cos) / 2 with an angle from 0 to π."),
        (after(lambda step, total, warm: (1 + math.cos(2 * math.pi * (step - warm) / (total - warm))) / 2),
         "With 2π the rate is back at lr in the end: use half a turn, π."),
        (after(lambda step, total, warm: (1 + math.cos(180 * (step - warm) / (total - warm))) / 2),
         "math.cos takes radians, not degrees: half a turn is π, not 180."),
        (after(lambda step, total, warm: 1 - (step - warm) / (total - warm)),
         "After the warm-up your rate falls along a straight line; it should fall along a cosine."),
        (after(lambda step, total, warm: cosine(step + 1, total, warm)),
         "Your cosine is one step early: step warm_steps still has lr, and zero would be reached at step total_steps."),
        (after(lambda step, total, warm: (1 - math.cos(math.pi * (step - warm) / (total - warm))) / 2),
         "The cosine's sign is wrong: the rate drops to zero after the warm-up and rises again."),
    ]


@exercise
def schedule(answer):
    """``answer(step, total_steps, warm_steps, lr)`` gives the learning rate of a step: a warm-up, then half a cosine."""
    right, mistakes = _rates()
    settings = [(total, warm, lr, step) for total, warm, lr in ((50, 10, 1e-3), (37, 5, 0.02), (20, 1, 3.0))
                for step in range(total)]
    given = [float(as_array(answer(step, total, warm, lr), (), "The rate")) for total, warm, lr, step in settings]

    def fits(formula):
        return all(math.isclose(rate, formula(step, total, warm, lr), rel_tol=1e-9, abs_tol=1e-9 * lr)
                   for rate, (total, warm, lr, step) in zip(given, settings))

    if fits(right):
        return ("the mean rate over the descent is half of lr, and the last steps are tiny: "
                "that is where the curves of this chapter settle.")
    for formula, message in mistakes:
        if fits(formula):
            raise Wrong(message)
    i = next(i for i, (total, warm, lr, step) in enumerate(settings) if abs(given[i] - right(step, total, warm, lr)) > 1e-9 * lr)
    total, warm, lr, step = settings[i]
    where = "in the warm-up" if step < warm else "in the descent"
    raise Wrong(f"With total_steps = {total}, warm_steps = {warm}, lr = {lr:g}, step {step} ({where}) should have the rate "
                f"{right(step, total, warm, lr):.4g}; yours is {given[i]:.4g}.")
