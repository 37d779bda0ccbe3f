"""Seconds until the headline, with the fast recipe, with chapter 4's, and with the textbook's loop; and where they go."""

import dataclasses
import json
import math
import pathlib
import resource
import subprocess
import sys
import time

import torch
from torch.utils.data import DataLoader, Dataset

from tests.benchmarks.timing import arithmetic_limit
from trc_lib.course import PRESETS
from trc_lib.course.experiments import multiply_adds
from trc_lib.course.workspace import root
from trc_lib.data import EVAL_SEED, generate_dataset
from trc_lib.evaluation import evaluate
from trc_lib.model import FinalError, NoFeedback, Proportional, TinyRecursiveControl
from trc_lib.training import TrainConfig, imitation_loss, train

HEADLINE = 0.016  # mean final error, with every problem solved
SEEDS = (0, 1, 2)  # one is not enough: the textbook's loop comes and goes over the headline
AIMS = {"seconds to the headline": 30, "times sooner than the textbook": 5, "MB on disk": 2.5}
FAST = TrainConfig(epochs=3, batch_size=64, lr=2e-3, objective="rms", cycle_weight=1.0, final_weight=0.3)


class Samples(Dataset):
    """The textbook's way to the samples: one at a time."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return {name: values.float() for name, values in self.dataset[index].items()}


def textbook(seed, train_set, eval_set, epochs):
    """The loop as a textbook, and the description, write it: everything default, no feedback, the last controls supervised."""
    model = TinyRecursiveControl.create_two_level_medium(feedback=NoFeedback(), seed=seed)
    model.set_scaling(train_set)
    samples = DataLoader(Samples(train_set), batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(seed))
    optimizer, spent, reached = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-5), 0.0, None
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        for batch in samples:
            loss = (model(batch["initial_state"], batch["target_state"])["controls"] - batch["controls"]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        spent += time.perf_counter() - started
        metrics = evaluate(model, eval_set)[-1]
        print(f"  textbook, seed {seed}, epoch {epoch}: {spent:.0f} s, mean final error {metrics.final_error_mean:.4f}, "
              f"success {metrics.success_rate:.2%}", flush=True)
        if metrics.final_error_mean <= HEADLINE and metrics.success_rate == 1:
            reached = spent
            break
    return {"seconds to the headline": reached, "seconds spent": spent, "epochs": epoch,
            "problems a second": epoch * len(train_set) / spent, "final_error_mean": metrics.final_error_mean}


def ours(model, config, train_set, eval_set, limit):
    """Our loop with a recipe, up to the first epoch that meets the headline."""
    rows = train(model, train_set, eval_set, config, progress=False).rows
    met = [i for i, row in enumerate(rows) if row["eval_final_error"] <= HEADLINE and row["eval_success"] == 1]
    spent = sum(row["seconds"] for row in rows)
    a_second = len(rows) * len(train_set) / spent
    return {"seconds to the headline": sum(row["seconds"] for row in rows[:met[0] + 1]) if met else None,
            "seconds spent": spent, "epochs": len(rows), "problems a second": a_second,
            "final_error_mean": rows[-1]["eval_final_error"],
            "share of the arithmetic limit": 3 * multiply_adds(model) * a_second / limit}


def median(run, seeds):
    """The run that is in the middle by its time to the headline, and the times of all; one that did not reach it is last."""
    runs = [run(seed) for seed in seeds]
    times = [each["seconds to the headline"] for each in runs]
    middle = sorted(runs, key=lambda each: each["seconds to the headline"] or math.inf)[len(runs) // 2]
    return middle | {"of all seeds": times}


def profile(train_set):
    """Where one training step's time goes: the share of each of the six costliest operators."""
    model = TinyRecursiveControl.create_two_level_medium()
    x0, xT, u = (values[:64].float() for values in (train_set.initial_states, train_set.target_states, train_set.controls))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(5):
            imitation_loss(model.predict(x0, xT)["cycle_controls"], u, 0.1)[0].backward()
    spent = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    costliest = sorted(spent, key=spent.get, reverse=True)[:6]
    return {name: spent[name] / sum(spent.values()) for name in costliest}


def peak_memory(num_train):
    """Most memory, MB, of a process that imports the library, and of one that trains for an epoch."""
    peak = {}
    for name, code in (("imports only", "import trc_lib.training, trc_lib.model, trc_lib.data"),
                       ("one epoch", "from tests.benchmarks.bench_training import one_epoch; one_epoch(int(sys.argv[1]))")):
        code = f"import sys; {code}; from tests.benchmarks.bench_training import peak_of_this_process as peak; print(peak())"
        run = subprocess.run([sys.executable, "-c", code, str(num_train)], capture_output=True, text=True, check=True, cwd=root())
        peak[name] = int(run.stdout.split()[-1]) / 1e6
    return peak


def peak_of_this_process():
    """Most memory so far, bytes; on Linux not by getrusage, which counts in what the parent process held."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory_of(call):
    """Most memory that a call takes at a time on top of what the process holds, bytes; on Linux only, else NaN."""
    refs, status = pathlib.Path("/proc/self/clear_refs"), pathlib.Path("/proc/self/status")
    if not refs.exists():
        return math.nan

    def read(name):
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith(name))

    refs.write_text("5")  # the peak is what the process holds now
    before = read("VmRSS")
    call()
    return max(read("VmHWM") - before, 0)


def one_epoch(num_train):
    """What `peak_memory` runs in a process of its own."""
    train(TinyRecursiveControl.create_two_level_medium(), generate_dataset(num_train), generate_dataset(200, EVAL_SEED),
          TrainConfig(epochs=1), progress=False)


def bench(num_train=10_000, num_eval=2_000, most_epochs=12, seeds=SEEDS):
    """The three loops on the same data."""
    train_set, eval_set = generate_dataset(num_train), generate_dataset(num_eval, EVAL_SEED)
    limit, make = arithmetic_limit(1), TinyRecursiveControl.create_two_level_medium

    def recipe(config, seed, feedback):
        config = dataclasses.replace(config, epochs=min(config.epochs, most_epochs), seed=seed)
        return ours(make(seed=seed, feedback=feedback), config, train_set, eval_set, limit)

    result = {"fast recipe": median(lambda seed: recipe(FAST, seed, Proportional(FinalError(train_set.system))), seeds),
              "chapter 4": median(lambda seed: recipe(PRESETS["cpu"].training, seed, None), seeds),
              "textbook": median(lambda seed: textbook(seed, train_set, eval_set, most_epochs), seeds)}
    return {"multiply-adds a second, one thread": limit, "recipes": result, "where a step's time goes": profile(train_set),
            "peak memory (MB)": peak_memory(num_train),
            "MB on disk": (root() / "data" / "pretrained" / "two_level_medium.pt").stat().st_size / 1e6}


if __name__ == "__main__":
    print(json.dumps(bench(), indent=2))
