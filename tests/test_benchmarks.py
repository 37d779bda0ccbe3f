"""The benchmarks run, and the README shows what they measured."""

import json
import pathlib

import pytest

from tests.benchmarks import bench
from trc_lib.course.report import replace_between

ROOT = pathlib.Path(__file__).resolve().parents[1]
MEASURED = ROOT / "data" / "results" / "bench.json"


def test_every_part_runs_and_the_solvers_agree_with_the_teacher(capsys):
    result = bench.measure(quick=True)
    assert all(rival["largest difference"] < 1e-6 for rival in result["teacher"]["rivals"].values())
    assert all(rival["times slower"] > 0 for rival in result["teacher"]["rivals"].values())  # how many: on a quiet machine
    assert set(result["training"]["recipes"]) == {"fast recipe", "chapter 4", "textbook"}
    assert sum(result["training"]["where a step's time goes"].values()) <= 1 + 1e-9
    assert set(result["inference"]["small"]) == {"multiply-adds", "arithmetic alone", "PyTorch", "ONNX Runtime"}
    json.dumps(result)


@pytest.mark.skipif(not MEASURED.exists(), reason="nothing was measured yet: make bench")
def test_the_readme_shows_what_was_measured():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == replace_between(readme, bench.BEGIN, bench.END, bench.table(json.loads(MEASURED.read_text())))
    assert bench.BEGIN in readme and "| exact solves a second" in readme
