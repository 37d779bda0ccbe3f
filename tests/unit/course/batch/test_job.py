"""What of a job is run, and what is reused."""

import os
import pathlib
import subprocess
import sys

import pytest
import torch

from tests import ROOT
from tests.notebooks import write_notebook
from trc_lib import io, validation
from trc_lib.course.batch.job import (
    NOT_INPUTS,
    State,
    devices,
    is_finished,
    prepare,
    run_job,
)
from trc_lib.course.batch.plan import plan


@pytest.fixture
def run(executed, scratch):
    """Runs chapters 4 and 5, and gives those that were executed."""
    def run_(*settings, force=False, only=("04", "05"), keep_going=False):
        executed.clear()
        (job,) = plan("smoke", out=scratch / "out", only=only, settings=settings,
                      keep_going=keep_going)
        if force or not is_finished(job):
            prepare(job, force)
            run_job(job.folder)
        return list(executed)

    return run_


def test_whatever_a_chapter_depends_on_makes_it_run_again(run, scratch):
    for folder in ("pretrained", "results"):
        (scratch / "data" / folder).mkdir(parents=True)
    assert run() == ["04", "05"]
    assert run() == []
    assert run("05.weight=2") == ["05"]
    write_notebook(scratch / "notebooks/05_evaluation.ipynb", "print('new')",
                   declared='lane = "cpu"\nseed = 0\nweight = 0.5\ncheckpoint = "shipped"')
    assert run() == ["05"]
    made = scratch / "out/results/04_training.json"  # no input of chapter 5
    made.write_text(made.read_text().replace("1.5", "1.4"))
    assert run() == ["04"] and io.read_json(made)["seconds"] == 1.5
    (scratch / "out/05_evaluation.ipynb").unlink()
    assert run() == ["05"]
    (scratch / "data/pretrained/new.pt").write_bytes(b"another input")
    assert run() == ["04", "05"]
    (scratch / "data/results/bench.json").touch()  # no input
    assert run() == []
    assert run("04.weight=2") == ["04", "05"]
    assert run("04.weight=2", force=True) == ["04", "05"]


def test_after_a_failure_only_what_does_not_build_on_it_is_run_and_only_if_asked(run, scratch):
    write_notebook(scratch / "notebooks/06_a_fair_comparison.ipynb", "1")
    assert run("04.weight=-1", only=("04", "05", "06")) == ["04"]
    state = State.read(scratch / "out")
    assert state.ended and state.chapters["04_training"]["outcome"] == "failed"
    assert run("04.weight=-1", only=("04", "05", "06"), keep_going=True) == ["04", "06"]
    error = State.read(scratch / "out").chapters["05_evaluation"]["error"]
    assert error == "05_evaluation builds on 04_training, which failed"
    assert run(only=("04", "05", "06")) == ["04", "05"]
    metrics = io.read_json(scratch / "out/metrics.json")
    assert metrics["lane"] == "smoke" and metrics["num_train"] == 1_000
    assert metrics["04_training"]["best_epoch"] == {"eval_final_error": 0.5}
    assert list(metrics["seconds"]) == ["04_training", "05_evaluation", "06_a_fair_comparison"]


def test_a_finished_job_is_recognised_on_another_device_and_its_own_is_named(
        run, scratch, monkeypatch):
    assert run("05.weight=2") == ["04", "05"]
    (job,) = plan("smoke", out=scratch / "out", only=["04"])
    here = devices(job)
    monkeypatch.setattr(validation, "device", lambda name: torch.device(
        {"cpu": "cuda", "cuda": "cpu"}[here]))
    assert is_finished(job) and devices(job) == here
    assert run() == ["05"]
    assert {row["device"] for row in State.read(job.folder).chapters.values()} == {"cpu", "cuda"}


def test_a_job_that_was_given_a_gpu_does_not_run_on_the_cpu(executed, scratch, monkeypatch):
    (job,) = plan("smoke", out=scratch / "out", only=["04"])
    prepare(job)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    state = run_job(job.folder, gpus=1)
    assert state.ended and state.chapters["04_training"]["outcome"] == "failed"
    error = state.chapters["04_training"]["error"]
    assert "was not run: the job was given 1 GPU, but PyTorch" in error and executed == []


@pytest.mark.skipif(sys.platform != "linux", reason="the simulation looks into /proc")
def test_on_windows_a_job_runs_and_one_whose_old_files_are_open_is_not_begun_anew(
        run, scratch, monkeypatch):
    from tests.windows import windows

    opened = []

    def leave_open(folder):
        """As a kernel that has not quite ended."""
        opened.append(open(pathlib.Path(folder, "connection.json"), "w", encoding="utf-8"))
        return {}

    with windows():
        assert run() == ["04", "05"] and run() == []
        monkeypatch.setattr("trc_lib.course.batch.job.kernel.environment", leave_open)
        assert run("05.weight=2") == ["05"]
        kept = scratch / "out/training/last.pt"
        io.write_text(kept, "of the earlier run")
        with open(kept, "rb"), pytest.raises(PermissionError, match=r"last\.pt"):
            run(force=True)


def test_a_job_that_another_process_runs_is_left_to_it(executed, scratch):
    (job,) = plan("smoke", out=scratch / "out", only=["04"])
    prepare(job)
    with io.claimed(job.folder / ".lock", "out"):
        for begin in (lambda: prepare(job, force=True), lambda: run_job(job.folder)):
            with pytest.raises(io.Busy, match=r"^out is in use by process"):
                begin()
    assert executed == []


def test_a_terminal_without_the_letters_of_a_message_does_not_end_the_job(tmp_path):
    code = ("import sys; from trc_lib.course.batch import job\n"
            "job.run_job = lambda folder, bars: (print('Δ²'), print('Δ²', file=bars))\n"
            "sys.exit(job.main(sys.argv[1]))")
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], text=True, **dict.fromkeys(
            ("stdin", "stdout", "stderr"), subprocess.PIPE),  # it ends when its input is closed
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"})
    with process:
        said = [stream.read().strip() for stream in (process.stdout, process.stderr)]
        assert process.wait() == 0, (tmp_path / "stderr.txt").read_text(encoding="utf-8")
    assert said == [r"\u0394^2"] * 2


def test_what_is_no_input_is_named_in_no_notebook():
    """The notebooks are data here: one that read such a file would have it as an input."""
    for path in (ROOT / "notebooks").rglob("*.ipynb"):
        text = path.read_text("utf-8")
        assert not [name for name in NOT_INPUTS if name in text], path.name
