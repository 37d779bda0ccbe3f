"""What several test modules share: one thread, a tiny network and small datasets."""

import functools
import signal

import pytest
import torch

from trc_lib.data import generate_dataset
from trc_lib.model import TinyRecursiveControl

torch.set_num_threads(1)  # the networks are so small that a second thread costs more than it brings
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so it is in the background, and what is started here would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

@pytest.fixture(scope="session")
def tiny():
    """Makes the smallest network that is still worth training: ``tiny(H_cycles=2)``."""
    return functools.partial(TinyRecursiveControl.create_two_level_small, latent_dim=16, block_hidden=16, head_hidden=16)


@pytest.fixture(scope="session")
def dataset():
    return generate_dataset(64, seed=1)


@pytest.fixture(scope="session")
def other_dataset():
    return generate_dataset(48, seed=2)


@pytest.fixture
def scratch_course(tmp_path, monkeypatch):
    """An empty course to make a mess in: a folder that looks like the root, with nothing in it."""
    for name in ("notebooks", "trc_lib"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path
