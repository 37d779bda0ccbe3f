"""Networks, systems and laws for a web page: JavaScript modules beside this file compute with them.

`network` gives the bytes of a network that ``files.js`` reads and ``recursion.js`` runs.
"""

import dataclasses
import hashlib
import json
import struct
import zlib

import numpy as np
import torch

from trc_lib import io, validation
from trc_lib.costs import QuadraticCost
from trc_lib.evaluation import row_space
from trc_lib.model import (
    CostGradient,
    FinalError,
    LastCycleGradient,
    NoFeedback,
    Proportional,
    TinyRecursiveControl,
)
from trc_lib.scan.compiled import traced
from trc_lib.scan.trace import NotTraceable
from trc_lib.systems.steps import Linearised, Moved
from trc_lib.systems.system import System
from trc_lib.teachers import BoundedMinimumEnergyController, MinimumEnergyController, Teacher

SIGNATURE, VERSION = b"TRCW", 1
SAME = TinyRecursiveControl, LastCycleGradient  # classes with the same forward pass
SIGNALS = NoFeedback, FinalError, CostGradient
UNKNOWN = "erf",  # operations that JavaScript's Math lacks


def system(of: object) -> dict:
    """What a page knows of a `System`: sizes, labels, limits and the operations of a step.

    Raises:
        ValueError: if its limits are no box, or its step is no arithmetic that a page can do.
    """
    validation.instance("system", of, System).check_box("a web page")
    x, u = (of.state_dim,), (of.control_dim,)
    low, high = map(spelled, of.float32_bounds)
    return {"state_dim": of.state_dim, "control_dim": of.control_dim, "dt": of.dt,
            "labels": list(of.labels), "low": low, "high": high,
            "step": _program(of, Moved(of), ((x,), (u,), ()))}


def _program(of, function, shapes):
    try:
        with torch.inference_mode(False), torch.enable_grad():  # Jacobians are made by autograd
            program, _ = traced(function, shapes, torch.float64, torch.get_default_dtype())
    except NotTraceable as error:
        raise ValueError(f"system={of!r} cannot be shown in a web page: {error}") from None
    used = {name for _, name, _ in program.operations} & {*UNKNOWN}
    if used:
        raise ValueError(f"system={of!r} cannot be shown in a web page, which has no "
                         f"{', '.join(used)}")
    constants = dict(zip(program.constants, spelled(program.constants.values())))
    return dataclasses.asdict(program) | {"constants": constants}


def spelled(values: object) -> list[str]:
    """Numbers as JavaScript's ``Number`` reads them, also those that JSON lacks.

    Args:
        values: a tensor with one dimension, or an iterable of numbers.
    """
    values = values.tolist() if isinstance(values, torch.Tensor) else values
    return [repr(value).replace("inf", "Infinity").replace("nan", "NaN") for value in values]


def law(of: object) -> dict | None:
    """What a page needs to compute a teacher's answers; None if it cannot."""
    validation.instance("teacher", of, Teacher)
    if type(of) is MinimumEnergyController:
        basis = row_space(of.system.controllability_matrix(of.horizon))
        return {"kind": "linear", "gain": of.gain.tolist(), "row_space": basis.T.tolist()}
    if type(of) is BoundedMinimumEnergyController:
        about = of.dual_problem()
        low, high = map(spelled, about.pop("bounds"))
        return {"kind": "bounded", "low": low, "high": high, "unit": about.pop("unit")} | {
            name: value.tolist() for name, value in about.items()}
    return None


def network(model: object) -> bytes:
    """A network in the format of ``files.js``.

    Args:
        model: a `TinyRecursiveControl` in float32 or float64, on any device.

    Raises:
        TypeError, ValueError: if its recursion, its feedback or its system is not known there.
    """
    validation.instance("model", model, TinyRecursiveControl).check_dtype()
    if type(model) not in SAME:
        raise ValueError(f"model is a {type(model).__name__}; a web page knows the recursion of "
                         f"{' and '.join(each.__name__ for each in SAME)}")
    arrays = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    inner = _inner(model.feedback)
    if type(model.feedback) not in (Proportional, *SIGNALS) or type(inner) not in SIGNALS:
        raise ValueError(f"feedback={type(model.feedback).__name__} of {type(inner).__name__} is "
                         "not known to a web page")
    if getattr(inner, "components", None) is not None:
        raise ValueError("feedback=FinalError of some components is not known to a web page")
    feedback = model.feedback.contents()
    source = feedback.get("inner", feedback)
    about = system(model.system)
    if "cost" in source:
        if type(inner.cost) is not QuadraticCost:
            raise ValueError(f"cost is a {type(inner.cost).__name__}; a web page knows "
                             "QuadraticCost")
        n, m = about["state_dim"], about["control_dim"]
        about["jacobians"] = _program(model.system, Linearised(model.system),
                                      ((), ((n,), (m,)), ()))
        source["cost"] = {name: getattr(inner.cost, name).tolist()
                          for name in ("Q", "R", "Q_final")}
    header = {"version": VERSION, "config": dataclasses.asdict(model.config), "system": about,
              "feedback": feedback, "arrays": [[name, list(v.shape)] for name, v in arrays.items()]}
    words = json.dumps(header, allow_nan=False).encode()
    weights = np.concatenate([value.numpy().ravel() for value in arrays.values()]).astype("<f4")
    scales = [value.float() for name, value in arrays.items() if name.endswith("scale")]
    if not np.isfinite(weights).all() or not all(bool((scale > 0).all()) for scale in scales):
        raise ValueError("the model is not exported: in float32 its weights are not all finite, "
                         "or a scale is zero")
    packed = zlib.compress(weights.view(np.uint8).reshape(-1, 4).T.tobytes(), 9)
    contents = SIGNATURE + struct.pack("<I", len(words)) + words + packed
    return contents + struct.pack("<I", zlib.crc32(contents))


def digest(contents: bytes) -> str:
    """What tells the file of one `network` from that of another, however it is compressed."""
    start = len(SIGNATURE) + 4
    end = start + struct.unpack("<I", contents[len(SIGNATURE):start])[0]
    return hashlib.sha256(contents[:end] + zlib.decompress(contents[end:-4])).hexdigest()[:16]


def _inner(feedback):
    return getattr(feedback, "inner", feedback)


def export_web(model: object, path: object) -> int:
    """Write a `network` to ``path``, whole or not at all; returns its size in bytes."""
    contents = network(model)
    with io.written_whole(validation.path("path", path)) as temporary:
        temporary.write_bytes(contents)
    return len(contents)
