"""What an argument may be: one sentence for whoever passed something else."""

import math
import numbers

import numpy as np
import torch


def whole(name, value, at_least=1):
    """Return ``value`` as an int, or say why it is not a whole number of at least ``at_least``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}={value!r} is not a whole number; give an int of at least {at_least}")
    if value < at_least:
        raise ValueError(f"{name}={value} is too small; needs at least {at_least}")
    return int(value)


def positive(name, value, or_zero=False):
    """Return ``value`` as a float, or say why it is not a finite number above zero."""
    accepted = "zero or above" if or_zero else "above zero"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={value!r} is not a number; give a finite number {accepted}")
    if not math.isfinite(value) or value < 0 or (value == 0 and not or_zero):
        raise ValueError(f"{name}={value} is not accepted; give a finite number {accepted}")
    return float(value)


def one_of(name, value, accepted):
    """Return ``value``, or list what is accepted."""
    if value not in accepted:
        raise ValueError(f"{name}={value!r} is unknown; accepted are {', '.join(map(repr, accepted))}")
    return value


def device(name="auto"):
    """The `torch.device` called ``name``; ``"auto"`` takes CUDA where there is one, else the CPU."""
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
    if not tensor.is_floating_point():
        raise TypeError(f"{name} has dtype {tensor.dtype}; give a floating-point tensor")
    shape = tuple(tensor.shape)
    tail = shape[len(shape) - len(last_dims):] if len(shape) >= len(last_dims) else None
    if tail is None or any(want is not None and got != want for got, want in zip(tail, last_dims)):
        wanted = ", ".join("any" if want is None else str(want) for want in last_dims)
        raise ValueError(f"{name} has shape {list(shape)}; needs [..., {wanted}]")
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} holds NaN or infinite values; every value must be finite")
    return tensor if dtype is None else tensor.to(dtype)


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
