"""The phase-plane explorer: optimum, network and free motion of an oscillator from any start."""

import numpy as np
import torch
from matplotlib.figure import Figure

from trc_lib import validation
from trc_lib.course import plots
from trc_lib.course.widgets.canvas import Canvas
from trc_lib.course.widgets.shell import Shell, cycle_player, own_copy, slider
from trc_lib.evaluation import final_error

LIMIT = 2.0  # half the side of the square of starts
SETTLING = 60  # seconds until free motion is on the limit cycle, and longer than one round of it


def limit_cycle(system, start=(2.0, 0.0)):
    """Free motion ``[steps, 2]`` once round the limit cycle; a single state if at rest."""
    settling = round(SETTLING / system.dt)
    free = torch.zeros(3 * settling, system.control_dim, dtype=torch.float64)
    start = torch.tensor(start, dtype=torch.float64)
    states = system.rollout_unchecked(start, free)[settling:].numpy()
    upwards = np.flatnonzero((states[:-1, 0] < 0) & (states[1:, 0] >= 0))
    return states[upwards[0]:upwards[1] + 2] if len(upwards) > 1 else states[-1:]


class PhasePlane:
    """The picture for a start on a grid; all starts are solved beforehand, for speed."""

    def __init__(self, model, teacher, points=21, H_cycles=6):
        self.points = validation.whole("points", points, at_least=2)
        if not teacher.system.same_as(model.system):
            raise ValueError(f"teacher is for another system, {teacher.system!r}, than the model, "
                             f"{model.system!r}")
        model = own_copy(model)
        self.system = system = model.system
        axis = torch.linspace(-LIMIT, LIMIT, points, dtype=torch.float64)
        starts = torch.cartesian_prod(axis, axis)                             # [points**2, 2]
        targets = torch.zeros_like(starts)
        optimum, _ = teacher.try_solve(starts, targets)                       # NaN if unsolved
        with torch.no_grad():                                    # [H + 1, points**2, N, 1]
            cycles = model(starts, targets, H_cycles)["cycle_controls"].double()
        least = teacher.cost(starts, targets, optimum)
        self.gaps = teacher.cost(starts, targets, cycles) / least - 1         # [H + 1, points**2]
        self.errors = final_error(system, starts, targets, cycles)
        self.controls = {"no push at all": torch.zeros_like(optimum)[None], "network": cycles,
                         "optimum": optimum[None]}
        self.states = {name: system.rollout_unchecked(starts, controls)
                       for name, controls in self.controls.items()}

        figure = Figure(figsize=(11, 4.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot(*limit_cycle(system).T, color="0.8", linewidth=6, zorder=0, label="limit cycle")
        moving = {}
        for name in self.controls:
            look = {"linewidth": 2.4} | plots.LOOKS[name]
            moving["states", name], = left.plot([], [], label=name, **look)
        moving["start"], = left.plot([], [], "o", color="black", markersize=8, zorder=6)
        left.plot(0, 0, **plots.CROSS)
        plots.label_phase_plane(left, system.units, "where it goes (dot: start, cross: rest)",
                                xlim=(-3.2, 3.2), ylim=(-4, 4))
        left.legend(loc="upper right", fontsize="small")
        for name in ("network", "optimum"):
            moving["controls", name] = plots.draw_controls(
                right, system.dt, torch.zeros(teacher.horizon), **plots.LOOKS[name])
        reach = 4.0 if system.control_limit is None else 1.1 * float(system.control_limit.max())
        plots.label_controls(right, system.units, "what pushes it", ylim=(-reach, reach))
        self.canvas = Canvas(figure, moving)

    def index(self, position, velocity):
        """The number of the start on the grid that is nearest to [position, velocity]."""
        nearest = (np.array([position, velocity]) + LIMIT) / (2 * LIMIT) * (self.points - 1)
        row, column = nearest.round().clip(0, self.points - 1).astype(int)
        return row * self.points + column

    def draw(self, start_position, start_velocity, cycle):
        """The picture after ``cycle`` cycles from the nearest start of the grid, as PNG bytes."""
        i, moving = self.index(start_position, start_velocity), self.canvas.moving
        for name, controls in self.controls.items():
            h = cycle if name == "network" else 0
            moving["states", name].set_data(*self.states[name][h, i].T)
            if name != "no push at all":
                moving["controls", name].set_data(*plots.levels(self.system.dt, controls[h, i]))
        moving["start"].set_data(*self.states["network"][0, i, :1].T)
        gap, error = self.gaps[cycle, i], self.errors[cycle, i]
        cost = (f"costs {100 * gap:.3f} % more than the optimum" if gap.isfinite()
                else "no optimum to compare with")
        return self.canvas.png(f"after cycle {cycle}: {cost}, ends {error:.4f} from rest")


def phase_plane(model, teacher, points=21, H_cycles=6):
    """The widget: sliders for the start and the cycle.

    Args:
        model: a `TinyRecursiveControl` of a system with two states and one control.
        teacher: gives the optimum.
        points: starts along each side of the grid.
        H_cycles: how many cycles to run.

    Raises:
        ValueError: if the teacher has another system than the model.
    """
    plane, units = PhasePlane(model, teacher, points, H_cycles), model.system.units
    step = 2 * LIMIT / (points - 1)
    cycle, play = cycle_player(H_cycles)
    return Shell(plane.draw, {
        "start_position": slider(1.0, -LIMIT, LIMIT, step, f"start position{units[0]}"),
        "start_velocity": slider(1.0, -LIMIT, LIMIT, step, f"start velocity{units[1]}"),
        "cycle": cycle}, (play,))
