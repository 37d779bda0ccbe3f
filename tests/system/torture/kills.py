"""Killed by SIGKILL at a random moment: every file is whole or absent, and the next run ends bit-equal to one left in peace.

The machine itself goes on: that what was written outlives a power cut (fsync) is not tried here.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from io import StringIO

import nbformat
import torch

from tests import ROOT
from tests.system.torture.rows import Row
from tests.system.torture.scratch import scratch_course
from trc_lib import io
from trc_lib.data import LQRDataset, generate_dataset
from trc_lib.model import TinyRecursiveControl, TRCConfig
from trc_lib.training import TrainConfig, load_snapshots, train

SMALL = {"latent_dim": 8, "block_hidden": 8, "head_hidden": 8, "H_cycles": 2, "L_cycles": 1}
TRAINING = TrainConfig(epochs=8, batch_size=16, snapshot_epochs=(0, 2, 4, 8))


def in_child(work, killed_after=None):
    """Do ``work()`` in a fork of this process, and return its seconds; None if it was killed, so many seconds after its start."""
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    if killed_after is not None:
        time.sleep(killed_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None
    if os.WEXITSTATUS(status):
        raise AssertionError("the work failed, see above")
    return time.perf_counter() - started


def hidden(folder):
    """What was left of writing: names that begin with a dot."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def kill_at_random(name, work, whole, result, tries, rng, advance=lambda: None):
    """Kill ``work(folder)`` so many times, each in an empty folder, and let it run again to its end.

    Args:
        whole: raises if the file at a path is not whole.
        result: what a folder holds in the end, to be compared.
    """
    row = Row("kill -9", name)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        in_child(lambda: work(folder))
        expected = result(folder)
    seconds = min(_seconds(work) for _ in range(2))
    for _ in range(tries):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            row.add(*_killed_once(folder, work, whole, result, expected, rng.uniform(0, seconds)))
        advance()
    return row


def _seconds(work):
    with tempfile.TemporaryDirectory() as folder:
        return in_child(lambda: work(pathlib.Path(folder)))


def _killed_once(folder, work, whole, result, expected, after):
    ended = in_child(lambda: work(folder), after) is not None
    left, seen = hidden(folder), [path for path in folder.iterdir() if not path.name.startswith(".")]
    try:
        for path in seen:
            whole(path)
    except Exception as error:
        return "", f"killed after {after:.3f} s: {path.name} is not whole: {error}"
    try:
        in_child(lambda: work(folder))
    except AssertionError:
        return "", f"killed after {after:.3f} s: it did not go on"
    if result(folder) != expected:
        return "", f"killed after {after:.3f} s: it ended otherwise"
    if hidden(folder):
        return "", f"killed after {after:.3f} s: {hidden(folder)} was left behind"
    writing = any(name.endswith(".part") for name in left)
    return ("had ended" if ended else "while a file was written" if writing else "between two files" if seen
            else "before the first"), None


def dataset_writing(tries, rng, advance=lambda: None):
    """Two datasets written in turn to the same path."""
    first, second = generate_dataset(20_000, 1), generate_dataset(20_000, 2)
    accepted = {first.fingerprint, second.fingerprint}

    def work(folder):
        for dataset in (first, second) * 6:
            dataset.save(folder / "data.npz")

    def whole(path):
        assert LQRDataset.load(path).fingerprint in accepted

    def result(folder):
        return (folder / "data.npz").read_bytes()

    return kill_at_random("dataset writing", work, whole, result, tries, rng, advance)


def checkpoint_writing(tries, rng, advance=lambda: None):
    """Two medium networks written in turn to the same path."""
    models = [TinyRecursiveControl.create_two_level_medium(seed=seed) for seed in (0, 1)]
    weights = [io.fingerprint(model.state_dict()) for model in models]

    def work(folder):
        for model in models * 8:
            model.save(folder / "model.pt")

    def whole(path):
        assert io.fingerprint(TinyRecursiveControl.load(path).state_dict()) in weights

    def result(folder):
        return (folder / "model.pt").read_bytes()

    return kill_at_random("checkpoint writing", work, whole, result, tries, rng, advance)


def results_writing(tries, rng, advance=lambda: None):
    """Two tables of figures written in turn to the same path."""
    tables = [{"seed": seed, "text": 3_000_000 * str(seed)} for seed in (0, 1)]

    def work(folder):
        for table in tables * 4:
            io.write_json(folder / "results.json", table)

    def whole(path):
        assert io.read_json(path) in tables

    def result(folder):
        return (folder / "results.json").read_bytes()

    return kill_at_random("results writing", work, whole, result, tries, rng, advance)


WHOLE = {  # file of a training folder: what reads it, and raises where it is not whole
    "last.pt": lambda path: io.load_checkpoint(path, "trc_lib.training", 1),
    "best_model.pt": TinyRecursiveControl.load,
    "snapshots.pt": load_snapshots,
    "history.csv": lambda path: _rows(path)}


