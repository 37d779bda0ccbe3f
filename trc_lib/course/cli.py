"""The commands of ``python -m trc_lib``.

Exit codes: 0 all went well, 1 the command failed (the last line says why), 2 it was not understood.
"""

import argparse
import dataclasses
import inspect
import json
import re
import sys
from pathlib import Path

import trc_lib
from trc_lib import io, validation
from trc_lib.course import experiments
from trc_lib.course.batch.engines import Local, Slurm
from trc_lib.course.batch.job import NotebookFailed
from trc_lib.course.batch.runner import run_course
from trc_lib.course.experiments import SEEDS, STUDIES, run_sweep, ship
from trc_lib.course.experiments.runs import TUNING_SEEDS
from trc_lib.course.lab import open_lab
from trc_lib.course.places import root
from trc_lib.course.presets import PRESETS
from trc_lib.data import EVAL_SEED, LQRDataset
from trc_lib.data.dataset import EVAL_FILE, TRAIN_FILE, missing_dataset
from trc_lib.data.shards import LARGEST_FILE, MANIFEST, Store
from trc_lib.evaluation import evaluate
from trc_lib.model import (
    CostGradient,
    FinalError,
    NoFeedback,
    Proportional,
    TinyRecursiveControl,
)
from trc_lib.problems import PROBLEMS, Problem, named
from trc_lib.teachers.teacher import QuadraticCostTeacher
from trc_lib.training import OtherRecipe, TrainConfig, train
from trc_lib.training.config import OBJECTIVES
from trc_lib.training.ranks import this_rank

DEFAULT_PROBLEM = "double_integrator"
STORE, BEST_MODEL = "lqr_dataset", "best_model.pt"  # a folder of shards, a checkpoint
FORMATS = {"onnx": ".onnx", "web": ".trcw"}  # of an exported network, and how its file is called


def generate(options):
    """Sample problems, solve them exactly, and store a training and an eval set.

    A large training set becomes a folder of shards.
    """
    given = {name: getattr(options, name) for name in ("horizon", "dt", "state_range")}
    problem = _problem(options, **{name: value for name, value in given.items()
                                   if value is not None})
    size = validation.whole("num_samples", options.num_samples)
    num_eval = validation.whole("num_eval", options.num_eval, at_most=LARGEST_FILE)
    seed = validation.whole("seed", options.seed, 0, at_most=2**63 - 1 - EVAL_SEED)
    file, eval_file, folder = (options.out / name for name in (TRAIN_FILE, EVAL_FILE, STORE))
    large = size > LARGEST_FILE
    if not large and (folder / MANIFEST).exists():
        raise ValueError(f"{folder} holds a training set of more than {LARGEST_FILE:,} problems; "
                         "give another --out, or remove it")
    if large:  # first, since it refuses a disk that is too small; its progress bar announces it
        train_set = problem.store(folder, size, seed)
    io.check_writable(options.out)
    print(f"Generating {num_eval} optimal trajectories for the eval set, "
          f"seed {seed + EVAL_SEED}...")
    eval_set = problem.dataset(num_eval, seed + EVAL_SEED)
    if not large:
        print(f"Generating {size} optimal trajectories, seed {seed}...")
        train_set = problem.dataset(size, seed)
    sample = train_set.sample if large else train_set
    print(f"  - Initial states: {(size, *sample.initial_states.shape[1:])}")
    print(f"  - Target states: {(size, *sample.target_states.shape[1:])}")
    print(f"  - Control sequences: {(size, *sample.controls.shape[1:])}")
    of = f" of the first {len(sample):,}" if large else ""
    units = {label.partition("(")[2] for label in sample.system.control_labels}
    unit = f" ({units.pop()}²" if len(units) == 1 and "" not in units else ""
    print(f"  - Average energy{of}: {sample.mean_energy:.4f}{unit}")
    if train_set.drawn > size:
        print(f"  - Without an answer, and drawn anew: {train_set.drawn - size:,} of "
              f"{train_set.drawn:,} problems, {1 - size / train_set.drawn:.1%}")
    if large:
        file.unlink(missing_ok=True)  # or `train` would read it in place of the shards
    else:
        train_set.save(file)          # only now that both sets are made: a pair belongs together
    eval_set.save(eval_file)
    print(f"Datasets saved to {folder if large else file} and {eval_file}")


