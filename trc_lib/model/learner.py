"""What all networks have in common: scaling inside, argument checks, ways to call them."""

import dataclasses

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from trc_lib import validation
from trc_lib.model import checkpoints
from trc_lib.model.config import LARGEST
from trc_lib.model.feedback import typical_size
from trc_lib.model.shapes import Sequence, States
from trc_lib.systems import DoubleIntegrator, System


def straight_through_clamp(controls: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Clamp; backward is the identity, so that saturated controls learn."""
    return straight_through(controls, controls.detach().clamp(low, high))


def straight_through(controls: Tensor, limited: Tensor) -> Tensor:
    """The values of ``limited``, and the gradient of ``controls``."""
    return limited.detach() + (controls - controls.detach())


def sizes_of(system: object) -> dict:
    """``state_dim`` and ``control_dim`` of a system, for a configuration; none if None."""
    if system is None:
        return {}
    validation.instance("system", system, System)
    return {"state_dim": system.state_dim, "control_dim": system.control_dim}


class Learner(nn.Module):
    """A network that maps problems to controls: physical units outside, scaled inside.

    A subclass names its ``Config`` and the ``kind`` of its checkpoints, makes its layers from
    ``self.seed``, and defines ``predict(initial_state, target_state, H_cycles=None)``, which
    returns a dict of ``"controls"`` and ``"cycle_controls"``.

    Args:
        config: a frozen dataclass with at least ``state_dim``, ``control_dim`` and ``horizon``.
        system: what is steered; a `DoubleIntegrator` if None.
        seed: of the initial weights.
    """

    def __init__(self, config: object, system: object = None, seed: object = 0):
        super().__init__()
        self.config = validation.instance("config", config, self.Config)
        system = DoubleIntegrator() if system is None else system
        self.system = validation.instance("system", system, System)
        if (system.state_dim, system.control_dim) != (config.state_dim, config.control_dim):
            raise ValueError(f"system={system!r} does not fit state_dim={config.state_dim}, "
                             f"control_dim={config.control_dim}")
        self.seed = validation.whole("seed", seed, at_least=0)
        self.register_buffer("state_scale", torch.ones(config.state_dim))
        self.register_buffer("control_scale", torch.ones(config.control_dim))
        self.bounded = system.control_limit is not None
        for name, bound in zip(("low", "high"), system.float32_bounds):
            self.register_buffer(name, bound, persistent=False)
        self.recipe = {}  # what trained the network; `train` sets it

    @property
    def parts(self) -> dict[str, tuple[nn.Module, ...]]:
        """What can be trained separately."""
        return {"all": (self,)}

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def architecture(self) -> dict:
        """What the network is without its weights, as plain values and tensors."""
        return {"class": type(self).__name__, "config": dataclasses.asdict(self.config),
                "feedback": None}

    def set_scaling(self, dataset: object) -> None:
        """Scale by the root mean squares of the states and controls of an `LQRDataset`."""
        self._check_shapes(dataset, "dataset")
        states = torch.cat([dataset.initial_states, dataset.target_states])
        self.state_scale.copy_(typical_size(states))
        self.control_scale.copy_(typical_size(dataset.controls.flatten(0, 1)))

    @property
    def units(self) -> tuple[Tensor, Tensor]:
        """The power of ten nearest to the scale of each state, and of each control.

        Losses are measured in these, so that a training is the same in any units.
        """
        return tuple(10 ** scale.log10().round() for scale in (self.state_scale,
                                                               self.control_scale))

    def check_fit(self, dataset: object, name: str) -> None:
        """Raise an error if the argument ``name`` is no `LQRDataset` of this system and horizon."""
        self._check_shapes(dataset, name)
        if not dataset.system.same_as(self.system):
            raise ValueError(f"{name} was made for another system, {dataset.system!r}, "
                             f"than the model's, {self.system!r}")

    def _check_shapes(self, dataset, name):
        validation.like(name, dataset, "an LQRDataset", "initial_states", "target_states",
                        "controls", "system")
        c, (horizon, control_dim) = self.config, dataset.controls.shape[1:]
        found = horizon, control_dim, dataset.initial_states.shape[1]
        if found != (c.horizon, c.control_dim, c.state_dim):
            raise ValueError(f"{name} has controls [n, {horizon}, {control_dim}] for {found[2]} "
                             f"states; the model needs [n, {c.horizon}, {c.control_dim}] for "
                             f"{c.state_dim}")

    def forward(self, initial_state: object, target_state: object, H_cycles: object = None
                ) -> dict[str, Tensor]:
        """Controls for a batch of problems.

        Args:
            initial_state, target_state: ``[batch, state_dim]``, physical units.
            H_cycles: how many cycles to run; those of the configuration if None.

        Returns:
            ``"controls"`` ``[batch, horizon, control_dim]``, and ``"cycle_controls"`` ``[H_cycles +
            1, batch, horizon, control_dim]``, before the first and after each cycle.

        Raises:
            TypeError, ValueError: for values that are not finite floats, or shapes that do not fit.
        """
        answer = self.predict(*self._checked(initial_state, target_state, H_cycles))
        self._finite(answer["cycle_controls"])
        return answer

    @torch.no_grad()
    def solve(self, initial_state: object, target_state: object
              ) -> Float64[Tensor, "*batch horizon control_dim"]:
        """Controls in float64 for states ``[..., state_dim]``, like `Teacher.solve`."""
        c = self.config
        states = validation.state_pair(initial_state, target_state, c.state_dim)
        controls = self(*(state.reshape(-1, c.state_dim) for state in states))["controls"]
        return validation.float64(controls).reshape(
            *states[0].shape[:-1], c.horizon, c.control_dim)

    def to_physical(self, controls: Float[Tensor, "*batch sequence"]
                    ) -> Float[Tensor, "*batch horizon control_dim"]:
        """Scaled controls, laid end to end, in physical units within their exact limits."""
        shape = self.config.horizon, self.config.control_dim
        physical = controls.unflatten(-1, shape) * self.control_scale
        if self.bounded:
            physical = straight_through_clamp(physical, self.low, self.high)
        if not self.system.limits_are_a_box:
            physical = straight_through(physical, self.system.within(physical.detach()))
        return physical

    def clamp(self, controls: Sequence) -> Sequence:
        """Scaled controls clamped with 1e-6 slack; `to_physical` applies the exact limit."""
        if not self.system.limits_are_a_box:
            return (self.to_physical(controls) / self.control_scale).flatten(-2)
        if not self.bounded:
            return controls
        bounds = ((1.000001 * bound).where(outward, 0.999999 * bound) / self.control_scale
                  for bound, outward in ((self.low, self.low < 0), (self.high, self.high > 0)))
        return straight_through_clamp(controls, *(
            bound.repeat(self.config.horizon) for bound in bounds))

    def check_dtype(self) -> None:
        """Raise a TypeError unless the weights are in float32 or float64."""
        dtypes = {value.dtype for value in self.state_dict().values()}
        if not dtypes <= {torch.float32, torch.float64}:
            raise TypeError(f"model has dtype {', '.join(sorted(map(str, dtypes)))}, in which its "
                            "controls could exceed their limits; give model.float() or "
                            ".double(), or train with mixed_precision")

    def _checked(self, initial_state, target_state, H_cycles) -> tuple[States, States, int | None]:
        """The arguments of `forward`; states in the dtype and on the device of the weights."""
        self.check_dtype()
        states, shape = [], (None, self.config.state_dim)
        for name, state in (("initial_state", initial_state), ("target_state", target_state)):
            state = validation.array(name, state, shape)
            if state.ndim != 2:
                raise ValueError(f"{name} has shape {list(state.shape)}; "
                                 f"needs [batch, {self.config.state_dim}]")
            # once more, since float32 may overflow
            states.append(validation.array(name, state.to(self.state_scale), shape))
        if len(states[0]) != len(states[1]):
            raise ValueError(f"target_state has {len(states[1])} rows and initial_state "
                             f"{len(states[0])}; needs as many")
        if H_cycles is not None:
            H_cycles = validation.whole("H_cycles", H_cycles, at_least=0, at_most=LARGEST)
        return *states, H_cycles

    def _finite(self, controls):
        return validation.result("the network's controls", controls,
                                 "initial_state or target_state is")

    def save(self, path: object) -> None:
        """Write the network to ``path``: see `checkpoints.save`."""
        checkpoints.save(self, path)

    @classmethod
    def load(cls, path: object, device: object = "cpu") -> "Learner":
        """Read what `save` wrote: see `checkpoints.load`."""
        return checkpoints.load(cls, path, device)
