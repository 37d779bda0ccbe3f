"""The batch run over all variants: resumable, one file a run, and safe to start several times at once."""

import contextlib
import dataclasses
import multiprocessing
import pathlib
import statistics
import time

import torch
from tqdm.auto import tqdm

from trc_lib import io, validation
from trc_lib.course.experiments.definitions import RECURSION, multiply_adds
from trc_lib.course.workspace import root
from trc_lib.data import EVAL_SEED
from trc_lib.evaluation import cycle_controls, final_error, measure
from trc_lib.model.baselines import LinearMap
from trc_lib.problems import PROBLEMS
from trc_lib.training import train
from trc_lib.training.compute import one_thread

FIRST_RATES = (5e-4, 1e-3, 2e-3)     # every variant tries these learning rates, then goes on while the outermost is the best
LOWEST, HIGHEST = 1e-4, 1e-2         # but not beyond these
TUNING_SEED = 100                    # with this seed;
SEEDS = (0, 1, 2, 3, 4)              # then the one that is chosen meets all of these
TEST_SEED = 2 * EVAL_SEED            # no run, neither tuning nor early stopping, ever looks at these problems


def run_sweep(folder, study=RECURSION, seeds=SEEDS, workers=2, progress=True):
    """Tune every variant of a `Study`, train it with every seed, measure it on unseen problems; write the table.

    Each run leaves ``<variant>/lr-<lr>-seed-<seed>.json`` and ``.pt`` in ``folder``. A run that is there is not made again;
    one that another process is at is left to it.

    Returns:
        the table, as `load_results` reads it.
    """
    folder, workers, variants = pathlib.Path(folder), validation.whole("workers", workers), study.variants
    io.check_writable(folder)
    untried = [(variant, lr) for variant in variants for lr in FIRST_RATES]
    while untried:
        _run_all(folder, study, [(*pair, TUNING_SEED) for pair in untried], workers, progress, "tuning")
        untried = [(variant, lr) for variant in variants for lr in [_next_rate(_tried(folder, variant))] if lr is not None]
    finalists = [(variant, lr) for variant in variants for lr in _two_best(_tried(folder, variant))]
    run_off = [(*pair, seed) for seed in seeds[:study.run_off] for pair in finalists]
    _run_all(folder, study, run_off, workers, progress, "run-off")
    chosen = [(variant, _chosen(folder, variant, seeds[:study.run_off])) for variant in variants]
    _run_all(folder, study, [(*pair, seed) for seed in seeds for pair in chosen], workers, progress, "seeds")
    return collect(folder, study, seeds)


def collect(folder, study=RECURSION, seeds=SEEDS):
    """The table of the runs in ``folder``: per variant the tuning, each seed's figures, their mean and spread."""
    table = {"num_train": study.num_train, "num_test": study.num_test, "seeds": list(seeds),
             "torch": torch.__version__.split("+")[0], "variants": {"linear": _linear_row(study, seeds)}}
    met = seeds[:study.run_off]
    for variant in study.variants:
        tried = _tried(folder, variant)
        lr = _chosen(folder, variant, met)
        runs = [_read(folder, variant, lr, seed) for seed in seeds]
        table["variants"][variant.name] = {"label": variant.label, "lr": lr,
                                       "tuning": {f"{rate:g}": error for rate, error in tried.items()},
                                       "run_off": {f"{rate:g}": error for rate, error in _run_off(folder, variant, met).items()},
                                       "runs": runs, **_summary(runs)}
    return table


def load_results(name="sweep"):
    """The table of the study of that name, data/results/<name>.json, which ``make sweep`` wrote."""
    return io.read_json(root() / "data" / "results" / f"{name}.json")


def ship(folder, study=RECURSION):
    """Copy the networks that a chapter takes apart, seed 0 of each, to data/pretrained/laboratory."""
    for variant in study.variants:
        if variant.name in study.shipped:
            source = _path(folder, variant, _chosen(folder, variant, SEEDS[:study.run_off]), 0).with_suffix(".pt")
            name = variant.name if study == RECURSION else f"{study.name}_{variant.name}"
            with io.written_whole(root() / "data" / "pretrained" / "laboratory" / f"{name}.pt") as temporary:
                temporary.write_bytes(source.read_bytes())


def _summary(runs):
    """Mean and standard deviation over the seeds of every figure that is a plain number; runs that failed are counted."""
    whole = [run for run in runs if "failed" not in run]
    numbers = [name for name, value in whole[0].items() if isinstance(value, int | float)] if whole else []
    return {"failed": len(runs) - len(whole),
            "mean": {name: statistics.fmean(run[name] for run in whole) for name in numbers},
            "spread": {name: statistics.stdev(run[name] for run in whole) if len(whole) > 1 else 0.0 for name in numbers}}


def _run_all(folder, study, runs, workers, progress, name):
    waiting = [run for run in runs if not _path(folder, *run).exists()]
    with tqdm(total=len(runs), initial=len(runs) - len(waiting), unit="run", desc=name, disable=not progress) as bar:
        if workers == 1:
            for run in waiting:
                _run_once((folder, study, *run))
                bar.update()
        else:
            with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=20) as pool:
                for _ in pool.imap_unordered(_run_once, [(folder, study, *run) for run in waiting]):
                    bar.update()


def _run_once(arguments):
    folder, study, variant, lr, seed = arguments
    path = _path(folder, variant, lr, seed)
    with contextlib.suppress(io.Busy), io.claimed(path.with_suffix(".lock"), path):  # another's run is left to it
        if not path.exists():
            with one_thread():
                model, figures = run_variant(variant, lr, seed, study)
            if "failed" not in figures:
                model.save(path.with_suffix(".pt"))
            io.write_json(path, figures)  # last: where it is, the run is whole