def _problem(options, **given):
    """The `Problem` of ``--problem``; its module defines classes that files name."""
    make = named(options.problem, PROBLEMS, "a function that returns a Problem")
    unknown = given.keys() - inspect.signature(make).parameters.keys()
    if unknown:
        raise ValueError(f"--{min(unknown).replace('_', '-')} is not accepted for --problem "
                         f"{options.problem}, which has no {min(unknown)}")
    problem = make(**given)
    if not isinstance(problem, Problem):
        raise TypeError(f"--problem {options.problem} gave {problem!r}; needs a Problem")
    return problem


def _load(options, path):
    """The dataset in ``path``, which must be of the ``--problem`` if one is given."""
    if not path.exists():
        raise FileNotFoundError(missing_dataset(path, options.problem or DEFAULT_PROBLEM))
    problem = _problem(options) if options.problem else None
    dataset = Store(path) if (path / MANIFEST).exists() else LQRDataset.load(path)
    if problem is not None:
        asked, found = (" for ".join(part.contents()["class"].rpartition(":")[2]
                                      for part in (teacher, teacher.system))
                        for teacher in (problem.teacher, dataset.teacher))
        if asked != found:
            raise ValueError(f"--problem {options.problem} is {asked}, but {path} was made by "
                             f"{found}: give other data, or the problem that these are of")
    return dataset


def _network(options, device="cpu"):
    """The network in ``--checkpoint``."""
    if options.problem:
        _problem(options)
    path = options.checkpoint
    if path.name == BEST_MODEL and not path.exists():
        words = ["-m", "trc_lib", "train", "--problem", options.problem or DEFAULT_PROBLEM,
                 "--out", str(path.parent)]
        if "data" in options:
            words += ["--data", str(options.data.parent)]
        raise FileNotFoundError(f"{path} does not exist; make it with: "
                                f"{io.command('python', *words)}")
    return TinyRecursiveControl.load(path, device)


def _feedback(options, teacher):
    """What each cycle of a new network is told."""
    if options.feedback == "none":
        return NoFeedback()
    if options.feedback == "final-error":
        told = FinalError(teacher.system)
    else:
        if not isinstance(teacher, QuadraticCostTeacher):
            raise ValueError("--feedback cost-gradient needs data of a teacher with a quadratic "
                             f"cost; these are of a {type(teacher).__name__}")
        told = CostGradient(teacher.system, teacher.quadratic_cost, teacher.horizon)
    return Proportional(told) if options.proportional else told


def train_command(options):
    """Train a network to imitate a dataset; the same command goes on with a stopped run."""
    if options.proportional and options.feedback == "none":
        raise ValueError("--proportional needs feedback: without a signal there is no size to be "
                         "proportional to")
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    config = TrainConfig(**{name: value for name, value in vars(options).items() if name in names})
    validation.device(options.device)
    file, folder = options.data / TRAIN_FILE, options.data / STORE
    in_shards = (folder / MANIFEST).exists() and not file.exists()
    train_set = _load(options, folder if in_shards else file)
    eval_set = _load(options, options.data / EVAL_FILE)
    teacher = train_set.teacher
    model = TinyRecursiveControl.create_two_level(
        options.network, teacher.system, options.seed, _feedback(options, teacher),
        horizon=teacher.horizon, H_cycles=options.H_cycles, L_cycles=options.L_cycles)
    try:
        history = train(model, train_set, eval_set, config, options.out, device=options.device,
                        resume=not options.fresh)
    except OtherRecipe as error:
        raise OtherRecipe(f"--out {options.out} holds a run with another recipe: {error.changes}; "
                          "give another --out, or --fresh to write over it") from None
    if this_rank():  # the others print nothing
        return
    print(f"{model.num_parameters:,} parameters, {len(train_set):,} problems")
    for row in history.rows:
        print(f"Epoch {row['epoch']}/{config.epochs}: Train Loss = {row['train_loss']:.6f}, "
              f"Eval Loss = {row['eval_loss']:.6f}, Final Error = {row['eval_final_error']:.4f}")
    if len(history) < config.epochs:
        print(f"Early stopping at epoch {len(history)}")
    best = history.best
    print(f"Training complete! Best eval loss: {best['eval_loss']:.6f} (epoch {best['epoch']})")
    print(f"Best model saved to {options.out / BEST_MODEL}")


