"""The parameters that the chapters declare, and what each may be."""

import ast
import functools

from trc_lib import validation
from trc_lib.course.presets import Preset, choose_preset


def _from_to(low, high):
    """A check of a real number."""
    def check(name, value):
        number = validation.positive(name, value, or_zero=True)
        if not low <= number <= high:
            raise ValueError(f"{name}={value} is not accepted; give a number from {low:g} to "
                             f"{high:g}")
        return number

    return check


OF_THE_PRESET = ("lane", "seed", "feedback", "epochs", "batch_size", "lr", "cycle_weight")
CHECKS = {
    "horizon": functools.partial(validation.whole, at_least=3, at_most=200),
    "dt": _from_to(0.01, 5),
    "H_cycles": validation.whole,
    "L_cycles": validation.whole,
    "retrain": validation.switch,
    "checkpoint": functools.partial(validation.one_of, accepted=("shipped", "trained")),
    "most_cycles": functools.partial(validation.whole, at_least=8),
    "limit": _from_to(0.05, 5),
    "noise": _from_to(0, 0.2),
    "every": _from_to(0.5, 100),
}


def check_parameters(lane: object, seed: object, **others: object) -> Preset:
    """Check the parameters of a notebook, and choose its preset.

    Papermill gives a notebook any parameter, also one that it does not declare because its name is
    mistyped; such a run would be one with the default. It is refused here.

    Args:
        lane: ``"smoke"``, ``"cpu"`` or ``"gpu"``; or the preset that an earlier run of the same
            cell put in its place.
        seed: of everything that is drawn.
        others: all other parameters that the notebook declares. Those that have no entry in
            `CHECKS` are accepted as they are.

    Raises:
        TypeError, ValueError: naming the parameter, and what is accepted.
    """
    for name in _injected():
        if name not in (declared := ("lane", "seed", *others)):
            raise ValueError(f"this notebook has no parameter {name!r}; it has "
                             f"{', '.join(declared)}{validation.did_you_mean(name, declared)}")
    for name, check in CHECKS.items():
        if name in others:
            check(name, others[name])
    training = {name: value for name, value in others.items() if name in OF_THE_PRESET}
    name = lane.name if isinstance(lane, Preset) else lane
    return choose_preset(name, seed=seed, **training)


def _injected():
    """The names that papermill assigned in this kernel, in the cell that it injects."""
    try:
        from IPython import get_ipython

        cells = get_ipython().user_ns["In"]
    except (ImportError, AttributeError, KeyError):  # no notebook
        return []
    return [node.id for cell in cells if cell.startswith("# Parameters\n")
            for node in ast.walk(ast.parse(cell))
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
