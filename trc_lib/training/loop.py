"""The training loop."""

import contextlib
import math
import time
from collections.abc import Callable

import torch
from tqdm.auto import tqdm

from trc_lib import io, validation
from trc_lib.data import Store
from trc_lib.model import Learner
from trc_lib.training.batches import Batches, on_device
from trc_lib.training.compute import one_thread, precision_of
from trc_lib.training.config import TrainConfig, cost_loss, imitation_loss, learning_rate
from trc_lib.training.ranks import joined
from trc_lib.training.state import History, Run, epochs_kept, load_state, recipe_of


def train(model: object, train_set: object, eval_set: object, config: object = TrainConfig(),
          folder: object = None, device: object = "auto", resume: object = True,
          progress: object = True, on_epoch: Callable | None = None) -> History:
    """Train ``model`` to imitate ``train_set``; it ends with the weights of the lowest eval loss.

    With a ``folder``, each epoch writes there: ``last.pt`` (all that a resume needs),
    ``best_model.pt``, ``history.csv`` and, if asked for, ``snapshots.pt``. A run that was stopped
    continues after its last whole epoch, and ends bit-equal to one that was not.

    Where ``torchrun`` started several processes, they share the work: see `trc_lib.training.ranks`.

    Args:
        model: a `Learner`; trained in place, and scaled to ``train_set`` first.
        train_set: an `LQRDataset`, or a `Store`, whose first shard sets the scaling.
        eval_set: an `LQRDataset`.
        config: a `TrainConfig`.
        folder: nothing is written if None.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        resume: continue what ``folder`` holds; otherwise start anew and overwrite it.
        progress: show a progress bar.
        on_epoch: called after each epoch with the `History` so far.

    Raises:
        OtherRecipe: a ValueError, if ``folder`` holds a run with another recipe.
        ValueError: if a set does not fit the model.
        FloatingPointError: if the loss is no longer finite.
        io.Busy: if another process is training in ``folder``.
        RankLost: a RuntimeError, if another process of torchrun died.
        KeyboardInterrupt: on Ctrl-C; all whole epochs have been kept.
    """
    folder = None if folder is None else validation.path("folder", folder)
    device = validation.device(device)
    validation.switch("resume", resume)
    validation.switch("progress", progress)
    validation.instance("config", config, TrainConfig)
    if on_epoch is not None:
        validation.like("on_epoch", on_epoch, "a function", "__call__")
    validation.instance("model", model, Learner)
    model.check_fit(_sample(train_set), "train_set")
    model.check_fit(eval_set, "eval_set")
    if config.part not in model.parts:
        raise ValueError(f"part={config.part!r} is not accepted for a {type(model).__name__}; "
                         f"it has {', '.join(map(repr, model.parts))}")
    with joined(device) as (ranks, device):
        folder = folder if ranks.first else None
        with contextlib.nullcontext() if folder is None else io.claimed(
                folder / ".lock", f"folder={str(folder)!r}"):
            return _train(model, train_set, eval_set, config, folder, device, resume, progress,
                          on_epoch, ranks)


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
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr,
                                  weight_decay=config.weight_decay, fused=True)
    run = Run(model, optimizer, recipe, config, folder)
    if state is None:
        run.begin()
    else:
        run.take_up(state)

    predict = torch.compile(model.predict) if config.compile else model.predict
    precision = precision_of(model, config, device)
    batches = Batches(train_set, config.batch_size, device)
    eval_data = on_device(eval_set, device)
    bar = tqdm(total=config.epochs * len(batches), initial=len(run.history) * len(batches),
               unit="step", desc="training", disable=not (progress and ranks.first))
    threads = one_thread() if config.batch_size < 256 else contextlib.nullcontext()
    try:
        with bar, _only(model, config.part), threads:
            predict = ranks.shared(model, predict)
            while not run.finished:
                row = _epoch(run, predict, precision, batches, eval_data, train_set.teacher, bar,
                             ranks)
                run.add(row)
                bar.set_postfix(epoch=row["epoch"], train_loss=f"{row['train_loss']:.1e}",
                                eval_loss=f"{row['eval_loss']:.1e}")
                if on_epoch is not None and ranks.first:
                    on_epoch(run.history)
    except KeyboardInterrupt:
        kept = "nothing was kept: no folder was given" if ranks.first else "see rank 0"
        if folder is not None:
            kept = f"{epochs_kept(folder)} whole epochs are kept in {folder}; run again to go on"
        raise KeyboardInterrupt(f"training was stopped: {kept}") from None
    model.load_state_dict(run.best_weights)
    model.recipe = recipe | {"best_epoch": run.history.best["epoch"]}
    return run.history


