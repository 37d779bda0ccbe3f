"""Loops over time: a step is written once, in plain PyTorch, and run as fast as the machine can.

`plain_scan` says what a scan is. `scan` gives the same numbers: on the CPU the step and the loop
around it are compiled to machine code when they are first used (some 25 ms; nothing is stored). A
step that cannot be compiled takes the plain loop, and so does a GPU.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trc_lib.scan.compiled import compiled_scan, is_plain, plain_step

Tensors = Sequence[Tensor]
Scanned = tuple[list[Tensor], list[Tensor]]


def scan(step: Callable, carry: Tensors, inputs: Tensors, constants: Tensors = (),
         reverse: bool = False) -> Scanned:
    """Carry values through time, for a batch of problems.

    Args:
        step: ``step(carry, inputs, constants)`` returns the next carry and the outputs of one step,
            two lists of tensors, for any leading dimensions, which it does not mix. Compiled once
            for equal steps: a function of a module, or a frozen dataclass whose fields are all that
            it depends on.
        carry: before the first step, each ``[batch, ...]``.
        inputs: of all steps, at least one tensor, each ``[batch, steps, ...]``.
        constants: the same at all steps, each ``[batch, ...]``.
        reverse: begin with the last step.

    Returns:
        the carry before and after each step in the order of time, ``[batch, steps + 1, ...]``, and
        the outputs, ``[batch, steps, ...]``. Differentiable, any number of times.
    """
    groups = [list(carry), list(inputs), list(constants)]
    if torch.compiler.is_compiling():
        return _operator(step, *groups, reverse)
    tensors = [each for group in groups for each in group]
    run = compiled_scan(step, groups) if is_plain(tensors) else None
    if run is None:
        return plain_scan(step, *groups, reverse)
    if torch.is_grad_enabled() and any(each.requires_grad for each in tensors):
        found = _Scan.apply(step, run, reverse, *tensors)
    else:
        found = run(groups, reverse)
    return list(found[:len(carry)]), list(found[len(carry):])


def common(*shapes: torch.Size) -> torch.Size:
    """`torch.broadcast_shapes`, which takes 10 µs, for shapes that most often are equal."""
    if not torch.compiler.is_compiling() and all(shape == shapes[0] for shape in shapes):
        return shapes[0]
    return torch.broadcast_shapes(*shapes)


def as_batch(tensor: Tensor, leading: torch.Size, components: int) -> Tensor:
    """A tensor, broadcast to ``leading`` dimensions before its last ``components``, as a batch."""
    own = tensor.shape[tensor.ndim - components:]
    return tensor.expand(*leading, *own).reshape(math.prod(leading), *own)


def from_batch(tensor: Tensor, leading: torch.Size) -> Tensor:
    """A batch with its ``leading`` dimensions again."""
    return tensor.reshape(*leading, *tensor.shape[1:])


def plain_scan(step: Callable, carry: Tensors, inputs: Tensors, constants: Tensors = (),
               reverse: bool = False) -> Scanned:
    """`scan` as a loop in Python: its definition, and the way where no other is open."""
    if not carry:  # no step needs another
        return [], step([], list(inputs), [each[:, None] for each in constants])[1]
    steps, history, outputs = inputs[0].shape[1], [list(carry)], []
    for k in reversed(range(steps)) if reverse else range(steps):
        carry, put = step(history[-1], [each[:, k] for each in inputs], list(constants))
        history.append(carry)
        outputs.append(put)
    if not steps:  # what one gives has the right shapes
        one = [each.new_zeros(len(each), *each.shape[2:]) for each in inputs]
        _, put = step(list(carry), one, list(constants))
        return [each[:, None] for each in carry], [each[:, None][:, :0] for each in put]
    if reverse:
        history, outputs = history[::-1], outputs[::-1]
    return ([torch.stack(each, dim=1) for each in zip(*history)],
            [torch.stack(each, dim=1) for each in zip(*outputs)])


class _Scan(torch.autograd.Function):
    """A compiled scan; its derivative is a scan in the other direction."""

    @staticmethod
    def forward(ctx, step, run, reverse, *tensors):
        found = run(run.grouped(tensors), reverse)
        ctx.step, ctx.run, ctx.reverse = step, run, reverse
        ctx.save_for_backward(*tensors, *found[:run.carried])
        return tuple(found)

    @staticmethod
    def backward(ctx, *gradients):
        if hasattr(ctx.step, "check"):
            ctx.step.check()
        run, count = ctx.run, ctx.run.carried
        split = len(ctx.saved_tensors) - count
        _, inputs, constants = run.grouped(ctx.saved_tensors[:split])
        of_history, of_outputs = gradients[:count], gradients[count:]
        start, end = (-1, 0) if ctx.reverse else (0, -1)
        before, after = slice(None, -1), slice(1, None)  # of a step, in the order of the scan
        if ctx.reverse:
            before, after = after, before
        step = _Pullback(ctx.step, count, len(inputs))
        adjoint = [*(each[:, end] for each in of_history), *map(torch.zeros_like, constants)]
        # A gradient of the history before a step joins the adjoint that the step gives.
        sums, of_inputs = scan(
            step, adjoint, [*(each[:, before] for each in ctx.saved_tensors[split:]), *inputs,
                            *(each[:, before] for each in of_history), *of_outputs],
            constants, not ctx.reverse)
        return None, None, None, *(each[:, start] for each in sums[:count]), *of_inputs, *(
            each[:, start] for each in sums[count:])


@dataclasses.dataclass(frozen=True)
class _Pullback:
    """A step of the derivative: carries the adjoints of the carry and of the constants."""

    step: Callable
    carried: int
    given: int

    def check(self):
        if hasattr(self.step, "check"):
            self.step.check()

    def __call__(self, adjoints, inputs, constants):
        c, n = self.carried, self.carried + self.given
        history, given, more, of_outputs = inputs[:c], inputs[c:n], inputs[n:n + c], inputs[n + c:]
        _, pull = torch.func.vjp(self.step, history, given, constants)
        of_carry, of_given, of_constants = pull((adjoints[:c], of_outputs))
        added = zip([*of_carry, *adjoints[c:]], [*more, *of_constants])
        return [each + other for each, other in added], of_given


def _operator(step, carry, inputs, constants, reverse):
    """A scan as one operator, for PyTorch's compiler and exporter."""
    from torch._higher_order_ops.scan import scan as operator

    step = plain_step(step, [carry, inputs, constants])
    if not carry:
        return plain_scan(step, carry, inputs, constants)

    def combine(before, given):
        after, put = step(before, given, constants)
        return after, [*(each.clone() for each in after), *put]

    _, found = operator(combine, carry, [each.movedim(1, 0) for each in inputs], reverse=reverse)
    found = [each.movedim(0, 1) for each in found]
    history = [torch.cat([each, start[:, None]] if reverse else [start[:, None], each], dim=1)
               for start, each in zip(carry, found)]
    return history, found[len(carry):]
