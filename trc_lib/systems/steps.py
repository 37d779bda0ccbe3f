"""One step of a system in the form that `trc_lib.scan` takes, for loops over time."""

import functools
import hashlib
import pickle
import types
from collections.abc import Hashable

import torch
from torch import Tensor

from trc_lib.scan.trace import NotTraceable

_TRIED = "_its_methods_were_tried"  # an attribute of systems that passed


def held_by(system: object) -> Hashable:
    """A system's class and the values of its attributes, to compare.

    Raises:
        NotTraceable: for an attribute whose value cannot be compared.
    """
    named = [(name, value) for name, value in vars(system).items() if name != _TRIED]
    for cls in type(system).__mro__:
        if cls.__module__ == "trc_lib.systems.system":
            break
        named += [(name, value) for name, value in vars(cls).items() if not name.startswith("__")
                  and (isinstance(value, types.FunctionType) or not hasattr(value, "__get__"))]
        slots = getattr(cls, "__slots__", ())
        named += [(name, getattr(system, name, None))
                  for name in ([slots] if isinstance(slots, str) else slots)]
    return type(system), *((name, _comparable(name, value)) for name, value in named)


def _comparable(name, value, depth=3):
    if value is None or isinstance(value, int | float | str):
        return value
    if isinstance(value, Tensor):
        array = value.detach().cpu().contiguous().numpy()
        data = array.tobytes() if array.nbytes < 1000 else hashlib.sha256(array).digest()
        return value.dtype, value.device, tuple(value.shape), value.requires_grad, data
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()] if depth else []
        return value, *(_comparable(name, cell, depth - 1) for cell in cells if isinstance(
            cell, int | float | str | Tensor | types.FunctionType))
    try:
        return pickle.dumps(value)
    except Exception as error:  # of any kind: objects define how they are pickled
        raise NotTraceable(f"its attribute {name} cannot be compared with what it was before: "
                           f"{error}") from None


def check_methods(system: object) -> None:
    """Raise a ValueError for a system whose methods, tried on an example, do what they must not.

    They may not change their arguments in place: a roll-out returns the states that it gave to
    the system. They have to return tensors of the shapes and the dtype that `System` tells.
    """
    about = vars(system)
    if _TRIED in about or torch.compiler.is_compiling():
        return
    about[_TRIED] = True  # first, since its jacobians may need a scan themselves
    try:
        called = [_can_be_called(system, name) for name in ("dynamics", "jacobians", "within")
                  if getattr(type(system), name).__module__ != "trc_lib.systems.system"]
    except ValueError:
        del about[_TRIED]
        raise
    if not all(called):
        del about[_TRIED]


def _can_be_called(system, name):
    """Whether a method can be called; raise a ValueError for what `check_methods` refuses."""
    n, m = system.state_dim, system.control_dim
    rows = n + 1  # then no wrong order of the dimensions has the right shape

    def example():
        x, u = (torch.arange(1, size + 1, dtype=torch.float64) / 10 for size in (n, m))
        sizes = torch.tensor([[1.0], [1e6], [-1e6]]).to(u)  # within the limits, and beyond
        return [(sizes * u)[None]] if name == "within" else [x.repeat(rows, 1), u.repeat(rows, 1)]

    given = example()
    try:
        with torch.no_grad():
            found = getattr(system, name)(*given)
        kept = all(map(torch.equal, given, example()))
    except Exception:  # the user's own call will tell it better; or these tensors have no values
        return False
    refused = f"system={system!r} is not accepted: its {name}"
    if not kept:
        raise ValueError(f"{refused} changes its arguments in place, as speed += ... does; needs "
                         "speed = speed + ...")
    needed = [[rows, n, n], [rows, n, m]] if name == "jacobians" else [list(given[0].shape)]
    found = list(found) if name == "jacobians" and isinstance(found, tuple | list) else [found]
    if [_told(each) for each in found] != [f"{torch.float64} {shape}" for shape in needed]:
        raise ValueError(
            f"{refused} returns {' and '.join(map(_told, found))} for arguments "
            f"{' and '.join(map(_told, given))}; needs {' and '.join(map(str, needed))} in the "
            "same dtype" + ", as torch.stack([...], dim=-1) gives" * (name == "dynamics"))
    return True


def _told(value):
    """A tensor's dtype and shape, or the type of another value."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{value.dtype} {list(value.shape)}"


class OfSystem:
    """Something that a scan does with a system; equal to the same done with an equal system."""

    def __init__(self, system):
        check_methods(system)
        self.system = system

    @functools.cached_property
    def _identity(self):
        return type(self), self.system._dynamics_identity()

    def check(self) -> None:
        """Raise a RuntimeError if the system has been changed since this was first used."""
        if self._identity != (type(self), self.system._dynamics_identity()):
            raise RuntimeError(f"{self.system!r} was changed after the roll-out whose gradient is "
                               "asked for; change it after the gradient")

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
