"""Widgets that the kernel draws, and changes to one part of a network."""

import threading
import time

import ipywidgets
import pytest
import torch

from trc_lib.course import plots, widgets
from trc_lib.course.interventions import SWITCHES, refine
from trc_lib.course.widgets.shell import Shell
from trc_lib.model import TinyRecursiveControl
from trc_lib.systems import Craft
from trc_lib.training import History


def _model(seed=0):
    return TinyRecursiveControl.create_two_level_small(seed=seed, block_hidden=16, head_hidden=16)


@pytest.fixture(scope="module")
def model():
    return _model()


def test_an_error_is_shown_in_words_and_the_picture_stays():
    level = ipywidgets.IntSlider(value=1)
    shell = Shell("a level", lambda level: bytes([level]), {"level": level})
    kept, draw = bytes(shell.picture.value), shell.draw

    def broken(**values):
        raise ValueError("no <such> thing")

    shell.draw = broken
    shell.redraw()
    assert shell.trouble.value == "<b>ValueError:</b> no &lt;such&gt; thing"
    assert shell.picture.value == kept
    shell.draw = draw
    shell.redraw()
    assert shell.trouble.value == ""


# ---------------------------------------------------------------- interventions


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_does_what_it_says(model, switch):
    x0 = torch.tensor([[-1.0, 0.5], [2.0, 0.0]])
    xT = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    plain, changed = model.trace(x0, xT), refine(model, x0, xT, switch=switch)
    assert torch.equal(plain.controls, changed.controls) == (switch == "as trained")
    if switch == "z_H frozen":
        assert (changed.z_H == changed.z_H[0]).all()
    if switch == "z_L zero":
        assert not changed.z_L.any()
    if switch == "latents swapped":
        assert torch.equal(changed.controls[:2], plain.controls[:2])  # in force from cycle 2
        assert torch.equal(changed.z_L[1, 0], plain.z_L[1, 0].flip(0))
        expected = model.block(plain.z_H[1].flip(0) + changed.z_L[1, -1])
        torch.testing.assert_close(changed.z_H[2], expected)
    if switch == "feedback off":
        silent = TinyRecursiveControl(model.config, model.system)
        silent.load_state_dict(model.state_dict())
        silent.error_embedding.weight.data.zero_()
        torch.testing.assert_close(changed.controls, silent.trace(x0, xT).controls)
    assert not any(module._forward_hooks for module in model.modules())


def test_an_unknown_switch_is_refused(model):
    with pytest.raises(ValueError, match="switch='z_L frozen' is unknown; accepted are"):
        refine(model, torch.zeros(1, 2), torch.zeros(1, 2), switch="z_L frozen")


# ---------------------------------------------------------------- pictures


def test_beside_a_widget_of_the_kernel_stand_its_picture_and_words():
    shell = widgets.relaxation(Craft())
    data = shell._repr_mimebundle_()
    assert isinstance(data["image/png"], bytes)  # not a memoryview: that becomes a list
    assert data["image/png"] == shell.picture.value
    assert "model_id" in data["application/vnd.jupyter.widget-view+json"]
    assert data["text/plain"] == repr(shell) == (
        "The thrusts that are possible, and the cone that replaces them; while the notebook runs "
        "it follows its controls: view (degrees)")
    assert repr(widgets.live_picture(plots.learning_curves).picture) == (
        "a picture that is drawn while the notebook runs")


def test_a_live_picture_shows_the_argument_of_the_last_call():
    update = widgets.live_picture(plots.learning_curves)
    rows = [{"epoch": k, "train_loss": 1.0 / k, "eval_loss": 1.0 / k, "eval_final_error": 0.2 / k,
             "lr": 1e-3} for k in (1, 2)]
    update(History(rows[:1]))
    first = bytes(update.picture.value)
    update(History(rows))
    assert first.startswith(b"\x89PNG") and update.picture.value != first


def test_two_callbacks_at_once_draw_one_after_the_other_and_the_latest_values_win():
    inside, most = [], []

    def draw(level):
        inside.append(level)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()
        return bytes([level])

    shell = Shell("a level", draw, {"level": ipywidgets.IntSlider(value=0, min=0, max=20)})

    def move(levels):
        for level in levels:
            shell.controls["level"].value = level

    threads = [threading.Thread(target=move, args=(range(first, 20, 2),)) for first in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and shell.picture.value == bytes([shell.controls["level"].value])
