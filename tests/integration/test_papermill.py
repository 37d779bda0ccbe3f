"""Plain papermill, without our runner."""

import subprocess
import sys

import nbformat
import pytest

from tests import ROOT


@pytest.fixture
def beginning(tmp_path):
    """The parameters of chapter 4 and their check, without the rest."""
    notebook = nbformat.read(ROOT / "notebooks" / "04_training.ipynb", 4)
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code"][:2]
    nbformat.write(notebook, tmp_path / "in.ipynb")
    return tmp_path


@pytest.mark.parametrize(("words", "message"), [
    (["-p", "epoch", "3"], "this notebook has no parameter 'epoch'; it has lane, seed, epochs"),
    (["-p", "epochs", "3", "-p", "Seed", "1"], "did you mean 'seed'?"),
    (["-y", "{lr: 1e-3}"], "lr='1e-3'"), (["-p", "epochs", "3", "-p", "lr", "1e-3"], None)])
def test_a_mistyped_parameter_is_refused_by_the_notebook_itself(words, message, beginning):
    ended = subprocess.run([sys.executable, "-m", "papermill", "in.ipynb", "out.ipynb", *words],
                           cwd=beginning, capture_output=True, text=True)
    out = (beginning / "out.ipynb").read_text(encoding="utf-8")
    if message is None:
        assert ended.returncode == 0 and "3 epochs of 10,000 problems" in out and "lr 0.001" in out
    else:
        assert ended.returncode == 1 and message in ended.stderr
