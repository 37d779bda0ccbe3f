"""How much of it to run: ``smoke`` to see that all works, ``cpu`` for a laptop, ``gpu`` for a node."""

import dataclasses

from trc_lib import validation
from trc_lib.data import EVAL_SEED
from trc_lib.model import NoFeedback, TinyRecursiveControl
from trc_lib.training import TrainConfig


@dataclasses.dataclass(frozen=True)
class Preset:
    """How much data, which network, how much training.

    Attributes:
        name: ``"smoke"``, ``"cpu"`` or ``"gpu"``.
        num_train, num_eval: problems to train on, and unseen ones to test on.
        network: ``"small"`` or ``"medium"``, as in ``TinyRecursiveControl.create_two_level``.
        training: the `TrainConfig`.
        seed: of the training set, the weights and the order of the samples.
        feedback: simulate the controls before each cycle and feed the final error back.
        changes: what differs from the lane as it was, as ``name=value`` words.
    """

    name: str
    num_train: int
    num_eval: int
    network: str
    training: TrainConfig
    seed: int = 0
    feedback: bool = True
    changes: tuple = ()

    def make_model(self):
        """The untrained network of this lane."""
        feedback = None if self.feedback else NoFeedback()
        return TinyRecursiveControl.create_two_level(self.network, seed=self.seed, feedback=feedback)

    def trained(self, model):
        """Whether ``model`` was trained as this lane trains, with whatever seed."""
        planned = dataclasses.asdict(self.training) | {"snapshot_epochs": list(self.training.snapshot_epochs)}
        recipe = model.recipe.get("training", {})
        return model.architecture == self.make_model().architecture and recipe | {"seed": 0} == planned | {"seed": 0}


_cpu = TrainConfig(epochs=10, batch_size=64, lr=1e-3, cycle_weight=0.1, snapshot_epochs=(0, 1, 2, 3, 5, 10))

PRESETS = {
    "smoke": Preset("smoke", 1_000, 200, "small", dataclasses.replace(_cpu, epochs=3, snapshot_epochs=(0, 1, 2, 3))),
    "cpu": Preset("cpu", 10_000, 2_000, "medium", _cpu),
    "gpu": Preset("gpu", 1_000_000, 100_000, "medium", dataclasses.replace(
        _cpu, batch_size=1024, lr=2e-3, epochs=20, snapshot_epochs=(0, 1, 2, 3, 5, 10, 20), mixed_precision=True, compile=True)),
}


def choose_preset(name, seed=0, feedback=True, **training):
    """The lane called ``name``, with what a batch run varies.

    Args:
        name: ``"smoke"``, ``"cpu"`` or ``"gpu"``.
        seed: of everything that is drawn.
        feedback: as in `TRCConfig`.
        training: fields of `TrainConfig`; None leaves the lane's own value.

    Raises:
        TypeError, ValueError: naming what is wrong and what is accepted.
    """
    lane = PRESETS[validation.one_of("lane", name, tuple(PRESETS))]
    validation.whole("seed", seed, at_least=0)
    validation.switch("feedback", feedback)
    if seed >= EVAL_SEED:
        raise ValueError(f"seed={seed} is too large; needs to be below {EVAL_SEED}, where the seeds of the eval sets begin")
    fields = [field.name for field in dataclasses.fields(TrainConfig) if field.name != "seed"]
    for field in training:
        validation.one_of("training option", field, fields)
    given = {field: value for field, value in training.items() if value is not None}
    config = dataclasses.replace(lane.training, seed=seed, **given)  # which checks them
    changed = [field for field in given if getattr(config, field) != getattr(lane.training, field)]
    words = tuple(f"{field}={getattr(config, field)}" for field in changed) + (() if feedback else ("feedback=False",))
    return dataclasses.replace(lane, seed=seed, feedback=feedback, changes=words, training=config)
