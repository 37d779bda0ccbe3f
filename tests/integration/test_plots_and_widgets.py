"""Pictures show what they were given, and widgets follow their controls and say what went wrong."""

import ipywidgets
import numpy as np
import pytest
import torch

from trc_lib.course import plots
from trc_lib.course.widgets import explore, live_picture
from trc_lib.model import TinyRecursiveControl
from trc_lib.teachers import MinimumEnergyController
from trc_lib.training import History


@pytest.fixture(scope="module")
def solved():
    """[0, 0] -> [1, 0]: the teacher, its controls and states."""
    teacher = MinimumEnergyController()
    controls = teacher.solve([0, 0], [1, 0])
    return teacher, controls, teacher.system.rollout(torch.zeros(2, dtype=torch.float64), controls)


def _axes_are_labelled(figure):
    for axes in figure.axes:
        assert axes.get_xlabel() or axes.get_ylabel() or axes.get_label() == "<colorbar>"


def test_steering_draws_the_optimum_as_it_is(solved):
    _, controls, states = solved
    figure = plots.steering(0.33, {"optimum": (states, controls)}, [1, 0])
    left, middle, right = figure.axes
    np.testing.assert_array_equal(left.patches[0].get_data().values, controls[:, 0])
    np.testing.assert_array_equal(middle.lines[0].get_ydata(), states[:, 0])
    np.testing.assert_array_equal(right.lines[0].get_xydata(), states)
    _axes_are_labelled(figure)


def test_refinement_draws_every_cycle_and_the_optimum(solved):
    teacher, controls, states = solved
    model = TinyRecursiveControl.create_two_level_small()
    trace = model.trace(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])).one(0)
    cycle_states = teacher.system.rollout(trace.initial_state.expand(4, 2), trace.controls)
    figure = plots.refinement(0.33, trace.controls, cycle_states, controls, states, [1, 0])
    drawn = [patch.get_data().values for patch in figure.axes[0].patches]
    np.testing.assert_array_equal(drawn, [*trace.controls[:, :, 0].double(), controls[:, 0]])
    _axes_are_labelled(figure)


def test_the_other_pictures_are_drawn_and_labelled(solved):
    _, controls, _ = solved
    model = TinyRecursiveControl.create_two_level_small()
    trace = model.trace(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])).one(0)
    row = {"epoch": 1, "train_loss": 1.0, "eval_loss": 0.5, "eval_final_error": 0.2, "lr": 1e-3}
    rows = {"epoch 0": trace.controls, "epoch 1": trace.controls}
    assert len(plots.snapshots(0.33, rows, controls).axes) == 8
    strips = plots.latents(trace.z_H, trace.z_L).axes
    assert strips[0].images[0].get_array().shape == (128, 13) and strips[1].images[0].get_array().shape == (128, 4)
    grid = np.linspace(-1, 1, 5)
    for figure in (plots.learning_curves(History([row])), plots.error_map(grid, grid, np.ones((5, 5)), [0, 0], box=0.5)):
        _axes_are_labelled(figure)
    assert plots.data_flow().axes[0].texts


def test_the_error_map_has_positions_across_and_velocities_up():
    errors = np.outer([1, 10, 100], np.ones(5)) * 1e-3                      # grows with the velocity
    figure = plots.error_map(np.linspace(-2, 2, 5), np.linspace(-1, 1, 3), errors, [0, 0])
    mesh = figure.axes[0].collections[0]
    np.testing.assert_allclose(mesh.get_array(), errors)
    assert figure.axes[0].get_xlim()[1] > figure.axes[0].get_ylim()[1] and "velocity" in figure.axes[0].get_ylabel()


def test_every_speaker_has_its_own_look():
    looks = [(look.get("color"), look.get("linestyle")) for look in plots.LOOKS.values()]
    assert len(set(looks)) == len(looks)


def test_a_widget_follows_its_controls_and_says_what_went_wrong(solved):
    _, controls, states = solved

    def draw(shift):
        if shift > 1:
            raise ValueError("too <far>")
        return plots.steering(0.33, {"optimum": (states + shift, controls)}, [1, 0])

    slider = ipywidgets.FloatSlider(value=0.0, min=-1, max=2)
    _, picture, trouble = explore(draw, shift=slider).children
    before = bytes(picture.value)
    slider.value = 0.5
    assert before.startswith(b"\x89PNG") and picture.value != before and trouble.value == ""
    kept = bytes(picture.value)
    slider.value = 1.5
    assert picture.value == kept and "ValueError" in trouble.value and "too &lt;far&gt;" in trouble.value
    slider.value = 0.0
    assert trouble.value == "" and picture.value == before


def test_a_live_picture_shows_the_latest_news():
    update = live_picture(plots.learning_curves)
    rows = [{"epoch": k, "train_loss": 1.0 / k, "eval_loss": 1.0 / k, "eval_final_error": 0.2 / k, "lr": 1e-3} for k in (1, 2)]
    update(History(rows[:1]))
    first = bytes(update.picture.value)
    update(History(rows))
    assert first.startswith(b"\x89PNG") and update.picture.value != first
