"""Several processes, one training: each rank runs its share of every batch through the network.

``torchrun`` starts the ranks and numbers them. Every rank draws the same batches. The controls of
all shares are put together, so that every rank has the loss of the whole batch, whatever the
objective, and the gradients are summed: the result is that of one process, up to rounding.
"""

import atexit
import contextlib
import datetime
import importlib
import os
import time
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist

TIMEOUT = datetime.timedelta(minutes=10)  # for the answer of another rank
GRACE = 10  # seconds for torchrun to see which rank died, before the others end too


class RankLost(RuntimeError):
    """Another rank died or no longer answers."""


def this_rank() -> int | None:
    """The number of this process among those that torchrun started; None without torchrun."""
    started = dist.is_available() and dist.is_torchelastic_launched()  # some builds have neither
    return int(os.environ["RANK"]) if started else None


class Ranks:
    """This rank's number, and how many there are."""

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this rank is the one that evaluates, writes and shows."""
        return self.rank == 0

    def agreed(self, value: object) -> object:
        """The first rank's ``value``."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values)
        return values[0]

    def shared(self, predict: Callable) -> Callable:
        """``predict`` for a batch; only the share that this rank computes has a gradient."""
        if self.size == 1:
            return predict

        def predict_share(initial_state, target_state, H_cycles):
            n = len(initial_state)
            first, last = n * self.rank // self.size, n * (self.rank + 1) // self.size
            own = predict(initial_state[first:last], target_state[first:last],
                          H_cycles)["cycle_controls"]
            everyone = own.new_zeros(len(own), n, *own.shape[2:])
            everyone[:, first:last] = own.detach()
            dist.all_reduce(everyone)
            return {"cycle_controls":
                    torch.cat([everyone[:, :first], own, everyone[:, last:]], dim=1)}

        return predict_share

    def add_gradients(self, model: torch.nn.Module) -> None:
        """Put the sum over the ranks in place of each gradient."""
        if self.size > 1:
            gradients = [each.grad for each in model.parameters() if each.grad is not None]
            together = torch.nn.utils.parameters_to_vector(gradients)
            dist.all_reduce(together)
            torch.nn.utils.vector_to_parameters(together, gradients)


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[tuple[Ranks, torch.device]]:
    """Join the other ranks that torchrun started, if any: the `Ranks`, and this rank's device.

    Raises:
        ValueError: if there are fewer GPUs than ranks on this machine.
        RankLost: if another rank dies during the block, or does not answer for ten minutes.
    """
    rank = this_rank()
    if rank is None:
        yield Ranks(), device
        return
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise ValueError(f"--nproc_per_node={os.environ['LOCAL_WORLD_SIZE']} is too large: "
                             f"this machine has {torch.cuda.device_count()} CUDA devices, "
                             "one for each rank")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        # Loaded later, as by the first step of an optimizer, it keeps the group in its defaults;
        # the group's threads then outlive Python and, now and then, abort a process that is done.
        importlib.import_module("torch.distributed.nn")
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
        atexit.register(dist.destroy_process_group)
    try:
        yield Ranks(rank, dist.get_world_size()), device
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise
        time.sleep(GRACE)
        raise RankLost(
            f"another rank died, or did not answer for {TIMEOUT.seconds // 60} minutes; run again "
            f"to go on after the last whole epoch ({str(error).splitlines()[0]})") from None
