"""Diagrams show what they compute, and their texts can be read."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from trc_lib.course import diagrams
from trc_lib.course.plots import CART
from trc_lib.model import TinyRecursiveControl
from trc_lib.systems import DoubleIntegrator
from trc_lib.teachers import BoundedMinimumEnergyController

ALL = ("cart", "mistake_in_two_parts", "held_and_line", "architecture", "backward_path",
       "propose_first", "one_cycle_twice", "bounded_dual", "certificate", "ilqr_sweeps")


@pytest.fixture(params=ALL, scope="module")
def figure(request):
    figure = getattr(diagrams, request.param)()
    figure.draw_without_rendering()
    return figure


def _texts(figure):
    """The texts that are drawn, with their extents."""
    found = []
    for axes in figure.axes:
        found += [*axes.texts, *(child for child in axes.get_children() if isinstance(child, Text))]
        found += axes.get_legend().get_texts() if axes.get_legend() else []
        for axis in axes.axison * [axes.xaxis, axes.yaxis]:
            low, high = sorted(axis.get_view_interval())
            found += [axis.label, *(label for place, label in zip(
                axis.get_majorticklocs(), axis.get_majorticklabels()) if low <= place <= high)]
    found = [text for text in dict.fromkeys(found) if text.get_text().strip()]
    return [(text, text.get_window_extent()) for text in found]


def _shaft(arrow):
    """Points along a drawn straight arrow, in pixels."""
    begin, _, end = arrow.get_transform().transform(arrow.get_path().vertices[:3])
    return begin + np.linspace(0, 1, 200)[:, None] * (end - begin)


def test_each_has_a_title_and_is_closed(figure):
    assert any(axes.get_title(loc="left") for axes in figure.axes)
    assert figure.number not in plt.get_fignums()
    assert 9 <= figure.get_figwidth() <= 11


def test_texts_are_large_enough_inside_and_apart(figure):
    texts = _texts(figure)
    for text, extent in texts:
        assert text.get_fontsize() >= 10, text
        assert figure.bbox.x0 <= extent.x0 and extent.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= extent.y0 and extent.y1 <= figure.bbox.y1, text
    for (one, here), (other, there) in itertools.combinations(texts, 2):
        assert not here.overlaps(there), (one, other)


def test_no_text_crosses_the_edge_of_a_box(figure):
    boxes = [patch.get_window_extent() for axes in figure.axes for patch in axes.patches
             if isinstance(patch, FancyBboxPatch)]
    for (text, extent), box in itertools.product(_texts(figure), boxes):
        shared = Bbox.intersection(extent, box)
        inside = shared is not None and np.allclose(shared.extents, extent.extents)
        assert shared is None or inside, text


def test_no_arrow_runs_through_a_text(figure):
    arrows = [patch for axes in figure.axes for patch in axes.patches
              if isinstance(patch, FancyArrowPatch)]
    for (text, extent), arrow in itertools.product(_texts(figure), arrows):
        assert not any(extent.contains(*point) for point in _shaft(arrow)), text


def test_the_plan_of_the_cart_arrives():
    end = diagrams._driven(diagrams.push_coast_brake())[-1]
    np.testing.assert_allclose(end, [1, 0], atol=1e-12)


def test_a_mistake_is_split_into_orthogonal_parts():
    C, wanted, best, learner, row, null = diagrams.two_steps()
    np.testing.assert_allclose(C @ best, wanted)
    np.testing.assert_allclose(row + null, learner - best)
    np.testing.assert_allclose([row @ null, *(C @ null)], 0, atol=1e-12)
    cheapest = best + row  # to where the learner's controls end
    np.testing.assert_allclose(C @ cheapest, C @ learner)
    assert learner @ learner - cheapest @ cheapest == pytest.approx(null @ null)


def test_a_held_control_gains_the_velocity_but_not_the_position():
    time, line, held = diagrams.held_step()
    velocity, position = diagrams.position_behind(time, held - line)
    slope, dt = (line[-1] - line[0]) / time[-1], time[-1]
    assert abs(velocity[-1]) < 1e-12 and (velocity[1:-1] < 0).all()
    assert position == pytest.approx(slope * dt**3 / 12, rel=1e-3)


def test_the_exact_correction_arrives_and_then_rests():
    K, controls, errors = diagrams.corrected_once()
    assert K.shape == (15, 2) and np.linalg.norm(errors[0]) > 0.1
    np.testing.assert_allclose(errors[1:], 0, atol=1e-12)
    np.testing.assert_allclose(controls[2], controls[1], atol=1e-12)


def test_the_clipped_line_is_the_teachers_answer():
    line, controls = diagrams.clipped_line(0.92)
    teacher = BoundedMinimumEnergyController(DoubleIntegrator(control_limit=0.92))
    np.testing.assert_allclose(controls, teacher.solve([-2.5, 0], [2.5, 0])[:, 0], atol=1e-8)
    np.testing.assert_allclose(np.diff(line, 2), 0, atol=1e-12)
    assert (line > 0.92).any() and (line < -0.92).any()


def test_the_certificate_separates():
    corners, d, nearest, y = diagrams.proof_of_no_way()
    assert (corners @ y).max() == pytest.approx(nearest @ y) and d @ y > nearest @ y
    teacher = BoundedMinimumEnergyController(DoubleIntegrator(dt=1.0, control_limit=1.0), 2)
    assert not teacher.try_solve([0, 0], d)[1]
    assert teacher.try_solve([0, 0], 0.99 * nearest)[1]


def test_the_names_of_the_architecture_are_those_of_the_network():
    texts = " ".join(text.get_text() for text in diagrams.architecture().findobj(Text))
    texts = texts.replace("_\n", "_")
    for name, _ in TinyRecursiveControl().named_children():
        assert name in texts


def test_the_losses_are_weighted_as_they_are_asked_for():
    texts = [text.get_text() for text in diagrams.backward_path(0.25).findobj(Text)]
    assert "every cycle supervised: loss = 0.25 · J₀ + 0.25 · J₁ + 0.25 · J₂ + J₃" in texts
    assert texts.count("no loss") == 3


def test_a_refinement_drives_each_plan_and_says_where_it_ends(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(diagrams.plt, "close", figures.append)
    rough, fine = torch.tensor([[[0.5], [-0.4]], [[0.5], [-0.49]]]).double()
    start, goal = torch.tensor([[-0.1, 0.0], [0.0, 0.0]]).double()
    diagrams.refinement_gif(tmp_path / "a.gif", torch.stack([rough, fine]), start, goal)
    monkeypatch.undo()
    said = [[text.get_text() for text in figure.axes[-1].texts] for figure in figures]
    for figure in figures:
        plt.close(figure)
    ends = [100 * CART.rollout(start, plan)[-1, 0].item() for plan in (rough, fine)]
    words = [f"{name}: {abs(end):.1f} cm short of it"
             for name, end in zip(("first proposal", "after cycle 1"), ends)]
    assert said == [[], [], words[:1], words[:1], words[:1], words]
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.n_frames == 6
