"""All benchmarks but the widgets': ``make bench``. Writes data/results/bench.json and docs/benchmarks.md.

Everything is measured in this one run, so that ratios hold where times do not.
"""

import json
import os
import pathlib
import platform
import sys
import tempfile
import time

import torch

from tests.benchmarks import bench_inference, bench_scan, bench_teacher, bench_training
from tests.documents import write_table
from trc_lib import io
from trc_lib.course.batch.runner import run_course
from trc_lib.course.workspace import root

BEGIN, END = "<!-- speed: written by `make bench` -->", "<!-- end of speed -->"
GROWTH = "<!-- growth: written by `make bench` -->", "<!-- end of growth -->"


def smoke_lane(only=()):
    """Seconds of the whole course on the smoke lane, or of some chapters, in a new folder for the runs.

    Its datasets are in data/smoke; where they lie there already, this saves a moment.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run_course("smoke", out=pathlib.Path(folder) / "run", only=only, say=lambda text: None)
        return time.perf_counter() - started


def measure(quick=False):
    """All parts; ``quick`` runs them tiny, to see that they work."""
    parts = {
        "teacher": lambda: bench_teacher.bench(*((2_000, 20) if quick else ())),
        "training": lambda: bench_training.bench(*((128, 64, 1, (0,)) if quick else ())),
        "loops over time": lambda: bench_scan.bench(quick),
        "inference": lambda: bench_inference.bench(**({"sizes": ("small",), "num_many": 16, "repeats": 3, "compiled": ()}
                                                      if quick else {})),
        "smoke lane (s)": lambda: smoke_lane(("01",) if quick else ())}
    result = {"machine": {"cores": os.cpu_count(), "processor": platform.machine(), "torch": torch.__version__.split("+")[0]}}
    for name, part in parts.items():
        print(f"{name} ...", flush=True)
        result[name] = part()
    return result


def _time(value):
    return "not reached" if value is None else f"{value:.0f} s"


def table(result):
    """The table of docs/benchmarks.md."""
    teacher, training, inference = result["teacher"], result["training"], result["inference"]
    recipes, rivals = training["recipes"], teacher["rivals"]
    slow = recipes["textbook"]["seconds to the headline"]
    soon = recipes["fast recipe"]["seconds to the headline"]
    seeds = recipes["textbook"]["of all seeds"]
    ratio = (slow or recipes["textbook"]["seconds spent"]) / soon
    rows = [
        ("exact solves a second (teacher, float64)", f"{teacher['solves a second'] / 1e6:.1f} million", "10 million"),
        ("… times a loop over OSQP / SciPy / cvxpy", " / ".join(f"{rivals[name]['times slower']:,.0f}" for name in (
            "OSQP, set up for each", "scipy.linalg.lstsq", "cvxpy, one parametrised problem")), "1,000 (OSQP)"),
        (f"training to a mean final error of 0.016, all solved; median of {len(seeds)} seeds", _time(soon), "30 s"),
        ("… chapter 4's recipe", _time(recipes["chapter 4"]["seconds to the headline"]), "–"),
        ("… the textbook's loop", _time(slow) + ("" if slow else f" in {recipes['textbook']['seconds spent']:.0f} s"), "–"),
        ("… … each seed of it", ", ".join(map(_time, seeds)), "–"),
        ("… times sooner than the textbook's", f"{'' if slow else 'more than '}{ratio:.1f}", "5"),
        ("training: share of one core's arithmetic limit", f"{recipes['chapter 4']['share of the arithmetic limit']:.0%}", "–"),
        ("training: peak memory, of which the imports", " / ".join(
            f"{training['peak memory (MB)'][name]:.0f} MB" for name in ("one epoch", "imports only")), "–"),
        ("medium network on disk", f"{training['MB on disk']:.2f} MB", "2.5 MB"),
        ("smoke lane, all notebooks", _time(result["smoke lane (s)"]), "60 s")]
    loops = result["loops over time"]
    for name, row in loops["one problem"].items():
        rows.append((f"oscillator, {name}: compiled; in Python", f"{row['compiled (ms)']:.2f} ms; {row['in Python (ms)']:.1f} ms",
                     f"{bench_scan.AIMS[name]:g} ms"))
    batch = loops["4,000 problems (s)"]
    rows.append(("oscillator, iterative LQR from nothing, 4,000 problems: compiled; in Python",
                 f"{batch['compiled']:.1f} s; {batch['in Python']:.1f} s", f"{bench_scan.BATCH_AIM:g} s"))
    for size, ways in inference.items():
        for name, way in ways.items():
            if isinstance(way, dict):
                rows.append((f"{size}, {name}: one problem; many", f"{way['milliseconds for one']:.2f} ms; "
                             f"{way['problems a second']:,.0f} a second", "0.3 ms; 100,000"))
    lines = [f"| measured on {result['machine']['cores']} cores | here | aim |", "|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def growth_table(result):
    """How cost grows, the second table of docs/benchmarks.md."""
    lines = ["| what, on one core | values | seconds | MB on top | slope |", "|---|---|---|---|---|"]
    for name, row in result["loops over time"]["growth"].items():
        columns = (", ".join(f"{value:,}" for value in row["values"]), ", ".join(f"{value:.2g}" for value in row["seconds"]),
                   ", ".join(f"{value:.0f}" for value in row["MB"]), f"{row['slope']:.2f}")
        lines.append(f"| {name} | {' | '.join(columns)} |")
    return "\n".join(lines)


def main():
    """Measure, write, show."""
    if "--quick" in sys.argv:
        print(json.dumps(measure(quick=True), indent=2))
        return
    result = measure()
    io.write_json(root() / "data" / "results" / "bench.json", result)
    write_table("docs/benchmarks.md", BEGIN, END, table(result))
    write_table("docs/benchmarks.md", *GROWTH, growth_table(result))
    print(table(result))


if __name__ == "__main__":
    main()
