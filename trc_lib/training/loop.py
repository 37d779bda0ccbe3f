"""The training loop."""

import contextlib
import math
import time

import torch
from tqdm.auto import tqdm

from trc_lib import io, validation
from trc_lib.data.shards import Store
from trc_lib.training.batches import Batches, on_device
from trc_lib.training.compute import one_thread, precision_of
from trc_lib.training.config import TrainConfig, cost_loss, imitation_loss, learning_rate
from trc_lib.training.ranks import joined
from trc_lib.training.state import Run, epochs_kept, load_state, recipe_of


def train(model, train_set, eval_set, config=TrainConfig(), folder=None, device="auto", resume=True, progress=True,
          on_epoch=None):
    """Teach ``model`` to imitate ``train_set``; it ends with the weights that had the lowest eval loss.

    With a ``folder``, each epoch leaves there: ``last.pt`` (all that a resume needs), ``best_model.pt``,
    ``history.csv`` and, when asked for, ``snapshots.pt``. A run that was stopped, at whatever moment, goes on
    after its last whole epoch and ends bit-equal to one that was not.

    Where ``torchrun`` started several processes, they share the work: see `trc_lib.training.ranks`.

    Args:
        model: a `TinyRecursiveControl`; trained in place, its scaling taken from ``train_set`` (and that of a cost's slopes from
            its own proposals), anew in every training.
        train_set: `LQRDataset`, or a `Store`, of which the scaling sees the first shard alone.
        eval_set: `LQRDataset`.
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
        io.Busy: if another process is training in ``folder``.
        RankLost: a RuntimeError, if another of the processes that torchrun started died.
        KeyboardInterrupt: on Ctrl-C, when all whole epochs have been kept.
    """
    folder = None if folder is None else validation.path("folder", folder)
    device, resume, progress = validation.device(device), validation.switch("resume", resume), validation.switch("progress", progress)
    validation.like("config", config, "a TrainConfig", "epochs", "batch_size", "part")
    if on_epoch is not None:
        validation.like("on_epoch", on_epoch, "a function", "__call__")
    validation.like("model", model, "a Learner", "check_fit", "parts")
    model.check_fit(_sample(train_set), "train_set")
    model.check_fit(eval_set, "eval_set")
    if config.part not in model.parts:
        parts = ", ".join(map(repr, model.parts))
        raise ValueError(f"part={config.part!r} is not accepted for a {type(model).__name__}; it has {parts}")
    with joined(device) as (ranks, device):
        folder = folder if ranks.first else None
        with contextlib.nullcontext() if folder is None else io.claimed(folder / ".lock", f"folder={str(folder)!r}"):
            return _train(model, train_set, eval_set, config, folder, device, resume, progress, on_epoch, ranks)


def _train(model, train_set, eval_set, config, folder, device, resume, progress, on_epoch, ranks):
    """`train` without its checks, in a folder that no other process writes to."""
    recipe = recipe_of(model, train_set, eval_set, config)
    first_recipe = ranks.agreed(recipe)
    if recipe != first_recipe:
        changes = ", ".join(io.changes(first_recipe, recipe))
        raise ValueError(f"rank {ranks.rank} was given something else than rank 0 ({changes})")
    state = ranks.agreed(load_state(folder, recipe) if resume else None)

    model.set_scaling(_sample(train_set))
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    run = Run(model, optimizer, recipe, config, folder)
    if state is None:
        run.begin()
    else:
        run.take_up(state)

    predict = torch.compile(model.predict) if config.compile else model.predict
    precision = precision_of(model, config, device)
    batches, eval_data = Batches(train_set, config.batch_size, device), on_device(eval_set, device)
    bar = tqdm(total=config.epochs * len(batches), initial=len(run.history) * len(batches), unit="step", desc="training",
               disable=not (progress and ranks.first))
    try:
        with bar, _only(model, config.part), one_thread() if config.batch_size < 256 else contextlib.nullcontext():
            predict = ranks.shared(model, predict)
            while not run.finished:
                row = _epoch(run, predict, precision, batches, eval_data, train_set.teacher, bar, ranks)
                run.add(row)
                bar.set_postfix(epoch=row["epoch"], train_loss=f"{row['train_loss']:.1e}", eval_loss=f"{row['eval_loss']:.1e}")
                if on_epoch is not None and ranks.first:
                    on_epoch(run.history)
    except KeyboardInterrupt:
        kept = "nothing was kept: no folder was given" if ranks.first else "the first rank tells what is kept"
        if folder is not None:
            kept = f"{epochs_kept(folder)} whole epochs are kept in {folder}; run again to go on"
        raise KeyboardInterrupt(f"training was stopped: {kept}") from None
    model.load_state_dict(run.best_weights)
    model.recipe = recipe | {"best_epoch": run.history.best["epoch"]}
    return run.history


