"""Grids on a real Slurm: an array, one that fails, one that is killed in mid-training, one that dies for good, and scancel."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests import ROOT
from tests.notebooks import write_notebook
from tests.system.slurm import cluster
from trc_lib import course, io
from trc_lib.__main__ import main
from trc_lib.course.batch import engines, runner
from trc_lib.training import epochs_kept

DECLARED = 'lane = "cpu"\nseed = 0\nwhat = ""'
TRAIN = """from trc_lib import course
lane = course.choose_preset(lane, seed=seed, epochs=15)
course.load_or_train(lane, *course.load_or_make_datasets(lane), progress=False)"""


@pytest.fixture(scope="module")
def conf(tmp_path_factory):
    if not cluster.install():
        pytest.skip("needs Slurm, and root to start it: apt-get install slurmctld slurmd slurm-client munge")
    folder = pathlib.Path(os.path.realpath(tmp_path_factory.mktemp("slurm")))
    with cluster.running(folder) as path:
        yield path


@pytest.fixture
def slurm(conf, scratch_course, monkeypatch):
    """A course in a folder of its own, and a command line that sends it to the cluster; the folder is given back."""
    monkeypatch.setenv("SLURM_CONF", str(conf))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(engines.Slurm, "settle", 3.0)  # no shared file system here
    yield scratch_course
    subprocess.run(["scancel", "--user=root"], check=True)


def send(*words, gpus="0", time="0:10:00"):
    return main(["course", "--lane", "smoke", "--cluster", "slurm", "--gpus", gpus, "--time", time, "--out", "out", *words])


def jobs_of_slurm():
    """What is queued or runs: ``{job id: state}``."""
    asked = subprocess.run(["squeue", "--noheader", "--array", "--format=%i %T"], capture_output=True, text=True, check=True)
    return dict(line.split() for line in asked.stdout.splitlines())


def until(condition, seconds=90):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it did not come to that"
        time.sleep(0.1)


def test_an_array_of_four_of_which_one_fails(slurm, capsys):
    write_notebook(slurm / "notebooks/04_training.ipynb", "print(1 / (seed - 2))", declared=DECLARED)
    assert send("--sweep", "04.seed=0..3", "--only", "04", "--partition", "main", "--keep-going") == 1
    said = capsys.readouterr()
    ended = dict(re.findall(r"^ +(\d) +(\w+)$", said.out, re.MULTILINE))
    assert ended == {"0": "done", "1": "done", "2": "failed", "3": "done"}
    assert "04.seed=2: failed: 04_training, cell 4: ZeroDivisionError" in said.err
    scripts = [path for path in (slurm / "out/slurm").glob("*_submission.sh") if not path.name.startswith(".")]
    assert len(scripts) == 1 and "#SBATCH --array=0-3" in scripts[0].read_text()   # one array, not four jobs
    assert send("--sweep", "04.seed=0..3", "--only", "04", "--keep-going") == 1
    assert capsys.readouterr().out.count("reused, it was finished") == 3


def test_killed_in_mid_training_it_resumes_to_the_bit_equal_result(slurm, capsys):
    write_notebook(slurm / "notebooks/04_training.ipynb", TRAIN, declared=DECLARED)
    training, killed = slurm / "out/training", []

    def kill():
        until(lambda: training.exists() and epochs_kept(training) >= 3)
        found = subprocess.run(["pgrep", "-f", "submitit.core._submit"], capture_output=True, text=True).stdout.split()
        for process in found:
            os.kill(int(process), signal.SIGKILL)
        killed.append(epochs_kept(training))

    killer = threading.Thread(target=kill)
    killer.start()
    assert send("--only", "04") == 0
    killer.join()
    assert "it goes on where it was" in capsys.readouterr().out and 3 <= killed[0] < 15
    log = (slurm / "out/log.txt").read_text()
    assert log.count("04_training: runs on") == 2
    said = (slurm / "out/04_training.ipynb").read_text()
    assert re.search(r"15 epochs, the first \d+ of them before", said)

    alone = course.choose_preset("smoke", epochs=15)
    code = ("from trc_lib import course; lane = course.choose_preset('smoke', epochs=15); "
            "course.load_or_train(lane, *course.load_or_make_datasets(lane), progress=False)")
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"TRC_RUN_FOLDER": str(slurm / "alone")})
    kept = [io.load_checkpoint(slurm / name / "training/last.pt", "trc_lib.training", 1) for name in ("out", "alone")]
    assert len(kept[0]["history"]) == alone.training.epochs
    for part in ("weights", "best_weights", "optimizer", "order"):
        assert io.fingerprint(kept[0][part]) == io.fingerprint(kept[1][part]), part
    for rows in zip(*(each["history"] for each in kept)):
        assert rows[0] | {"seconds": 0} == rows[1] | {"seconds": 0}


# submitit takes the signal for the end of the time where less than ten minutes are left
@pytest.mark.parametrize("limit, taken_for", [("1:00:00", "preempted"), ("0:10:00", "timed-out")])
def test_preempted_or_out_of_time_it_is_queued_again_and_goes_on(limit, taken_for, slurm, capsys):
    write_notebook(slurm / "notebooks/04_training.ipynb", TRAIN, declared=DECLARED)
    training = slurm / "out/training"

    def preempt():
        until(lambda: training.exists() and epochs_kept(training) >= 3)
        (name,) = jobs_of_slurm()
        subprocess.run(["scancel", "--signal=USR2", name], check=True)     # what Slurm sends before it takes the node
        until(lambda: jobs_of_slurm().get(name) == "PENDING")
        subprocess.run(["scontrol", "update", f"JobId={name}", "StartTime=now"], check=True)     # it would wait two minutes

    preemptor = threading.Thread(target=preempt)
    preemptor.start()
    assert send("--only", "04", time=limit) == 0
    preemptor.join()
    assert "goes on" not in capsys.readouterr().out      # the queue did it, not we
    assert f"this job is {taken_for}" in "".join(path.read_text() for path in (slurm / "out/slurm").glob("*.out"))
    assert (slurm / "out/log.txt").read_text().count("04_training: runs on") == 2
    assert re.search(r"15 epochs, the first \d+ of them before", (slurm / "out/04_training.ipynb").read_text())


def test_cores_and_gpus_are_asked_for_and_a_gpu_that_pytorch_cannot_see_is_refused(slurm, capsys):
    asks = "import os\nprint({name: os.environ.get(name) for name in ('SLURM_CPUS_PER_TASK', 'SLURM_JOB_GPUS')})"
    write_notebook(slurm / "notebooks/04_training.ipynb", asks, declared=DECLARED)
    assert send("--only", "04", "--cpus", "2") == 0
    notebook = (slurm / "out/04_training.ipynb").read_text()
    assert "'SLURM_CPUS_PER_TASK': '2', 'SLURM_JOB_GPUS': None" in notebook
    assert send("--only", "04", "--force", gpus="1") == 1
    said = capsys.readouterr()
    assert "the job was given 1 GPU, but PyTorch" in said.err and "it goes on" not in said.out    # not tried again
    assert "--gpus-per-node=1" in max((slurm / "out/slurm").glob("*_submission.sh"), key=os.path.getmtime).read_text()


def test_one_that_dies_every_time_is_told_dead_within_a_minute(slurm, capsys, monkeypatch):
    monkeypatch.setattr(runner, "TRIES", 2)
    deadly = "import os, pathlib, signal\npathlib.Path(what).touch()\nos.kill(os.getppid(), signal.SIGKILL)"
    write_notebook(slurm / "notebooks/04_training.ipynb", deadly, declared=DECLARED)
    assert send("--only", "04", "--set", f"04.what={slurm / 'mark'}") == 1
    ended = time.time()
    assert "its process was killed" in (said := capsys.readouterr()).err and said.out.count("it goes on") == runner.TRIES - 1
    assert ended - (slurm / "mark").stat().st_mtime < 60
    assert subprocess.run(["sacct"], capture_output=True).returncode != 0      # all this without accounting


def test_cancelled_by_hand_it_is_told_and_not_sent_again(slurm, capsys):
    write_notebook(slurm / "notebooks/04_training.ipynb", "import time\ntime.sleep(600)", declared=DECLARED)

    def cancel():
        until(lambda: "RUNNING" in jobs_of_slurm().values() and (slurm / "out/log.txt").exists())
        subprocess.run(["scancel", *jobs_of_slurm()], check=True)

    canceller = threading.Thread(target=cancel)
    canceller.start()
    assert send("--only", "04") == 1
    canceller.join()
    assert "cancelled" in (said := capsys.readouterr()).err + said.out and "goes on" not in said.out
    assert not jobs_of_slurm()


def test_ctrl_c_takes_the_jobs_out_of_the_queue(slurm):
    write_notebook(slurm / "notebooks/04_training.ipynb", "import time\ntime.sleep(600)", declared=DECLARED)
    words = "course --lane smoke --cluster slurm --gpus 0 --out out --sweep 04.seed=0..3 --only 04"
    sent = subprocess.Popen([sys.executable, "-m", "trc_lib", *words.split()], cwd=slurm, stderr=subprocess.PIPE, text=True)
    until(lambda: "RUNNING" in jobs_of_slurm().values())
    sent.send_signal(signal.SIGTERM)
    assert "interrupted: 0 of 4 runs are done" in sent.communicate(timeout=60)[1] and sent.returncode == 1
    until(lambda: not jobs_of_slurm())


def test_what_is_still_in_the_queue_is_not_sent_twice(slurm, capsys):
    write_notebook(slurm / "notebooks/04_training.ipynb", "import time\ntime.sleep(600)", declared=DECLARED)
    words = "course --lane smoke --cluster slurm --gpus 0 --out out --only 04"
    sent = subprocess.Popen([sys.executable, "-m", "trc_lib", *words.split()], cwd=slurm, stderr=subprocess.DEVNULL)
    until(lambda: "RUNNING" in jobs_of_slurm().values())
    sent.kill()                                          # as when the connection is lost
    sent.wait()
    (name,) = jobs_of_slurm()
    assert send("--only", "04") == 1 and list(jobs_of_slurm()) == [name]
    remedy = re.search(r"still in the queue.*(scancel --name=\S+)", capsys.readouterr().err).group(1)
    subprocess.run(remedy.split(), check=True)
    until(lambda: not jobs_of_slurm())
    write_notebook(slurm / "notebooks/04_training.ipynb", "1", declared=DECLARED)
    assert send("--only", "04") == 0


def test_a_partition_that_there_is_not_is_told_in_slurm_s_words(slurm, capsys):
    write_notebook(slurm / "notebooks/04_training.ipynb", "1", declared=DECLARED)
    assert send("--only", "04", "--partition", "none") == 1
    assert "Slurm did not take the jobs" in (said := capsys.readouterr().err) and "artition" in said


def test_plain_papermill_in_a_batch_script_works_as_well(slurm):
    write_notebook(slurm / "notebooks/04_training.ipynb", "print('lane', lane, 'seed', seed)")
    document = (ROOT / "docs" / "cluster_and_gpu.md").read_text(encoding="utf-8")
    script = re.search(r"```sh\n(#!/bin/bash\n#SBATCH.*?)```", document, re.DOTALL).group(1)
    assert "--gpus=1" in script and "04_training" in script
    (slurm / "one.sh").write_text(script.replace("#SBATCH --gpus=1\n", ""))    # there is none here
    environment = os.environ | {"PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["sbatch", "--wait", "one.sh"], cwd=slurm, env=environment)
    said = "".join(out.read_text() for out in slurm.glob("slurm-*.out"))
    assert done.returncode == 0, said
    assert "lane gpu seed 1" in (slurm / "out.ipynb").read_text()
