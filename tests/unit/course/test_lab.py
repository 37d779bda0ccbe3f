"""The learner's copies: which are made, renewed and kept, and what is asked of JupyterLab."""

import json
import re
import sys

import nbformat
import pytest
from nbformat import v4

from tests import ROOT
from trc_lib import io
from trc_lib.course import lab

PAGE = ('# Course\n<img src="../figures/one.png" width="9">\n![two](../figures/two.gif)\n'
        "[start](01_first.ipynb)\n")


def write(path, *sources, **changes):
    """A notebook of code cells; ``changes`` are given to each cell."""
    cells = [v4.new_code_cell(source, id=f"cell{place}", **changes)
             for place, source in enumerate(sources)]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(v4.new_notebook(cells=cells), path)


def sources(path):
    return [cell.source for cell in nbformat.read(path, 4).cells]


@pytest.fixture
def course(scratch_course):
    """A course of two notebooks, a solution, a page and two pictures; the working folder."""
    write(scratch_course / "notebooks" / "01_first.ipynb", "a = 1", "print(a)")
    write(scratch_course / "notebooks" / "02_second.ipynb", "b = 2")
    write(scratch_course / "notebooks" / "solutions" / "01_first.ipynb", "a = 3")
    (scratch_course / "notebooks" / "README.md").write_text(PAGE)
    (scratch_course / "figures").mkdir()
    for name in ("one.png", "two.gif", "other.png"):
        (scratch_course / "figures" / name).write_bytes(name.encode())
    return scratch_course


@pytest.fixture
def mine(course):
    """The learner's folder, just copied."""
    lab.copy_course(course / "my_course")
    return course / "my_course"


def test_page_pictures_chapters_and_solutions_are_copied_and_the_page_shows_them(course):
    folder = course / "a folder" / "größer"
    (line,) = lab.copy_course(folder)
    assert "6 files copied" in line and "größer" in line
    made = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert made == {"README.md", "01_first.ipynb", "02_second.ipynb", "solutions/01_first.ipynb",
                    "figures/one.png", "figures/two.gif", lab.MANIFEST}
    assert (folder / "README.md").read_text() == PAGE.replace("../figures", "figures")
    for name in ("01_first.ipynb", "solutions/01_first.ipynb"):
        assert (folder / name).read_bytes() == (course / "notebooks" / name).read_bytes()


def test_a_second_time_nothing_is_written(course, mine):
    before = {path: path.stat().st_mtime_ns for path in mine.rglob("*")}
    (line,) = lab.copy_course(mine)
    assert "all are there" in line
    assert before == {path: path.stat().st_mtime_ns for path in mine.rglob("*")}


def test_a_copy_that_was_run_and_saved_is_renewed_with_the_course(course, mine):
    write(mine / "01_first.ipynb", "a = 1", "print(a)", execution_count=7,
          outputs=[v4.new_output("stream", text="1\n")], metadata={"collapsed": True})
    lab.copy_course(mine)
    assert nbformat.read(mine / "01_first.ipynb", 4).cells[1].execution_count == 7
    write(course / "notebooks" / "01_first.ipynb", "a = 1", "print(a, a)")
    (line,) = lab.copy_course(mine)
    assert "1 files renewed" in line
    assert sources(mine / "01_first.ipynb") == ["a = 1", "print(a, a)"]


def _pastes_a_picture(path):
    notebook = json.loads(path.read_text())
    notebook["cells"][0]["attachments"] = {"x.png": {"image/png": "AA=="}}
    path.write_text(json.dumps(notebook))


def _makes_text_of_code(path):
    notebook = nbformat.read(path, 4)
    notebook.cells[0] = v4.new_markdown_cell(notebook.cells[0].source)
    nbformat.write(notebook, path)


CHANGES = {"an answer": lambda path: write(path, "a = 1", "print(a)", "my answer"),
           "one character": lambda path: write(path, "a = 1", "print(a) "),
           "a cell removed": lambda path: write(path, "a = 1"),
           "a line moved to the next cell": lambda path: write(path, "a = 1print", "(a)"),
           "a picture": _pastes_a_picture, "another kind of cell": _makes_text_of_code,
           "a damaged file": lambda path: path.write_bytes(path.read_bytes()[:100])}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("manifest", ["whole", "missing", "damaged", "of an older version"])
