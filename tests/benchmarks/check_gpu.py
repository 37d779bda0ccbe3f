"""Does it run on this machine's GPU, does it give what the CPU gives, and how fast is it: ``make check-gpu``.

Runs the doctor, compares teacher, network and training with the CPU's within `TOLERANCES`, measures what each way to go faster
brings, trains a lane, and writes data/results/gpu.json. Exit code 1 where there is no GPU, or something differs too much.
"""

import argparse
import contextlib
import dataclasses
import functools
import os
import pathlib
import platform
import sys
import time
import unittest.mock
import warnings

import torch

from tests.benchmarks.bench_training import peak_of_this_process
from trc_lib import io, validation
from trc_lib.course import PRESETS
from trc_lib.course.doctor import diagnose, report
from trc_lib.data import EVAL_SEED, generate_dataset
from trc_lib.evaluation import evaluate
from trc_lib.model import TinyRecursiveControl
from trc_lib.problems import PROBLEMS
from trc_lib.training import TrainConfig, train

TOLERANCES = {  # largest that is accepted
    "teacher, double_integrator: largest difference of a control": 1e-9,
    "teacher, bounded_inputs: largest difference of a control": 1e-7,      # it stops where the cart ends within 1e-10
    "teacher, van_der_pol: largest relative difference of a cost": 1e-6,   # it stops where an iteration promises less than 1e-9
    "network, float32: largest difference of a control, over the largest control": 1e-5,
    "roll-out, TF32 allowed: largest difference of a state, over the largest state": 1e-5,
    "smoke lane: mean final error, ratio (the larger over the smaller)": 1.25,
    "smoke lane: first epoch's train loss, relative difference": 1e-3,
    "waits for the device in 8 more steps of training": 0,
}
WAYS = {  # to train: settings of `TrainConfig`, precision of matrix products, words for `torch.compile`
    "float32": ({}, "highest", {}),
    "float32 with TF32": ({}, "high", {}),
    "bfloat16 with TF32": ({"mixed_precision": True}, "highest", {}),
    "compiled": ({"compile": True}, "highest", {}),
    "bfloat16 with TF32, compiled (the gpu lane)": ({"mixed_precision": True, "compile": True}, "highest", {}),
    "the same with CUDA graphs": ({"mixed_precision": True, "compile": True}, "highest", {"mode": "reduce-overhead"}),
}