def evaluate_command(options):
    """Measure a checkpoint on an eval set, cycle by cycle."""
    model = _network(options, options.device)
    dataset, checkpoint = _load(options, options.data), str(options.checkpoint)
    cycles = [dataclasses.asdict(metrics) for metrics in evaluate(model, dataset)]
    if options.json:
        result = {"checkpoint": checkpoint, "num_problems": len(dataset), "cycles": cycles}
        print(json.dumps(result, indent=2))
        return
    print(f"{checkpoint} on {len(dataset):,} problems; cycle 0 is the first proposal")
    print(f"{'':22s}" + "".join(f"{f'cycle {k}':>12s}" for k in range(len(cycles))))
    for name in (name for name, value in cycles[0].items() if value is not None):
        print(f"{name:22s}" + "".join(f"{metrics[name]:12.4g}" for metrics in cycles))


def export_command(options):
    """Write a checkpoint for runtimes without PyTorch: ONNX, which is checked, or web pages."""
    model = _network(options)
    out = options.out or Path("data/training") / f"model{FORMATS[options.format]}"
    if options.format == "web":
        from trc_lib.web import export_web

        if options.H_cycles is not None:
            raise ValueError("--H-cycles is for --format onnx; a web page runs as many as it likes")
        print(f"Exported to {out}, {export_web(model, out) / 1e6:.2f} MB")
        return
    from trc_lib.export import export_onnx  # here, since ONNX is an optional dependency

    difference = export_onnx(model, out, options.H_cycles)
    size = out.stat().st_size / 1e6
    print(f"Exported to {out}, {size:.2f} MB; controls equal within {difference:.0e}")


def course(options):
    """Run all notebooks in order, or a grid of them, here or on a cluster.

    What is finished is reused.
    """
    validation.whole("seed", options.seed, at_least=0)
    given = [name for name in ("partition", "gpus", "cpus", "time")
             if getattr(options, name) is not None]
    if options.cluster == "local" and given:
        raise ValueError(f"--{given[0]} is for --cluster slurm")
    if options.cluster == "local":
        if options.lane == "gpu" and validation.device("auto").type == "cpu":
            print("PyTorch sees no CUDA device here: the gpu lane takes hours on the CPU")
        engine = Local(1 if options.workers is None else options.workers)
    elif options.workers is not None:
        raise ValueError("--workers is for --cluster local; Slurm runs as many jobs at a time as "
                         "it has room for")
    elif options.out is None:
        raise ValueError("--cluster slurm needs --out, a folder that all nodes share")
    else:
        engine = Slurm(options.out.resolve() / "slurm",
                       **{name: getattr(options, name) for name in given})
    run_course(options.lane, options.seed, options.out, options.only, options.set, options.sweep,
               engine, options.force, options.keep_going)


def sweep(options):
    """Train every variant of a study with several seeds; finished runs are kept.

    It takes up to an hour. Without --only it replaces data/results/<study>.json and the study's
    networks in data/pretrained/laboratory.
    """
    study = named(options.study, STUDIES, "a Study")
    validation.whole("seeds", options.seeds, at_most=min(TUNING_SEEDS))
    out = Path("data") / study.name if options.out is None else options.out
    names = [variant.name for variant in study.variants]
    unknown = [name for name in options.only if name not in names]
    if unknown:
        raise ValueError(f"--only {' '.join(unknown)} is unknown; the study {study.name} has "
                         f"{', '.join(names)}{validation.did_you_mean(unknown[0], names)}")
    chosen = [variant for variant in study.variants if variant.name in (options.only or names)]
    table = run_sweep(out, dataclasses.replace(study, variants=tuple(chosen)),
                      range(options.seeds), options.workers)
    if not options.only:
        io.write_json(root() / "data" / "results" / f"{study.name}.json", table)
        ship(out, study)
    print(experiments.table(table))


def lab(options):
    """Open the course in JupyterLab, in copies of your own that it keeps up to date."""
    open_lab(options.folder, options.port, options.ip, options.browser)


