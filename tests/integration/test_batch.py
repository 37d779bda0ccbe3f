"""Grids of runs with real processes and kernels: what is made, what fails, what is killed."""

import csv
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from tests import ROOT
from tests.notebooks import write_notebook
from trc_lib import io
from trc_lib.__main__ import main
from trc_lib.course.batch import runner

DECLARED = 'lane = "cpu"\nseed = 0\nweight = 0.5\nwhat = ""'
JUDGES = DECLARED + '\ncheckpoint = "shipped"'
RECORD = """from trc_lib import course
course.record(course.choose_preset(lane), "04_training",
              {"seconds": 1.5, "best_epoch": {
                  "eval_final_error": seed + weight, "eval_success": 1.0, "eval_loss": 0.1}})"""


def write(folder, chapter, *cells):
    declared = JUDGES if chapter.startswith("05") else DECLARED
    write_notebook(folder / "notebooks" / f"{chapter}.ipynb", *cells, declared=declared)


@pytest.fixture
def scratch(scratch_course):
    """A course of two chapters, 04 and 05, with little to do."""
    write(scratch_course, "04_training", "print('weight', weight)")
    write(scratch_course, "05_evaluation", "print(checkpoint)")
    return scratch_course


def run(*words):
    return main(["course", "--lane", "smoke", "--out", "out", *words])


def start(folder, *words):
    """The same in a process of its own, in ``folder``."""
    command = [sys.executable, "-m", "trc_lib", "course", "--lane", "smoke", "--out", "out", *words]
    return subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)})


def until(condition, seconds=60):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "the condition was not met in time"
        time.sleep(0.1)


def test_a_grid_leaves_a_folder_each_a_table_and_a_picture_and_is_reused(scratch, capsys):
    write(scratch, "04_training", RECORD)
    words = ["--set", "04.seed=1", "--sweep", "04.weight=0.5,1", "--workers", "2"]
    assert run(*words) == 0
    printed = capsys.readouterr().out
    for name in ("04.weight=0.5", "04.weight=1"):
        assert f"{name}: started (" in printed and f"{name}: done (" in printed
    assert re.search(r"0\.5 +done +1\.5 ", printed) and "out/summary.csv and .png" in printed
    one = scratch / "out" / "04.weight=0.5"
    made = {"04_training.ipynb", "05_evaluation.ipynb", "log.txt", "metrics.json"}
    assert {path.name for path in one.iterdir()} >= made
    assert "trained" in (one / "05_evaluation.ipynb").read_text()
    assert "04_training: runs on" in (one / "log.txt").read_text()
    with open(scratch / "out" / "summary.csv", newline="") as stream:
        found = {row["04.weight"]: float(row["04_training.best_epoch.eval_final_error"])
                 for row in csv.DictReader(stream)}
    assert found == {"0.5": 1.5, "1": 2}
    assert (scratch / "out" / "summary.png").read_bytes().startswith(b"\x89PNG")

    before = {path: path.stat().st_mtime_ns for path in scratch.rglob("0*.ipynb")}
    assert run(*words) == 0
    assert capsys.readouterr().out.count("reused, it was finished") == 2
    assert before == {path: path.stat().st_mtime_ns for path in scratch.rglob("0*.ipynb")}


def test_neither_a_foreign_kernel_nor_a_home_without_write_access_disturbs_a_run(
        scratch, tmp_path_factory, monkeypatch):
    foreign = tmp_path_factory.mktemp("foreign")
    spec = foreign / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text('{"argv": ["false"], "display_name": "other", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(foreign))
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, os.devnull)
    for name in ("MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    write(scratch, "04_training", "import sys\nprint(sys.executable)",
          "import matplotlib.pyplot as plt\nplt.plot([1])")
    assert run("--only", "04") == 0
    text = (scratch / "out/04_training.ipynb").read_text(encoding="utf-8")
    assert sys.executable in text and '"stderr"' not in text