def run_variant(variant, lr, seed, study=RECURSION):
    """Train one variant of a `Study` once; returns the network and its figures.

    Seconds are of one core's time, all trainings together; under ``"before"`` stand the figures after each earlier training.
    """
    problem = PROBLEMS[study.problem]()
    train_set = problem.dataset(study.num_train, seed)
    validation_set = problem.dataset(study.num_validation, EVAL_SEED + seed)
    test_set = problem.dataset(study.num_test, TEST_SEED)
    model, seconds, stages = variant.make(problem.teacher, seed), 0.0, []
    try:
        for config in variant.train_configs(lr, seed):
            started = time.process_time()  # of one core: what else the machine does shall not count
            history = train(model, train_set, validation_set, config, progress=False)
            seconds += time.process_time() - started
            cycles = cycle_controls(model, test_set, 0 if config.part == "proposal" else None)
            stages.append({"train_seconds": round(seconds, 1), **dataclasses.asdict(measure(test_set, cycles[-1]))})
    except FloatingPointError as error:
        return model, {"failed": str(error), "validation_error": 1e9}
    model.eval()
    problems = test_set.initial_states, test_set.target_states
    errors = torch.stack([final_error(test_set.system, *problems, controls) for controls in cycles])
    deep = cycle_controls(model, test_set, 2 * model.config.H_cycles) if len(cycles) > 1 else cycles
    costs = torch.stack([test_set.teacher.cost(*problems, controls) for controls in deep])
    optimal_cost = test_set.teacher.cost(*problems, test_set.controls)
    return model, {
        "parameters": model.num_parameters, "multiply_adds": multiply_adds(model), **stages[-1],
        "solve_one_ms": round(_milliseconds(model), 3), "validation_error": history.best["eval_final_error"],
        "before": stages[:-1],
        "cycle_errors": errors.mean(dim=1).tolist(),
        "cycle_improves": (errors[1:] < errors[:-1]).double().mean(dim=1).tolist(),
        "cycle_cost_ratios": (costs.sum(dim=1) / optimal_cost.sum()).tolist(),               # to twice the trained depth
        "cycle_cheapens": (costs[1:] < costs[:-1]).double().mean(dim=1).tolist()}


def _milliseconds(model, times=50):
    """Median time of one problem, on one thread."""
    x0, xT, taken = torch.zeros(1, model.config.state_dim), torch.ones(1, model.config.state_dim), []
    with torch.no_grad():
        for _ in range(times):
            started = time.perf_counter()
            model.predict(x0, xT)
            taken.append(time.perf_counter() - started)
    return 1e3 * statistics.median(taken)


def _linear_row(study, seeds):
    """The least-squares map, cut to the limits of the controls: exact where the teacher is linear."""
    problem = PROBLEMS[study.problem]()
    test_set, runs = problem.dataset(study.num_test, TEST_SEED), []
    for seed in seeds:
        train_set = problem.dataset(study.num_train, seed)
        started = time.process_time()
        linear = LinearMap(train_set)
        seconds = time.process_time() - started
        controls = linear.solve(test_set.initial_states, test_set.target_states)
        runs.append({"parameters": linear.num_parameters, "multiply_adds": linear.num_parameters,
                     "train_seconds": round(seconds, 4), **dataclasses.asdict(measure(test_set, controls))})
    return {"label": "linear map, least squares", "runs": runs, **_summary(runs)}


def _tried(folder, variant):
    """The validation error of every learning rate that was tried in tuning, ``{lr: error}``, in rising order."""
    rates = set(FIRST_RATES) | {float(path.name.split("-seed-")[0].removeprefix("lr-"))
                                for path in (folder / variant.name).glob(f"*-seed-{TUNING_SEED}.json")}
    return {lr: _read(folder, variant, lr, TUNING_SEED)["validation_error"] for lr in sorted(rates)}


def _best(tried):
    """The learning rate with the smallest validation error."""
    return min(tried, key=tried.get)


def _two_best(tried):
    """The two learning rates with the smallest validation errors.

    One seed is not enough to choose by: the highest rate that goes well once may go wrong with the next seed.
    """
    return sorted(tried, key=tried.get)[:2]


def _chosen(folder, variant, met):
    """The learning rate that wins the run-off; without one, the best of the tuning."""
    return _best(_run_off(folder, variant, met) if met else _tried(folder, variant))


def _run_off(folder, variant, met):
    """The mean validation error of the two best learning rates over the seeds that they met, ``{lr: error}``."""
    if not met:
        return {}
    return {lr: statistics.fmean(_read(folder, variant, lr, seed)["validation_error"] for seed in met)
            for lr in _two_best(_tried(folder, variant))}


def _next_rate(tried):
    """The learning rate to try next: beyond the outermost, if that is the best so far; None if the best lies inside."""
    best, lowest, highest = _best(tried), min(tried), max(tried)
    following = {highest: 2 * highest, lowest: lowest / 2}.get(best)
    return following if following is not None and LOWEST <= following <= HIGHEST else None


def _read(folder, variant, lr, seed):
    path = _path(folder, variant, lr, seed)
    try:
        return io.read_json(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist yet; if another process is at it, run again when it is done") from None


def _path(folder, variant, lr, seed):
    return folder / variant.name / f"lr-{lr:g}-seed-{seed}.json"
