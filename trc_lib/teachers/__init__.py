"""Who knows the answer: minimum-energy controllers, in closed form and with bounded controls."""

from trc_lib.teachers.bounded import BoundedMinimumEnergyController, Unreachable
from trc_lib.teachers.minimum_energy import MinimumEnergyController, SampledContinuousController

__all__ = ["BoundedMinimumEnergyController", "MinimumEnergyController", "SampledContinuousController", "Unreachable"]
