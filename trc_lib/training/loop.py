"""The training loop."""

import contextlib
import math
import time

import torch
from torch import Tensor
from tqdm.auto import tqdm

from trc_lib import io, validation
from trc_lib.data import Store
from trc_lib.model import Learner
from trc_lib.teachers import Teacher
from trc_lib.training.batches import Batches, on_device
from trc_lib.training.compute import one_thread, precision_of
from trc_lib.training.config import TrainConfig, learning_rate
from trc_lib.training.objectives import objective_of
from trc_lib.training.ranks import joined
from trc_lib.training.state import History, Run, epochs_kept, load_state, recipe_of

LOOK_EVERY = 100  # steps, after which the loss is checked to be finite


def train(model: object, train_set: object, eval_set: object, config: object = TrainConfig(),
          folder: object = None, device: object = "auto", resume: object = True,
          progress: object = True, on_epoch: object = None) -> History:
    """Train ``model`` on ``train_set``; it ends with the weights of the lowest eval loss.

    With a ``folder``, each epoch writes there ``last.pt`` (all that a resume needs),
    ``best_model.pt``, ``history.csv`` and, if asked for, ``snapshots.pt``. A run that was stopped
    goes on after its last whole epoch and ends bit-equal to one that was not. With more epochs or
    patience in ``config`` than before, a run is extended, whether it was finished or not.

    Processes started by ``torchrun`` share the work: see `trc_lib.training.ranks`.

    Args:
        model: a `Learner`; trained in place, its scaling taken anew from ``train_set``.
        train_set: `LQRDataset`, or a `Store`, whose first shard determines the scaling.
        eval_set: `LQRDataset`.
        config: a `TrainConfig`.
        folder: nothing is written if None.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        resume: go on with the run in ``folder``; otherwise begin anew and write over it.
        progress: show a progress bar.
        on_epoch: called after each epoch with the `History` so far.

    Raises:
        OtherRecipe: a ValueError, if ``folder`` holds a run with another recipe.
        ValueError: if a set does not fit the model.
        FloatingPointError: if the loss is no longer finite; the model keeps its best weights.
        io.Busy: if another process is training in ``folder``.
        RankLost: a RuntimeError, if another of the processes that torchrun started died.
        KeyboardInterrupt: on Ctrl-C; all whole epochs are kept.
    """
    folder = None if folder is None else validation.path("folder", folder)
    device = validation.device(device)
    validation.switch("resume", resume)
    validation.switch("progress", progress)
    validation.instance("config", config, TrainConfig)
    if on_epoch is not None:
        validation.like("on_epoch", on_epoch, "a function", "__call__")
    validation.instance("model", model, Learner).check_dtype()
    sample = train_set.sample if isinstance(train_set, Store) else train_set
    model.check_fit(sample, "train_set")
    model.check_fit(eval_set, "eval_set")
    if config.part not in model.parts:
        raise ValueError(f"part={config.part!r} is not accepted for a {type(model).__name__}; "
                         f"it has {', '.join(map(repr, model.parts))}")
    with contextlib.ExitStack() as stack:
        ranks, device = stack.enter_context(joined(device))
        folder = folder if ranks.first else None
        if folder is not None:
            stack.enter_context(io.claimed(folder / ".lock", f"folder={str(folder)!r}"))
        recipe = recipe_of(model, train_set, eval_set, config)
        first_recipe = ranks.agreed(recipe)
        if recipe != first_recipe:
            changes = ", ".join(io.changes(first_recipe, recipe))
            raise ValueError(f"rank {ranks.rank} was given something else than rank 0 ({changes})")
        state = ranks.agreed(load_state(folder, recipe) if resume else None)

        model.set_scaling(sample)
        model.to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr,
                                      weight_decay=config.weight_decay, fused=True)
        run = Run(model, optimizer, recipe, config, folder)
        if state is None:
            run.begin()
        else:
            run.resume(state)
            run.recipe = recipe = state["recipe"]
        _run_epochs(run, train_set, eval_set, device, progress and ranks.first, on_epoch, ranks)
    model.load_state_dict(run.best_weights)
    model.recipe = recipe | {"best_epoch": run.history.best["epoch"]}
    return run.history


