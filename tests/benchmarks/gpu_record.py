"""What the parts of `check_gpu` measure: how much, what is accepted, and the file it goes to."""

import contextlib
import dataclasses
import os
import pathlib
import platform
import statistics
import time

import torch

from trc_lib import io
from trc_lib.course import PRESETS

LIMIT = 240  # seconds of one part; what would begin later is not measured
TOLERANCES = {  # largest that is accepted
    "teacher, double_integrator: largest difference of a control": 1e-9,
    # It stops where the cart ends within 1e-10.
    "teacher, bounded_inputs: largest difference of a control": 1e-7,
    # It stops where an iteration promises less than 1e-9.
    "teacher, van_der_pol: largest relative difference of a cost": 1e-6,
    "teacher, weak_van_der_pol: largest relative difference of a cost": 1e-6,
    "network, float32: largest difference of a control, over the largest control": 1e-5,
    "roll-out, TF32 allowed: largest difference of a state, over the largest state": 1e-5,
    "smoke lane: mean final error, ratio (the larger over the smaller)": 1.25,
    "smoke lane: first epoch's train loss, relative difference": 1e-3,
    "waits for the device in 8 more steps of training": 0,
    # The CPU's five seeds are within 0.5 and 2 times their mean.
    "oscillator: gap over the optimum, over the mean of the CPU's runs": 3,
}
AIMS = {  # no failure where they are missed
    "gpu lane, seconds of training": ("at most", 60),
    "exact solves a second": ("at least", 5e9),
    "oscillator optima a second, 65,536 at once": ("at least", 500_000),
}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        compared: problems that the teachers solve on both devices.
        small: the `Preset` that is trained on both.
        lane: the preset of the parts ``ways`` and ``papermill``.
        timed: problems of an epoch in ``ways``.
        ways: names of the ways to train; None for all.
        batches: what is solved or rolled out at once, by the names in `gpu_batches`.
        side: of the matrices whose product measures the arithmetic.
        copied: bytes of the copy that measures the memory.
        counted: problems whose arithmetic is counted; 0 counts none.
        problems: to train on, to validate and to test with, in ``oscillator``; None for all of the
            study's.
        epochs: of each training there; None for the study's.
    """

    compared: int
    small: object
    lane: str
    timed: int
    ways: tuple | None
    batches: dict
    side: int
    copied: int
    counted: int
    problems: tuple | None
    epochs: int | None


_GROWING = (1_000, 10_000, 100_000, 1_000_000)
FULL = Sizes(100_000, PRESETS["smoke"], "gpu", 100_000, None, {
    "exact solves": (*_GROWING, 10_000_000), "solves with bounded inputs": _GROWING,
    "oscillator optima": (1_024, 8_192, 65_536), "oscillator roll-outs": _GROWING},
    8_192, 2**30, 8, None, None)
_SHORT = dataclasses.replace(PRESETS["smoke"].training, epochs=1)
TINY = Sizes(200, dataclasses.replace(PRESETS["smoke"], num_train=64, num_eval=32, training=_SHORT),
             "smoke", 64, ("float32", "bfloat16 with TF32"),
             dict.fromkeys(FULL.batches, (2, 4)), 64, 2**16, 0, (16, 8, 8), 1)


def machine(device):
    """What the figures hold for."""
    cuda = torch.device(device).type == "cuda"
    return {"device": torch.cuda.get_device_name(device) if cuda else platform.machine(),
            "cores": os.cpu_count(), "torch": torch.__version__, "cuda": torch.version.cuda}


class Record:
    """The figures of one part. Each is written to the file as soon as it is there.

    Args:
        part: its name.
        device: where it is measured.
        path: of the file; None writes nothing. Parts that are there already are kept, if the same
            card and the same PyTorch measured them.
        figures: that the part has already.
    """

    def __init__(self, part, device, path=None, figures=None):
        self.part, self.machine = part, machine(device)
        self.path = None if path is None else pathlib.Path(path)
        self.figures = {"outcome": "not finished"} if figures is None else figures
        self.started = time.perf_counter()

    @classmethod
    def again(cls, part, device, path):
        """The record of a part that was measured in another process."""
        record = cls(part, device, path)
        record.figures = record.contents()["parts"].get(part, record.figures)
        return record

    def contents(self):
        """Of the file, without what another machine measured."""
        if self.path is not None and self.path.exists():
            found = io.read_json(self.path)
            if all(found["machine"][name] == self.machine[name] for name in ("device", "torch")):
                return found
        return {"machine": self.machine, "parts": {}}

    @property
    def seconds_left(self):
        return LIMIT - (time.perf_counter() - self.started)

    def __setitem__(self, name, figure):
        self.figures |= {name: figure}
        if self.path is not None:
            contents = self.contents()
            contents["parts"][self.part] = self.figures
            io.write_json(self.path, contents | {"machine": self.machine})

    def fail(self, words):
        """Something went wrong; the part goes on, and ends as failed."""
        print(f"  FAIL {words}", flush=True)
        self["failures"] = [*self.figures.get("failures", ()), words]

    def judge(self, name, value):
        """Compare a difference with what `TOLERANCES` accepts."""
        most = TOLERANCES[name]
        self["differences"] = self.figures.get("differences", {}) | {name: value}
        if value <= most:
            print(f"  OK   {name}: {value:.2g} (at most {most:g})", flush=True)
        else:
            self.fail(f"{name}: {value:.2g} (at most {most:g})")

    def aim(self, name, value):
        """Set a figure beside what it should be some day."""
        words, wanted = AIMS[name]
        reached = value <= wanted if words == "at most" else value >= wanted
        self["aims"] = self.figures.get("aims", {}) | {
            name: {"measured": value, words: wanted, "reached": reached}}
        print(f"  {name}: {value:,.4g} (the aim: {words} {wanted:,g}, "
              f"{'reached' if reached else 'not reached'})", flush=True)

    def end(self):
        """Write how it ended, and return whether all is well."""
        failures = self.figures.get("failures", ())
        self["seconds"] = round(time.perf_counter() - self.started, 1)
        self["outcome"] = "; ".join(failures) or "OK"
        return not failures


def words_of(error):
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


def wait_for(device):
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(call, device, first=5.0, others=1.0):
    """Seconds of a call: of the first, if that takes longer than ``first``; else of others.

    The first may compile. Of the others, 50 or as many as begin within ``others`` seconds, it is
    the median. The device's work is waited for after each.
    """
    taken = []
    while not taken or (taken[0] <= first and len(taken) <= 50 and sum(taken[1:]) < others):
        started = time.perf_counter()
        call()
        wait_for(device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:] or taken)


@contextlib.contextmanager
def precision(name):
    """Matrix products in this precision, as `torch.set_float32_matmul_precision` calls it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
