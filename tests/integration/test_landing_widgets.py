"""The widgets of chapters 11 and 12: what they show of a landing, and what they refuse."""

import io
import re

import numpy as np
import pytest
import torch
import traitlets
from PIL import Image

from trc_lib.course import widgets
from trc_lib.course.widgets.landing import Descent
from trc_lib.model import TinyRecursiveControl
from trc_lib.problems import double_integrator, powered_descent
from trc_lib.systems.lander import Craft
from trc_lib.teachers.landing import correct

PROBLEM = powered_descent(horizon=20)
SYSTEM = PROBLEM.teacher.system


@pytest.fixture(scope="module")
def model():
    return TinyRecursiveControl.create_two_level_small(
        SYSTEM, horizon=20, seed=0, latent_dim=16, block_hidden=16, head_hidden=16)


@pytest.fixture(scope="module")
def descent(model):
    return Descent(model, PROBLEM)


@pytest.fixture(scope="module")
def landing(model):
    return widgets.landing(model, PROBLEM)


@pytest.mark.parametrize("iterations", [0, 6])
def test_it_shows_the_optimum_and_the_plan_of_the_start_that_is_chosen(descent, model, iterations):
    start = torch.tensor([[1200.0, 0, 1400, 10, 30, -50, 1880]], dtype=torch.float64)
    names = {f"start_{i}": start[0, i].item() for i in (0, 2, 3, 4, 5, 6)}
    figure, text = descent.figure(iterations, 300, **names)
    optimum = PROBLEM.teacher.solve(start, descent.target[None])
    plan = correct(SYSTEM, start, model.solve(start, descent.target[None]), iterations)
    scene, thrust = figure.axes
    drawn = {line.get_label(): line for line in scene.lines}
    for number, (name, controls) in enumerate((("network", plan), ("optimum", optimum))):
        path = SYSTEM.rollout(start, controls)[0, :, :3] / 1e3
        np.testing.assert_allclose(np.stack(drawn[name].get_data_3d(), axis=1), path, atol=1e-6)
        sizes = thrust.patches[number].get_data().values
        np.testing.assert_allclose(sizes, controls[0, :, :3].norm(dim=-1) / 1e3, rtol=1e-6)
    assert f"Optimum: {SYSTEM.fuel(optimum).item():.1f} kg" in text
    end = SYSTEM.rollout(start, plan)[0, -1]
    safe = end[:3].norm() < 1 and end[3:6].norm() < 0.5
    assert f"misses by {end[:3].norm():.0f} m" in text if not safe else "misses" not in text


def test_a_start_from_which_nobody_lands_is_called_so(descent):
    figure, text = descent.figure(2, 300, start_0=2500.0, start_2=1000.0, start_3=60.0,
                                  start_4=60.0, start_5=-90.0, start_6=1805.0)
    assert text.startswith("The teacher finds no landing from here. Network")
    drawn = [line.get_label() for line in figure.axes[0].lines]
    assert "network" in drawn and "optimum" not in drawn


def _answer(monkeypatch, widget, **values):
    """What the page gets for values: the words and the picture."""
    sent = []
    monkeypatch.setattr(widget, "send", lambda content, buffers=None: sent.append((content,
                                                                                   buffers)))
    widget._hear(widget, {"ask": "picture", "number": 7, "values": widget.values | values}, [])
    (content, buffers), = sent
    assert content["number"] == 7 and "error" not in content
    return content["words"], buffers[0]


def test_every_control_changes_the_picture(monkeypatch, landing):
    assert set(landing.controls) == {"iterations", "azimuth", *(f"start_{i}" for i in (0, 2, 3, 4,
                                                                                     5, 6))}
    _, first = _answer(monkeypatch, landing)
    assert first == landing.png()
    for name, control in landing.controls.items():
        other = control["min" if landing.values[name] > control["min"] else "max"]
        _, picture = _answer(monkeypatch, landing, **{name: other})
        assert picture[:4] == b"\x89PNG" and picture != first, name


def test_the_iterations_are_kept_for_when_no_kernel_runs(monkeypatch, landing):
    kept, at = landing.about["kept"], 0
    assert sorted(each["values"]["iterations"] for each in kept) == list(range(11))
    for each in kept:
        png = landing.pictures[at:at + each["size"]]
        at += each["size"]
        assert Image.open(io.BytesIO(png)).size[0] > 800
        if each["values"]["iterations"] == 6:
            assert (each["words"], png) == _answer(monkeypatch, landing, iterations=6)
    assert at == len(landing.pictures) < 700_000


def test_the_cone_can_be_turned_without_a_kernel(monkeypatch):
    cone = widgets.relaxation(Craft())
    views = [each["values"]["azimuth"] for each in cone.about["kept"]]
    assert sorted(views) == list(range(0, 361, 30)) and len(cone.pictures) < 700_000
    (words, other), first = _answer(monkeypatch, cone, azimuth=90), cone.png()
    assert other != first and words == "Seen from 90 degrees."


def test_values_that_no_slider_has_are_refused(landing):
    for values, reason in (({"azimuth": 30}, "needs those of start_0, start_2"),
                           (landing.values | {"iterations": 11}, "a number from 0 to 10"),
                           (landing.values | {"start_0": "far"}, "a number from"),
                           (landing.values | {"start_0": float("nan")}, "a number from")):
        with pytest.raises(traitlets.TraitError, match=reason):
            landing.values = values
    landing.values = dict(reversed((landing.values | {"azimuth": 60}).items()))
    assert list(landing.values) == list(landing.controls) and landing.values["azimuth"] == 60


def test_beside_the_widget_stand_a_picture_and_words():
    cone = widgets.relaxation(Craft())
    data = cone._repr_mimebundle_()[0]
    assert data["image/png"] == cone.png() and "application/vnd.jupyter.widget-view+json" in data
    assert re.fullmatch(r"Drawn: The thrusts that are possible, and the cone that replaces them; "
                        r"while the notebook runs it follows its controls: view \(degrees\)",
                        data["text/plain"])


def test_an_error_goes_to_the_page_in_words(monkeypatch, landing):
    sent = []
    monkeypatch.setattr(landing, "send", lambda content, buffers=None: sent.append(content))
    monkeypatch.setattr(landing, "draw", lambda **values: 1 / 0)
    landing._hear(landing, {"ask": "picture", "number": 1, "values": landing.values}, [])
    assert sent == [{"number": 1, "error": "ZeroDivisionError: division by zero"}]


def test_other_problems_are_refused(model):
    with pytest.raises(TypeError, match="needs a Lander"):
        widgets.landing(model, double_integrator())
    with pytest.raises(ValueError, match="teacher has horizon=10; the model needs 20"):
        widgets.landing(model, powered_descent(horizon=10))
    with pytest.raises(TypeError, match="craft"):
        widgets.relaxation("a rocket")
