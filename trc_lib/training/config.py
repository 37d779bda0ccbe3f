"""What to train for and how hard: the settings, the loss, the learning rate."""

import dataclasses
import math

from trc_lib import validation

OBJECTIVES = ("mse", "rms", "improvement", "relative improvement", "cost", "root cost")
PARTS = ("all", "proposal", "cycles")
SMALLEST_MSE = 1e-10  # (m/s^2)^2, keeps the slope of a root finite at zero
SMALLEST_GAP = 1e-8   # of a cost over the optimum's mean, for the same reason


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train; the defaults are the description's.

    Attributes:
        epochs: most passes over the training set.
        batch_size: problems a step.
        lr: highest learning rate of AdamW; the schedule warms up to it and falls to zero along a cosine.
        weight_decay: of AdamW.
        warmup: share of all steps that the warm-up takes.
        clip_norm: longest gradient that is let through.
        patience: epochs without a better eval loss after which to stop early.
        objective: how the errors of the cycles make one number, see `imitation_loss`; or ``"cost"`` or ``"root cost"``, which do
            not imitate but lower the teacher's own cost, see `cost_loss`: for a network that has learned to imitate.
        part: ``"all"`` of the network; of a recursive one also its ``"proposal"`` alone, where no cycle is run, or its
            ``"cycles"`` alone, which start from the proposals as they are.
        cycle_weight: weight of the error of each earlier cycle's controls; 0 supervises the last cycle only.
        final_weight: weight of the error of the final state, beside that of the controls.
        most_cycles: each batch runs a number of cycles drawn from 1 to this; 0 runs those of the network.
        seed: of the order of the samples.
        snapshot_epochs: after which epochs to keep the weights, for pictures; 0 is before training.
        mixed_precision: run the network in bfloat16 where that is safe, and on a GPU in TF32 where that is (for GPUs).
        compile: compile the network by `torch.compile` (takes a minute or two first). Without CUDA graphs: each number of cycles
            and the last, shorter batch would need a graph of their own; ``make check-gpu`` measures what they would bring.
    """

    epochs: int = 100
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-5
    warmup: float = 0.2
    clip_norm: float = 1.0
    patience: int = 20
    objective: str = "mse"
    part: str = "all"
    cycle_weight: float = 0.0
    final_weight: float = 0.0
    most_cycles: int = 0
    seed: int = 0
    snapshot_epochs: tuple = ()
    mixed_precision: bool = False
    compile: bool = False

    def __post_init__(self):
        validation.one_of("objective", self.objective, OBJECTIVES)
        validation.one_of("part", self.part, PARTS)
        plain = {"seed": validation.whole("seed", self.seed, at_least=0),
                 "most_cycles": validation.whole("most_cycles", self.most_cycles, at_least=0),
                 "clip_norm": validation.positive("clip_norm", self.clip_norm)}
        for name in ("epochs", "batch_size", "patience"):
            plain[name] = validation.whole(name, getattr(self, name))
        for name in ("lr", "weight_decay", "cycle_weight", "final_weight", "warmup"):
            plain[name] = validation.positive(name, getattr(self, name), or_zero=True)
        for name in ("mixed_precision", "compile"):
            validation.switch(name, getattr(self, name))
        try:
            epochs = tuple(self.snapshot_epochs)
        except TypeError:
            raise TypeError(f"snapshot_epochs={self.snapshot_epochs!r} is not accepted; give a list of whole numbers") from None
        plain["snapshot_epochs"] = tuple(validation.whole("snapshot_epochs", epoch, at_least=0) for epoch in epochs)
        for name, value in plain.items():  # NumPy's own numbers would make the checkpoints unreadable
            object.__setattr__(self, name, value)
        if self.of_cost and self.final_weight:
            raise ValueError(f"final_weight={self.final_weight} is not accepted with objective={self.objective!r}, "
                             "which has its own")
        if self.part == "proposal" and self.most_cycles:
            raise ValueError(f"most_cycles={self.most_cycles} is not accepted with part='proposal', which runs none")
        if self.warmup >= 1:
            raise ValueError(f"warmup={self.warmup} is not accepted; give a share of the steps, 0 or above and below 1")


    @property
    def of_cost(self):
        """Whether the objective is the teacher's cost, not imitation."""
        return self.objective in ("cost", "root cost")


def imitation_loss(cycle_controls, optimal_controls, cycle_weight=0.0, objective="mse", final_errors=None, final_weight=0.0):
    """How far the controls of the cycles are from the teacher's, and where they end.

    With J[h] the mean squared error after cycle h, H the last cycle and w the ``cycle_weight``, the ``objective`` is

    - ``"mse"``: J[H] + w (J[0] + ... + J[H-1]), every cycle supervised;
    - ``"rms"``: the same with roots, which pull as hard on small errors as on large ones;
    - ``"improvement"``: J[H] - w sum of (J[h-1] - J[h]), a reward for what each cycle gains;
    - ``"relative improvement"``: J[H] - w sum of (1 - J[h] / J[h-1]).

    Args:
        cycle_controls: ``[H_cycles + 1, batch, horizon, control_dim]``, physical units.
        optimal_controls: ``[batch, horizon, control_dim]``.
        final_errors: x_N - x_T of every cycle, ``[H_cycles + 1, batch, state_dim]``; needed where ``final_weight`` is not 0.
        final_weight: how much their mean square (its root, for ``"rms"``) counts beside J.

    Returns:
        the objective to descend, and J[H]: the loss that is reported, in training and in evaluation alike.
    """
    J = (cycle_controls - optimal_controls).square().mean(dim=(1, 2, 3))         # [H_cycles + 1]
    if objective in ("mse", "rms"):
        def size(error):
            return error if objective == "mse" else (error + SMALLEST_MSE).sqrt()

        each = size(J)
        if final_weight:
            each = each + final_weight * size(final_errors.square().mean(dim=(1, 2)))
        return each[-1] + cycle_weight * each[:-1].sum(), J[-1]
    before, after = J[:-1] + SMALLEST_MSE, J[1:] + SMALLEST_MSE
    gains = before - after if objective == "improvement" else 1 - after / before
    return J[-1] - cycle_weight * gains.sum(), J[-1]


def cost_loss(costs, optimal_costs, cycle_weight=0.0, root=False):
    """How much more than the optimum the controls of the cycles cost, relative to the optimum's mean.

    Args:
        costs: of every cycle's controls, ``[H_cycles + 1, batch]``; optimal_costs: of the teacher's, ``[batch]``.
        cycle_weight: weight of each earlier cycle's.
        root: descend the root of each problem's gap, which pulls as hard on small gaps as on large ones, and not at all on a
            problem that costs less than the teacher's answer.

    Returns:
        the objective to descend, and the last cycle's gap: the loss that is reported.
    """
    gaps = (costs - optimal_costs) / optimal_costs.mean()                            # [H_cycles + 1, batch]
    each = ((gaps.clamp(min=0) + SMALLEST_GAP).sqrt() if root else gaps).mean(dim=1)
    return each[-1] + cycle_weight * each[:-1].sum(), gaps[-1].mean()


def learning_rate(step, total_steps, config):
    """The schedule as a formula: linear warm-up over ``warmup`` of the steps, then a cosine down to zero."""
    warm = max(1, round(config.warmup * total_steps))
    if step < warm:
        return config.lr * (step + 1) / warm
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total_steps - warm)))
