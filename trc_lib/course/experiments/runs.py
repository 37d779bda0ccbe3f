"""The runs of a study: tuned, repeated with several seeds, measured, and added up to a table."""

import contextlib
import dataclasses
import multiprocessing
import pathlib
import shutil
import statistics
import time
import timeit
from concurrent.futures import ProcessPoolExecutor

import torch
from tqdm.auto import tqdm

from trc_lib import io, validation
from trc_lib.course.experiments.definitions import RECURSION, Variant, multiply_adds
from trc_lib.course.places import root, shipped
from trc_lib.data import EVAL_SEED
from trc_lib.evaluation import cycle_controls, final_error, measure
from trc_lib.model.baselines import LinearMap
from trc_lib.problems import PROBLEMS, named
from trc_lib.training import train
from trc_lib.training.compute import one_thread

FIRST_RATES = (5e-4, 1e-3, 2e-3)  # learning rates that every variant tries
LOWEST, HIGHEST = 1e-4, 1e-2      # where the search beyond them ends
TUNING_SEED = 100                 # of the runs that try learning rates
SEEDS = (0, 1, 2, 3, 4)           # of the runs in the table
TEST_SEED = 2 * EVAL_SEED         # of the test problems, which are used for nothing else


def run_sweep(folder, study=RECURSION, seeds=SEEDS, workers=2):
    """Tune every variant of a `Study`, train it with every seed, and measure it on unseen problems.

    Each run leaves ``<variant>/lr-<lr>-seed-<seed>.json`` and ``.pt`` in ``folder``. Finished runs
    are kept; a run that another process is making is left to it.

    Args:
        seeds: of the runs in the table; the first ``study.run_off`` also decide the learning rate.
        workers: runs at a time, one core each.

    Returns:
        the table, as `load_results` reads it.

    Raises:
        ValueError: if a seed is given twice, or is that of the tuning.
    """
    folder, workers = pathlib.Path(folder), validation.whole("workers", workers)
    if TUNING_SEED in seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={seeds} is not accepted; needs different ones, none of them "
                         f"{TUNING_SEED}, which tries learning rates")
    io.check_writable(folder)
    tunings = [Tuning(folder, variant, tuple(seeds[:study.run_off])) for variant in study.variants]

    def run_all(name, runs):
        _run_all(name, [(study, *run) for run in runs], workers)

    untried = [(tuning, lr) for tuning in tunings for lr in FIRST_RATES]
    while untried:
        run_all("tuning", [(*pair, TUNING_SEED) for pair in untried])
        following = [(tuning, next_rate(tuning.tried())) for tuning in tunings]
        untried = [(tuning, lr) for tuning, lr in following if lr is not None]
    run_all("run-off", [(tuning, lr, seed) for tuning in tunings for lr in two_best(tuning.tried())
                        for seed in tuning.met])
    run_all("seeds", [(tuning, tuning.chosen(), seed) for tuning in tunings for seed in seeds])
    rows = {"linear": _linear_row(study, seeds)}
    rows |= {tuning.variant.name: tuning.row(seeds) for tuning in tunings}
    return {"num_train": study.num_train, "num_test": study.num_test, "seeds": list(seeds),
            "torch": torch.__version__.split("+")[0], "variants": rows}


def load_results(name="sweep"):
    """The table of the study of that name, data/results/<name>.json, which ``make sweep`` wrote."""
    return io.read_json(shipped(f"data/results/{name}.json"))


def ship(folder, study=RECURSION):
    """Copy the study's shipped networks, seed 0 of each, to data/pretrained/laboratory."""
    for variant in study.variants:
        if variant.name in study.shipped:
            tuning = Tuning(folder, variant, SEEDS[:study.run_off])
            name = variant.name if study == RECURSION else f"{study.name}_{variant.name}"
            target = root() / "data" / "pretrained" / "laboratory" / f"{name}.pt"
            with io.written_whole(target) as temporary:
                shutil.copyfile(tuning.path(tuning.chosen(), 0).with_suffix(".pt"), temporary)


