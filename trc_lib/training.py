"""How it learns: behaviour cloning by mean squared error, with checkpoints, history and resume."""

import csv
import dataclasses
import io
import math
import pathlib
import time

import torch
from tqdm.auto import tqdm

from trc_lib import checking, files

VERSION = 1  # of the format of `last.pt` and `snapshots.pt`


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
        cycle_weight: weight of the error of each earlier cycle's controls; 0 supervises the last cycle only.
        seed: of the order of the samples.
        snapshot_epochs: after which epochs to keep the weights, for pictures; 0 is before training.
        mixed_precision: run the network in bfloat16 where that is safe (for GPUs).
        compile: compile the network by `torch.compile` (takes a minute or two first).
    """

    epochs: int = 100
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-5
    warmup: float = 0.2
    clip_norm: float = 1.0
    patience: int = 20
    cycle_weight: float = 0.0
    seed: int = 0
    snapshot_epochs: tuple = ()
    mixed_precision: bool = False
    compile: bool = False

    def __post_init__(self):
        plain = {"seed": checking.whole("seed", self.seed, at_least=0),
                 "clip_norm": checking.positive("clip_norm", self.clip_norm)}
        for name in ("epochs", "batch_size", "patience"):
            plain[name] = checking.whole(name, getattr(self, name))
        for name in ("lr", "weight_decay", "cycle_weight", "warmup"):
            plain[name] = checking.positive(name, getattr(self, name), or_zero=True)
        plain["snapshot_epochs"] = tuple(checking.whole("snapshot_epochs", e, at_least=0) for e in self.snapshot_epochs)
        for name, value in plain.items():  # NumPy's own numbers would make the checkpoints unreadable
            object.__setattr__(self, name, value)
        if self.warmup >= 1:
            raise ValueError(f"warmup={self.warmup} is not accepted; give a share of the steps, 0 or above and below 1")


class OtherRecipe(ValueError):
    """The folder holds the state of a run with another recipe."""


def imitation_loss(cycle_controls, optimal_controls, cycle_weight=0.0):
    """Mean squared error to the teacher's controls.

    Args:
        cycle_controls: ``[H_cycles + 1, batch, horizon, control_dim]``, physical units.
        optimal_controls: ``[batch, horizon, control_dim]``.
        cycle_weight: weight of the mean squared error of each earlier cycle.

    Returns:
        the objective to descend, and the last cycle's mean squared error: the loss that is reported,
        in training and in evaluation alike.
    """
    errors = (cycle_controls - optimal_controls).square().mean(dim=(1, 2, 3))    # [H_cycles + 1]
    return errors[-1] + cycle_weight * errors[:-1].sum(), errors[-1]


def learning_rate(step, total_steps, config):
    """The schedule as a formula: linear warm-up over ``warmup`` of the steps, then a cosine down to zero."""
    warm = max(1, round(config.warmup * total_steps))
    if step < warm:
        return config.lr * (step + 1) / warm
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total_steps - warm)))


class History:
    """What happened in each epoch: a list of rows, and the columns of it by name.

    Columns: epoch, train_loss and eval_loss ((m/s^2)^2, the same quantity on the two sets), eval_final_error
    (mean |x_N - x_T|), eval_success (share below 0.1), lr, seconds.
    """

    def __init__(self, rows=()):
        self.rows = list(rows)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, column):
        return [row[column] for row in self.rows]

    @property
    def best(self):
        """The row with the lowest eval loss."""
        return min(self.rows, key=lambda row: row["eval_loss"])

    def save_csv(self, path):
        """Write one line an epoch to ``path``, whole or not at all."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        files.write_text(path, text.getvalue())


