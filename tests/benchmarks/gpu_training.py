"""Parts ``ways``, ``papermill`` and ``oscillator`` of `check_gpu`: training on the device."""

import csv
import dataclasses
import functools
import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest.mock

import torch

from tests import ROOT
from tests.benchmarks.gpu_record import LIMIT, precision, words_of
from trc_lib import io
from trc_lib.course import PRESETS, kernel, places, workspace
from trc_lib.data import EVAL_SEED, generate_dataset
from trc_lib.evaluation import cycle_controls, evaluate, measure
from trc_lib.training import train

WAYS = {  # settings of `TrainConfig`, precision of matrix products, words for `torch.compile`
    "float32": ({}, "highest", {}),
    "float32 with TF32": ({}, "high", {}),
    "bfloat16 with TF32": ({"mixed_precision": True}, "highest", {}),
    "compiled": ({"compile": True}, "highest", {}),
    "bfloat16 with TF32, compiled (the gpu lane)":
        ({"mixed_precision": True, "compile": True}, "highest", {}),
    "the same with CUDA graphs":
        ({"mixed_precision": True, "compile": True}, "highest", {"mode": "reduce-overhead"}),
}
LONGEST_WAY = 60  # seconds that a way may take, the compiler included
OF_NOTEBOOKS = ("papermill", "ipykernel", "ipywidgets", "matplotlib")


def ways(device, sizes, record):
    """Problems a second of each way, or in words why it does not work."""
    speeds = {}
    for name in sizes.ways or WAYS:
        if record.seconds_left < LONGEST_WAY:
            speeds[name] = "not measured: the time of this part was over"
        else:
            speeds[name] = speed(device, PRESETS[sizes.lane], sizes.timed, name)
        record["problems a second"] = speeds
        said = speeds[name]
        said = said if isinstance(said, str) else f"{said:,.0f} problems a second"
        print(f"  {name}: {said}", flush=True)


def speed(device, lane, num_problems, name):
    """Problems a second in the second epoch, after the compiler is done."""
    settings, products, words = WAYS[name]
    sets = generate_dataset(num_problems), generate_dataset(100, EVAL_SEED)
    config = dataclasses.replace(lane.training, **{
        "epochs": 2, "mixed_precision": False, "compile": False, "snapshot_epochs": ()} | settings)
    compiler = functools.partial(torch.compile, **words)
    try:
        with precision(products), unittest.mock.patch("torch.compile", compiler):
            taken = train(lane.make_model(), *sets, config, device=device, progress=False)
        return num_problems / taken["seconds"][-1]
    except Exception as error:  # a way that fails here is a result, too
        return words_of(error)
    finally:
        torch.compiler.reset()


def papermill(device, sizes, record):
    """Chapter 4 as docs/cluster_and_gpu.md runs it; without Jupyter, its training alone."""
    missing = [name for name in OF_NOTEBOOKS if importlib.util.find_spec(name) is None]
    if missing:
        record["papermill"] = f"not measured: {', '.join(missing)} is not installed"
        print(f"  {record.figures['papermill']}; the lane is trained without it", flush=True)
        record["training alone"] = whole_lane(device, PRESETS[sizes.lane], record)
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        folder, started = pathlib.Path(folder), time.perf_counter()
        environment = os.environ | kernel.environment(folder) | {
            workspace.RUN_FOLDER: str(folder / "run"), places.FOLDER: str(folder),
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
        if torch.device(device).type == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = "-1"
        words = [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / "04_training.ipynb"),
                 str(folder / "out.ipynb"), "--cwd", str(ROOT / "notebooks"), "--kernel", "python3",
                 "--no-progress-bar", "-p", "lane", sizes.lane]
        try:
            ended = subprocess.run(words, env=environment, capture_output=True, text=True,
                                   errors="replace", timeout=LIMIT - 10)
            words = "" if ended.returncode == 0 else f"papermill failed: {ended.stderr[-500:]}"
        except subprocess.TimeoutExpired:
            words = f"papermill was ended after {LIMIT - 10} s"
        record["lane"] = sizes.lane
        record["seconds of the notebook"] = round(time.perf_counter() - started, 1)
        history = folder / "run" / "training" / "history.csv"
        if history.exists():
            with history.open(encoding="utf-8") as lines:
                record["seconds an epoch"] = [float(row["seconds"])
                                              for row in csv.DictReader(lines)]
        if words:
            record.fail(words)
            return
        found = io.read_json(folder / "run" / "results" / "04_training.json")
    record["results"] = found
    if found["device"] != torch.device(device).type:
        record.fail(f"the notebook trained on the {found['device']}")
    said(record, sizes.lane, found["seconds"], found["best_epoch"]["eval_final_error"])


