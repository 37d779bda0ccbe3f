"""A store survives a killed process, and memory does not grow with it."""

import signal
import subprocess
import sys
import time

import pytest

from trc_lib import io
from trc_lib.data import shards
from trc_lib.problems import PROBLEMS

KILLED = """
import sys
from trc_lib.data import shards
from trc_lib.problems import PROBLEMS
shards.SHARD = 400
PROBLEMS["double_integrator"]().store(sys.argv[1], 20_000, seed=5)
"""


@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_store_goes_on_to_the_same_bytes(tmp_path, monkeypatch, deadly):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "killed")])
    deadline = time.monotonic() + 60
    while not (tmp_path / "killed/shard-00003.npy").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(deadly)
    assert process.wait() == -deadly
    kept = len(io.read_json(tmp_path / "killed" / shards.MANIFEST)["shards"])
    assert 0 < kept < 50
    monkeypatch.setattr(shards, "SHARD", 400)
    contents = []
    for name in ("killed", "whole"):
        made = PROBLEMS["double_integrator"]().store(tmp_path / name, 20_000, seed=5)
        contents.append({path.name: path.read_bytes() for path in made.folder.iterdir()})
    assert contents[0] == contents[1]


PEAKS = """
import sys
import torch
from tests.benchmarks.bench_training import peak_of_this_process
from trc_lib.data import shards
from trc_lib.problems import PROBLEMS
from trc_lib.training.batches import Batches
shards.SHARD = 10_000
for num_samples in (30_000, 180_000):
    made = PROBLEMS["double_integrator"]().store(f"{sys.argv[1]}/{num_samples}", num_samples)
    batches = Batches(made, 1024, torch.device("cpu"))
    seen = sum(len(batch[0]) for batch in batches.drawn(torch.Generator()))
    print(seen, peak_of_this_process())
"""


def test_the_memory_to_make_and_read_a_store_does_not_grow_with_it(tmp_path):
    """150,000 problems more are 11 MB on disk, and twice that in float64."""
    said = subprocess.run([sys.executable, "-c", PEAKS, str(tmp_path)], check=True,
                          capture_output=True, text=True).stdout
    (few, peak), (many, later_peak) = (map(int, line.split()) for line in said.splitlines())
    assert (few, many) == (30_000, 180_000)
    assert later_peak < peak + 4e6 and later_peak < 1e9
