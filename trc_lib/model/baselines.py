"""Baselines that are fitted to the same data: a linear map, an MLP, and MLPs that look."""

import bisect
import dataclasses
import itertools

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from trc_lib import validation
from trc_lib.model.config import LARGEST, check_fields
from trc_lib.model.feedback import Feedback, FinalError
from trc_lib.model.learner import Learner, sizes_of
from trc_lib.model.shapes import States


class LinearMap:
    """The least-squares map [x0, xT] -> u, within the limits of the controls.

    Args:
        dataset: an `LQRDataset` to fit.
    """

    def __init__(self, dataset: object):
        validation.like("dataset", dataset, "an LQRDataset", "initial_states", "controls", "system")
        self.system, self.state_dim = dataset.system, dataset.system.state_dim
        problems = torch.cat([dataset.initial_states, dataset.target_states], dim=1)
        controls = dataset.controls.flatten(1)
        # the smallest weights, also where a component of the problems never changes
        size = problems.norm(dim=0)
        size = size.where(size > 0, 1.0)
        inverse = torch.linalg.pinv(problems / size, rtol=1e-10) / size[:, None]
        self.weights = inverse @ controls                               # [2 state_dim, N m]
        self.shape = tuple(dataset.controls.shape[1:])

    @property
    def num_parameters(self) -> int:
        return self.weights.numel()

    def solve(self, initial_state: object, target_state: object
              ) -> Float64[Tensor, "*batch horizon control_dim"]:
        """Controls for states ``[..., state_dim]``, like `Teacher.solve`."""
        states = validation.state_pair(initial_state, target_state, self.state_dim)
        problem = torch.cat(states, dim=-1)
        controls = (problem @ self.weights.to(problem.device)).unflatten(-1, self.shape)
        validation.result("the controls", controls, "initial_state or target_state is")
        controls = controls.clamp(*(bound.to(controls) for bound in self.system.bounds))
        return self.system.within(controls)


@dataclasses.dataclass(frozen=True)
class MLPConfig:
    """The sizes of an `MLP`.

    Attributes:
        state_dim, control_dim, horizon: as in `TRCConfig`.
        width: units in each hidden layer.
        depth: hidden layers.
    """

    state_dim: int = 2
    control_dim: int = 1
    horizon: int = 15
    width: int = 512
    depth: int = 3

    def __post_init__(self):
        check_fields(self)


class MLP(Learner):
    """A plain feed-forward network, [x0, xT] -> u: one proposal and no cycles.

    Args:
        config: an `MLPConfig`.
        system, seed: as in `TinyRecursiveControl`.
    """

    Config, kind = MLPConfig, "trc_lib.mlp"

    def __init__(self, config: object = MLPConfig(), system: object = None, seed: object = 0):
        super().__init__(config, system, seed)
        c = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.layers = _layers(2 * c.state_dim, c.width, c.depth, c.horizon * c.control_dim)

    @classmethod
    def within(cls, numbers: object, system: object = None, seed: object = 0, **changes) -> "MLP":
        """The widest network of at most ``numbers`` parameters; ``changes`` to its `MLPConfig`."""
        config = MLPConfig(**sizes_of(system) | changes)
        inputs, outputs = 2 * config.state_dim, config.horizon * config.control_dim
        width = _widest(numbers, lambda width: _count(inputs, width, config.depth, outputs))
        return cls(dataclasses.replace(config, width=width), system, seed)

    def predict(self, initial_state: States, target_state: States, H_cycles: object = None
                ) -> dict[str, Tensor]:
        """The controls, also as the only row of ``"cycle_controls"``; ``H_cycles`` must be None."""
        if H_cycles is not None:
            raise ValueError(f"H_cycles={H_cycles!r} is not accepted: an MLP has no cycles")
        states = initial_state / self.state_scale, target_state / self.state_scale
        controls = self.to_physical(self.layers(torch.cat(states, dim=-1)))
        return {"controls": controls, "cycle_controls": controls[None]}


@dataclasses.dataclass(frozen=True)
class CorrectorConfig:
    """The sizes of a `Corrector`.

    Attributes:
        state_dim, control_dim, horizon: as in `TRCConfig`.
        width: units in each hidden layer.
        depth: hidden layers of each network.
        networks: 1, shared by all cycles; or as many as cycles, one for each.
        H_cycles: how often it looks and corrects.
    """

    state_dim: int = 2
    control_dim: int = 1
    horizon: int = 15
    width: int = 128
    depth: int = 3
    networks: int = 1
    H_cycles: int = 3

    def __post_init__(self):
        check_fields(self)
        if self.networks not in (1, self.H_cycles):
            raise ValueError(f"networks={self.networks} is not accepted; give 1, or one for each "
                             f"of the H_cycles={self.H_cycles}")


