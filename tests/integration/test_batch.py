"""Grids of runs: what is refused before anything starts, what is reused, and what becomes of jobs that fail or are killed."""

import csv
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests import ROOT
from tests.notebooks import write_notebook
from trc_lib import course, io, validation
from trc_lib.__main__ import main
from trc_lib.course.batch import engines, plan, runner, summary
from trc_lib.course.batch.job import NOT_INPUTS, prepare, run_job

DECLARED = 'lane = "cpu"\nseed = 0\nweight = 0.5\nwhat = ""'
JUDGES = DECLARED + '\ncheckpoint = "shipped"'
RECORD = """from trc_lib import course, io
course.record(course.choose_preset(lane), "04_training",
              {"seconds": 1.5, "best_epoch": {"eval_final_error": seed + weight, "eval_success": 1.0, "eval_loss": 0.1}})"""


@pytest.fixture
def scratch(scratch_course):
    """A course of two chapters, 04 and 05, each of which does next to nothing."""
    write_notebook(scratch_course / "notebooks/04_training.ipynb", RECORD, "print('weight', weight)", declared=DECLARED)
    write_notebook(scratch_course / "notebooks/05_evaluation.ipynb", "print(checkpoint)", declared=JUDGES)
    return scratch_course


def batch(folder, *words):
    """The command line in a process of its own, in ``folder``."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-m", "trc_lib", "course", "--lane", "smoke", *words], cwd=folder, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


# ---------------------------------------------------------------- the plan


def test_a_sweep_is_every_combination_with_a_folder_each(tmp_path):
    jobs = plan.plan("smoke", out=tmp_path, settings=["04.epochs=3"], sweeps=["04.seed=0..4", "04.cycle_weight=0,0.1,1"])
    assert len(jobs) == 15 and len({each.folder for each in jobs}) == 15
    assert jobs[4].name == "04.seed=1,04.cycle_weight=0.1" and jobs[4].swept == {"04.seed": 1, "04.cycle_weight": 0.1}
    assert list(jobs[4].chapters) == ["04_training", "05_evaluation"]      # the swept one, and the one that builds on it
    assert jobs[4].chapters["04_training"] == {"lane": "smoke", "seed": 1, "epochs": 3, "cycle_weight": 0.1}
    assert jobs[4].chapters["05_evaluation"] == {"lane": "smoke", "seed": 0, "checkpoint": "trained"}
    assert not list(tmp_path.iterdir())


def test_a_plain_run_is_all_chapters_in_order_and_one_alone_may_be_asked_for(tmp_path):
    (whole,) = plan.plan("smoke")
    assert tuple(whole.chapters) == plan.CHAPTERS and whole.folder == ROOT / "runs" / "smoke"
    (one,) = plan.plan("smoke", seed=3, out=tmp_path, only=["05", "01_teacher"])
    assert list(one.chapters) == ["01_teacher", "05_evaluation"]
    assert one.chapters["05_evaluation"] == {"lane": "smoke", "seed": 3}  # nothing is trained: the notebook's own default


@pytest.mark.parametrize("words, message", [
    (["--set", "04.speed=1"], "chapter 04_training declares no parameter 'speed'; it has lane, seed, epochs"),
    (["--set", "09.seed=1"], "chapter '09' is unknown; accepted are 01, 02"),
    (["--only", "teacher"], "chapter 'teacher' is unknown"),
    (["--set", "seed=1"], "'seed=1' is not accepted; give a chapter, a parameter and a value"),
    (["--set", "04.lane=cpu"], "give --lane"),
    (["--set", "04.epochs=many"], "epochs='many' is not a whole number"),
    (["--set", "04.epochs=1.5"], "epochs=1.5 is not a whole number"),
    (["--set", "04.feedback=1"], "04.feedback=1 is not accepted; it needs a value like True"),
    (["--set", "04.seed=a"], "04.seed='a' is not accepted; it needs a value like 0"),
    (["--set", "04.seed=True"], "04.seed=True is not accepted"),
    (["--set", "04.lr=-1"], "lr=-1"),
    (["--set", "05.checkpoint=best"], "checkpoint='best' is unknown; accepted are 'shipped', 'trained'"),
    (["--set", "08.noise=nan"], "noise"),
    (["--sweep", "04.seed=0,1,-1"], "seed=-1"),
    (["--sweep", "04.seed=4..0"], "'4..0' is not accepted"),
    (["--sweep", "04.seed=1,1"], "the same value twice"),
    (["--sweep", "04.seed=0..99", "04.lr=1e-3,2e-3", "04.epochs=1..99"], "at most 10,000"),
    (["--sweep", "04.seed=0,1", "--set", "04.seed=2"], "04.seed is set and swept"),
    (["--set", "04.seed=1", "--only", "01"], "chapter 04_training is not run"),
    (["--cluster", "slurm", "--time", "soon"], "time='soon' is not accepted"),
    (["--cluster", "slurm", "--gpus", "-1"], "gpus=-1"),
    (["--workers", "0"], "workers=0"),
])
def test_what_makes_no_sense_is_refused_before_anything_starts(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "_run_all", lambda *arguments: pytest.fail("something was started"))
    assert main(["course", "--lane", "smoke", "--out", str(tmp_path / "runs"), *words]) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_a_grid_needs_a_folder_and_a_cluster_needs_slurm(monkeypatch, capsys):
    assert main(["course", "--lane", "smoke", "--sweep", "04.seed=0,1"]) == 1
    assert "give --out" in capsys.readouterr().err
    monkeypatch.setenv("PATH", "")
    assert main(["course", "--lane", "smoke", "--out", "unused", "--cluster", "slurm"]) == 1
    assert "sbatch, srun, squeue, scancel is not here" in capsys.readouterr().err and not pathlib.Path("unused").exists()


@pytest.mark.parametrize("text, expected", [("2:00:00", 120), ("1-12:00:00", 2160), ("90", 90), (90, 90),
                                            ("0:00:30", 1), ("5:00", 5)])
def test_times_are_read_as_slurm_writes_them(text, expected):
    assert engines.minutes(text) == expected


# ---------------------------------------------------------------- a grid, run


def test_a_grid_leaves_a_folder_each_a_table_and_a_picture_and_is_reused(scratch, capsys):
    words = ["course", "--lane", "smoke", "--out", "out", "--sweep", "04.seed=0,1", "04.weight=0.5,1", "--workers", "2"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert re.search(r"1 +0\.5 +done +1\.5 ", printed) and "out/summary.csv and .png" in printed
    one = scratch / "out" / "04.seed=1,04.weight=0.5"
    assert {path.name for path in one.iterdir()} >= {"04_training.ipynb", "05_evaluation.ipynb", "log.txt", "metrics.json"}
    assert "trained" in (one / "05_evaluation.ipynb").read_text() and "04_training: runs on" in (one / "log.txt").read_text()
    with open(scratch / "out" / "summary.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    found = {(row["04.seed"], row["04.weight"]): float(row["04_training.best_epoch.eval_final_error"]) for row in rows}
    assert found == {("0", "0.5"): 0.5, ("0", "1"): 1, ("1", "0.5"): 1.5, ("1", "1"): 2}
    assert (scratch / "out" / "summary.png").read_bytes().startswith(b"\x89PNG")

    before = {path: path.stat().st_mtime_ns for path in scratch.rglob("0*.ipynb")}
    assert main(words) == 0
    assert capsys.readouterr().out.count("reused, it was finished") == 4
    assert before == {path: path.stat().st_mtime_ns for path in scratch.rglob("0*.ipynb")}


def test_a_finished_run_is_known_on_a_machine_with_another_device_and_its_own_is_told(scratch, monkeypatch, capsys):
    words = ["course", "--lane", "smoke", "--out", "out", "--only", "04", "--set", "04.weight=2"]
    assert main(words) == 0
    (made,) = io.read_json(scratch / "out/state.json")["chapters"].values()
    here, other = made["device"], {"cpu": "cuda", "cuda": "cpu"}[made["device"]]
    monkeypatch.setattr(validation, "device", lambda name: torch.device(other))
    capsys.readouterr()
    assert main(words) == 0
    assert f"reused, it was finished with the same code, parameters and inputs, on {here}\n" in capsys.readouterr().out


def test_a_job_that_was_given_a_gpu_does_not_run_on_the_cpu(scratch, monkeypatch):
    (one,) = plan.plan("smoke", out=scratch / "out", only=["04"])
    prepare(one)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    state = run_job(one.folder, gpus=1)
    assert state.ended and state.chapters["04_training"]["outcome"] == "failed"
    assert "was not run: the job was given 1 GPU, but PyTorch" in state.chapters["04_training"]["error"]
    assert not (one.folder / "04_training.ipynb").exists()


@pytest.mark.parametrize("allowed, workers, expected", [
    (None, 2, {"0", "1"}), ("5,7", 2, {"5", "7"}), ("7", 2, {"7"}), (None, 1, {"None"})])
def test_jobs_that_run_at_a_time_share_the_gpus(allowed, workers, expected, scratch, monkeypatch):
    if allowed:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    else:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len((allowed or "0,1").split(",")))
    tells = "import os\nprint('gpu', str(os.environ.get('CUDA_VISIBLE_DEVICES')) + ';')"
    write_notebook(scratch / "notebooks/04_training.ipynb", tells, declared=DECLARED)
    assert main(["course", "--lane", "smoke", "--out", "out", "--only", "04", "--sweep", "04.seed=0,1",
                 "--workers", str(workers)]) == 0
    said = [re.search(r"gpu (\w+);\\n", path.read_text()).group(1) for path in (scratch / "out").glob("*/04_training.ipynb")]
    assert len(said) == 2 and set(said) == expected


def _rerun(scratch, *words):
    """Which chapters a second run of one job ran again."""
    before = {path: path.stat().st_mtime_ns for path in (scratch / "out").glob("0*.ipynb")}
    assert main(["course", "--lane", "smoke", "--out", "out", "--only", "04", "05", *words]) == 0
    return {path.name[:2] for path in (scratch / "out").glob("0*.ipynb") if before.get(path) != path.stat().st_mtime_ns}


def test_whatever_a_chapter_depends_on_makes_it_run_anew(scratch):
    assert _rerun(scratch) == {"04", "05"}
    assert _rerun(scratch) == set()
    assert _rerun(scratch, "--set", "05.weight=2") == {"05"}
    write_notebook(scratch / "notebooks/05_evaluation.ipynb", "print('new')", declared=JUDGES)
    assert _rerun(scratch) == {"05"}
    made = scratch / "out/results/04_training.json"
    made.write_text(made.read_text().replace("1.5", "1.4"))
    assert _rerun(scratch) == {"04"} and io.read_json(made)["seconds"] == 1.5      # what 05 depends on is as it was
    (scratch / "data/pretrained").mkdir(parents=True)
    (scratch / "data/pretrained/new.pt").write_bytes(b"another input")
    assert _rerun(scratch) == {"04", "05"}
    assert _rerun(scratch, "--set", "04.weight=2") == {"04", "05"}
    assert _rerun(scratch, "--set", "04.weight=2", "--force") == {"04", "05"}


def test_what_is_no_input_is_named_in_no_notebook_and_no_library_code_but_what_writes_it():
    sources = [*(ROOT / "notebooks").rglob("*.ipynb"), *(ROOT / "trc_lib").rglob("*.py")]
    naming = {path.name for path in sources for name in NOT_INPUTS if name != "store.json" and name in path.read_text("utf-8")}
    assert naming == {"job.py", "runner.py"}     # store.json is also what a store calls its manifest


def test_one_that_fails_is_told_with_its_last_lines_and_the_others_go_on_if_asked(scratch, capsys):
    bad = "def divide(a):\n    return a / seed\n\ndivide(1)"
    write_notebook(scratch / "notebooks/04_training.ipynb", RECORD, bad, declared=DECLARED)
    words = ["course", "--lane", "smoke", "--out", "out", "--sweep", "04.seed=0,1,2"]
    assert main(words) == 1
    said = capsys.readouterr()
    assert "04_training, cell 5: ZeroDivisionError: division by zero" in said.err and "return a / seed" in said.err
    assert "ZeroDivisionError" in (scratch / "out/04.seed=0/04_training.ipynb").read_text()
    assert "not run: since another failed" in said.err and not (scratch / "out/04.seed=1/04_training.ipynb").exists()

    assert main([*words, "--keep-going"]) == 1
    said = capsys.readouterr()
    assert [line.split()[1] for line in said.out.splitlines() if re.match(r" +\d ", line)] == ["failed", "done", "done"]
    assert "not run" not in said.err and "05_evaluation builds on 04_training, which failed" in said.err
    assert not list((scratch / "out").rglob(".*part*"))


# ---------------------------------------------------------------- killed


KILL_ONCE = """import os, pathlib, signal
if not pathlib.Path(what).exists():
    pathlib.Path(what).touch()
    os.kill({}, signal.SIGKILL)"""


@pytest.mark.parametrize("victim", ["os.getppid()", "os.getpid()"], ids=["the job", "its kernel"])
def test_a_killed_job_goes_on_where_it_was(victim, scratch, capsys):
    write_notebook(scratch / "notebooks/05_evaluation.ipynb", KILL_ONCE.format(victim), "print('went on')",
                   declared=JUDGES)
    words = ["--out", "out", "--only", "04", "05", "--set", f"05.what={scratch / 'mark'}"]
    assert main(["course", "--lane", "smoke", *words]) == 0
    assert "it goes on where it was" in capsys.readouterr().out
    assert "went on" in (scratch / "out/05_evaluation.ipynb").read_text()
    log = (scratch / "out/log.txt").read_text()
    assert log.count("04_training: runs on") == 1 and log.count("05_evaluation: runs on") == 2


def test_one_that_dies_every_time_is_told_dead(scratch, capsys):
    write_notebook(scratch / "notebooks/04_training.ipynb", "import os\nos._exit(9)", declared=DECLARED)
    started = time.monotonic()
    assert main(["course", "--lane", "smoke", "--out", "out", "--only", "04"]) == 1
    assert "its kernel died" in (said := capsys.readouterr()).err and said.out.count("it goes on") == runner.TRIES - 1
    assert time.monotonic() - started < 60


def _until(condition, seconds=60):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it did not come to that"
        time.sleep(0.1)


SLOW = "import os, pathlib, time\npathlib.Path(what).write_text(str(os.getpid()))\ntime.sleep(600)"


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_stopped_it_leaves_no_process_and_keeps_what_is_done(sent, scratch):
    mark = scratch / "mark"
    write_notebook(scratch / "notebooks/05_evaluation.ipynb", SLOW, declared=JUDGES)
    process = batch(scratch, "--out", "out", "--only", "04", "05", "--set", f"05.what={mark}")
    _until(lambda: mark.exists() and mark.read_text())
    process.send_signal(sent)
    said = process.communicate(timeout=60)[1]
    kernel = int(mark.read_text())
    _until(lambda: not pathlib.Path(f"/proc/{kernel}").exists())
    if sent != signal.SIGKILL:
        assert process.returncode == 1 and "interrupted: 0 of 1 jobs are done" in said and "Traceback" not in said
    state = io.read_json(scratch / "out/state.json")
    assert state["chapters"]["04_training"]["outcome"] == "done" and "05_evaluation" not in state["chapters"]
    with io.claimed(scratch / "out/.lock", "out"):
        pass


def test_two_runs_in_one_folder_do_not_meet(scratch, capsys):
    mark = scratch / "mark"
    write_notebook(scratch / "notebooks/04_training.ipynb", SLOW, declared=DECLARED)
    words = ["--out", "out", "--only", "04", "--set", f"04.what={mark}"]
    first = batch(scratch, *words)
    _until(lambda: mark.exists() and mark.read_text())
    assert main(["course", "--lane", "smoke", *words]) == 1
    assert "out is in use by process" in capsys.readouterr().err
    first.terminate()
    first.communicate(timeout=60)


# ---------------------------------------------------------------- chapter 5 after chapter 4


def test_in_a_batch_run_chapter_5_takes_what_chapter_4_trained_there(scratch_course, monkeypatch, dataset, other_dataset, tiny):
    lane = course.choose_preset("smoke")
    changed = tiny(seed=9)
    monkeypatch.setenv("TRC_RUN_FOLDER", str(scratch_course / "run"))
    changed.save(course.artifacts.training_folder(course.choose_preset("smoke", lr=0.5)) / "best_model.pt")
    model = course.trained(lane, dataset, other_dataset, say=lambda text: None)
    assert model.config == changed.config
    course.record(lane, "05_evaluation", {"x": 1})
    assert (scratch_course / "run/results/05_evaluation.json").exists()


def test_a_lane_knows_its_own_training(dataset, other_dataset):
    lane, model = course.choose_preset("smoke", epochs=1), course.choose_preset("smoke").make_model()
    course.artifacts.train(model, dataset, other_dataset, lane.training, progress=False)
    assert lane.trained(model) and course.choose_preset("smoke", epochs=1, seed=5).trained(model)
    assert not course.choose_preset("smoke").trained(model)
    assert not course.choose_preset("smoke", epochs=1, feedback=False).trained(model)


def test_the_summary_tells_how_each_job_ended(tmp_path):
    jobs = plan.plan("smoke", out=tmp_path, sweeps=["04.seed=0,1"])
    jobs[0].write()
    figures = {"lane": "smoke", "04_training": {"seconds": 3, "best_epoch": {"eval_success": 1}}}
    io.write_json(jobs[0].folder / "metrics.json", figures)
    rows = [summary.row(jobs[0], "done"), summary.row(jobs[1], "dead")]
    summary.write(rows, tmp_path)
    assert (tmp_path / "summary.csv").read_text().splitlines() == [
        "04.seed,ended,04_training.seconds,04_training.best_epoch.eval_success", "0,done,3,1", "1,dead,,"]
    assert "dead" in summary.table(rows)
