"""One step of a system in the form that `trc_lib.scan` takes, for loops over time."""

import functools
import pickle
import types
from collections.abc import Hashable

import torch
from torch import Tensor

from trc_lib.scan.trace import NotTraceable


def held_by(system: object) -> Hashable:
    """A system's class and the values of its attributes, to compare.

    Raises:
        NotTraceable: for an attribute whose value cannot be compared.
    """
    values = [type(system), type(system).dynamics]
    for name, value in vars(system).items():
        if isinstance(value, Tensor):
            array = value.detach().cpu().contiguous().numpy()
            value = value.dtype, value.device, tuple(value.shape), array.tobytes()
        elif not isinstance(value, int | float | str | None | types.FunctionType):
            try:
                value = pickle.dumps(value)
            except Exception as error:  # of any kind: objects define how they are pickled
                raise NotTraceable(f"its attribute {name} cannot be compared with what it was "
                                   f"before: {error}") from None
        values.append((name, value))
    return tuple(values)


class OfSystem:
    """Something that a scan does with a system; equal to the same done with an equal system."""

    def __init__(self, system):
        self.system = system

    @functools.cached_property
    def _identity(self):
        return type(self), self.system.state()

    def __hash__(self):
        return hash(self._identity)

    def __eq__(self, other):
        return isinstance(other, OfSystem) and self._identity == other._identity


class Moved(OfSystem):
    """x[k+1] = f(x[k], u[k]): carries the state along the controls."""

    def __call__(self, carry, inputs, constants):
        return [self.system.dynamics(carry[0], inputs[0])], []


class Linearised(OfSystem):
    """The derivatives of a step in the state and in the control, from states and controls."""

    def __call__(self, carry, inputs, constants):
        after, pull = torch.func.vjp(self.system.dynamics, *inputs)
        units = torch.eye(after.shape[-1], dtype=after.dtype, device=after.device)
        rows = [pull(unit.expand_as(after)) for unit in units]
        return [], [torch.stack(each, dim=-2) for each in zip(*rows)]
