"""The picture of most widgets: controls, a state over time and phase plane of a few runs."""

import functools
import math

import numpy as np
import torch
from matplotlib.figure import Figure

from trc_lib.course import plots
from trc_lib.course.widgets.canvas import Canvas

KEPT = 12  # figures of one widget, each with other axes


def axis_range(values, centre=0.0, low=-math.inf, high=math.inf, least=0.0):
    """The ends of an axis that holds all finite ``values``; few are possible, so figures are kept.

    Half the axis is the smallest of ..., 0.2, 0.6, 2, 6, ... that suffices and is not below
    ``least``. It ends where values cannot be, below ``low`` or above ``high``, if none is there.
    """
    values = np.asarray(values, dtype=float).ravel()
    values = values[np.isfinite(values)]
    reach = float(abs(values - centre).max(initial=least)) or 1.0
    power = 10.0 ** math.floor(math.log10(reach))
    half = next(factor * power for factor in (2, 6, 20) if factor * power >= reach * 0.999999)
    ends = centre - half, centre + half
    if ((low <= values) & (values <= high)).all():
        ends = max(ends[0], low), min(ends[1], high)
    margin = 0.04 * (ends[1] - ends[0])
    return ends[0] - margin, ends[1] + margin


def centre_of(low, high):
    """The middle of a box of states in each component that is far from zero; else zero."""
    middle = (low + high) / 2
    return middle.where(middle.abs() > 1.5 * (high - low), 0.0)


def view(system, shown, box, controls, states):
    """The `axis_range` of each control, and of each state that is ``shown``.

    Args:
        system: a `System`; its limits are ends of the axes.
        shown: components of the state.
        box: the lowest and the highest start, ``[state_dim]`` each: the axes have a fifth of its
            size at least; none if None.
        controls: ``[..., control_dim]``; states: ``[..., state_dim]``.
    """
    low, high = box or torch.zeros(2, system.state_dim)
    centre, least = centre_of(low, high).tolist(), ((high - low) / 10).tolist()
    inputs = zip(np.moveaxis(controls, -1, 0), *(bound.tolist() for bound in system.bounds))
    return (*(axis_range(values, 0.0, *limits) for values, *limits in inputs),
            *(axis_range(states[..., i], centre[i], least=least[i]) for i in shown))


class SteeringScene:
    """Runs of a system by label.

    Args:
        system: a `System`, which names states and controls.
        looks: ``{label: look}``, in the order in which they are drawn.
        duration: seconds on the time axes.
        cloud: starts ``[n, state_dim]`` for one more panel, in which `draw` marks its start; none
            if None, or if the system has one state.
        shown: the two components of the state in the phase plane; the first is drawn over time.
        box: as in `view`.
    """

    def __init__(self, system, looks, duration, cloud=None, shown=(0, 1), box=None):
        self.system, self.looks, self.duration, self.box = system, looks, duration, box
        self.shown = plots.components(system, shown)
        self.cloud = None if len(self.shown) == 1 else cloud
        self.build = functools.lru_cache(KEPT)(self._build)

    def _build(self, ranges):
        system, shown, m = self.system, self.shown, self.system.control_dim
        height = 3.9 if self.cloud is None else 3.6
        figure = Figure(figsize=(12, max(height, 1.6 * m)), layout="constrained")
        first, *cells = figure.add_gridspec(1, 1 + len(shown) + (self.cloud is not None))
        inputs, others = plots.stacked(figure, first, m), [figure.add_subplot(c) for c in cells]
        panels, moving = (*inputs, *others), {}
        states, controls = np.zeros((2, system.state_dim)), np.zeros((1, m))
        for label, look in self.looks.items():
            artists = plots.draw_run(panels, 1, states, controls, label, look, shown)
            moving |= {(label, i): artist for i, artist in enumerate(artists)}
        plots.label_inputs(inputs, system, limits=ranges)
        for axes in inputs:
            axes.set_xlim(0, self.duration)
        plots.label_state(others[0], system, shown[0], xlim=(0, 1.04 * self.duration),
                          ylim=ranges[m])
        moving["target in time"], = others[0].plot([], [], **plots.CROSS)
        if len(shown) == 2:
            moving["target"], = others[1].plot([], [], **plots.CROSS)
            plots.label_phase_plane(others[1], system, shown=shown, xlim=ranges[m],
                                    ylim=ranges[m + 1])
        inputs[0].legend(loc="upper right")
        if self.cloud is not None:
            axes = others[-1]
            axes.plot(*plots.plane(1, self.cloud, shown), ".", markersize=2, color="0.75")
            moving["start"], = axes.plot([], [], "o", markersize=9, markerfacecolor="none",
                                          markeredgewidth=2.5, color="black")
            plots.label_phase_plane(axes, system, "where it lies", shown)
            axes.set(xlabel=f"start {axes.get_xlabel()}", ylabel=f"start {axes.get_ylabel()}")
        return Canvas(figure, moving)

    def draw(self, system, start, controls, target, text):
        """The picture as PNG bytes.

        Args:
            system: a `System` with the labels and sizes of the scene's.
            start, target: ``[state_dim]``.
            controls: ``{label: [N, control_dim]}``; NaN is not drawn.
            text: the line above.
        """
        shown, dt = self.shown, system.dt
        states = {label: system.rollout_unchecked(start, u) for label, u in controls.items()}
        together = [np.concatenate([values.numpy() for values in (*runs.values(), *ends)])
                    for runs, ends in ((controls, ()), (states, (target[None],)))]
        canvas = self.build(view(system, shown, self.box, *together))
        moving = canvas.moving
        for label, u in controls.items():
            for i, control in enumerate(u.T):
                moving[label, i].set_data(*plots.levels(dt, control))
            moving[label, len(u.T)].set_data(*plots.plane(dt, states[label][:, shown[:1]], (0,)))
            if len(shown) == 2:
                moving[label, len(u.T) + 1].set_data(*plots.plane(dt, states[label], shown))
        horizon = len(u)
        moving["target in time"].set_data(*np.reshape([dt * horizon, target[shown[0]]], (2, 1)))
        if len(shown) == 2:
            moving["target"].set_data(*target[list(shown)][:, None])
        if self.cloud is not None:
            moving["start"].set_data(*start[list(shown)][:, None])
        return canvas.png(text)