def _epoch(run, predict, precision, batches, eval_data, teacher, bar, ranks):
    """One pass over the training set, then a look at the eval set; returns the row for the history."""
    model, config, epoch, started = run.model, run.config, len(run.history) + 1, time.perf_counter()
    summed_loss = torch.zeros((), device=batches.device)
    model.train()
    with precision:
        for i, (initial_state, target_state, optimal_controls) in enumerate(batches.drawn(run.order)):
            lr = learning_rate((epoch - 1) * len(batches) + i, config.epochs * len(batches), config)
            for group in run.optimizer.param_groups:
                group["lr"] = lr
            depth = _depth(config)
            if config.most_cycles:
                depth = int(torch.randint(1, config.most_cycles + 1, (), generator=run.order))
            output = predict(initial_state, target_state, depth)
            objective, loss = _objective(output["cycle_controls"], initial_state, target_state, optimal_controls, teacher, config)
            run.optimizer.zero_grad()
            objective.backward()                           # through every cycle of the recursion
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            run.optimizer.step()
            summed_loss += loss.detach() * len(initial_state)  # stays on the device: no waiting in the loop
            bar.update()
    row = None
    if ranks.first:
        eval_loss, final_error, success = validate(model, eval_data, teacher, config)
        row = {"epoch": epoch, "train_loss": float(summed_loss) / batches.num_samples, "eval_loss": eval_loss,
               "eval_final_error": final_error, "eval_success": success, "lr": lr,
               "seconds": round(time.perf_counter() - started, 3)}
    row = ranks.agreed(row)
    if not math.isfinite(row["train_loss"] + row["eval_loss"]):
        raise FloatingPointError(f"the loss is no longer finite in epoch {epoch}; try a smaller lr than {config.lr}")
    return row


def _objective(cycles, initial_state, target_state, optimal_controls, teacher, config):
    """What is descended, and what is reported, of the controls of all cycles ``[H_cycles + 1, batch, horizon, control_dim]``."""
    starts, targets = (states.expand(len(cycles), -1, -1) for states in (initial_state, target_state))
    if config.of_cost:
        limit = teacher.system.control_limit
        if limit is not None:  # cutting has no slope; pulled inwards by noise alone, full thrust would be lost step by step
            cycles = torch.where(cycles.abs() < limit.to(cycles), cycles, cycles.detach())
        optimal = teacher.cost(initial_state, target_state, optimal_controls)
        return cost_loss(teacher.cost(starts, targets, cycles), optimal, config.cycle_weight,
                         root=config.objective == "root cost")
    final_errors = None
    if config.final_weight:
        final_errors = teacher.system.rollout_unchecked(starts, cycles)[:, :, -1] - target_state
    return imitation_loss(cycles, optimal_controls, config.cycle_weight, config.objective, final_errors, config.final_weight)


@torch.no_grad()
def validate(model, data, teacher, config, batch_size=4096):
    """Eval loss (the same quantity as the train loss), mean final error, share of errors below the teacher's ``success``."""
    model.eval()
    reported = TrainConfig(objective="cost" if config.of_cost else "mse")  # whatever else is descended
    losses, errors = [], []
    for initial_state, target_state, optimal_controls in zip(*(values.split(batch_size) for values in data)):
        output = model.predict(initial_state, target_state, _depth(config))
        problems = initial_state, target_state, optimal_controls
        losses.append(_objective(output["cycle_controls"], *problems, teacher, reported)[1] * len(initial_state))
        final_state = model.system.rollout_unchecked(initial_state, output["controls"])[:, -1]
        errors.append((final_state - target_state).norm(dim=-1))
    errors = torch.cat(errors)
    return float(torch.stack(losses).sum()) / len(errors), float(errors.mean()), float((errors < teacher.success).double().mean())


def _depth(config):
    """How many cycles are run: None for those of the network."""
    return 0 if config.part == "proposal" else None


@contextlib.contextmanager
def _only(model, part):
    """Gradients for one of the ``model.parts`` alone; all else keeps its weights."""
    trained = {parameter for module in model.parts[part] for parameter in module.parameters()}
    still = [parameter for parameter in model.parameters() if parameter not in trained]
    for parameter in still:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in still:
            parameter.requires_grad_(True)


def _sample(train_set):
    """An `LQRDataset` that stands for the training set: itself, or the first shard of a `Store`."""
    return train_set.sample if isinstance(train_set, Store) else train_set
