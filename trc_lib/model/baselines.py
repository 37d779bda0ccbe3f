"""Baselines that are fitted to the same data: a linear map and a multilayer perceptron."""

import bisect
import dataclasses
import itertools

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from trc_lib import validation
from trc_lib.model.config import LARGEST, check_fields
from trc_lib.model.learner import Learner, sizes_of
from trc_lib.model.shapes import States


class LinearMap:
    """The least-squares map [x0, xT] -> u, clamped to the limits of the controls.

    Args:
        dataset: an `LQRDataset` to fit.
    """

    def __init__(self, dataset: object):
        validation.like("dataset", dataset, "an LQRDataset", "initial_states", "controls", "system")
        self.state_dim, self.bounds = dataset.system.state_dim, dataset.system.bounds
        problems = torch.cat([dataset.initial_states, dataset.target_states], dim=1)
        controls = dataset.controls.flatten(1)
        self.weights = torch.linalg.lstsq(problems, controls).solution  # [2 state_dim, N m]
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
        return controls.clamp(*(bound.to(controls) for bound in self.bounds))


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
        sizes = [2 * c.state_dim, *[c.width] * c.depth, c.horizon * c.control_dim]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            layers = [(nn.Linear(*pair), nn.SiLU()) for pair in itertools.pairwise(sizes)]
        self.layers = nn.Sequential(*itertools.chain(*layers[:-1]), layers[-1][0])

    @classmethod
    def within(cls, numbers: object, system: object = None, seed: object = 0, **changes) -> "MLP":
        """The widest network of at most ``numbers`` parameters; ``changes`` to its `MLPConfig`."""
        config = MLPConfig(**sizes_of(system) | changes)
        inputs, outputs = 2 * config.state_dim, config.horizon * config.control_dim

        def count(width):
            hidden = (config.depth - 1) * (width + 1) * width
            return (inputs + 1) * width + hidden + (width + 1) * outputs

        numbers = validation.whole("numbers", numbers, count(1), count(LARGEST) - 1)
        width = bisect.bisect_right(range(LARGEST), numbers, key=count) - 1
        return cls(dataclasses.replace(config, width=width), system, seed)

    def predict(self, initial_state: States, target_state: States, H_cycles: object = None
                ) -> dict[str, Tensor]:
        """The controls, also as the only row of ``"cycle_controls"``; ``H_cycles`` must be None."""
        if H_cycles is not None:
            raise ValueError(f"H_cycles={H_cycles!r} is not accepted: an MLP has no cycles")
        states = initial_state / self.state_scale, target_state / self.state_scale
        controls = self.to_physical(self.layers(torch.cat(states, dim=-1)))
        return {"controls": controls, "cycle_controls": controls[None]}
