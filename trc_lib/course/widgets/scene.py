"""The picture that most widgets share: controls, position and phase plane of a few runs, fast to change."""

import functools

import numpy as np
from matplotlib.figure import Figure

from trc_lib.course.widgets.canvas import Canvas, set_controls

VIEWS = ((0.6, 1.8, 1.0), (1.7, 4.5, 2.7), (4.2, 11.0, 5.5))  # half ranges of control, position, velocity: close, middle, far


def closest_view(controls, states):
    """The first of `VIEWS` that holds controls ``[N, 1]`` and states ``[N + 1, 2]``; the last if none does."""
    reach = [np.abs(np.asarray(values)).max() for values in (controls, *np.asarray(states).T)]
    return next((view for view in VIEWS if all(have <= half for have, half in zip(reach, view))), VIEWS[-1])


class SteeringScene:
    """Runs of a cart by label, each with its look; `draw` shows them.

    Args:
        looks: ``{label: look}``, in the order in which they are drawn.
        duration: seconds that the time axes show.
        cloud: points ``[n, 2]`` for a fourth panel, in which `draw` marks one; none if None.
        cloud_labels: what the axes of that panel are called.
    """

    def __init__(self, looks, duration, cloud=None, cloud_labels=("", "")):
        self.looks, self.duration, self.cloud, self.cloud_labels = looks, duration, cloud, cloud_labels
        self.build = functools.lru_cache(maxsize=None)(self._build)

    def _build(self, view):
        control_range, position_range, velocity_range = view
        panels = 3 + (self.cloud is not None)
        figure = Figure(figsize=(12, 3.9 if panels == 3 else 3.6), layout="constrained")
        left, middle, right, *rest = figure.subplots(1, panels)
        parts = {}
        for label, look in self.looks.items():
            parts["controls", label] = left.stairs([0], [0, 1], baseline=None, label=label, **({"linewidth": 2.4} | look))
            parts["position", label], = middle.plot([], [], **look)
            parts["phase", label], = right.plot([], [], marker="o", markersize=3, **look)
        cross = {"color": "black", "markersize": 10, "markeredgewidth": 2.5, "zorder": 6}
        parts["target in time"], = middle.plot([], [], "x", **cross)
        parts["target"], = right.plot([], [], "x", **cross)
        left.set(xlabel="time (s)", ylabel="control u (m/s²)", title="controls",
                 xlim=(0, self.duration), ylim=(-control_range, control_range))
        middle.set(xlabel="time (s)", ylabel="position (m)", title="position",
                   xlim=(0, 1.04 * self.duration), ylim=(-position_range, position_range))
        right.set(xlabel="position (m)", ylabel="velocity (m/s)", title="phase plane",
                  xlim=(-position_range, position_range), ylim=(-velocity_range, velocity_range))
        left.legend(loc="upper right")
        for axes in rest:
            axes.plot(*self.cloud.T, ".", markersize=2, color="0.75")
            parts["here"], = axes.plot([], [], "o", markersize=9, markerfacecolor="none", markeredgewidth=2.5, color="black")
            axes.set(xlabel=self.cloud_labels[0], ylabel=self.cloud_labels[1], title="where it lies")
        parts["text"] = figure.suptitle(" ", x=0.01, ha="left", fontsize=12)
        return parts, Canvas(figure, parts.values())

    def draw(self, dt, runs, target, text, here=None):
        """The picture as PNG bytes.

        Args:
            dt: seconds a step.
            runs: ``{label: (states [N + 1, 2], controls [N, 1])}``; the axes fit the last of them.
            target: [p, v]. text: the line above. here: the point to mark in the cloud.
        """
        parts, canvas = self.build(closest_view(*reversed(list(runs.values())[-1])))
        for label, (states, controls) in runs.items():
            states, time = np.asarray(states), dt * np.arange(len(states))
            set_controls(parts["controls", label], controls, dt)
            parts["position", label].set_data(time, states[:, 0])
            parts["phase", label].set_data(*states.T)
        parts["target in time"].set_data([time[-1]], target[:1])
        parts["target"].set_data(target[:1], target[1:])
        if here is not None:
            parts["here"].set_data(here[:1], here[1:])
        parts["text"].set_text(text)
        return canvas.png()
