"""The commands of ``python -m trc_lib``; ``--help`` tells what each takes.

Exit codes: 0 all went well, 1 the run failed (the reason is the last line), 2 wrong words.
"""

import argparse
import dataclasses
import json
import pathlib
import sys

from trc_lib import io
from trc_lib.course.batch.engines import Local, Slurm
from trc_lib.course.batch.job import NotebookFailed
from trc_lib.course.batch.runner import run_course
from trc_lib.course.experiments import SEEDS, STUDIES, run_sweep, ship
from trc_lib.course.presets import PRESETS
from trc_lib.course.workspace import root
from trc_lib.data import EVAL_SEED, LQRDataset
from trc_lib.data.shards import LARGEST_FILE, Store
from trc_lib.evaluation import evaluate
from trc_lib.model import FinalError, NoFeedback, Proportional, TinyRecursiveControl
from trc_lib.problems import PROBLEMS
from trc_lib.training import OtherRecipe, TrainConfig, train
from trc_lib.training.config import OBJECTIVES
from trc_lib.training.ranks import this_rank


def generate(options):
    """Sample problems, solve them exactly, and store a training and an eval set; the training set in shards where it is large."""
    words = {name: getattr(options, name) for name in ("horizon", "dt", "state_range") if getattr(options, name) is not None}
    problem, seed = PROBLEMS[options.problem](**words), options.seed
    file, eval_file, folder = (options.out / name for name in ("lqr_dataset.npz", "lqr_dataset_eval.npz", "lqr_dataset"))
    large = options.num_samples > LARGEST_FILE
    if not large and folder.exists():
        raise ValueError(f"{folder} holds a training set of more than {LARGEST_FILE:,} problems; give another --out, "
                         "or remove it")
    print(f"Generating {options.num_eval} optimal trajectories for the eval set, seed {seed + EVAL_SEED}...")
    eval_set = problem.dataset(options.num_eval, seed + EVAL_SEED)
    print(f"Generating {options.num_samples} optimal trajectories, seed {seed}...")
    train_set = problem.store(folder, options.num_samples, seed) if large else problem.dataset(options.num_samples, seed)
    sample = train_set.sample if large else train_set
    print(f"  - Initial states: {(len(train_set), *sample.initial_states.shape[1:])}")
    print(f"  - Target states: {(len(train_set), *sample.target_states.shape[1:])}")
    print(f"  - Control sequences: {(len(train_set), *sample.controls.shape[1:])}")
    print(f"  - Average energy{f' of the first {len(sample):,}' if large else ''}: {sample.mean_energy:.4f} (m/s^2)^2")
    if large:
        file.unlink(missing_ok=True)  # `train` would take it for the newer one
    else:
        train_set.save(file)          # only when both are there: a pair is not half replaced
    eval_set.save(eval_file)
    print(f"Datasets saved to {folder if large else file} and {eval_file}")


def train_command(options):
    """Train a network to imitate a dataset; a stopped run goes on when the same command is given again."""
    file, folder = options.data / "lqr_dataset.npz", options.data / "lqr_dataset"
    train_set = Store(folder) if folder.exists() and not file.exists() else LQRDataset.load(file)
    teacher = train_set.teacher
    eval_set = LQRDataset.load(options.data / "lqr_dataset_eval.npz")
    feedback = FinalError(teacher.system) if options.feedback else NoFeedback()
    if options.proportional and not options.feedback:
        raise ValueError("--proportional needs feedback: without a signal there is no size to be proportional to")
    model = TinyRecursiveControl.create_two_level(
        options.network, teacher.system, options.seed, Proportional(feedback) if options.proportional else feedback,
        state_dim=teacher.system.state_dim, control_dim=teacher.system.control_dim, horizon=teacher.horizon,
        H_cycles=options.H_cycles, L_cycles=options.L_cycles)
    config = TrainConfig(**{field.name: getattr(options, field.name) for field in dataclasses.fields(TrainConfig)
                            if hasattr(options, field.name)})
    if not this_rank():
        print(f"{model.num_parameters:,} parameters, {len(train_set):,} problems")
    try:
        history = train(model, train_set, eval_set, config, options.out, device=options.device, resume=not options.fresh)
    except OtherRecipe as error:
        raise OtherRecipe(f"--out {options.out} holds a run with another recipe: {error.changes}; "
                          "give another --out, or --fresh to write over it") from None
    if this_rank():
        return  # the first rank tells
    for row in history.rows:
        print(f"Epoch {row['epoch']}/{config.epochs}: Train Loss = {row['train_loss']:.6f}, Eval Loss = {row['eval_loss']:.6f}, "
              f"Final Error = {row['eval_final_error']:.4f}")
    if len(history) < config.epochs:
        print(f"Early stopping at epoch {len(history)}")
    print(f"Training complete! Best eval loss: {history.best['eval_loss']:.6f} (epoch {history.best['epoch']})")
    print(f"Best model saved to {options.out / 'best_model.pt'}")