def test_what_a_learner_changed_is_kept_and_a_line_says_how_to_get_the_new_one(
        course, mine, change, manifest):
    change(mine / "01_first.ipynb")
    changed = (mine / "01_first.ipynb").read_bytes()
    if manifest == "whole":  # nothing to say as long as the course's own is the same
        assert len(lab.copy_course(mine)) == 1
    elif manifest == "missing":
        (mine / lab.MANIFEST).unlink()
    elif manifest == "damaged":
        (mine / lab.MANIFEST).write_bytes((mine / lab.MANIFEST).read_bytes()[:-9])
    else:
        io.write_json(mine / lab.MANIFEST, {"copies": {}})
    write(course / "notebooks" / "01_first.ipynb", "a = 4")
    for _ in range(2):
        _, kept = lab.copy_course(mine)
        assert "01_first.ipynb" in kept and "02" not in kept and "rename" in kept
        assert (mine / "01_first.ipynb").read_bytes() == changed
    (mine / "01_first.ipynb").rename(mine / "01_mine.ipynb")
    assert len(lab.copy_course(mine)) == 1
    assert sources(mine / "01_first.ipynb") == ["a = 4"]
    assert (mine / "01_mine.ipynb").read_bytes() == changed


def test_a_copy_in_which_the_learner_typed_what_the_course_now_has_is_as_good_as_new(course, mine):
    write(mine / "01_first.ipynb", "a = 4")
    write(course / "notebooks" / "01_first.ipynb", "a = 4", execution_count=1)
    assert len(lab.copy_course(mine)) == 1
    write(course / "notebooks" / "01_first.ipynb", "a = 5")
    lab.copy_course(mine)
    assert sources(mine / "01_first.ipynb") == ["a = 5"]


@pytest.mark.parametrize("name", ["01_first.ipynb", "README.md", "figures/one.png"])
def test_a_file_that_is_missing_or_empty_is_made_anew(course, mine, name):
    whole = (mine / name).read_bytes()
    (mine / name).write_bytes(b"")
    lab.copy_course(mine)
    assert (mine / name).read_bytes() == whole
    (mine / name).unlink()
    lab.copy_course(mine)
    assert (mine / name).read_bytes() == whole