def train(model, train_set, eval_set, config=TrainConfig(), folder=None, device="auto", resume=True, progress=True,
          on_epoch=None):
    """Teach ``model`` to imitate ``train_set``; it ends with the weights that had the lowest eval loss.

    With a ``folder``, each epoch leaves there: ``last.pt`` (all that a resume needs), ``best_model.pt``,
    ``history.csv`` and, when asked for, ``snapshots.pt``. A run that was stopped, at whatever moment, goes on
    after its last whole epoch and ends bit-equal to one that was not.

    Args:
        model: a `TinyRecursiveControl`; trained in place, its scaling taken from ``train_set``.
        train_set, eval_set: `LQRDataset`.
        config: a `TrainConfig`.
        folder: nothing is written if None.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        resume: go on with what ``folder`` holds; otherwise begin anew and write over it.
        progress: show a progress bar.
        on_epoch: called after each epoch with the `History` so far.

    Returns:
        the `History`.

    Raises:
        OtherRecipe: a ValueError, if ``folder`` holds a run with another recipe.
        ValueError: if a set does not fit the model.
        FloatingPointError: if the loss is no longer finite.
        KeyboardInterrupt: on Ctrl-C, when all whole epochs have been kept.
    """
    folder = None if folder is None else pathlib.Path(folder)
    device = checking.device(device)
    _check_fit(model, train_set, "train_set")
    _check_fit(model, eval_set, "eval_set")
    recipe = _recipe(model, train_set, eval_set, config)

    model.set_scaling(train_set)
    model.to(device)
    model.block.mixed_precision = config.mixed_precision
    predict = torch.compile(model.predict) if config.compile else model.predict
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    order = torch.Generator().manual_seed(config.seed)
    history, snapshots, best_weights = History(), {}, _weights(model)

    if folder is not None and resume and (folder / "last.pt").exists():
        state = _load_state(folder)
        if state["recipe"] != recipe:
            changed = ", ".join(name for name in recipe if state["recipe"].get(name) != recipe[name])
            raise OtherRecipe(f"folder={str(folder)!r} holds a run with another recipe (differs in: {changed}); "
                              "give another folder, or resume=False to write over it")
        model.load_state_dict(state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        order.set_state(state["order"])
        history, best_weights = History(state["history"]), state["best_weights"]
        if (folder / "snapshots.pt").exists():
            snapshots = load_snapshots(folder / "snapshots.pt")
    else:
        if folder is not None:  # nothing of an older run shall be taken for this one's
            for name in ("last.pt", "snapshots.pt"):
                (folder / name).unlink(missing_ok=True)
        if 0 in config.snapshot_epochs:
            snapshots[0] = _weights(model)

    train_data, eval_data = _on_device(train_set, device), _on_device(eval_set, device)
    num_samples = len(train_set)
    steps_per_epoch = math.ceil(num_samples / config.batch_size)
    total_steps = config.epochs * steps_per_epoch
    bar = tqdm(total=total_steps, initial=len(history) * steps_per_epoch, unit="step", desc="training", disable=not progress)
    threads = torch.get_num_threads()
    if config.batch_size < 256:
        # So little work gains nothing from a second core, and threads that wait for each other
        # make training many times slower on a machine that has anything else to do.
        torch.set_num_threads(1)
    try:
        while len(history) < config.epochs and not _stalled(history, config):
            epoch, started = len(history) + 1, time.perf_counter()
            model.train()
            permutation = torch.randperm(num_samples, generator=order).to(device)
            summed_loss = torch.zeros((), device=device)
            for i, rows in enumerate(permutation.split(config.batch_size)):
                lr = learning_rate((epoch - 1) * steps_per_epoch + i, total_steps, config)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                initial_state, target_state, optimal_controls = (values[rows] for values in train_data)
                output = predict(initial_state, target_state, model.config.H_cycles)
                objective, loss = imitation_loss(output["cycle_controls"], optimal_controls, config.cycle_weight)
                optimizer.zero_grad()
                objective.backward()                       # through every cycle of the recursion
                torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
                optimizer.step()
                summed_loss += loss.detach() * len(rows)   # stays on the device: no waiting in the loop
                bar.update()
            eval_loss, final_error, success = _evaluate(model, eval_data)
            row = {"epoch": epoch, "train_loss": float(summed_loss) / num_samples, "eval_loss": eval_loss,
                   "eval_final_error": final_error, "eval_success": success, "lr": lr,
                   "seconds": round(time.perf_counter() - started, 3)}
            if not math.isfinite(row["train_loss"] + eval_loss):
                raise FloatingPointError(f"the loss is no longer finite in epoch {epoch}; try a smaller lr than {config.lr}")
            history.rows.append(row)
            if history.best is row:
                best_weights = _weights(model)
            if epoch in config.snapshot_epochs:
                snapshots[epoch] = _weights(model)
            if folder is not None:
                _keep(folder, model, optimizer, order, history, best_weights, snapshots, recipe)
            bar.set_postfix(epoch=epoch, train_loss=f"{row['train_loss']:.1e}", eval_loss=f"{eval_loss:.1e}")
            if on_epoch is not None:
                on_epoch(history)
    except KeyboardInterrupt:
        kept = "nothing was kept: no folder was given"
        if folder is not None:
            kept = f"{len(history)} whole epochs are kept in {folder}; run again to go on"
        raise KeyboardInterrupt(f"training stopped in epoch {len(history) + 1}: {kept}") from None
    finally:
        torch.set_num_threads(threads)
        bar.close()
        model.block.mixed_precision = False
    model.load_state_dict(best_weights)
    model.recipe = recipe | {"best_epoch": history.best["epoch"]}
    return history


def load_snapshots(path):
    """The weights that `train` kept at ``snapshot_epochs``: ``{epoch: state_dict}``."""
    return files.load_checkpoint(path, "trc_lib.snapshots", VERSION)["snapshots"]


def epochs_kept(folder):
    """How many whole epochs of a run ``folder`` holds; 0 if there is none."""
    return len(_load_state(folder)["history"]) if (pathlib.Path(folder) / "last.pt").exists() else 0


def _load_state(folder):
    return files.load_checkpoint(pathlib.Path(folder) / "last.pt", "trc_lib.training", VERSION)


def _keep(folder, model, optimizer, order, history, best_weights, snapshots, recipe):
    """Write the epoch to disk; ``last.pt`` comes last, so that a run killed in between repeats the epoch."""
    if history.best is history.rows[-1]:
        model.recipe = recipe | {"best_epoch": len(history)}
        model.save(folder / "best_model.pt")
    if len(history) in snapshots or (len(history) == 1 and snapshots):
        files.save_checkpoint(folder / "snapshots.pt", "trc_lib.snapshots", VERSION, {"snapshots": snapshots})
    history.save_csv(folder / "history.csv")
    files.save_checkpoint(folder / "last.pt", "trc_lib.training", VERSION, {
        "recipe": recipe, "weights": _weights(model), "best_weights": best_weights,
        "optimizer": optimizer.state_dict(), "order": order.get_state(), "history": history.rows})


def _recipe(model, train_set, eval_set, config):
    """All that the result depends on, as plain values."""
    return {"model": dataclasses.asdict(model.config), "model_seed": model.seed,
            "training": dataclasses.asdict(config) | {"snapshot_epochs": list(config.snapshot_epochs)},
            "train_set": train_set.origin, "eval_set": eval_set.origin}


def _check_fit(model, dataset, name):
    c, shape = model.config, tuple(dataset.controls.shape[1:])
    if shape != (c.horizon, c.control_dim) or dataset.initial_states.shape[1] != c.state_dim:
        raise ValueError(f"{name} has controls [n, {shape[0]}, {shape[1]}] for {dataset.initial_states.shape[1]} states; "
                         f"the model needs [n, {c.horizon}, {c.control_dim}] for {c.state_dim}")
    if not (torch.equal(dataset.A, model.system.A) and torch.equal(dataset.B, model.system.B)):
        raise ValueError(f"{name} was made for another system than the model's, {model.system!r}")


def _on_device(dataset, device):
    return [values.to(device, torch.float32) for values in (dataset.initial_states, dataset.target_states, dataset.controls)]


def _weights(model):
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _stalled(history, config):
    return len(history) > 0 and len(history) - history.best["epoch"] >= config.patience


@torch.no_grad()
def _evaluate(model, data, batch_size=4096):
    """Eval loss (the same quantity as the train loss), mean final error, share of errors below 0.1."""
    model.eval()
    losses, errors = [], []
    for initial_state, target_state, optimal_controls in zip(*(values.split(batch_size) for values in data)):
        output = model.predict(initial_state, target_state, model.config.H_cycles)
        losses.append(imitation_loss(output["cycle_controls"], optimal_controls)[1] * len(initial_state))
        final_state = model.system.predict(initial_state, output["controls"])[:, -1]
        errors.append((final_state - target_state).norm(dim=-1))
    errors = torch.cat(errors)
    return float(torch.stack(losses).sum()) / len(errors), float(errors.mean()), float((errors < 0.1).float().mean())
