"""Checks of chapter 4: training without the look, a training log, the learning-rate schedule."""

import copy
import functools

import numpy as np

from trc_lib import training
from trc_lib.course.exercises.check_result import (
    Wrong,
    apart,
    as_array,
    as_number,
    exercise,
    judge,
    recognise,
    refuse,
    same,
    several,
)
from trc_lib.data import EVAL_SEED, generate_dataset
from trc_lib.evaluation import cycle_controls
from trc_lib.model import NoFeedback, TinyRecursiveControl

# ------------------------------------------------------------------ training without the look

CLOSE = 0.01  # of the logarithm of an error; the same training in the same place gives the same


@functools.cache
def _problems():
    """Those to train on, and unseen ones."""
    return generate_dataset(1_000, seed=0), generate_dataset(500, seed=EVAL_SEED)


@functools.cache
def _distances(with_look, seed, order=None, cycle_weight=0.1, L_cycles=1):
    """|x_N - x_T| of each cycle on the unseen problems, after a training of a second: [H+1, n].

    Args:
        order: the seed of the order of the samples; that of the network if None.
    """
    problems, unseen = _problems()
    network = TinyRecursiveControl.create_two_level_small(
        seed=seed, feedback=None if with_look else NoFeedback(), L_cycles=L_cycles)
    training.train(network, problems, unseen, training.TrainConfig(
        epochs=8, lr=3e-3, cycle_weight=cycle_weight, seed=seed if order is None else order),
        progress=False)
    answers = cycle_controls(network.cpu(), unseen)
    starts = unseen.initial_states.expand(len(answers), -1, -1)
    ends = unseen.system.rollout(starts, answers)[:, :, -1]
    return (ends - unseen.target_states).norm(dim=-1).numpy()


OTHERWISE = (  # trainings that are not those of the exercise, and what to say of each
    ({"cycle_weight": 0.0}, "As if the last cycle alone had been supervised: give TrainConfig "
                            "cycle_weight=0.1."),
    ({"L_cycles": 4}, "As if the network had four inner steps a cycle: make it with L_cycles=1."),
    ({"order": 0}, "As if only the network had the seed: give it to TrainConfig, too."),
)


