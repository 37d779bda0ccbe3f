"""Pictures show what they were given, in the right places and with labels."""

import base64
import io
import itertools
import math

import IPython
import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import select_figure_formats
from matplotlib.figure import Figure
from PIL import Image

from trc_lib.course import plots
from trc_lib.model import TinyRecursiveControl
from trc_lib.systems import LinearSystem, VanDerPol
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
    *cycles, optimum, target = figure.axes[1].lines
    np.testing.assert_array_equal(optimum.get_xydata(), states)
    np.testing.assert_array_equal(target.get_xydata(), [[1, 0]])
    for run, path, end in zip(cycle_states, cycles[::2], cycles[1::2], strict=True):
        np.testing.assert_array_equal(path.get_xydata(), run)
        np.testing.assert_array_equal(end.get_xydata(), run[-1:])
    _axes_are_labelled(figure)


@pytest.mark.parametrize(("cycles", "names"), [
    (2, ["first proposal", "after cycle 1", "after cycle 2"]),
    (6, ["first proposal", "after cycle 6"])])
def test_a_refinement_names_its_cycles_and_of_many_the_first_and_the_last(cycles, names):
    several, states = CONTROLS.expand(cycles + 1, 4, 1), STATES.expand(cycles + 1, 5, 2)
    figure = plots.refinement(DT, several, states, CONTROLS, STATES, [0.5, 0.0])
    named = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert named == [*names, "optimum"]


def test_every_cycle_can_be_seen_on_white_and_later_ones_are_darker_and_thicker():
    looks = [plots.cycle_look(cycle, 3) for cycle in range(4)]
    colors = np.array([look["color"][:3] for look in looks])
    linear = np.where(colors <= 0.03928, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    contrast = 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)  # with white, as WCAG 2 has it
    assert contrast[0] >= 3 and (contrast[1:] / contrast[:-1] > 1.4).all()
    assert (np.diff([look["linewidth"] for look in looks]) > 0.2).all()


# ---------------------------------------------------------------- time is in seconds

DT = 0.2
EDGES = [0.0, 0.2, 0.4, 0.6, 0.8]  # of four steps
CONTROLS = torch.tensor([[1.0], [0.5], [-0.5], [-1.0]])
STATES = torch.tensor([[0.0, 0.0], [0.1, 1.0], [0.3, 1.5], [0.4, 0.5], [0.5, 0.0]])


def _drawn_against_seconds(axes, count):
    """Whether so many controls are drawn in ``axes``, each step where it belongs in time."""
    assert len(axes.patches) == count
    for patch in axes.patches:
        np.testing.assert_allclose(patch.get_data().edges, EDGES)
    np.testing.assert_allclose(axes.dataLim.intervalx, [0.0, 0.8])


def test_one_run_is_drawn_against_seconds():
    values, edges = plots.levels(DT, CONTROLS)
    np.testing.assert_allclose(edges, EDGES)
    np.testing.assert_allclose(values, [1.0, 0.5, -0.5, -1.0])
    figure, panels = plots.plt.subplots(1, 3)
    controls, position, phase = plots.draw_run(panels, DT, STATES, CONTROLS, "a run", {})
    _drawn_against_seconds(panels[0], 1)
    np.testing.assert_allclose(controls.get_data().values, [1.0, 0.5, -0.5, -1.0])
    np.testing.assert_allclose(position.get_xydata(), [*zip(EDGES, (0.0, 0.1, 0.3, 0.4, 0.5))])
    np.testing.assert_allclose(phase.get_xydata(), STATES)
    plots.draw_controls(panels[1], DT, CONTROLS)
    _drawn_against_seconds(panels[1], 1)
    plots.plt.close(figure)


def test_steering_is_drawn_against_seconds():
    runs = {"optimum": (STATES, CONTROLS), "network": (0.9 * STATES, 0.9 * CONTROLS)}
    controls, positions, _ = plots.steering(DT, runs, [0.6, 0.1]).axes
    _drawn_against_seconds(controls, 2)
    first, second, target = positions.lines
    for line in (first, second):
        np.testing.assert_allclose(line.get_xdata(), EDGES)
    np.testing.assert_allclose(target.get_xydata(), [[0.8, 0.6]])
    assert controls.get_xlabel() == positions.get_xlabel() == "time (s)"


