"""What all systems have in common: sizes, limits of the controls, roll-outs."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from trc_lib import validation
from trc_lib.rebuild import Rebuildable
from trc_lib.scan import as_batch, common, from_batch, scan
from trc_lib.scan.compiled import reason
from trc_lib.systems.steps import Linearised, Moved, held_by
from trc_lib.validation import ArrayLike, Number, Whole

State = Float[Tensor, "*#batch state_dim"]
Control = Float[Tensor, "*#batch control_dim"]
States = Float[Tensor, "*#batch horizon_plus_1 state_dim"]
Controls = Float[Tensor, "*#batch horizon control_dim"]
Jacobians = tuple[Float[Tensor, "*#batch state_dim state_dim"],
                  Float[Tensor, "*#batch state_dim control_dim"]]


class System(Rebuildable):
    """A system in discrete time, x[k+1] = f(x[k], u[k]).

    A subclass defines `dynamics`. It may define `jacobians`, if it has faster ones. Files hold its
    `parameters`: keep each argument of the constructor under its name.

    Args:
        state_dim, control_dim: components of the state and of the control.
        dt: seconds a step.
        control_limit: the largest |u|, a number or one for each control; or the least and the
            largest u, a row ``[low, high]`` for each control; None for no limit.
        labels: names of the states and then of the controls with their units, for pictures, such
            as ``"position (m)"``; x1, x2, ..., u1, ... if None.

    Raises:
        TypeError, ValueError: for a ``dt`` or a limit that is not accepted.
    """

    def __init__(self, state_dim: Whole, control_dim: Whole, dt: Number,
                 control_limit: object = None, labels: object = None):
        self.state_dim = validation.whole("state_dim", state_dim)
        self.control_dim = validation.whole("control_dim", control_dim)
        self.dt = validation.positive("dt", dt)
        self.control_limit = None  # or float64 [control_dim], or [control_dim, 2]
        if control_limit is not None:
            self.control_limit = _limits(control_limit, self.control_dim)
        names = [f"x{i + 1}" for i in range(self.state_dim)]
        names += [f"u{i + 1}" for i in range(self.control_dim)]
        self.labels = tuple(names if labels is None else labels)
        if len(self.labels) != len(names):
            raise ValueError(f"labels={labels!r} has {len(self.labels)} names; needs {len(names)}, "
                             "of the states and the controls")

    @property
    def state_labels(self) -> tuple[str, ...]:
        return self.labels[:self.state_dim]

    @property
    def control_labels(self) -> tuple[str, ...]:
        return self.labels[self.state_dim:]

    @property
    def bounds(self) -> tuple[Float64[Tensor, " control_dim"], Float64[Tensor, " control_dim"]]:
        """The least and the largest value of each control, infinite where there is no limit."""
        limit = self.control_limit
        if limit is None:
            limit = torch.full((self.control_dim,), torch.inf, dtype=torch.float64)
        return (-limit, limit) if limit.ndim == 1 else (limit[:, 0], limit[:, 1])

    @property
    def float32_bounds(self) -> tuple[Tensor, Tensor]:
        """`bounds` in float32, rounded inwards: controls stay within the exact ones."""
        low, high = (bound.float() for bound in self.bounds)
        exact_low, exact_high = self.bounds
        return (torch.where(low.double() < exact_low, low.nextafter(high), low),
                torch.where(high.double() > exact_high, high.nextafter(low), high))

    def __repr__(self):
        limit = self.control_limit
        limit = "" if limit is None else f", control_limit={limit.tolist()}"
        return (f"{type(self).__name__}(state_dim={self.state_dim}, "
                f"control_dim={self.control_dim}, dt={self.dt:g}{limit})")

    def dynamics(self, state: State, control: Control) -> State:
        """One step, from ``[..., state_dim]`` and ``[..., control_dim]`` to ``[..., state_dim]``.

        Differentiable, on any device and in any floating-point dtype.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no dynamics(state, control)")

    def jacobians(self, state: State, control: Control) -> Jacobians:
        """The derivatives of `dynamics` in the state and in the control: here by autograd."""
        leading = common(state.shape[:-1], control.shape[:-1])
        x, u = (as_batch(each, leading, 1)[:, None] for each in (state, control))
        _, both = scan(Linearised(self), [], [x, u])
        return tuple(from_batch(each[:, 0], leading) for each in both)

    def within(self, controls: Controls) -> Controls:
        """Controls ``[..., horizon, control_dim]``, brought within limits that are not a box.

        A subclass defines it that has such limits; ``control_limit`` is applied besides.
        """
        return controls

    @property
    def limits_are_a_box(self) -> bool:
        """Whether the controls have no limits besides ``control_limit``."""
        return type(self).within is System.within

    def check_box(self, needs: str) -> None:
        """Raise a ValueError for limits that are no box, which ``needs`` knows nothing of."""
        if not self.limits_are_a_box:
            raise ValueError(f"system={self!r} is not accepted: its controls have limits that are "
                             f"no box, and {needs} would not keep them")

    def why_in_python(self) -> str:
        """Why loops over time of this system run in Python, which is slow; empty if compiled."""
        x, u = (torch.zeros(1, size, dtype=torch.float64)
                for size in (self.state_dim, self.control_dim))
        return reason(Moved(self), [[x], [u[:, None]], []])

    def _dynamics_identity(self) -> object:
        """All that `dynamics` may depend on, to compare: compiled steps of equal systems are one.

        It looks at the attributes of the system, and not at what they refer to by name.
        """
        return held_by(self)

    def contents(self) -> dict:
        """As in `Rebuildable`, and one step of `dynamics`: a file notices if that has changed."""
        return super().contents() | {"step": self._read_step or self._sample_step()}

    _read_step = None  # that of the file which the system was read from

    def _sample_step(self):
        with torch.no_grad():
            x, u = (torch.arange(1, size + 1, dtype=torch.float64) / 10
                    for size in (self.state_dim, self.control_dim))
            return [float(f"{value:.6g}") for value in self.dynamics(x, u).tolist()]

    def check_rebuilt(self, contents: dict) -> None:
        before, now = (torch.tensor(step) for step in (contents["step"], self._sample_step()))
        size = float(before.abs().max())
        if not torch.allclose(before, now, rtol=0, atol=1e-4 * size, equal_nan=True):
            raise ValueError(f"the dynamics of {contents['class']} have changed since: a step gave "
                             f"{contents['step']}, and now gives {self._sample_step()}")
        self._read_step = contents["step"]
        super().check_rebuilt(contents)

    def same_as(self, other: object) -> bool:
        """Whether ``other`` has the same class and parameters, to the bit; labels do not count."""
        if self is other or not isinstance(other, System):
            return self is other
        mine, others = self.contents(), other.contents()
        for contents in (mine, others):
            contents["parameters"].pop("labels", None)
        return mine == others

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
        leading = common(initial_state.shape[:-1], controls.shape[:-2])
        x0, u = as_batch(initial_state, leading, 1), as_batch(controls, leading, 2)
        (states,), _ = scan(Moved(self), [x0], [u])
        return from_batch(states, leading)


def _limits(given, control_dim):
    """``control_limit`` as float64, ``[control_dim]`` or ``[control_dim, 2]``."""
    try:
        limits = given.tolist() if hasattr(given, "tolist") else given
    except (RuntimeError, TypeError) as error:
        raise TypeError(f"control_limit cannot be read as numbers: {error}") from None
    limits = list(limits) if isinstance(limits, list | tuple) else [limits] * control_dim
    if len(limits) != control_dim:
        raise ValueError(f"control_limit={given!r} has {len(limits)} numbers; "
                         f"needs one, or {control_dim}, or {control_dim} rows [low, high]")
    if not any(isinstance(limit, list | tuple) for limit in limits):
        limits = [validation.positive("control_limit", limit) for limit in limits]
    elif not all(isinstance(limit, list | tuple) and len(limit) == 2 and limit[0] < limit[1]
                 for limit in limits):
        raise ValueError(f"control_limit={given!r} is not accepted; needs low < high in each row "
                         "[low, high]")
    return torch.tensor(limits, dtype=torch.float64)
