"""Compiled scans for tensors: which there are, how they are called, and that they are right."""

import concurrent.futures
import contextlib
import functools
import math
import os
import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor
from torch.utils._python_dispatch import _disable_current_modes

from trc_lib.scan.trace import NotTraceable, Program, in_pytorch, trace

AGREEMENT = {torch.float32: 1e-4, torch.float64: 1e-9}  # of a compiled step with PyTorch, relative
FAILURES = NotTraceable, ImportError, OSError, RuntimeError  # the last ones are LLVM's
SHARED = 10**6  # operations on vectors, about a millisecond, above which cores share a batch

_compiling = threading.RLock()
_now = threading.local()  # .tracing: whether this thread traces a step, in which scans are loops


def _unlocked():
    """In the child of a fork, whose parent may have been compiling."""
    global _compiling
    _compiling = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlocked)


def is_plain(tensors: list[Tensor]) -> bool:
    """Whether these are ordinary tensors on the CPU, and PyTorch transforms no function now."""
    dtype = tensors[0].dtype
    return (dtype in AGREEMENT and all(
                type(each) in (Tensor, torch.nn.Parameter) and each.dtype == dtype and each.is_cpu
                and each.layout == torch.strided and not each.is_neg()
                and not each._is_zerotensor() and not is_legacy_batchedtensor(each)
                and not (torch.is_grad_enabled() and each.is_inference()) for each in tensors)
            and not getattr(_now, "tracing", False) and not torch.is_autocast_enabled("cpu")
            and torch._C._functorch.peek_interpreter_stack() is None
            and torch._C._len_torch_dispatch_stack() == 0
            and torch.autograd.forward_ad._current_level < 0)


def compiled_scan(step: Callable, groups: Sequence[Sequence[Tensor]]) -> "CompiledScan | None":
    """The compiled scan of a step for carry, inputs and constants like these, if it has one."""
    with _compiling:
        try:
            return _compiled(step, _shapes(groups), groups[1][0].dtype, torch.get_default_dtype())
        except NotTraceable:  # it cannot be known again
            return None


def reason(step: Callable, groups: Sequence[Sequence[Tensor]]) -> str:
    """Why a scan of a step runs in Python; empty if it is compiled."""
    with _compiling, _no_mode():
        try:
            hash(step)  # may be refused
            CompiledScan(step, _shapes(groups), groups[1][0].dtype)
        except FAILURES as error:
            return str(error)
    return ""


def plain_step(step: Callable, groups: Sequence[Sequence[Tensor]]) -> Callable:
    """A step as plain arithmetic, if it can be traced, without functions like `torch.func.vjp`."""
    shapes, count = _shapes(groups), len(groups[0])
    with _compiling, _disable_current_modes(), _no_mode():
        try:
            program, results = traced(step, shapes, groups[1][0].dtype, torch.get_default_dtype())
        except NotTraceable:
            return step

    def plain(carry, inputs, constants):
        flat = [each.flatten(each.ndim - len(shape)) if shape else each[..., None]
                for group, mine in zip((carry, inputs, constants), shapes)
                for each, shape in zip(group, mine)]
        found = in_pytorch(program, flat, [torch.Size(shape) for shape in results])
        return found[:count], found[count:]

    return plain


def _shapes(groups):
    """Of each carry, input and constant of one problem at one time."""
    return tuple(tuple([tuple(each.shape[lead:]) for each in group])
                 for group, lead in zip(groups, (1, 2, 1)))


@contextlib.contextmanager
def _no_mode():
    """A compiled scan knows nothing of the modes that its first caller is in."""
    with (torch.inference_mode(False), torch.autocast("cpu", enabled=False), torch.device("cpu"),
          torch.enable_grad()):  # what needs a gradient shall be seen
        before, _now.tracing = getattr(_now, "tracing", False), True
        try:
            yield
        finally:
            _now.tracing = before


@functools.lru_cache(maxsize=128)  # also for the exporter, in which a step cannot be traced
def traced(step: Callable, shapes: tuple, dtype: torch.dtype,
           default_dtype: torch.dtype) -> tuple[Program, list[tuple]]:
    """The program of a step and the shapes of its results.

    Raises:
        NotTraceable: if the step has no such form, or would give other numbers.
    """
    groups = _samples(shapes, dtype)
    values, expected = [each for group in groups for each in group], _result(step, groups)
    program = trace(lambda *one: _flat(step(*_grouped(one, shapes))),
                    [value[0].clone() for value in values])
    results = [tuple(each.shape[1:]) for each in expected]
    found = in_pytorch(program, [each.reshape(8, -1) for each in values],
                       [torch.Size(shape) for shape in results])
    _compare(found, expected)
    return program, results


