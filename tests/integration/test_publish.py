"""What the maintainers publish of a run; a learner's run publishes nothing."""

import base64
from io import BytesIO

import nbformat
import pytest
import torch
from PIL import Image

from tests import ROOT, documents
from tests.benchmarks import publish
from trc_lib import io
from trc_lib.course.batch.plan import Job


@pytest.fixture
def results():
    return io.read_json(ROOT / "data" / "results" / "course.json")


def test_the_readme_shows_the_results_of_the_course(results):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{publish.BEGIN}\n{publish.readme_table(results)}\n{publish.END}\n" in readme


def test_a_run_is_published_with_its_pictures_and_its_table(tmp_path, monkeypatch, results):
    readme, png = tmp_path / "README.md", BytesIO()
    readme.write_text(f"before\n{publish.BEGIN}\nold\n{publish.END}\nafter\n", encoding="utf-8")
    Image.new("RGB", (4, 4)).save(png, "png")
    output = nbformat.v4.new_output("display_data", {
        "image/png": base64.b64encode(png.getvalue()).decode()})
    cell = nbformat.v4.new_code_cell("", metadata={"tags": ["figure=line"]}, outputs=[output])
    job = Job(tmp_path / "run", "cpu", 0, {"01_teacher": {}}, {})
    io.write_json(job.folder / "metrics.json", results)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), job.folder / "01_teacher.ipynb")
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    monkeypatch.setattr(publish, "_one_refinement", lambda job: {
        "controls": torch.tensor([[[0.2], [-0.2]], [[0.1], [-0.1]]]).double(),
        "initial_state": torch.zeros(2).double(), "target_state": torch.zeros(2).double()})
    publish.publish(job)
    table = publish.readme_table(results)
    assert readme.read_text("utf-8") == f"before\n{publish.BEGIN}\n{table}\n{publish.END}\nafter\n"
    assert (tmp_path / "figures" / "line.png").read_bytes() == png.getvalue()
    assert (tmp_path / "figures" / "data_flow.png").exists()
    assert Image.open(tmp_path / "figures" / "refinement.gif").n_frames == 6
    assert io.read_json(tmp_path / "data/results/course.json") == results


@pytest.mark.parametrize("damage", [
    lambda text: text[:len(text) // 2], lambda text: text.replace("iVBORw0KGgo", "iVBORw0KGga"),
    lambda text: text.replace('"cells"', '"sells"')], ids=["cut", "picture", "key"])
def test_a_damaged_notebook_is_refused_before_its_pictures_are_shown(tmp_path, damage):
    text = (ROOT / "notebooks" / "02_dataset.ipynb").read_text(encoding="utf-8")
    (tmp_path / "broken.ipynb").write_text(damage(text), encoding="utf-8")
    with pytest.raises(ValueError, match=r"broken\.ipynb is damaged, or no notebook: "):
        publish.tagged_pictures(tmp_path / "broken.ipynb")


@pytest.mark.parametrize("text", ["no marks\n", "only <begin>\n", "<begin><end><begin><end>"])
def test_a_table_replaces_what_is_between_its_marks_which_must_be_there_once(text):
    whole = documents.replace_between("a\n<begin>\nold\n<end>\nb\n", "<begin>", "<end>", "new")
    assert whole == "a\n<begin>\nnew\n<end>\nb\n"
    with pytest.raises(ValueError):
        documents.replace_between(text, "<begin>", "<end>", "new")
