"""The unit tests see a bare machine."""

import os
import pathlib
import shutil
import sys

import pytest

# All that the unit tests may find on PATH, beside the folder of their own Python: make, git and the coreutils.
TOOLS = tuple("""make git awk basename cat chmod cp cut date dirname echo env false find head ls mkdir mktemp mv pwd rm rmdir sh
    sleep sort tail test touch tr true uname wc""".split())


@pytest.fixture(scope="session", autouse=True)
def bare_machine(tmp_path_factory):
    """The unit tests see what a fresh machine has: no Slurm, browser or compiler on PATH, an empty HOME, no display.

    A test that only pretends that a program is there, and then runs it, fails everywhere and not only where it is missing.
    """
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