def teachers(device, num_problems):
    """How far the device's answers are from the CPU's."""
    rows = {}
    for name, make in PROBLEMS.items():
        problem = make()
        few = num_problems if name != "van_der_pol" else max(1, num_problems // 100)
        data = problem.dataset(few)
        states = data.initial_states, data.target_states
        controls, solved = problem.teacher.try_solve(*(state.to(device) for state in states))
        controls = controls.cpu()
        if name == "van_der_pol":
            costs = [problem.teacher.cost(*states, answer) for answer in (controls, data.controls)]
            differences = (costs[0] / costs[1] - 1)[solved.cpu()].abs()
        else:
            differences = (controls - data.controls).abs()
        kind = "largest relative difference of a cost" if name == "van_der_pol" else "largest difference of a control"
        rows[f"teacher, {name}: {kind}"] = float(differences.max())
    return rows


def network(device):
    """The medium network's answers and a roll-out, in float32."""
    data, model = generate_dataset(4096), TinyRecursiveControl.create_two_level_medium()
    model.set_scaling(data)
    states = data.initial_states.float(), data.target_states.float()
    controls, there = data.controls.float(), [state.to(device) for state in states]
    with torch.no_grad():
        here = model(*states)["cycle_controls"]
        answers = model.to(device)(*there)["cycle_controls"].cpu()
        with precision("high"):
            rolled = model.system.rollout_unchecked(there[0], controls.to(device)).cpu()
    wanted = model.system.rollout_unchecked(states[0].double(), controls.double())
    return {"network, float32: largest difference of a control, over the largest control":
            float((answers - here).abs().max() / here.abs().max()),
            "roll-out, TF32 allowed: largest difference of a state, over the largest state":
            float((rolled - wanted).abs().max() / wanted.abs().max())}


def trained(device, lane):
    """The same small training on both."""
    losses, errors = [], []
    sets = generate_dataset(lane.num_train), generate_dataset(lane.num_eval, EVAL_SEED)
    for place in ("cpu", device):
        model = lane.make_model()
        losses.append(train(model, *sets, lane.training, device=place, progress=False).rows[0]["train_loss"])
        errors.append(evaluate(model.cpu(), sets[1])[-1].final_error_mean)
    return {"smoke lane: mean final error, ratio (the larger over the smaller)": max(errors) / min(errors),
            "smoke lane: first epoch's train loss, relative difference": abs(losses[1] / losses[0] - 1)}


def waits(device, batch_size=64):
    """How much more often the loop waits for the device when an epoch has eight steps more."""
    counts = []
    for steps in (8, 16):
        data = generate_dataset(steps * batch_size)
        with warnings.catch_warnings(record=True) as caught, waiting_warns(device):
            warnings.simplefilter("always")
            train(TinyRecursiveControl.create_two_level_small(), data, generate_dataset(64, EVAL_SEED),
                  TrainConfig(epochs=1, batch_size=batch_size, cycle_weight=0.1), device=device, progress=False)
        counts.append(sum("synchroniz" in str(warning.message) for warning in caught))
    return {"waits for the device in 8 more steps of training": counts[1] - counts[0]}


@contextlib.contextmanager
def waiting_warns(device):
    """PyTorch warns of whatever waits for the GPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.set_sync_debug_mode("warn")
    try:
        yield
    finally:
        if torch.device(device).type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


@contextlib.contextmanager
def precision(name):
    """Matrix products in this precision, as `torch.set_float32_matmul_precision` calls it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def speeds(device, lane, num_problems, ways):
    """Problems a second in the second epoch of each way, after the compiler is done; or why it does not work."""
    sets, rows = (generate_dataset(num_problems), generate_dataset(100, EVAL_SEED)), {}
    for name in ways:
        settings, products, words = WAYS[name]
        config = dataclasses.replace(lane.training, epochs=2, mixed_precision=False, compile=False, snapshot_epochs=())
        try:
            with precision(products), unittest.mock.patch("torch.compile", functools.partial(torch.compile, **words)):
                taken = train(lane.make_model(), *sets, dataclasses.replace(config, **settings), device=device, progress=False)
            rows[name] = num_problems / taken["seconds"][-1]
        except Exception as error:  # a way that fails here is a result, too
            rows[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        torch.compiler.reset()
        print(f"  {name}: {rows[name] if isinstance(rows[name], str) else f'{rows[name]:,.0f} problems a second'}", flush=True)
    return rows


def whole_lane(device, lane, epochs):
    """The lane itself: how long, how good, how much memory."""
    lane = dataclasses.replace(lane, training=dataclasses.replace(lane.training, epochs=epochs))
    started = time.perf_counter()
    sets = generate_dataset(lane.num_train), generate_dataset(lane.num_eval, EVAL_SEED)
    made, model = time.perf_counter() - started, lane.make_model()
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    history = train(model, *sets, lane.training, device=device)
    metrics = evaluate(model, sets[1])[-1]
    return {"lane": lane.name, "epochs": len(history), "seconds to make the data": made, "seconds an epoch": history["seconds"],
            "final_error_mean": metrics.final_error_mean, "success_rate": metrics.success_rate,
            "peak memory (MB)": (torch.cuda.max_memory_allocated() if cuda else peak_of_this_process()) / 1e6}


def measure(device, lane, epochs, num_problems=100_000, ways=tuple(WAYS), small=PRESETS["smoke"]):
    """All of it; ``"differences"`` holds what `TOLERANCES` judges."""
    cuda = torch.device(device).type == "cuda"
    result = {"machine": {"device": torch.cuda.get_device_name() if cuda else platform.machine(), "cores": os.cpu_count(),
                          "torch": torch.__version__, "cuda": torch.version.cuda}}
    print("the same as on the CPU?", flush=True)
    result["differences"] = {**teachers(device, num_problems), **network(device), **trained(device, small), **waits(device)}
    for name, value in result["differences"].items():
        print(f"  {'OK  ' if value <= TOLERANCES[name] else 'FAIL'} {name}: {value:.2g} (at most {TOLERANCES[name]:g})")
    result["passed"] = all(value <= TOLERANCES[name] for name, value in result["differences"].items())
    print("how fast?", flush=True)
    result["problems a second"] = speeds(device, lane, num_problems, ways)
    print(f"the {lane.name} lane ...", flush=True)
    result["training"] = whole_lane(device, lane, epochs)
    return result


def main(words=None):
    """Check, measure, write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.check_gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:0, ...; on the cpu nothing is written")
    parser.add_argument("--lane", choices=tuple(PRESETS), default="gpu", help="what to train")
    parser.add_argument("--epochs", type=int, help="of the lane; its own if not given")
    options = parser.parse_args(words)
    try:
        device = validation.device(options.device)
    except ValueError as error:
        print(f"error: {error}; nothing was measured", file=sys.stderr)
        return 1
    if not report(diagnose()):
        return 1
    lane = PRESETS[options.lane]
    result = measure(str(device), lane, options.epochs or lane.training.epochs)
    if device.type == "cuda":
        here = pathlib.Path(__file__).resolve().parents[2]
        io.write_json(here / "data" / "results" / "gpu.json", result)
        print("written to data/results/gpu.json")
    print("all is well" if result["passed"] else "something differs too much from the CPU")
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
