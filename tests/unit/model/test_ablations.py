"""The gradient of the last cycle alone."""

import torch

from tests.unit.model.by_hand import gradients, refined_by_hand
from trc_lib.model import LastCycleGradient


def test_last_cycle_gradient_is_that_of_earlier_cycles_without_gradient(
        scaled, dataset, problems):
    truncated, full = scaled(LastCycleGradient), scaled()
    optimal = dataset.controls[:8].float()
    got = gradients(truncated, truncated(*problems)["cycle_controls"], optimal)
    by_hand = gradients(full, refined_by_hand(full, *problems, first_gradient_cycle=2), optimal)
    whole = gradients(full, full(*problems)["cycle_controls"], optimal)
    assert torch.equal(truncated(*problems)["controls"], full(*problems)["controls"])
    for name in got:
        torch.testing.assert_close(got[name], by_hand[name], rtol=1e-4, atol=1e-6)
        assert not torch.allclose(got[name], whole[name], rtol=1e-2), name


def test_no_graph_is_built_where_gradients_are_off(problems):
    model = LastCycleGradient.create_two_level_small()
    with torch.no_grad():
        history, carry = model.recursive_reasoning(*problems, 3)
        assert not any(value.requires_grad for value in (history, *carry))
    assert model(*problems)["cycle_controls"].requires_grad