def said(record, lane, seconds, error):
    print(f"  {lane} lane: {seconds:.1f} s of training, mean final error {error:.2g}", flush=True)
    if lane == "gpu":
        record.aim("gpu lane, seconds of training", seconds)


def whole_lane(device, lane, record):
    """The training of the lane: how long, how good, how much memory."""
    started = time.perf_counter()
    sets = generate_dataset(lane.num_train), generate_dataset(lane.num_eval, EVAL_SEED)
    made, model = time.perf_counter() - started, lane.make_model()
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    history = train(model, *sets, lane.training, device=device, progress=False,
                    on_epoch=functools.partial(in_time, record, "epochs so far"))
    metrics = evaluate(model, sets[1])[-1]
    said(record, lane.name, sum(history["seconds"]), metrics.final_error_mean)
    return {"lane": lane.name, "seconds to make the data": made,
            "seconds an epoch": history["seconds"], "final_error_mean": metrics.final_error_mean,
            "success_rate": metrics.success_rate,
            "peak memory of the device (MB)":
            torch.cuda.max_memory_allocated() / 1e6 if cuda else None}


def in_time(record, name, history):
    """Write how far a training is; end it where the time of the part is over."""
    record[name] = {"epochs": len(history), "seconds": round(sum(history["seconds"]), 1),
                    "eval_loss": history["eval_loss"][-1]}
    if record.seconds_left < 0:
        raise TimeoutError(f"{name}: {LIMIT} s were over after epoch {len(history)}")


def oscillator(device, sizes, record):
    """Chapter 9's best network by its own recipe: the proposal by imitation, then the cycles."""
    from trc_lib.course.experiments import STUDIES, load_results
    from trc_lib.course.experiments.runs import TEST_SEED
    from trc_lib.problems import PROBLEMS

    study = STUDIES["van_der_pol"]
    problem = PROBLEMS[study.problem]()
    variant = next(each for each in study.variants if each.name == "gradient")
    stored = load_results("van_der_pol")["variants"]["gradient"]
    gap = stored["mean"]["cost_ratio"] - 1
    record["on one core of a CPU"] = {  # with the mean of five seeds
        "seconds": stored["mean"]["train_seconds"], "gap over the optimum": gap,
        "final_error_mean": stored["mean"]["final_error_mean"], "torch": load_results(
            "van_der_pol")["torch"]}
    counts = sizes.problems or (study.num_train, study.num_validation, study.num_test)
    started = time.perf_counter()
    train_set, validation_set, test_set = (problem.dataset(count, seed) for count, seed in zip(
        counts, (0, EVAL_SEED, TEST_SEED)))
    record["seconds to make the data, on the CPU"] = time.perf_counter() - started
    model, seconds = variant.network(problem.teacher, 0), 0.0
    for config in variant.train_configs(stored["lr"], 0):
        config = dataclasses.replace(config, epochs=sizes.epochs or config.epochs)
        history = train(model, train_set, validation_set, config, device=device, progress=False,
                        on_epoch=functools.partial(in_time, record, f"training {config.part}"))
        seconds += sum(history["seconds"])
        cycles = cycle_controls(model, test_set, config.depth)
        metrics = measure(test_set, cycles[-1])
        found = {"seconds so far": round(seconds, 1), "epochs": len(history),
                 "gap over the optimum": metrics.cost_ratio - 1,
                 "final_error_mean": metrics.final_error_mean}
        record[f"after the {config.part}"] = found
        print(f"  after the {config.part}: {seconds:.1f} s, gap over the optimum "
              f"{metrics.cost_ratio - 1:.2g}, mean final error {metrics.final_error_mean:.2g}",
              flush=True)
    print(f"  on one core of a CPU: {stored['mean']['train_seconds']:.1f} s, gap {gap:.2g}, "
          f"mean final error {stored['mean']['final_error_mean']:.2g}", flush=True)
    if sizes.problems is None:  # a rehearsal trains too little to be compared
        record.judge("oscillator: gap over the optimum, over the mean of the CPU's runs",
                     (metrics.cost_ratio - 1) / gap)
