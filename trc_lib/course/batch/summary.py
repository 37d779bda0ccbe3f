"""What came of a grid of runs: a table for the terminal, all figures as CSV, and a picture."""

import csv
from io import StringIO

from trc_lib import io

# What a grid is judged by: where metrics.json has it, what the table calls it, and what the picture calls it.
HEADLINES = (
    ("04_training.best_epoch.eval_final_error", "error", "mean final error"),
    ("04_training.best_epoch.eval_success", "success", "success"),
    ("04_training.best_epoch.eval_loss", "MSE", "control MSE ((m/s²)²)"),
    ("04_training.seconds", "seconds", "training (s)"),
    ("05_evaluation.this network.final_error_mean", "ch. 5 error", "mean final error in chapter 5"),
    ("05_evaluation.this network.final_error_max", "ch. 5 largest", "largest final error in chapter 5"))


def row(job, ended):
    """One job of a grid: what it was given, how it ended, and, if well, every number that its notebooks recorded."""
    path = job.folder / "metrics.json"
    figures = dict(_numbers(io.read_json(path))) if ended == "done" else {}
    return {"job": job.name, "given": job.swept, "ended": ended, "figures": figures}


def _numbers(nest, name=""):
    """The numbers in a nest of dicts, by their path."""
    for key, value in nest.items():
        path = f"{name}.{key}" if name else key
        if isinstance(value, dict):
            yield from _numbers(value, path)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield path, value


def write(rows, folder):
    """Write ``summary.csv``, with all figures, and, if there are any to show, ``summary.png`` to ``folder``, each whole."""
    from trc_lib.course import plots  # here, since a run that is not a grid needs no picture

    figures = list(dict.fromkeys(name for each in rows for name in each["figures"]))
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*rows[0]["given"], "ended", *figures])
    for each in rows:
        writer.writerow([*each["given"].values(), each["ended"], *(each["figures"].get(name, "") for name in figures)])
    io.write_text(folder / "summary.csv", text.getvalue())
    shown = {title: [each["figures"].get(name) for each in rows] for name, _, title in HEADLINES if name in figures}
    if shown:
        with io.written_whole(folder / "summary.png") as temporary:
            plots.grid([each["given"] for each in rows], shown).savefig(temporary, format="png")


def table(rows):
    """The jobs for the terminal, a line each."""
    known = {name: label for name, label, _ in HEADLINES if any(name in each["figures"] for each in rows)}
    lines = [[*rows[0]["given"], "ended", *known.values()]]
    for each in rows:
        figures = (each["figures"].get(name) for name in known)
        lines.append([*map(str, each["given"].values()), each["ended"], *("" if v is None else f"{v:.4g}" for v in figures)])
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = ["  ".join(word.rjust(width) for word, width in zip(line, widths)) for line in lines]
    text.insert(1, "-" * len(text[0]))
    return "\n".join(["", *text, ""])
