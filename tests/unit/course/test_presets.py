"""The presets, and what changes them."""

import pytest

from trc_lib import course
from trc_lib.course.presets import choose_preset
from trc_lib.course.workspace import folder
from trc_lib.model import NoFeedback
from trc_lib.training import train


@pytest.mark.parametrize("words, message", [
    ({"name": "fast"}, "lane='fast' is unknown; accepted are 'smoke', 'cpu', 'gpu'"),
    ({"name": "cpu", "seed": -1}, "seed=-1"),
    ({"name": "cpu", "seed": "1"}, "seed='1'"),
    ({"name": "cpu", "seed": 1_000_000}, "seed=1000000"),
    ({"name": "cpu", "feedback": "yes"}, "feedback='yes'"),
    ({"name": "cpu", "epochs": 0}, "epochs=0"),
    ({"name": "cpu", "lr": "1e-3"}, "lr='1e-3'"),
    ({"name": "cpu", "cycle_weight": -0.1}, "cycle_weight=-0.1"),
    ({"name": "cpu", "momentum": 0.9}, "momentum"),
])
def test_an_error_names_what_is_wrong(words, message):
    with pytest.raises((TypeError, ValueError), match=message):
        course.choose_preset(**words)


def test_a_change_is_in_the_preset_and_in_its_words(scratch_course):
    plain = course.choose_preset("cpu")
    changed = course.choose_preset("cpu", lr=0.002, feedback=False, epochs=None, batch_size=64)
    assert folder(plain) == folder(changed) == scratch_course / "data/cpu/seed-0"
    assert plain.changes == () and changed.changes == ("lr=0.002", "feedback=False")
    assert changed.training.lr == 0.002 and changed.training.epochs == plain.training.epochs
    assert isinstance(changed.make_model().feedback, NoFeedback)
    assert plain == course.PRESETS["cpu"]


def test_a_preset_recognises_its_own_training(dataset, other_dataset):
    preset = course.choose_preset("smoke", epochs=1)
    model = preset.make_model()
    train(model, dataset, other_dataset, preset.training, progress=False)
    assert preset.trained(model) and course.choose_preset("smoke", epochs=1, seed=5).trained(model)
    assert not course.choose_preset("smoke").trained(model)
    assert not course.choose_preset("smoke", epochs=1, feedback=False).trained(model)


@pytest.mark.parametrize(("epochs", "snapshots"), [(10, (0, 1, 2, 3, 5, 10)), (4, (0, 1, 2, 3, 4)),
                                                   (1, (0, 1)), (30, (0, 1, 2, 3, 5, 10, 30))])
def test_snapshots_are_kept_up_to_the_last_epoch(epochs, snapshots):
    assert choose_preset("cpu", epochs=epochs).training.snapshot_epochs == snapshots
