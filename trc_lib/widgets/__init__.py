"""The same pictures with sliders on: thin shells over `plots` and `model`."""

from trc_lib.widgets.microscope import microscope
from trc_lib.widgets.shell import explore, live_picture, png

__all__ = ["explore", "live_picture", "microscope", "png"]
