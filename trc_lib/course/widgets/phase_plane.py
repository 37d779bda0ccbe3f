"""The phase-plane explorer: an oscillator's start on sliders; optimum, network cycle by cycle, and what it does by itself."""

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure

from trc_lib import validation
from trc_lib.course import plots
from trc_lib.course.widgets.canvas import Canvas, set_controls
from trc_lib.course.widgets.shell import LABEL, Shell, slider
from trc_lib.evaluation import final_error

SECONDS_TO_SETTLE = 60  # after which an oscillator that is left alone runs on its limit cycle, which takes no longer than that


def limit_cycle(system, start=(2.0, 0.0)):
    """One round and a little more of where ``system`` ends up without control, ``[steps, 2]``; a point where it comes to rest."""
    still = torch.zeros(round(3 * SECONDS_TO_SETTLE / system.dt), system.control_dim, dtype=torch.float64)
    states = system.rollout_unchecked(torch.tensor(start, dtype=torch.float64), still)[round(SECONDS_TO_SETTLE / system.dt):].numpy()
    upwards = ((states[:-1, 0] < 0) & (states[1:, 0] >= 0)).nonzero()[0]                        # through x = 0, to the right
    return states[upwards[0]:upwards[1] + 2] if len(upwards) > 1 else states[-1:]


class PhasePlane:
    """The picture for a start on a grid; everything is solved beforehand, so that a slider only looks up.

    Args:
        model: a `TinyRecursiveControl` of a system with two states and one control.
        teacher: who knows the optimum.
        limit: half the side of the square of starts. points: starts along each side. H_cycles: how many cycles to run.
    """

    def __init__(self, model, teacher, limit=2.0, points=21, H_cycles=6):
        validation.whole("points", points, at_least=2)
        validation.positive("limit", limit)
        if not teacher.system.same_as(model.system):
            raise ValueError(f"teacher is for another system, {teacher.system!r}, than the model, {model.system!r}")
        self.model, self.teacher, self.limit, self.points = model.cpu().eval(), teacher, limit, points
        axis = torch.linspace(-limit, limit, points, dtype=torch.float64)
        starts = torch.cartesian_prod(axis, axis)                                               # [points**2, 2]
        targets, system = torch.zeros_like(starts), model.system
        optimum, _ = teacher.try_solve(starts, targets)                                           # NaN where it found none
        with torch.no_grad():
            cycles = model(starts, targets, H_cycles)["cycle_controls"].double()                # [H + 1, points**2, N, 1]
        best = teacher.cost(starts, targets, optimum)
        self.gaps = (teacher.cost(starts, targets, cycles) / best - 1).numpy()                  # [H + 1, points**2]
        self.errors = final_error(system, starts, targets, cycles).numpy()
        self.runs = {"network": (system.rollout_unchecked(starts, cycles).numpy(), cycles.numpy()),
                     "optimum": (system.rollout_unchecked(starts, optimum).numpy()[None], optimum.numpy()[None]),
                     "no push at all": (system.rollout_unchecked(starts, torch.zeros_like(optimum)).numpy()[None], None)}

        figure = Figure(figsize=(11, 4.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        self.parts, edges = {}, system.dt * np.arange(model.config.horizon + 1)
        left.plot(*limit_cycle(system).T, color="0.8", linewidth=6, zorder=0, label="limit cycle")
        for name in ("no push at all", "network", "optimum"):
            self.parts["states", name], = left.plot([], [], label=name, **({"linewidth": 2.4} | plots.LOOKS[name]))
        self.parts["start"], = left.plot([], [], "o", color="black", markersize=8, zorder=6)
        left.plot([0], [0], "x", color="black", markersize=10, markeredgewidth=2.5, zorder=6)
        left.set(xlabel=f"position{system.units[0]}", ylabel=f"velocity{system.units[1]}", xlim=(-3.2, 3.2), ylim=(-4, 4),
                 title="where it goes (dot: start, cross: rest)")
        left.legend(loc="upper right", fontsize="small")
        for name in ("network", "optimum"):
            look = {"linewidth": 2.4} | plots.LOOKS[name]
            self.parts["controls", name] = right.stairs(edges[1:], edges, baseline=None, **look)
        reach = 1.1 * float(system.control_limit.max()) if system.control_limit is not None else 4.0
        right.set(xlabel="time (s)", ylabel=f"control u{system.units[2]}", ylim=(-reach, reach), title="what pushes it")
        self.text = figure.suptitle(" ", x=0.01, ha="left", fontsize=12)
        self.canvas = Canvas(figure, [*self.parts.values(), self.text])

    def index(self, position, velocity):
        """The number of the start on the grid that is nearest to [position, velocity]."""
        step = 2 * self.limit / (self.points - 1)
        row, column = (int(np.clip(round((value + self.limit) / step), 0, self.points - 1)) for value in (position, velocity))
        return row * self.points + column

    def draw(self, start_position, start_velocity, cycle):
        """The picture after ``cycle`` cycles from the nearest start of the grid, as PNG bytes."""
        i = self.index(start_position, start_velocity)
        for name, (states, controls) in self.runs.items():
            h = cycle if name == "network" else 0
            self.parts["states", name].set_data(*states[h, i].T)
            if controls is not None:
                set_controls(self.parts["controls", name], controls[h, i], self.model.system.dt)
        start = self.runs["network"][0][0, i, 0]
        self.parts["start"].set_data(start[:1], start[1:])
        gap = self.gaps[cycle, i]
        cost = f"costs {100 * gap:.3f} % more than the optimum" if np.isfinite(gap) else "no optimum to compare with"
        self.text.set_text(f"after cycle {cycle}: {cost}, ends {self.errors[cycle, i]:.4f} from rest")
        return self.canvas.png()


def phase_plane(model, teacher, limit=2.0, points=21, H_cycles=6):
    """The widget: start on two sliders, cycle on a third."""
    plane = PhasePlane(model, teacher, limit, points, H_cycles)
    step = 2 * limit / (points - 1)
    controls = {"start_position": slider(1.0, -limit, limit, step, f"start position{model.system.units[0]}"),
                "start_velocity": slider(1.0, -limit, limit, step, f"start velocity{model.system.units[1]}"),
                "cycle": ipywidgets.IntSlider(value=0, min=0, max=H_cycles, description="H cycle", style=LABEL)}
    play = ipywidgets.Play(value=0, min=0, max=H_cycles, interval=700, description="play the cycles")
    ipywidgets.jslink((play, "value"), (controls["cycle"], "value"))
    return Shell(plane.draw, controls, extra=(play,))
