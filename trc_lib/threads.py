"""How many cores small work takes."""

import contextlib

import torch


@contextlib.contextmanager
def one_thread():
    """One thread for PyTorch: small work gains nothing from a second core, and threads that wait for each other
    make it many times slower on a machine that has anything else to do, such as a browser."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
