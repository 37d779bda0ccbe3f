"""The runs of a study: tuned, repeated with several seeds, measured, and added up to a table."""

import ast
import contextlib
import dataclasses
import functools
import hashlib
import inspect
import json
import multiprocessing
import pathlib
import shutil
import statistics
import sys
import textwrap
import time
from concurrent.futures import ProcessPoolExecutor

import torch
from tqdm.auto import tqdm

from trc_lib import io, validation
from trc_lib.course.experiments.definitions import FIGURES, RECURSION, Study, Variant, multiply_adds
from trc_lib.course.experiments.front import measure_front
from trc_lib.course.places import root, shipped
from trc_lib.data import EVAL_SEED, LQRDataset
from trc_lib.evaluation import cycle_controls, final_error, measure
from trc_lib.model.baselines import LinearMap
from trc_lib.problems import PROBLEMS, named
from trc_lib.teachers.teacher import QuadraticCostTeacher
from trc_lib.training import objectives, train
from trc_lib.training.compute import one_thread

FIRST_RATES = (2e-3, 4e-3)        # learning rates that every variant tries, and one beyond
LOWEST, HIGHEST = 1e-4, 1.6e-2    # where the search beyond them ends
TUNING_SEEDS = (100, 101)         # of the runs that try learning rates, and report nothing
SEEDS = (0, 1, 2, 3, 4)           # of the runs in the table
TEST_SEED = 2 * EVAL_SEED         # of the test problems, which are used for nothing else
SLOW = 5.0                        # s: sets that take longer to make are kept
OF_A_RUN = {"parameters", "multiply_adds", "train_seconds", "before", "validation", "cycles",
            "cycle_improves", "failed"}  # what is kept of a run besides its figures
FAILED = 1e9                      # the figures of a run whose loss was no longer finite


def run_sweep(folder, study=RECURSION, seeds=SEEDS, workers=2):
    """Tune every variant of a `Study`, train it with every seed, and measure it on unseen problems.

    Each run leaves ``<variant>-<recipe>/lr-<lr>-seed-<seed>.json`` and ``.pt`` in ``folder``.
    Finished runs are kept; a variant that was changed since has another recipe, and is run anew. A
    run that another process is making is left to it.

    Args:
        seeds: of the runs in the table.
        workers: runs at a time, one core each.

    Returns:
        the table, as `load_results` reads it.

    Raises:
        ValueError: if a seed is given twice, or is one of the tuning.
    """
    folder, workers = pathlib.Path(folder), validation.whole("workers", workers)
    if set(TUNING_SEEDS) & set(seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={seeds} is not accepted; needs different ones, none of them in "
                         f"{TUNING_SEEDS}, which try learning rates")
    io.check_writable(folder)
    tunings = [Tuning(folder, study, variant) for variant in study.variants]

    def run_all(name, runs):
        _run_all(name, runs, workers)

    untried = [(tuning, lr) for tuning in tunings for lr in FIRST_RATES]
    while untried:
        run_all("tuning", [(*pair, seed) for pair in untried for seed in TUNING_SEEDS])
        following = [(tuning, next_rate(tuning.tried())) for tuning in tunings]
        untried = [(tuning, lr) for tuning, lr in following if lr is not None]
    run_all("seeds", [(tuning, tuning.chosen(), seed) for tuning in tunings for seed in seeds])
    rows = {"linear": _linear_row(study, seeds, folder)}
    rows |= {tuning.variant.name: tuning.row(seeds) for tuning in tunings}
    return {"figure": study.figure, "num_train": study.num_train, "num_test": study.num_test,
            "seeds": list(seeds), "tuning_seeds": list(TUNING_SEEDS),
            "torch": torch.__version__.split("+")[0], "variants": rows,
            "front": measure_front(study, {tuning.variant.name: tuning.networks(seeds)
                                           for tuning in tunings}, _sets(study, seeds, folder))}


def load_results(name="sweep"):
    """The table of the study of that name, data/results/<name>.json, which ``make sweep`` wrote."""
    return io.read_json(shipped(f"data/results/{name}.json"))


def ship(folder, study=RECURSION):
    """Copy the study's shipped networks, seed 0 of each, to data/pretrained/laboratory."""
    for variant in study.variants:
        if variant.name in study.shipped:
            tuning = Tuning(pathlib.Path(folder), study, variant)
            name = variant.name if study.name == RECURSION.name else f"{study.name}_{variant.name}"
            target = root() / "data" / "pretrained" / "laboratory" / f"{name}.pt"
            with io.written_whole(target) as temporary:
                shutil.copyfile(tuning.path(tuning.chosen(), 0).with_suffix(".pt"), temporary)


