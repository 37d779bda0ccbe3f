"""The project's own files: one dependency list in three places, documents and workflows that name
what is there, and notebooks that were really run."""

import ast
import base64
import datetime
import io
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from PIL import Image

import trc_lib
from tests import ROOT
from trc_lib.course.batch.plan import CHAPTERS as NAMES
from trc_lib.course.cli import parser

yaml = pytest.importorskip("yaml")

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for folder in (".", "docs", "data")
                   for path in (ROOT / folder).glob("*.md"))
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
EXTRAS = ("test", "browser", "solvers", "export", "site", "dev")


def _read(name):
    return (ROOT / name).read_text(encoding="utf-8")


# ---------------------------------------------------------------- dependencies and version


def _requirements(*extras):
    project = tomllib.loads(_read("pyproject.toml"))["project"]
    optional = project["optional-dependencies"]
    assert tuple(optional) == EXTRAS
    lines = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    return [Requirement(line) for line in lines]


def test_environment_yml_names_what_pyproject_names():
    environment = yaml.safe_load(_read("environment.yml"))
    *lines, by_pip = environment["dependencies"]
    assert environment["channels"] == ["conda-forge"]
    assert by_pip == {"pip": ["-e .[browser,export]"]}
    conda = {Requirement(line).name: Requirement(line).specifier for line in lines}
    assert conda.pop("pip") == "" and conda.pop("python") == SpecifierSet(">=3.11,<3.14")
    assert conda == {CONDA_NAMES.get(requirement.name, requirement.name): requirement.specifier
                     for requirement in _requirements("test", "dev")}


def test_constraints_pin_everything_within_its_range():
    lines = [line for line in _read("constraints.txt").splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(name): version
            for name, version in (line.split("==") for line in lines)}
    assert lines == sorted(lines, key=str.lower) and len(pins) == len(lines)
    for requirement in _requirements(*EXTRAS):
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), requirement
    assert pins["torch"] == "2.13.0"


