"""The picture of most widgets: controls, position and phase plane of a few runs."""

import functools

import numpy as np
from matplotlib.figure import Figure

from trc_lib.course import plots
from trc_lib.course.widgets.canvas import Canvas

# Half ranges of control, position and velocity: close, middle, far.
VIEWS = ((0.6, 1.8, 1.0), (1.7, 4.5, 2.7), (4.2, 11.0, 5.5))


def closest_view(controls, states):
    """The first of `VIEWS` that holds these controls and states ``[N + 1, 2]``; else the last."""
    reach = [float(abs(values).max()) for values in (controls, *states.T)]
    return next((view for view in VIEWS if np.all(reach <= np.array(view))), VIEWS[-1])


class SteeringScene:
    """Runs of a cart by label.

    Args:
        looks: ``{label: look}``, in the order in which they are drawn.
        duration: seconds on the time axes.
        cloud: starts ``[n, 2]`` for a fourth panel, in which `draw` marks its start; none if None.
    """

    def __init__(self, looks, duration, cloud=None):
        self.looks, self.duration, self.cloud = looks, duration, cloud
        self.build = functools.cache(self._build)

    def _build(self, view):
        control_range, position_range, velocity_range = view
        figure = Figure(figsize=(12, 3.9 if self.cloud is None else 3.6), layout="constrained")
        panels = figure.subplots(1, 3 if self.cloud is None else 4)
        left, middle, right = panels[:3]
        moving, still = {}, np.zeros((2, 2))
        for label, look in self.looks.items():
            moving["controls", label], moving["position", label], moving["phase", label] = (
                plots.draw_run(panels[:3], 1, still, still[1:, :1], label, look))
        moving["target in time"], = middle.plot([], [], **plots.CROSS)
        moving["target"], = right.plot([], [], **plots.CROSS)
        positions, velocities = (-position_range, position_range), (-velocity_range, velocity_range)
        plots.label_controls(left, xlim=(0, self.duration), ylim=(-control_range, control_range))
        plots.label_positions(middle, xlim=(0, 1.04 * self.duration), ylim=positions)
        plots.label_phase_plane(right, xlim=positions, ylim=velocities)
        left.legend(loc="upper right")
        for axes in panels[3:]:
            axes.plot(*self.cloud.T, ".", markersize=2, color="0.75")
            moving["start"], = axes.plot([], [], "o", markersize=9, markerfacecolor="none",
                                          markeredgewidth=2.5, color="black")
            axes.set(xlabel="start position (m)", ylabel="start velocity (m/s)",
                     title="where it lies")
        return Canvas(figure, moving)

    def draw(self, system, start, controls, target, text):
        """The picture as PNG bytes.

        Args:
            system: a `System`.
            start, target: ``[2]``.
            controls: ``{label: [N, 1]}``; the axes fit the last.
            text: the line above.
        """
        runs = {label: (u, system.rollout(start, u)) for label, u in controls.items()}
        canvas = self.build(closest_view(*list(runs.values())[-1]))
        moving = canvas.moving
        for label, (u, states) in runs.items():
            time = system.dt * np.arange(len(states))
            moving["controls", label].set_data(*plots.levels(system.dt, u))
            moving["position", label].set_data(time, states[:, 0])
            moving["phase", label].set_data(*states.T)
        moving["target in time"].set_data(time[-1:], target[:1])
        moving["target"].set_data(target[:1], target[1:])
        if self.cloud is not None:
            moving["start"].set_data(start[:1], start[1:])
        return canvas.png(text)
