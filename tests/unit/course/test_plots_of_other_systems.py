"""Pictures of systems with other sizes, units and magnitudes than the cart's."""

import numpy as np
import pytest
import torch

from trc_lib.course import plots
from trc_lib.systems import DoubleIntegrator, LinearSystem, VanDerPol
from trc_lib.training import History

DT, N = 0.1, 5
EDGES = np.arange(N + 1) * 0.1
WIDE = LinearSystem(np.eye(3), np.ones((3, 2)), DT,
                    labels=("height (m)", "tilt (rad)", "speed (m/s)", "left (N)", "right (N)"))
SHORT = LinearSystem([[1.0]], [[0.1]], DT, labels=("level (l)", "control inflow (l/s)"))
CONTROLS = torch.arange(2.0 * N).reshape(N, 2)        # left: 0, 2, 4, ...; right: 1, 3, 5, ...
STATES = torch.randn(N + 1, 3, generator=torch.Generator().manual_seed(0))
TARGET = [7.0, 8.0, 9.0]
ONE_CONTROL, ONE_STATE = torch.arange(N)[:, None] / 10, torch.linspace(3, 5, N + 1)[:, None]


def _steps(axes):
    """Values of the controls drawn in ``axes``, each over the right seconds, ``[lines, N]``."""
    for patch in axes.patches:
        np.testing.assert_allclose(patch.get_data().edges, EDGES)
    return np.array([patch.get_data().values for patch in axes.patches])


def _labels(figure):
    return [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]


# ---------------------------------------------------------------- one control at a time


def test_one_control_is_drawn_flat_or_as_a_column():
    for controls in (CONTROLS[:, 0], CONTROLS[:, :1], CONTROLS[:, 0].tolist()):
        values, edges = plots.levels(DT, controls)
        np.testing.assert_array_equal(values, [0, 2, 4, 6, 8])
        np.testing.assert_allclose(edges, EDGES)


@pytest.mark.parametrize("controls", [CONTROLS, CONTROLS[None, :, :1], torch.tensor(1.0)])
def test_several_controls_are_not_laid_end_to_end(controls):
    with pytest.raises(ValueError, match=r"controls has shape .*; needs \[N\] or \[N, 1\]"):
        plots.levels(DT, controls)


# ---------------------------------------------------------------- steering and refinement


@pytest.mark.parametrize("shown", [(0, 1), (2, 0)])
def test_steering_has_a_panel_for_each_control(shown):
    runs = {"optimum": (STATES, CONTROLS), "network": (2 * STATES, 2 * CONTROLS)}
    figure = plots.steering(DT, runs, TARGET, system=WIDE, shown=shown)
    left, right, middle, plane = figure.axes
    np.testing.assert_array_equal(_steps(left), [CONTROLS[:, 0], 2 * CONTROLS[:, 0]])
    np.testing.assert_array_equal(_steps(right), [CONTROLS[:, 1], 2 * CONTROLS[:, 1]])
    np.testing.assert_allclose(middle.lines[0].get_xydata(),
                               np.stack([EDGES, STATES[:, shown[0]]], axis=1))
    np.testing.assert_array_equal(plane.lines[0].get_xydata(), STATES[:, list(shown)])
    np.testing.assert_allclose(middle.lines[-1].get_xydata(), [[0.5, TARGET[shown[0]]]])
    np.testing.assert_array_equal(plane.lines[-1].get_xydata(), [[TARGET[i] for i in shown]])
    first, second = (WIDE.labels[i] for i in shown)
    assert _labels(figure) == [("", "left (N)"), ("time (s)", "right (N)"), ("time (s)", first),
                               (first, second)]


def test_steering_of_one_state_has_no_phase_plane():
    figure = plots.steering(DT, {"optimum": (ONE_STATE, ONE_CONTROL)}, [6.0], system=SHORT)
    left, middle = figure.axes
    np.testing.assert_allclose(_steps(left), ONE_CONTROL.T)
    np.testing.assert_allclose(middle.lines[0].get_xydata(),
                               np.stack([EDGES, ONE_STATE[:, 0]], axis=1))
    np.testing.assert_allclose(middle.lines[-1].get_xydata(), [[0.5, 6.0]])
    assert _labels(figure) == [("time (s)", "control inflow (l/s)"), ("time (s)", "level (l)")]


