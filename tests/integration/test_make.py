"""The Makefile: what `make clean` removes, and that nothing is left outside of this folder."""

import os
import subprocess
import sys

import nbformat
import pytest

from tests import ROOT


@pytest.fixture
def clone(tmp_path):
    """A folder with the Makefile, and a file at each place that git ignores."""
    patterns = [line for line in (ROOT / ".gitignore").read_text().splitlines()
                if line[0] != "!" and line != "my_course/"]
    kept = ("Makefile", "data/README.md", "data/pretrained/a.pt", "data/results/a.json",
            "notebooks/a.ipynb", "my_course/a.ipynb", "my_course/.ipynb_checkpoints/a.ipynb")
    made = [pattern.replace("*", "a") + ("made" if pattern[-1] == "/" else "")
            for pattern in patterns]
    for name in (*kept, *made, "notebooks/.ipynb_checkpoints/made", "data/a folder/made"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    return tmp_path, {tmp_path / name for name in kept}


def test_make_clean_removes_all_that_git_ignores_but_what_the_learner_wrote(clone):
    folder, kept = clone
    subprocess.run(["make", "clean"], cwd=folder, check=True, capture_output=True)
    assert {path for path in folder.rglob("*") if path.is_file()} == kept


def test_what_make_runs_leaves_nothing_at_home_or_in_tmp(clone, tmp_path_factory):
    """Under the Makefile's environment a kernel draws and makes a temporary file, and Jupyter signs
    a notebook."""
    folder, _ = clone
    home, tmp = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("tmp")
    code = "import matplotlib.pyplot as plt, tempfile; plt.plot([1]); tempfile.mkdtemp()"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    (folder / "a.ipynb").write_text(nbformat.writes(notebook))
    jupyter = f"\t'{sys.executable}' -m jupyter"
    target = ("include Makefile\nrun: | .cache/tmp\n"
              f"{jupyter} execute --kernel_name=python3 a.ipynb\n{jupyter} trust a.ipynb\n")
    subprocess.run(["make", "-f", "-", "run"], input=target, text=True, cwd=folder, check=True,
                   capture_output=True, env={"PATH": os.environ["PATH"], "HOME": str(home),
                                             "TMPDIR": str(tmp)})
    assert not [*home.rglob("*"), *tmp.rglob("*")] and [*(folder / ".cache").rglob("*")]
