"""The training set in batches."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from trc_lib.data import LQRDataset, Store


def on_device(dataset: LQRDataset, device: torch.device) -> list[Tensor]:
    """Initial states, target states and controls, float32 on ``device``."""
    return [values.to(device, torch.float32)
            for values in (dataset.initial_states, dataset.target_states, dataset.controls)]


class Batches:
    """A training set in batches, float32 on a device, in an order drawn by a generator.

    A dataset is held on the device as a whole; of a `Store`, one shard at a time. The shards come
    in random order, and so do the problems of each.

    Args:
        train_set: `LQRDataset` or `Store`.
        batch_size: problems in a batch; the last may have fewer.
        device: where the batches are needed.
    """

    def __init__(self, train_set: LQRDataset | Store, batch_size: int, device: torch.device):
        self.num_samples, self.batch_size, self.device = len(train_set), batch_size, device
        if isinstance(train_set, Store):
            self._read, self._pieces = train_set.read, len(train_set.shards)
        else:
            held = on_device(train_set, device)
            self._read, self._pieces = lambda piece: held, 1

    def __len__(self) -> int:
        return math.ceil(self.num_samples / self.batch_size)

    def drawn(self, order: torch.Generator) -> Iterator[list[Tensor]]:
        """Initial states, target states and controls of each batch; every problem comes once."""
        rest = None  # of the last piece, less than a batch
        for piece in torch.randperm(self._pieces, generator=order).tolist():
            values = [value.to(self.device) for value in self._read(piece)]
            rows = torch.randperm(len(values[0]), generator=order).to(self.device)
            missing = self.batch_size - (0 if rest is None else len(rest[0]))
            for chosen in (rows[:missing], *rows[missing:].split(self.batch_size)):
                batch = [value[chosen] for value in values]
                if rest is not None:
                    batch = [torch.cat(both) for both in zip(rest, batch)]
                rest = batch if len(batch[0]) < self.batch_size else None
                if rest is None:
                    yield batch
        if rest is not None and len(rest[0]):
            yield rest
