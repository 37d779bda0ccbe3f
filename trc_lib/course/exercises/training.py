"""Checks of chapter 4: the loss with cycle weights, a training log, the learning-rate schedule."""

import numpy as np
import torch

from trc_lib.course.exercises.check_result import Wrong, as_number, exercise, judge

# ------------------------------------------------------------------ the loss

def _loss_mistakes(scaled, optimal, scale, weights):
    """What each plausible mistake gives instead of the loss, in NumPy, and its message."""
    difference = scaled * scale - optimal  # [H+1, batch, horizon, control_dim]
    mse = (difference**2).mean(axis=(1, 2, 3))  # [H+1]
    right, (_, batch, horizon, _) = (weights * mse).sum(), difference.shape

    def weighed(values):
        return (weights * values.mean(axis=(1, 2, 3))).sum()

    return [
        (weighed((scaled - optimal) ** 2), "The scale is forgotten: a scaled prediction is "
                                           "compared with one in m/s². Multiply by control_scale."),
        (weighed((scaled - optimal / scale) ** 2),
         "Both sides are scaled. Compare in m/s²: multiply the controls by control_scale."),
        (weighed((scaled / scale - optimal) ** 2),
         "You divide by control_scale; scaled times control_scale is in m/s²."),
        (weighed(np.abs(difference)),
         "The square is forgotten: this is a mean of absolute differences."),
        (weighed(difference), "The square is forgotten: differences of both signs cancel."),
        ((weights * np.sqrt(mse)).sum(), "You take a root; the loss is the mean of squares."),
        (right / weights.sum(),
         "You divide by the sum of the weights; the loss is the plain weighted sum."),
        (right / len(weights),
         f"You take the mean over the {len(weights)} cycles; the weighted cycles are summed."),
        (mse.sum(), "The weights are not used: all cycles count alike."),
        (mse.mean(), "The weights are not used: this is the mean over everything, cycles too."),
        (mse[-1], "Only the last cycle counts in your loss; every cycle counts, with its weight."),
        ((weights[::-1] * mse).sum(), "The weights are in reverse order: weight k belongs to cycle "
                                      "k, the first one to the first proposal."),
        ((weights**2 * mse).sum(),
         "The weights are squared with the differences; multiply the squares by the weights."),
        (right * difference[0].size,
         "You sum the squares instead of taking their mean: such a loss grows with the batch."),
        (right * batch, "The squares are summed over the batch; average over it as well."),
        (right * horizon, "The squares are summed over the horizon; average over it as well."),
        ((difference**2).mean() * weights.mean(),
         "Broadcasting: the weights [H+1] multiply the last axis, not the cycles. Average first."),
    ]


@exercise
def cycle_loss(answer):
    """Check ``answer(scaled_controls, optimal_controls, control_scale, cycle_weights)``: a loss."""
    for seed, (cycles, *shape) in enumerate(((4, 6, 5, 1), (3, 5, 7, 2), (6, 8, 4, 3))):
        g = torch.Generator().manual_seed(seed)
        kind = {"generator": g, "dtype": torch.float64}
        scaled = torch.randn(cycles, *shape, **kind, requires_grad=True)
        optimal = 2 * torch.randn(shape, **kind)
        scale, weights = 1.5 + torch.rand(shape[-1], **kind), torch.rand(cycles, **kind)
        loss = answer(scaled, optimal.clone(), scale.clone(), weights.clone())
        given = as_number(loss, "The loss")
        squares = ((scaled.detach() * scale - optimal) ** 2).mean(dim=(1, 2, 3))
        right = float(weights @ squares)
        problem = (value.detach().numpy() for value in (scaled, optimal, scale, weights))
        judge(given, right, _loss_mistakes(*problem),
              "For each cycle: controls in m/s², difference, square, mean; then a weighted sum.",
              1e-6, f"With {cycles} cycles your loss is {given:.3f}; it should be {right:.3f}. ")
        if not torch.is_tensor(loss) or not loss.requires_grad:
            raise Wrong("The number is right, but it has no gradient (item, detach, numpy or "
                        "float?), so nothing can be learnt from it.")
    return ("weights 0, ..., 0, 1 give the reported loss; a small weight for the others makes "
            "every cycle's answer usable.")


# ------------------------------------------------------------------ reading a log

KINDS = {  # each diagnosis, and what such a log shows
    "learning": "both losses fall together and end together; a high first train loss or a bump on "
                "the way changes nothing",
    "overfitting": "the eval loss falls first, and rises again while the train loss still falls",
    "different units": "the train loss falls many-fold, the eval loss is constant from the first "
                       "epoch on",
    "not learning": "the train loss itself does not fall",
}


