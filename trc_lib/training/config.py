"""The settings of a training, and its schedule."""

import dataclasses
import math

from trc_lib import validation
from trc_lib.training.objectives import COST, IMITATION

OBJECTIVES = IMITATION + COST
PARTS = ("all", "proposal", "cycles")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train; the defaults are the description's.

    Attributes:
        epochs: most passes over the training set.
        batch_size: problems a step.
        lr: highest learning rate of AdamW; see `learning_rate`.
        weight_decay: of AdamW.
        warmup: share of all steps in which the learning rate rises.
        clip_norm: largest norm of a gradient.
        patience: epochs without a better eval loss after which to stop.
        objective: imitation of the teacher, see `imitation_loss`; or ``"cost"`` or ``"root cost"``,
            the descent of its cost, see `objectives.cost_loss`, for a network that imitates it.
        part: ``"all"`` of the network; of a recursive one also its ``"proposal"`` alone, without
            cycles, or its ``"cycles"`` alone, with the proposal as it is.
        cycle_weight: of the error of each earlier cycle; 0 supervises the last cycle only.
        final_weight: of the error of the final state beside that of the controls.
        most_cycles: each batch runs a number of cycles drawn from 1 to this; 0 runs those of the
            network.
        seed: of the order of the samples.
        snapshot_epochs: epochs after which the weights are kept; 0 is before training.
        mixed_precision: run blocks in bfloat16 and, on a GPU, other layers in TF32.
        compile: compile the network with `torch.compile`, which takes a minute or two. Without CUDA
            graphs, since each number of cycles and the last batch would need one of their own.
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
        validation.switch("mixed_precision", self.mixed_precision)
        validation.switch("compile", self.compile)
        plain = {"clip_norm": validation.positive("clip_norm", self.clip_norm)}
        for name in ("lr", "weight_decay", "cycle_weight", "final_weight", "warmup"):
            plain[name] = validation.positive(name, getattr(self, name), or_zero=True)
        for name in ("epochs", "batch_size", "patience", "most_cycles", "seed"):
            least = 0 if name in ("most_cycles", "seed") else 1
            plain[name] = validation.whole(name, getattr(self, name), least)
        try:
            epochs = tuple(self.snapshot_epochs)
        except TypeError:
            raise TypeError(f"snapshot_epochs={self.snapshot_epochs!r} is not accepted; "
                            "give a list of whole numbers") from None
        plain["snapshot_epochs"] = tuple(
            validation.whole("snapshot_epochs", epoch, at_least=0) for epoch in epochs)
        for name, value in plain.items():  # plain numbers: checkpoints hold no NumPy numbers
            object.__setattr__(self, name, value)
        if self.of_cost and self.final_weight:
            raise ValueError(f"final_weight={self.final_weight} is not accepted with objective="
                             f"{self.objective!r}, which weighs the final state itself")
        if self.part == "proposal" and self.most_cycles:
            raise ValueError(f"most_cycles={self.most_cycles} is not accepted with "
                             "part='proposal', which runs no cycles")
        if self.warmup >= 1:
            raise ValueError(f"warmup={self.warmup} is not accepted; "
                             "give a share of the steps, at least 0 and below 1")

    @property
    def of_cost(self) -> bool:
        """Whether the objective is the teacher's cost."""
        return self.objective in COST

    @property
    def depth(self) -> int | None:
        """How many cycles are run; None for those of the network."""
        return 0 if self.part == "proposal" else None


def learning_rate(step: int, total_steps: int, config: TrainConfig) -> float:
    """A linear warm-up over ``warmup`` of the steps, then a cosine down to zero."""
    warm = max(1, round(config.warmup * total_steps))
    if step < warm:
        return config.lr * (step + 1) / warm
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total_steps - warm)))
