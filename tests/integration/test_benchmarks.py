"""The benchmarks run, and the documents show what they measured."""

import dataclasses
import functools
import json
import subprocess
import sys
import time

import pytest
import torch

from tests import ROOT
from tests.benchmarks import (
    bench,
    bench_store,
    check_gpu,
    gpu_agreement,
    gpu_batches,
    gpu_record,
    gpu_training,
)
from trc_lib import io
from trc_lib.teachers import IterativeLQR

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


PARTS = {  # what a rehearsal of each writes, besides "outcome" and "seconds"
    "agreement": {"the doctor misses", "differences"},
    "ways": {"problems a second"},
    "papermill": {"lane", "seconds of the notebook", "seconds an epoch", "results"},
    "batches": {"limits", *gpu_record.TINY.batches, "aims"},
    "oscillator": {"on one core of a CPU", "seconds to make the data, on the CPU",
                   "training proposal", "after the proposal", "training cycles",
                   "after the cycles"},
}


@pytest.mark.parametrize("part", PARTS)
def test_each_part_of_the_check_of_a_gpu_runs_with_the_cpu_in_its_place(part, tmp_path, capsys):
    path = tmp_path / "gpu.json"
    assert check_gpu.main(["--part", part, "--device", "cpu", "--out", str(path)]) == 0
    found = io.read_json(path)
    assert found["machine"]["torch"] == torch.__version__ and list(found["parts"]) == [part]
    found = found["parts"][part]
    assert found["outcome"] == "OK" and "FAIL" not in capsys.readouterr().out
    assert found.keys() == PARTS[part] | {"outcome", "seconds"}
    if part == "papermill":
        assert found["results"]["epochs"] == len(found["seconds an epoch"]) == 3
    if part == "agreement":
        assert found["differences"].keys() == gpu_record.TOLERANCES.keys() - {
            "oscillator: gap over the optimum, over the mean of the CPU's runs"}


NO_JUPYTER = """
import sys
for name in ("IPython", "anywidget", "ipykernel", "ipywidgets", "jupyter_client", "jupyterlab",
             "llvmlite", "matplotlib", "nbclient", "nbformat", "papermill", "submitit"):
    sys.modules[name] = None
from tests.benchmarks import check_gpu, gpu_record
from trc_lib.course import doctor
doctor._kernel = lambda: ("notebook kernel", False, "no Jupyter", "")
sys.exit(check_gpu.main(["--device", "cpu", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("part", PARTS)
def test_no_part_needs_jupyter_and_without_papermill_the_lane_is_trained_alone(part, tmp_path):
    path = tmp_path / "gpu.json"
    words = [sys.executable, "-c", NO_JUPYTER, "--part", part, "--out", str(path)]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = io.read_json(path)["parts"][part]
    if part == "papermill":
        assert found["papermill"].startswith("not measured: papermill, ipykernel, ")
        assert found["training alone"]["success_rate"] >= 0
    if part == "agreement":
        assert found["the doctor misses"] == {"notebook kernel": "no Jupyter"}


def test_a_part_that_fails_or_dies_stops_no_other_and_loses_no_figure(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("""
import os
def dies(device, sizes, record):
    record["measured"] = 1
    os._exit(9)
def fails(device, sizes, record):
    record["measured"] = 2
    raise RuntimeError("no such\\nkernel")
def works(device, sizes, record):
    record["measured"] = 3
""")
    monkeypatch.setattr(check_gpu, "PARTS", dict.fromkeys(("dies", "fails", "works"), "broken"))
    run = """