@exercise
def look(answer):
    """Check ``answer(problems, unseen)``: a factor, and final errors [with and without, seeds]."""
    given = answer(*copy.deepcopy(_problems()))
    factor, errors = several(given, "your factor", "the mean final errors")
    factor = as_number(factor, "Your factor")
    errors = as_array(errors, (2, 2), "The array of final errors")
    unseen = _problems()[1]
    idle = unseen.system.rollout(unseen.initial_states, 0 * unseen.controls)[:, -1]
    idle = float((idle - unseen.target_states).norm(dim=1).mean())
    refuse(
        (factor <= 0, "Your factor is a quotient of two distances, so it is positive."),
        ((errors <= 0).any(), "A mean of distances is positive; yours has zero or less."),
        ((errors > 3).any(), f"One of the networks ends {errors.max():.2g} from the targets on "
                             f"average. Not pushing at all ends {idle:.2g} from them, so this one "
                             "was hardly trained. Are its controls those of the last cycle?"),
        ((errors < 1e-3).all(), "These are too small for distances. Are they squared errors of the "
                                "controls, as in train_small? Take means of final_error."),
        (np.array_equal(*errors), "Both rows are the same: give feedback=NoFeedback() to the "
                                  "networks of the second."),
        ((errors[:, 0] == errors[:, 1]).all(), "Both columns are the same: give the seed to the "
                                               "network and to the TrainConfig."))
    found = np.array([[_distances(with_look, seed) for seed in (0, 1)]
                      for with_look in (True, False)])
    means, logs = found.mean(axis=-1), np.log(errors)  # [2, 2, H+1], [2, 2]
    right = means[..., -1]
    if not same(logs, np.log(right), CLOSE):
        last = found[..., -1, :]
        recognise(logs, [
            (np.log(right[::-1]), "The rows are swapped: the networks with the look come first."),
            (np.log(right[:, ::-1]), "The columns are swapped: the first one is seed 0."),
            (np.log(right.T), "Rows and columns are swapped: a row for the networks with the look, "
                              "one for those without; a column for each seed."),
            *((np.log(means[..., cycle]), "These are the errors after an earlier cycle; take the "
                                          "last cycle's.") for cycle in range(means.shape[-1] - 1)),
            (np.log((last**2).mean(axis=-1)), "These are means of squares; take the mean of the "
                                              "distances |x_N − x_T|."),
            (np.log((last**2).mean(axis=-1)) / 2, "These are roots of mean squares; take the mean "
                                                  "of the distances |x_N − x_T|."),
            (np.log(last.max(axis=-1)), "These are the largest distances; take the mean.")], CLOSE)
        for changes, message in OTHERWISE:
            other = _distances(True, 1, **changes)[-1].mean()
            refuse((same(logs[0, 1], np.log(other), CLOSE), message))
        row, column = np.unravel_index(np.abs(logs - np.log(right)).argmax(), logs.shape)
        yours, wanted = apart(errors[row, column], right[row, column])
        raise Wrong(
            f"{('With', 'Without')[row]} the look, seed {column}: you say {yours}; trained here, "
            f"this network ends {wanted} from the targets on average after its last cycle. The "
            "training: L_cycles=1; all 1,000 problems, 8 epochs, lr=3e-3, cycle_weight=0.1; "
            "the seed is given to the network and to TrainConfig.")
    seeing, blind = ([f"{error:.3f}" for error in row] for row in right)
    times, agree = right[1].mean() / right[0].mean(), (right[1] > right[0]).all()
    return (f"with the look the carts end {' and '.join(seeing)} from the targets, without it "
            f"{' and '.join(blind)}: {times:.1f} times as far, where you expected {factor:g}. "
            f"{'Both seeds say so' if agree else 'The two seeds disagree'}; two seeds show a "
            "direction, no exact factor.")


# ------------------------------------------------------------------ reading a log

KINDS = {  # each diagnosis, and what such a log shows
    "learning": "both losses fall at least 10-fold, and the eval loss ends below 3 times its "
                "lowest; a high first train loss, a bad epoch or a constant factor between the two "
                "change nothing",
    "overfitting": "both losses fall at least 10-fold, but the eval loss ends at 3 times its "
                   "lowest or above",
    "different units": "the train loss falls at least 10-fold, and the eval loss stays within 10 % "
                       "of its first",
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
    recovers = ends_at(2.5)  # from a bad epoch that comes after the lowest
    recovers[15] *= 5
    spike = falling.copy()  # the train loss of its last epoch is a bad one, too
    spike[-1] = 0.6
    for kind, train, evaluated in (
            ("learning", spike, late),
            ("learning", falling, recovers),
            ("learning", falling, 4 * falling),               # a harder eval set
            ("learning", falling, falling / 4),               # an easier one
            ("learning", 12.0**-k, 1.1 * 12.0**-k),
            ("overfitting", falling, ends_at(100)),  # ends where it began
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
            raise Wrong(f"{right} log{'s' * (right != 1)} read right; then: train loss "
                        f"{train[0]:.2g} → {train[-1]:.2g} (lowest {min(train):.2g}), eval loss "
                        f"{evaluated[0]:.2g} → {evaluated[-1]:.2g} (lowest "
                        f"{min(evaluated):.2g}) in {len(train)} epochs. You say {said!r}: there, "
                        f"{KINDS[said]}. This one is {kind!r}: {KINDS[kind]}.")
        right += 1
    return (f"all {right} logs, the one of this chapter among them: if an eval loss never moves, "
            "suspect that it measures something else.")


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
    return ("the mean rate over the descent is about half of lr, and the last steps are tiny: that "
            "is where the curves of this chapter settle.")
