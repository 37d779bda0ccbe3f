"""A picture that is fast to change: axes, ticks and labels are drawn once, moving parts each time."""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image


class Canvas:
    """A figure whose ``moving`` artists change, and nothing else.

    Args:
        figure: a matplotlib `Figure`, laid out; axes limits are fixed from here on.
        moving: the artists that will change.
    """

    def __init__(self, figure, moving):
        self.figure, self.moving = figure, list(moving)
        self.canvas = FigureCanvasAgg(figure)
        for artist in self.moving:
            artist.set_animated(True)  # left out of the background
        self.canvas.draw()
        figure.set_layout_engine("none")
        self.background = self.canvas.copy_from_bbox(figure.bbox)

    def png(self):
        """The picture as it is now, as PNG bytes."""
        self.canvas.restore_region(self.background)
        for artist in self.moving:
            (artist.axes or self.figure).draw_artist(artist)
        stream = io.BytesIO()
        Image.fromarray(np.asarray(self.canvas.buffer_rgba())[..., :3]).save(stream, format="PNG", compress_level=1)
        return stream.getvalue()


def set_controls(patch, controls, dt):
    """Give the `StepPatch` of a control sequence new values, ``[N, 1]``, each held for ``dt`` seconds."""
    values = np.asarray(controls, dtype=float).ravel()
    patch.set_data(values, dt * np.arange(len(values) + 1))
