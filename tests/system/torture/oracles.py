"""What is right, in plain NumPy: shares no code with the library."""

import dataclasses
import math

import numpy as np
import torch


def numbers_of(value):
    """All floating-point numbers in a nest of tensors, arrays, dicts, lists, dataclasses and plain values."""
    if torch.is_tensor(value):
        value = value.detach().cpu().to_dense().double().numpy() if value.is_floating_point() else np.zeros(0)
    if isinstance(value, np.ndarray):
        yield from value.ravel().tolist() if value.dtype.kind == "f" else ()
    elif isinstance(value, float):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from numbers_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from numbers_of(item)
    elif isinstance(value, torch.nn.Module):
        yield from numbers_of(value.state_dict())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from numbers_of({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})


def finite(result, **arguments):
    """None if there is no NaN or infinity in the result, else what is wrong."""
    return None if all(map(math.isfinite, numbers_of(result))) else "gave numbers that are not finite"


def _array(value):
    return np.asarray(value.detach().double() if torch.is_tensor(value) else value, dtype=np.longdouble)


def driven(system, initial_state, controls):
    """All states, ``[..., N + 1, n]``, by a plain loop in extended precision."""
    x, u = _array(initial_state), _array(controls)
    x = np.broadcast_to(x, np.broadcast_shapes(x.shape[:-1], u.shape[:-2]) + x.shape[-1:])
    states = [x]
    for k in range(u.shape[-2]):
        x, now = states[-1], u[..., k, :]
        if hasattr(system, "A"):
            states.append(x @ _array(system.A).T + now @ _array(system.B).T)
        else:
            def slope(x, now=now):
                return np.stack([x[..., 1], system.mu * (1 - x[..., 0] ** 2) * x[..., 1] - x[..., 0] + now[..., 0]], axis=-1)
            k1 = slope(x)
            k2 = slope(x + system.dt / 2 * k1)
            k3 = slope(x + system.dt / 2 * k2)
            states.append(x + system.dt / 6 * (k1 + 2 * k2 + 2 * k3 + slope(x + system.dt * k3)))
    return np.stack(np.broadcast_arrays(*states), axis=-2)


def off_target(system, initial_state, target_state, controls):
    """|x_N - x_T| over the size of the problem, the largest of a batch."""
    x0, xT = _array(initial_state), _array(target_state)
    end = driven(system, x0, controls)[..., -1, :]
    free = driven(system, x0, np.zeros((*x0.shape[:-1], *_array(controls).shape[-2:])))[..., -1, :]
    size = np.maximum(1, np.max([np.abs(value).max(axis=-1) for value in np.broadcast_arrays(x0, xT, free)], axis=0))
    return float((np.abs(end - xT).max(axis=-1) / size).max(initial=0))


def arrives(controls, system, initial_state, target_state, within=1e-9):
    """None if finite controls within their limits reach every target, else what is wrong."""
    if (wrong := finite(controls)) is not None:
        return wrong
    off = off_target(system, initial_state, target_state, controls)
    if not off <= within:
        return f"misses a target by {off:.1e} of the size of the problem"
    limit = system.control_limit
    return None if limit is None or bool((controls.abs() <= limit).all()) else "exceeds the limit of the controls"


def simulated(states, system, initial_state, controls, within=1e-9):
    """None if the states are those of the plain loop, relative to the largest of them, else what is wrong."""
    if (wrong := finite(states)) is not None:
        return wrong
    expected = driven(system, initial_state, controls)
    if states.dtype != torch.float64:
        within = 100 * torch.finfo(states.dtype).eps
    off = float(np.abs(_array(states) - expected).max(initial=0) / max(1e-300, np.abs(expected).max(initial=0)))
    return None if off <= within else f"is off a plain loop by {off:.1e}"
