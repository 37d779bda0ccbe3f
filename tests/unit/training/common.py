"""What the tests of training share."""

import functools

import torch

from trc_lib import training
from trc_lib.training import TrainConfig

train = functools.partial(training.train, device="cpu", progress=False)
SHORT = TrainConfig(epochs=4, batch_size=24, snapshot_epochs=(0, 2, 4))  # batches of 24, 24 and 16


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def without_seconds(history):
    return [{name: value for name, value in row.items() if name != "seconds"}
            for row in history.rows]


def stop_after(epochs):
    """An ``on_epoch`` that interrupts the training after so many epochs."""
    def stop(history):
        if len(history) == epochs:
            raise KeyboardInterrupt
    return stop


def script_eval_losses(monkeypatch, losses):
    """Let the validations give these losses, one after the other."""
    losses = iter(losses)
    monkeypatch.setattr(training.loop, "validate", lambda *arguments: (next(losses), 1.0, 0.0))