class Corrector(Learner):
    """An MLP that proposes, and MLPs that look and correct: no latents and no inner steps.

    Each cycle maps the problem, the controls and the feedback's signal to a correction, which is
    multiplied by the feedback's gain. Beyond ``H_cycles`` the last network goes on.

    Args:
        config: a `CorrectorConfig`.
        system, seed, feedback: as in `TinyRecursiveControl`.
    """

    Config, kind = CorrectorConfig, "trc_lib.corrector"

    def __init__(self, config: object = CorrectorConfig(), system: object = None, seed: object = 0,
                 feedback: object = None):
        super().__init__(config, system, seed)
        feedback = FinalError(self.system) if feedback is None else feedback
        validation.instance("feedback", feedback, Feedback).check_fit(self.system, config.horizon)
        c, problem, sequence = config, 2 * config.state_dim, config.horizon * config.control_dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.proposal = _layers(problem, c.width, c.depth, sequence)
            self.correctors = nn.ModuleList(
                _layers(problem + sequence + feedback.size, c.width, c.depth, sequence)
                for _ in range(c.networks))
        self.feedback = feedback
        with torch.no_grad():
            for corrector in self.correctors:
                corrector[-1].weight.mul_(0.1)  # small first corrections, as in the recursion

    @classmethod
    def within(cls, numbers: object, system: object = None, seed: object = 0,
               feedback: object = None, **changes) -> "Corrector":
        """The widest network of at most ``numbers`` parameters; ``changes`` to its config."""
        config = CorrectorConfig(**sizes_of(system) | changes)
        problem, sequence = 2 * config.state_dim, config.horizon * config.control_dim
        inputs = problem + sequence + (config.state_dim if feedback is None else feedback.size)

        def count(width):
            return (_count(problem, width, config.depth, sequence)
                    + config.networks * _count(inputs, width, config.depth, sequence))

        config = dataclasses.replace(config, width=_widest(numbers, count))
        return cls(config, system, seed, feedback)

    @property
    def architecture(self) -> dict:
        return super().architecture | {"feedback": self.feedback.contents()}

    @property
    def parts(self) -> dict[str, tuple[nn.Module, ...]]:
        return {"all": (self,), "proposal": (self.proposal,), "cycles": (self.correctors,)}

    def set_scaling(self, dataset: object) -> None:
        """Take the sizes of states, controls and feedback signals from an `LQRDataset`."""
        super().set_scaling(dataset)
        self.feedback.set_scaling(self, dataset)

    def predict(self, initial_state: States, target_state: States, H_cycles: int | None = None
                ) -> dict[str, Tensor]:
        """`forward` without its checks."""
        H_cycles = self.config.H_cycles if H_cycles is None else H_cycles
        problem = torch.cat([initial_state / self.state_scale, target_state / self.state_scale],
                            dim=-1)                                    # [batch, 2 state_dim]
        controls = self.clamp(self.proposal(problem))                  # [batch, N m], scaled
        history = [controls]
        for h in range(H_cycles):
            corrector = self.correctors[min(h, len(self.correctors) - 1)]
            signal, gain = self.feedback(initial_state, target_state, self.to_physical(controls))
            correction = corrector(torch.cat([problem, controls, signal], dim=-1))
            controls = self.clamp(controls + gain * correction)
            history.append(controls)
        cycle_controls = self.to_physical(torch.stack(history))
        return {"controls": cycle_controls[-1], "cycle_controls": cycle_controls}


class LearnedGain(Corrector):
    """An MLP that proposes, and one learned matrix that turns the feedback into a correction.

    Args:
        config: a `CorrectorConfig`; its ``width`` and ``depth`` are of the proposal.
        system, seed, feedback: as in `TinyRecursiveControl`.
    """

    kind = "trc_lib.learned_gain"

    def __init__(self, config: object = CorrectorConfig(), system: object = None, seed: object = 0,
                 feedback: object = None):
        super().__init__(config, system, seed, feedback)
        sequence = config.horizon * config.control_dim
        self.correctors = nn.ModuleList(
            _OfTheSignal(self.feedback.size, sequence, bias=False) for _ in range(config.networks))
        for gain in self.correctors:
            nn.init.zeros_(gain.weight)

    @classmethod
    def within(cls, numbers: object, system: object = None, seed: object = 0,
               feedback: object = None, **changes) -> "LearnedGain":
        """The widest network of at most ``numbers`` parameters; ``changes`` to its config."""
        config = CorrectorConfig(**sizes_of(system) | changes)
        problem, sequence = 2 * config.state_dim, config.horizon * config.control_dim
        size = config.state_dim if feedback is None else feedback.size
        width = _widest(numbers, lambda width: config.networks * size * sequence
                        + _count(problem, width, config.depth, sequence))
        return cls(dataclasses.replace(config, width=width), system, seed, feedback)


class _OfTheSignal(nn.Linear):
    """A matrix for the last inputs, a feedback's signal; it leaves out those before."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs[..., -self.in_features:])


def _layers(inputs, width, depth, outputs):
    """An MLP with ``depth`` hidden layers."""
    sizes = [inputs, *[width] * depth, outputs]
    layers = [(nn.Linear(*pair), nn.SiLU()) for pair in itertools.pairwise(sizes)]
    return nn.Sequential(*itertools.chain(*layers[:-1]), layers[-1][0])


def _count(inputs, width, depth, outputs):
    """How many parameters `_layers` has."""
    return (inputs + 1) * width + (depth - 1) * (width + 1) * width + (width + 1) * outputs


def _widest(numbers, count):
    """The largest width with ``count(width)`` at most ``numbers``."""
    numbers = validation.whole("numbers", numbers, count(1), count(LARGEST) - 1)
    return bisect.bisect_right(range(LARGEST), numbers, key=count) - 1
