"""A picture that is fast to change: axes and labels are drawn only once."""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image


class Canvas:
    """A figure of which only the given artists change.

    Args:
        figure: a matplotlib `Figure`; its layout and limits are fixed from here on.
        moving: artists by name that change with every picture.
        still: artists by name that change seldom; `settle` draws them.
    """

    def __init__(self, figure, moving, still=None):
        self.figure, self.still = figure, still or {}
        self.moving = moving | {"text": figure.suptitle(" ", x=0.01, ha="left", fontsize=12)}
        self.canvas = FigureCanvasAgg(figure)
        for artist in (*self.moving.values(), *self.still.values()):
            artist.set_animated(True)  # keeps it out of the background
        self.canvas.draw()
        figure.set_layout_engine("none")
        self.background = self.canvas.copy_from_bbox(figure.bbox)
        self.settle()

    def settle(self):
        """Draw the still artists anew; the next picture chooses a new palette."""
        self._draw(self.background, self.still)
        self.settled, self.palette = self.canvas.copy_from_bbox(self.figure.bbox), None

    def png(self, text):
        """The picture under a line of text as PNG bytes, in 256 colours: these pack faster."""
        self.moving["text"].set_text(text)
        self._draw(self.settled, self.moving)
        picture = Image.fromarray(np.asarray(self.canvas.buffer_rgba())).convert("RGB")
        if self.palette is None:
            self.palette = picture.quantize(method=Image.Quantize.FASTOCTREE,
                                            dither=Image.Dither.NONE)
        stream = io.BytesIO()
        picture.quantize(palette=self.palette, dither=Image.Dither.NONE).save(
            stream, format="PNG", compress_level=1)
        return stream.getvalue()

    def _draw(self, background, artists):
        self.canvas.restore_region(background)
        for artist in artists.values():
            (artist.axes or self.figure).draw_artist(artist)
