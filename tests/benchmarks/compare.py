"""Two commits held against each other: ``make compare A=main~10 B=main``.

Each is checked out beside the other, and both take turns on this machine, so that what disturbs it
disturbs both. What is measured is written here and runs on either; what a commit cannot do is said.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tasks(size):
    """``{name: a function that returns what is timed}``; imports are of the commit that runs this."""
    def exact():
        from trc_lib.data import sample_states
        from trc_lib.teachers import MinimumEnergyController
        teacher, states = MinimumEnergyController(), sample_states(1000 * size, seed=0)
        return lambda: teacher.solve(*states)

    def bounded():
        from trc_lib.problems import bounded_inputs
        return lambda: bounded_inputs().dataset(100 * size)

    def optima(number):
        from trc_lib.data import sample_states
        from trc_lib.problems import van_der_pol
        teacher, states = van_der_pol().teacher, sample_states(number, 0, 2, 2.0, 0.0)
        return lambda: teacher.solve(*states)

    def roll_out():
        import torch

        from trc_lib.systems import VanDerPol
        system, x0, u = VanDerPol(), torch.ones(1, 2), torch.zeros(1, 100, 1)
        return lambda: system.rollout(x0, u)

    def network(name):
        import torch

        from trc_lib.model import TinyRecursiveControl
        model = TinyRecursiveControl.load(ROOT / f"data/pretrained/{name}.pt").eval()
        x0, xT = torch.ones(1, 2), torch.zeros(1, 2)
        return lambda: model.solve(x0, xT)

    def epoch():
        from trc_lib.data import EVAL_SEED, generate_dataset
        from trc_lib.model import TinyRecursiveControl
        from trc_lib.training import TrainConfig, train
        sets = generate_dataset(10 * size), generate_dataset(100, EVAL_SEED)
        return lambda: train(TinyRecursiveControl.create_two_level_medium(), *sets, TrainConfig(epochs=1), progress=False)

    def start():
        return lambda: subprocess.run([sys.executable, "-c", "import trc_lib.model, trc_lib.training"], check=True)

    return {"exact solves of the cart": exact, "problems of bounded inputs": bounded,
            "one optimum of the oscillator": lambda: optima(1), "optima of the oscillator": lambda: optima(size),
            "one roll-out of the oscillator": roll_out,
            "one problem, medium network": lambda: network("two_level_medium"),
            "one problem, chapter 9's network": lambda: network("laboratory/van_der_pol_gradient"),
            "an epoch of the medium network": epoch, "importing the library": start}


def measure(size):
    """Median seconds of each task, or in words why it does not run."""
    found = {}
    for name, make in tasks(size).items():
        try:
            call = make()
            call()
            taken = []
            while len(taken) < 3 or (sum(taken) < 0.5 and len(taken) < 200):
                started = time.perf_counter()
                call()
                taken.append(time.perf_counter() - started)
            found[name] = statistics.median(taken)
        except Exception as error:  # of another time of the library
            found[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return found


def compare(commits, rounds, size, say=print):
    """Rows (task, seconds of A, seconds of B); seconds are medians over the rounds."""
    runs = {commit: [] for commit in commits}
    with tempfile.TemporaryDirectory() as folder:
        places = {commit: pathlib.Path(folder) / str(i) for i, commit in enumerate(commits)}
        try:
            for commit, place in places.items():
                subprocess.run(["git", "worktree", "add", "--quiet", "--detach", place, commit], cwd=ROOT, check=True)
            for i in range(rounds):
                for commit, place in places.items():
                    say(f"round {i + 1} of {rounds}: {commit}", flush=True)
                    run = subprocess.run([sys.executable, __file__, "--measure", str(size)], cwd=place, check=True,
                                         capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(place)})
                    runs[commit].append(json.loads(run.stdout.splitlines()[-1]))
        finally:
            for place in places.values():
                subprocess.run(["git", "worktree", "remove", "--force", place], cwd=ROOT, capture_output=True)

    def middle(values):
        words = [value for value in values if isinstance(value, str)]
        return words[0] if words else statistics.median(values)

    return [(name, *(middle([run[name] for run in runs[commit]]) for commit in commits)) for name in tasks(size)]


def table(rows, commits):
    """For people: milliseconds, and how many times faster the second is."""
    lines = [f"| ms | {' | '.join(commits)} | times faster |", "|---|---|---|---|"]
    for name, *values in rows:
        cells = [value if isinstance(value, str) else f"{1e3 * value:.3g}" for value in values]
        ratio = "–" if any(isinstance(value, str) for value in values) else f"{values[0] / values[1]:.2f}"
        lines.append(f"| {name} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


def main(words=None):
    """Compare, show; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compare", description=__doc__.splitlines()[0])
    parser.add_argument("commits", nargs="*", help="two of them, as git names them", metavar="COMMIT")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--size", type=int, default=1000, help="of the batches")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return 0
    if len(options.commits) != 2:
        parser.error("needs two commits, such as: main~10 main")
    for commit in options.commits:
        if subprocess.run(["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True).returncode:
            parser.error(f"git knows no commit {commit!r}")
    print(table(compare(options.commits, options.rounds, options.size), options.commits))
    return 0


if __name__ == "__main__":
    sys.exit(main())