def recipe_of(study, variant):
    """All that defines a variant's runs, besides seed and learning rate, as plain values."""
    problem = _problem(study)
    model = variant.network(problem.teacher, 0)
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    trainings = [dataclasses.asdict(config) | {"lr": training.get("lr"), "seed": None}
                 for config, training in zip(variant.train_configs(1.0, 0), variant.trainings)]
    return io.plain({
        "teacher": problem.teacher.contents(), "figure": study.figure,
        "sampler": f"{problem.sampler.__module__}.{problem.sampler.__qualname__}",
        "ranges": [str(problem.state_range), str(problem.target_range)],
        "sets": [study.num_train, study.num_validation, study.num_test],
        "network": model.architecture, "initial_weights": io.fingerprint(weights),
        "trainings": [training | {"snapshot_epochs": []} for training in trainings],
        **({} if variant.lessons is None else {"lessons": variant.lessons.__qualname__})})


def _code(model):
    """The source of the network's classes, and of the functions beside them and of the losses.

    Without comments and docstrings.
    """
    kinds = {kind for module in model.modules() for kind in type(module).__mro__
             if not kind.__module__.startswith(("torch.", "builtins"))}
    modules = {sys.modules[kind.__module__] for kind in kinds} | {objectives}
    functions = {value for module in modules for value in vars(module).values()
                 if inspect.isfunction(value) and value.__module__ == module.__name__}
    sources = []
    for each in sorted(kinds | functions, key=lambda each: (each.__module__, each.__qualname__)):
        with contextlib.suppress(OSError):  # typed at a prompt
            tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
                    node.body = node.body[1:]
            sources.append(ast.dump(tree))
    return sources


@dataclasses.dataclass(frozen=True)
class Tuning:
    """The runs of one variant, and the learning rate that their validation figures choose.

    One seed is not enough to choose by: the highest rate that works may fail with the next seed.
    Therefore each rate meets all `TUNING_SEEDS`; their mean decides, and they report nothing.

    Attributes:
        folder: of the runs of all variants.
        study: the `Study`.
        variant: one of its variants.
    """

    folder: pathlib.Path
    study: Study
    variant: Variant

    @functools.cached_property
    def digest(self):
        """Ten characters that change with the recipe and with the code of the network."""
        model = self.variant.network(_problem(self.study).teacher, 0)
        whole = json.dumps([recipe_of(self.study, self.variant), _code(model)], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()[:10]

    def path(self, lr, seed):
        name = f"{self.variant.name}-{self.digest}"
        return self.folder / name / f"lr-{lr:g}-seed-{seed}.json"

    def read(self, lr, seed):
        path = self.path(lr, seed)
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist yet: another process is making it; "
                                    "give the command again when that has ended")
        return io.read_json(path)

    def tried(self):
        """The mean validation figure of every rate that was tried, ``{lr: figure}``."""
        return {lr: statistics.fmean(figures) for lr, figures in self.each_tried().items()}

    def each_tried(self):
        """Those of all tuning seeds, ``{lr: [figure, ...]}``, by rate."""
        paths = self.path(0, TUNING_SEEDS[0]).parent.glob(f"lr-*-seed-{TUNING_SEEDS[0]}.json")
        rates = {float(path.name.removeprefix("lr-").split("-seed-")[0]) for path in paths}
        return {lr: [self.read(lr, seed)["validation"] for seed in TUNING_SEEDS]
                for lr in sorted(rates.union(FIRST_RATES))}

    def chosen(self):
        return best_rate(self.tried())

    def networks(self, seeds):
        """The trained networks of the chosen rate, None for a seed that failed."""
        lr, kind = self.chosen(), type(self.variant.network(_problem(self.study).teacher, 0))
        paths = [self.path(lr, seed).with_suffix(".pt") for seed in seeds]
        return [kind.load(path) if path.exists() else None for path in paths]

    def row(self, seeds):
        """The row of the table: the tuning, each seed's figures, their mean and spread."""
        lr = self.chosen()
        return {"label": self.variant.label, "lr": lr,
                "recipe": recipe_of(self.study, self.variant),
                "tuning": {f"{rate:g}": figures for rate, figures in self.each_tried().items()},
                **_summary([self.read(lr, seed) for seed in seeds])}


def best_rate(figures):
    """The learning rate with the smallest figure, of ``{lr: figure}``."""
    return min(figures, key=figures.get)


def next_rate(tried):
    """The learning rate to try next: beyond the best, if that is outermost; else None."""
    best = best_rate(tried)
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
    missing = [run for run in runs if not run[0].path(*run[1:]).exists()]
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
    tuning, lr, seed = run
    path = tuning.path(lr, seed)
    with contextlib.suppress(io.Busy), io.claimed(path.with_suffix(".lock"), path):
        if not path.exists():
            with one_thread():
                model, figures = run_variant(tuning.variant, lr, seed, tuning.study,
                                             tuning.folder)
            if "failed" not in figures:
                model.save(path.with_suffix(".pt"))
            io.write_json(path, figures)  # last: it marks the run as finished


