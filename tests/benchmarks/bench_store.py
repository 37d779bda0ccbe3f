"""What a store costs in time, memory and disk, and that it grows in proportion to the problems: ``make bench-store``.

Writes data/results/store.json and the table of docs/data.md. Each figure comes from a process of its own.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import torch

from tests.benchmarks.bench_training import peak_of_this_process
from tests.documents import write_table
from trc_lib import io
from trc_lib.course.workspace import root
from trc_lib.data.shards import Store
from trc_lib.problems import PROBLEMS
from trc_lib.training.batches import Batches

BEGIN, END = "<!-- store: written by `make bench-store` -->", "<!-- end of store -->"
SIZES = (100_000, 1_000_000, 10_000_000)


def make(folder, num_samples):
    """Generate a store."""
    PROBLEMS["double_integrator"]().store(folder, num_samples)


def read(folder, num_samples):
    """Go through a store as an epoch of training does, in batches of 1024."""
    seen = sum(len(batch[0]) for batch in Batches(Store(folder), 1024, torch.device("cpu")).drawn(torch.Generator()))
    assert seen == num_samples


def measured(what, folder, num_samples):
    """Seconds, those of them on a core (steadier on a busy machine) and peak memory (MB) in a process of its own."""
    words = [sys.executable, "-m", "tests.benchmarks.bench_store", what, str(folder), str(num_samples)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=pathlib.Path(__file__).resolve().parents[2])
    return json.loads(done.stdout)


def bench(sizes=SIZES):
    """Both for every size, and the size on disk."""
    result = {}
    for num_samples in sizes:
        with tempfile.TemporaryDirectory(dir=root() / "data") as folder:  # where a store would be, and not in memory
            store = pathlib.Path(folder) / "store"
            result[f"{num_samples:,}"] = {
                "make": measured("make", store, num_samples), "read": measured("read", store, num_samples),
                "MB on disk": sum(path.stat().st_size for path in store.iterdir()) / 1e6}
    return result


def table(result):
    """The table of docs/data.md."""
    heads = ("problems", "make: s (CPU s)", "peak memory", "read, an epoch: s (CPU s)", "peak memory", "on disk")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for size, row in result.items():
        cells = [size]
        for part in (row["make"], row["read"]):
            cells += [f"{part['seconds']:.1f} ({part['seconds on a core']:.1f})", f"{part['peak memory (MB)']:.0f} MB"]
        cells.append(f"{row['MB on disk']:.0f} MB")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    """Measure, write, show; or be measured."""
    if len(sys.argv) > 1:
        what, folder, num_samples = sys.argv[1:]
        started, on_a_core = time.perf_counter(), time.process_time()
        {"make": make, "read": read}[what](pathlib.Path(folder), int(num_samples))
        print(json.dumps({"seconds": time.perf_counter() - started, "seconds on a core": time.process_time() - on_a_core,
                          "peak memory (MB)": peak_of_this_process() / 1e6}))
        return
    result = bench()
    io.write_json(root() / "data" / "results" / "store.json", result)
    write_table("docs/data.md", BEGIN, END, table(result))
    print(table(result))


if __name__ == "__main__":
    main()
