"""The figures of a grid of runs: a table for the terminal, a CSV file and a picture."""

import csv
from io import StringIO

from trc_lib import io
from trc_lib.course.batch.report import aligned

# The figures that are shown: path in metrics.json, name in the table, name in the picture.
HEADLINES = (
    ("04_training.best_epoch.eval_final_error", "error", "mean final error"),
    ("04_training.best_epoch.eval_success", "success", "success"),
    ("04_training.best_epoch.eval_loss", "MSE", "control MSE ((m/s²)²)"),
    ("04_training.seconds", "seconds", "training (s)"),
    ("05_evaluation.this network.final_error_mean", "ch. 5 error", "mean final error in chapter 5"),
    ("05_evaluation.this network.final_error_max", "ch. 5 largest",
     "largest final error in chapter 5"))


def row(job, ended):
    """One job: what it was given, how it ended, and, if well, every number that it recorded."""
    figures = dict(_numbers(io.read_json(job.folder / "metrics.json"))) if ended == "done" else {}
    return {"job": job.name, "given": job.swept, "ended": ended, "figures": figures}


def _numbers(nest, prefix=""):
    """The numbers in a nest of dicts, by their path."""
    for key, value in nest.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + key, value


def write(rows, folder):
    """Write all figures to ``summary.csv`` in ``folder``, and the headlines to ``summary.png``."""
    from trc_lib.course import plots  # here, since only a grid needs the picture

    names = list(dict.fromkeys(name for each in rows for name in each["figures"]))
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*rows[0]["given"], "ended", *names])
    for each in rows:
        figures = [each["figures"].get(name, "") for name in names]
        writer.writerow([*each["given"].values(), each["ended"], *figures])
    io.write_text(folder / "summary.csv", text.getvalue())
    shown = {title: [each["figures"].get(name) for each in rows]
             for name, _, title in HEADLINES if name in names}
    if shown:
        with io.written_whole(folder / "summary.png") as temporary:
            plots.grid([each["given"] for each in rows], shown).savefig(temporary, format="png")


def table(rows):
    """The jobs for the terminal, a line each; nothing where there is nothing to compare."""
    shown = {name: label for name, label, _ in HEADLINES
             if any(name in each["figures"] for each in rows)}
    if not shown and not rows[0]["given"]:
        return ""
    lines = [[*rows[0]["given"], "ended", *shown.values()]]
    for each in rows:
        figures = ("" if value is None else f"{value:.4g}"
                   for value in map(each["figures"].get, shown))
        lines.append([*map(str, each["given"].values()), each["ended"], *figures])
    return aligned(lines)
