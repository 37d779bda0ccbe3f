"""Feedback: what a cycle receives about the controls that it starts from."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trc_lib import validation
from trc_lib.costs import QuadraticCost
from trc_lib.model.shapes import Controls, States
from trc_lib.rebuild import rebuilt
from trc_lib.systems import System
from trc_lib.validation import Whole

SMALLEST_SIGNAL = 1e-6  # keeps its direction and logarithm finite; float32 resolves no smaller

Signal = Float[Tensor, "batch size"]
Answer = tuple[Signal, Float[Tensor, "batch 1"] | float]  # signal and gain


def typical_size(values: Float[Tensor, "n size"]) -> Float[Tensor, " size"]:
    """The root mean square of each column; where that is zero, the largest of all, or one."""
    size = values.square().mean(dim=0).sqrt()
    largest = size.max()
    return size.where(size > 1e-12 * largest, largest if bool(largest > 0) else 1.0)


class Feedback(nn.Module):
    """A function of a problem and the current controls that returns a signal and a gain.

    The network embeds the signal, and multiplies the correction of the cycle by the gain. A
    subclass defines ``forward`` and sets ``size``, the components of its signal.

    Args:
        system: the `System` that the controls steer.
    """

    size = 1

    def __init__(self, system: System | None = None):
        super().__init__()
        self.system = system

    def check_fit(self, system: System, horizon: int) -> None:
        """Raise a ValueError if this was made for another system or number of control steps."""
        if self.system is not None and not self.system.same_as(system):
            raise ValueError(f"feedback was made for another system, {self.system!r}, "
                             f"than the network's, {system!r}")

    def embedding(self, width: int) -> nn.Module:
        """The layer that brings the signal to the ``width`` of the latents."""
        return nn.Linear(self.size, width, bias=False)

    def set_scaling(self, model: nn.Module, dataset: object) -> None:
        """Take the typical size of the signal from a dataset and the model's proposals for it."""

    def contents(self) -> dict:
        """What it is made of besides the system, for files."""
        return {"kind": type(self).__name__}


class NoFeedback(Feedback):
    """No information: the signal is zero, the gain one."""

    def embedding(self, width: int) -> nn.Module:
        return nn.Identity()

    def forward(self, initial_state: States, target_state: States, controls: Controls) -> Answer:
        return torch.zeros_like(initial_state[:, :1]), 1.0


class FinalError(Feedback):
    """Simulates the controls: the signal is the terminal error x_N - x_T, scaled; the gain one.

    Args:
        system: the `System` that the controls steer.
        components: the numbers of the states whose error is told, where the target leaves the
            others free; all if None.
    """

    def __init__(self, system: System, components: Sequence[Whole] | None = None):
        super().__init__(system)
        self.components = None
        if components is not None:
            self.components = [validation.whole("components", each, 0, system.state_dim - 1)
                               for each in components]
            if not 0 < len({*self.components}) == len(self.components):
                raise ValueError(f"components={components} is not accepted; "
                                 "needs different numbers of states, one at least")
        self.size = system.state_dim if self.components is None else len(self.components)
        self.register_buffer("scale", torch.ones(self.size))

    def forward(self, initial_state: States, target_state: States, controls: Controls) -> Answer:
        final_state = self.system.rollout_unchecked(initial_state, controls)[:, -1]
        return self._told(final_state - target_state) / self.scale, 1.0

    def set_scaling(self, model: nn.Module, dataset: object) -> None:
        self.scale.copy_(self._told(model.state_scale))

    def _told(self, states):
        return states if self.components is None else states[..., self.components]

    def contents(self) -> dict:
        told = {} if self.components is None else {"components": self.components}
        return super().contents() | told


class CostGradient(Feedback):
    """The signal is the gradient of a cost in the controls, scaled; the gain one.

    Components that push a control against its limit are zero. Nothing here is differentiable.

    Args:
        system: the `System` that the controls steer.
        cost: a `QuadraticCost` of it.
        horizon: number of control steps.
    """

    def __init__(self, system: System, cost: object, horizon: int):
        super().__init__(system)
        validation.instance("cost", cost, QuadraticCost).check_fit(system)
        self.cost, self.horizon, self.size = cost, horizon, horizon * system.control_dim
        self.register_buffer("scale", torch.ones(self.size))
        for name, bound in zip(("low", "high"), system.float32_bounds):
            self.register_buffer(name, bound, persistent=False)

    def check_fit(self, system: System, horizon: int) -> None:
        super().check_fit(system, horizon)
        if horizon != self.horizon:
            raise ValueError(f"feedback was made for {self.horizon} steps; "
                             f"the network has {horizon}")

    def forward(self, initial_state: States, target_state: States, controls: Controls) -> Answer:
        return self.gradient(initial_state, target_state, controls) / self.scale, 1.0

    @torch.no_grad()
    def gradient(self, initial_state: States, target_state: States, controls: Controls) -> Signal:
        """The gradient in physical units, ``[batch, horizon * control_dim]``."""
        states = self.system.rollout_unchecked(initial_state, controls)
        gradient = self.cost.gradient(self.system, states, controls, target_state)
        outward = (controls >= self.high) & (gradient < 0) | (controls <= self.low) & (gradient > 0)
        return gradient.masked_fill(outward, 0).flatten(-2)

    def set_scaling(self, model: nn.Module, dataset: object) -> None:
        problems = [states.to(self.scale)
                    for states in (dataset.initial_states, dataset.target_states)]
        with torch.no_grad():
            gradient = self.gradient(*problems, model.predict(*problems, 0)["controls"])
        self.scale.copy_(typical_size(gradient) * self.size**0.5)

    def contents(self) -> dict:
        return super().contents() | {"cost": self.cost.contents()}


class Proportional(Feedback):
    """Makes each correction proportional to the size of another feedback's signal.

    The signal becomes its direction and the logarithm of its size; the gain is that size. Where the
    inner signal is zero, so is the correction.

    Args:
        inner: the other `Feedback`.
    """

    def __init__(self, inner: Feedback):
        super().__init__(inner.system)
        self.inner, self.size = inner, inner.size + 1

    def forward(self, initial_state: States, target_state: States, controls: Controls) -> Answer:
        signal, _ = self.inner(initial_state, target_state, controls)
        size = (signal.square().sum(dim=-1, keepdim=True) + SMALLEST_SIGNAL**2).sqrt()
        return torch.cat([signal / size, size.log() / 4], dim=-1), size

    def check_fit(self, system: System, horizon: int) -> None:
        self.inner.check_fit(system, horizon)

    def set_scaling(self, model: nn.Module, dataset: object) -> None:
        self.inner.set_scaling(model, dataset)

    def contents(self) -> dict:
        return super().contents() | {"inner": self.inner.contents()}


def feedback_from(contents: dict, system: System, horizon: int) -> Feedback:
    """The feedback with these `contents`, for a system and a number of control steps."""
    made = {"NoFeedback": lambda: NoFeedback(system),
            "FinalError": lambda: FinalError(system, contents.get("components")),
            "CostGradient": lambda: CostGradient(
                system, rebuilt(QuadraticCost, contents["cost"]), horizon),
            "Proportional": lambda: Proportional(
                feedback_from(contents["inner"], system, horizon))}
    return made[validation.one_of("feedback", contents["kind"], tuple(made))]()
