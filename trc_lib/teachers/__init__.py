"""Teachers: minimum-energy laws, the iterative LQR, and landings of least fuel."""

from trc_lib.teachers.bounded import BoundedMinimumEnergyController
from trc_lib.teachers.clipped_lqr import ClippedLQR
from trc_lib.teachers.ilqr import IterativeLQR
from trc_lib.teachers.landing import FuelOptimalLanding
from trc_lib.teachers.minimum_energy import MinimumEnergyController, SampledContinuousController
from trc_lib.teachers.teacher import Teacher, Unsolved

__all__ = ["BoundedMinimumEnergyController", "ClippedLQR", "FuelOptimalLanding",
           "IterativeLQR", "MinimumEnergyController", "SampledContinuousController", "Teacher",
           "Unsolved"]
