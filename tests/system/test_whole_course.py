"""The whole course on the smoke lane, in a copy of the project's files."""

import os
import shutil
import subprocess
import sys

import pytest

from tests import ROOT, git, source_files
from trc_lib import io
from trc_lib.course.batch.plan import CHAPTERS


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A repository with the project's files, as they are now."""
    folder = tmp_path_factory.mktemp("a copy")
    for name in source_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all", "--force")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "all")
    return folder


def course(folder):
    env = {name: value for name, value in os.environ.items() if not name.startswith("TRC_")}
    ended = subprocess.run([sys.executable, "-m", "trc_lib", "course", "--lane", "smoke"],
                           cwd=folder, env=env | {"PYTHONPATH": str(folder)}, capture_output=True,
                           text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_whole_course_runs_and_is_reused_and_git_sees_no_change(copy):
    printed = course(copy)
    for row in ("mean final error", "success rate", "146,718"):
        assert row in printed
    results = io.read_json(copy / "runs/smoke/metrics.json")
    evaluation = results["05_evaluation"]
    assert evaluation["num_eval"] == 200 and evaluation["checkpoint"] == "trained"
    assert set(results["seconds"]) == set(CHAPTERS)
    assert git(copy, "status", "--porcelain") == ""

    assert "runs/smoke: reused" in course(copy)
    assert io.read_json(copy / "runs/smoke/metrics.json") == results


def test_by_hand_a_notebook_uses_what_the_course_trained(copy):
    course(copy)
    code = ("from trc_lib import course\nlane = course.check_parameters('smoke', 0)\n"
            "sets = course.load_or_make_datasets(lane)\n"
            "course.load_or_train(lane, *sets, progress=False)")
    ended = subprocess.run([sys.executable, "-c", code], cwd=copy / "notebooks", text=True,
                           env=os.environ | {"PYTHONPATH": str(copy)}, capture_output=True)
    assert [line.split()[0] for line in ended.stdout.splitlines()] == ["loaded"] * 3, ended.stderr
