"""Does a GPU give what the CPU gives, and how fast is it: ``make check-gpu``, in five parts.

Each part takes 4 minutes at most on an H100, and writes each figure to data/results/gpu.json as
soon as it is there. On the cpu it is a rehearsal with tiny sizes, which writes nothing unless
``--out`` is given. Exit code 1 where there is no GPU, something differs too much, or a part fails.
"""

import argparse
import importlib
import os
import pathlib
import subprocess
import sys

from tests import ROOT
from tests.benchmarks import gpu_record
from trc_lib import validation

PARTS = {  # in a module that imports only what it needs
    "agreement": "gpu_agreement",  # the doctor, and agreement with the CPU
    "ways": "gpu_training",        # the ways to train faster
    "papermill": "gpu_training",   # chapter 4 on the gpu lane, through papermill
    "batches": "gpu_batches",      # teachers and roll-outs, in growing batches
    "oscillator": "gpu_training",  # chapter 9's best network
}
GRACE = 60  # seconds that a part may exceed its limit by before it is killed


def run_part(part, device, path):
    """Run one part in this process; returns whether all is well."""
    sizes = gpu_record.TINY if device.type == "cpu" else gpu_record.FULL
    record = gpu_record.Record(part, device, path)
    print(f"{part} ...", flush=True)
    record["outcome"] = "not finished"
    try:
        module = importlib.import_module(f"tests.benchmarks.{PARTS[part]}")
        getattr(module, part)(str(device), sizes, record)
    except Exception as error:
        record.fail(gpu_record.words_of(error))
    passed = record.end()
    print(f"{part}: {record.figures['outcome']} ({record.figures['seconds']} s)", flush=True)
    return passed


def run_apart(part, device, path):
    """The same in a process of its own, which a broken CUDA context or a hung call ends alone."""
    words = [sys.executable, "-m", "tests.benchmarks.check_gpu", "--part", part,
             "--device", str(device), *(["--out", str(path)] if path else [])]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    try:
        code = subprocess.run(words, env=os.environ | {"PYTHONPATH": paths},
                              timeout=gpu_record.LIMIT + GRACE).returncode
        if code in (0, 1):  # it has said and written how it ended
            return code == 0
        ended = f"its process ended with {code}"
    except subprocess.TimeoutExpired:
        ended = f"killed after {gpu_record.LIMIT + GRACE} s"
    record = gpu_record.Record.again(part, device, path)
    record.fail(ended)
    record["outcome"] = ended
    return False


def main(words=None):
    """Check, measure, write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.check_gpu",
                                     description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=tuple(PARTS), help="this one alone; all if not given")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:0, ...; cpu for a rehearsal")
    parser.add_argument("--out", type=pathlib.Path,
                        help="the file of the figures; on the cpu none if not given")
    options = parser.parse_args(words)
    try:
        device = validation.device(options.device)
    except ValueError as error:
        print(f"error: {error}; nothing was measured", file=sys.stderr)
        return 1
    path = options.out
    if path is None and device.type == "cuda":
        path = ROOT / "data" / "results" / "gpu.json"
    if options.part:
        passed = run_part(options.part, device, path)
    else:
        passed = all([run_apart(part, device, path) for part in PARTS])
    if path is not None:
        print(f"written to {path}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
