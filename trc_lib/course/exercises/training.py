"""Checks of chapter 4: training without the look, a training log, the learning-rate schedule."""

import numpy as np

from trc_lib.course.exercises.check_result import (
    Wrong,
    apart,
    as_array,
    as_number,
    exercise,
    judge,
    refuse,
    several,
)
from trc_lib.data import EVAL_SEED, generate_dataset

# ------------------------------------------------------------------ training without the look

@exercise
def look(answer):
    """Check ``answer(problems, unseen)``: a factor, and final errors [with and without, seeds]."""
    problems, unseen = generate_dataset(1_000, seed=0), generate_dataset(500, seed=EVAL_SEED)
    factor, errors = several(answer(problems, unseen), "your factor", "the mean final errors")
    factor = as_number(factor, "Your factor")
    errors = as_array(errors, (2, 2), "The array of final errors")
    with_look, without = errors
    measured = without.mean() / with_look.mean()
    idle = unseen.system.rollout(unseen.initial_states, 0 * unseen.controls)[:, -1]
    idle = float((idle - unseen.target_states).norm(dim=1).mean())
    refuse(
        (factor <= 0, "Your factor is a quotient of two distances, so it is positive."),
        ((errors <= 0).any(), "A mean of distances is positive; yours has zero or less."),
        ((errors > 3).any(), f"One of the networks ends {errors.max():.2g} from the targets on "
                             f"average. Not pushing at all ends {idle:.2g} from them, so this one "
                             "was hardly trained. Are its controls those of the last cycle?"),
        (np.array_equal(with_look, without), "Both rows are the same: give feedback=NoFeedback() "
                                             "to the networks of the second."),
        ((errors[:, 0] == errors[:, 1]).all(), "Both columns are the same: give the seed to the "
                                               "network and to the TrainConfig."),
        ((errors < 0.002).all(), "These numbers are too small for a training of seconds. Are they "
                                 "means of squares, or control errors? |x_N − x_T| is wanted."),
        ((with_look > without).all(), "By your numbers the networks with the look end farther "
                                      "away, with both seeds. Are the rows swapped?"),
        ((with_look > without).any(), "With one seed the network with the look ends farther away. "
                                      "Is the first column seed 0, the second seed 1, and is "
                                      "each trained for 8 epochs, every cycle supervised?"),
        (measured > 10, f"A factor of {measured:.0f} is far more than training without the look "
                        "costs. Was a network cut after its training, or trained for less long?"),
        ((with_look > 0.08).any() or (without > 0.25).any(),
         "These networks end too far away for 8 epochs at the rate 3e-3, every cycle supervised "
         "with weight 0.1. What is different in yours?"),
        ((with_look < 0.01).any(),
         "These networks end nearer than small networks come in 8 epochs. Is it |x_N − x_T| on "
         "the unseen problems?"))
    return (f"the look helps: without it the carts end {measured:.1f} times as far away, you "
            f"expected {factor:g}. Both seeds agree; two seeds show a direction, no exact factor.")


# ------------------------------------------------------------------ reading a log

KINDS = {  # each diagnosis, and what such a log shows
    "learning": "both losses fall at least 10-fold, and the eval loss ends below 3 times its "
                "lowest; a high first train loss, a bad epoch or a constant factor between the two "
                "change nothing",
    "overfitting": "the eval loss falls at least 10-fold, and rises again to at least 3 times its "
                   "lowest while the train loss still falls",
    "different units": "the train loss falls many-fold, the eval loss never by more than 10 %",
    "not learning": "the train loss does not fall below half of where it began",
}


def _at_the_edges():
    """Logs that a threshold too high or too low reads wrongly: (kind, train, eval losses)."""
    k = np.linspace(0, 1, 21)
    falling = 10 ** (-2.5 * k)

    def ends_at(share):
        """An eval loss that falls 100-fold by the middle, and ends so many times its lowest."""
        return 2 * 10 ** (-2 * np.minimum(2 * k, 1)) * share ** np.clip(2 * k - 1, 0, 1)

    late = 1.2 * falling  # its last epoch is a bad one
    late[-1] *= 2.5
    for kind, train, evaluated in (
            ("learning", falling, late),
            ("learning", falling, ends_at(2.5)),
            ("learning", falling, 4 * falling),               # a harder eval set
            ("learning", falling, falling / 4),               # an easier one
            ("learning", 12.0**-k, 1.1 * 12.0**-k),
            ("overfitting", falling, ends_at(3.5)),
            ("overfitting", 12.0**-k, ends_at(3.5)),       # ends below the train loss
            ("different units", falling, 4 - 0.32 * k),       # falls by 8 %
            ("not learning", 1 - 0.45 * k, 1.1 - 0.5 * k),    # ends at 0.55 of its start
            ("not learning", 1 - 0.45 * k, 1.1 * falling)):
        yield kind, train.tolist(), evaluated.tolist()


def _logs():
    """A published log and synthetic ones: (kind, train losses, eval losses)."""
    yield "different units", [0.039347, 0.000193], [4.090335, 4.050885]
    yield from _at_the_edges()
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
        given = answer(list(train), list(evaluated))
        said = " ".join(str(given).lower().replace("_", " ").replace("-", " ").split())
        if said not in KINDS:
            raise Wrong(f"You say {given!r}; say one of {', '.join(map(repr, KINDS))}.")
        if said != kind:
            raise Wrong(f"{right} logs read right; then: train loss {train[0]:.2g} → "
                        f"{train[-1]:.2g}, eval loss {evaluated[0]:.2g} → {evaluated[-1]:.2g} "
                        f"(lowest {min(evaluated):.2g}) in {len(train)} epochs. You say {said!r}: "
                        f"there, {KINDS[said]}. This one is {kind!r}: {KINDS[kind]}.")
        right += 1
    return (f"all {right} logs, the one of this chapter among them: an eval loss that never moves "
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
    i = int(np.argmax(np.abs(given - right) > 1e-5))
    where = "in the warm-up" if step[i] < warm[i] else "in the descent"
    wanted, yours = apart(right[i] * lr[i], given[i] * lr[i])
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
        (rates(cosine((step - warm) / (total - warm - 1))),
         "Your cosine is zero in the last step; it should be one step later. Divide by total_steps "
         "− warm_steps."),
        (np.minimum(1, (step + 1) / warm) * cosine(step / total),
         "You multiply warm-up and cosine. The cosine begins at step warm_steps: use step − "
         "warm_steps."),
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
       f"{step[i]:.0f} ({where}) should have the rate {wanted}; yours is {yours}.", 1e-9)
    return ("the mean rate over the descent is half of lr, and the last steps are tiny: that is "
            "where the curves of this chapter settle.")
