"""Teachers: minimum-energy laws with and without bounded controls, and the iterative LQR."""

from trc_lib.teachers.bounded import BoundedMinimumEnergyController
from trc_lib.teachers.clipped_lqr import ClippedLQR
from trc_lib.teachers.ilqr import IterativeLQR
from trc_lib.teachers.minimum_energy import MinimumEnergyController, SampledContinuousController
from trc_lib.teachers.teacher import Teacher, Unsolved

__all__ = ["BoundedMinimumEnergyController", "ClippedLQR", "IterativeLQR",
           "MinimumEnergyController", "SampledContinuousController", "Teacher", "Unsolved"]
