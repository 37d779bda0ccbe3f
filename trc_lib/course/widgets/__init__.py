"""The same pictures with sliders on: thin shells over `plots` and `model`."""

from trc_lib.course.widgets.error_map import error_map
from trc_lib.course.widgets.microscope import microscope
from trc_lib.course.widgets.phase_plane import phase_plane
from trc_lib.course.widgets.shell import explore, live_picture, png
from trc_lib.course.widgets.steering import dataset_browser, playground, teacher_explorer, time_machine

__all__ = ["dataset_browser", "error_map", "explore", "live_picture", "microscope", "phase_plane", "playground", "png",
           "teacher_explorer", "time_machine"]
