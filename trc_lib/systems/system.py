"""What all systems have in common: sizes, limits of the controls, roll-outs."""

import torch
from jaxtyping import Float
from torch import Tensor

from trc_lib import validation
from trc_lib.validation import ArrayLike, Number

State = Float[Tensor, "*#batch state_dim"]
Control = Float[Tensor, "*#batch control_dim"]
States = Float[Tensor, "*#batch horizon_plus_1 state_dim"]
Controls = Float[Tensor, "*#batch horizon control_dim"]
Jacobians = tuple[Float[Tensor, "*#batch state_dim state_dim"],
                  Float[Tensor, "*#batch state_dim control_dim"]]


class System:
    """A system in discrete time, x[k+1] = f(x[k], u[k]).

    A subclass defines `dynamics`, `jacobians` and `parameters`.

    Args:
        state_dim, control_dim: components of the state and of the control.
        dt: seconds a step.
        control_limit: the largest |u|, a number or one for each control; None for no limit.

    Raises:
        TypeError, ValueError: for a ``dt`` or a limit that is not a finite number above zero.
    """

    kind = None  # its name in files; subclasses that only fix parameters share it
    units = (" (m)", " (m/s)", " (m/s²)")  # of position, velocity and control, for pictures

    def __init__(self, state_dim: int, control_dim: int, dt: Number, control_limit: object = None):
        self.state_dim, self.control_dim = state_dim, control_dim
        self.dt = validation.positive("dt", dt)
        self.control_limit = None  # or float64 [control_dim]
        if control_limit is not None:
            if torch.is_tensor(control_limit):
                control_limit = validation.array("control_limit", control_limit, ()).tolist()
            limits = (list(control_limit) if isinstance(control_limit, list | tuple)
                      else [control_limit] * control_dim)
            if len(limits) != control_dim:
                raise ValueError(f"control_limit={control_limit!r} has {len(limits)} numbers; "
                                 f"needs one, or {control_dim}")
            limits = [validation.positive("control_limit", limit) for limit in limits]
            self.control_limit = torch.tensor(limits, dtype=torch.float64)

    @property
    def float32_limit(self) -> Tensor | None:
        """The limits in float32, rounded towards zero: controls stay within the exact ones."""
        if self.control_limit is None:
            return None
        rounded = self.control_limit.float()
        inward = rounded.nextafter(torch.zeros_like(rounded))
        return torch.where(rounded.double() > self.control_limit, inward, rounded)

    def __repr__(self):
        limit = self.control_limit
        limit = "" if limit is None else f", control_limit={limit.tolist()}"
        return (f"{type(self).__name__}(state_dim={self.state_dim}, "
                f"control_dim={self.control_dim}, dt={self.dt:g}{limit})")

    def dynamics(self, state: State, control: Control) -> State:
        """One step, from ``[..., state_dim]`` and ``[..., control_dim]`` to ``[..., state_dim]``.

        Differentiable, on any device and in any floating-point dtype.
        """
        raise NotImplementedError

    def jacobians(self, state: State, control: Control) -> Jacobians:
        """The derivatives of `dynamics` in the state and in the control."""
        raise NotImplementedError

    def parameters(self) -> dict:
        """Arguments of the constructor, ``dt`` among them but no limit: numbers and tensors."""
        raise NotImplementedError

    def contents(self) -> dict:
        """`parameters` and the limit, if there is one, for files."""
        limit = {} if self.control_limit is None else {"control_limit": self.control_limit}
        return self.parameters() | limit

    def same_as(self, other: "System") -> bool:
        """Whether ``other`` has the same parameters, to the bit."""
        mine, others = self.contents(), other.contents()
        return mine.keys() == others.keys() and all(
            torch.equal(value, others[name]) if torch.is_tensor(value) else value == others[name]
            for name, value in mine.items())

    def rollout(self, initial_state: ArrayLike, controls: ArrayLike) -> States:
        """All states that ``controls`` lead through.

        Args:
            initial_state: ``[..., state_dim]``.
            controls: ``[..., horizon, control_dim]``; leading dimensions broadcast.

        Returns:
            states ``[..., horizon + 1, state_dim]``; the first is ``initial_state``.

        Raises:
            TypeError, ValueError: for values that are not finite floats or lead to such, or shapes
                that do not fit.
        """
        x0 = validation.array("initial_state", initial_state, (self.state_dim,))
        u = validation.array("controls", controls, (None, self.control_dim))
        validation.same_kind("initial_state", x0, x0.shape[:-1], "controls", u, u.shape[:-2])
        states = self.rollout_unchecked(x0, u)
        return validation.result("the states", states, "initial_state or controls are")

    def rollout_unchecked(self, initial_state: State, controls: Controls) -> States:
        """`rollout` without checks, which would wait for the device."""
        leading = torch.broadcast_shapes(initial_state.shape[:-1], controls.shape[:-2])
        states = [initial_state.expand(*leading, self.state_dim)]
        for control in controls.unbind(-2):
            states.append(self.dynamics(states[-1], control))
        return torch.stack(states, dim=-2)
