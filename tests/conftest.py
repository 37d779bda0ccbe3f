"""What several test modules share: one thread, a tiny network and small datasets."""

import functools
import os
import pathlib
import shutil
import signal
import sys

import pytest
import torch

from trc_lib.data import generate_dataset
from trc_lib.model import TinyRecursiveControl

torch.set_num_threads(1)  # the networks are so small that a second thread costs more than it brings
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so it is in the background, and what is started here would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# All that the unit tests may find on PATH, beside the folder of their own Python: make, git and the coreutils.
TOOLS = tuple("""make git awk basename cat chmod cp cut date dirname echo env false find head ls mkdir mktemp mv pwd rm rmdir sh
    sleep sort tail test touch tr true uname wc""".split())


@pytest.fixture(scope="session", autouse=True)
def bare_machine(request, tmp_path_factory):
    """The unit tests see what a fresh machine has: no Slurm, browser or compiler on PATH, an empty HOME, no display.

    A test that only pretends that a program is there, and then runs it, fails everywhere and not only where it is missing.
    """
    if any({"browser", "slurm"} & {*pathlib.Path(item.path).parts} for item in request.session.items):
        yield
        return
    folder = tmp_path_factory.mktemp("bare")
    (folder / "bin").mkdir(), (folder / "home").mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        if found is not None:
            (folder / "bin" / name).symlink_to(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.pathsep.join([str(folder / "bin"), str(pathlib.Path(sys.executable).parent)]))
        patch.setenv("HOME", str(folder / "home"))
        patch.delenv("DISPLAY", raising=False)
        yield


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
