"""Two processes of torchrun train like one; one start, which takes seconds, runs all cases."""

import dataclasses
import functools
import os
import shutil
import subprocess
import sys

import pytest
import torch

from tests import ROOT
from trc_lib import io, training
from trc_lib.data import generate_dataset, shards
from trc_lib.data.shards import Store
from trc_lib.model import TinyRecursiveControl
from trc_lib.problems import PROBLEMS
from trc_lib.training import TrainConfig

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
# 49 problems: in the third batch one rank has none
BASE = TrainConfig(epochs=1, batch_size=24, cycle_weight=0.1)
CASES = {
    "mse": BASE,
    # a gradient that is not the mean of the ranks' gradients
    "rms": dataclasses.replace(BASE, objective="rms", final_weight=0.3, most_cycles=3),
    "relative": dataclasses.replace(BASE, objective="relative improvement"),
    "proposal": dataclasses.replace(BASE, part="proposal"),
    "cycles": dataclasses.replace(BASE, part="cycles"),
    "cost": dataclasses.replace(BASE, objective="root cost"),
    "store": dataclasses.replace(BASE, batch_size=7),
}
LONGER = dataclasses.replace(BASE, epochs=3, snapshot_epochs=(1, 3))

train = functools.partial(training.train, device="cpu", progress=False)


def model(seed=0):
    return TinyRecursiveControl.create_two_level_small(
        seed=seed, latent_dim=16, block_hidden=16, head_hidden=16)


def sets():
    return generate_dataset(49, seed=1), generate_dataset(40, seed=2)


def keep_the_first_epoch(folder, history):
    if len(history) == 1:
        shutil.copytree(folder, folder.with_name(f"{folder.name}, first epoch"),
                        ignore=shutil.ignore_patterns(".lock"))


def train_all(root):
    """What every process runs: all cases, a longer run, and the resume of another's run."""
    train_set, eval_set = sets()
    for name, config in CASES.items():
        data = Store(root.parent / "store") if name == "store" else train_set
        train(model(), data, eval_set, config, root / name)
    folder = root / "longer"
    train(model(), train_set, eval_set, LONGER, folder,
          on_epoch=functools.partial(keep_the_first_epoch, folder))
    if (root / "resumed").exists():
        train(model(), train_set, eval_set, LONGER, root / "resumed")


def run(script, *words):
    """The exit code and the stderr of a script run by torchrun as two processes."""
    done = subprocess.run([*TORCHRUN, script, *map(str, words)], capture_output=True, text=True,
                          timeout=120,
                          env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    return done.returncode, done.stderr


TRAINING = """
import atexit, os, pathlib, sys
from tests.integration.test_ranks import train_all


def no_thread_is_left():  # a thread of the group that outlives Python can abort the process
    tasks = pathlib.Path("/proc/self/task").glob("*/comm")  # of Linux; elsewhere there are none
    left = [name for name in (task.read_text().strip() for task in tasks) if "gloo" in name]
    if left:
        print("left:", left, file=sys.stderr, flush=True)
        os._exit(3)


atexit.register(no_thread_is_left)  # before the group's own: it runs after it
train_all(pathlib.Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The folders of one process and of two."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD", 20)
        PROBLEMS["double_integrator"]().store(folder / "store", 49, seed=1)
    one, two = folder / "one", folder / "two"
    train_all(one)
    shutil.copytree(one / "longer, first epoch", two / "resumed")
    (folder / "script.py").write_text(TRAINING)
    code, said = run(folder / "script.py", two)
    assert code == 0, said
    return one, two


def rows_of(folder):
    return io.load_checkpoint(folder / "last.pt", "trc_lib.training", 1)["history"]


def assert_same(first, second):
    for row, other in zip(rows_of(first), rows_of(second), strict=True):
        for name in row.keys() - {"seconds"}:
            assert row[name] == pytest.approx(other[name], rel=1e-5, abs=1e-9), name
    states = [io.load_checkpoint(folder / "last.pt", "trc_lib.training", 1)
              for folder in (first, second)]
    assert states[0]["recipe"] == states[1]["recipe"]
    for name, value in states[0]["weights"].items():
        torch.testing.assert_close(value, states[1]["weights"][name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [*CASES, "longer"])
def test_two_ranks_end_where_one_process_does(both, name):
    one, two = both
    assert_same(one / name, two / name)
    files = [{path.name for path in (root / name).iterdir()} for root in both]
    assert files[0] == files[1]


def test_two_processes_resume_a_run_of_one(both):
    one, two = both
    assert len(rows_of(one / "longer, first epoch")) == 1
    # the first epoch was not repeated: its seconds are the same
    assert rows_of(two / "resumed")[0] == rows_of(one / "longer")[0]
    assert_same(one / "longer", two / "resumed")
    assert list(training.load_snapshots(two / "resumed" / "snapshots.pt")) == [1, 3]


def test_one_process_resumes_a_run_of_two(both, tmp_path):
    one, two = both
    shutil.copytree(two / "longer, first epoch", tmp_path / "resumed")
    train(model(), *sets(), LONGER, tmp_path / "resumed")
    assert rows_of(tmp_path / "resumed")[0] == rows_of(two / "longer")[0]
    assert_same(one / "longer", tmp_path / "resumed")


DYING = """
import datetime, os, sys, time
from tests.integration.test_ranks import LONGER, model, sets, train
from trc_lib.training import objectives, ranks

ranks.TIMEOUT, ranks.GRACE, what = datetime.timedelta(seconds=3), 1, sys.argv[1]
real, calls = objectives.imitation_loss, iter(range(100))


def deadly(*arguments):
    if os.environ["RANK"] == "1" and next(calls) == 4:  # in the second epoch
        os.kill(os.getpid(), 9) if what == "dies" else time.sleep(60)
    return real(*arguments)


objectives.imitation_loss = deadly
seed = int(os.environ["RANK"]) if what == "another" else 0
try:
    train(model(seed=seed), *sets(), LONGER, sys.argv[2])
except Exception as error:
    sys.exit(f"rank {os.environ['RANK']}: {type(error).__name__}: {error}")
"""


def ended(tmp_path, what):
    """The stderr of a run in which rank 1 fails."""
    (tmp_path / "dying.py").write_text(DYING)
    code, said = run(tmp_path / "dying.py", what, tmp_path / "run")
    assert code == 1
    return said


def test_a_rank_that_dies_ends_the_run_and_is_named_and_the_run_is_resumed(both, tmp_path):
    said = ended(tmp_path, "dies")
    cause = said[said.index("Root Cause"):]
    assert "rank      : 1 (local_rank: 1)" in cause and "Signal 9 (SIGKILL)" in cause
    assert len(rows_of(tmp_path / "run")) == 1
    train(model(), *sets(), LONGER, tmp_path / "run")
    assert_same(both[0] / "longer", tmp_path / "run")


def test_ranks_that_were_given_different_things_do_not_train_together(tmp_path):
    said = ended(tmp_path, "another")
    assert ("rank 1: ValueError: rank 1 was given something else than rank 0 "
            "(model_seed: 0 -> 1, initial_weights: ") in said


def test_a_rank_that_no_longer_answers_is_given_up(tmp_path):
    said = ended(tmp_path, "sleeps")
    assert "rank 0: RankLost: another rank died, or did not answer for" in said