def _samples(shapes, dtype):
    """Carry, inputs and constants of eight random problems, small and large, at one time."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([1, 0.1, 30, 1, 0.01, 5, 3, 10])

    def drawn(shape):
        values = scales.reshape(8, *[1] * len(shape)) * torch.randn(8, *shape, generator=generator)
        values[-1].round_()  # where some are equal, or at a step
        return values.to(dtype)

    return [[drawn(shape) for shape in group] for group in shapes]


def _result(step, groups):
    """What a step gives; NotTraceable if it refuses such values, of which the loop tells better."""
    try:
        return _flat(step(*groups))
    except Exception as error:
        raise NotTraceable(f"on random values, {type(error).__name__}: {error}") from error


def _compare(found, expected):
    """Raise NotTraceable if the results differ by more than rounding."""
    for mine, right in zip(found, expected):
        near = AGREEMENT[right.dtype]
        size = right.abs().nan_to_num(0.0, 0.0).mean(dim=0, keepdim=True)  # of each component
        size = size + 1e-3 * size.mean()                                   # which may be zero
        equal = (mine - right).abs() <= near * (right.abs() + size)
        equal |= (mine == right) | (mine.isnan() & right.isnan())
        if mine.shape != right.shape or not bool(equal.all()):
            raise NotTraceable("as arithmetic it gives other numbers; it reads values that PyTorch "
                               "does not see")


@functools.lru_cache(maxsize=128)
def _compiled(step, shapes, dtype, default_dtype):
    try:
        with _no_mode():
            return CompiledScan(step, shapes, dtype)
    except FAILURES:
        return None


class CompiledScan:
    """A scan for problems of certain shapes.

    Args:
        step: as in `trc_lib.scan.scan`.
        shapes: of each carry, input and constant of one problem at one time.
        dtype: float32 or float64.

    Raises:
        NotTraceable: if the step has no such form, or gives other numbers when compiled.
    """

    def __init__(self, step, shapes, dtype):
        from trc_lib.scan.kernel import LANES, Kernel  # LLVM is loaded when it is needed

        self.lanes, self.carried, self.shapes = LANES, len(shapes[0]), shapes
        program, self.results = traced(step, shapes, dtype, torch.get_default_dtype())
        sizes = [list(map(math.prod, group)) for group in (*shapes, self.results[self.carried:])]
        self.kernel = Kernel(program, sizes, dtype)
        self.work = len(program.operations) + sum(map(sum, sizes))
        carry, inputs, constants = _samples(shapes, dtype)
        found = self([carry, [each[:, None] for each in inputs], constants], reverse=False)
        expected = _result(step, [carry, inputs, constants])
        _compare([each[:, -1] for each in found], expected)

    def grouped(self, tensors: Sequence[Tensor]) -> list[list[Tensor]]:
        """A list of tensors as carry, inputs and constants."""
        return _grouped(tensors, self.shapes)

    def __call__(self, groups, reverse):
        """The history of the carry and the outputs, one list."""
        carry, inputs, constants = groups
        problems, steps = inputs[0].shape[:2]
        tiles = -(-problems // self.lanes)
        moments = [steps + 1] * self.carried + [steps] * (len(self.results) - self.carried)
        results = [torch.empty(problems, count, *shape, dtype=inputs[0].dtype, device="cpu")
                   for count, shape in zip(moments, self.results)]
        for history, start in zip(results, carry):
            history[:, steps if reverse else 0] = start.detach()
        given = [*inputs, *(each[:, None] for each in constants)]
        given = [each if each.stride()[2:] == _strides(shape) else each.contiguous()
                 for each, shape in zip(given, (*self.shapes[1], *self.shapes[2]))]
        run = functools.partial(self.kernel, [*results[:self.carried], *given,
                                              *results[self.carried:]], steps, problems, reverse)
        threads = min(torch.get_num_threads(), tiles)
        if threads <= 1 or tiles * steps * self.work < SHARED:
            run(0, tiles)
        else:
            bounds = [tiles * i // threads for i in range(threads + 1)]
            with concurrent.futures.ThreadPoolExecutor(threads) as pool:
                list(pool.map(run, bounds[:-1], bounds[1:]))
        return results


@functools.cache
def _strides(shape):
    """Of a tensor of this shape without gaps."""
    return tuple(math.prod(shape[i + 1:]) for i in range(len(shape)))


def _flat(found):
    carry, outputs = found
    return [*carry, *outputs]


def _grouped(tensors, shapes):
    counts = iter(tensors)
    return [[next(counts) for _ in group] for group in shapes]
