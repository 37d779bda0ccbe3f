"""How the engines start jobs and report on them."""

import os
import pathlib
import subprocess
import sys
import types

import pytest
import torch

from tests import ROOT
from trc_lib.course.batch import engines


@pytest.mark.parametrize("text, expected", [
    ("2:00:00", 120), ("1-12:00:00", 2160), ("90", 90), (90, 90), ("0:00:30", 1), ("5:00", 5)])
def test_times_are_read_as_slurm_writes_them(text, expected):
    assert engines.minutes(text) == expected


@pytest.fixture
def environments(monkeypatch):
    """The environments of the processes that are started, which never end."""
    seen = []

    def start(words, env, **options):
        seen.append(env)
        return types.SimpleNamespace(poll=lambda: None)

    monkeypatch.setattr(subprocess, "Popen", start)
    return seen


def jobs(number):
    return [types.SimpleNamespace(folder=pathlib.Path(str(i))) for i in range(number)]


@pytest.mark.parametrize("allowed, workers, expected", [
    (None, 2, ["0", "1"]), ("5,7", 2, ["5", "7"]), ("7", 2, ["7", "7"]), (None, 1, [None, None]),
    (None, 3, ["0", "1", "0"])])
def test_jobs_that_run_at_a_time_share_the_gpus(
        allowed, workers, expected, environments, monkeypatch):
    if allowed:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    else:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    count = len((allowed or "0,1").split(","))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    engines.Local(workers).start(jobs(len(expected)))
    assert [env.get("CUDA_VISIBLE_DEVICES") for env in environments] == expected


def test_jobs_import_this_library_and_share_the_cores(environments, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    engine = engines.Local(2)
    assert engine.room(0) == 2 and engine.look(engine.start(jobs(2))) == ["alive", "alive"]
    assert {env["OMP_NUM_THREADS"] for env in environments} == {"2"}
    assert {env["PYTHONPATH"] for env in environments} == {f"{ROOT}{os.pathsep}/elsewhere"}


def test_ctrl_c_reaches_no_job_on_windows_either(monkeypatch):
    seen = {}
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 512, raising=False)
    monkeypatch.setattr(subprocess, "Popen", lambda words, **options: seen.update(options))
    engines.Local().start(jobs(1))
    assert seen["creationflags"] == 512 and seen["start_new_session"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no Slurm")
def test_the_queue_is_asked_for_where_the_user_has_no_name(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    monkeypatch.setattr(subprocess, "run", lambda words, **options: words)
    words = engines._squeue("--name=trc")
    assert words[words.index("--user") + 1] == str(os.getuid())


def test_the_states_of_slurm_are_told_apart_and_without_an_answer_jobs_count_as_alive(monkeypatch):
    answer = types.SimpleNamespace(returncode=0, stdout="1_0 RUNNING\n1_1 PENDING\n1_2 TIMEOUT\n"
                                                        "1_3 CANCELLED\n1_5 COMPLETING\n")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: answer)
    handles = [types.SimpleNamespace(job_id=f"1_{i}") for i in range(6)]
    assert engines.Slurm.look(None, handles) == [
        "alive", "alive", "ended", "cancelled", "ended", "alive"]
    answer.returncode = 1
    assert engines.Slurm.look(None, handles) == ["alive"] * 6
