"""The problems of the course: who teaches, and where starts and targets are drawn from."""

import dataclasses

import torch

from trc_lib.costs import QuadraticCost
from trc_lib.data import generate_dataset, shards
from trc_lib.systems import DoubleIntegrator, VanDerPol
from trc_lib.teachers import BoundedMinimumEnergyController, IterativeLQR, MinimumEnergyController, Teacher


@dataclasses.dataclass(frozen=True)
class Problem:
    """A teacher, which knows the system, the horizon, the cost and what counts as solved; and a sampler.

    Attributes:
        teacher: a `Teacher`.
        state_range, target_range: half the sides of the boxes that starts and targets are drawn from.
    """

    teacher: Teacher
    state_range: float
    target_range: float

    def dataset(self, num_samples, seed=0):
        """``num_samples`` problems of this kind with the teacher's answers, an `LQRDataset`."""
        return generate_dataset(num_samples, seed, self.teacher, self.state_range, self.target_range)

    def store(self, folder, num_samples, seed=0):
        """The same, written to ``folder`` shard by shard: a `Store`, for more problems than memory holds."""
        return shards.make(folder, num_samples, seed, self.teacher, self.state_range, self.target_range)


def double_integrator(horizon=15, dt=0.33, state_range=2.5):
    """A cart, from anywhere to anywhere at least energy: chapters 1 to 6."""
    return Problem(MinimumEnergyController(DoubleIntegrator(dt), horizon), state_range, state_range)


def bounded_inputs(horizon=15, dt=0.33, state_range=2.5):
    """The same cart with |u| <= 1 m/s^2, to every target that it can reach: chapter 7."""
    return Problem(BoundedMinimumEnergyController(DoubleIntegrator(dt, control_limit=1.0), horizon), state_range, state_range)


def van_der_pol(horizon=100, dt=0.05, state_range=2.0):
    """An oscillator (mu = 1) brought to rest with |u| <= 2, at least quadratic cost: chapter 8."""
    Q = torch.diag(torch.tensor([10.0, 5.0], dtype=torch.float64))
    teacher = IterativeLQR(VanDerPol(1.0, dt, control_limit=2.0), horizon, QuadraticCost(Q, [[0.1]], 20 * Q), success=0.2)
    return Problem(teacher, state_range, target_range=0.0)


PROBLEMS = {make.__name__: make for make in (double_integrator, bounded_inputs, van_der_pol)}