def _imported(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                yield node.module.split(".")[0]
            elif isinstance(node, ast.Import):
                yield from (name.name.split(".")[0] for name in node.names)


@pytest.mark.parametrize(("folder", "extras"), [
    ("trc_lib", ("export", "solvers")), ("tests", EXTRAS), ("docs", ("site",))])
def test_whatever_is_imported_is_a_dependency(folder, extras):
    ours = {"trc_lib", "tests", "docs", *sys.stdlib_module_names}
    # The last five come with what they stand for.
    names = {"PIL": "pillow", "yaml": "pyyaml", "IPython": "ipywidgets", "traitlets": "ipywidgets",
             "nbformat": "papermill", "nbclient": "papermill", "docutils": "sphinx"}
    declared = {canonicalize_name(requirement.name) for requirement in _requirements(*extras)}
    imported = {names.get(name, name) for name in set(_imported(folder)) - ours}
    assert {canonicalize_name(name) for name in imported} <= declared


def test_the_version_is_written_once_and_changelog_and_citation_follow():
    project = tomllib.loads(_read("pyproject.toml"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"] == {"path": "trc_lib/__init__.py"}
    latest = re.search(r"^## \[(.+)\] - (.+)$", _read("CHANGELOG.md"), re.MULTILINE)
    citation = yaml.safe_load(_read("CITATION.cff"))
    assert latest[1] == citation["version"] == trc_lib.__version__
    assert datetime.date.fromisoformat(latest[2]) == citation["date-released"]


def test_the_citation_has_what_cff_1_2_0_requires():
    citation = yaml.safe_load(_read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["license"] == "MIT" and citation["message"]
    for work in (citation, *citation["references"]):
        assert work["title"] and work["type"] and work["authors"]
        for author in work["authors"]:
            assert author.keys() in ({"family-names", "given-names"}, {"name"})
    papers = [each["value"] for work in citation["references"] for each in work["identifiers"]]
    named = re.findall(r"abs/([0-9.]+)\)", _read("README.md"))
    assert papers == [f"arXiv:{number}" for number in named] and len(papers) == 2


# ---------------------------------------------------------------- documents


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_of_a_document_leads_somewhere(name):
    folder = (ROOT / name).parent
    pairs = re.findall(r"\]\(([^)#\s]+)\)|src=\"([^\"]+)\"", _read(name))
    local = [link or image for link, image in pairs if not link.startswith("https://")]
    assert not [link for link in local if not (folder / link).exists()]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_target_and_command_that_a_document_names_is_there(name):
    text = _read(name).replace("\\\n", "")
    rooms = "trc_lib|tests|notebooks|docs|data/pretrained|data/results"
    named = re.findall(rf"`((?:{rooms})(?:/[\w/.]+)?)`", text)
    to_be_made = {"data/results/gpu.json"}
    assert not [file for file in {*named} - to_be_made if not (ROOT / file).exists()]
    rules = re.findall(r"^([a-z -]+):", _read("Makefile"), re.MULTILINE)
    targets = {target for rule in rules for target in rule.split()}
    assert {*re.findall(r"(?:^|`|&& )make ([a-z][a-z-]*)", text, re.MULTILINE)} <= targets
    for line in re.findall(r"python -m trc_lib ([^`\n]+)", text):
        parser().parse_args(shlex.split(line, comments=True))


def test_the_readme_is_short_and_leads_to_every_other_document():
    readme = _read("README.md")
    assert len(readme.splitlines()) <= 130
    others = {*DOCUMENTS} - {"README.md", "data/README.md"}
    assert len(others) >= 9 and not [name for name in others if f"]({name})" not in readme]


# ---------------------------------------------------------------- the checks of every commit


def _commands(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def test_the_workflow_runs_the_fast_tier_on_three_systems_and_the_whole_nightly():
    workflow = yaml.safe_load(_read(".github/workflows/tests.yml"))
    triggers = workflow[True]  # YAML 1.1 reads the key `on` as a truth value
    assert {*triggers} == {"push", "pull_request", "schedule", "workflow_dispatch"}
    fast, whole = workflow["jobs"]["fast"], workflow["jobs"]["whole"]
    assert fast["strategy"]["matrix"] == {
        "os": ["ubuntu-latest", "macos-latest", "windows-latest"], "python": ["3.11", "3.13"]}
    assert "schedule" in whole["if"] and "workflow_dispatch" in whole["if"]
    assert _commands(whole) == ["make test"]
    recipe = re.search(r"^test-fast:.*\n((?:\t.*\n)+)", _read("Makefile"), re.MULTILINE)[1]
    install, _path, *commands = _commands(fast)
    assert install == "python trc_lib/course/install.py --tests"
    assert commands == recipe.replace("\t$(BIN)/", "").splitlines()


def test_the_hooks_of_pre_commit_are_ruff_from_the_environment():
    config = yaml.safe_load(_read(".pre-commit-config.yaml"))
    (repo,) = config["repos"]
    assert repo["repo"] == "local"  # from anywhere else they would be downloaded
    for hook in repo["hooks"]:
        assert hook["language"] == "system" and hook["entry"].startswith("ruff ")


@pytest.mark.skipif(os.name == "nt", reason="PATH and HOME are of another kind")
def test_the_unit_tests_see_a_bare_machine():
    for name in ("squeue", "sbatch", "chromium", "gcc", "g++", "fc-list", "conda"):
        assert shutil.which(name) is None
    assert shutil.which("make") and shutil.which("git") and "DISPLAY" not in os.environ
    assert str(pathlib.Path.home()) == os.environ["HOME"] != os.path.expanduser("~root")


def test_importing_the_library_loads_nothing_from_the_upper_floors():
    code = ("import sys, trc_lib, trc_lib.evaluation, trc_lib.model.baselines, trc_lib.training; "
            "heavy = ('matplotlib', 'ipywidgets', 'papermill', 'scipy'); "
            "print([name for name in heavy if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- notebooks


def _notebook(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return _notebook(request.param)


def _code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _tags(cell):
    return cell["metadata"].get("tags", [])


def _source(cell):
    return "".join(cell["source"])


def test_the_course_runs_every_notebook_and_each_has_solutions():
    assert tuple(path.stem for path in NOTEBOOKS) == NAMES and len(NAMES) == 12
    assert [path.stem for path in SOLUTIONS] == [path.stem for path in NOTEBOOKS]


def _verdicts(notebook):
    shown = ["".join(output.get("data", {}).get("text/plain", []))
             for cell in _code(notebook) for output in cell["outputs"]]
    return [text.split(":")[0] for text in shown
            if re.match(r"(Right|Not yet|Not attempted): ", text)]


@pytest.mark.parametrize(("path", "solution"), [*zip(NOTEBOOKS, SOLUTIONS)],
                         ids=[path.stem for path in NOTEBOOKS])
def test_every_exercise_is_unattempted_and_solved_in_the_solutions(path, solution):
    notebook = _notebook(path)
    open_ones, solved = _verdicts(notebook), _verdicts(_notebook(solution))
    assert 3 <= len(open_ones) == len(solved) <= 5
    assert {*open_ones} == {"Not attempted"} and {*solved} == {"Right"}
    hints = sum("<summary>Hint</summary>" in _source(cell) for cell in notebook["cells"])
    assert hints == len(open_ones)


@pytest.mark.parametrize("path", NOTEBOOKS + SOLUTIONS,
                         ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_cell_was_run_once_in_order_and_none_is_skipped_or_failed(path):
    cells = _code(_notebook(path))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [cell for cell in cells if "nbval-skip" in _tags(cell)]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]


def test_at_most_a_third_of_the_cells_is_exempt_from_comparison(notebook):
    exempt = [cell for cell in _code(notebook) if "nbval-ignore-output" in _tags(cell)]
    assert len(exempt) * 3 <= len(_code(notebook))


def test_no_marker_and_no_claim_stands_in_the_readers_sight(notebook):
    """nbval's markers are tags, and cells of claims are collapsed."""
    assert not [cell for cell in _code(notebook) if "NBVAL_" in _source(cell)]
    claims = [cell for cell in _code(notebook) if "claim" in _tags(cell)]
    assert claims and all(cell["metadata"]["jupyter"]["source_hidden"] for cell in claims)


@pytest.mark.parametrize("path", NOTEBOOKS + SOLUTIONS,
                         ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_is_tagged_to_be_hidden_is_folded_and_nothing_else(path):
    for cell in _code(_notebook(path)):
        folded = cell["metadata"].get("jupyter", {}).get("source_hidden", False)
        assert folded == bool({"claim", "hide-input"} & {*_tags(cell)}), _source(cell)


@pytest.mark.parametrize("path", NOTEBOOKS + SOLUTIONS,
                         ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_can_be_unfolded_is_read_as_markdown(path):
    """Without the empty lines it is HTML: backticks and stars are then shown as they are."""
    for cell in _notebook(path)["cells"]:
        source, details = _source(cell), r"<details><summary>[^\n]+</summary>\n\n\S"
        assert len(re.findall("<details>", source)) == len(re.findall(details, source)), source
        assert len(re.findall("</details>", source)) == len(
            re.findall(r"\S\n\n</details>(?:\n\n|\n?\Z)", source)), source


@pytest.mark.parametrize("path", NOTEBOOKS + SOLUTIONS,
                         ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_line_of_code_is_wider_than_half_a_screen(path):
    wide = [line for cell in _code(_notebook(path)) for line in _source(cell).splitlines()
            if len(line) > 88 and not line.startswith("%pip")]
    assert wide == []


@pytest.mark.parametrize("path", NOTEBOOKS + SOLUTIONS,
                         ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_all_pictures_are_in_the_style_of_the_course(path):
    """Some modules of the course set it when they are imported."""
    sources = [_source(cell) for cell in _code(_notebook(path))]
    styled = re.compile(r"trc_lib\.course\.style"
                        r"|from trc_lib\.course\S* import .*"
                        r"\b(plots|diagrams|descents|pictures|widgets)\b")
    drawing = next((i for i, source in enumerate(sources) if "plt." in source), len(sources))
    assert drawing == len(sources) or any(map(styled.search, sources[:drawing + 1]))


@pytest.mark.parametrize("path", NOTEBOOKS + SOLUTIONS,
                         ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_printed_line_is_wider_than_half_a_screen(path):
    """JupyterLab breaks longer lines within words."""
    outputs = [output for cell in _code(_notebook(path)) for output in cell["outputs"]]
    texts = [output["text"] for output in outputs if output["output_type"] == "stream"]
    texts += [output["data"]["text/plain"] for output in outputs
              if {*output.get("data", ())} == {"text/plain"}]
    assert [line for text in texts for line in "".join(text).splitlines() if len(line) > 88] == []


def test_it_can_be_parameterised_and_checks_its_parameters(notebook):
    cells = _code(notebook)
    (tagged,) = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    assert 'lane = "cpu"' in _source(tagged)
    assert "course.check_parameters(lane" in _source(cells[cells.index(tagged) + 1])


def test_it_has_three_pictures_a_widget_and_code_in_small_pieces(notebook):
    outputs = [output for cell in _code(notebook) for output in cell["outputs"]]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") >= 3
    assert "application/vnd.jupyter.widget-view+json" in kinds
    lengths = sorted(len(_source(cell).splitlines()) for cell in _code(notebook))
    assert lengths[-1] <= 30 and lengths[len(lengths) // 2] <= 10


def test_its_pictures_have_256_colours(notebook):
    data = [output.get("data", {}) for cell in _code(notebook) for output in cell["outputs"]]
    pictures = [base64.b64decode(each["image/png"]) for each in data if "image/png" in each]
    assert {Image.open(io.BytesIO(each)).mode for each in pictures} == {"P"}


def test_it_holds_no_path_of_a_machine(notebook):
    assert not re.search(r"/(root|work|home|tmp|Users)/", json.dumps(notebook))


def test_a_wrong_lane_fails_with_a_message(notebook, tmp_path, monkeypatch):
    """Runs the first two code cells: the parameters, as papermill sets them, and their check."""
    monkeypatch.chdir(tmp_path)
    parameters, check = map(_source, _code(notebook)[:2])
    names = {}
    exec(parameters.replace('lane = "cpu"', 'lane = "fast"'), names)
    accepted = "lane='fast' is unknown; accepted are 'smoke', 'cpu', 'gpu'"
    with pytest.raises(ValueError, match=accepted):
        exec(check, names)