def run_variant(variant, lr, seed, study=RECURSION, folder=None):
    """Train one variant of a `Study`.

    Args:
        folder: where the problems are kept, for the next run; not kept if None.

    Returns:
        the network and its figures: the `Metrics` on the test problems and the figure that decides;
        ``"validation"``, that figure on the validation problems; ``"before"``, the figures after
        each earlier training; ``"cycles"``, the `Metrics` of every cycle, to twice the trained
        depth, and ``"cycle_improves"``, the share of problems that each of them brings nearer to
        the optimum. Seconds are of one core, all trainings together.
    """
    train_set, validation_set, test_set = _sets(study, [seed], folder)[0]
    model, seconds, stages = variant.network(test_set.teacher, seed), 0.0, []
    if variant.lessons is not None:
        train_set = variant.lessons(train_set)
    try:
        for config in variant.train_configs(lr, seed):
            started = time.process_time()  # not the clock's: other processes use the cores, too
            train(model, train_set, validation_set, config, progress=False)
            seconds += time.process_time() - started
            controls = cycle_controls(model, test_set, config.depth)[-1]
            stages.append({"train_seconds": round(seconds, 1),
                           **figures_of(study, test_set, controls)})
    except FloatingPointError as error:
        return model, {"failed": str(error), study.figure: FAILED, "validation": FAILED}
    model.eval()
    chosen_by = figures_of(study, validation_set, cycle_controls(model, validation_set)[-1])
    trained = getattr(model.config, "H_cycles", None)  # None for a network without cycles
    deep = cycle_controls(model, test_set, trained and 2 * trained)
    distances = torch.stack([_distance(study, test_set, controls) for controls in deep])
    return model, {
        "parameters": model.num_parameters, "multiply_adds": multiply_adds(model), **stages[-1],
        "validation": chosen_by[study.figure], "before": stages[:-1],
        "cycles": [figures_of(study, test_set, controls) for controls in deep],
        "cycle_improves": (distances[1:] < distances[:-1]).double().mean(dim=1).tolist()}


def figures_of(study, dataset, controls):
    """The `Metrics` of controls as a dict, with the figure that decides."""
    metrics = dataclasses.asdict(measure(dataset, controls))
    if study.judge is not None:
        judged = study.judge(dataset, controls)
        if taken := judged.keys() & (metrics.keys() | OF_A_RUN):
            raise ValueError(f"judge gives {', '.join(sorted(taken))}, which is the name of "
                             "something else that is kept of a run; choose another")
        metrics |= judged
    return metrics | {study.figure: FIGURES[study.figure](metrics)}


def _distance(study, dataset, controls):
    """What the deciding figure is the mean of, ``[n]``; for a share the mean squared error."""
    problems = dataset.initial_states, dataset.target_states
    if study.figure == "final_error":
        return final_error(dataset.system, *problems, controls)
    if study.figure == "cost_gap":
        return dataset.teacher.cost(*problems, controls)
    return (controls - dataset.controls).square().mean(dim=(1, 2))


def _problem(study):
    problem = named(study.problem, PROBLEMS, "a function that returns a Problem")()
    if study.figure == "cost_gap" and not isinstance(problem.teacher, QuadraticCostTeacher):
        raise ValueError(f"figure='cost_gap' is not accepted for problem={study.problem!r}: its "
                         "cost does not contain the target, and the least energy is that of doing "
                         "nothing; give 'control_mse' or 'final_error'")
    return problem


def _sets(study, seeds, folder=None):
    """The training, validation and test sets of each seed; refused if they share a problem."""
    problem, sets = _problem(study), []
    test_set = _set(problem, study.num_test, TEST_SEED, folder)
    for seed in seeds:
        sets.append((_set(problem, study.num_train, seed, folder),
                     _set(problem, study.num_validation, EVAL_SEED + seed, folder), test_set))
        _refuse_overlap(*sets[-1])
    return sets


def _set(problem, num_samples, seed, folder):
    """A dataset, read from ``folder`` if it is there; else made, and kept there if it took long."""
    made_of = [problem.teacher.contents(), str(problem.state_range), str(problem.target_range),
               problem.sampler.__qualname__, num_samples, seed]
    digest = hashlib.sha256(json.dumps(io.plain(made_of)).encode()).hexdigest()[:10]
    path = None if folder is None else pathlib.Path(folder) / "problems" / f"{digest}.npz"
    if path is not None and path.exists():
        return LQRDataset.load(path)
    started = time.perf_counter()
    made = problem.dataset(num_samples, seed)
    if path is not None and time.perf_counter() - started > SLOW:
        made.save(path)
    return made


def _refuse_overlap(*sets):
    """Raise if a problem is in two of the sets, or twice in one."""
    starts = torch.cat([each.initial_states for each in sets])
    if len(starts.unique(dim=0)) < len(starts):
        raise ValueError("a problem is in two of the training, validation and test sets")


def _linear_row(study, seeds, folder=None):
    """The least-squares map, clamped to the control limits: exact where the teacher is linear."""
    runs = []
    for train_set, _, test_set in _sets(study, seeds, folder):
        started = time.process_time()
        linear = LinearMap(train_set)
        seconds = round(time.process_time() - started, 4)
        controls = linear.solve(test_set.initial_states, test_set.target_states)
        runs.append({"parameters": linear.num_parameters, "multiply_adds": linear.num_parameters,
                     "train_seconds": seconds, **figures_of(study, test_set, controls)})
    return {"label": "linear map, least squares", **_summary(runs)}
