"""The problems of the course: each a teacher and a sampler."""

import dataclasses
import importlib
import pathlib

import torch

from trc_lib import validation
from trc_lib.costs import QuadraticCost
from trc_lib.data import LQRDataset, Sampler, Store, generate_dataset, shards
from trc_lib.systems import Craft, DoubleIntegrator, VanDerPol
from trc_lib.teachers import (
    BoundedMinimumEnergyController,
    FuelOptimalLanding,
    IterativeLQR,
    MinimumEnergyController,
    Teacher,
)


@dataclasses.dataclass(frozen=True)
class Problem:
    """A teacher and the boxes that its problems are drawn from.

    Attributes:
        teacher: a `Teacher`.
        state_range, target_range: the boxes of starts and targets, as in `Sampler`.
        sampler: `Sampler` or a subclass.
    """

    teacher: Teacher
    state_range: object
    target_range: object
    sampler: type = Sampler

    def __post_init__(self):
        system = validation.instance("teacher", self.teacher, Teacher).system
        self.sampler(0, system.state_dim, self.state_range, self.target_range)  # refuses ranges

    def dataset(self, num_samples: object, seed: object = 0) -> LQRDataset:
        """``num_samples`` problems of this kind with the teacher's answers."""
        return generate_dataset(num_samples, seed, self.teacher, self.state_range,
                                self.target_range, self.sampler)

    def store(self, folder: str | pathlib.Path, num_samples: object, seed: object = 0) -> Store:
        """The same, written to ``folder`` shard by shard: for more problems than memory holds."""
        return shards.make(folder, num_samples, seed, self.teacher, self.state_range,
                           self.target_range, sampler=self.sampler)


def double_integrator(horizon: object = 15, dt: object = 0.33,
                      state_range: float = 2.5) -> Problem:
    """A cart from any state to any other with least energy: chapters 1 to 7."""
    teacher = MinimumEnergyController(DoubleIntegrator(dt), horizon)
    return Problem(teacher, state_range, state_range)


def bounded_inputs(horizon: object = 15, dt: object = 0.33, state_range: float = 2.5) -> Problem:
    """The same cart with |u| <= 1 m/s^2, to every target that it can reach: chapter 8."""
    system = DoubleIntegrator(dt, control_limit=1.0)
    return Problem(BoundedMinimumEnergyController(system, horizon), state_range, state_range)


def van_der_pol(horizon: object = 100, dt: object = 0.05, state_range: float = 2.0,
                control_limit: object = 2.0) -> Problem:
    """An oscillator (mu = 1) brought to rest with |u| <= 2 at least quadratic cost: chapter 9."""
    Q = torch.diag(torch.tensor([10.0, 5.0], dtype=torch.float64))
    cost = QuadraticCost(Q, [[0.1]], 20 * Q)
    teacher = IterativeLQR(VanDerPol(1.0, dt, control_limit), horizon, cost, success=0.2,
                           guesses=1)  # more find no better minima
    return Problem(teacher, state_range, target_range=0.0)


def weak_van_der_pol(horizon: object = 100, dt: object = 0.05,
                     state_range: float = 2.0) -> Problem:
    """The same oscillator with |u| <= 1.25, so that the limits bind: chapter 9."""
    return van_der_pol(horizon, dt, state_range, control_limit=1.25)


def powered_descent(horizon: object = 40) -> Problem:
    """A landing on Mars with the least fuel, above a glide slope of 4 degrees: chapter 11.

    The start lies downrange of the target, and drifts to one side: every other one is such a start,
    turned or mirrored.
    """
    teacher = FuelOptimalLanding(Craft(glide_slope=4.0), horizon)
    starts = [[0.0, 2500.0], [0.0, 0.0], [1000.0, 2500.0],      # m
              [-60.0, 60.0], [0.0, 60.0], [-90.0, -20.0],       # m/s
              [1805.0, 1905.0]]                                 # kg
    rest = [[0.0, 0.0]] * 6 + [[teacher.craft.dry_mass] * 2]
    return Problem(teacher, starts, rest)


def named(text: str, known: dict, needed: str) -> object:
    """What a command line names: one of ``known``, or ``module:name`` of the user's own.

    Args:
        text: the name.
        known: by their names.
        needed: what it must be, for messages.

    Raises:
        ValueError: if there is no such thing.
    """
    if text in known:
        return known[text]
    module, colon, name = text.partition(":")
    if not colon:
        raise ValueError(f"{text!r} is unknown; accepted are {', '.join(known)}, "
                         f"or mymodule:name of {needed}{validation.did_you_mean(text, known)}")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{text!r} cannot be imported: {error}; needs the module and the name of "
                         f"{needed}") from None


PROBLEMS = {make.__name__: make for make in (double_integrator, bounded_inputs, van_der_pol,
                                              weak_van_der_pol, powered_descent)}
