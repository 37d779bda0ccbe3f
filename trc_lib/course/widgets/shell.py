"""What every widget is made of: controls above, a picture below, and words where something goes wrong."""

import html
import io

import ipywidgets

from trc_lib.systems import System
from trc_lib.training.compute import one_thread

LABEL = {"description_width": "initial"}


class Picture(ipywidgets.Image):
    """An image in PNG, as wide as there is room, whose text in a notebook's output is not its bytes."""

    def __init__(self):
        super().__init__(format="png", layout=ipywidgets.Layout(max_width="100%"))

    def __repr__(self):
        return "Picture()"


class Shell(ipywidgets.VBox):
    """Controls above a picture that follows them.

    Args:
        draw: a plain function from the controls' values, by name, to PNG bytes.
        controls: ipywidgets by the names of ``draw``'s arguments.
        extra: widgets to stand beside the controls that ``draw`` does not take, such as buttons.
    """

    def __init__(self, draw, controls, extra=()):
        self.draw, self.controls = draw, controls
        self.picture = Picture()
        self.trouble = ipywidgets.HTML()
        self.waiting = False
        for control in controls.values():
            control.style.description_width = "initial"
            control.observe(self.redraw, names="value")
        row = ipywidgets.HBox([*controls.values(), *extra], layout=ipywidgets.Layout(flex_flow="row wrap"))
        super().__init__([row, self.picture, self.trouble])
        self.redraw()

    def values(self):
        """The controls' values by name."""
        return {name: control.value for name, control in self.controls.items()}

    def redraw(self, _=None):
        """Draw anew; what goes wrong stands in words under the picture, which stays as it was."""
        if self.waiting:
            return
        try:
            with one_thread():
                self.picture.value = self.draw(**self.values())
            self.trouble.value = ""
        except Exception as error:  # whatever it is, the learner shall read it
            self.trouble.value = f"<b>{type(error).__name__}:</b> {html.escape(str(error))}"

    def set(self, **values):
        """Set several controls, and draw once."""
        self.waiting = True
        try:
            for name, value in values.items():
                self.controls[name].value = value
        finally:
            self.waiting = False
        self.redraw()


def explore(draw, **controls):
    """A picture that follows its controls: ``draw`` is a plain function from their values to a `Figure`."""
    return Shell(lambda **values: png(draw(**values)), controls)


def live_picture(draw):
    """A picture that is drawn anew with each call: show ``.picture`` and hand the function to whoever has news.

    Args:
        draw: a plain function from whatever the news is to a matplotlib `Figure`.
    """
    picture = Picture()

    def update(news):
        picture.value = png(draw(news))

    update.picture = picture
    return update


def png(figure):
    """The bytes of a figure as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def slider(value, low, high, step, description):
    """A slider for a physical quantity; the description says its unit."""
    return ipywidgets.FloatSlider(value=value, min=low, max=high, step=step, description=description, readout_format=".2f",
                                  style=LABEL, layout=ipywidgets.Layout(width="310px"))


def choice(options, description):
    """One of a few words, on a slider: in JupyterLab a drop-down list loses its keys to the notebook's own shortcuts."""
    return ipywidgets.SelectionSlider(options=options, value=options[0], description=description, style=LABEL,
                                      layout=ipywidgets.Layout(width="310px"))


def state_sliders(limit=2.5, target_position=1.0, units=System.units):
    """Four sliders for a start and a target, by the names that every callback uses; ``units`` are those of a `System`."""
    quantities = (("start_position", 0.0, units[0]), ("start_velocity", 0.0, units[1]),
                  ("target_position", target_position, units[0]), ("target_velocity", 0.0, units[1]))
    return {name: slider(value, -limit, limit, 0.1, name.replace("_", " ") + unit) for name, value, unit in quantities}
