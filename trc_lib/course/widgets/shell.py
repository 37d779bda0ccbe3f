"""What every widget is made of: controls above, a picture below, error messages under it."""

import copy
import html
import io
import threading

import ipywidgets

from trc_lib.systems import System
from trc_lib.training.compute import one_thread


class Picture(ipywidgets.Image):
    """A PNG, as wide as there is room; its repr, which notebooks store, leaves out the bytes."""

    def __init__(self):
        super().__init__(format="png", layout=ipywidgets.Layout(max_width="100%"))

    def __repr__(self):
        return "Picture()"


class Shell(ipywidgets.VBox):
    """Controls above a picture that follows them.

    Args:
        draw: a function from the controls' values, by name, to PNG bytes.
        controls: ipywidgets by the names of ``draw``'s arguments.
        extra: widgets beside the controls that ``draw`` does not take, such as buttons.
    """

    # JupyterLab runs callbacks in several threads; matplotlib and `one_thread` stand only one.
    drawing = threading.RLock()

    def __init__(self, draw, controls, extra=()):
        self.draw, self.controls, self.waiting = draw, controls, False
        self.picture, self.trouble = Picture(), ipywidgets.HTML()
        for control in controls.values():
            control.style.description_width = "initial"  # as wide as the text
            control.observe(self.redraw, names="value")
        row = ipywidgets.HBox([*controls.values(), *extra],
                              layout=ipywidgets.Layout(flex_flow="row wrap"))
        super().__init__([row, self.picture, self.trouble])
        self.redraw()

    def values(self):
        """The controls' values by name."""
        return {name: control.value for name, control in self.controls.items()}

    def redraw(self, _=None):
        """Draw the picture; if that fails, keep the old one and show the error under it."""
        if self.waiting:
            return
        try:
            with self.drawing, one_thread():
                self.picture.value = self.draw(**self.values())
            self.trouble.value = ""
        except Exception as error:  # an exception in a callback is not shown in a notebook
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


def own_copy(model):
    """A copy of a network for one widget, on the CPU; the caller's stays where and as it is."""
    return copy.deepcopy(model).cpu().eval()


def live_picture(draw):
    """A function that redraws its picture, the attribute ``picture``, with each call.

    Args:
        draw: a function from the argument of a call to a matplotlib `Figure`.
    """
    def update(news):
        stream = io.BytesIO()
        draw(news).savefig(stream, format="png")
        update.picture.value = stream.getvalue()

    update.picture = Picture()
    return update


def slider(value, low, high, step, description):
    """A slider for a physical quantity; the description states its unit."""
    return ipywidgets.FloatSlider(
        value=value, min=low, max=high, step=step, description=description,
        readout_format=".2f", layout=ipywidgets.Layout(width="310px"))


def counter(description, high, value=0, low=0):
    """A slider for a whole number."""
    return ipywidgets.IntSlider(value=value, min=low, max=high, description=description)


def cycle_player(H_cycles):
    """A slider for a cycle, and a button that plays through all."""
    cycle = counter("H cycle", H_cycles)
    play = ipywidgets.Play(max=H_cycles, interval=700, description="play the cycles")
    ipywidgets.jslink((play, "value"), (cycle, "value"))
    return cycle, play


def choice(options, description):
    """A slider over words; JupyterLab's shortcuts take the keys of a drop-down list."""
    return ipywidgets.SelectionSlider(options=options, value=options[0], description=description,
                                      layout=ipywidgets.Layout(width="310px"))


def button(description, act, width=None):
    """A button that calls ``act``, a function without arguments."""
    made = ipywidgets.Button(description=description, layout=ipywidgets.Layout(width=width))
    made.on_click(lambda _: act())
    return made


def state_sliders(target_position=1.0, units=System.units):
    """Sliders for start and target by the names that ``draw`` uses; ``units`` of a `System`."""
    return {name: slider(value, -2.5, 2.5, 0.1, name.replace("_", " ") + unit)
            for name, value, unit in (("start_position", 0.0, units[0]),
                                      ("start_velocity", 0.0, units[1]),
                                      ("target_position", target_position, units[0]),
                                      ("target_velocity", 0.0, units[1]))}
