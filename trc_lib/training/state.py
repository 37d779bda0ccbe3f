"""What a training run remembers, in memory and on disk: history, best weights, resume state."""

import csv
import dataclasses
from io import StringIO

import torch

from trc_lib import io, validation
from trc_lib.model import Learner
from trc_lib.training.config import TrainConfig

VERSION = 1  # of the format of `last.pt` and `snapshots.pt`


class OtherRecipe(ValueError):
    """The folder holds a run with another recipe; ``changes`` says where they differ."""

    changes = ""


class History:
    """What happened in each epoch: a list of rows, and its columns by name.

    Columns: epoch, train_loss and eval_loss ((m/s^2)^2, the same quantity on the two sets),
    eval_final_error (mean |x_N - x_T|), eval_success (share below the teacher's ``success``), lr,
    seconds.
    """

    def __init__(self, rows=()):
        self.rows = list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> list:
        return [row[column] for row in self.rows]

    @property
    def best(self) -> dict:
        """The row with the lowest eval loss."""
        return min(self.rows, key=lambda row: row["eval_loss"])

    def save_csv(self, path) -> None:
        """Write one line an epoch to ``path``, whole or not at all."""
        text = StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        io.write_text(path, text.getvalue())


class Run:
    """One training run: model, optimiser, the order of the samples, and its history.

    With a ``folder``, `begin` clears it and `keep` writes each epoch.
    """

    def __init__(self, model, optimizer, recipe, config, folder):
        self.model, self.optimizer, self.recipe = model, optimizer, recipe
        self.config, self.folder = config, folder
        self.order = torch.Generator().manual_seed(config.seed)  # on the CPU
        self.history, self.snapshots, self.best_weights = History(), {}, weights_of(model)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the eval loss has not improved for too long."""
        done = len(self.history)
        waited = done - self.history.best["epoch"] if done else 0
        return done >= self.config.epochs or waited >= self.config.patience

    def begin(self) -> None:
        """Start anew, without the files of an older run."""
        if self.folder is not None:
            io.check_writable(self.folder)  # now, and not after the first epoch
            for name in ("last.pt", "best_model.pt", "snapshots.pt", "history.csv"):
                (self.folder / name).unlink(missing_ok=True)
        if 0 in self.config.snapshot_epochs:
            self.snapshots[0] = weights_of(self.model)

    def take_up(self, state: dict) -> None:
        """Continue from a ``state`` that `load_state` read."""
        self.model.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.order.set_state(state["order"])
        self.history, self.best_weights = History(state["history"]), state["best_weights"]
        if self.folder is not None and (self.folder / "snapshots.pt").exists():
            self.snapshots = load_snapshots(self.folder / "snapshots.pt")

    def add(self, row: dict) -> None:
        """Add an epoch to the history, and write it to disk where there is a folder."""
        self.history.rows.append(row)
        if self.history.best is row:
            self.best_weights = weights_of(self.model)
        if row["epoch"] in self.config.snapshot_epochs:
            self.snapshots[row["epoch"]] = weights_of(self.model)
        if self.folder is not None:
            self.keep()

    def keep(self) -> None:
        """Write the last epoch; ``last.pt`` last, so a run killed before that repeats the epoch."""
        epoch = len(self.history)
        if self.history.best["epoch"] == epoch:
            self.model.recipe = self.recipe | {"best_epoch": epoch}
            self.model.save(self.folder / "best_model.pt")
        if epoch in self.snapshots or (epoch == 1 and self.snapshots):
            io.save_checkpoint(self.folder / "snapshots.pt", "trc_lib.snapshots", VERSION,
                               {"snapshots": self.snapshots})
        self.history.save_csv(self.folder / "history.csv")
        io.save_checkpoint(self.folder / "last.pt", "trc_lib.training", VERSION, {
            "recipe": self.recipe, "weights": weights_of(self.model),
            "best_weights": self.best_weights, "optimizer": self.optimizer.state_dict(),
            "order": self.order.get_state(), "history": self.history.rows})


def recipe_of(model: Learner, train_set, eval_set, config: TrainConfig) -> dict:
    """All that the result depends on, as plain values.

    Under ``"before"`` stands the recipe of the training that the network had before, if any.
    """
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    network = io.plain(model.architecture)
    settings = dataclasses.asdict(config) | {"snapshot_epochs": list(config.snapshot_epochs)}
    before = {"before": model.recipe} if model.recipe else {}
    return {"kind": model.kind, "model": network["config"], "model_seed": model.seed,
            "class": network["class"], "feedback": network["feedback"],
            "initial_weights": io.fingerprint(weights), "training": settings,
            "train_set": train_set.origin, "eval_set": eval_set.origin} | before


def load_state(folder, recipe: dict) -> dict | None:
    """What a run with ``recipe`` left in ``folder``; None if nothing.

    Raises:
        OtherRecipe: if a run with another recipe left it.
    """
    if folder is None or not (folder / "last.pt").exists():
        return None
    state = io.load_checkpoint(folder / "last.pt", "trc_lib.training", VERSION)
    if state["recipe"] != recipe:
        changes = ", ".join(io.changes(state["recipe"], recipe))
        error = OtherRecipe(f"folder={str(folder)!r} holds a run with another recipe ({changes}); "
                            "give another folder, or resume=False to write over it")
        error.changes = changes
        raise error
    return state


def epochs_kept(folder: object) -> int:
    """How many whole epochs of a run ``folder`` holds; 0 if there is none."""
    path = validation.path("folder", folder) / "last.pt"
    if not path.exists():
        return 0
    return len(io.load_checkpoint(path, "trc_lib.training", VERSION)["history"])


def load_snapshots(path: object) -> dict:
    """The weights that `train` kept at ``snapshot_epochs``: ``{epoch: state_dict}``."""
    return io.load_checkpoint(path, "trc_lib.snapshots", VERSION)["snapshots"]


def weights_of(model: torch.nn.Module) -> dict:
    """A copy of a model's weights and buffers, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
