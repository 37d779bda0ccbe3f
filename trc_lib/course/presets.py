"""How much to run: ``smoke`` to see that all works, ``cpu`` for a laptop, ``gpu`` for a node."""

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
        network: ``"small"`` or ``"medium"``, see `TinyRecursiveControl.create_two_level`.
        training: the `TrainConfig`.
        seed: of the training set, the weights and the order of the samples.
        feedback: whether each cycle receives the final error.
        changes: what differs from the preset in `PRESETS`, as ``name=value`` words.
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
        """The untrained network."""
        feedback = None if self.feedback else NoFeedback()
        return TinyRecursiveControl.create_two_level(self.network, seed=self.seed,
                                                     feedback=feedback)

    def trained(self, model):
        """Whether ``model`` was trained as this preset trains, with any seed."""
        planned = dataclasses.asdict(self.training)
        planned |= {"snapshot_epochs": list(self.training.snapshot_epochs), "seed": 0}
        recipe = model.recipe.get("training", {}) | {"seed": 0}
        return model.architecture == self.make_model().architecture and recipe == planned


_SMOKE = TrainConfig(epochs=3, batch_size=64, lr=1e-3, cycle_weight=0.1,
                     snapshot_epochs=(0, 1, 2, 3))
_CPU = dataclasses.replace(_SMOKE, epochs=10, snapshot_epochs=(0, 1, 2, 3, 5, 10))
_GPU = dataclasses.replace(_CPU, epochs=20, snapshot_epochs=(0, 1, 2, 3, 5, 10, 20), lr=2e-3,
                           batch_size=1024, mixed_precision=True, compile=True)

PRESETS = {"smoke": Preset("smoke", 1_000, 200, "small", _SMOKE),
           "cpu": Preset("cpu", 10_000, 2_000, "medium", _CPU),
           "gpu": Preset("gpu", 1_000_000, 100_000, "medium", _GPU)}


def choose_preset(name, seed=0, feedback=True, **training):
    """The preset called ``name``, with changes.

    Args:
        name: ``"smoke"``, ``"cpu"`` or ``"gpu"``.
        seed: of everything that is drawn.
        feedback: whether each cycle receives the final error.
        training: fields of `TrainConfig`; None keeps the preset's value.

    Raises:
        TypeError, ValueError: naming what is wrong and what is accepted.
    """
    preset = PRESETS[validation.one_of("lane", name, tuple(PRESETS))]
    validation.whole("seed", seed, at_least=0, at_most=EVAL_SEED - 1)  # then the eval sets' begin
    validation.switch("feedback", feedback)
    fields = [field.name for field in dataclasses.fields(TrainConfig) if field.name != "seed"]
    for field in training:
        validation.one_of("training option", field, fields)
    given = {field: value for field, value in training.items() if value is not None}
    config = dataclasses.replace(preset.training, seed=seed, **given)
    if "snapshot_epochs" not in given:  # of these, and of the end
        snapshots = {epoch for epoch in config.snapshot_epochs if epoch < config.epochs}
        config = dataclasses.replace(config,
                                     snapshot_epochs=tuple(sorted(snapshots | {config.epochs})))
    changes = [f"{field}={getattr(config, field)}" for field in given
               if getattr(config, field) != getattr(preset.training, field)]
    if not feedback:
        changes.append("feedback=False")
    return dataclasses.replace(preset, seed=seed, feedback=feedback, changes=tuple(changes),
                               training=config)
