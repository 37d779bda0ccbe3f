"""Checks of arguments. Every error names the argument, what was given and what is accepted."""

import difflib
import math
import numbers
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

# Annotations of arguments that are converted here, or refused by name: they admit every type.
ArrayLike = object  # a tensor, a NumPy array, nested lists or a number: see `array`
Whole = object      # an integer of Python or NumPy: see `whole`
Number = object     # a real number of Python or NumPy: see `positive`

WITH_FLOAT64 = ("cpu", "cuda")  # types of devices


def whole(name: str, value: Whole, at_least: int = 1, at_most: int = 2**63 - 1) -> int:
    """Return ``value`` as an int; refuse all but whole numbers from ``at_least`` to ``at_most``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}={value!r} is not a whole number; "
                        f"give an int of at least {at_least}")
    if value < at_least:
        raise ValueError(f"{name}={value} is too small; needs at least {at_least}")
    if value > at_most:
        raise ValueError(f"{name}={value} is too large; at most {at_most} is accepted")
    return int(value)


def positive(name: str, value: Number, or_zero: bool = False) -> float:
    """Return ``value`` as a float; refuse all but finite numbers above zero, or from zero."""
    accepted = f"give a finite number {'zero or above' if or_zero else 'above zero'}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={value!r} is not a number; {accepted}")
    try:
        number = float(value)
    except OverflowError:  # an int beyond the largest float
        number = math.inf
    if not (0 < number < math.inf or (or_zero and number == 0)):
        raise ValueError(f"{name}={value} is not accepted; {accepted}")
    return number


def one_of(name: str, value: object, accepted: Sequence[str]) -> str:
    """Return ``value`` if it is one of the ``accepted`` strings."""
    if not isinstance(value, str) or value not in accepted:
        raise ValueError(f"{name}={value!r} is unknown; accepted are "
                         f"{', '.join(map(repr, accepted))}{did_you_mean(value, accepted)}")
    return value


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """``"; did you mean 'cpu'?"`` where ``known`` words resemble ``word``; else nothing."""
    bare = {each.lower().lstrip("-"): each for each in known}
    near = difflib.get_close_matches(str(word).lower().lstrip("-"), bare)
    return f"; did you mean {' or '.join(repr(bare[each]) for each in near)}?" if near else ""


def switch(name: str, value: object) -> bool:
    """Return ``value`` if it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is not accepted; give True or False")
    return value


def instance(name: str, value: object, cls: type) -> object:
    """Return ``value`` if it is an instance of ``cls``; a class is never accepted."""
    if isinstance(value, type) or not isinstance(value, cls):
        raise TypeError(f"{name}={value!r} is not accepted; needs a {cls.__name__}")
    return value


def like(name: str, value: object, wanted: str, *attributes: str) -> object:
    """`instance` for a class on a floor above: ``value`` must have its ``attributes``."""
    if isinstance(value, type) or not all(hasattr(value, each) for each in attributes):
        raise TypeError(f"{name}={value!r} is not accepted; needs {wanted}")
    return value


def path(name: str, value: object) -> pathlib.Path:
    """Return ``value``, a string or path, as a path."""
    if not isinstance(value, str | os.PathLike) or "\0" in str(value):
        raise TypeError(f"{name}={value!r} is not accepted; needs a path")
    return pathlib.Path(value)


def device(name: object = "auto") -> torch.device:
    """Return the `torch.device` called ``name``; ``"auto"`` is CUDA where available, else CPU."""
    cuda = torch.cuda.is_available()
    try:
        if not isinstance(name, str | torch.device):
            raise TypeError
        chosen = torch.device(("cuda" if cuda else "cpu") if name == "auto" else name)
    except (RuntimeError, TypeError):
        raise ValueError(f"device={name!r} is unknown; "
                         "accepted are 'auto', 'cpu', 'cuda', 'cuda:0', ...") from None
    if chosen.type not in WITH_FLOAT64:
        raise ValueError(f"device={name!r} is not accepted: teachers and evaluation need float64, "
                         "which Apple GPUs lack, and others were not tried; "
                         "give 'auto', 'cpu' or 'cuda'")
    count = torch.cuda.device_count() if cuda else 0
    if chosen.type == "cuda" and (chosen.index or 0) >= count:
        raise ValueError(f"device={name!r} is not available: torch {torch.__version__} sees "
                         f"{count or 'no'} CUDA devices; give 'auto' or 'cpu'")
    return chosen


