"""The course's results beside the description's, as a table for the terminal and for the README."""

from trc_lib import io
from trc_lib.course.workspace import root

BEGIN, END = "<!-- results: written by `make course` -->", "<!-- end of results -->"

# What the description of the original system reports; quoted, not measured here.
DESCRIPTION = {"mean final error": "0.016", "success rate (final error < 0.1)": "100 %", "parameters": "~600K", "epochs": "28",
               "control MSE ((m/s²)²)": "4.9e-05 (last loss)", "training problems": "10,000"}


def comparison(results):
    """Rows of (quantity, this course, the description)."""
    training, network = results["04_training"], results["05_evaluation"]["this network"]
    sampled, linear = results["05_evaluation"]["continuous law, sampled"], results["05_evaluation"]["linear map, least squares"]
    ours = {
        "mean final error": f"{network['final_error_mean']:.4f}",
        "99th percentile / largest": f"{network['final_error_p99']:.4f} / {network['final_error_max']:.4f}",
        "success rate (final error < 0.1)": f"{network['success_rate']:.1%}".replace("%", " %"),
        "control MSE ((m/s²)²)": f"{network['control_mse']:.1e}",
        "parameters": f"{network['numbers']:,}",
        "training problems": f"{results['num_train']:,}",
        "epochs": f"{training['epochs']}",
        f"training time (s, {training['device']})": f"{training['seconds']:.0f}",
        "mean final error of the continuous law, sampled": f"{sampled['final_error_mean']:.4f}",
        "mean final error of a linear map, 60 numbers": f"{linear['final_error_mean']:.0e}",
    }
    return [(quantity, value, DESCRIPTION.get(quantity, "–")) for quantity, value in ours.items()]


def closing_table(results, folder):
    """The comparison for the terminal, and where to look next: ``folder`` holds the executed notebooks."""
    rows = [("", "this course", "the description"), *comparison(results)]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ["  ".join((row[0].ljust(widths[0]), row[1].rjust(widths[1]), row[2].rjust(widths[2]))) for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(["", *lines, "", f"Next: the executed notebooks are in {folder}/; open the course itself with: make lab"])


def readme_table(results):
    """The comparison as Markdown."""
    num_eval = results["05_evaluation"]["num_eval"]
    lines = [f"| {num_eval:,} unseen problems, lane `{results['lane']}` | this course | the description |", "|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in comparison(results)])


def into_readme(begin, end, table):
    """Put ``table`` into the course's README between two marks; where there is none, nothing is done."""
    readme = root() / "README.md"
    if readme.exists():
        io.write_text(readme, replace_between(readme.read_text(encoding="utf-8"), begin, end, table))


def replace_between(readme, begin, end, table):
    """The README's text with ``table`` between two marks; unchanged where the marks are missing."""
    if begin not in readme or end not in readme:
        return readme
    before, rest = readme.split(begin, 1)
    return f"{before}{begin}\n{table}\n{end}{rest.split(end, 1)[1]}"