def evaluate_command(options):
    """Measure a checkpoint on an eval set, cycle by cycle."""
    model = TinyRecursiveControl.load(options.checkpoint, options.device)
    dataset = LQRDataset.load(options.data)
    cycles = [dataclasses.asdict(metrics) for metrics in evaluate(model, dataset)]
    if options.json:
        print(json.dumps({"checkpoint": str(options.checkpoint), "num_problems": len(dataset), "cycles": cycles}, indent=2))
        return
    print(f"{options.checkpoint} on {len(dataset):,} problems; cycle 0 is the first proposal")
    print(f"{'':22s}" + "".join(f"{f'cycle {k}':>12s}" for k in range(len(cycles))))
    for name in (name for name, value in cycles[0].items() if value is not None):
        print(f"{name:22s}" + "".join(f"{metrics[name]:12.4g}" for metrics in cycles))


def export_command(options):
    """Write a checkpoint as an ONNX file, and check that ONNX Runtime gives the same controls."""
    from trc_lib.export import export_onnx  # here, since nothing else needs ONNX

    difference = export_onnx(TinyRecursiveControl.load(options.checkpoint), options.out, options.H_cycles)
    print(f"Exported to {options.out}, {options.out.stat().st_size / 1e6:.2f} MB; controls equal within {difference:.0e} m/s^2")


def course(options):
    """Run all notebooks in order, or a grid of them, here or on a cluster; what is finished already is reused."""
    if options.cluster == "slurm":
        if options.workers is not None:
            raise ValueError("--workers is for --cluster local; Slurm runs as many jobs at a time as it has room for")
        if options.out is None:
            raise ValueError("--cluster slurm needs --out, a folder that all nodes of the cluster share")
        engine = Slurm(options.out.resolve() / "slurm", options.partition, options.gpus, options.time, options.cpus)
    else:
        engine = Local(1 if options.workers is None else options.workers)
    run_course(options.lane, options.seed, options.out, options.only, options.set, options.sweep, engine, options.force,
               options.keep_going)


