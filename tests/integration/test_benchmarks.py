"""The benchmarks run, and the documents show what they measured."""

import dataclasses
import json

import pytest
import torch

from tests import ROOT
from tests.benchmarks import bench, bench_store, check_gpu
from trc_lib import io
from trc_lib.course import PRESETS

MEASURED = ROOT / "data" / "results" / "bench.json"


def test_every_part_runs_and_the_solvers_agree_with_the_teacher(capfd):
    result = bench.measure(quick=True)
    rivals = result["teacher"]["rivals"].values()
    assert all(rival["largest difference"] < 1e-6 for rival in rivals)
    assert all(rival["times slower"] > 0 for rival in rivals)  # by how much: on a quiet machine
    assert set(result["training"]["recipes"]) == {"fast recipe", "chapter 4", "textbook"}
    assert sum(result["training"]["where a step's time goes"].values()) <= 1 + 1e-9
    assert set(result["inference"]["small"]) == {
        "multiply-adds", "arithmetic alone", "PyTorch", "ONNX Runtime"}
    said = capfd.readouterr().out
    assert "01_teacher: " in said and "02_dataset" not in said  # quick is one chapter
    assert result["smoke lane (s)"] > 1                         # no kernel starts in less
    json.dumps(result)


@pytest.mark.skipif(not MEASURED.exists(), reason="nothing was measured yet: make bench")
def test_the_document_shows_what_was_measured():
    document = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    table = bench.table(io.read_json(MEASURED))
    assert f"{bench.BEGIN}\n{table}\n{bench.END}\n" in document
    assert "| exact solves a second" in table


def test_the_store_is_measured_in_processes_of_their_own():
    result = bench_store.bench((1_000,))
    assert result["1,000"]["MB on disk"] > 1_000 * 19 * 4 / 1e6
    assert result["1,000"]["read"]["peak memory (MB)"] > 100


def test_the_document_shows_what_a_store_costs_which_grows_in_proportion():
    document = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    result = io.read_json(ROOT / "data" / "results" / "store.json")
    assert f"{bench_store.BEGIN}\n{bench_store.table(result)}\n{bench_store.END}\n" in document
    small, large = result["1,000,000"], result["10,000,000"]
    for what in ("make", "read"):
        assert 5 < large[what]["seconds on a core"] / small[what]["seconds on a core"] < 15
        assert large[what]["peak memory (MB)"] < small[what]["peak memory (MB)"] + 50 < 1000
    assert 9.9 < large["MB on disk"] / small["MB on disk"] < 10.1


TINY = dataclasses.replace(PRESETS["smoke"], num_train=64, num_eval=32)
SHORT = dataclasses.replace(TINY, training=dataclasses.replace(TINY.training, epochs=1))


def test_the_check_of_a_gpu_runs_with_the_cpu_in_its_place(capsys):
    ways = ("float32", "bfloat16 with TF32")
    result = check_gpu.measure("cpu", SHORT, 1, 200, ways, small=SHORT)
    assert result["passed"] and result["differences"].keys() == check_gpu.TOLERANCES.keys()
    assert all(value > 0 for value in result["problems a second"].values())
    assert result["training"]["epochs"] == 1 and "FAIL" not in capsys.readouterr().out
    json.dumps(result)


def test_the_check_of_a_gpu_sees_a_network_that_differs(monkeypatch):
    predict, offsets = check_gpu.TinyRecursiveControl.predict, iter((0, 1e-3))

    def differs_the_second_time(*states):
        return {"cycle_controls": predict(*states)["cycle_controls"] + next(offsets)}

    monkeypatch.setattr(check_gpu.TinyRecursiveControl, "predict", differs_the_second_time)
    name = "network, float32: largest difference of a control, over the largest control"
    assert check_gpu.network("cpu")[name] > check_gpu.TOLERANCES[name]


def test_a_way_that_does_not_work_is_reported_and_the_others_are_measured(monkeypatch):
    does_not_work = ({"compile": True}, "highest", {"mode": "magic"})
    monkeypatch.setitem(check_gpu.WAYS, "compiled", does_not_work)
    speeds = check_gpu.speeds("cpu", SHORT, 64, ("compiled", "float32"))
    assert "magic" in speeds["compiled"] and speeds["float32"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: make check-gpu")
def test_without_a_gpu_the_check_says_so_and_writes_nothing(capsys):
    written = ROOT / "data" / "results" / "gpu.json"
    before = written.read_bytes() if written.exists() else None
    assert check_gpu.main([]) == 1
    assert "sees no CUDA device" in capsys.readouterr().err
    assert (written.read_bytes() if written.exists() else None) == before
