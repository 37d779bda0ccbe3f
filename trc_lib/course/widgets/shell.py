"""What every widget is made of: controls above, a picture below, error messages under it."""

import copy
import html
import io
import math
import threading

import ipywidgets

from trc_lib.data.sampling import box
from trc_lib.systems import DoubleIntegrator
from trc_lib.training.compute import one_thread

UNSOLVED = ", for which the teacher has no answer"  # the end of a text


class Picture(ipywidgets.Image):
    """A PNG, as wide as there is room; its repr, which notebooks store, says what it is."""

    def __init__(self, words="a picture that is drawn while the notebook runs"):
        super().__init__(format="png", layout=ipywidgets.Layout(max_width="100%"))
        self.words = words

    def __repr__(self):
        return self.words


class Shell(ipywidgets.VBox):
    """Controls above a picture that follows them.

    The picture as it is first stands beside it in the notebook, for where no kernel runs.

    Args:
        words: what is shown.
        draw: a function from the controls' values, by name, to PNG bytes.
        controls: ipywidgets by the names of ``draw``'s arguments.
        extra: widgets beside the controls that ``draw`` does not take, such as buttons.
    """

    # JupyterLab runs callbacks in several threads; matplotlib and `one_thread` stand only one.
    drawing = threading.RLock()

    def __init__(self, words, draw, controls, extra=()):
        self.words, self.draw, self.controls, self.waiting = words, draw, controls, False
        self.picture, self.trouble = Picture(), ipywidgets.HTML()
        for control in controls.values():
            control.style.description_width = "initial"  # as wide as the text
            control.observe(self.redraw, names="value")
        row = ipywidgets.HBox([*controls.values(), *extra],
                              layout=ipywidgets.Layout(flex_flow="row wrap"))
        super().__init__([row, self.picture, self.trouble])
        self.redraw()

    def __repr__(self):
        names = ", ".join(control.description for control in self.controls.values())
        return f"{self.words}; while the notebook runs it follows its controls: {names}"

    def _repr_mimebundle_(self, **options):
        data = super()._repr_mimebundle_(**options)
        return data | {"image/png": bytes(self.picture.value), "text/plain": repr(self)}

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
    decimals = 2 if 0.01 <= step < 10 else max(0, 1 - math.floor(math.log10(step)))
    return ipywidgets.FloatSlider(
        value=value, min=low, max=high, step=step, description=description,
        readout_format=f".{decimals}f" if decimals <= 6 else ".4g",
        layout=ipywidgets.Layout(width="310px"))


def counter(description, high, value=0, low=0):
    """A slider for a whole number."""
    return ipywidgets.IntSlider(value=value, min=low, max=high, description=description)


def is_cart(system):
    """Whether a system is the course's cart, also one read from a file."""
    return (system.state_dim, system.control_dim) == (2, 1) and system.same_as(
        DoubleIntegrator(system.dt, system.control_limit))


def state_box(system, state_range, usual=None):
    """The lowest and the highest state on sliders, two tensors ``[state_dim]``.

    Args:
        system: a `System`.
        state_range: as in `Sampler`, or None.
        usual: what it is if it is None; None if it must be given.

    Raises:
        ValueError: if it is not given, but must be.
    """
    state_range = usual if state_range is None else state_range
    if state_range is None:
        raise ValueError(f"state_range=None is not accepted for {system!r}; give the box of the "
                         f"states: half its side, one for each of the {system.state_dim} states, "
                         "or rows [low, high]")
    return widened(*box("state_range", state_range, system.state_dim)[1:])


def widened(low, high):
    """A box as it is, except where it has no width: sliders need one."""
    size = low.abs().where(low != 0, 1.0)
    return low - size * (low == high), high + size * (low == high)


def check_teacher(teacher, model):
    """Refuse a teacher for another system or horizon than the network's."""
    if not teacher.system.same_as(model.system):
        raise ValueError(f"teacher is for another system, {teacher.system!r}, than the model, "
                         f"{model.system!r}")
    if teacher.horizon != model.config.horizon:
        raise ValueError(f"teacher has horizon={teacher.horizon}; "
                         f"the model needs {model.config.horizon}")