def float64(tensor: Tensor) -> Tensor:
    """Return ``tensor`` in float64, on its device; on the CPU from one without, an Apple GPU."""
    return (tensor if tensor.device.type in WITH_FLOAT64 else tensor.cpu()).double()


def array(name: str, value: ArrayLike, last_dims: Sequence[int | None],
          dtype: torch.dtype | None = None) -> Tensor:
    """Return ``value`` as a finite floating-point tensor whose last dimensions are ``last_dims``.

    ``None`` in ``last_dims`` accepts any size. Lists and NumPy arrays become float64. A tensor
    keeps its device and, unless ``dtype`` is given, its dtype; for float64 see `float64`.
    """
    try:
        tensor = value if torch.is_tensor(value) else torch.tensor(np.asarray(value))
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} cannot be read as an array of numbers: {error}") from None
    if not torch.is_tensor(value) and not tensor.is_complex():
        tensor = tensor.double()
    if tensor.layout != torch.strided or tensor.is_meta:
        raise TypeError(f"{name} is sparse or holds no values; give a dense tensor")
    if not tensor.is_floating_point():
        raise TypeError(f"{name} has dtype {tensor.dtype}; give a floating-point tensor")
    last = tensor.shape[-len(last_dims):] if last_dims else ()
    fits = [want in (None, got) for got, want in zip(last, last_dims)]
    if len(fits) < len(last_dims) or not all(fits):
        wanted = ", ".join("any" if want is None else str(want) for want in last_dims)
        raise ValueError(f"{name} has shape {list(tensor.shape)}; needs [..., {wanted}]")
    if not _is_finite(tensor):
        raise ValueError(f"{name} holds NaN or infinite values; every value must be finite")
    if dtype == torch.float64:
        return float64(tensor)
    return tensor if dtype is None else tensor.to(dtype)


def _is_finite(tensor):
    """Whether every entry is finite. The sum needs no copy; it can also overflow by itself."""
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def result(what: str, value: Tensor, names: str) -> Tensor:
    """Return ``value``, a result called ``what``; where it overflowed, blame ``names``."""
    if not _is_finite(value):
        raise ValueError(f"{names} too large: {what} would not be finite")
    return value


def same_kind(name: str, value: Tensor, leading: Sequence[int], other_name: str, other: Tensor,
              other_leading: Sequence[int]) -> None:
    """Refuse two tensors of different dtypes or devices, or whose leading dimensions do not fit."""
    if value.dtype != other.dtype:
        raise TypeError(f"{name} has dtype {value.dtype} and {other_name} has {other.dtype}; "
                        "give both one dtype")
    if value.device != other.device:
        raise ValueError(f"{name} is on {value.device} and {other_name} on {other.device}; "
                         "give both on one device")
    try:
        torch.broadcast_shapes(leading, other_leading)
    except RuntimeError:
        raise ValueError(f"{other_name} has shape {list(other.shape)}, "
                         f"which does not fit {name}'s {list(value.shape)}") from None


def state_pair(initial_state: ArrayLike, target_state: ArrayLike,
               state_dim: int) -> tuple[Tensor, Tensor]:
    """Start and target as finite float64 tensors ``[..., state_dim]`` of one shape."""
    start = array("initial_state", initial_state, (state_dim,), torch.float64)
    target = array("target_state", target_state, (state_dim,), torch.float64)
    same_kind("initial_state", start, start.shape, "target_state", target, target.shape)
    return tuple(torch.broadcast_tensors(start, target))