def _run_epochs(run, train_set, eval_set, device, progress, on_epoch, ranks):
    """The epochs of a run that are left."""
    model, config = run.model, run.config
    predict = torch.compile(model.predict) if config.compile else model.predict
    precision = precision_of(model, config, device)
    batches, eval_data = Batches(train_set, config.batch_size, device), on_device(eval_set, device)
    bar = tqdm(total=config.epochs * len(batches), initial=len(run.history) * len(batches),
               unit="step", desc="training", disable=not progress)
    threads = one_thread() if config.batch_size < 256 else contextlib.nullcontext()
    try:
        with bar, _only(model, config.part), threads:
            predict = ranks.shared(predict)
            while not run.finished:
                row = _epoch(run, predict, precision, batches, eval_data, train_set.teacher, bar,
                             ranks)
                run.add(row)
                bar.set_postfix(epoch=row["epoch"], train_loss=f"{row['train_loss']:.1e}",
                                eval_loss=f"{row['eval_loss']:.1e}")
                if on_epoch is not None and ranks.first:
                    on_epoch(run.history)
    except FloatingPointError:
        model.load_state_dict(run.best_weights)
        raise
    except KeyboardInterrupt:
        kept = "nothing was kept: no folder was given"
        if run.folder is not None:
            kept = (f"{epochs_kept(run.folder)} whole epochs are kept in {run.folder}; "
                    "run again to go on")
        elif not ranks.first:
            kept = "rank 0 reports what is kept"
        raise KeyboardInterrupt(f"training was stopped: {kept}") from None


def _epoch(run, predict, precision, batches, eval_data, teacher, bar, ranks):
    """One pass over the training set and a validation; returns the row for the history."""
    model, config, epoch = run.model, run.config, len(run.history) + 1
    units = model.units
    started, summed_loss = time.perf_counter(), torch.zeros((), device=batches.device)
    model.train()
    with precision():
        for i, (initial_state, target_state, optimal) in enumerate(batches.drawn(run.order)):
            step = (epoch - 1) * len(batches) + i
            lr = learning_rate(step, config.epochs * len(batches), config)
            for group in run.optimizer.param_groups:
                group["lr"] = lr
            depth = config.depth
            if config.most_cycles:
                depth = int(torch.randint(1, config.most_cycles + 1, (), generator=run.order))
            cycles = predict(initial_state, target_state, depth)["cycle_controls"]
            objective, loss = objective_of(cycles, initial_state, target_state, optimal, teacher,
                                           config, units)
            run.optimizer.zero_grad()
            objective.backward()  # through every cycle of the recursion
            ranks.add_gradients(model)
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            run.optimizer.step()
            # stays on the device, which the loop waits for only at each look
            summed_loss += loss.detach() * len(initial_state)
            bar.update()
            if (i + 1) % LOOK_EVERY == 0:
                _check_finite(float(summed_loss), epoch, config)
    row = None
    if ranks.first:
        eval_loss, final_error, success = validate(model, eval_data, teacher, config)
        row = {"epoch": epoch, "train_loss": float(summed_loss) / batches.num_samples,
               "eval_loss": eval_loss, "eval_final_error": final_error, "eval_success": success,
               "lr": lr, "seconds": round(time.perf_counter() - started, 3)}
    row = ranks.agreed(row)
    _check_finite(row["train_loss"] + row["eval_loss"], epoch, config)
    return row


def _check_finite(loss, epoch, config):
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is no longer finite in epoch {epoch}; "
                                 f"try a smaller lr than {config.lr}")


@torch.no_grad()
def validate(model: Learner, data: list[Tensor], teacher: Teacher, config: TrainConfig,
             batch_size: int = 4096) -> tuple[float, float, float]:
    """Eval loss, mean final error, and share of final errors below the teacher's ``success``.

    The eval loss is the same quantity as the train loss.
    """
    model.eval()
    reported = TrainConfig(objective="cost" if config.of_cost else "mse")
    losses, offsets = [], []
    for problems in zip(*(values.split(batch_size) for values in data)):
        initial_state, target_state, _ = problems
        output = model.predict(initial_state, target_state, config.depth)
        _, loss = objective_of(output["cycle_controls"], *problems, teacher, reported,
                               model.units)
        losses.append(loss * len(initial_state))
        states = model.system.rollout_unchecked(initial_state, output["controls"])
        offsets.append(states[:, -1] - target_state)
    offsets = torch.cat(offsets)
    return (float(torch.stack(losses).sum()) / len(offsets), float(offsets.norm(dim=-1).mean()),
            float(teacher.succeeded(offsets).double().mean()))


@contextlib.contextmanager
def _only(model, part):
    """Gradients for one of the ``model.parts`` alone; the rest keeps its weights."""
    trained = {each for module in model.parts[part] for each in module.parameters()}
    frozen = [each for each in model.parameters() if each not in trained]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
