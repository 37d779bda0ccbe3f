"""Several processes, one training: each rank computes its share of every batch.

``torchrun`` starts the ranks and numbers them. Every rank draws the same batches. The controls of
all shares are gathered, so every rank sees the loss of the whole batch, whatever the objective, and
the gradients are summed: the result is that of one process, up to rounding.
"""

import atexit
import contextlib
import datetime
import os
import time
from collections.abc import Iterator

import torch
import torch.distributed as dist

TIMEOUT = datetime.timedelta(minutes=10)  # after which a rank that does not answer is given up
GRACE = 10  # seconds for torchrun to notice which rank died, before the others end as well


class RankLost(RuntimeError):
    """Another rank died or no longer answers."""


def this_rank() -> int | None:
    """The number of this process among those of torchrun; None without torchrun."""
    return int(os.environ["RANK"]) if dist.is_torchelastic_launched() else None


class Ranks:
    """This rank's number, and how many ranks there are."""

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this rank is the one that evaluates, writes and reports."""
        return self.rank == 0

    def agreed(self, value):
        """The first rank's ``value``."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values)
        return values[0]

    def shared(self, model: torch.nn.Module, predict):
        """``predict`` for a batch of which this rank computes its share.

        Only the controls of the share have a gradient; those of the parameters are summed over the
        ranks in every backward pass. Parameters without a gradient must be frozen beforehand.
        """
        if self.size == 1:
            return predict
        network = torch.nn.parallel.DistributedDataParallel(_Network(model, predict))

        def predict_share(initial_state, target_state, H_cycles):
            n = len(initial_state)
            first, last = n * self.rank // self.size, n * (self.rank + 1) // self.size
            own = network(initial_state[first:last], target_state[first:last], H_cycles)
            own.register_hook(lambda gradient: gradient * self.size)  # the mean becomes the sum
            everyone = own.new_zeros(len(own), n, *own.shape[2:])
            everyone[:, first:last] = own.detach()
            dist.all_reduce(everyone)
            parts = [everyone[:, :first], own, everyone[:, last:]]
            return {"cycle_controls": torch.cat(parts, dim=1)}

        return predict_share


class _Network(torch.nn.Module):
    """A module whose ``forward`` is what `DistributedDataParallel` shall call."""

    def __init__(self, model, predict):
        super().__init__()
        self.model, self.predict = model, predict

    def forward(self, *arguments):
        return self.predict(*arguments)["cycle_controls"]


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[tuple[Ranks, torch.device]]:
    """Join the other ranks of torchrun, if there are any: the `Ranks`, and this rank's device.

    Raises:
        ValueError: if this machine has fewer GPUs than ranks.
        RankLost: if another rank dies during the block, or does not answer for ten minutes.
    """
    rank = this_rank()
    if rank is None:
        yield Ranks(), device
        return
    if device.type == "cuda":
        local, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= count:
            raise ValueError(f"--nproc_per_node={os.environ['LOCAL_WORLD_SIZE']} is too large: "
                             f"this machine has {count} CUDA devices, one for each rank")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=TIMEOUT)
        atexit.register(dist.destroy_process_group)
    try:
        yield Ranks(rank, dist.get_world_size()), device
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise
        time.sleep(GRACE)
        raise RankLost("another rank died, or did not answer for "
                       f"{TIMEOUT.seconds // 60} minutes; run again to go on after the last whole "
                       f"epoch ({str(error).splitlines()[0]})") from None