@dataclasses.dataclass(frozen=True)
class Tuning:
    """The runs of one variant, and the learning rate that their validation errors choose.

    One seed is not enough to choose by: the highest rate that works may fail with the next seed.
    Therefore the two best rates are compared again, in a run-off over several seeds.

    Attributes:
        folder: of the runs of all variants.
        variant: the `Variant`.
        met: seeds of the run-off; if empty, the best rate is taken without one.
    """

    folder: pathlib.Path
    variant: Variant
    met: tuple

    def path(self, lr, seed):
        return self.folder / self.variant.name / f"lr-{lr:g}-seed-{seed}.json"

    def read(self, lr, seed):
        path = self.path(lr, seed)
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist yet: another process is making it; "
                                    "give the command again when that has ended")
        return io.read_json(path)

    def tried(self):
        """The validation error of every learning rate that was tried, ``{lr: error}``, by rate."""
        paths = self.path(0, TUNING_SEED).parent.glob(f"lr-*-seed-{TUNING_SEED}.json")
        rates = {float(path.name.removeprefix("lr-").split("-seed-")[0]) for path in paths}
        return {lr: self.read(lr, TUNING_SEED)["validation_error"]
                for lr in sorted(rates.union(FIRST_RATES))}

    def run_off(self):
        """The mean validation error of the two best rates over the run-off's seeds, or nothing."""
        return {lr: statistics.fmean(self.read(lr, seed)["validation_error"] for seed in self.met)
                for lr in two_best(self.tried()) if self.met}

    def chosen(self):
        return two_best(self.run_off() or self.tried())[0]

    def row(self, seeds):
        """The row of the table: the tuning, each seed's figures, their mean and spread."""
        lr, named = self.chosen(), lambda errors: {f"{rate:g}": e for rate, e in errors.items()}
        return {"label": self.variant.label, "lr": lr, "tuning": named(self.tried()),
                "run_off": named(self.run_off()), **_summary([self.read(lr, s) for s in seeds])}


def two_best(errors):
    """The two learning rates with the smallest errors, the best first, of ``{lr: error}``."""
    return sorted(errors, key=errors.get)[:2]


def next_rate(tried):
    """The learning rate to try next: beyond the best, if that is outermost; else None."""
    best = two_best(tried)[0]
    following = {max(tried): 2 * best, min(tried): best / 2}.get(best)
    return following if following is not None and LOWEST <= following <= HIGHEST else None


def _summary(runs):
    """The runs, how many failed, and the mean and standard deviation of every plain number."""
    whole = [run for run in runs if "failed" not in run]
    numbers = {name: [run[name] for run in whole] for name, value in (whole or [{}])[0].items()
               if isinstance(value, int | float)}
    return {"runs": runs, "failed": len(runs) - len(whole),
            "mean": {name: statistics.fmean(values) for name, values in numbers.items()},
            "spread": {name: statistics.stdev(values) if len(whole) > 1 else 0.0
                       for name, values in numbers.items()}}


def _run_all(name, runs, workers):
    """Make the runs that are missing: in this process, or by several others."""
    missing = [run for run in runs if not run[1].path(*run[2:]).exists()]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        done = (map if workers == 1 else pool.map)(_run_once, missing)
        try:
            for _ in tqdm(done, name, len(runs), initial=len(runs) - len(missing), disable=None):
                pass
        except BaseException:  # the executor would wait for the runs in progress
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _run_once(run):
    study, tuning, lr, seed = run
    path = tuning.path(lr, seed)
    with contextlib.suppress(io.Busy), io.claimed(path.with_suffix(".lock"), path):
        if not path.exists():
            with one_thread():
                model, figures = run_variant(tuning.variant, lr, seed, study)
            if "failed" not in figures:
                model.save(path.with_suffix(".pt"))
            io.write_json(path, figures)  # last: it marks the run as finished