def _epoch(run, predict, precision, batches, eval_data, teacher, bar, ranks):
    """One pass over the training set and one validation; returns the row for the history."""
    model, config, epoch = run.model, run.config, len(run.history) + 1
    started, summed_loss = time.perf_counter(), torch.zeros((), device=batches.device)
    model.train()
    with precision:
        for i, (initial_state, target_state, optimal) in enumerate(batches.drawn(run.order)):
            step = (epoch - 1) * len(batches) + i
            lr = learning_rate(step, config.epochs * len(batches), config)
            for group in run.optimizer.param_groups:
                group["lr"] = lr
            depth = _depth(config)
            if config.most_cycles:
                depth = int(torch.randint(1, config.most_cycles + 1, (), generator=run.order))
            cycles = predict(initial_state, target_state, depth)["cycle_controls"]
            objective, loss = _objective(cycles, initial_state, target_state, optimal, teacher,
                                         config)
            run.optimizer.zero_grad()
            objective.backward()                               # through every cycle
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            run.optimizer.step()
            summed_loss += loss.detach() * len(initial_state)  # stays on the device
            bar.update()
    row = None
    if ranks.first:
        eval_loss, final_error, success = validate(model, eval_data, teacher, config)
        row = {"epoch": epoch, "train_loss": float(summed_loss) / batches.num_samples,
               "eval_loss": eval_loss, "eval_final_error": final_error, "eval_success": success,
               "lr": lr, "seconds": round(time.perf_counter() - started, 3)}
    row = ranks.agreed(row)
    if not math.isfinite(row["train_loss"] + row["eval_loss"]):
        raise FloatingPointError(f"the loss is no longer finite in epoch {epoch}; "
                                 f"try a smaller lr than {config.lr}")
    return row


def _objective(cycles, initial_state, target_state, optimal_controls, teacher, config):
    """What is minimised and what is reported, of controls ``[H_cycles + 1, batch, N, m]``."""
    starts, targets = (x.expand(len(cycles), -1, -1) for x in (initial_state, target_state))
    if config.of_cost:
        limit = teacher.system.control_limit
        if limit is not None:
            # Saturated controls get no gradient: optimiser noise would pull them off the limit.
            cycles = torch.where(cycles.abs() < limit.to(cycles), cycles, cycles.detach())
        optimal = teacher.cost(initial_state, target_state, optimal_controls)
        return cost_loss(teacher.cost(starts, targets, cycles), optimal, config.cycle_weight,
                         root=config.objective == "root cost")
    final_errors = None
    if config.final_weight:
        final_states = teacher.system.rollout_unchecked(starts, cycles)[:, :, -1]
        final_errors = final_states - target_state
    return imitation_loss(cycles, optimal_controls, config.cycle_weight, config.objective,
                          final_errors, config.final_weight)


@torch.no_grad()
def validate(model, data, teacher, config, batch_size=4096):
    """Eval loss (the same quantity as the train loss), mean final error and success rate."""
    model.eval()
    reported = TrainConfig(objective="cost" if config.of_cost else "mse")
    losses, errors = [], []
    for initial_state, target_state, optimal in zip(*(x.split(batch_size) for x in data)):
        output = model.predict(initial_state, target_state, _depth(config))
        _, loss = _objective(output["cycle_controls"], initial_state, target_state, optimal,
                             teacher, reported)
        losses.append(loss * len(initial_state))
        states = model.system.rollout_unchecked(initial_state, output["controls"])
        errors.append((states[:, -1] - target_state).norm(dim=-1))
    errors = torch.cat(errors)
    return (float(torch.stack(losses).sum()) / len(errors), float(errors.mean()),
            float((errors < teacher.success).double().mean()))


def _depth(config):
    """How many cycles are run; None for the network's own number."""
    return 0 if config.part == "proposal" else None


@contextlib.contextmanager
def _only(model, part):
    """Gradients for one of the ``model.parts`` alone; the other weights stay fixed."""
    trained = {weight for module in model.parts[part] for weight in module.parameters()}
    fixed = [weight for weight in model.parameters() if weight not in trained]
    for weight in fixed:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in fixed:
            weight.requires_grad_(True)


def _sample(train_set):
    """A dataset that represents the training set: itself, or the first shard of a `Store`."""
    return train_set.sample if isinstance(train_set, Store) else train_set
