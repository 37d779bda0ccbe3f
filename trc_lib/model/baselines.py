"""Who else could do it: rivals that are trained on the same data."""

import dataclasses
import itertools

import torch
from torch import nn

from trc_lib import validation
from trc_lib.model import Learner
from trc_lib.model.config import LARGEST, check_fields


class LinearMap:
    """The least-squares map [x0, xT] -> u, cut to the limits of the controls: for the double integrator 4 x 15 numbers.

    Args:
        dataset: an `LQRDataset` to fit.
    """

    def __init__(self, dataset):
        validation.like("dataset", dataset, "an LQRDataset", "initial_states", "controls", "system")
        self.state_dim, self.limit = dataset.initial_states.shape[1], dataset.system.control_limit
        problems = torch.cat([dataset.initial_states, dataset.target_states], dim=1)          # [n, 2 * state_dim]
        self.weights = torch.linalg.lstsq(problems, dataset.controls.flatten(1)).solution     # [2 * state_dim, N * m]
        self.shape = tuple(dataset.controls.shape[1:])

    @property
    def num_parameters(self):
        return self.weights.numel()

    def solve(self, initial_state, target_state):
        """Controls ``[..., horizon, control_dim]``, float64: a teacher's interface."""
        initial_state, target_state = validation.state_pair(initial_state, target_state, self.state_dim)
        problem = torch.cat([initial_state, target_state], dim=-1)                           # [..., 2 * state_dim]
        controls = (problem @ self.weights.to(problem.device)).unflatten(-1, self.shape)
        validation.result("the controls", controls, "initial_state or target_state is")
        return controls if self.limit is None else controls.clamp(-self.limit.to(controls), self.limit.to(controls))


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

    def __init__(self, config=MLPConfig(), system=None, seed=0):
        super().__init__(config, system, seed)
        sizes = [2 * config.state_dim] + config.depth * [config.width] + [config.horizon * config.control_dim]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            layers = [layer for size, after in itertools.pairwise(sizes) for layer in (nn.Linear(size, after), nn.SiLU())]
        self.layers = nn.Sequential(*layers[:-1])  # no activation after the last

    @classmethod
    def within(cls, numbers, system=None, seed=0, **changes):
        """The widest network of at most ``numbers`` parameters. ``changes`` are other fields of `MLPConfig`."""
        config = MLPConfig(**changes, width=1)
        widest = dataclasses.replace(config, width=LARGEST)
        validation.whole("numbers", numbers, cls._numbers(config), cls._numbers(widest) - 1)
        while cls._numbers(wider := dataclasses.replace(config, width=config.width + 1)) <= numbers:
            config = wider
        return cls(config, system, seed)

    @staticmethod
    def _numbers(c):
        inputs, outputs = 2 * c.state_dim, c.horizon * c.control_dim
        return (inputs + 1) * c.width + (c.depth - 1) * (c.width + 1) * c.width + (c.width + 1) * outputs

    def predict(self, initial_state, target_state, H_cycles=None):
        """Controls, and the same as the only row of ``"cycle_controls"``; there are no cycles that could be counted."""
        if H_cycles is not None:
            raise ValueError(f"H_cycles={H_cycles!r} is not accepted: an MLP has no cycles")
        problem = torch.cat([initial_state / self.state_scale, target_state / self.state_scale], dim=-1)
        controls = self.to_physical(self.layers(problem))
        return {"controls": controls, "cycle_controls": controls[None]}
