"""Widgets that compute in the browser: the JavaScript modules in ``live``, by anywidget."""

import functools
import math
import pathlib
import re

import anywidget
import numpy as np
import torch
import traitlets

from trc_lib import web
from trc_lib.course import plots

LIVE = pathlib.Path(__file__).parent / "live"
LARGEST = 700_000  # bytes of a network that is kept in a notebook; a larger one is sent if asked

_IMPORT = re.compile(r'^import \{ (.*?) \} from "(.*?)";\n', re.MULTILINE)
_COMMENT = re.compile(r"^ *(?://.*\n|/\*\*.*\*/\n|/\*\*\n(?: *\*.*\n)+)?(?: +)?", re.MULTILINE)
_EXPORT = re.compile(r"^export (?:async )?(?:const|let|function|class) (\w+)", re.MULTILINE)


@functools.cache
def bundle(path: pathlib.Path) -> str:
    """A module and all that it imports as one: widgets are single modules."""
    order = []

    def visit(module):
        text = module.read_text(encoding="utf-8")
        for _, name in _IMPORT.findall(text):
            visit((module.parent / name).resolve())
        if module not in order:
            order.append(module)

    visit(path.resolve())
    *needed, widget = order
    return "".join(f"const {_name(module)} = (() => {{\n{_without_imports(module)}"
                   f"return {{ {', '.join(_exports(module))} }};\n}})();\n"
                   for module in needed) + _without_imports(widget)


def _exports(module):
    return dict.fromkeys(_EXPORT.findall(module.read_text(encoding="utf-8")))


def _without_imports(module):
    """A module's text with what it imports taken from constants; only a widget's export stays."""
    text = _IMPORT.sub(lambda found: f"const {{ {found[1]} }} = "
                       f"{_name(module.parent / found[2])};\n",
                       module.read_text(encoding="utf-8"))
    text = re.sub("^export (?!default)", "", text, flags=re.MULTILINE)
    return _COMMENT.sub("", text)  # every widget in a notebook holds its module


def _name(module):
    return f"module_{module.resolve().stem}"


class Explorable(anywidget.AnyWidget):
    """A widget that computes in the browser; its static picture stands beside it.

    Args:
        picture: a function without arguments that gives a matplotlib `Figure`.
        traits: values of traits.
    """

    _css = (LIVE / "stage.css").read_text(encoding="utf-8")
    about = traitlets.Dict().tag(sync=True)

    def __init__(self, picture, **traits):
        self.picture = picture
        super().__init__(**traits)
        self.on_msg(self._hear)

    def _repr_mimebundle_(self, **options):
        data, *metadata = super()._repr_mimebundle_(**options)
        return data | {"image/png": self.png(), "text/plain": repr(self)}, *metadata

    def png(self):
        """The static picture, for where no widget is shown."""
        return plots.small_png(self.picture())

    def answer(self, content: dict) -> dict | None:
        """The answer to a question of the page; its ``bytes`` go apart. None if there is none."""
        return None

    def _hear(self, _, content, buffers):
        """A question of the page, which goes back with its number and the answer."""
        try:
            answer = self.answer(content)
        except Exception as error:  # the page says it; nobody sees one that is raised here
            answer = {"error": f"{type(error).__name__}: {error}"}
        if answer is not None:
            content_of_it = [answer.pop("bytes")] if "bytes" in answer else None
            self.send({"number": content["number"]} | answer, content_of_it)

    def checked_state(self, proposal, state_dim):
        """A proposed state, if it is one; see traitlets' `validate`."""
        name, value = proposal["trait"].name, [float(each) for each in proposal["value"]]
        if len(value) != state_dim or not all(map(math.isfinite, value)):
            raise traitlets.TraitError(f"{name}={value} is not accepted; "
                                       f"needs {state_dim} finite numbers")
        return value

    def checked_whole(self, proposal, low, high):
        """A proposed whole number, if it is from ``low`` to ``high``."""
        name, value = proposal["trait"].name, proposal["value"]
        if not low <= value <= high:
            raise traitlets.TraitError(f"{name}={value} is not accepted; "
                                       f"needs a whole number from {low} to {high}")
        return value

    def __repr__(self):
        return f"{type(self).__name__}: {self.summary()}"


def numbers(*values: torch.Tensor) -> bytes:
    """Rows of float64 numbers, little-endian, of tensors with the same first dimension."""
    rows = [value.detach().cpu().double().flatten(1).numpy() for value in values]
    return np.concatenate(rows, axis=1).astype("<f8").tobytes()


class WithNetwork(Explorable):
    """An explorable with a network. A small one is kept in the notebook, a large one sent if asked.

    A subclass sets ``H_cycles``, the most that it shows, before it calls this constructor.

    Args:
        picture: as in `Explorable`.
        contents: `web.network` of the network.
        about, traits: values of traits.
    """

    network = traitlets.Bytes().tag(sync=True)
    H_cycle = traitlets.Int(0).tag(sync=True)

    @traitlets.validate("H_cycle")
    def _cycle(self, proposal):
        return self.checked_whole(proposal, 0, self.H_cycles)

    def __init__(self, picture, contents, about, **traits):
        self.contents = contents
        super().__init__(picture, about=about | {"network": web.digest(contents)},
                         network=contents if len(contents) <= LARGEST else b"", **traits)

    def _hear(self, widget, content, buffers):
        if content["ask"] == "network":
            self.send({"number": content["number"]}, [self.contents])
        else:
            super()._hear(widget, content, buffers)
