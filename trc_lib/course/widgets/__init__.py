"""The pictures of the course with controls: each function makes one widget."""

from trc_lib.course.widgets.bounded_pieces import bounded_pieces
from trc_lib.course.widgets.dataset_browser import dataset_browser
from trc_lib.course.widgets.error_map import error_map
from trc_lib.course.widgets.landing import landing, relaxation
from trc_lib.course.widgets.microscope import microscope
from trc_lib.course.widgets.phase_plane import phase_plane
from trc_lib.course.widgets.steer import playground
from trc_lib.course.widgets.teacher_explorer import teacher_explorer
from trc_lib.course.widgets.time_machine import time_machine

__all__ = ["bounded_pieces", "dataset_browser", "error_map", "landing",
           "microscope", "phase_plane", "playground", "relaxation", "teacher_explorer",
           "time_machine"]
