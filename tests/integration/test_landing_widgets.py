"""The widgets of chapter 11: what they show of a landing, and what they refuse."""

import numpy as np
import pytest
import torch

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


@pytest.mark.parametrize("iterations", [0, 6])
def test_it_shows_the_optimum_and_the_plan_of_the_start_that_is_chosen(descent, model, iterations):
    start = torch.tensor([[1200.0, 0, 1400, 10, 30, -50, 1880]], dtype=torch.float64)
    names = {f"start_{i}": start[0, i].item() for i in (0, 2, 3, 4, 5, 6)}
    assert descent.draw(iterations, 300, **names)[:4] == b"\x89PNG"
    optimum = PROBLEM.teacher.solve(start, descent.target[None])
    plan = correct(SYSTEM, start, model.solve(start, descent.target[None]), iterations)
    moving = descent.view(300).moving
    for name, controls in (("optimum", optimum), ("network", plan)):
        path = SYSTEM.rollout(start, controls)[0, :, :3] / 1e3
        np.testing.assert_allclose(np.stack(moving["path", name].get_data_3d(), axis=1), path,
                                   atol=1e-6)
        sizes = moving["size", name].get_data().values
        np.testing.assert_allclose(sizes, controls[0, :, :3].norm(dim=-1) / 1e3, rtol=1e-6)
    text = moving["text"].get_text()
    assert f"optimum {SYSTEM.fuel(optimum).item():.1f} kg" in text
    end = SYSTEM.rollout(start, plan)[0, -1]
    safe = end[:3].norm() < 1 and end[3:6].norm() < 0.5
    assert f"misses by {end[:3].norm():.0f} m" in text if not safe else "misses" not in text


def test_a_start_from_which_nobody_lands_is_called_so(descent):
    descent.draw(2, 300, start_0=2500.0, start_2=1000.0, start_3=60.0, start_4=60.0, start_5=-90.0,
                 start_6=1805.0)
    moving = descent.view(300).moving
    assert moving["text"].get_text().startswith("the teacher finds no landing from here;")
    assert not moving["path", "optimum"].get_visible() and moving["path", "network"].get_visible()


def test_every_control_changes_the_picture(model):
    shell = widgets.landing(model, PROBLEM)
    assert set(shell.controls) == {"iterations", "azimuth", *(f"start_{i}" for i in (0, 2, 3, 4, 5,
                                                                                    6))}
    for name, control in shell.controls.items():
        pictures = {shell.picture.value}
        control.value = control.min if control.value > control.min else control.max
        assert shell.trouble.value == ""
        pictures.add(shell.picture.value)
        assert len(pictures) == 2, name


def test_the_cone_can_be_turned():
    shell = widgets.relaxation(Craft())
    first, shell.controls["azimuth"].value = shell.picture.value, 90
    assert shell.trouble.value == "" and shell.picture.value != first


def test_other_problems_are_refused(model):
    with pytest.raises(TypeError, match="needs a Lander"):
        widgets.landing(model, double_integrator())
    with pytest.raises(ValueError, match="teacher has horizon=10; the model needs 20"):
        widgets.landing(model, powered_descent(horizon=10))
    with pytest.raises(TypeError, match="craft"):
        widgets.relaxation("a rocket")
