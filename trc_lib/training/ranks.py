"""Several processes, one training: each rank runs its share of every batch through the network.

The ranks are started by ``torchrun``, which also gives them their numbers. Every rank draws the same batches; the controls that
their shares give are put together, so that every rank sees the loss of the whole batch, whatever the objective; and the gradients
are added up. So the result is that of one process, but for rounding.
"""

import atexit
import contextlib
import datetime
import os
import time

import torch
import torch.distributed as dist

TIMEOUT = datetime.timedelta(minutes=10)  # a rank that has not answered for so long is given up
GRACE = 10                                # seconds for torchrun to see which rank died, before the others end as well


class RankLost(RuntimeError):
    """Another rank died or no longer answers."""


def this_rank():
    """The number of this process among those that torchrun started; None if it was not torchrun."""
    return int(os.environ["RANK"]) if dist.is_torchelastic_launched() else None


class Ranks:
    """Who takes part: this rank's number, and how many there are."""

    def __init__(self, rank=0, size=1):
        self.rank, self.size = rank, size

    @property
    def first(self):
        """Whether this rank is the one that evaluates, writes and shows."""
        return self.rank == 0

    def agreed(self, value):
        """What the first rank has for ``value``."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values)
        return values[0]

    def shared(self, model, predict):
        """``predict`` for a batch of which this rank computes its share: only there the controls have a gradient.

        Parameters that need no gradient must say so before; the others' are the sum over the ranks after every backward pass.
        """
        if self.size == 1:
            return predict
        network = torch.nn.parallel.DistributedDataParallel(_Network(model, predict))

        def predict_share(initial_state, target_state, H_cycles):
            n = len(initial_state)
            first, last = n * self.rank // self.size, n * (self.rank + 1) // self.size
            own = network(initial_state[first:last], target_state[first:last], H_cycles)  # [H_cycles + 1, share, horizon, m]
            own.register_hook(lambda slope: slope * self.size)    # the mean of the ranks' gradients becomes their sum
            everyone = own.new_zeros(len(own), n, *own.shape[2:])
            everyone[:, first:last] = own.detach()
            dist.all_reduce(everyone)
            return {"cycle_controls": torch.cat([everyone[:, :first], own, everyone[:, last:]], dim=1)}

        return predict_share


class _Network(torch.nn.Module):
    """A network whose ``forward`` is what `DistributedDataParallel` shall call."""

    def __init__(self, model, predict):
        super().__init__()
        self.model, self.predict = model, predict

    def forward(self, *arguments):
        return self.predict(*arguments)["cycle_controls"]


@contextlib.contextmanager
def joined(device):
    """Meet the other ranks that torchrun started, if it did: the `Ranks`, and this rank's device.

    Raises:
        ValueError: if there are fewer GPUs than ranks on this machine.
        RankLost: if another rank dies in the course of the block, or does not answer for ten minutes.
    """
    rank = this_rank()
    if rank is None:
        yield Ranks(), device
        return
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise ValueError(f"--nproc_per_node={os.environ['LOCAL_WORLD_SIZE']} is too large: "
                             f"this machine has {torch.cuda.device_count()} CUDA devices, one for each rank")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
        atexit.register(dist.destroy_process_group)
    try:
        yield Ranks(rank, dist.get_world_size()), device
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise
        time.sleep(GRACE)
        raise RankLost(f"another rank died, or did not answer for {TIMEOUT.seconds // 60} minutes; "
                       f"run again to go on after the last whole epoch ({str(error).splitlines()[0]})") from None