def test_a_refinement_is_drawn_against_seconds():
    cycles, states = torch.stack([CONTROLS, 0.5 * CONTROLS]), torch.stack([STATES, 0.5 * STATES])
    figure = plots.refinement(DT, cycles, states, CONTROLS, STATES, [0.5, 0.0])
    _drawn_against_seconds(figure.axes[0], 3)  # two cycles and the optimum
    assert figure.axes[0].get_xlabel() == "time (s)"


def test_snapshots_are_drawn_against_seconds():
    cycles = torch.stack([CONTROLS, 0.5 * CONTROLS])
    panels = plots.snapshots(DT, {"epoch 0": cycles, "epoch 1": cycles}, CONTROLS).axes
    assert len(panels) == 4
    for axes in panels:
        _drawn_against_seconds(axes, 2)  # the network and the optimum
    assert [axes.get_xlabel() for axes in panels] == ["", "", "time (s)", "time (s)"]


def test_two_controls_and_a_single_state_are_drawn_against_seconds():
    tank = LinearSystem([[0.9]], [[1.0, 0.5]], DT, labels=("level (m)", "pump (m/s)", "rain (m/s)"))
    controls, states = torch.cat([CONTROLS, -CONTROLS], dim=1), STATES[:, 1:]
    *inputs, level = plots.steering(
        DT, {"optimum": (states, controls)}, [0.3], system=tank).axes
    run, target = level.lines
    np.testing.assert_allclose(run.get_xydata(), [*zip(EDGES, (0.0, 1.0, 1.5, 0.5, 0.0))])
    np.testing.assert_allclose(target.get_xydata(), [[0.8, 0.3]])
    figure = plots.refinement(DT, controls[None], states[None], controls, 0.5 * states, [0.3],
                              system=tank)
    *more_inputs, right = figure.axes
    run, end, optimum, target = right.lines
    np.testing.assert_allclose(run.get_xydata(), [*zip(EDGES, (0.0, 1.0, 1.5, 0.5, 0.0))])
    np.testing.assert_allclose(optimum.get_xydata(), [*zip(EDGES, (0.0, 0.5, 0.75, 0.25, 0.0))])
    np.testing.assert_allclose(end.get_xydata(), [[0.8, 0.0]])
    np.testing.assert_allclose(target.get_xydata(), [[0.8, 0.3]])
    assert level.get_xlabel() == right.get_xlabel() == "time (s)"
    for axes, count in ((inputs, 1), (more_inputs, 2)):
        for panel, name, sign in zip(axes, ("pump (m/s)", "rain (m/s)"), (1, -1), strict=True):
            _drawn_against_seconds(panel, count)
            np.testing.assert_allclose(panel.patches[0].get_data().values, sign * CONTROLS[:, 0])
            assert panel.get_ylabel() == name
        assert [panel.get_xlabel() for panel in axes] == ["", "time (s)"]


def test_the_control_that_is_asked_for_is_drawn():
    tank = LinearSystem(np.eye(2), np.eye(2), DT, labels=("a", "b", "pump", "rain"))
    controls = torch.cat([CONTROLS, -2 * CONTROLS], dim=1)
    cycles = torch.stack([controls, 0.5 * controls])
    first, second = plots.snapshots(DT, {"epoch 0": cycles}, controls, None, tank, 1).axes
    for axes, share in ((first, 1), (second, 0.5)):
        np.testing.assert_allclose(axes.patches[0].get_data().values, -2 * share * CONTROLS[:, 0])
    assert first.get_ylabel() == "epoch 0\nrain"


def test_of_three_states_the_two_that_are_asked_for_are_drawn_the_first_against_seconds():
    chain = LinearSystem(np.eye(3), np.ones((3, 1)), DT, labels=("a", "b", "c", "u"))
    states = torch.cat([STATES, 3 * STATES[:, :1]], dim=1)
    _, over_time, plane = plots.steering(
        DT, {"optimum": (states, CONTROLS)}, [0.6, 0.1, 0.9], system=chain, shown=(2, 1)).axes
    run, target = over_time.lines
    np.testing.assert_allclose(run.get_xydata(), [*zip(EDGES, (0.0, 0.3, 0.9, 1.2, 1.5))])
    np.testing.assert_allclose(target.get_xydata(), [[0.8, 0.9]])
    run, target = plane.lines
    np.testing.assert_allclose(run.get_xydata(), states[:, [2, 1]])
    np.testing.assert_allclose(target.get_xydata(), [[0.9, 0.1]])
    assert (over_time.get_ylabel(), plane.get_xlabel(), plane.get_ylabel()) == ("c", "c", "b")