import sys, broken
from tests.benchmarks import check_gpu
sys.modules["tests.benchmarks.broken"] = broken
check_gpu.PARTS = dict.fromkeys(("dies", "fails", "works"), "broken")
sys.exit(check_gpu.main(sys.argv[1:]))
"""
    real = subprocess.run

    def with_these_parts(words, **options):
        assert words[1:3] == ["-m", "tests.benchmarks.check_gpu"]
        return real([words[0], "-c", run, *words[3:]], **options)

    monkeypatch.setattr(check_gpu.subprocess, "run", with_these_parts)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    path = tmp_path / "gpu.json"
    assert check_gpu.main(["--device", "cpu", "--out", str(path)]) == 1
    parts = io.read_json(path)["parts"]
    assert [part["measured"] for part in parts.values()] == [1, 2, 3]
    assert [part["outcome"] for part in parts.values()] == [
        "its process ended with 9", "RuntimeError: no such kernel", "OK"]


@pytest.mark.parametrize("other", [{"device": "another card"}, {"torch": "3.0"}])
def test_parts_of_the_same_card_are_kept_and_those_of_another_are_dropped(
        other, tmp_path, monkeypatch):
    path, here = tmp_path / "gpu.json", gpu_record.machine("cpu")
    for part in ("agreement", "ways"):
        gpu_record.Record(part, "cpu", path)["speed"] = 1
    assert list(io.read_json(path)["parts"]) == ["agreement", "ways"]
    monkeypatch.setattr(gpu_record, "machine", lambda device: here | other)
    gpu_record.Record("batches", "cpu", path)["speed"] = 2
    found = io.read_json(path)
    assert list(found["parts"]) == ["batches"] and found["machine"] == here | other


def test_the_check_of_a_gpu_sees_a_network_that_differs(monkeypatch):
    predict = gpu_agreement.TinyRecursiveControl.predict
    offsets = iter((0, 1e-3))

    def differs_the_second_time(*states):
        return {"cycle_controls": predict(*states)["cycle_controls"] + next(offsets)}

    monkeypatch.setattr(gpu_agreement.TinyRecursiveControl, "predict", differs_the_second_time)
    name = "network, float32: largest difference of a control, over the largest control"
    record = gpu_record.Record("agreement", "cpu")
    record.judge(name, gpu_agreement.network("cpu")[name])
    assert not record.end() and record.figures["outcome"].startswith(f"{name}: ")


def test_a_comparison_that_breaks_off_stops_no_other(monkeypatch):
    def breaks(*arguments):
        raise RuntimeError("two devices")

    monkeypatch.setattr(gpu_agreement, "diagnose", list)
    monkeypatch.setattr(IterativeLQR, "try_solve", breaks)
    record = gpu_record.Record("agreement", "cpu")
    gpu_agreement.agreement("cpu", gpu_record.TINY, record)
    assert record.figures["failures"] == [f"teacher, {name}: RuntimeError: two devices"
                                          for name in ("van_der_pol", "weak_van_der_pol")]
    assert len(record.figures["differences"]) == len(gpu_record.TOLERANCES) - 3


def test_a_way_that_does_not_work_is_reported_and_the_others_are_measured(monkeypatch):
    does_not_work = ({"compile": True}, "highest", {"mode": "magic"})
    monkeypatch.setitem(gpu_training.WAYS, "compiled", does_not_work)
    sizes = dataclasses.replace(gpu_record.TINY, ways=("compiled", "float32"))
    record = gpu_record.Record("ways", "cpu")
    gpu_training.ways("cpu", sizes, record)
    speeds = record.figures["problems a second"]
    assert "magic" in speeds["compiled"] and speeds["float32"] > 0


def of_size(size, draw):
    """A task of `batches` in which a certain size goes wrong."""
    def call(states):
        time.sleep(0.01)
        if len(states) == size:
            draw()

    return gpu_batches.Task(lambda size: [torch.zeros(size, 2)], call, 2, torch.float32)


def slow():
    time.sleep(0.3)


def full():
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_batches_stop_growing_where_a_call_is_slow_or_memory_runs_out(monkeypatch):
    monkeypatch.setattr(gpu_batches, "LONGEST", 0.2)
    monkeypatch.setattr(gpu_batches, "seconds_of", functools.partial(
        gpu_record.seconds_of, others=0.02))
    monkeypatch.setattr(gpu_batches, "tasks", lambda: {
        "slow": of_size(4, slow), "full": of_size(4, full), "quick": of_size(0, full)})
    sizes = dataclasses.replace(gpu_record.TINY, batches=dict.fromkeys(
        ("slow", "full", "quick"), (2, 4, 8)))
    record = gpu_record.Record("batches", "cpu")
    gpu_batches.batches("cpu", sizes, record)
    found = record.figures
    assert list(found["slow"]) == list(found["full"]) == ["2", "4"]
    assert found["slow"]["4"]["larger"] == "not measured: a call took 0 s"
    assert "no memory is left" in found["full"]["4"] and "failures" not in found
    assert 20 < found["quick"]["2"]["problems a second"] < 200
    monkeypatch.setattr(gpu_record, "LIMIT", 0)
    gpu_batches.batches("cpu", sizes, record)
    assert record.figures["quick"] == {"2": "not measured: the time of this part was over"}


def test_the_operations_of_a_roll_out_are_those_of_its_arithmetic():
    rollout = gpu_batches.tasks()[gpu_batches.ROLLOUTS]
    accelerations, between, last = 4 * 6, 3 * 4, 2 * 6  # by hand, from VanDerPol.dynamics
    assert gpu_batches.operations(rollout, 3) == 100 * (accelerations + between + last)
    exact = gpu_batches.tasks()[gpu_batches.EXACT]
    assert 120 <= gpu_batches.operations(exact, 1_000) < 150  # [4] times [4, 15], and its checks


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: make check-gpu")
def test_without_a_gpu_the_check_says_so_and_writes_nothing(capsys):
    written = ROOT / "data" / "results" / "gpu.json"
    before = written.read_bytes() if written.exists() else None
    assert check_gpu.main([]) == 1
    assert "sees no CUDA device" in capsys.readouterr().err
    assert (written.read_bytes() if written.exists() else None) == before