class Parser(argparse.ArgumentParser):
    """Says in two lines what was not understood, what is accepted, and where to read on."""

    def error(self, message):
        message = re.sub(r"invalid (int|float) value:", lambda found: "needs a whole number, not"
                         if found[1] == "int" else "needs a number, not", message)
        self.exit(2, f"error: {message}\nsee {self.prog} --help\n")

    def parse_known_args(self, args=None, namespace=None):
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            near = validation.did_you_mean(unknown[0].split("=")[0], self._option_string_actions)
            self.error(f"{unknown[0]} is not understood{near}")
        return options, unknown

    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(
                action, f"{value!r} is unknown; accepted are {', '.join(action.choices)}"
                + validation.did_you_mean(value, action.choices))


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the default of an option, unless it is None, False or an empty list."""

    def _get_help_string(self, action):
        hidden = action.default in (None, []) or action.default is False
        return action.help if hidden else super()._get_help_string(action)


def parser():
    """The parser of the command line."""
    top = Parser(
        prog="python -m trc_lib",
        description="Tiny Recursive Control: data, training, evaluation, and the course.",
        epilog="To begin: generate, then train --epochs 10 --cycle-weight 0.1, then evaluate.")
    top.add_argument("--version", action="version", version=f"trc_lib {trc_lib.__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name, run):
        made = commands.add_parser(name, help=run.__doc__.splitlines()[0], description=run.__doc__,
                                   formatter_class=HelpFormatter)
        made.set_defaults(run=run)
        return made.add_argument

    def add_problem(add, default=None, use="which the data must be of; needed for one of your own"):
        add("--problem", default=default,
            help=f"{', '.join(PROBLEMS)}, or mymodule:make_problem of your own: {use}")

    add = command("generate", generate)
    add("--num-samples", type=int, default=10_000, help="training problems; more than "
        f"{LARGEST_FILE:_} become a folder of shards, and a stopped run goes on")
    add("--num-eval", type=int, default=2_000, help="unseen problems, from another seed")
    add("--seed", type=int, default=0, help="of the training problems")
    add_problem(add, DEFAULT_PROBLEM, "what is sampled and solved")
    add("--horizon", type=int, help="control steps; the problem's own if not given")
    add("--dt", type=float, help="seconds per step; likewise")
    add("--state-range", type=float, help="starts are uniform in plus or minus this; likewise")
    add("--out", type=Path, default=Path("data"),
        help="folder for both sets; sets that are there are replaced")

    add = command("train", train_command)
    add_problem(add)
    add("--data", type=Path, default=Path("data"), help="folder that `generate` wrote to")
    add("--out", type=Path, default=Path("data/training"), help="folder for the checkpoints")
    add("--network", choices=("small", "medium"), default="medium",
        help="about 150K or 600K parameters")
    add("--H-cycles", type=int, default=3, help="outer cycles")
    add("--L-cycles", type=int, default=4, help="inner steps per cycle")
    add("--feedback", choices=("final-error", "cost-gradient", "none"), default="final-error",
        help="what each cycle is told: where the last controls end, or the slope of their cost")
    add("--proportional", action="store_true",
        help="multiply each correction by the size of what the cycle is told (chapter 7)")
    add("--objective", choices=OBJECTIVES, default="mse",
        help="how the errors of the cycles make one number, see TrainConfig")
    add("--device", default="auto", help="auto, cpu, cuda, ...")
    add("--fresh", action="store_true", help="start again, over what --out holds")
    for name, text in {
            "epochs": "most passes over the data", "batch_size": "problems per step",
            "lr": "highest learning rate", "weight_decay": "of AdamW",
            "patience": "epochs without improvement before stopping early",
            "cycle_weight": "weight of the earlier cycles' errors",
            "final_weight": "weight of the final state's error beside that of the controls",
            "most_cycles": "each batch runs 1 to this many cycles; 0: always H_cycles",
            "seed": "of the weights and the order of the samples"}.items():
        default = getattr(TrainConfig(), name)
        add(f"--{name.replace('_', '-')}", type=type(default), default=default, help=text)
    add("--mixed-precision", action="store_true", help="bfloat16 inside the block (for GPUs)")
    add("--compile", action="store_true", help="use torch.compile (takes a minute or two first)")

    add = command("evaluate", evaluate_command)
    add_problem(add)
    add("--checkpoint", type=Path, default=Path("data/training/best_model.pt"),
        help="what `train` saved")
    add("--data", type=Path, default=Path("data/lqr_dataset_eval.npz"), help="the eval set")
    add("--device", default="auto", help="auto, cpu, cuda, ...")
    add("--json", action="store_true", help="print JSON")

    add = command("export", export_command)
    add_problem(add)
    add("--checkpoint", type=Path, default=Path("data/training/best_model.pt"),
        help="what `train` saved")
    add("--format", choices=tuple(FORMATS), default="onnx", help="onnx: for ONNX Runtime; web: for "
        "the JavaScript modules in trc_lib/web")
    add("--out", type=Path, help="the file to write; data/training/model.onnx or .trcw if not "
        "given")
    add("--H-cycles", type=int, help="onnx: cycles to run; those of the checkpoint if not given")

    add = command("course", course)
    add("--lane", choices=tuple(PRESETS), default="cpu", help="how much of it to run: smoke to see "
        "that all works, cpu for a laptop, gpu for a node")
    add("--seed", type=int, default=0, help="of everything that is drawn")
    add("--out", type=Path, help="folder for the runs; runs/<lane> if not given, and needed with "
        "--set, --sweep and slurm")
    add("--only", nargs="+", default=[], metavar="NN", help="these chapters alone, such as 04 05")
    add("--set", nargs="+", action="extend", default=[], metavar="NN.NAME=VALUE",
        help="parameters of chapters, such as 04.epochs=20")
    add("--sweep", nargs="+", action="extend", default=[], metavar="NN.NAME=VALUES",
        help="a grid of runs, such as 04.seed=0..4 04.cycle_weight=0,0.1,1; unless --only is "
        "given, of the chapters that are swept and of those that build on them")
    add("--force", action="store_true", help="run again what is finished")
    add("--keep-going", action="store_true", help="after a failure, run what does not build on it")
    add("--cluster", choices=("local", "slurm"), default="local", help="where the runs go: "
        "processes here, or a Slurm job array; the command waits for them")
    add("--workers", type=int, help="local: runs at a time; 1 if not given")
    add("--partition", help="slurm: the cluster's default if not given")
    add("--gpus", type=int, help="slurm: of each run; 1 if not given, 0 for none")
    add("--cpus", type=int, help="slurm: cores of each run; the cluster's default if not given, "
        "often one")
    add("--time", help="slurm: limit of each run, h:mm:ss, d-h:mm:ss or minutes; 2:00:00 if not "
        "given")

    add = command("sweep", sweep)
    add("--study", default="sweep", help="sweep: chapters 6 and 7; bounded: chapter 8; "
        "van_der_pol: chapter 9; or mymodule:study, a Study of your own")
    add("--out", type=Path, help="folder for the runs; data/<study> if not given")
    add("--only", nargs="+", default=[], metavar="VARIANT", help="these variants alone")
    add("--seeds", type=int, default=len(SEEDS), help="how many seeds")
    add("--workers", type=int, default=2, help="runs at a time, one core each")

    add = command("lab", lab)
    add("--folder", type=Path, help="folder of the copies; my_course if not given")
    add("--port", type=int, default=8888, help="the first one to try")
    add("--ip", default="127.0.0.1", help="address to listen on; 0.0.0.0 for a container's port")
    add("--browser", action=argparse.BooleanOptionalAction, default=True, help="open a browser")

    commands.add_parser("doctor", help="Check that all that the course needs is here.")
    return top


def run(words):
    """Run one command; returns the exit code."""
    if not words:
        parser().print_help(sys.stderr)
        return 2
    options = parser().parse_args(words)
    who = "" if this_rank() is None else f"rank {this_rank()}: "
    try:
        options.run(options)
        return 0
    except KeyboardInterrupt as error:
        print(f"{who}interrupted{f': {error}' if str(error) else ''}", file=sys.stderr)
    except NotebookFailed as error:
        print(f"{who}error: {error}", file=sys.stderr)
    except (ValueError, TypeError, OSError, ArithmeticError, RuntimeError, MemoryError,
            ModuleNotFoundError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        reason = re.sub(r"^\[(Errno|WinError) \d+\] ", "", reason)
        print(f"{who}error: {_as_typed(reason, options)}", file=sys.stderr)
    return 1


def _as_typed(reason, options):
    """A message about an argument, such as ``"num_eval=0 ..."``, with the option's own name."""
    name, _, rest = reason.partition("=")
    return f"--{name.replace('_', '-')} {rest}" if name in options else reason