def test_labels_carry_the_units_of_the_system():
    figure, axes = plots.plt.subplots()
    plots.label_controls(axes)
    assert axes.get_ylabel() == "control u (m/s²)"
    plots.label_phase_plane(axes, VanDerPol())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("position", "velocity")
    plots.label_phase_plane(axes)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("position (m)", "velocity (m/s)")
    plots.plt.close(figure)


def test_snapshots_have_a_row_an_epoch_and_a_column_a_cycle(solved, trace):
    rows = {"epoch 0": trace.controls, "epoch 1": trace.controls}
    figure = plots.snapshots(0.33, rows, solved[1], limits=(-2, 2))
    assert len(figure.axes) == 8 and figure.axes[5].get_ylim() == (-2, 2)
    off = (trace.controls[1].double() - solved[1]).square().mean().sqrt()
    assert figure.axes[5].texts[0].get_text() == f"off by {off:.4f} m/s²"
    assert [axes.get_title("left") for axes in figure.axes[:4]] == [
        "first proposal", "after cycle 1", "after cycle 2", "after cycle 3"]
    assert [figure.axes[i].get_ylabel() for i in (0, 4)] == ["epoch 0\nu (m/s²)",
                                                             "epoch 1\nu (m/s²)"]


def test_learning_curves_and_data_flow_are_labelled():
    row = {"epoch": 1, "train_loss": 1.0, "eval_loss": 0.5, "eval_final_error": 0.2, "lr": 1e-3}
    figure = plots.learning_curves(History([row, {name: value / 2 for name, value in row.items()}
                                            | {"epoch": 2}]))
    left, right, rate = figure.axes
    error, success = right.lines
    assert [list(line.get_ydata()) for line in (*left.lines, *rate.lines)] == [
        [1.0, 0.5], [0.5, 0.25], [1e-3, 5e-4]]
    assert list(error.get_ydata()) == [0.2, 0.1]
    assert {tuple(line.get_xdata()) for line in (*left.lines, error)} == {(1, 2)}
    assert set(success.get_ydata()) == {0.1}
    _axes_are_labelled(figure)
    assert plots.data_flow().axes[0].texts


@pytest.mark.parametrize(("formats", "kind"), [
    ({"png"}, "P"), ({"png", "svg"}, "P"), ({"retina"}, "RGBA"), ({"svg"}, None), (set(), None)])
def test_a_notebook_keeps_small_pictures_unless_its_user_chose_a_format(formats, kind, monkeypatch):
    shell = InteractiveShell()
    select_figure_formats(shell, formats)
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    monkeypatch.setattr(plots.plt, "switch_backend", lambda name: None)
    plots._keep_small_pictures()
    figure = Figure()
    figure.add_subplot()
    shown = shell.display_formatter.formatters["image/png"](figure)
    if formats == {"retina"}:
        shown, _ = shown  # with its size
    picture = base64.b64decode(shown) if isinstance(shown, str) else shown
    assert (picture and Image.open(io.BytesIO(picture)).mode) == kind


def test_the_error_map_has_positions_across_and_velocities_up():
    errors = np.outer([0.001, 0.05, 0.15], np.ones(5))  # grows with the velocity
    positions, velocities = np.linspace(-2, 2, 5), np.linspace(-1, 1, 3)
    figure = plots.error_map(positions, velocities, errors, [0.4, -0.2], box=0.5)
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.collections[0].get_array(), errors)
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[0.4, -0.2]])
    np.testing.assert_allclose(axes.patches[0].get_window_extent().transformed(
        axes.transData.inverted()).get_points(), [[-0.5, -0.5], [0.5, 0.5]])
    (border,) = axes.collections[1].get_paths()  # 0.1 is halfway between 0.05 and 0.15
    np.testing.assert_allclose(border.vertices[:, 1], np.full(5, 0.5))
    stricter = plots.error_map(positions, velocities, errors, [0, 0], success=0.05)
    (border,) = stricter.axes[0].collections[1].get_paths()
    np.testing.assert_allclose(border.vertices[:, 1], np.zeros(5), atol=1e-9)
    assert axes.get_xlim()[1] > axes.get_ylim()[1] and "velocity" in axes.get_ylabel()
    _axes_are_labelled(figure)


