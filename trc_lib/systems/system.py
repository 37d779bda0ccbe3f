"""What every system has in common: its sizes, its bounds, checks at the door."""

import torch

from trc_lib import validation


class System:
    """Something that is steered in discrete time, x[k+1] = f(x[k], u[k]).

    A subclass defines ``dynamics`` (one step, any leading dimensions, differentiable, any device and dtype), ``jacobians``
    (its derivatives) and ``contents`` (its parameters: plain numbers and tensors that its own constructor takes).

    Args:
        state_dim, control_dim: components of the state and of the control.
        dt: seconds that one step lasts.
        control_limit: the largest |u|: a number, or one for each control; None for no limit.

    Raises:
        TypeError, ValueError: for a ``dt`` or a limit that is not a finite number above zero.
    """

    kind = None  # what files call it; a special case of a system is kept as that
    units = (" (m)", " (m/s)", " (m/s²)")  # of position, velocity and control, where a picture has two states and one control

    def __init__(self, state_dim, control_dim, dt, control_limit=None):
        self.state_dim, self.control_dim, self.dt = state_dim, control_dim, validation.positive("dt", dt)
        self.control_limit = None  # or float64 [control_dim]
        if control_limit is not None:
            if torch.is_tensor(control_limit):
                control_limit = validation.array("control_limit", control_limit, ()).tolist()
            limits = list(control_limit) if isinstance(control_limit, (list, tuple)) else [control_limit] * control_dim
            if len(limits) != control_dim:
                raise ValueError(f"control_limit={control_limit!r} has {len(limits)} numbers; needs one, or {control_dim}")
            limits = [validation.positive("control_limit", limit) for limit in limits]
            self.control_limit = torch.tensor(limits, dtype=torch.float64)

    def __repr__(self):
        limit = "" if self.control_limit is None else f", control_limit={self.control_limit.tolist()}"
        return f"{type(self).__name__}(state_dim={self.state_dim}, control_dim={self.control_dim}, dt={self.dt:g}{limit})"

    def same_as(self, other):
        """Whether ``other`` steps alike: the same parameters, to the bit."""
        mine, others = self.contents(), other.contents()
        return mine.keys() == others.keys() and all(
            torch.equal(mine[name], others[name]) if torch.is_tensor(mine[name]) else mine[name] == others[name] for name in mine)

    def dynamics(self, state, control):
        """One step: ``[..., state_dim]`` and ``[..., control_dim]`` give the next ``[..., state_dim]``."""
        raise NotImplementedError

    def jacobians(self, state, control):
        """The derivatives of one step, d x[k+1] / d x[k] ``[..., state_dim, state_dim]`` and d x[k+1] / d u[k]
        ``[..., state_dim, control_dim]``, without checks."""
        raise NotImplementedError

    def contents(self):
        """What the system is made of, for files."""
        raise NotImplementedError

    def rollout(self, initial_state, controls):
        """All states that ``controls`` lead through.

        Args:
            initial_state: ``[..., state_dim]``.
            controls: ``[..., horizon, control_dim]``, the same leading dimensions or ones that broadcast.

        Returns:
            states ``[..., horizon + 1, state_dim]``; the first is ``initial_state``.

        Raises:
            TypeError, ValueError: for values that are not finite floats or lead to such, or shapes that do not fit.
        """
        initial_state = validation.array("initial_state", initial_state, (self.state_dim,))
        controls = validation.array("controls", controls, (None, self.control_dim))
        validation.same_kind("initial_state", initial_state, initial_state.shape[:-1], "controls", controls, controls.shape[:-2])
        return validation.result("the states", self.rollout_unchecked(initial_state, controls), "initial_state or controls are")

    def rollout_unchecked(self, initial_state, controls):
        """`rollout` without its checks, for the inside of a network: nothing here waits for the device."""
        leading = torch.broadcast_shapes(initial_state.shape[:-1], controls.shape[:-2])
        states = [initial_state.expand(*leading, self.state_dim)]
        for control in controls.unbind(-2):
            states.append(self.dynamics(states[-1], control))
        return torch.stack(states, dim=-2)
