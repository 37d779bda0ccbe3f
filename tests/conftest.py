"""What the test modules share: one thread, a tiny network and small datasets.

`trc_lib` is imported inside the fixtures, after tests/unit/conftest.py, which has its annotations
checked.
"""

import functools
import signal

import pytest
import torch

torch.set_num_threads(1)  # faster than two for networks of this size
# A process in the background ignores Ctrl-C, and so would those that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu",
                     help="where tests/unit/test_devices.py runs: cpu (the default), cuda, cuda:0")


def pytest_configure(config):
    """Refuse a device that is not here, before a test runs."""
    if config.getoption("--device") != "cpu":
        from trc_lib import validation

        try:
            validation.device(config.getoption("--device"))
        except ValueError as error:
            raise pytest.UsageError(f"--{error}") from None


@pytest.fixture(scope="session")
def device(request):
    """Where the tests run that compare a device with the CPU: ``--device``."""
    from trc_lib import validation

    return validation.device(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def tiny():
    """Makes the smallest network that still learns: ``tiny(H_cycles=2)``."""
    from trc_lib.model import TinyRecursiveControl

    sizes = {"latent_dim": 16, "block_hidden": 16, "head_hidden": 16}
    return functools.partial(TinyRecursiveControl.create_two_level_small, **sizes)


@pytest.fixture(scope="session")
def dataset():
    from trc_lib.data import generate_dataset

    return generate_dataset(64, seed=1)


@pytest.fixture(scope="session")
def other_dataset():
    from trc_lib.data import generate_dataset

    return generate_dataset(48, seed=2)


@pytest.fixture
def scratch_course(tmp_path, monkeypatch):
    """An empty folder that is recognised as the root of the course, and is the working folder."""
    for name in ("notebooks", "trc_lib"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path
