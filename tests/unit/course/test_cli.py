"""What the command line refuses, what it advises, and its help."""

import os
import re
import shlex
import sys

import pytest

import trc_lib
from trc_lib.__main__ import main
from trc_lib.course import cli, doctor
from trc_lib.data import LQRDataset
from trc_lib.model import TinyRecursiveControl


def run(words):
    """The exit code of a command."""
    try:
        return main(words)
    except SystemExit as stop:
        return stop.code


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words, message", [
    ("generate --num-samples 0", "--num-samples 0 is too small; needs at least 1"),
    ("generate --num-samples -5", "--num-samples -5 is too small; needs at least 1"),
    ("generate --num-samples 1000000000000", "the disk of data/lqr_dataset has"),
    ("generate --num-eval 0", "--num-eval 0 is too small"),
    ("generate --num-eval 100000000", "--num-eval 100000000 is too large; at most 1000000"),
    ("generate --horizon 100000", "--horizon 100000 is too long"),
    ("generate --horizon 1", "needs at least 2 steps"),
    ("generate --horizon -1", "--horizon -1 is too small"),
    ("generate --dt -1", "--dt -1"),
    ("generate --dt nan", "--dt nan is not accepted; give a finite number above zero"),
    ("generate --state-range inf", "--state-range inf is not accepted"),
    ("generate --state-range 0", "--state-range 0.0 is not accepted"),
    ("generate --seed -1", "--seed -1 is too small"),
    ("generate --seed 9223372036854775807", "--seed 9223372036854775807 is too large"),
    ("generate --problem van_der_pole", "mymodule:name of a function that returns a Problem; "
     "did you mean 'van_der_pol' or 'weak_van_der_pol'?"),
    ("train --data nowhere", "nowhere/lqr_dataset.npz does not exist"),
    ("train --proportional --feedback none", "--proportional needs feedback"),
    ("train --epochs 0", "--epochs 0 is too small"),
    ("train --batch-size -3", "--batch-size -3 is too small"),
    ("train --lr nan", "--lr nan is not accepted"),
    ("train --seed -1", "--seed -1 is too small"),
    ("train --device tpu", "--device 'tpu' is unknown; accepted are 'auto', 'cpu', 'cuda'"),
    ("evaluate --checkpoint nowhere.pt", "nowhere.pt does not exist"),
    ("export --checkpoint nowhere.pt", "nowhere.pt does not exist"),
    ("course --seed -1", "--seed -1 is too small"),
    ("course --workers 0", "--workers 0 is too small"),
    ("sweep --only recursive both", "--only both is unknown; the study sweep has"),
    ("sweep --only recursve", "; did you mean 'recursive'?"),
    ("sweep --study bouded", "did you mean 'bounded'?"),
    ("sweep --workers 0", "--workers 0 is too small"),
    ("sweep --seeds 0", "--seeds 0 is too small"),
    ("sweep --seeds 101", "--seeds 101 is too large; at most 100"),
])
def test_what_makes_no_sense_is_refused_in_one_line_before_anything_is_said_or_written(
        words, message, folder, capsys):
    assert run(words.split()) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and message in said.err and said.err.count("\n") == 1
    assert not said.out and not list(folder.iterdir())


@pytest.mark.parametrize("words, message", [
    ("dance", "argument COMMAND: 'dance' is unknown; accepted are generate, train, evaluate"),
    ("genrate --num-samples 5", "; did you mean 'generate'?"),
    ("Train", "; did you mean 'train'?"),
    ("generate --num-samples many", "argument --num-samples: needs a whole number, not 'many'"),
    ("generate --num-samples 1.5", "argument --num-samples: needs a whole number, not '1.5'"),
    ("generate --dt fast", "argument --dt: needs a number, not 'fast'"),
    ("train --epocs 5", "--epocs is not understood; did you mean '--epochs'?"),
    ("train --cycel-weight=5", "--cycel-weight=5 is not understood; did you mean '--cycle-weight'"),
    ("train well", "well is not understood"),
    ("train --objective mes", "accepted are mse, rms, improvement"),
    ("train --objective mes", "did you mean 'rms' or 'mse'?"),
    ("train --network smal", "accepted are small, medium; did you mean 'small'?"),
    ("course --lane cup", "'cup' is unknown; accepted are smoke, cpu, gpu; did you mean 'cpu'?"),
    ("course --cluster slrum", "accepted are local, slurm; did you mean 'slurm'?"),
    ("doctor --verbose", "--verbose is not understood"),
])
def test_what_is_not_understood_gives_two_and_says_in_two_lines_what_is_and_where_to_read_on(
        words, message, folder, capsys):
    assert run(words.split()) == 2
    reason, hint = capsys.readouterr().err.splitlines()
    assert reason.startswith("error: ") and message in reason
    command = words.split()[0] if message.startswith("-") or "--" in words else ""
    if command in ("generate", "train", "course", "doctor"):
        assert hint == f"see python -m trc_lib {command} --help"
    assert re.fullmatch(r"see python -m trc_lib( \w+)? --help", hint)


def test_without_words_the_help_is_shown(capsys):
    assert run([]) == 2
    said = capsys.readouterr()
    assert not said.out and "To begin: generate" in said.err and len(said.err.splitlines()) < 40