def run_variant(variant, lr, seed, study=RECURSION):
    """Train one variant of a `Study`.

    Returns:
        the network and its figures. ``"before"`` holds the figures after each earlier training;
        seconds are of one core, all trainings together.
    """
    problem = named(study.problem, PROBLEMS, "a function that returns a Problem")()
    train_set = problem.dataset(study.num_train, seed)
    validation_set = problem.dataset(study.num_validation, EVAL_SEED + seed)
    test_set = problem.dataset(study.num_test, TEST_SEED)
    _refuse_overlap(train_set, validation_set, test_set)
    model, seconds, stages = variant.make(problem.teacher, seed), 0.0, []
    try:
        for config in variant.train_configs(lr, seed):
            started = time.process_time()  # not the clock's: other processes use the cores, too
            history = train(model, train_set, validation_set, config, progress=False)
            seconds += time.process_time() - started
            cycles = cycle_controls(model, test_set, 0 if config.part == "proposal" else None)
            stages.append({"train_seconds": round(seconds, 1),
                           **dataclasses.asdict(measure(test_set, cycles[-1]))})
    except FloatingPointError as error:
        return model, {"failed": str(error), "validation_error": 1e9}
    model.eval()
    problems = test_set.initial_states, test_set.target_states
    errors = torch.stack([final_error(test_set.system, *problems, each) for each in cycles])
    deep = cycle_controls(model, test_set, None if variant.mlp else 2 * model.config.H_cycles)
    costs = torch.stack([test_set.teacher.cost(*problems, each) for each in deep])
    optimal_cost = test_set.teacher.cost(*problems, test_set.controls).sum()
    return model, {
        "parameters": model.num_parameters, "multiply_adds": multiply_adds(model), **stages[-1],
        "solve_one_ms": round(_milliseconds(model), 3),
        "validation_error": history.best["eval_final_error"], "before": stages[:-1],
        "cycle_errors": errors.mean(dim=1).tolist(),
        "cycle_improves": (errors[1:] < errors[:-1]).double().mean(dim=1).tolist(),
        "cycle_cost_ratios": (costs.sum(dim=1) / optimal_cost).tolist(),  # twice as deep as trained
        "cycle_cheapens": (costs[1:] < costs[:-1]).double().mean(dim=1).tolist()}


def _refuse_overlap(*sets):
    """Raise if a problem is in two of the sets, or twice in one."""
    starts = torch.cat([each.initial_states for each in sets])
    if len(starts.unique(dim=0)) < len(starts):
        raise ValueError("a problem is in two of the training, validation and test sets")


def _milliseconds(model):
    """The median time to solve one problem, on one thread."""
    x0, xT = torch.zeros(1, model.config.state_dim), torch.ones(1, model.config.state_dim)
    with torch.no_grad():
        seconds = timeit.repeat(lambda: model.predict(x0, xT), number=1, repeat=50)
    return 1e3 * statistics.median(seconds)


def _linear_row(study, seeds):
    """The least-squares map, clamped to the control limits: exact where the teacher is linear."""
    problem = named(study.problem, PROBLEMS, "a function that returns a Problem")()
    test_set, runs = problem.dataset(study.num_test, TEST_SEED), []
    for seed in seeds:
        train_set = problem.dataset(study.num_train, seed)
        _refuse_overlap(train_set, test_set)
        started = time.process_time()
        linear = LinearMap(train_set)
        seconds = round(time.process_time() - started, 4)
        controls = linear.solve(test_set.initial_states, test_set.target_states)
        runs.append({"parameters": linear.num_parameters, "multiply_adds": linear.num_parameters,
                     "train_seconds": seconds, **dataclasses.asdict(measure(test_set, controls))})
    return {"label": "linear map, least squares", **_summary(runs)}
