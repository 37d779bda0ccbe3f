"""One process is no rank; each rank needs a GPU of its own."""

import pytest
import torch

from trc_lib.training.ranks import Ranks, joined, this_rank


def test_one_process_alone_is_no_rank():
    assert this_rank() is None and Ranks().first and Ranks().agreed(3) == 3


def test_a_pytorch_without_ranks_trains_in_one_process(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    monkeypatch.delattr(torch.distributed, "is_torchelastic_launched")
    assert this_rank() is None


def test_more_ranks_than_gpus_are_refused(monkeypatch):
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    reason = "--nproc_per_node=2 is too large: this machine has 1 CUDA devices"
    with pytest.raises(ValueError, match=reason), joined(torch.device("cuda")):
        pass