def test_a_refinement_has_a_panel_for_each_control():
    cycles, states = torch.stack([CONTROLS, 2 * CONTROLS]), torch.stack([STATES, 2 * STATES])
    figure = plots.refinement(DT, cycles, states, 3 * CONTROLS, 3 * STATES, TARGET, system=WIDE,
                              shown=(1, 2))
    left, right, plane = figure.axes
    for axes, control in ((left, CONTROLS[:, 0]), (right, CONTROLS[:, 1])):
        np.testing.assert_array_equal(_steps(axes), [control, 2 * control, 3 * control])
    np.testing.assert_array_equal(plane.lines[0].get_xydata(), STATES[:, 1:])
    np.testing.assert_array_equal(plane.lines[1].get_xydata(), STATES[-1:, 1:])
    assert _labels(figure)[1:] == [("time (s)", "right (N)"), ("tilt (rad)", "speed (m/s)")]


def test_a_refinement_of_one_state_leads_over_time():
    figure = plots.refinement(DT, ONE_CONTROL[None], ONE_STATE[None], ONE_CONTROL, ONE_STATE, [6.0],
                              system=SHORT)
    path, end, optimum, target = figure.axes[1].lines
    over_time = np.stack([EDGES, ONE_STATE[:, 0]], axis=1)
    np.testing.assert_allclose(path.get_xydata(), over_time)
    np.testing.assert_allclose(end.get_xydata(), over_time[-1:])
    np.testing.assert_allclose(optimum.get_xydata(), over_time)
    np.testing.assert_allclose(target.get_xydata(), [[0.5, 6.0]])
    assert _labels(figure)[1] == ("time (s)", "level (l)")


@pytest.mark.parametrize(("states", "controls", "target", "message"), [
    (STATES, CONTROLS[:, :1], TARGET, r"states.* has shape .*6, 3\]; needs \[..., 2\]"),
    (STATES[:, :2], CONTROLS, [1, 0], r"controls.* has shape .*5, 2\]; needs \[..., 1\]"),
    (STATES[:, :2], CONTROLS[:, :1], TARGET, r"target_state has shape \[3\]; needs \[..., 2\]")])
def test_shapes_that_the_system_has_not_are_refused(states, controls, target, message):
    with pytest.raises(ValueError, match=message):
        plots.steering(DT, {"a run": (states, controls)}, target)
    with pytest.raises(ValueError, match=message):
        plots.refinement(DT, controls[None], states[None], controls, states, target)


@pytest.mark.parametrize("shown", [(0, 3), (1, 1), (0, 1, 2), 0, (-1, 0), "01"])
def test_components_that_are_not_there_are_refused(shown):
    with pytest.raises(ValueError, match=r"shown=.* is not accepted; give two different comp"):
        plots.steering(DT, {"a run": (STATES, CONTROLS)}, TARGET, system=WIDE, shown=shown)


# ---------------------------------------------------------------- the snapshots


def test_snapshots_show_the_control_that_is_chosen():
    rows = {"epoch 0": torch.stack([CONTROLS + 3, CONTROLS])}
    figure = plots.snapshots(DT, rows, CONTROLS, system=WIDE, component=1)
    first = figure.axes[0]
    np.testing.assert_array_equal(_steps(first), [CONTROLS[:, 1] + 3, CONTROLS[:, 1]])
    assert first.get_ylabel() == "epoch 0\nright (N)"
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["off by 3.0000 N",
                                                                  "off by 0.0000 N"]
    with pytest.raises(ValueError, match="component=2 is too large; at most 1"):
        plots.snapshots(DT, rows, CONTROLS, system=WIDE, component=2)
    with pytest.raises(ValueError, match=r"rows\['epoch 0'\] has shape \[2, 5, 2\]; needs"):
        plots.snapshots(DT, rows, CONTROLS[:, :1])


