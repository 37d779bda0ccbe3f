"""Results as text and as pictures."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from trc_lib.course.experiments import pictures
from trc_lib.course.experiments.definitions import FIGURES
from trc_lib.course.experiments.report import label_of, table


def run(mse, error=0.5, **more):
    return {"control_mse": mse, "final_error_mean": error, "final_error_p99": 2 * error,
            "final_error_max": 3 * error, "success_rate": 0.25, "cost_ratio": 1.5} | more


def point(name, ms, mse, label=None, kind="network", iterations=0):
    return {"name": name, "label": label or name, "kind": kind, "iterations": iterations,
            "one_ms": ms, "batch_ms": ms / 10, "runs": [run(mse), run(3 * mse)]}


@pytest.fixture
def results():
    mean = run(2e-3, train_seconds=7.4)
    rows = {name: {"label": f"the {name}", "failed": int(name == "b"), "mean": mean,
                   "runs": [run(1e-3), run(3e-3)]} for name in ("a", "b")}
    front = [point("a", 1.0, 1e-3, "the a"), point("b", 2.0, 1e-3, "the b"),
             point("c", 1.5, 1e-4, "a + Newton", "correction"),
             point("c", 4.0, 1e-16, "a + Newton", "correction", 1)]
    return {"figure": "control_mse", "variants": rows, "front": front}


def test_a_table_has_a_line_a_variant_and_marks_what_decides(results):
    head, *lines = table(results).splitlines()
    assert "[control MSE]" in head and "[final error]" not in head and "cost gap" not in head
    assert [line.split("  ")[0] for line in lines] == ["the a", "the b"]
    assert "2.0e-03" in lines[0] and "25.00%" in lines[0] and "7" in lines[0].split()
    assert lines[1].endswith("1 failed") and "failed" not in lines[0]
    assert len(table(results, ["b"]).splitlines()) == 2


def test_a_point_is_called_by_its_variants_label(results):
    assert label_of(results, results["front"][3]) == "the a + Newton"
    assert label_of(results, point("x", 1, 1, "nothing + C⁺")) == "nothing + C⁺"


def test_what_decides_is_read_from_the_figures_of_a_run():
    assert FIGURES["cost_gap"](run(1.0, cost_ratio=1.25)) == 0.25
    assert FIGURES["cost_gap"](run(1.0, cost_ratio=0.9)) == 1e-12  # no plan beats the teacher's
    assert FIGURES["final_error"](run(1.0, error=0.125)) == 0.125
    assert FIGURES["control_mse"](run(0.75)) == 0.75


def test_every_seed_is_a_dot_and_the_interval_is_that_of_the_logarithms(results):
    axes = plt.figure().gca()
    pictures.draw_seeds(axes, results, ["a", "b"])
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_xdata().tolist() for line in dots] == [[1e-3, 3e-3]] * 2
    low, high = axes.lines[1].get_xdata()  # two seeds: t = 12.7 standard errors
    half = 12.706 * np.std(np.log([1e-3, 3e-3]), ddof=1) / 2**0.5
    assert np.log(high / low) == pytest.approx(2 * half, rel=1e-3)
    assert axes.get_xscale() == "log" and axes.get_ylim() == (1.5, -0.5)
    plt.close("all")


def test_time_is_drawn_with_the_seeds_of_networks_and_a_curve_for_a_correction(results):
    axes = plt.figure().gca()
    pictures.draw_time(axes, results, "batch_ms", ["a", "c"])
    by_label = {line.get_label(): line for line in axes.lines}
    curve = by_label["the a + Newton"]
    assert curve.get_xdata().tolist() == pytest.approx([0.15, 0.4])
    assert curve.get_ydata().tolist() == pytest.approx([2e-4, pictures.FLOOR])
    assert curve.get_linestyle() == "-" and by_label["the a"].get_linestyle() == "None"
    seeds = [line for line in axes.lines if line.get_marker() == "."]
    assert [line.get_ydata().tolist() for line in seeds] == [[1e-3, 3e-3]]
    front = by_label["the front: nothing is faster and better"]
    assert front.get_xdata().tolist() == pytest.approx([0.1, 0.15, 0.4])
    plt.close("all")
