"""Faster arithmetic gives nearly the same, and is taken back."""

import numpy as np
import pytest
import torch

from tests.unit.training.common import train
from trc_lib.training import TrainConfig
from trc_lib.training.compute import one_thread, precision_of


def test_mixed_precision_learns_nearly_the_same(tiny, dataset):
    model = tiny()
    exact, mixed = (
        train(network, dataset, dataset, TrainConfig(epochs=3, batch_size=16, mixed_precision=on))
        for network, on in ((tiny(), False), (model, True)))
    assert exact["eval_loss"] != mixed["eval_loss"]  # so it was on
    np.testing.assert_allclose(mixed["eval_loss"], exact["eval_loss"], rtol=0.02)
    assert not any("forward" in vars(module) for module in model.modules())
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize(("place", "config", "precision"), [
    ("cuda", {"mixed_precision": True}, "high"), ("cuda", {}, "highest"),
    ("cpu", {"mixed_precision": True}, "highest"),
    ("cuda", {"mixed_precision": True, "objective": "cost"}, "highest")])
def test_tf32_is_set_while_training_in_mixed_precision_on_a_gpu_and_taken_back(
        tiny, place, config, precision):
    with precision_of(tiny(), TrainConfig(**config), torch.device(place))():
        assert torch.get_float32_matmul_precision() == precision
    assert torch.get_float32_matmul_precision() == "highest"


def test_with_mixed_precision_the_reported_losses_are_those_of_the_network_that_is_kept(
        tiny, dataset, other_dataset):
    model = tiny()
    history = train(model, dataset, other_dataset, TrainConfig(epochs=2, mixed_precision=True))
    controls = model.solve(other_dataset.initial_states, other_dataset.target_states)
    measured = float((controls - other_dataset.controls).square().mean())
    assert history.best["eval_loss"] == pytest.approx(measured, rel=1e-5)


def test_the_number_of_threads_is_taken_back(monkeypatch):
    threads = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    with pytest.raises(KeyboardInterrupt), one_thread():
        assert threads == [1]
        raise KeyboardInterrupt
    assert threads == [1, 7]


def test_the_precision_of_before_is_restored(tiny):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with precision_of(tiny(), TrainConfig(mixed_precision=True), torch.device("cpu"))():
            pass
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
