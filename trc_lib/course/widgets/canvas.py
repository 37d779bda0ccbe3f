"""A picture that is fast to change: axes, ticks and labels are drawn once, moving parts each time."""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image


class Canvas:
    """A figure of which only the given artists change.

    Args:
        figure: a matplotlib `Figure`, laid out; axes limits are fixed from here on.
        moving: the artists that change with every picture.
        still: those that change seldom; `settle` draws them.
    """

    def __init__(self, figure, moving, still=()):
        self.figure, self.moving, self.still = figure, list(moving), list(still)
        self.canvas = FigureCanvasAgg(figure)
        for artist in self.moving + self.still:
            artist.set_animated(True)  # left out of the background
        self.canvas.draw()
        figure.set_layout_engine("none")
        self.background = self.canvas.copy_from_bbox(figure.bbox)
        self.settle()

    def settle(self):
        """Draw the still artists anew; the next picture chooses its colours anew, too."""
        self.canvas.restore_region(self.background)
        self._draw(self.still)
        self.settled, self.palette = self.canvas.copy_from_bbox(self.figure.bbox), None

    def png(self):
        """The picture as it is now, as PNG bytes: in 256 colours, which is four times as fast to pack."""
        self.canvas.restore_region(self.settled)
        self._draw(self.moving)
        picture = Image.fromarray(np.asarray(self.canvas.buffer_rgba())).convert("RGB")
        if self.palette is None:
            self.palette = picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        stream = io.BytesIO()
        picture.quantize(palette=self.palette, dither=Image.Dither.NONE).save(stream, format="PNG", compress_level=1)
        return stream.getvalue()

    def _draw(self, artists):
        for artist in artists:
            (artist.axes or self.figure).draw_artist(artist)


def set_controls(patch, controls, dt):
    """Give the `StepPatch` of a control sequence new values, ``[N, 1]``, each held for ``dt`` seconds."""
    values = np.asarray(controls, dtype=float).ravel()
    patch.set_data(values, dt * np.arange(len(values) + 1))
