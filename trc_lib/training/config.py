"""The settings of a training, its losses and its learning rate."""

import dataclasses
import math

from jaxtyping import Float
from torch import Tensor

from trc_lib import validation

OBJECTIVES = ("mse", "rms", "improvement", "relative improvement", "cost", "root cost")
PARTS = ("all", "proposal", "cycles")
SMALLEST_MSE = 1e-10  # (m/s^2)^2; keeps the gradient of a root finite at zero
SMALLEST_GAP = 1e-8   # of a cost over the optimum's mean; likewise

Loss = Float[Tensor, ""]
Cycles = Float[Tensor, "cycles batch horizon control_dim"]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The settings of a training.

    Attributes:
        epochs: most passes over the training set.
        batch_size: problems a step.
        lr: highest learning rate of AdamW, after the warm-up; it falls to zero along a cosine.
        weight_decay: of AdamW.
        warmup: share of all steps that the warm-up takes.
        clip_norm: largest norm of the gradient.
        patience: epochs without a better eval loss before early stopping.
        objective: how the errors of the cycles make one number, see `imitation_loss`; or ``"cost"``
            or ``"root cost"``, which lower the teacher's own cost, see `cost_loss`: for a network
            that has learned to imitate.
        part: ``"all"`` of the network; of a recursive one also its ``"proposal"`` alone, without
            cycles, or its ``"cycles"`` alone, which start from the proposals as they are.
        cycle_weight: weight of the error of each earlier cycle; 0 supervises the last cycle only.
        final_weight: weight of the terminal error beside that of the controls.
        most_cycles: each batch runs a number of cycles drawn from 1 to this; 0 runs the network's.
        seed: of the order of the samples.
        snapshot_epochs: after which epochs to keep the weights; 0 is before training.
        mixed_precision: bfloat16 in the block, and on a GPU TF32, see `compute.precision_of`.
        compile: compile the network by `torch.compile`, which takes a minute or two first.
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
        plain = {"clip_norm": validation.positive("clip_norm", self.clip_norm)}
        for name, at_least in (("epochs", 1), ("batch_size", 1), ("patience", 1),
                               ("most_cycles", 0), ("seed", 0)):
            plain[name] = validation.whole(name, getattr(self, name), at_least)
        for name in ("lr", "weight_decay", "cycle_weight", "final_weight", "warmup"):
            plain[name] = validation.positive(name, getattr(self, name), or_zero=True)
        for name in ("mixed_precision", "compile"):
            validation.switch(name, getattr(self, name))
        try:
            epochs = tuple(self.snapshot_epochs)
        except TypeError:
            raise TypeError(f"snapshot_epochs={self.snapshot_epochs!r} is not accepted; "
                            "give a list of whole numbers") from None
        plain["snapshot_epochs"] = tuple(
            validation.whole("snapshot_epochs", epoch, at_least=0) for epoch in epochs)
        for name, value in plain.items():  # a checkpoint with NumPy numbers could not be read
            object.__setattr__(self, name, value)
        if self.of_cost and self.final_weight:
            raise ValueError(f"final_weight={self.final_weight} is not accepted with "
                             f"objective={self.objective!r}, which has its own")
        if self.part == "proposal" and self.most_cycles:
            raise ValueError(f"most_cycles={self.most_cycles} is not accepted with "
                             "part='proposal', which runs none")
        if self.warmup >= 1:
            raise ValueError(f"warmup={self.warmup} is not accepted; "
                             "give a share of the steps, 0 or above and below 1")

    @property
    def of_cost(self) -> bool:
        """Whether the objective is the teacher's cost instead of imitation."""
        return self.objective in ("cost", "root cost")


def imitation_loss(cycle_controls: Cycles, optimal_controls: Float[Tensor, "batch horizon m"],
                   cycle_weight: float = 0.0, objective: str = "mse",
                   final_errors: Float[Tensor, "cycles batch state_dim"] | None = None,
                   final_weight: float = 0.0) -> tuple[Loss, Loss]:
    """The distance of each cycle's controls to the teacher's, and of their final states.

    With J[h] the mean squared error after cycle h, H the last cycle and w the ``cycle_weight``, the
    ``objective`` is

    - ``"mse"``: J[H] + w (J[0] + ... + J[H-1]), every cycle supervised;
    - ``"rms"``: the same with roots, whose gradient does not fade with the error;
    - ``"improvement"``: J[H] - w sum of (J[h-1] - J[h]), a reward for what each cycle gains;
    - ``"relative improvement"``: J[H] - w sum of (1 - J[h] / J[h-1]).

    Args:
        cycle_controls: before the first and after each cycle, physical units.
        optimal_controls: the teacher's.
        final_errors: x_N - x_T of every cycle; needed where ``final_weight`` is not 0.
        final_weight: weight of their mean square (for ``"rms"`` its root) beside J.

    Returns:
        the objective to minimise, and J[H], the loss that is reported.
    """
    J = (cycle_controls - optimal_controls).square().mean(dim=(1, 2, 3))     # [H_cycles + 1]
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


def cost_loss(costs: Float[Tensor, "cycles batch"], optimal_costs: Float[Tensor, "batch"],
              cycle_weight: float = 0.0, root: bool = False) -> tuple[Loss, Loss]:
    """The cost of each cycle's controls above the optimum's, relative to the optimum's mean.

    Args:
        costs: of every cycle's controls; optimal_costs: of the teacher's.
        cycle_weight: weight of each earlier cycle's.
        root: minimise the root of each problem's gap, whose gradient does not fade with the gap;
            it is zero for a problem that costs less than the teacher's answer.

    Returns:
        the objective to minimise, and the last cycle's mean gap, the loss that is reported.
    """
    gaps = (costs - optimal_costs) / optimal_costs.mean()                    # [H_cycles + 1, batch]
    each = ((gaps.clamp(min=0) + SMALLEST_GAP).sqrt() if root else gaps).mean(dim=1)
    return each[-1] + cycle_weight * each[:-1].sum(), gaps[-1].mean()


def learning_rate(step: int, total_steps: int, config: TrainConfig) -> float:
    """A linear warm-up over ``warmup`` of the steps, then a cosine down to zero."""
    warm = max(1, round(config.warmup * total_steps))
    if step < warm:
        return config.lr * (step + 1) / warm
    progress = (step - warm) / max(1, total_steps - warm)
    return config.lr * 0.5 * (1 + math.cos(math.pi * progress))