def _logs():
    """The description's log and synthetic ones: (kind, train losses, eval losses)."""
    yield "different units", [0.039347, 0.000193], [4.090335, 4.050885]
    r = np.random.default_rng(0)
    for i in range(24):
        kind, epochs = list(KINDS)[i % 4], int(r.integers(12, 40))
        k = np.linspace(0, 1, epochs)
        jitter = np.exp(r.uniform(-0.08, 0.08, (2, epochs)))
        falling = 10 ** r.uniform(-1, 1.5) * 10 ** (-r.uniform(1.5, 3.5) * k)
        train, evaluated = falling * jitter[0], falling * jitter[1]
        if kind == "learning":
            train[0] *= 4  # the mean over a first epoch
            train[epochs // 2] *= 5  # a bad epoch
            evaluated[epochs // 2] *= 5
        elif kind == "overfitting":  # ends below where it began, or above
            low = epochs // 3
            rise = 10 ** (r.uniform(0.7, 2.2) * np.clip(k - k[low], 0, None) / (1 - k[low]))
            evaluated = falling[0] * 10 ** (-1.2 * np.clip(k / k[low], 0, 1)) * rise * jitter[1]
        elif kind == "different units":  # constant, above or below the train loss
            evaluated = falling[0] * 10 ** r.uniform(-1.5, 1.5) * (1 - 0.03 * k) * jitter[1] ** 0.1
        else:  # constant, or rising: too high a learning rate
            flat = falling[0] * 10 ** ((i % 8 > 3) * 0.5 * k)
            train, evaluated = flat * jitter[0], flat * 1.1 * jitter[1]
        yield kind, train.tolist(), evaluated.tolist()


@exercise
def read_log(answer):
    """Check ``answer(train_losses, eval_losses)``, two lists, one number an epoch: a kind."""
    right = 0
    for kind, train, evaluated in _logs():
        said = answer(list(train), list(evaluated))
        if said not in list(KINDS):
            raise Wrong(f"You say {said!r}; say one of {', '.join(map(repr, KINDS))}.")
        if said != kind:
            raise Wrong(f"{right} logs read right; then: train loss {train[0]:.2g} → "
                        f"{train[-1]:.2g}, eval loss {evaluated[0]:.2g} → {evaluated[-1]:.2g} "
                        f"(lowest {min(evaluated):.2g}) in {len(train)} epochs. You say {said!r}: "
                        f"there, {KINDS[said]}. This one is {kind!r}: {KINDS[kind]}.")
        right += 1
    return (f"all {right} logs, the description's own among them: an eval loss that never moves "
            "measures something else.")


# ------------------------------------------------------------------ the learning rate

@exercise
def schedule(answer):
    """Check ``answer(step, total_steps, warm_steps, lr)``: a warm-up, then half a cosine."""
    settings = [(step, total, warm, lr)
                for total, warm, lr in ((50, 10, 1e-3), (37, 5, 0.02), (20, 1, 3.0))
                for step in range(total)]
    step, total, warm, lr = np.array(settings).T
    given = np.array([as_number(answer(*setting), "The rate") for setting in settings]) / lr
    share = (step - warm) / (total - warm)  # of the descent

    def rates(after, before=(step + 1) / warm, until=warm - 1):
        return np.where(step <= until, before, after)

    def cosine(share):
        return (1 + np.cos(np.pi * share)) / 2

    right = rates(cosine(share))
    i = int(np.argmax(np.abs(given - right) > 1e-9))
    where = "in the warm-up" if step[i] < warm[i] else "in the descent"
    judge(given, right, [
        (rates(cosine(share), before=step / warm),
         "The first step's rate is 0, so it changes nothing: step counts from 0, use step + 1."),
        (rates(cosine(share), until=warm),
         "The warm-up is one step too long and overshoots lr: it ends with step warm_steps − 1."),
        (rates(cosine(share), before=1),
         "There is no warm-up: the rate rises linearly from lr / warm_steps to lr."),
        (rates(1), "After the warm-up the rate does not fall."),
        (rates(cosine(step / total)),
         "Your cosine counts from step 0, so the rate drops at once. Use step − warm_steps."),
        (rates(cosine((step - warm) / total)),
         "Your cosine does not reach zero: divide by the steps left, total_steps − warm_steps."),
        (rates(2 * cosine(share)),
         "The factor ½ is missing: 1 + cos goes from 2 to 0, so the rate jumps to twice lr."),
        (rates(np.cos(np.pi * share)),
         "A bare cosine goes from 1 to −1: negative rates increase the loss. Add 1 and halve it."),
        (rates(np.cos(np.pi / 2 * share)), "A quarter of a cosine is not flat at the end; use "
                                           "(1 + cos) / 2 with an angle from 0 to π."),
        (rates(cosine(2 * share)), "With 2π the rate is lr again at the end: use half a turn, π."),
        (rates((1 + np.cos(180 * share)) / 2),
         "math.cos takes radians, not degrees: half a turn is π, not 180."),
        (rates(1 - share), "Your rate falls along a straight line; it should fall along a cosine."),
        (rates(cosine((step + 1 - warm) / (total - warm))),
         "Your cosine is one step early: step warm_steps still has the rate lr."),
        (rates(1 - cosine(share)),
         "The cosine's sign is wrong: the rate drops to zero and rises again."),
    ], f"With total_steps = {total[i]:.0f}, warm_steps = {warm[i]:.0f}, lr = {lr[i]:g}, step "
       f"{step[i]:.0f} ({where}) should have the rate {right[i] * lr[i]:.4g}; yours is "
       f"{given[i] * lr[i]:.4g}.", 1e-9)
    return ("the mean rate over the descent is half of lr, and the last steps are tiny: that is "
            "where the curves of this chapter settle.")
