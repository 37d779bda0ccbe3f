"""The state of a training run, in memory and on disk."""

import csv
import dataclasses
import pathlib
from io import StringIO

import torch
from torch import Tensor

from trc_lib import io, validation
from trc_lib.data import LQRDataset, Store
from trc_lib.model import Learner
from trc_lib.training.config import TrainConfig

VERSION = 1  # of the format of `last.pt` and `snapshots.pt`
STATE, SNAPSHOTS = "trc_lib.training", "trc_lib.snapshots"  # kinds of checkpoints

Weights = dict[str, Tensor]


class OtherRecipe(ValueError):
    """A folder holds a run with another recipe; ``changes`` lists the differences."""

    changes = ""


class History:
    """The figures of each epoch: ``rows``, and columns by name.

    Columns: epoch, train_loss and eval_loss (the same quantity on the two sets; that of imitation
    in the squares of `Learner.units`, for the course's carts (m/s^2)^2), eval_final_error (mean
    |x_N - x_T|), eval_success (share that `Teacher.succeeded` counts), lr, seconds.
    """

    def __init__(self, rows: list[dict] | tuple = ()):
        self.rows = list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> list:
        return [row[column] for row in self.rows]

    @property
    def best(self) -> dict:
        """The row with the lowest eval loss."""
        return min(self.rows, key=lambda row: row["eval_loss"])

    def save_csv(self, path: pathlib.Path) -> None:
        """Write one line an epoch to ``path``, whole or not at all."""
        text = StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        io.write_text(path, text.getvalue())


class Run:
    """A training run: model, optimiser, the order of the samples, and what happened so far.

    With a ``folder``, `add` writes each epoch there.
    """

    def __init__(self, model: Learner, optimizer: torch.optim.Optimizer, recipe: dict,
                 config: TrainConfig, folder: pathlib.Path | None):
        self.model, self.optimizer, self.recipe = model, optimizer, recipe
        self.config, self.folder = config, folder
        self.order = torch.Generator().manual_seed(config.seed)
        self.history, self.snapshots, self.best_weights = History(), {}, weights_of(model)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the eval loss has not improved for too long."""
        done = len(self.history)
        return done >= self.config.epochs or (
            done > 0 and done - self.history.best["epoch"] >= self.config.patience)

    def begin(self) -> None:
        """Start anew; files of an older run are removed."""
        if self.folder is not None:
            io.check_writable(self.folder)
            for name in ("last.pt", "best_model.pt", "snapshots.pt", "history.csv"):
                io.remove(self.folder / name)
        if 0 in self.config.snapshot_epochs:
            self.snapshots[0] = weights_of(self.model)

    def resume(self, state: dict) -> None:
        """Go on from a ``state`` that `load_state` read."""
        self.model.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.order.set_state(state["order"])
        self.history, self.best_weights = History(state["history"]), state["best_weights"]
        if self.folder is not None and (self.folder / "snapshots.pt").exists():
            self.snapshots = load_snapshots(self.folder / "snapshots.pt")

    def add(self, row: dict) -> None:
        """Add the figures of an epoch, and write the epoch to the folder."""
        epoch = row["epoch"]
        self.history.rows.append(row)
        best = self.history.best is row
        if best:
            self.best_weights = weights_of(self.model)
        if epoch in self.config.snapshot_epochs:
            self.snapshots[epoch] = weights_of(self.model)
        if self.folder is None:
            return
        if best:
            self.model.recipe = self.recipe | {"best_epoch": epoch}
            self.model.save(self.folder / "best_model.pt")
        if epoch in self.snapshots or (epoch == 1 and self.snapshots):
            io.save_checkpoint(self.folder / "snapshots.pt", SNAPSHOTS, VERSION,
                               {"snapshots": self.snapshots})
        self.history.save_csv(self.folder / "history.csv")
        io.save_checkpoint(self.folder / "last.pt", STATE, VERSION, {  # last: the epoch is whole
            "recipe": self.recipe, "weights": weights_of(self.model),
            "best_weights": self.best_weights, "optimizer": self.optimizer.state_dict(),
            "order": self.order.get_state(), "history": self.history.rows})


def recipe_of(model: Learner, train_set: LQRDataset | Store, eval_set: LQRDataset,
              config: TrainConfig) -> dict:
    """All that the result depends on, as plain values.

    ``"before"`` holds the recipe of an earlier training of the network.
    """
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    network = io.plain(model.architecture)
    training = dataclasses.asdict(config) | {"snapshot_epochs": list(config.snapshot_epochs)}
    return {"kind": model.kind, "model": network["config"], "model_seed": model.seed,
            "class": network["class"], "feedback": network["feedback"],
            "initial_weights": io.fingerprint(weights), "training": training,
            "train_set": train_set.origin, "eval_set": eval_set.origin,
            **({"before": model.recipe} if model.recipe else {})}


def load_state(folder: pathlib.Path | None, recipe: dict) -> dict | None:
    """The state of a run with ``recipe`` in ``folder``; None if there is none.

    A run with the same recipe but fewer epochs, or less patience, is extended: it goes on with the
    learning rates of the new number of epochs. ``state["recipe"]["extended_at"]`` says after which
    epochs that happened.

    Raises:
        OtherRecipe: if the run has another recipe.
    """
    if folder is None or not (folder / "last.pt").exists():
        return None
    state = io.load_checkpoint(folder / "last.pt", STATE, VERSION)
    before = dict(state["recipe"])
    extended_at = before.pop("extended_at", [])
    if before != recipe and _extends(recipe["training"], before["training"]):
        extended_at = [*extended_at, len(state["history"])]
        before["training"] = recipe["training"]
    state["recipe"] = recipe | ({"extended_at": extended_at} if extended_at else {})
    if before != recipe:
        changes = ", ".join(io.changes(before, recipe))
        error = OtherRecipe(f"folder={str(folder)!r} holds a run with another recipe ({changes}); "
                            "give another folder, or resume=False to write over it")
        error.changes = changes
        raise error
    return state


def _extends(new, old):
    """Whether a `TrainConfig`, as a dict, is another one with more epochs or more patience."""
    longer = [new[name] - old[name] for name in ("epochs", "patience")]
    same = all(new[name] == old.get(name) for name in new if name not in ("epochs", "patience"))
    return same and min(longer) >= 0 < max(longer)


def epochs_kept(folder: object) -> int:
    """How many whole epochs of a run ``folder`` holds; 0 if there is none."""
    path = validation.path("folder", folder) / "last.pt"
    return len(io.load_checkpoint(path, STATE, VERSION)["history"]) if path.exists() else 0


def load_snapshots(path: object) -> dict[int, Weights]:
    """The weights that `train` kept at ``snapshot_epochs``, by epoch."""
    return io.load_checkpoint(path, SNAPSHOTS, VERSION)["snapshots"]


def weights_of(model: Learner) -> Weights:
    """A copy of a model's weights and scaling, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
