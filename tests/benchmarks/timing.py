"""How the benchmarks take time."""

import contextlib
import statistics
import time

import torch


def seconds(call, repeats=7):
    """Median time of a call, after one to warm up."""
    call()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


@contextlib.contextmanager
def threads(number):
    """This many threads for PyTorch."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def arithmetic_limit(number):
    """Multiply-adds a second of a large float32 matrix product on ``number`` threads: what this machine can do at best."""
    a = torch.randn(1024, 1024)
    with threads(number):
        return 1024**3 / min(seconds(lambda: a @ a, repeats=1) for _ in range(30))
