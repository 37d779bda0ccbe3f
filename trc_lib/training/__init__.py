"""Imitation of a teacher, or descent of its cost; with checkpoints, history and resume."""

from trc_lib.training.config import TrainConfig, learning_rate
from trc_lib.training.loop import train
from trc_lib.training.objectives import imitation_loss
from trc_lib.training.state import History, OtherRecipe, epochs_kept, load_snapshots

__all__ = ["History", "OtherRecipe", "TrainConfig", "epochs_kept", "imitation_loss",
           "learning_rate", "load_snapshots", "train"]