def test_snapshots_of_a_system_without_units_have_none():
    figure = plots.snapshots(DT, {"epoch 0": ONE_CONTROL[None]}, ONE_CONTROL, system=VanDerPol())
    assert figure.axes[0].get_ylabel() == "epoch 0\nu"
    assert figure.axes[0].texts[0].get_text() == "off by 0.0000"


# ---------------------------------------------------------------- curves and maps


def test_learning_curves_take_the_success_and_the_loss_of_the_training():
    row = {"epoch": 1, "train_loss": 30.0, "eval_loss": 0.5, "eval_final_error": 2.0, "lr": 1e-3}
    left, right, _ = plots.learning_curves(History([row]), 50.0, "cost").axes
    assert set(right.lines[1].get_ydata()) == {50.0}
    assert left.get_ylabel() == "cost" and left.get_ylim()[1] >= 30
    _, right, _ = plots.learning_curves(History([row]), torch.tensor([1.0, 2.0])).axes
    assert len(right.lines) == 1  # the mean of |x_N - x_T| has no such bound


def test_an_error_map_has_the_box_and_the_colours_of_its_system():
    names = ("height (mm)", "speed (mm/s)", "push (N)")
    system = LinearSystem([[1, DT], [0, 1]], [[0], [DT]], DT, labels=names)
    heights, speeds = np.linspace(0, 4000, 5), np.linspace(-20, 20, 3)
    errors = np.outer([1.0, 50.0, 150.0], np.ones(5))
    figure = plots.error_map(heights, speeds, errors, [1000, 0], [[1000, 3000], [-10, 5]],
                             system=system, success=100.0)
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.patches[0].get_bbox().get_points(), [[1000, -10], [3000, 5]])
    colours, border = axes.collections
    assert (colours.norm.vmin, colours.norm.vmax) == (0.1, 1000.0)
    np.testing.assert_allclose(border.get_paths()[0].vertices[:, 1], 10)  # halfway from 50 to 150
    assert _labels(figure)[0] == ("start height (mm)", "start speed (mm/s)")


def test_an_error_map_refuses_what_it_cannot_show():
    axis, errors = np.linspace(-1, 1, 3), np.ones((3, 3))
    with pytest.raises(ValueError, match="has 3 states; this picture needs 2"):
        plots.error_map(axis, axis, errors, [0, 0], system=WIDE)
    with pytest.raises(ValueError, match="success=0 is not accepted"):
        plots.error_map(axis, axis, errors, [0, 0], success=0)
    with pytest.raises(ValueError, match=r"box=.* is not accepted; give half the side of a cube"):
        plots.error_map(axis, axis, errors, [0, 0], box=[1.0, 2.0, 3.0])


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(("label", "parts"), [
    ("control u (m/s²)", ("u", " (m/s²)")), ("x1", ("x1", "")), ("angle (up) (rad)",
                                                                 ("angle (up)", " (rad)"))])
def test_the_unit_is_what_stands_last_in_brackets(label, parts):
    assert plots.plain(label) == parts


def test_squared_controls_have_a_unit_if_all_have_the_same():
    assert plots.squared_unit(DoubleIntegrator()) == "(m/s²)²"
    assert plots.squared_unit(WIDE) == "(N)²"
    assert plots.squared_unit(VanDerPol()) == ""
    mixed = LinearSystem([[1.0]], [[1.0, 1.0]], DT, labels=("x", "force (N)", "voltage (V)"))
    assert plots.squared_unit(mixed) == ""


@pytest.mark.parametrize(("value", "size", "text"), [
    (0.01234567, 2.5, "0.0123"), (12.34567, 2500.0, "12.3"), (1.234567e-5, 0.0025, "0.0000123"),
    (1.0, 0.0, "1.0000"), (1.0, float("inf"), "1.0000")])
def test_numbers_have_as_many_digits_as_their_size_asks_for(value, size, text):
    assert plots.rounded(value, size) == text
