"""The unit tests see a bare machine, and check the annotations of `trc_lib`, shapes included."""

import importlib.util
import os
import pathlib
import shutil
import sys

import jaxtyping
import pytest

# The method without its configurations, which check their fields and take NumPy integers.
ROOMS = ("validation", "io", "scan", "systems", "costs", "evaluation", "teachers", "data",
         "problems",
         *(f"model.{name}" for name in ("ablations", "baselines", "checkpoints", "feedback",
                                        "learner", "recursion", "trace")),
         *(f"training.{name}" for name in ("batches", "compute", "loop", "objectives", "ranks",
                                           "state")))
if importlib.util.find_spec("beartype"):
    jaxtyping.install_import_hook([f"trc_lib.{room}" for room in ROOMS], "beartype.beartype")

# What the unit tests find on PATH, beside the folder of their own Python: make, git, the coreutils.
TOOLS = tuple("""make git awk basename cat chmod cp cut date dirname echo env false find head ls
    mkdir mktemp mv pwd rm rmdir sh sleep sort tail test touch tr true uname wc""".split())


@pytest.fixture(scope="session", autouse=True)
def bare_machine(tmp_path_factory):
    """No Slurm, browser or compiler on PATH, an empty HOME, no display, as on a fresh machine.

    A test that patches `shutil.which` and then runs the program fails on every machine this way.
    """
    if sys.platform == "win32":  # links need privileges there
        yield
        return
    folder = tmp_path_factory.mktemp("bare")
    (folder / "bin").mkdir(), (folder / "home").mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        if found is not None:
            (folder / "bin" / name).symlink_to(found)
    with pytest.MonkeyPatch.context() as patch:
        own = pathlib.Path(sys.executable).parent
        patch.setenv("PATH", os.pathsep.join([str(folder / "bin"), str(own)]))
        patch.setenv("HOME", str(folder / "home"))
        patch.delenv("DISPLAY", raising=False)
        yield
