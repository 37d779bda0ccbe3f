"""What a grid consists of, and what is refused before anything starts."""

import pathlib

import pytest

from tests import ROOT
from trc_lib.__main__ import main
from trc_lib.course.batch import plan as plans
from trc_lib.course.batch import runner
from trc_lib.course.batch.plan import CHAPTERS, Job, plan


def test_a_sweep_is_every_combination_with_a_folder_each(tmp_path):
    jobs = plan("smoke", out=tmp_path, settings=["04.epochs=3"],
                sweeps=["04.seed=0..4", "04_training.cycle_weight=0,0.1,1"])
    assert len(jobs) == 15 and len({each.folder for each in jobs}) == 15
    assert jobs[4].folder == tmp_path / "04.seed=1,04.cycle_weight=0.1"
    assert jobs[4].swept == {"04.seed": 1, "04.cycle_weight": 0.1}
    assert jobs[4].chapters == {  # the chapter that is swept, and the one that builds on it
        "04_training": {"lane": "smoke", "seed": 1, "epochs": 3, "cycle_weight": 0.1},
        "05_evaluation": {"lane": "smoke", "seed": 0, "checkpoint": "trained"}}
    assert not list(tmp_path.iterdir())


def test_a_plain_run_is_all_chapters_in_order_and_some_may_be_chosen(tmp_path):
    (whole,) = plan("smoke")
    assert tuple(whole.chapters) == CHAPTERS and whole.folder == ROOT / "runs" / "smoke"
    assert plan("smoke", seed=3)[0].folder == ROOT / "runs" / "smoke-seed-3"
    (some,) = plan("smoke", seed=3, out=tmp_path, only=["5", "01_teacher"])
    assert list(some.chapters) == ["01_teacher", "05_evaluation"] and some.folder == tmp_path
    assert some.chapters["05_evaluation"] == {"lane": "smoke", "seed": 3}  # nothing is trained


def test_chapter_5_alone_takes_the_network_that_an_earlier_run_trained(tmp_path):
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "best_model.pt").touch()
    (one,) = plan("smoke", out=tmp_path, only=["05"])
    assert one.chapters["05_evaluation"]["checkpoint"] == "trained"


def test_a_job_is_read_as_it_was_written(tmp_path):
    job, _ = plan("smoke", out=tmp_path, sweeps=["04.seed=0,1"], keep_going=True)
    job.write()
    assert Job.read(str(job.folder)) == job and job.keep_going


@pytest.mark.parametrize("words, message", [
    (["--set", "04.speed=1"],
     "chapter 04_training declares no parameter 'speed'; it has lane, seed, epochs"),
    (["--set", "19.seed=1"], "chapter '19' is unknown; accepted are 01_teacher, 02_dataset"),
    (["--only", "teacher"], "chapter 'teacher' is unknown"),
    (["--only", "04_trainig"], "did you mean '04_training'?"),
    (["--set", "04.epoch=3"], "did you mean 'epochs'?"),
    (["--set", "seed=1"], "'seed=1' is not accepted; give a chapter, a parameter and a value"),
    (["--set", "04.lane=cpu"], "give --lane"),
    (["--set", "04.epochs=many"], "epochs='many' is not a whole number"),
    (["--set", "04.epochs=1.5"], "epochs=1.5 is not a whole number"),
    (["--set", "04.feedback=1"], "feedback=1 is not accepted; give True or False"),
    (["--set", "04.seed=a"], "chapter 04_training: seed='a' is not a whole number"),
    (["--set", "04.seed=True"], "seed=True is not a whole number"),
    (["--set", "04.lr=-1"], "lr=-1"),
    (["--set", "05.checkpoint=best"],
     "checkpoint='best' is unknown; accepted are 'shipped', 'trained'"),
    (["--set", "09.noise=nan"], "noise"),
    (["--sweep", "04.seed=0,1,-1"], "seed=-1"),
    (["--sweep", "04.seed=4..0"], "'4..0' is not accepted"),
    (["--sweep", "04.seed=1,1"], "the same value twice"),
    (["--sweep", "04.seed=0..99", "04.lr=1e-3,2e-3", "04.epochs=1..99"], "at most 10,000"),
    (["--sweep", "04.seed=0,1", "--set", "04.seed=2"], "04.seed is set and swept"),
    (["--set", "04.seed=1", "--only", "01"], "chapter 04_training is not run"),
    (["--cluster", "slurm", "--time", "soon"], "--time 'soon' is not accepted"),
    (["--cluster", "slurm", "--gpus", "-1"], "--gpus -1 is too small"),
    (["--cluster", "slurm", "--workers", "2"], "--workers is for --cluster local"),
    (["--workers", "0"], "--workers 0 is too small"),
])
def test_what_makes_no_sense_is_refused_before_anything_starts(
        words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "_run_all", lambda *arguments: pytest.fail("something started"))
    assert main(["course", "--lane", "smoke", "--out", str(tmp_path / "runs"), *words]) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_a_grid_needs_a_folder_and_a_cluster_needs_slurm(monkeypatch, capsys):
    assert main(["course", "--lane", "smoke", "--sweep", "04.seed=0,1"]) == 1
    assert "give --out" in capsys.readouterr().err
    assert main(["course", "--lane", "smoke", "--cluster", "slurm"]) == 1
    assert "--cluster slurm needs --out" in capsys.readouterr().err
    monkeypatch.setenv("PATH", "")
    assert main(["course", "--lane", "smoke", "--out", "unused", "--cluster", "slurm"]) == 1
    assert "sbatch, srun, squeue, scancel is not here" in capsys.readouterr().err
    assert not pathlib.Path("unused").exists()


def test_a_folder_of_a_grid_has_no_character_that_some_system_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "parameters_of", lambda chapter: {"lane": "", "seed": 0, "what": ""})
    (job,) = plan("smoke", out=tmp_path, sweeps=['04.what=a/b\\c:d*e?f"g<h>i|j k\tl..'])
    assert job.folder == tmp_path / "04.what=a_b_c_d_e_f_g_h_i_j_k_l"
    for same in ("a/b,a:b", "a,A"):
        with pytest.raises(ValueError, match="the same value twice"):
            plan("smoke", out=tmp_path, sweeps=[f"04.what={same}"])
    with pytest.raises(ValueError, match="a name of 158 characters, at most 150 are accepted"):
        plan("smoke", out=tmp_path, sweeps=[f"04.what={'a' * 150}"])