def sweep(options):
    """Train every variant of a study with several seeds; runs that are there are kept.

    It takes hours. All variants together replace data/results/<study>.json and the study's networks in data/pretrained/laboratory.
    """
    study = STUDIES[options.study]
    out = pathlib.Path("data") / study.name if options.out is None else options.out
    names = [variant.name for variant in study.variants]
    unknown = [name for name in options.only or () if name not in names]
    if unknown:
        raise ValueError(f"--only {' '.join(unknown)} is unknown; the study {study.name} has {', '.join(names)}")
    chosen = tuple(variant for variant in study.variants if not options.only or variant.name in options.only)
    table = run_sweep(out, dataclasses.replace(study, variants=chosen), range(options.seeds), options.workers)
    if not options.only:
        io.write_json(root() / "data" / "results" / f"{study.name}.json", table)
        ship(out, study)
    print(f"{'':48s}{'mean error':>12s}{'spread':>10s}{'largest':>10s}{'success':>9s}{'seconds':>9s}")
    for row in table["variants"].values():
        mean, spread = row["mean"], row["spread"]
        figures = "   every run failed" if not mean else (
            f"{mean['final_error_mean']:12.2g}{spread['final_error_mean']:10.1g}{mean['final_error_max']:10.2g}"
            f"{mean['success_rate']:9.2%}{mean['train_seconds']:9.1f}")
        print(f"{row['label']:48s}{figures}")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the default of an option, but for None, an empty list and False, which its words tell."""

    def _get_help_string(self, action):
        return action.help if action.default in (None, []) or action.default is False else super()._get_help_string(action)


def parser():
    """The words that the command line takes."""
    top = argparse.ArgumentParser(prog="python -m trc_lib",
                                  description="Tiny Recursive Control: data, training, evaluation, and the course.",
                                  epilog="A first session: generate, then train --epochs 10 --cycle-weight 0.1, then evaluate.")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name, run, **words):
        made = commands.add_parser(name, help=run.__doc__.splitlines()[0], description=run.__doc__, **words,
                                   formatter_class=HelpFormatter)
        made.set_defaults(run=run)
        return made

    made = command("generate", generate)
    made.add_argument("--num-samples", type=int, default=10_000,
                      help=f"training problems; more than {LARGEST_FILE:_} become a folder of shards, and a stopped run goes on")
    made.add_argument("--num-eval", type=int, default=2_000, help="unseen problems, from another seed")
    made.add_argument("--seed", type=int, default=0, help="of the training problems")
    made.add_argument("--problem", choices=tuple(PROBLEMS), default="double_integrator", help="what is to be solved")
    made.add_argument("--horizon", type=int, help="control steps; the problem's own if not given")
    made.add_argument("--dt", type=float, help="seconds a step; likewise")
    made.add_argument("--state-range", type=float, help="starts are uniform in plus or minus this; likewise")
    made.add_argument("--out", type=pathlib.Path, default=pathlib.Path("data"),
                      help="folder for both sets; what it holds of them is replaced")

    made = command("train", train_command)
    made.add_argument("--data", type=pathlib.Path, default=pathlib.Path("data"), help="folder that `generate` wrote to")
    made.add_argument("--out", type=pathlib.Path, default=pathlib.Path("data/training"), help="folder for its checkpoints")
    made.add_argument("--network", choices=("small", "medium"), default="medium", help="about 150K or 600K parameters")
    made.add_argument("--H-cycles", type=int, default=3, help="outer cycles")
    made.add_argument("--L-cycles", type=int, default=4, help="inner steps in each")
    made.add_argument("--feedback", action=argparse.BooleanOptionalAction, default=True, help="feed the final error back")
    made.add_argument("--proportional", action="store_true",
                      help="multiply each correction by the size of the final error (chapter 6)")
    made.add_argument("--objective", choices=OBJECTIVES, default="mse",
                      help="how the errors of the cycles make one number, see TrainConfig")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    made.add_argument("--fresh", action="store_true", help="begin anew, over what --out holds, instead of going on")
    helps = {"epochs": "most passes over the data", "batch_size": "problems a step", "lr": "highest learning rate",
             "weight_decay": "of AdamW", "patience": "epochs without improvement before stopping early",
             "cycle_weight": "weight of the earlier cycles' errors",
             "final_weight": "weight of the error of the final state beside that of the controls",
             "most_cycles": "each batch runs 1 to this many cycles; 0: always H_cycles",
             "seed": "of the weights and the order of the samples"}
    for name, text in helps.items():
        default = getattr(TrainConfig(), name)
        made.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=text)
    made.add_argument("--mixed-precision", action="store_true", help="bfloat16 inside the block (for GPUs)")
    made.add_argument("--compile", action="store_true", help="use torch.compile (takes a minute or two first)")

    made = command("evaluate", evaluate_command)
    made.add_argument("--checkpoint", type=pathlib.Path, default=pathlib.Path("data/training/best_model.pt"),
                      help="what `train` saved")
    made.add_argument("--data", type=pathlib.Path, default=pathlib.Path("data/lqr_dataset_eval.npz"), help="the eval set")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    made.add_argument("--json", action="store_true", help="for machines")

    made = command("export", export_command)
    made.add_argument("--checkpoint", type=pathlib.Path, default=pathlib.Path("data/training/best_model.pt"),
                      help="what `train` saved")
    made.add_argument("--out", type=pathlib.Path, default=pathlib.Path("data/training/model.onnx"), help="the file to write")
    made.add_argument("--H-cycles", type=int, help="cycles to run; those of the checkpoint if not given")

    made = command("course", course)
    made.add_argument("--lane", choices=tuple(PRESETS), default="cpu",
                      help="how much of it to run: smoke to see that all works, cpu for a laptop, gpu for a node")
    made.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    made.add_argument("--out", type=pathlib.Path,
                      help="folder for the runs; runs/<lane> if not given, and needed with --set, --sweep and slurm")
    made.add_argument("--only", nargs="+", default=[], metavar="NN", help="these chapters alone, such as 04 05")
    made.add_argument("--set", nargs="+", action="extend", default=[], metavar="NN.NAME=VALUE",
                      help="parameters of chapters, such as 04.epochs=20")
    made.add_argument("--sweep", nargs="+", action="extend", default=[], metavar="NN.NAME=VALUES",
                      help="a grid of runs, such as 04.seed=0..4 04.cycle_weight=0,0.1,1; unless --only is given, of the "
                           "chapters that are swept and of those that build on them")
    made.add_argument("--force", action="store_true", help="run anew what is finished already")
    made.add_argument("--keep-going", action="store_true", help="after a failure, run what does not build on it")
    made.add_argument("--cluster", choices=("local", "slurm"), default="local",
                      help="where the runs go: processes here, or a Slurm job array; the command waits for them")
    made.add_argument("--workers", type=int, help="local: runs at a time; 1 if not given")
    made.add_argument("--partition", help="slurm: the cluster's default if not given")
    made.add_argument("--gpus", type=int, default=1, help="slurm: of each run; 0 for none")
    made.add_argument("--cpus", type=int, help="slurm: cores of each run; the cluster's default if not given, often one")
    made.add_argument("--time", default="2:00:00", help="slurm: limit of each run, h:mm:ss, d-h:mm:ss or minutes")

    made = command("sweep", sweep)
    made.add_argument("--study", choices=tuple(STUDIES), default="sweep",
                      help="sweep: chapter 6; bounded: chapter 7; van_der_pol: chapter 8")
    made.add_argument("--out", type=pathlib.Path, help="folder for the runs; data/<study> if not given")
    made.add_argument("--only", nargs="+", metavar="VARIANT", help="these variants alone")
    made.add_argument("--seeds", type=int, default=len(SEEDS), help="how many seeds")
    made.add_argument("--workers", type=int, default=2, help="runs at a time, one core each")

    commands.add_parser("doctor", help="Check that all that the course needs is here.")  # runs in `trc_lib.__main__`
    return top


def run(words):
    """Run one command; returns the exit code."""
    options = parser().parse_args(words)
    who = "" if this_rank() is None else f"rank {this_rank()}: "
    try:
        options.run(options)
        return 0
    except KeyboardInterrupt as error:
        print(who + (f"interrupted: {error}" if str(error) else "interrupted"), file=sys.stderr)
    except (ValueError, TypeError, OSError, ArithmeticError, RuntimeError, MemoryError, ModuleNotFoundError,
            NotebookFailed) as error:
        said = str(error) or type(error).__name__
        print(f"{who}error: {said if isinstance(error, NotebookFailed) else said.splitlines()[0]}", file=sys.stderr)
    return 1
