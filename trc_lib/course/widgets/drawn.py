"""A picture that Python draws, with sliders; some pictures are kept for when no kernel runs."""

import math
import threading

import traitlets

from trc_lib.course.widgets.explorable import LIVE, Explorable, bundle
from trc_lib.training.compute import one_thread


class Drawn(Explorable):
    """A picture that follows sliders.

    Args:
        title: what is shown, for a screen reader.
        draw: a function from the sliders' values, by name, to PNG bytes and a sentence.
        controls: of each slider, by name, its ``label``, ``min``, ``max``, ``step``.
        first: the values at first, by name.
        kept: values, by name, of which the picture is kept in the notebook, besides ``first``.

    Attributes:
        values: those of the sliders, by name.
    """

    _esm = bundle(LIVE / "drawn.js")
    values = traitlets.Dict().tag(sync=True)
    pictures = traitlets.Bytes().tag(sync=True)
    drawing = threading.Lock()  # JupyterLab's messages come in several threads

    def __init__(self, title, draw, controls, first, kept=()):
        self.title, self.draw, self.controls = title, draw, controls
        kept = [first, *(each for each in kept if each != first)]
        drawn = [self.drawn(each) for each in kept]
        self.first = drawn[0][0]
        about = {"title": title,  # a list of controls: a stored notebook sorts names
                 "controls": [{"name": name} | control for name, control in controls.items()],
                 "kept": [{"values": values, "words": words, "size": len(png)}
                          for values, (png, words) in zip(kept, drawn)]}
        super().__init__(None, about=about, values=first,
                         pictures=b"".join(png for png, _ in drawn))

    def drawn(self, values):
        """The picture for values, PNG bytes, and what it shows in words."""
        with self.drawing, one_thread():
            return self.draw(**values)

    def png(self):
        return self.first

    @traitlets.validate("values")
    def _known(self, proposal):
        return self.checked(proposal["value"])

    def checked(self, values):
        """Values by name in the order of the sliders, if each is one and within its ends."""
        if set(values) != set(self.controls):
            raise traitlets.TraitError(f"values={values} is not accepted; needs those of "
                                       f"{', '.join(self.controls)}")
        for name, control in self.controls.items():
            value, low, high = values[name], control["min"], control["max"]
            if not (isinstance(value, (int, float)) and math.isfinite(value)
                    and low <= value <= high):
                raise traitlets.TraitError(f"values[{name!r}]={value} is not accepted; "
                                           f"needs a number from {low} to {high}")
        return {name: values[name] for name in self.controls}

    def answer(self, content):
        png, words = self.drawn(self.checked(content["values"]))
        return {"words": words, "bytes": png}

    def summary(self):
        labels = ", ".join(each["label"] for each in self.controls.values())
        return f"{self.title}; while the notebook runs it follows its controls: {labels}"
