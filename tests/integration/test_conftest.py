"""conftest.py: pytest with and without its plugins, notebooks without a home folder."""

import os
import shutil
import subprocess
import sys

import nbformat
import pytest

from tests import ROOT

PLUGINS = """
import os
def test_the_defaults(request):
    options = request.config.option
    expected = eval(os.environ["EXPECTED"])
    assert {name: getattr(options, name, None) for name in expected} == expected
"""


@pytest.fixture
def project(tmp_path):
    """Runs pytest in a project with this one's settings, a test and a notebook."""
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    (tmp_path / "tests" / "unit" / "test_plugins.py").write_text(PLUGINS)
    cell = nbformat.v4.new_code_cell("import matplotlib.pyplot as plt\nprint(1)")
    cell.outputs, cell.execution_count = [nbformat.v4.new_output("stream", text="1\n")], 1
    foreign = {"kernelspec": {"name": "foreign", "language": "python", "display_name": "Other"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=foreign), tmp_path / "a.ipynb")

    def run(*words, expected, **variables):
        unset = {"MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "PYTEST_ADDOPTS"}
        kept = {name: value for name, value in os.environ.items() if name not in unset}
        done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words],
                              cwd=tmp_path, capture_output=True, text=True,
                              env=kept | {"EXPECTED": repr(expected)} | variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_it_runs_without_nbval_and_xdist(project):
    assert "1 passed" in project("-p", "no:nbval", "-p", "no:xdist", expected={"nbval": None})


@pytest.mark.parametrize("parallel", [[], ["-n", "2"]], ids=["alone", "in workers"])
def test_notebooks_run_without_a_home_folder_and_with_this_python(project, tmp_path, parallel):
    (tmp_path / "home").touch()  # a file: nothing can be written in it
    home = {name: str(tmp_path / "home") for name in ("HOME", "USERPROFILE")}
    expected = {"nbval_current_env": True, "nbval_cell_timeout": 600}
    printed = project("-v", *parallel, "--nbval", ".", expected=expected, **home)
    assert "2 passed" in printed
    assert ("LoadScopeScheduling" in printed) == bool(parallel)


def test_what_is_asked_for_stands(project):
    expected = {"nbval_cell_timeout": 30, "dist": "no"}
    printed = project("-v", "--nbval", "--nbval-cell-timeout=30", "-n", "2", "--dist=load",
                      "tests/unit", expected=expected)
    assert "LoadScheduling" in printed


def test_notebooks_compute_as_on_a_processor_without_avx512(project, tmp_path):
    cell = nbformat.v4.new_code_cell("import torch\n"
                                     "assert torch.backends.cpu.get_cpu_capability() != 'AVX512'")
    cell.execution_count = 1
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "b.ipynb")
    assert "1 passed" in project("--nbval", "b.ipynb", expected={})