def test_the_version_is_told(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"trc_lib {trc_lib.__version__}\n"


@pytest.mark.parametrize("words", ["generate --out blocked", "train --out blocked",
                                   "sweep --out blocked", "generate --out blocked/below"])
def test_a_file_in_the_place_of_the_folder_is_refused_before_anything_is_said(
        words, folder, capsys):
    assert run("generate --num-samples 16 --num-eval 8".split()) == 0
    (folder / "blocked").write_text("old")
    capsys.readouterr()
    assert run(words.split()) == 1
    said = capsys.readouterr()
    assert not said.out and (folder / "blocked").read_text() == "old"
    assert re.match(r"error: cannot write to blocked.*: (it is a file; needs a folder|Not a)",
                    said.err)


def test_files_that_are_something_else_are_refused_with_what_they_are(folder, capsys):
    assert run("generate --num-samples 16 --num-eval 8".split()) == 0
    TinyRecursiveControl.create_two_level_small().save("network.pt")
    capsys.readouterr()
    for words, message in {
            "evaluate --checkpoint data/lqr_dataset.npz": "it is an npz file, as datasets are",
            "evaluate --checkpoint data": "it is a folder; needs a file that `train` wrote",
            "evaluate --checkpoint network.pt --data network.pt":
                "it is a PyTorch file, as checkpoints are; needs a dataset",
            "evaluate --checkpoint network.pt --data data": "it is a folder; needs a dataset",
            "export --checkpoint data/lqr_dataset.npz": "it is an npz file",
            "train --data network.pt": "network.pt is a file; needs a folder"}.items():
        assert run(words.split()) == 1
        assert message in capsys.readouterr().err


def advised(words, capsys):
    """The words of the command that a failed command advises."""
    assert run(words) == 1
    line = capsys.readouterr().err.strip()
    return shlex.split(line.partition("make it with: ")[2])


@pytest.mark.skipif(os.name == "nt", reason="the command is quoted for another shell")
@pytest.mark.parametrize("problem", ["double_integrator", "bounded_inputs"])
def test_the_advised_commands_make_what_is_missing_where_it_is_missing(problem, folder, capsys):
    checkpoint, data = "my runs/best_model.pt", "my data/lqr_dataset_eval.npz"
    words = ["evaluate", "--problem", problem, "--checkpoint", checkpoint, "--data", data]
    train = advised(words, capsys)
    generate = advised(train[3:], capsys)
    assert train[:4] == ["python", "-m", "trc_lib", "train"] and generate[3] == "generate"
    assert run([*generate[3:], "--num-samples", "32", "--num-eval", "8"]) == 0
    assert run([*train[3:], "--epochs", "1", "--network", "small"]) == 0
    assert run(words) == 0
    assert LQRDataset.load(data).teacher.same_as(cli.PROBLEMS[problem]().teacher)
    capsys.readouterr()

    words[-1] = "my data/other's.npz"
    python, option, code = advised(words, capsys)
    assert (python, option) == ("python", "-c")
    exec(code, {})
    assert run(words) == 0


def test_an_empty_folder_in_the_place_of_a_store_is_none(folder, capsys):
    (folder / "data" / "lqr_dataset").mkdir(parents=True)
    assert advised(["train"], capsys)[3] == "generate"
    assert run("generate --num-samples 16 --num-eval 8".split()) == 0


def test_missing_packages_lead_to_the_doctor(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "trc_lib.course.cli", None)
    assert run(["train"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.endswith("python -m trc_lib doctor\n")


def test_ctrl_c_is_one_line_also_outside_a_command(monkeypatch, capsys):
    def stopped():
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "diagnose", stopped)
    assert run(["doctor"]) == 1
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("command", ["generate", "train", "evaluate", "export", "course", "sweep",
                                     "lab"])
def test_help_describes_every_option_and_names_its_default_where_it_has_one(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    usage, told = capsys.readouterr().out.split("\noptions:\n")
    assert stop.value.code == 0
    assert "(default: " in told and not re.search(r"default:\s+(None|False|\[\])", told)
    for option in re.findall(r"--[\w-]+", usage):
        described = rf"^  (-.*, )?{option}\b.*(  \w|\n {{20}})"
        assert re.search(described, told, re.MULTILINE), option


def test_data_of_another_problem_than_the_one_given_are_refused(folder, capsys):
    assert run("generate --num-samples 16 --num-eval 8".split()) == 0
    train = "train --epochs 1 --network small --problem".split()
    for problem, whose in (("van_der_pol", "IterativeLQR for VanDerPol"),
                           ("bounded_inputs", "BoundedMinimumEnergyController for Linear")):
        capsys.readouterr()
        assert run([*train, problem]) == 1
        said = capsys.readouterr().err
        assert f"--problem {problem} is {whose}" in said
        assert "was made by MinimumEnergyController for LinearSystem" in said
        assert not (folder / "data/training").exists()
    assert run([*train, "double_integrator"]) == 0
    assert run("evaluate --problem bounded_inputs".split()) == 1 and run(["evaluate"]) == 0


@pytest.mark.parametrize("option", ["--partition=a", "--gpus=0", "--cpus=1", "--time=5"])
def test_options_of_slurm_are_not_ignored_elsewhere(option, folder, capsys):
    assert run(["course", "--lane", "smoke", option]) == 1
    assert f"{option.partition('=')[0]} is for --cluster slurm" in capsys.readouterr().err