def test_after_a_stop_in_the_middle_the_next_time_finishes(course, mine, monkeypatch):
    for name in ("01_first.ipynb", "02_second.ipynb"):
        write(course / "notebooks" / name, "new")
    write_whole = io.written_whole

    def stopped(path):
        if path.name == "02_second.ipynb":
            raise KeyboardInterrupt
        return write_whole(path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(io, "written_whole", stopped)
        lab.copy_course(mine)
    assert len(lab.copy_course(mine)) == 1
    assert {*sources(mine / "01_first.ipynb"), *sources(mine / "02_second.ipynb")} == {"new"}


def test_other_files_of_the_learner_stay(course):
    (course / "mine").mkdir()
    (course / "mine" / "README.md").write_text("my notes")
    (course / "mine" / "thesis.txt").write_text("text")
    _, kept = lab.copy_course(course / "mine")
    assert "README.md" in kept and (course / "mine" / "README.md").read_text() == "my notes"
    assert (course / "mine" / "thesis.txt").read_text() == "text"


@pytest.mark.parametrize("folder", [".", "notebooks", "notebooks/solutions", "notebooks/new"])
def test_the_course_is_not_copied_into_itself(course, folder):
    before = {*course.rglob("*")}
    with pytest.raises(ValueError, match=r"--folder .* holds the course itself; give"):
        lab.copy_course((course / folder).resolve())
    assert {*course.rglob("*")} == before


def test_a_folder_that_cannot_be_written_is_named(course):
    (course / "file").touch()
    with pytest.raises(OSError, match=r"cannot write to .*file/folder: Not a directory"):
        lab.copy_course(course / "file" / "folder")


def test_without_jupyterlab_the_error_says_how_to_install_it(course, monkeypatch):
    monkeypatch.setitem(sys.modules, "jupyterlab", None)
    with pytest.raises(ModuleNotFoundError, match=re.escape(f"{sys.executable} -m pip install")):
        lab.open_lab()
    assert not (course / "my_course").exists()


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(course, port):
    with pytest.raises(ValueError, match=f"--port {port} is not a port; give one from 1 to 65535"):
        lab.open_lab(port=port)


@pytest.mark.parametrize(("platform", "environment", "files", "remote", "container"), [
    ("linux", {"DISPLAY": ":0"}, (), False, False),
    ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, (), False, False),
    ("linux", {}, (), True, False),
    ("linux", {"DISPLAY": ":10", "SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"}, (), True, False),
    ("darwin", {}, (), False, False),
    ("darwin", {"SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"}, (), True, False),
    ("win32", {}, (), False, False),
    ("linux", {"DISPLAY": ":0"}, ("/.dockerenv",), True, True),
    ("linux", {"DISPLAY": ":0"}, ("/run/.containerenv",), True, True),
    ("linux", {"DISPLAY": ":0", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, (), True, True)])
def test_a_remote_machine_and_a_container_are_recognised(
        monkeypatch, platform, environment, files, remote, container):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(lab.os.path, "exists", lambda path: path in files)
    monkeypatch.setattr(lab.os, "environ", environment)
    assert (lab._is_remote(), lab._is_container()) == (remote, container)


def test_the_learners_own_settings_are_taken_over_once_and_never_changed(tmp_path, monkeypatch):
    home, private = tmp_path / "home", tmp_path / "private"
    name = "lab/user-settings/@jupyterlab/apputils-extension/themes.jupyterlab-settings"
    io.write_text(home / ".jupyter" / name, "dark")
    monkeypatch.setenv("HOME", str(home)), monkeypatch.setenv("USERPROFILE", str(home))
    lab._surroundings(private, tmp_path)
    assert (private / name).read_text() == "dark"
    (private / name).write_text("light")
    lab._surroundings(private, tmp_path)
    assert (private / name).read_text() == "light"
    assert (home / ".jupyter" / name).read_text() == "dark"


def test_a_user_without_a_home_is_given_one(tmp_path, monkeypatch):
    assert "HOME" not in lab._surroundings(tmp_path / "private", str(tmp_path))
    monkeypatch.setattr(lab.os.path, "expanduser", lambda path: path)
    assert lab._surroundings(tmp_path / "private", str(tmp_path))["HOME"] == str(tmp_path)


# ---------------------------------------------------------------- the real course

def links(path):
    """The relative links and pictures in the text of a notebook or a page."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"]
                         if cell["cell_type"] == "markdown")
    found = re.findall(r"\]\(([\w./-]+\.\w+)(?:#[\w-]*)?\)|src=\"([^\"]+)\"", text)
    return [link or picture for link, picture in found if "//" not in link + picture]


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copies")
    lab.copy_course(folder)
    return folder


def test_every_link_of_page_and_notebooks_leads_to_a_file_in_the_copies_too(copied):
    for folder in (ROOT / "notebooks", copied):
        pages = [folder / "README.md", *folder.glob("*.ipynb"), *folder.glob("solutions/*.ipynb")]
        missing = [f"{page.name}: {link}" for page in pages for link in links(page)
                   if not (page.parent / link).is_file()]
        assert len(pages) == 25 and missing == []
    outside = [link for page in pages for link in links(page)
               if not (page.parent / link).resolve().is_relative_to(copied.resolve())]
    assert outside == []  # JupyterLab opens nothing outside of the folder


def test_the_page_leads_to_every_notebook_with_its_minutes_and_the_last_one_back(copied):
    page = (copied / "README.md").read_text(encoding="utf-8")
    chapters = sorted(copied.glob("*.ipynb"))
    for chapter in chapters:
        (row,) = [line for line in page.splitlines() if f"**[{int(chapter.name[:2])} · " in line]
        text = chapter.read_text(encoding="utf-8")
        reading, exercises = re.search(r"\| (\d+), and (\d+) for (?:the )?exercises", text).groups()
        assert f"| {reading} + {exercises} |" in row
        assert f"]({chapter.name})" in row and f"](solutions/{chapter.name})" in row
    assert "README.md" in links(chapters[-1])
