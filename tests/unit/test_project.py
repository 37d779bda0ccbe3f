"""The project's own files: one dependency list in three places, and notebooks that were really run."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests import ROOT
from trc_lib.course.batch.plan import CHAPTERS as NAMES

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def _pyproject(*extras):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return [Requirement(line) for line in lines]


def _conda_lines():
    text = (ROOT / "environment.yml").read_text()
    return [line.strip()[2:] for line in text.splitlines() if line.startswith("  - ")]


def test_environment_yml_names_what_pyproject_names():
    lines = _conda_lines()
    assert lines[0] == "conda-forge" and lines[-1] == "pip:"
    assert (ROOT / "environment.yml").read_text().endswith("      - -e .[browser,export]\n")
    conda = {Requirement(line).name: Requirement(line).specifier for line in lines[1:-1]}
    assert conda.pop("pip") == "" and conda.pop("python") == SpecifierSet(">=3.11,<3.14")
    assert conda == {CONDA_NAMES.get(requirement.name, requirement.name): requirement.specifier
                     for requirement in _pyproject("test")}


def test_constraints_pin_everything_within_its_range():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    for requirement in _pyproject("test", "browser", "export"):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement
    assert pins["torch"] == "2.13.0"


@pytest.fixture
def clone(tmp_path):
    """A folder with the Makefile, and a file at each place that git ignores."""
    patterns = [line for line in (ROOT / ".gitignore").read_text().splitlines() if not line.startswith("!")]
    kept = ("Makefile", "data/README.md", "data/pretrained/a.pt", "data/results/a.json", "notebooks/a.ipynb")
    made = [pattern.replace("*", "a") + ("made" if pattern.endswith("/") else "") for pattern in patterns]
    for name in (*kept, *made, "notebooks/.ipynb_checkpoints/made", "data/a folder/made"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    return tmp_path, {tmp_path / name for name in kept}


def test_make_clean_removes_all_that_git_ignores_and_nothing_else(clone):
    folder, kept = clone
    subprocess.run(["make", "clean"], cwd=folder, check=True, capture_output=True)
    assert {path for path in folder.rglob("*") if path.is_file()} == kept


def test_what_make_runs_leaves_nothing_at_home_or_in_tmp(clone, tmp_path_factory):
    """A kernel draws and makes a temporary file, and Jupyter signs, under the Makefile's environment."""
    folder, _ = clone
    home, tmp = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("tmp")
    code = "import matplotlib.pyplot as plt, tempfile; plt.plot([1]); tempfile.mkdtemp()"
    (folder / "a.ipynb").write_text(nbformat.writes(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])))
    jupyter = f"\t'{sys.executable}' -m jupyter"
    target = f"include Makefile\nrun: | .cache/tmp\n{jupyter} execute --kernel_name=python3 a.ipynb\n{jupyter} trust a.ipynb\n"
    subprocess.run(["make", "-f", "-", "run"], input=target, text=True, cwd=folder, check=True, capture_output=True,
                   env={"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(tmp)})
    assert not [*home.rglob("*"), *tmp.rglob("*")] and [*(folder / ".cache").rglob("*")]


def test_the_unit_tests_see_a_bare_machine():
    for name in ("squeue", "sbatch", "chromium", "gcc", "g++", "fc-list", "conda"):
        assert shutil.which(name) is None
    assert shutil.which("make") and shutil.which("git") and "DISPLAY" not in os.environ
    assert str(pathlib.Path.home()) == os.environ["HOME"] != os.path.expanduser("~root")


def test_importing_the_library_loads_nothing_from_the_upper_floors():
    code = ("import sys, trc_lib, trc_lib.evaluation, trc_lib.model.baselines, trc_lib.training; "
            "print([name for name in ('matplotlib', 'ipywidgets', 'papermill', 'scipy') if name in sys.modules])")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def _code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_course_runs_every_notebook_and_each_has_solutions():
    assert tuple(path.stem for path in NOTEBOOKS) == NAMES and len(NAMES) == 8
    assert [path.stem for path in SOLUTIONS] == [path.stem for path in NOTEBOOKS]


def test_every_exercise_is_there_unattempted_and_solved_in_the_solutions(notebook, request):
    def verdicts(nb):
        shown = [output.get("data", {}).get("text/plain", []) for cell in _code(nb) for output in cell["outputs"]]
        lines = ["".join(text) for text in shown]
        return [line.split(":")[0] for line in lines if re.match(r"(Right|Not yet|Not attempted): ", line)]

    name = request.node.callspec.id
    solutions = json.loads((ROOT / "notebooks" / "solutions" / f"{name}.ipynb").read_text(encoding="utf-8"))
    open_ones, solved = verdicts(notebook), verdicts(solutions)
    assert 3 <= len(open_ones) == len(solved) <= 5
    assert set(open_ones) == {"Not attempted"} and set(solved) == {"Right"}
    hints = sum("<summary>Hint</summary>" in "".join(cell["source"]) for cell in notebook["cells"])
    assert hints == len(open_ones)


@pytest.mark.parametrize("path", NOTEBOOKS + SOLUTIONS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_cell_was_run_once_in_order_and_none_is_skipped_or_failed(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert [cell["execution_count"] for cell in _code(notebook)] == list(range(1, len(_code(notebook)) + 1))
    for cell in _code(notebook):
        assert "NBVAL_SKIP" not in "".join(cell["source"])
        assert not [output for output in cell["outputs"] if output["output_type"] == "error"]


def test_at_most_a_third_of_the_cells_is_exempt_from_comparison(notebook):
    exempt = [cell for cell in _code(notebook) if "NBVAL_IGNORE_OUTPUT" in "".join(cell["source"])]
    assert len(exempt) * 3 <= len(_code(notebook))
    # nbval sees the marker only where it is a line of its own
    assert all(re.search(r"^# NBVAL_IGNORE_OUTPUT$", "".join(cell["source"]), re.MULTILINE) for cell in exempt)


def test_it_can_be_parameterised_and_checks_its_parameters(notebook):
    tagged = [cell for cell in _code(notebook) if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1 and 'lane = "cpu"' in "".join(tagged[0]["source"])
    after = _code(notebook)[_code(notebook).index(tagged[0]) + 1]
    assert "course.choose_preset(lane" in "".join(after["source"])


def test_it_has_three_pictures_a_widget_and_code_in_small_pieces(notebook):
    kinds = [kind for cell in _code(notebook) for output in cell["outputs"] for kind in output.get("data", {})]
    assert kinds.count("image/png") >= 3 and "application/vnd.jupyter.widget-view+json" in kinds
    lengths = sorted(len("".join(cell["source"]).splitlines()) for cell in _code(notebook))
    assert lengths[-1] <= 30 and lengths[len(lengths) // 2] <= 10


def test_it_holds_no_path_of_a_machine(notebook):
    assert not re.search(r"/(root|work|home|tmp|Users)/", json.dumps(notebook))


@pytest.mark.parametrize("name", [path.stem for path in NOTEBOOKS])
def test_a_wrong_lane_fails_with_a_message(name, tmp_path):
    """Only the first two code cells are run: the parameters, as papermill would set them, and their check."""
    cells = _code(json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")))
    source = "".join(cells[0]["source"]).replace('lane = "cpu"', 'lane = "fast"') + "\n" + "".join(cells[1]["source"])
    run = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, cwd=tmp_path,
                         env={"MPLBACKEND": "agg", "HOME": str(tmp_path)})
    assert run.returncode == 1 and "lane='fast' is unknown; accepted are 'smoke', 'cpu', 'gpu'" in run.stderr
