"""The page on a system of one's own: its module and its commands work as they stand."""

import re
import shlex
import subprocess
import sys

import pytest
import torch

from tests import ROOT

PAGE = (ROOT / "docs" / "your_own_system.md").read_text(encoding="utf-8")
SMALL = {"--num-samples": "48", "--num-eval": "16", "--epochs": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    module = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
    (folder / "my_systems.py").write_text(module, encoding="utf-8")
    return folder


def run(folder, words):
    return subprocess.run([sys.executable, "-m", "trc_lib", *words], cwd=folder, text=True,
                          capture_output=True, timeout=300)


def commands():
    """The page's commands, with few problems, one epoch, and one cycle to export."""
    for line in re.findall(r"^python -m trc_lib (.+)$", PAGE, re.MULTILINE):
        words = shlex.split(line)
        for option, value in SMALL.items():
            if option in words:
                words[words.index(option) + 1] = value
        yield words + ["--H-cycles", "1"] * (words[0] == "export")


def test_the_commands_of_the_page_work_in_order(folder):
    said = {}
    for words in commands():
        done = run(folder, words)
        assert done.returncode == 0, (words, done.stderr)
        said[words[0]] = done.stdout
    assert [*said] == ["generate", "train", "evaluate", "export"]
    assert "Control sequences: (48, 20, 2)" in said["generate"]
    assert "success_rate" in said["evaluate"] and "controls equal within" in said["export"]
    words = next(words for words in commands() if words[0] == "train")
    told = torch.load(folder / words[words.index("--out") + 1] / "best_model.pt",
                      weights_only=True)["feedback"]
    assert told["kind"] == "CostGradient"
    words[words.index("--epochs") + 1] = "2"
    longer = run(folder, words)
    assert longer.returncode == 0 and "Epoch 2/2" in longer.stdout  # the same run, extended


def test_the_other_system_of_the_page_has_other_steps_and_its_class_must_be_known(folder):
    done = run(folder, ["generate", "--problem", "my_systems:pendulum", "--num-samples", "32",
                        "--num-eval", "8", "--horizon", "26", "--out", "pendulum"])
    assert done.returncode == 0 and "(32, 26, 1)" in done.stdout, done.stderr
    done = run(folder, ["train", "--data", "pendulum", "--out", "elsewhere"])
    unknown = "class 'my_systems.Pendulum' is unknown; import the module that defines it first"
    assert done.returncode == 1 and unknown in done.stderr, done.stderr


@pytest.mark.parametrize(("words", "message"), [
    (["generate", "--problem", "my_systems:octorotor"],
     r"'my_systems:octorotor' cannot be imported: .*octorotor"),
    (["generate", "--problem", "no_such_module:pendulum"], "No module named 'no_such_module'"),
    (["generate", "--problem", "quadrotor"],
     "'quadrotor' is unknown; accepted are double_integrator, bounded_inputs, van_der_pol, "
     "weak_van_der_pol, powered_descent, or"),
    (["generate", "--problem", "my_systems:Quadrotor", "--out", "other"],
     r"--problem my_systems:Quadrotor gave Quadrotor\(.*; needs a Problem")],
    ids=["name", "module", "unknown", "no problem"])
def test_what_cannot_be_found_is_said_in_words(folder, words, message):
    done = run(folder, words)
    assert done.returncode == 1 and re.search(message, done.stderr), done.stderr
