"""Widgets that the kernel draws, and changes to one part of a network."""

import threading
import time

import pytest
import torch

from trc_lib.course.interventions import SWITCHES, refine
from trc_lib.course.widgets.drawn import Drawn
from trc_lib.model import TinyRecursiveControl


def _model(seed=0):
    return TinyRecursiveControl.create_two_level_small(seed=seed, block_hidden=16, head_hidden=16)


@pytest.fixture(scope="module")
def model():
    return _model()


# ---------------------------------------------------------------- interventions


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_does_what_it_says(model, switch):
    x0 = torch.tensor([[-1.0, 0.5], [2.0, 0.0]])
    xT = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    plain, changed = model.trace(x0, xT), refine(model, x0, xT, switch=switch)
    assert torch.equal(plain.controls, changed.controls) == (switch == "unchanged")
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


def test_pictures_that_are_asked_for_at_once_are_drawn_one_after_the_other():
    inside, most, sent = [], [], []

    def draw(level):
        inside.append(level)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()
        return bytes([level]), str(level)

    shown = Drawn("a level", draw, {"level": {"label": "level", "min": 0, "max": 20, "step": 1}},
                  {"level": 0})
    shown.send = lambda content, buffers: sent.append((content, buffers))

    def ask(levels):
        for level in levels:
            shown._hear(shown, {"ask": "picture", "number": level, "values": {"level": level}}, [])

    threads = [threading.Thread(target=ask, args=(range(first, 20, 2),)) for first in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(sent) == 19
    for content, (png,) in sent:
        assert png == bytes([content["number"]]) and content["words"] == str(content["number"])
