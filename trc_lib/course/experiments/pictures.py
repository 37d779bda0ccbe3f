"""The results of a study as pictures, in the course's style."""

import math

import numpy as np
import scipy.stats
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter

from trc_lib.course import plots  # noqa: F401 - sets the style
from trc_lib.course.experiments.definitions import FIGURES
from trc_lib.course.experiments.front import mean_of, on_the_front
from trc_lib.course.experiments.report import UNITS, label_of

LOOKS = (("#0072B2", "o"), ("#D55E00", "^"), ("#009E73", "s"), ("#CC79A7", "D"), ("#E69F00", "v"),
         ("#56B4E9", "P"), ("#000000", "X"), ("#8C6BB1", "<"), ("#666666", ">"))
FLOOR = 1e-12  # of a figure in a picture with a logarithmic axis; smaller ones are rounding


def draw_seeds(axes, results, names, figure=None):
    """A line for each variant: every seed a dot, and the mean with its 95 % interval.

    The interval is of the mean of the logarithms, by the t-distribution.
    """
    figure = results["figure"] if figure is None else figure
    for line, name in enumerate(names):
        values = np.array([run[figure] for run in results["variants"][name]["runs"]])
        color = LOOKS[0][0] if "mlp" not in name else "#666666"
        axes.plot(values, [line] * len(values), "o", color=color, alpha=0.55, markersize=6)
        logs = np.log(values)
        if len(values) > 1 and np.ptp(logs):
            half = scipy.stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / len(logs) ** 0.5
            axes.plot(np.exp([logs.mean() - half, logs.mean() + half]), [line, line],
                      color="black", linewidth=1.6)
        axes.plot(np.exp(logs.mean()), line, "|", color="black", markersize=14)
    axes.set(xscale="log", xlabel=UNITS.get(figure, figure), ylim=(len(names) - 0.5, -0.5))
    axes.set_yticks(range(len(names)), [results["variants"][name]["label"] for name in names])
    narrow = np.divide(*axes.get_xlim()[::-1]) < 30
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
    axes.xaxis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(9, 9)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def draw_time(axes, results, clock, names):
    """Error against time: networks as points with their seeds, corrections as curves.

    Args:
        axes: of matplotlib.
        results: as `load_results` reads them.
        clock: ``"one_ms"`` or ``"batch_ms"``.
        names: of variants and corrections, in the order of their looks.
    """
    value = FIGURES[results["figure"]]
    points = [point for point in results["front"] if point["name"] in names]
    for (color, marker), name in zip(LOOKS * math.ceil(len(names) / len(LOOKS)), names):
        own = [point for point in points if point["name"] == name]
        times = [point[clock] for point in own]
        means = [max(mean_of(point, value), FLOOR) for point in own]
        line = "-" if own[0]["kind"] == "correction" else "none"
        axes.plot(times, means, linestyle=line, marker=marker, color=color, markersize=6,
                  linewidth=1.4, label=label_of(results, own[0]))
        for point in own:
            seeds = [max(value(run), FLOOR) for run in point["runs"]]
            if point["kind"] == "network":
                axes.plot([point[clock]] * len(seeds), seeds, ".", color=color, alpha=0.5)
    front = on_the_front(points, value, clock)
    axes.step([point[clock] for point in front],
              [max(mean_of(point, value), FLOOR) for point in front], where="post",
              color="0.75", linewidth=6, zorder=0, label="the front: nothing is faster and better")
    axes.set(xscale="log", yscale="log", title={"one_ms": "one problem by itself",
                                               "batch_ms": "one of a batch of 4,096"}[clock],
             xlabel="time (ms)", ylabel=UNITS[results["figure"]])
    decades = math.log10(axes.get_xlim()[1] / axes.get_xlim()[0])
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.label_outer()