def _rows(path):
    rows = [line.split(",") for line in path.read_text().removesuffix("\n").split("\n")]
    assert {len(row) for row in rows} == {7} and [int(row[0]) for row in rows[1:]] == list(range(1, len(rows)))
    return [row[:-1] for row in rows]  # without the seconds


def outcome(folder):
    """What a finished training left, without its seconds."""
    state = io.load_checkpoint(folder / "last.pt", "trc_lib.training", 1)
    history = [{name: value for name, value in row.items() if name != "seconds"} for row in state.pop("history")]
    return [io.fingerprint(state), history, io.fingerprint(load_snapshots(folder / "snapshots.pt")),
            (folder / "best_model.pt").read_bytes(), _rows(folder / "history.csv")]


def training(tries, rng, advance=lambda: None):
    """A small network on 128 problems, which goes on after its last whole epoch."""
    train_set, eval_set = generate_dataset(128, 1), generate_dataset(64, 2)

    def work(folder):
        torch.set_num_threads(1)
        with contextlib.redirect_stderr(StringIO()):
            train(TinyRecursiveControl(TRCConfig(**SMALL)), train_set, eval_set, TRAINING, folder, "cpu", progress=False)

    train(TinyRecursiveControl(TRCConfig(**SMALL)), eval_set, eval_set, TrainConfig(epochs=1), progress=False)  # what PyTorch
    # imports in its first training, every child would import anew: none would get as far as its first epoch for a while
    return kill_at_random("training", work, lambda path: WHOLE[path.name](path), outcome, tries, rng, advance)


TRAINS = """
import dataclasses
from trc_lib.evaluation import evaluate
lane = dataclasses.replace(lane, num_train=256, num_eval=64)
sets = course.load_or_make_datasets(lane)
model, history, snapshots = course.load_or_train(lane, *sets)
figures = dataclasses.asdict(evaluate(model, sets[1])[-1]) | {"numbers": model.num_parameters}
course.record(lane, "04_training", {"epochs": len(history), "seconds": 0, "device": "cpu", "best": history.best["eval_loss"]})
course.record(lane, "05_evaluation", {"this network": figures})
"""


def course(tries, rng, advance=lambda: None):
    """A course run of a notebook that makes datasets and trains, and of one that follows it; killed, and given once more.

    One time in three each the command is killed, the process that runs the notebooks, or the kernel of a notebook; the command
    mends the last two by itself.
    """
    row = Row("kill -9", "a course run")
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "trc_lib", "course", "--lane", "smoke", "--only", "04", "05"]

    def start(folder):
        return subprocess.Popen(words, cwd=folder, env=env, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def result(folder):
        """Datasets, networks and figures; of the notebooks that they are whole."""
        run = folder / "runs" / "smoke"
        for name in ("04_training", "05_evaluation"):
            nbformat.read(run / f"{name}.ipynb", as_version=4)
        made = [*(folder / "data").rglob("*.npz"), *(run / "results").glob("*.json")]
        return {path.relative_to(folder): path.read_bytes() for path in made} | {"state": outcome(run / "training")}

    def again(folder):
        """The command once more, as somebody would give it: the killed one's processes may take a moment to end."""
        for _ in range(20):
            running = start(folder)
            said = running.communicate()[1]
            if "is in use by process" not in said:
                break
            time.sleep(0.5)
        return running.returncode, said

    with tempfile.TemporaryDirectory() as folder:
        started, folder = time.perf_counter(), scratch_course(pathlib.Path(folder), "pass", {"04_training": TRAINS})
        code, said = again(folder)
        assert code == 0, said
        seconds, expected = time.perf_counter() - started, result(folder)
    for trial in range(tries):
        with tempfile.TemporaryDirectory() as folder:
            folder, after = scratch_course(pathlib.Path(folder), "pass", {"04_training": TRAINS}), rng.uniform(0, seconds)
            running = start(folder)
            time.sleep(after)
            below = [running.pid, *_descendants(running.pid)]
            victim = min(trial % 3, len(below) - 1)
            with contextlib.suppress(ProcessLookupError):
                os.kill(below[victim], signal.SIGKILL)
            running.communicate()
            failure = None
            code, said = again(folder)
            if code:
                failure = f"killed after {after:.1f} s: it did not go on: {said.strip().splitlines()[-1][:200]}"
            elif result(folder) != expected:
                failure = f"killed after {after:.1f} s: it ended otherwise"
            elif left := [path.name for path in folder.rglob(".*") if path.name.endswith((".part", ".part.ipynb", ".lock"))]:
                failure = f"killed after {after:.1f} s: {left} was left behind"
            row.add(f"{('the command', 'what runs the notebooks', 'a kernel')[victim]} killed", failure)
        advance()
    return row


def _descendants(process):
    """The children of a process and theirs, the nearest first."""
    tasks = pathlib.Path(f"/proc/{process}/task").glob("*/children")
    found = [int(child) for path in tasks for child in path.read_text().split()]
    return [*found, *(below for child in found for below in _descendants(child))]


ALL = (dataset_writing, checkpoint_writing, results_writing, training)
