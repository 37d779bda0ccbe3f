"""Part ``batches`` of `check_gpu`: how many problems a second, in batches of growing size."""

import dataclasses
import functools
from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.benchmarks.gpu_record import precision, seconds_of, words_of
from trc_lib.problems import PROBLEMS

LONGEST = 20  # seconds of a call, after which the batch grows no further
COPY = "bytes copied a second"
PRODUCTS = {"TF32": (torch.float32, "high"), "float32": (torch.float32, "highest"),
            "float64": (torch.float64, "highest")}
EXACT, BOUNDED = "exact solves", "solves with bounded inputs"
OPTIMA, ROLLOUTS = "oscillator optima", "oscillator roll-outs"
PROBLEM_OF = {EXACT: "double_integrator", BOUNDED: "bounded_inputs", OPTIMA: "van_der_pol"}
ELEMENTWISE = set("""add sub rsub mul div neg reciprocal square sqrt exp clamp minimum maximum where
    sum""".split())  # one operation a number
PRODUCT = ("mm", "bmm", "addmm", "baddbmm")


@dataclasses.dataclass(frozen=True)
class Task:
    """Something that is done for a batch of problems.

    Attributes:
        draw: a number of problems, float tensors on the CPU.
        call: solves them where they are.
        numbers: that each problem reads and writes at least.
        dtype: of the arithmetic.
    """

    draw: Callable
    call: Callable
    numbers: int
    dtype: torch.dtype = torch.float64


def tasks():
    """Three teachers and a roll-out, by name."""
    found = {}
    for name, problem in ((name, PROBLEMS[kind]()) for name, kind in PROBLEM_OF.items()):
        system, ranges = problem.teacher.system, (problem.state_range, problem.target_range)
        sampler = problem.sampler(0, system.state_dim, *ranges)
        numbers = 2 * system.state_dim + problem.teacher.horizon * system.control_dim
        found[name] = Task(sampler.draw, problem.teacher.try_solve, numbers)
    horizon = problem.teacher.horizon  # of the last one, the oscillator

    def draw(size):
        generator = torch.Generator().manual_seed(0)
        return [4 * torch.rand(size, *shape, generator=generator) - 2
                for shape in ((2,), (horizon, 1))]

    numbers = 2 + horizon + 2 * (horizon + 1)
    return found | {ROLLOUTS: Task(draw, system.rollout_unchecked, numbers, torch.float32)}


def batches(device, sizes, record):
    """Teachers and roll-outs, each beside the limits of the card, which are measured before."""
    limit = limits(device, sizes)
    record["limits"] = limit
    for name, task in tasks().items():
        rows, best = {}, 0.0
        work = operations(task, sizes.counted) if sizes.counted else None
        for size in sizes.batches[name]:
            row, go_on = one_size(device, record, name, task, size, limit, work)
            rows[f"{size:,}"] = row
            record[name] = rows
            if isinstance(row, dict):
                rate = row["problems a second"]
                best = max(best, rate)
                shares = "  ".join(f"{each}: {value:.2%}" for each, value in row.items()
                                   if each.startswith("share"))
                print(f"  {name}, {size:,} at once: {rate:,.0f} a second  {shares}", flush=True)
                if name == OPTIMA and size == 65_536:
                    record.aim("oscillator optima a second, 65,536 at once", rate)
            else:
                print(f"  {name}, {size:,} at once: {row}", flush=True)
            if not go_on:
                break
        if name == EXACT and best:
            record.aim("exact solves a second", best)


def one_size(device, record, name, task, size, limit, work):
    """The figures of one batch, or in words why there are none; and whether to try a larger one."""
    if record.seconds_left < 2 * LONGEST:
        return "not measured: the time of this part was over", False
    try:
        given = [each.to(device) for each in task.draw(size)]
        with torch.no_grad():
            seconds = seconds_of(lambda: task.call(*given), device)
    except (torch.OutOfMemoryError, MemoryError) as error:
        return f"not measured: no memory is left: {words_of(error)}", False
    except Exception as error:  # the other tasks may work
        record.fail(f"{name}, {size:,} at once: {words_of(error)}")
        return words_of(error), False
    rate, word = size / seconds, str(task.dtype).removeprefix("torch.")
    row = {"seconds": seconds, "problems a second": rate,
           "share of the limit of the memory": rate * task.numbers * task.dtype.itemsize
           / limit[COPY]}
    if work is not None:
        row["share of the limit of the arithmetic"] = (
            rate * work / limit[f"operations a second, {word}"])
    if seconds > LONGEST:
        row["larger"] = f"not measured: a call took {seconds:.0f} s"
    return row, seconds <= LONGEST


def limits(device, sizes):
    """What the memory and the arithmetic of the device do at most: a copy, and matrix products."""
    numbers = torch.ones(sizes.copied // 4, device=device)
    copy = torch.empty_like(numbers)
    seconds = seconds_of(functools.partial(copy.copy_, numbers), device)
    found = {COPY: 2 * sizes.copied / seconds}  # read and written
    print(f"  a copy of {sizes.copied:,} bytes: {found[COPY]:,.3g} bytes a second", flush=True)
    for name, (dtype, products) in PRODUCTS.items():
        left, right = torch.randn(2, sizes.side, sizes.side, device=device, dtype=dtype)
        with precision(products):
            seconds = seconds_of(functools.partial(torch.matmul, left, right), device)
        found[f"operations a second, {name}"] = 2 * sizes.side**3 / seconds
        print(f"  a matrix product in {name}: {2 * sizes.side**3 / seconds:,.3g} operations a "
              "second", flush=True)
    return found


class Counted(TorchDispatchMode):
    """Counts the arithmetic operations of what runs in it; loops are run step by step."""

    def __init__(self):
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        name = function.overloadpacket.__name__.rstrip("_")
        if name in ELEMENTWISE:
            self.operations += max(result.numel(), args[0].numel())
        elif name in PRODUCT:
            self.operations += 2 * result.numel() * args[-2].shape[-1]
        return result


def operations(task, count):
    """Arithmetic operations a problem, counted on the CPU: the mean of some."""
    given = task.draw(count)
    with torch.no_grad():
        task.call(*given)  # a system is tried on an example when it is first used
        with Counted() as counted:
            task.call(*given)
    return counted.operations / count
