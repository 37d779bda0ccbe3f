"""What several widgets need: copies, boxes and checks."""

import copy

from trc_lib.data.sampling import box
from trc_lib.systems import DoubleIntegrator


def own_copy(model):
    """A copy of a network for one widget, on the CPU; the caller's stays where and as it is."""
    return copy.deepcopy(model).cpu().eval()


def is_cart(system):
    """Whether a system is the course's cart, also one read from a file."""
    return (system.state_dim, system.control_dim) == (2, 1) and system.same_as(
        DoubleIntegrator(system.dt, system.control_limit))


def state_box(system, state_range, usual=None):
    """The lowest and the highest state on sliders, two tensors ``[state_dim]``.

    Args:
        system: a `System`.
        state_range: as in `Sampler`, or None.
        usual: what it is if it is None; None if it must be given.

    Raises:
        ValueError: if it is not given, but must be.
    """
    state_range = usual if state_range is None else state_range
    if state_range is None:
        raise ValueError(f"state_range=None is not accepted for {system!r}; give the box of the "
                         f"states: half its side, one for each of the {system.state_dim} states, "
                         "or rows [low, high]")
    return widened(*box("state_range", state_range, system.state_dim)[1:])


def widened(low, high):
    """A box as it is, except where it has no width: sliders need one."""
    size = low.abs().where(low != 0, 1.0)
    return low - size * (low == high), high + size * (low == high)


def check_teacher(teacher, model):
    """Refuse a teacher for another system or horizon than the network's."""
    if not teacher.system.same_as(model.system):
        raise ValueError(f"teacher is for another system, {teacher.system!r}, than the model, "
                         f"{model.system!r}")
    if teacher.horizon != model.config.horizon:
        raise ValueError(f"teacher has horizon={teacher.horizon}; "
                         f"the model needs {model.config.horizon}")
