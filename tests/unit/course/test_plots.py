"""Pictures show what they were given, in the right places and with labels."""

import numpy as np
import pytest
import torch
from PIL import Image

from trc_lib.course import plots
from trc_lib.model import TinyRecursiveControl
from trc_lib.systems import VanDerPol
from trc_lib.teachers import MinimumEnergyController
from trc_lib.training import History


@pytest.fixture(scope="module")
def solved():
    """[0, 0] -> [1, 0]: the teacher, its controls and states."""
    teacher = MinimumEnergyController()
    controls = teacher.solve([0, 0], [1, 0])
    states = teacher.system.rollout(torch.zeros(2, dtype=torch.float64), controls)
    return teacher, controls, states


@pytest.fixture(scope="module")
def trace():
    model = TinyRecursiveControl.create_two_level_small(block_hidden=16, head_hidden=16)
    return model.trace(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])).one(0)


def _axes_are_labelled(figure):
    for axes in figure.axes:
        assert axes.get_xlabel() or axes.get_ylabel() or axes.get_label() == "<colorbar>"


def test_steering_draws_the_optimum_as_it_is(solved):
    _, controls, states = solved
    figure = plots.steering(0.33, {"optimum": (states, controls)}, [1, 0])
    left, middle, right = figure.axes
    np.testing.assert_array_equal(left.patches[0].get_data().values, controls[:, 0])
    np.testing.assert_allclose(left.patches[0].get_data().edges, 0.33 * np.arange(16))
    np.testing.assert_array_equal(middle.lines[0].get_ydata(), states[:, 0])
    np.testing.assert_array_equal(right.lines[0].get_xydata(), states)
    np.testing.assert_allclose(middle.lines[-1].get_xydata(), [[0.33 * 15, 1]])  # the target
    np.testing.assert_allclose(right.lines[-1].get_xydata(), [[1, 0]])
    _axes_are_labelled(figure)


def test_refinement_draws_every_cycle_and_the_optimum(solved, trace):
    teacher, controls, states = solved
    cycle_states = teacher.system.rollout(trace.initial_state.expand(4, 2), trace.controls)
    figure = plots.refinement(0.33, trace.controls, cycle_states, controls, states, [1, 0])
    drawn = [patch.get_data().values for patch in figure.axes[0].patches]
    np.testing.assert_array_equal(drawn, [*trace.controls[:, :, 0].double(), controls[:, 0]])
    _axes_are_labelled(figure)


def test_labels_carry_the_units_of_the_system():
    figure, axes = plots.plt.subplots()
    plots.label_controls(axes)
    assert axes.get_ylabel() == "control u (m/s²)"
    plots.label_phase_plane(axes, VanDerPol.units)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("position", "velocity")
    plots.plt.close(figure)


def test_snapshots_have_a_row_an_epoch_and_a_column_a_cycle(solved, trace):
    rows = {"epoch 0": trace.controls, "epoch 1": trace.controls}
    figure = plots.snapshots(0.33, rows, solved[1], limits=(-2, 2))
    assert len(figure.axes) == 8 and figure.axes[5].get_ylim() == (-2, 2)
    off = (trace.controls[1].double() - solved[1]).square().mean().sqrt()
    assert figure.axes[5].texts[0].get_text() == f"off by {off:.4f} m/s²"


def test_latents_are_strips_of_all_moments(trace):
    top, bottom, _ = plots.latents(trace.z_H, trace.z_L).axes
    assert top.images[0].get_array().shape == (128, 13)
    np.testing.assert_array_equal(top.images[0].get_array()[:, 5], trace.z_L[1, 1])
    np.testing.assert_array_equal(bottom.images[0].get_array(), trace.z_H.T)
    assert [label.get_text() for label in top.get_xticklabels()][:6] == [
        "start", "H1\nL1", "H1\nL2", "H1\nL3", "H1\nL4", "H2\nL1"]


def test_learning_curves_and_data_flow_are_labelled():
    row = {"epoch": 1, "train_loss": 1.0, "eval_loss": 0.5, "eval_final_error": 0.2, "lr": 1e-3}
    figure = plots.learning_curves(History([row]))
    assert [line.get_ydata()[0] for line in figure.axes[0].lines] == [1.0, 0.5, 1e-3]
    assert figure.axes[1].lines[0].get_ydata() == [0.2]
    _axes_are_labelled(figure)
    assert plots.data_flow().axes[0].texts


def test_the_error_map_has_positions_across_and_velocities_up():
    errors = np.outer([1, 10, 100], np.ones(5)) * 1e-3  # grows with the velocity
    positions, velocities = np.linspace(-2, 2, 5), np.linspace(-1, 1, 3)
    figure = plots.error_map(positions, velocities, errors, [0, 0], box=0.5)
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.collections[0].get_array(), errors)
    assert axes.get_xlim()[1] > axes.get_ylim()[1] and "velocity" in axes.get_ylabel()
    _axes_are_labelled(figure)


def test_each_source_of_controls_has_its_own_look():
    looks = [(look.get("color"), look.get("linestyle")) for look in plots.LOOKS.values()]
    assert len(set(looks)) == len(looks)


def test_the_gif_has_a_frame_for_each_cycle(tmp_path):
    off, ends = torch.tensor([[[1.0], [0.5]], [[0.1], [0.0]]]), torch.tensor([[0.5, 0.1], [1.0, 0]])
    plots.refinement_gif(tmp_path / "refinement.gif", 0.33, off, ends, torch.tensor([1.0, 0.0]))
    with Image.open(tmp_path / "refinement.gif") as picture:
        assert picture.n_frames == 2 and picture.size == (960, 360)


def test_a_grid_of_runs_draws_runs_and_means_over_the_seeds():
    given = [{"04.size": size, "04.seed": seed} for size in ("small", "medium") for seed in (0, 1)]
    axes, = plots.grid(given, {"error": [1.0, 3.0, 100.0, None]}).axes
    runs, means = axes.lines
    np.testing.assert_array_equal(runs.get_xydata(), [[0, 1], [0, 3], [1, 100]])
    np.testing.assert_array_equal(means.get_xydata(), [[0, 2], [1, 100]])
    assert axes.get_yscale() == "log" and axes.get_xlabel() == "04.size"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["small", "medium"]
