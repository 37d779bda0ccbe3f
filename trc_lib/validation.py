"""What an argument may be: one sentence for whoever passed something else."""

import math
import numbers
import os
import pathlib

import numpy as np
import torch


def whole(name, value, at_least=1, at_most=2**63 - 1):
    """Return ``value`` as an int, or say why it is not a whole number from ``at_least`` to ``at_most``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}={value!r} is not a whole number; give an int of at least {at_least}")
    if value < at_least:
        raise ValueError(f"{name}={value} is too small; needs at least {at_least}")
    if value > at_most:
        raise ValueError(f"{name}={value} is too large; at most {at_most} is accepted")
    return int(value)


def positive(name, value, or_zero=False):
    """Return ``value`` as a float, or say why it is not a finite number above zero."""
    accepted = "zero or above" if or_zero else "above zero"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={value!r} is not a number; give a finite number {accepted}")
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond all floats
        number = math.inf if value > 0 else -math.inf
    if not math.isfinite(number) or number < 0 or (number == 0 and not or_zero):
        raise ValueError(f"{name}={value} is not accepted; give a finite number {accepted}")
    return number


def one_of(name, value, accepted):
    """Return ``value``, a string, or list what is accepted."""
    if not isinstance(value, str) or value not in accepted:
        raise ValueError(f"{name}={value!r} is unknown; accepted are {', '.join(map(repr, accepted))}")
    return value


def switch(name, value):
    """Return ``value``, or say that it is neither True nor False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is not accepted; give True or False")
    return value


def like(name, value, wanted, *attributes):
    """Return ``value``, or say that it is not the kind of thing that is ``wanted``, which has these attributes."""
    if isinstance(value, type) or not all(hasattr(value, attribute) for attribute in attributes):
        raise TypeError(f"{name}={value!r} is not accepted; needs {wanted}")
    return value


def path(name, value):
    """Return ``value`` as a path, or say that it is none."""
    if not isinstance(value, str | os.PathLike) or "\0" in str(value):
        raise TypeError(f"{name}={value!r} is not accepted; needs a path")
    return pathlib.Path(value)


def device(name="auto"):
    """The `torch.device` called ``name``; ``"auto"`` takes CUDA where there is one, else the CPU."""
    if not isinstance(name, str | torch.device):
        raise ValueError(f"device={name!r} is unknown; accepted are 'auto', 'cpu', 'cuda', 'cuda:0', ...")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
    except (RuntimeError, TypeError):
        raise ValueError(f"device={name!r} is unknown; accepted are 'auto', 'cpu', 'cuda', 'cuda:0', ...") from None
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"device={name!r} is not accepted; the teacher needs float64: give 'auto', 'cpu' or 'cuda'")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name!r} is not here: torch {torch.__version__} sees no CUDA device; give 'auto' or 'cpu'")
    return chosen


def array(name, value, last_dims, dtype=None):
    """Return ``value`` as a finite floating tensor whose last dimensions are ``last_dims``.

    ``None`` in ``last_dims`` accepts any size. Lists and NumPy arrays become float64;
    a tensor keeps its device and, unless ``dtype`` is given, its dtype.
    """
    try:
        if not torch.is_tensor(value) and np.iscomplexobj(value):
            raise TypeError("it holds complex numbers")
        tensor = value if torch.is_tensor(value) else torch.tensor(np.asarray(value), dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} cannot be read as an array of numbers: {error}") from None
    if tensor.layout != torch.strided or tensor.is_meta:
        raise TypeError(f"{name} is sparse or holds no values; give a dense tensor")
    if not tensor.is_floating_point():
        raise TypeError(f"{name} has dtype {tensor.dtype}; give a floating-point tensor")
    shape = tuple(tensor.shape)
    tail = shape[len(shape) - len(last_dims):] if len(shape) >= len(last_dims) else None
    if tail is None or any(want is not None and got != want for got, want in zip(tail, last_dims)):
        wanted = ", ".join("any" if want is None else str(want) for want in last_dims)
        raise ValueError(f"{name} has shape {list(shape)}; needs [..., {wanted}]")
    if not _is_finite(tensor):
        raise ValueError(f"{name} holds NaN or infinite values; every value must be finite")
    return tensor if dtype is None else tensor.to(dtype)


def _is_finite(tensor):
    """Whether every entry is; a sum tells it in one pass without a copy, unless it overflows by itself."""
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def result(what, value, names):
    """Return the tensor ``value``; where it is not finite, say that the arguments called ``names`` are too large for ``what``."""
    if not _is_finite(value):
        raise ValueError(f"{names} too large: {what} would not be finite")
    return value


def same_kind(name, value, leading, other_name, other, other_leading):
    """Say so where two tensors have different dtypes, or leading dimensions that do not broadcast."""
    if value.dtype != other.dtype:
        raise TypeError(f"{name} has dtype {value.dtype} and {other_name} has {other.dtype}; give both one dtype")
    try:
        torch.broadcast_shapes(leading, other_leading)
    except RuntimeError:
        raise ValueError(f"{other_name} has shape {list(other.shape)}, which does not fit {name}'s {list(value.shape)}") from None


def state_pair(initial_state, target_state, state_dim):
    """Start and target as finite float64 tensors ``[..., state_dim]`` with the same leading dimensions."""
    initial_state = array("initial_state", initial_state, (state_dim,), torch.float64)
    target_state = array("target_state", target_state, (state_dim,), torch.float64)
    same_kind("initial_state", initial_state, initial_state.shape, "target_state", target_state, target_state.shape)
    return torch.broadcast_tensors(initial_state, target_state)
