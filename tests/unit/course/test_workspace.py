"""The files that the notebooks share."""

import dataclasses
import pathlib

import pytest
import torch

from tests import ROOT
from trc_lib import course, io
from trc_lib.course import places
from trc_lib.course.batch.plan import plan
from trc_lib.course.places import root, shipped, shown
from trc_lib.course.workspace import training_folder


@pytest.fixture
def preset():
    """A preset that trains in a second."""
    small = course.choose_preset("smoke", epochs=2, batch_size=32, snapshot_epochs=(0, 1, 2))
    return dataclasses.replace(small, num_train=64, num_eval=32, changes=())


def make(preset, say=lambda text: None):
    return course.load_or_make_datasets(preset, say)


def test_the_course_is_found_from_its_notebooks_folder(monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    assert root() == ROOT and shown(ROOT / "data") == "data" and shown("/elsewhere") == "/elsewhere"


def test_by_hand_and_in_a_run_of_the_course_a_network_is_in_the_same_folder(
        scratch_course, monkeypatch):
    monkeypatch.delenv("TRC_RUN_FOLDER", raising=False)
    for lane, seed in (("cpu", 0), ("smoke", 3)):
        (job,) = plan(lane, seed)
        preset = course.choose_preset(lane, seed=seed)
        assert job.checkpoint == training_folder(preset) / "best_model.pt"


def test_what_is_made_lies_in_the_checkout_at_hand_or_where_it_is_told_to(tmp_path, monkeypatch):
    library = tmp_path / "site-packages" / "trc_lib" / "course" / "places.py"
    monkeypatch.setattr(places, "__file__", str(library))  # installed as a package
    elsewhere = pathlib.Path("/nowhere/elsewhere")
    monkeypatch.setattr(pathlib.Path, "cwd", lambda: elsewhere)
    assert root() == elsewhere
    monkeypatch.setenv("TRC_FOLDER", str(tmp_path / "told"))
    assert root() == tmp_path / "told"
    assert course.folder(course.choose_preset("cpu")) == tmp_path / "told/data/cpu/seed-0"


def test_what_comes_with_the_course_is_the_checkouts_and_else_the_packages(tmp_path, monkeypatch):
    inside = tmp_path / "site-packages" / "trc_lib" / "course" / "shipped"
    for folder in (inside / "data", tmp_path / "a" / "data", tmp_path / "a" / "notebooks",
                   tmp_path / "a" / "trc_lib"):
        folder.mkdir(parents=True)
    (inside / "data" / "x").touch()
    monkeypatch.setattr(places, "__file__", str(inside.parent / "places.py"))
    monkeypatch.chdir(tmp_path / "a")
    assert shipped("data/x") == inside / "data" / "x"
    assert shipped("notebooks") == tmp_path / "a" / "notebooks"
    (tmp_path / "a" / "data" / "x").touch()
    assert shipped("data/x") == tmp_path / "a" / "data" / "x"


def test_the_eval_set_shares_no_problem_with_the_training_set(scratch_course, preset):
    train_set, eval_set = make(preset)
    seen = {tuple(row) for row in train_set.initial_states.tolist()}
    assert not seen & {tuple(row) for row in eval_set.initial_states.tolist()}


def test_datasets_are_made_then_loaded_and_made_again_for_another_recipe(scratch_course, preset):
    said = []
    first, _ = make(preset, said.append)
    again, _ = make(preset, said.append)
    larger, _ = make(dataclasses.replace(preset, num_train=65), said.append)
    assert first.fingerprint == again.fingerprint and len(larger) == 65
    words = [text.split()[0] for text in said]
    assert words == ["made", "made", "loaded", "loaded", "made", "loaded"]


def test_a_damaged_dataset_is_refused_and_left_alone(scratch_course, preset):
    make(preset)
    path = course.folder(preset) / "lqr_dataset.npz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"lqr_dataset\.npz"):
        make(preset)
    assert path.stat().st_size == 500


def test_training_is_done_once_and_again_when_asked_or_when_the_recipe_changes(
        scratch_course, preset):
    sets = make(preset)

    def outcome(preset, **options):
        said = []
        model, history, snapshots = course.load_or_train(preset, *sets, progress=False,
                                                         say=said.append, **options)
        assert sorted(snapshots) == [0, 1, 2] and len(history) == 2
        assert "of them before" not in said[-1] and said[-1].endswith("2 epochs")
        assert len(said) == 1 or said[-1].startswith("made")
        return model.solve([0, 0], [1, 0]), said[0]

    made, said = outcome(preset)
    assert said.startswith("made")
    loaded, said = outcome(preset)
    assert torch.equal(made, loaded) and said.startswith("loaded")
    again, said = outcome(preset, retrain=True)
    assert torch.equal(made, again) and said.startswith("made")
    other = dataclasses.replace(preset, training=dataclasses.replace(preset.training, lr=1e-4))
    different, said = outcome(other)
    assert not torch.equal(made, different) and "another recipe" in said


def test_in_a_batch_run_chapter_5_takes_what_chapter_4_trained_there(
        scratch_course, monkeypatch, dataset, other_dataset, tiny):
    changed = tiny(seed=9)
    monkeypatch.setenv("TRC_RUN_FOLDER", str(scratch_course / "run"))
    changed.save(training_folder(course.choose_preset("smoke", lr=0.5)) / "best_model.pt")
    preset = course.choose_preset("smoke")
    model = course.trained(preset, dataset, other_dataset, say=lambda text: None)
    assert model.config == changed.config
    course.record(preset, "05_evaluation", {"x": 1})
    assert io.read_json(scratch_course / "run/results/05_evaluation.json") == {"x": 1}


def test_a_changed_preset_trains_and_records_in_a_folder_of_its_own(scratch_course, monkeypatch):
    monkeypatch.delenv("TRC_RUN_FOLDER", raising=False)
    changed = course.choose_preset("cpu", seed=2, lr=0.002, epochs=3)
    where = scratch_course / "runs/cpu-seed-2/lr=0.002,epochs=3"
    assert training_folder(changed) == where / "training"
    assert training_folder(course.choose_preset("cpu", seed=2)) == where.parent / "training"
    course.record(changed, "04_training", {"x": 1})
    assert (where / "results/04_training.json").exists()
