"""All of it: ``make torture`` (about an hour). Writes data/results/reliability.json and docs/reliability.md.

``--only kills corruption ...`` runs some parts again and keeps the rows of the others.
"""

import argparse
import sys
import time

import numpy as np
import torch
from tqdm.auto import tqdm

from tests.documents import write_table
from tests.system.torture import bad_input, corruption, figures, kills, platforms, surroundings
from trc_lib import io
from trc_lib.course.workspace import root

RESULTS = root() / "data" / "results" / "reliability.json"
BEGIN, END = "<!-- reliability: written by `make torture` -->", "<!-- end of reliability -->"
SEED = 0

PARTS = {  # name: what is called, each giving a row or a list of rows
    "kills": lambda rng, advance: [kill(50, rng, advance) for kill in kills.ALL],
    "course": lambda rng, advance: kills.course(50, rng, advance),
    "corruption": lambda rng, advance: [*corruption.everything_damaged(200, rng, advance),
                                        corruption.source_notebooks(200, rng, advance), corruption.malicious_pickles(advance)],
    "bad input": lambda rng, advance: [bad_input.one_by_one(advance), bad_input.by_hypothesis(2_000, advance)],
    "surroundings": lambda rng, advance: [
        surroundings.full_disk(10, advance), surroundings.read_only(advance), surroundings.no_home(advance),
        surroundings.no_network(advance), surroundings.elsewhere(advance), surroundings.odd_paths(advance),
        surroundings.encodings(advance), surroundings.foreign_kernels(advance), surroundings.installations(advance),
        surroundings.two_at_once(5, advance), surroundings.clock_set_back(advance), surroundings.dead_kernel(3, advance)],
    "platforms": lambda rng, advance: [
        platforms.writers(2, rng, advance), platforms.ended_at_once(5, advance), platforms.without_posix(advance),
        platforms.apple_gpu(advance), platforms.other_devices(advance)],
    "numbers": lambda rng, advance: [*figures.threads_and_processes(4, advance), figures.ill_conditioned(advance),
                                     figures.gradients_of_ill_conditioned_costs(advance)],
}


def measure(name):
    """The rows of one of the `PARTS`."""
    with tqdm(unit=" trials", desc=name) as bar:
        rows = PARTS[name](np.random.default_rng(SEED), bar.update)
    return [row.contents() for row in (rows if isinstance(rows, list) else [rows])]


def table(result):
    """The table of docs/reliability.md."""
    lines = ["| what is done to it | tries | survived | how they ended |", "|---|---|---|---|"]
    for row in (row for rows in result["rows"].values() for row in rows):
        ends = (row.get("not tried") and f"not tried: {row['not tried']}") or ", ".join(
            f"{name} {count:,}" for name, count in sorted(row["outcomes"].items(), key=lambda item: -item[1]))
        lines.append(f"| {row['subject']}: {row['name']} | {row['tries']:,} | {row['survived']:,} | {ends} |")
    return "\n".join(lines)


def main():
    """Measure, write, show; exit code 1 if anything was not survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.torture", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    only = parser.parse_args().only
    torch.set_num_threads(1)  # children are forked, which PyTorch's other threads would not outlive
    started, rows = time.perf_counter(), io.read_json(RESULTS)["rows"] if RESULTS.exists() else {}
    for name in only:
        rows[name] = measure(name)
        ordered = {name: rows[name] for name in PARTS if name in rows}
        result = {"seed": SEED, "torch": torch.__version__.split("+")[0], "rows": ordered}
        io.write_json(RESULTS, result)  # after each part: none of them is soon done again
    write_table("docs/reliability.md", BEGIN, END, table(result))
    print(table(result), f"\n{time.perf_counter() - started:.0f} s")
    failures = [(row["name"], failure) for name in only for row in rows[name] for failure in row.get("failures", ())]
    for name, failure in failures:
        print(f"not survived: {name}: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
