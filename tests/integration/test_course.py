"""Lanes, artifacts, the runner, the report and the command line."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from tests import ROOT
from tests.notebooks import write_notebook
from trc_lib import course, io
from trc_lib.__main__ import main
from trc_lib.course import cli
from trc_lib.course.batch import plan, report, runner
from trc_lib.course.batch.plan import CHAPTERS
from trc_lib.course.experiments import STUDIES
from trc_lib.course.workspace import root
from trc_lib.data import EVAL_SEED, LQRDataset, generate_dataset, shards
from trc_lib.evaluation import evaluate
from trc_lib.model import NoFeedback, Proportional, TinyRecursiveControl
from trc_lib.training import epochs_kept


@pytest.fixture
def tiny_lane():
    """A lane that trains in a second."""
    lane = course.choose_preset("smoke", epochs=2, batch_size=32, snapshot_epochs=(0, 1, 2))
    return dataclasses.replace(lane, num_train=64, num_eval=32, changes=())


# ---------------------------------------------------------------- lanes


@pytest.mark.parametrize("words, message", [
    ({"name": "fast"}, "lane='fast' is unknown; accepted are 'smoke', 'cpu', 'gpu'"),
    ({"name": "cpu", "seed": -1}, "seed=-1"),
    ({"name": "cpu", "seed": "1"}, "seed='1'"),
    ({"name": "cpu", "seed": 1_000_000}, "seed=1000000"),
    ({"name": "cpu", "feedback": "yes"}, "feedback='yes'"),
    ({"name": "cpu", "epochs": 0}, "epochs=0"),
    ({"name": "cpu", "lr": "1e-3"}, "lr='1e-3'"),
    ({"name": "cpu", "cycle_weight": -0.1}, "cycle_weight=-0.1"),
    ({"name": "cpu", "momentum": 0.9}, "momentum"),
])
def test_a_lane_names_what_is_wrong(words, message):
    with pytest.raises((TypeError, ValueError), match=message):
        course.choose_preset(**words)


def test_a_changed_lane_gets_a_folder_of_its_own(scratch_course):
    plain, changed = course.choose_preset("cpu"), course.choose_preset("cpu", lr=0.002, feedback=False)
    assert course.folder(plain) == course.folder(changed) == scratch_course / "data/cpu/seed-0"
    assert changed.changes == ("lr=0.002", "feedback=False") and isinstance(changed.make_model().feedback, NoFeedback)


def test_every_lane_tests_on_problems_that_it_does_not_train_on(scratch_course, tiny_lane):
    train_set, eval_set = course.load_or_make_datasets(tiny_lane, say=lambda text: None)
    seen = {tuple(row) for row in train_set.initial_states.tolist()}
    assert not seen & {tuple(row) for row in eval_set.initial_states.tolist()}


# ---------------------------------------------------------------- artifacts


def test_datasets_are_made_then_loaded_and_remade_for_another_recipe(scratch_course, tiny_lane):
    said = []
    first, _ = course.load_or_make_datasets(tiny_lane, say=said.append)
    again, _ = course.load_or_make_datasets(tiny_lane, say=said.append)
    larger, _ = course.load_or_make_datasets(dataclasses.replace(tiny_lane, num_train=65), say=said.append)
    assert first.fingerprint == again.fingerprint and len(larger) == 65
    assert [text.split()[0] for text in said] == ["made", "made", "loaded", "loaded", "made", "loaded"]


def test_a_damaged_dataset_is_refused_and_left_alone(scratch_course, tiny_lane):
    course.load_or_make_datasets(tiny_lane, say=lambda text: None)
    path = course.folder(tiny_lane) / "lqr_dataset.npz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"lqr_dataset\.npz"):
        course.load_or_make_datasets(tiny_lane)
    assert path.stat().st_size == 500


def test_training_is_done_once_and_again_when_asked_or_when_the_recipe_changes(scratch_course, tiny_lane):
    sets = course.load_or_make_datasets(tiny_lane, say=lambda text: None)

    def outcome(lane, **options):
        said = []
        model, history, snapshots = course.load_or_train(lane, *sets, progress=False, say=said.append, **options)
        return model.solve([0, 0], [1, 0]), history, sorted(snapshots), said

    made, history, snapshots, said = outcome(tiny_lane)
    assert snapshots == [0, 1, 2] and len(history) == 2 and said[0].startswith("made")
    loaded, *_, said = outcome(tiny_lane)
    assert torch.equal(made, loaded) and said[0].startswith("loaded")
    anew, *_, said = outcome(tiny_lane, retrain=True)
    assert torch.equal(made, anew) and said[0].startswith("made")
    other = dataclasses.replace(tiny_lane, training=dataclasses.replace(tiny_lane.training, lr=1e-4))
    different, *_, said = outcome(other)
    assert not torch.equal(made, different) and "another recipe" in said[0]


# ---------------------------------------------------------------- the shipped checkpoint


@pytest.fixture(params=["two_level_medium", "two_level_medium_long"])
def shipped(request):
    return ROOT / "data" / "pretrained" / f"{request.param}.pt"


def test_the_shipped_checkpoint_is_the_one_in_its_card(shipped):
    card = json.loads(shipped.with_suffix(".json").read_text())
    assert card["sha256"] == hashlib.sha256(shipped.read_bytes()).hexdigest()
    assert card["recipe"] == TinyRecursiveControl.load(shipped).recipe
    assert shipped.stat().st_size < 2.5e6


def test_the_shipped_checkpoint_reaches_the_headline():
    lane = course.PRESETS["cpu"]
    model = course.pretrained()
    final = evaluate(model, generate_dataset(lane.num_eval, lane.seed + EVAL_SEED))[-1]
    assert abs(model.num_parameters / 600_000 - 1) < 0.1
    assert final.final_error_mean <= 0.010 and final.success_rate == 1 and final.control_mse <= 4.9e-5


def test_the_best_network_arrives_to_a_thousandth_of_a_millimetre():
    problems = generate_dataset(5_000, seed=7_000_000)
    first, *cycles = evaluate(course.pretrained("two_level_medium_long"), problems)
    assert cycles[-1].final_error_mean < 3e-6 and cycles[-1].final_error_max < 1e-3 and cycles[-1].success_rate == 1
    assert first.final_error_mean > cycles[0].final_error_mean > cycles[1].final_error_mean > cycles[2].final_error_mean


# ---------------------------------------------------------------- the runner


@pytest.mark.parametrize("damage", [lambda text: text[:len(text) // 2], lambda text: text.replace("iVBORw0KGgo", "iVBORw0KGga"),
                                    lambda text: text.replace('"cells"', '"sells"')], ids=["cut", "picture", "key"])
def test_a_damaged_notebook_is_refused_before_its_pictures_are_shown(tmp_path, damage):
    text = (ROOT / "notebooks" / "02_dataset.ipynb").read_text(encoding="utf-8")
    (tmp_path / "broken.ipynb").write_text(damage(text), encoding="utf-8")
    with pytest.raises(ValueError, match=r"broken\.ipynb is damaged, or no notebook: "):
        runner.tagged_pictures(tmp_path / "broken.ipynb")


def test_the_whole_course_runs_on_the_smoke_lane_and_is_reused(scratch_course, capsys):
    for name in CHAPTERS:
        shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", scratch_course / "notebooks")
    shutil.copytree(ROOT / "data" / "pretrained", scratch_course / "data" / "pretrained")
    (scratch_course / "data" / "results").mkdir()
    for study in STUDIES:
        shutil.copy(ROOT / "data" / "results" / f"{study}.json", scratch_course / "data" / "results")
    assert main(["course", "--lane", "smoke"]) == 0
    printed = capsys.readouterr().out
    for row in ("mean final error", "success rate", "146,718"):
        assert row in printed
    results = io.read_json(scratch_course / "runs/smoke/metrics.json")
    assert results["05_evaluation"]["num_eval"] == 200 and results["05_evaluation"]["checkpoint"] == "trained"
    assert set(results["seconds"]) == set(CHAPTERS)
    assert not (scratch_course / "figures").exists()
    assert {path.stem for path in (scratch_course / "data/results").iterdir()} == set(STUDIES)  # what it was given

    assert main(["course", "--lane", "smoke"]) == 0
    assert "runs/smoke: reused" in capsys.readouterr().out
    assert io.read_json(scratch_course / "runs/smoke/metrics.json") == results


def test_only_the_cpu_lane_is_published_with_its_pictures_and_its_table(scratch_course, monkeypatch, results, capsys):
    source = "import matplotlib.pyplot as plt\nplt.plot([0, 1])\nplt.show()"
    made = write_notebook(scratch_course / "notebooks" / "01_teacher.ipynb", (source, ["figure=line"]))
    (scratch_course / "README.md").write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(plan, "CHAPTERS", (made,))
    monkeypatch.setattr(runner, "CHAPTERS", (made,))
    monkeypatch.setattr(runner, "_one_refinement", lambda job: {
        "dt": 0.33, "off": np.ones((4, 15, 1)) / 9, "ends": np.ones((4, 2)) / 9, "target_state": np.zeros(2)})
    monkeypatch.setattr(runner, "_results", lambda job: results | {"lane": job.lane})
    for options in ({"lane": "gpu"}, {"seed": 1}, {"out": scratch_course / "elsewhere"}):
        runner.run_course(**options)
        assert "old" in (scratch_course / "README.md").read_text(encoding="utf-8") and not (scratch_course / "figures").exists()
    assert {path.name for path in (scratch_course / "runs").iterdir()} == {"gpu", "cpu-seed-1"}
    runner.run_course("cpu", 0)
    readme = (scratch_course / "README.md").read_text(encoding="utf-8")
    assert readme.startswith("before") and readme.endswith("after\n") and "old" not in readme and "607,262" in readme
    assert (scratch_course / "figures" / "line.png").read_bytes().startswith(b"\x89PNG")
    assert Image.open(scratch_course / "figures" / "refinement.gif").n_frames == 4
    assert io.read_json(scratch_course / "data/results/course.json") == results


# ---------------------------------------------------------------- results and README


@pytest.fixture(scope="module")
def results():
    return io.read_json(ROOT / "data" / "results" / "course.json")


def test_the_readme_shows_the_results_of_the_course(results):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert report.readme_table(results) in readme
    assert readme == report.replace_between(readme, report.BEGIN, report.END, report.readme_table(results))


def test_the_course_reached_its_headline(results):
    network = results["05_evaluation"]["this network"]
    assert results["04_training"]["seconds"] <= 120
    assert results["lane"] == "cpu" and results["05_evaluation"]["checkpoint"] == "trained"
    assert network["final_error_mean"] <= 0.010 and network["success_rate"] == 1 and network["control_mse"] <= 4.9e-5


def test_every_picture_and_file_that_the_readme_names_is_there():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", readme)
    local = {first or second for first, second in named if not (first or second).startswith("http")}
    assert len(local) > 15 and not [name for name in local if not (ROOT / name).exists()]


# ---------------------------------------------------------------- the command line


def test_generate_train_evaluate_from_the_command_line(tmp_path, capsys):
    data, out = str(tmp_path / "data"), str(tmp_path / "out")
    assert main(["generate", "--num-samples", "128", "--num-eval", "32", "--out", data]) == 0
    printed = capsys.readouterr().out
    assert "Initial states: (128, 2)" in printed and "Control sequences: (128, 15, 1)" in printed
    train_set = LQRDataset.load(tmp_path / "data" / "lqr_dataset.npz")
    assert f"{train_set.controls.square().sum(dim=(1, 2)).mean():.4f}" in printed

    words = ["train", "--data", data, "--out", out, "--network", "small", "--epochs", "2", "--cycle-weight", "0.1"]
    assert main(words) == 0
    assert "Epoch 2/2" in capsys.readouterr().out
    assert main(["evaluate", "--checkpoint", f"{out}/best_model.pt", "--data", f"{data}/lqr_dataset_eval.npz", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["num_problems"] == 32 and len(measured["cycles"]) == 4
    rows = (tmp_path / "out" / "history.csv").read_text().splitlines()
    assert float(rows[-1].split(",")[2]) == pytest.approx(measured["cycles"][-1]["control_mse"], rel=1e-4)
    assert main(["evaluate", "--checkpoint", f"{out}/best_model.pt", "--data", f"{data}/lqr_dataset_eval.npz"]) == 0
    assert "final_error_mean" in capsys.readouterr().out


@pytest.mark.parametrize("problem", ["bounded_inputs", "van_der_pol"])
def test_the_other_problems_go_through_the_same_commands(problem, tmp_path, capsys):
    data, out = str(tmp_path / "data"), str(tmp_path / "out")
    words = ["generate", "--problem", problem, "--horizon", "20", "--num-samples", "64", "--num-eval", "16"]
    assert main([*words, "--out", data]) == 0
    assert main(["train", "--data", data, "--out", out, "--network", "small", "--epochs", "1"]) == 0
    assert "Control sequences: (64, 20, 1)" in capsys.readouterr().out
    assert main(["evaluate", "--checkpoint", f"{out}/best_model.pt", "--data", f"{data}/lqr_dataset_eval.npz"]) == 0
    printed = capsys.readouterr().out
    assert "cost_ratio" in printed and "excess_energy" not in printed


def test_generate_makes_two_sets_that_share_no_problem_and_replaces_both_or_none(tmp_path, capsys):
    words = ["generate", "--num-samples", "200", "--num-eval", "100", "--seed", "3", "--out", str(tmp_path)]
    assert main(words) == 0
    paths = [tmp_path / "lqr_dataset.npz", tmp_path / "lqr_dataset_eval.npz"]
    train_set, eval_set = map(LQRDataset.load, paths)
    assert train_set.seed == 3 != eval_set.seed
    assert not set(train_set.initial_states[:, 0].tolist()) & set(eval_set.initial_states[:, 0].tolist())
    before = [path.read_bytes() for path in paths]
    assert main([*words[:2], "50", "--num-eval", "0", "--out", str(tmp_path)]) == 1
    assert [path.read_bytes() for path in paths] == before and "num_samples=0" in capsys.readouterr().err


def test_generate_makes_a_store_of_many_problems_goes_on_with_it_and_train_reads_it(tmp_path, monkeypatch, capsys):
    words = ["generate", "--num-eval", "16", "--out", str(tmp_path), "--num-samples"]
    assert main([*words, "64"]) == 0 and main([*words, "1_000"]) == 0          # a file, which is written over
    monkeypatch.setattr(cli, "LARGEST_FILE", 1_000)
    monkeypatch.setattr(shards, "SHARD", 400)
    assert main([*words, "1_001"]) == 0
    said = capsys.readouterr().out
    assert "Control sequences: (1001, 15, 1)" in said and "Average energy of the first 400: " in said
    assert not (tmp_path / "lqr_dataset.npz").exists()                         # or it could be taken for the newer one
    (tmp_path / "lqr_dataset" / "shard-00001.npy").unlink()
    train = ["train", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--network", "small", "--epochs", "1"]
    assert main(train) == 1 and "run generate again to repair the store" in capsys.readouterr().err
    assert main([*words, "1_001"]) == 0 and main(train) == 0
    assert "146,718 parameters, 1,001 problems" in capsys.readouterr().out
    assert main([*words, "1_002"]) == 1 and "num_samples: 1001 -> 1002" in capsys.readouterr().err
    assert main([*words, "64"]) == 1 and "holds a training set of more than 1,000 problems" in capsys.readouterr().err


def test_every_training_option_reaches_the_training(tmp_path, capsys):
    assert main(["generate", "--num-samples", "64", "--num-eval", "16", "--out", str(tmp_path)]) == 0
    base = ["train", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--network", "small", "--device", "cpu"]
    asked = {"epochs": 1, "batch_size": 16, "lr": 0.002, "weight_decay": 0.01, "patience": 3, "cycle_weight": 0.5, "seed": 4,
             "objective": "rms", "final_weight": 0.2, "most_cycles": 3}
    options = [word for name, value in asked.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert main([*base, *options, "--no-feedback", "--H-cycles", "2", "--L-cycles", "1", "--mixed-precision"]) == 0
    model = TinyRecursiveControl.load(tmp_path / "run" / "best_model.pt")
    assert asked.items() <= model.recipe["training"].items() and model.recipe["training"]["mixed_precision"]
    assert (model.config.H_cycles, model.config.L_cycles) == (2, 1) and isinstance(model.feedback, NoFeedback)
    assert model.recipe["model_seed"] == 4

    assert main([*base, "--epochs", "1", "--proportional", "--fresh"]) == 0
    assert isinstance(TinyRecursiveControl.load(tmp_path / "run" / "best_model.pt").feedback, Proportional)

    assert main([*base, *options, "--fresh"]) == 0
    capsys.readouterr()
    assert main([*base, "--epochs", "1", "--seed", "9"]) == 1
    assert "--fresh to write over it" in (said := capsys.readouterr().err) and "training.seed: 4 -> 9" in said
    assert main([*base, "--epochs", "1", "--seed", "9", "--fresh"]) == 0
    assert TinyRecursiveControl.load(tmp_path / "run" / "best_model.pt").recipe["model_seed"] == 9


@pytest.mark.parametrize("words, code, message", [
    (["generate", "--horizon", "100000", "--out", "unused"], 1, "horizon=100000 is too long"),
    (["generate", "--num-samples", "1000000000000", "--out", "unused"], 1, "error: "),
    ([], 2, "COMMAND"),
    (["dance"], 2, "dance"),
    (["generate", "--num-samples", "many"], 2, "--num-samples"),
    (["course", "--lane", "fast"], 2, "fast"),
    (["generate", "--num-samples", "0", "--out", "unused"], 1, "num_samples=0"),
    (["generate", "--dt", "-1", "--out", "unused"], 1, "dt=-1"),
    (["generate", "--horizon", "1", "--out", "unused"], 1, "needs at least 2 steps"),
    (["train", "--data", "nowhere"], 1, "nowhere"),
    (["evaluate", "--checkpoint", "nowhere.pt"], 1, "nowhere.pt does not exist"),
    (["train", "--data", "nowhere", "--device", "tpu"], 1, "nowhere"),
])
def test_wrong_words_give_two_and_failed_runs_give_one(words, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        returned = main(words)
    except SystemExit as stop:
        returned = stop.code
    assert returned == code and message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_tells_of_every_option_of_every_command_and_of_its_default_where_it_has_one(capsys):
    for command in ("generate", "train", "evaluate", "export", "course", "sweep"):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        usage, told = capsys.readouterr().out.split("\noptions:\n")
        assert stop.value.code == 0 and "(default: " in told and not re.search(r"default:\s+(None|False|\[\])", told)
        for option in re.findall(r"--[\w-]+", usage):
            assert re.search(rf"^  (-.*, )?{option}\b.*(  \w|\n {{20}})", told, re.MULTILINE), (command, option)    # and words


def test_ctrl_c_in_training_keeps_the_whole_epochs_and_the_next_run_goes_on(tmp_path):
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    base = [sys.executable, "-m", "trc_lib"]
    subprocess.run([*base, "generate", "--num-samples", "256", "--num-eval", "16", "--out", str(tmp_path)], check=True,
                   env=environment, stdout=subprocess.DEVNULL)
    words = [*base, "train", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--network", "small", "--epochs", "300"]
    running = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 1 and "whole epochs are kept" in said and "Traceback" not in said
    assert 1 <= epochs_kept(tmp_path / "run") < 300
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]


# ---------------------------------------------------------------- the doctor


def test_the_doctor_passes_here_and_names_the_remedy_where_something_is_missing(monkeypatch, capsys):
    assert main(["doctor"]) == 0
    assert "FAIL" not in capsys.readouterr().out
    real = importlib.metadata.version
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1" if name == "papermill" else real(name))
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if "papermill" in line)
    assert line.startswith("FAIL") and "pip install" in line and "1 of" in printed


def _failures(capsys):
    assert main(["doctor"]) == 1
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]


def test_the_doctor_finds_an_old_python(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 10, 0))
    assert ["Python" in line and "-> install a newer Python" in line for line in _failures(capsys)] == [True]


def test_the_doctor_finds_that_nothing_is_installed(monkeypatch, capsys):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    assert ["packages" in line and "-> pip install" in line for line in _failures(capsys)] == [True]


def test_the_doctor_finds_a_device_that_does_not_compute(monkeypatch, capsys):
    def broken(*arguments, **options):
        raise RuntimeError("CUDA driver version is insufficient")

    monkeypatch.setattr(torch, "ones", broken)
    assert ["insufficient" in line and "-> " in line for line in _failures(capsys)] == [True]


def test_the_doctor_finds_a_kernelspec_of_another_environment(monkeypatch, capsys):
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    other = KernelSpec(argv=["/usr/bin/env", "-m", "ipykernel_launcher"])
    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda self, name: other)
    assert ["kernelspec" in line and "ipykernel install" in line for line in _failures(capsys)] == [True]


def test_the_doctor_finds_a_folder_that_cannot_be_written_to(monkeypatch, capsys):
    def read_only(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    assert len(_failures(capsys)) == 3


def test_the_course_is_found_from_its_notebooks_folder(monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    assert root() == ROOT