def test_a_kernel_that_does_not_start_is_a_failure_and_not_tried_again(
        scratch, tmp_path_factory, monkeypatch, capsys):
    broken = tmp_path_factory.mktemp("broken")
    (broken / "ipykernel_launcher.py").write_text("raise SystemExit(3)")
    monkeypatch.setenv("PYTHONPATH", str(broken), prepend=os.pathsep)
    assert run("--only", "04") == 1
    said = capsys.readouterr()
    assert "error: 04_training could not be run: Kernel died" in said.err
    assert "doctor says what is missing" in said.err and "it goes on" not in said.out


def test_a_failure_is_reported_with_its_last_lines_and_the_others_go_on_if_asked(scratch, capsys):
    bad = "def divide(a):\n    return a / seed\n\ndivide(1)"
    write(scratch, "04_training", bad)
    words = ["--sweep", "04.seed=0,1"]
    assert run(*words) == 1
    said = capsys.readouterr().err
    assert "04_training, cell 4: ZeroDivisionError: division by zero" in said
    assert "return a / seed" in said and "not run: since another failed" in said
    assert "Traceback" not in said
    assert "ZeroDivisionError" in (scratch / "out/04.seed=0/04_training.ipynb").read_text()
    assert not (scratch / "out/04.seed=1/04_training.ipynb").exists()

    assert run(*words, "--keep-going") == 1
    said = capsys.readouterr()
    rows = [line.split() for line in said.out.splitlines() if re.match(r" +\d ", line)]
    assert [row[1] for row in rows] == ["failed", "done"] and "not run" not in said.err
    assert "05_evaluation builds on 04_training, which failed" in said.err
    assert not list((scratch / "out").rglob(".*part*"))


@pytest.mark.parametrize("victim", ["os.getppid()", "os.getpid()"], ids=["the job", "its kernel"])
def test_a_killed_job_goes_on_where_it_was(victim, scratch, capsys):
    write(scratch, "05_evaluation", f"""import os, pathlib, signal
if not pathlib.Path(what).exists():
    pathlib.Path(what).touch()
    os.kill({victim}, signal.SIGKILL)""", "print('went on')")
    assert run("--only", "04", "05", "--set", f"05.what={scratch / 'mark'}") == 0
    assert "it goes on where it was" in capsys.readouterr().out
    assert "went on" in (scratch / "out/05_evaluation.ipynb").read_text()
    log = (scratch / "out/log.txt").read_text()
    assert log.count("04_training: runs on") == 1 and log.count("05_evaluation: runs on") == 2


def test_a_job_that_dies_every_time_is_reported_dead(scratch, monkeypatch, capsys):
    monkeypatch.setattr(runner, "TRIES", 2)
    write(scratch, "04_training", "import os\nos._exit(9)")
    started = time.monotonic()
    assert run("--only", "04") == 1
    said = capsys.readouterr()
    assert "its kernel died" in said.err and said.out.count("it goes on") == 1
    assert time.monotonic() - started < 60


def test_stopped_it_leaves_no_process_and_keeps_what_is_done(scratch, capsys):
    """Stopped by each signal in turn; while it runs, a second run is refused."""
    mark, state = scratch / "mark", scratch / "out/state.json"
    write(scratch, "05_evaluation", "import os, pathlib, time\n"
          "pathlib.Path(what).write_text(str(os.getpid()))\ntime.sleep(600)")
    words = ["--only", "04", "05", "--set", f"05.what={mark}"]
    for sent in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        mark.unlink(missing_ok=True)
        process = start(scratch, *words)
        until(lambda: mark.exists() and mark.read_text())
        if sent == signal.SIGTERM:
            assert run(*words) == 1
            assert "out is in use by process" in capsys.readouterr().err
        process.send_signal(sent)
        said, kernel = process.communicate(timeout=60)[1], pathlib.Path("/proc", mark.read_text())
        until(lambda kernel=kernel: not kernel.exists())
        if sent != signal.SIGKILL:
            assert process.returncode == 1 and "Traceback" not in said
            assert "interrupted: all that was finished is kept; the same command goes on" in said
        chapters = io.read_json(state)["chapters"]
        assert chapters["04_training"]["outcome"] == "done" and "05_evaluation" not in chapters
        with io.claimed(scratch / "out/.lock", "out"):
            pass
    assert (scratch / "out/log.txt").read_text().count("04_training: runs on") == 1
