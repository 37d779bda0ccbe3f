"""The results of the course beside the description's, and tables for the terminal."""

import sys

from trc_lib import io
from trc_lib.course.places import root

# What the description of the original system reports; quoted, not measured here.
DESCRIPTION = {"mean final error": "0.016", "success rate (final error < 0.1)": "100 %",
               "control MSE ((m/s²)²)": "4.9e-05 (last loss)", "parameters": "~600K",
               "training problems": "10,000", "epochs": "28"}


def comparison(results):
    """Rows of (quantity, this course, the description)."""
    training, evaluation = results["04_training"], results["05_evaluation"]
    network, sampled, linear = (evaluation[name] for name in (
        "this network", "continuous law, sampled", "linear map, least squares"))
    largest = f"{network['final_error_p99']:.4f} / {network['final_error_max']:.4f}"
    ours = {
        "mean final error": f"{network['final_error_mean']:.4f}",
        "99th percentile / largest": largest,
        "success rate (final error < 0.1)": f"{100 * network['success_rate']:.1f} %",
        "control MSE ((m/s²)²)": f"{network['control_mse']:.1e}",
        "parameters": f"{network['numbers']:,}",
        "training problems": f"{results['num_train']:,}",
        "epochs": f"{training['epochs']}",
        f"training time (s, {training['device']})": f"{training['seconds']:.0f}",
        "mean final error of the continuous law, sampled": f"{sampled['final_error_mean']:.4f}",
        "mean final error of a linear map, 60 numbers": f"{linear['final_error_mean']:.0e}"}
    return [(quantity, value, DESCRIPTION.get(quantity, "–")) for quantity, value in ours.items()]


def aligned(rows, first=str.rjust):
    """Rows of words as lines of equal width, the first underlined; ``first`` aligns column one."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join([first(row[0], widths[0]), *map(str.rjust, row[1:], widths[1:])])
             for row in rows]
    return "\n".join(["", lines[0], "-" * len(lines[0]), *lines[1:], ""])


def closing_table(results, folder):
    """The comparison for the terminal, and where to look next: at the notebooks in ``folder``."""
    rows = [("", "this course", "the description"), *comparison(results)]
    lab = ("make lab" if (root() / "Makefile").exists()
           else io.command(sys.executable, "-m", "trc_lib", "lab"))
    return (f"{aligned(rows, str.ljust)}\nNext: the executed notebooks are in {folder}/; "
            f"open the course itself with: {lab}")