def test_a_gif_keeps_its_colours_in_every_frame(tmp_path):
    figures = []
    for width in (2, 4, 6):
        figure, axes = plots.plt.subplots(figsize=(3, 2))
        axes.plot([0, 1], color="#D55E00", linewidth=width)
        axes.plot([1, 0], color="#0072B2", linewidth=width)
        figures.append(figure)
    plots.save_gif(tmp_path / "a.gif", figures, [100, 100, 500])
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.n_frames == 3
        for frame in range(3):
            picture.seek(frame)
            pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
            for color in ([213, 94, 0], [0, 114, 178]):
                assert (abs(pixels - color).max(axis=1) < 20).sum() > 100
        assert picture.info["duration"] == 500


def test_each_source_of_controls_has_its_own_look():
    looks = [(look.get("color"), look.get("linestyle")) for look in plots.LOOKS.values()]
    assert len(set(looks)) == len(looks)


def _grid(axes, values):
    """The panel of a grid over these ``{parameter: values}``, whose runs have these figures."""
    given = [dict(zip(axes, each)) for each in itertools.product(*axes.values())]
    figure = plots.grid(given, {"error": values})
    figure.canvas.draw()
    return figure.axes[0]


def _ranges(panel):
    return [path.vertices.tolist() for path in panel.collections[0].get_paths()]


def _ticks(panel):
    return [label.get_text() for label in panel.get_xticklabels()]


def test_a_grid_of_runs_draws_runs_means_and_ranges_and_joins_no_names():
    panel = _grid({"04.size": ["small", "medium"], "04.seed": [0, 1]}, [1.0, 3.0, 100.0, None])
    runs, means = panel.lines
    np.testing.assert_array_equal(runs.get_xydata(), [[0, 1], [0, 3], [1, 100]])
    np.testing.assert_array_equal(means.get_xydata(), [[0, 2], [1, 100]])
    assert {runs.get_linestyle(), means.get_linestyle()} == {"None"}
    assert _ranges(panel) == [[[0, 1], [0, 3]], [[1, 100], [1, 100]]]
    assert panel.get_yscale() == "log" and panel.get_xlabel() == "04.size"
    assert _ticks(panel) == ["small", "medium"]


def test_a_grid_over_seeds_alone_shows_repetitions_and_no_line():
    panel = _grid({"04.seed": [0, 1, 2], "05.seed": [7]}, [1.0, 2.0, 6.0])
    runs, mean = panel.lines
    assert runs.get_xydata().tolist() == [[0, 1], [0, 2], [0, 6]]
    assert mean.get_xydata().tolist() == [[0, 3]] and _ranges(panel) == [[[0, 1], [0, 6]]]
    assert runs.get_linestyle() == mean.get_linestyle() == "None"
    assert _ticks(panel) == ["3 runs"] and panel.get_xlabel() == "04.seed, 05.seed"


def test_a_grid_joins_the_means_along_numbers_in_their_order_one_line_for_each_setting():
    panel = _grid({"04.feedback": [True, False], "04.weight": [10, 0, 0.1], "04.seed": [0, 1]},
                  [float(i) for i in range(12)])
    means = panel.lines[1], panel.lines[3]
    assert means[0].get_xydata().tolist() == [[0, 2.5], [0.1, 4.5], [10, 0.5]]
    assert means[1].get_xydata().tolist() == [[0, 8.5], [0.1, 10.5], [10, 6.5]]
    assert [line.get_linestyle() for line in panel.lines] == ["None", "-"] * 2
    assert [line.get_label() for line in means] == [
        "mean, 04.feedback True", "mean, 04.feedback False"]
    assert panel.get_xscale() == "symlog" and _ticks(panel) == ["0", "0.1", "10"]
    assert panel.get_xlim()[0] > -0.1


@pytest.mark.parametrize(("values", "scale"), [
    ([1e-4, 1e-3, 1e-2], "log"), ([5, 10, 20], "linear"), ([-1, 0, 1], "linear"),
    ([None, 1, 2], "words"), ([True, False], "words"), (["a", 1, 2.0], "words"), ([3], "linear")],
    ids=str)
def test_a_grid_scales_what_is_across_by_its_values(values, scale):
    panel = _grid({"04.x": values}, [1.0] * len(values))
    (line,) = panel.lines
    assert line.get_linestyle() == ("None" if scale == "words" else "-")
    assert panel.get_xscale() == ("linear" if scale == "words" else scale)
    assert line.get_xdata().tolist() == (list(range(len(values))) if scale == "words" else values)


def test_a_grid_whose_runs_all_failed_or_are_not_finite_is_empty_panels():
    panel = _grid({"04.x": [1, 2], "04.seed": [0, 1]}, [None, math.nan, None, math.inf])
    assert not [line for line in panel.lines if len(line.get_xdata())]
