"""The package as `pip install .` installs it: complete, and of use in an empty folder."""

import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import pytest

from tests import ROOT, source_files

pytest.importorskip("hatchling")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds what the wheel installs."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps",
                    "--no-build-isolation", "--wheel-dir", folder / "wheel", ROOT], check=True)
    (wheel,) = (folder / "wheel").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site-packages")
    return folder / "site-packages"


@pytest.fixture
def empty():
    """An empty folder that is in no checkout, unlike pytest's under make."""
    place = "/tmp" if os.path.isdir("/tmp") else None
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as folder:
        yield pathlib.Path(folder).resolve()


@pytest.fixture
def run(installed, empty):
    """Runs Python in an empty folder, with the installed package; returns what it printed."""
    def run(*words):
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True,
                              cwd=empty, env=os.environ | {"PYTHONPATH": str(installed)})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize(("source", "place"), [
    ("trc_lib", "trc_lib"), ("notebooks", "trc_lib/course/shipped/notebooks"),
    ("figures", "trc_lib/course/shipped/figures"),
    ("data/pretrained", "trc_lib/course/shipped/data/pretrained"),
    ("data/results", "trc_lib/course/shipped/data/results")])
def test_the_wheel_holds_every_file_that_the_course_needs(installed, source, place):
    for name in source_files(source):
        inside = installed / place / os.path.relpath(name, source)
        assert inside.read_bytes() == (ROOT / name).read_bytes(), name


def test_the_shipped_networks_the_styles_and_the_notebooks_are_found(run, installed):
    code = ("from trc_lib import course; from trc_lib.course import places, plots; "
            "print(course.pretrained().num_parameters, places.root()); "
            "print(len([*places.shipped('notebooks').glob('*.ipynb')]), places.__file__)")
    parameters, here, notebooks, library = run("-c", code).split()
    assert int(parameters) > 500_000 and not os.listdir(here)
    assert int(notebooks) == 12 and library.startswith(str(installed))


def test_the_doctor_is_content_and_data_are_made_here(run, empty):
    assert "all is well" in run("-m", "trc_lib", "doctor")
    run("-m", "trc_lib", "generate", "--num-samples", "8", "--num-eval", "8")
    assert len([*(empty / "data").iterdir()]) == 2


def test_a_copied_notebook_runs_alone(run, installed, empty):
    """Chapter 3 has a picture, a widget, exercises, and takes a few seconds."""
    notebook = installed / "trc_lib" / "course" / "shipped" / "notebooks" / "03_model.ipynb"
    (empty / "my copy.ipynb").write_bytes(notebook.read_bytes())
    run("-m", "papermill", "-p", "lane", "smoke", "my copy.ipynb", "out.ipynb")


def test_the_welcome_page_and_its_pictures_are_copied_from_the_installed_package(run, empty):
    run("-c", "from pathlib import Path; from trc_lib.course import lab; "
        "lab.copy_course(Path('my_course').resolve())")
    assert len([*(empty / "my_course" / "figures").iterdir()]) == 15
    assert len([*(empty / "my_course").rglob("*.ipynb")]) == 24
