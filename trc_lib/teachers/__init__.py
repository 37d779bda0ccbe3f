"""Who knows the answer: minimum-energy controllers, in closed form and with bounded controls."""

from trc_lib.teachers.bounded import BoundedMinimumEnergyController
from trc_lib.teachers.minimum_energy import MinimumEnergyController, SampledContinuousController
from trc_lib.teachers.teacher import Teacher, Unsolved

TEACHERS = {teacher.__name__: teacher for teacher in (MinimumEnergyController, BoundedMinimumEnergyController)}

__all__ = ["TEACHERS", "BoundedMinimumEnergyController", "MinimumEnergyController", "SampledContinuousController", "Teacher",
           "Unsolved"]
