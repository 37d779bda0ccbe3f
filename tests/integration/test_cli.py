"""The commands: data, training and evaluation, one after the other."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from trc_lib.__main__ import main
from trc_lib.course import cli
from trc_lib.data import LQRDataset, shards
from trc_lib.model import NoFeedback, Proportional, TinyRecursiveControl
from trc_lib.training import epochs_kept


def test_generate_train_evaluate(tmp_path, capsys):
    data, out = str(tmp_path / "data"), str(tmp_path / "out")
    assert main(["generate", "--num-samples", "128", "--num-eval", "32", "--out", data]) == 0
    printed = capsys.readouterr().out
    assert "Initial states: (128, 2)" in printed and "Control sequences: (128, 15, 1)" in printed
    controls = LQRDataset.load(tmp_path / "data" / "lqr_dataset.npz").controls
    assert f"{controls.square().sum(dim=(1, 2)).mean():.4f}" in printed

    assert main(["train", "--data", data, "--out", out, "--network", "small", "--epochs", "2",
                 "--cycle-weight", "0.1"]) == 0
    assert "Epoch 2/2" in capsys.readouterr().out
    words = ["evaluate", "--checkpoint", f"{out}/best_model.pt",
             "--data", f"{data}/lqr_dataset_eval.npz"]
    assert main([*words, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["num_problems"] == 32 and len(measured["cycles"]) == 4
    last = (tmp_path / "out" / "history.csv").read_text().splitlines()[-1].split(",")
    assert float(last[2]) == pytest.approx(measured["cycles"][-1]["control_mse"], rel=1e-4)
    assert main(words) == 0
    assert "final_error_mean" in capsys.readouterr().out


@pytest.mark.parametrize("problem", ["bounded_inputs", "van_der_pol"])
def test_the_other_problems_go_through_the_same_commands(problem, tmp_path, capsys):
    data, out = str(tmp_path / "data"), str(tmp_path / "out")
    assert main(["generate", "--problem", problem, "--horizon", "20", "--num-samples", "64",
                 "--num-eval", "16", "--out", data]) == 0
    assert main(["train", "--data", data, "--out", out, "--network", "small",
                 "--epochs", "1"]) == 0
    assert "Control sequences: (64, 20, 1)" in capsys.readouterr().out
    assert main(["evaluate", "--checkpoint", f"{out}/best_model.pt",
                 "--data", f"{data}/lqr_dataset_eval.npz"]) == 0
    printed = capsys.readouterr().out
    assert "cost_ratio" in printed and "excess_energy" not in printed


def test_an_option_that_a_problem_does_not_have_is_refused_by_name(tmp_path, capsys):
    words = ["generate", "--problem", "powered_descent", "--num-samples", "4"]
    words += ["--out", str(tmp_path)]
    assert main([*words, "--dt", "0.1"]) == 1
    assert "--dt is not accepted for --problem powered_descent" in capsys.readouterr().err
    assert main([*words, "--state-range", "2"]) == 1
    assert "--state-range is not accepted" in capsys.readouterr().err
    assert main([*words, "--num-eval", "2", "--horizon", "8"]) == 0
    assert "(4, 8, 4)" in capsys.readouterr().out


def test_generate_makes_two_sets_that_share_no_problem_and_replaces_both_or_none(tmp_path, capsys):
    words = ["generate", "--out", str(tmp_path), "--seed", "3", "--num-samples"]
    assert main([*words, "200", "--num-eval", "100"]) == 0
    paths = [tmp_path / "lqr_dataset.npz", tmp_path / "lqr_dataset_eval.npz"]
    train_set, eval_set = map(LQRDataset.load, paths)
    assert train_set.seed == 3 != eval_set.seed
    starts = [set(each.initial_states[:, 0].tolist()) for each in (train_set, eval_set)]
    assert not starts[0] & starts[1]
    before = [path.read_bytes() for path in paths]
    for num_samples, num_eval in ((50, 0), (0, 50)):
        assert main([*words, str(num_samples), "--num-eval", str(num_eval)]) == 1
        assert re.match(r"error: --num-(samples|eval) 0 is too small", capsys.readouterr().err)
    assert [path.read_bytes() for path in paths] == before


def test_generate_makes_a_store_of_many_problems_goes_on_with_it_and_train_reads_it(
        tmp_path, monkeypatch, capsys):
    words = ["generate", "--num-eval", "16", "--out", str(tmp_path), "--num-samples"]
    assert main([*words, "64"]) == 0 and main([*words, "1_000"]) == 0  # a file, written over
    monkeypatch.setattr(cli, "LARGEST_FILE", 1_000)
    monkeypatch.setattr(shards, "SHARD", 400)
    assert main([*words, "1_001"]) == 0
    said = capsys.readouterr().out
    assert "Control sequences: (1001, 15, 1)" in said
    assert "Average energy of the first 400: " in said
    assert not (tmp_path / "lqr_dataset.npz").exists()  # `train` would read it
    (tmp_path / "lqr_dataset" / "shard-00001.npy").unlink()
    train = ["train", "--data", str(tmp_path), "--out", str(tmp_path / "run"),
             "--network", "small", "--epochs", "1"]
    assert main(train) == 1
    assert "run generate again to repair the store" in capsys.readouterr().err
    assert main([*words, "1_001"]) == 0 and main(train) == 0
    assert "146,718 parameters, 1,001 problems" in capsys.readouterr().out
    assert main([*words, "1_002"]) == 1
    assert "num_samples: 1001 -> 1002" in capsys.readouterr().err
    assert main([*words, "64"]) == 1
    assert "holds a training set of more than 1,000 problems" in capsys.readouterr().err


def test_every_training_option_reaches_the_training(tmp_path, capsys):
    assert main(["generate", "--num-samples", "64", "--num-eval", "16",
                 "--out", str(tmp_path)]) == 0
    base = ["train", "--data", str(tmp_path), "--out", str(tmp_path / "run"),
            "--network", "small", "--device", "cpu"]
    asked = {"epochs": 1, "batch_size": 16, "lr": 0.002, "weight_decay": 0.01, "patience": 3,
             "cycle_weight": 0.5, "seed": 4, "objective": "rms", "final_weight": 0.2,
             "most_cycles": 3}
    options = [word for name, value in asked.items()
               for word in (f"--{name.replace('_', '-')}", str(value))]

    def network():
        return TinyRecursiveControl.load(tmp_path / "run" / "best_model.pt")

    assert main([*base, *options, "--feedback", "none", "--H-cycles", "2", "--L-cycles", "1",
                 "--mixed-precision"]) == 0
    model = network()
    assert asked.items() <= model.recipe["training"].items()
    assert model.recipe["training"]["mixed_precision"] and model.recipe["model_seed"] == 4
    assert (model.config.H_cycles, model.config.L_cycles) == (2, 1)
    assert isinstance(model.feedback, NoFeedback)

    assert main([*base, "--epochs", "1", "--proportional", "--fresh"]) == 0
    assert isinstance(network().feedback, Proportional)

    capsys.readouterr()
    assert main([*base, "--feedback", "cost-gradient", "--fresh"]) == 1
    assert "a quadratic cost; these are of a Mini" in capsys.readouterr().err

    assert main([*base, *options, "--fresh"]) == 0
    capsys.readouterr()
    assert main([*base, "--epochs", "1", "--seed", "9"]) == 1
    said = capsys.readouterr().err
    assert "--fresh to write over it" in said and "training.seed: 4 -> 9" in said
    assert main([*base, "--epochs", "1", "--seed", "9", "--fresh"]) == 0
    assert network().recipe["model_seed"] == 9


def test_ctrl_c_in_training_keeps_the_whole_epochs(tmp_path):
    run, command = tmp_path / "run", [sys.executable, "-m", "trc_lib"]
    assert main(["generate", "--num-samples", "256", "--num-eval", "16",
                 "--out", str(tmp_path)]) == 0
    running = subprocess.Popen(
        [*command, "train", "--data", str(tmp_path), "--out", str(run), "--network", "small",
         "--epochs", "300"], env=os.environ | {"PYTHONUNBUFFERED": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (run / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 1 and "whole epochs are kept" in said and "Traceback" not in said
    assert 1 <= epochs_kept(run) < 300
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("surroundings", [
    {"PYTHONIOENCODING": "ascii:strict"}, {"PYTHONIOENCODING": "shift_jis"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}], ids=str)
def test_the_command_prints_where_the_terminal_lacks_characters(surroundings, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "trc_lib", "generate", "--num-samples", "16", "--num-eval", "8",
         "--out", str(tmp_path / "data")], capture_output=True, env=os.environ | surroundings)
    assert done.returncode == 0 and b"(m/s^2)^2" in done.stdout and not done.stderr
