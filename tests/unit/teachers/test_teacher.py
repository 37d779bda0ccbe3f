"""What all teachers share: when controls count as a success, and what a success may be."""

import pytest
import torch

from trc_lib.teachers import BoundedMinimumEnergyController, MinimumEnergyController


def test_a_success_for_each_state_is_an_ellipsoid_and_one_number_a_ball():
    each = MinimumEnergyController(success=[0.1, 0.01])
    offset = torch.tensor([[0.09, 0.0], [0.0, 0.009], [0.08, 0.008], [0.05, 0.005], [0.0, 0.05]])
    assert each.succeeded(offset).tolist() == [True, True, False, True, False]
    one = MinimumEnergyController(success=0.1)
    assert one.succeeded(offset).tolist() == [True] * 5
    assert one.succeeded(torch.tensor([0.08, 0.08])).tolist() is False


@pytest.mark.parametrize(("success", "error", "words"), [
    (0.0, ValueError, "success=0.0"), ([0.1], ValueError, r"needs \[..., 2\]"),
    ([0.1, 0.0], ValueError, "give a number above zero, or 2 of them"),
    ([[0.1, 0.1]], ValueError, "or 2 of them"), ("near", TypeError, "success='near'")], ids=str)
def test_a_success_that_is_none_is_refused(success, error, words):
    for teacher in (MinimumEnergyController, BoundedMinimumEnergyController):
        with pytest.raises(error, match=words):
            teacher(success=success)
