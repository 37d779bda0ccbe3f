"""Defaults of pytest's plugins, where they are installed: nbval runs notebooks with this Python."""

import os
import tempfile

import pytest

from trc_lib.course import kernel, places

WITHOUT_AVX512 = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
                  "ONEDNN_MAX_CPU_ISA": "AVX2"}  # what PyTorch and its libraries read
CELL_TIMEOUT = 600  # seconds; nbval's own default, 2000, is how late it notices a dead kernel


@pytest.hookimpl(tryfirst=True)  # before xdist's, which makes `-n 2` mean `--dist=load`
def pytest_cmdline_main(config):
    """Set what was not asked for; runs in xdist's workers, too."""
    options = config.option
    if getattr(options, "numprocesses", None) and options.dist == "no":
        options.dist = "loadscope"  # the cells of a notebook stay together
    if getattr(options, "nbval", False) or getattr(options, "nbval_lax", False):
        options.nbval_current_env = True
        if options.nbval_cell_timeout == 2000:
            options.nbval_cell_timeout = CELL_TIMEOUT
        folder = tempfile.TemporaryDirectory()
        config.add_cleanup(folder.cleanup)
        os.environ.update(kernel.environment(folder.name))
        # On another processor rounding differs, and a training ends elsewhere. What notebooks print
        # and claim must hold there, too: so one with AVX-512 computes as if it had none.
        import torch
        if torch.backends.cpu.get_cpu_capability() == "AVX512":
            for name, value in WITHOUT_AVX512.items():
                os.environ.setdefault(name, value)
        # Notebooks begin without what earlier runs left, which could hide that an output is stale.
        os.environ[places.FOLDER] = os.path.join(folder.name, "made")
        import matplotlib.font_manager  # noqa: F401 - says that it builds its cache: not in a cell
