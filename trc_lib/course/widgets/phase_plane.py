"""The phase-plane explorer: optimum, network and free motion of an oscillator from any start."""

import numpy as np
import torch
from matplotlib.figure import Figure

from trc_lib import validation
from trc_lib.course import plots
from trc_lib.course.widgets.canvas import Canvas
from trc_lib.course.widgets.shell import (
    Shell,
    check_teacher,
    cycle_player,
    own_copy,
    slider,
    state_box,
)
from trc_lib.evaluation import final_error
from trc_lib.systems import VanDerPol

BOX = 2.0  # half the side of the square of starts of the course's oscillator
SETTLING = 60  # seconds until free motion is on the limit cycle, and longer than one round of it
MOST_STEPS = 2_000  # for as long


def limit_cycle(system, start=(2.0, 0.0)):
    """Free motion ``[steps, 2]`` once round the limit cycle; a single state if at rest."""
    settling = min(round(SETTLING / system.dt), MOST_STEPS)
    free = torch.zeros(3 * settling, system.control_dim, dtype=torch.float64)
    start = torch.as_tensor(start, dtype=torch.float64)
    states = system.rollout_unchecked(start, free)[settling:].numpy()
    upwards = np.flatnonzero((states[:-1, 0] < 0) & (states[1:, 0] >= 0))
    return states[upwards[0]:upwards[1] + 2] if len(upwards) > 1 else states[-1:]


def _ends(low, high, values):
    """``low`` and ``high``, or further apart where the finite ``values`` need it."""
    values, margin = values[np.isfinite(values)], 0.05 * (high - low)
    least, largest = values.min(initial=low), values.max(initial=high)
    return (low if least == low else least - margin,
            high if largest == high else largest + margin)


def has_limit_cycle(system, cycle, start):
    """Whether ``cycle`` is one, and free motion from half of its ``start`` ends on the same."""
    if len(cycle) == 1 or not np.isfinite(cycle).all():
        return False
    sizes = [abs(each).max(axis=0) for each in (cycle, limit_cycle(system, start / 2))]
    return bool((abs(sizes[0] - sizes[1]) < 0.05 * sizes[0]).all())


class PhasePlane:
    """The picture for a start on a grid; all starts are solved beforehand, for speed."""

    def __init__(self, model, teacher, points=21, H_cycles=6, state_range=None):
        self.points = points = validation.whole("points", points, at_least=2)
        check_teacher(teacher, model)
        model = own_copy(model)
        self.system = system = model.system
        plots.two_states(system)
        if system.control_dim != 1:
            raise ValueError(f"system={system!r} has {system.control_dim} controls; "
                             "this picture needs 1")
        usual = BOX if isinstance(system, VanDerPol) else None
        self.low, self.high = state_box(system, state_range, usual)
        starts = torch.cartesian_prod(*(                                      # [points**2, 2]
            torch.linspace(float(low), float(high), points, dtype=torch.float64)
            for low, high in zip(self.low, self.high)))
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
        self.size = float(torch.maximum(self.low.abs(), self.high.abs()).max())

        figure = Figure(figsize=(11, 4.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        moving, middle, half = {}, (self.low + self.high) / 2, (self.high - self.low) / 2
        runs = [self.states[name].flatten(0, 2).numpy() for name in ("network", "optimum")]
        corner = torch.stack([self.high[0], torch.zeros_like(self.high[0])])
        cycle = limit_cycle(system, corner)
        if has_limit_cycle(system, cycle, corner):
            left.plot(*cycle.T, color="0.8", linewidth=6, zorder=0, label="limit cycle")
            runs.append(cycle)
        for name in self.controls:
            look = {"linewidth": 2.4} | plots.LOOKS[name]
            moving["states", name], = left.plot([], [], label=name, **look)
        moving["start"], = left.plot([], [], "o", color="black", markersize=8, zorder=6)
        left.plot(0, 0, **plots.CROSS)
        room, runs = torch.tensor([1.6, 2.0]) * half, np.concatenate(runs)
        xlim, ylim = map(_ends, (middle - room).tolist(), (middle + room).tolist(), runs.T)
        plots.label_phase_plane(left, system, "where it goes (dot: start, cross: rest)",
                                xlim=xlim, ylim=ylim)
        left.legend(loc="upper right", fontsize="small")
        for name in ("network", "optimum"):
            moving["controls", name] = plots.draw_controls(
                right, system.dt, torch.zeros(teacher.horizon), **plots.LOOKS[name])
        plots.label_controls(right, system, "what pushes it", ylim=self._control_axis())
        self.canvas = Canvas(figure, moving)

    def _control_axis(self):
        """The limits of the control, or where there is none what the runs need, and a margin."""
        values = torch.cat([self.controls[name].flatten() for name in ("network", "optimum")])
        values = values[values.isfinite()]
        low, high = (float(bound) if bound.isfinite() else 0.0 for bound in self.system.bounds)
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        margin = 0.05 * (high - low)
        return low - margin, high + margin

    def index(self, *start):
        """The number of the start on the grid that is nearest to ``start``, two numbers."""
        share = (torch.tensor(start) - self.low) / (self.high - self.low)
        row, column = (share * (self.points - 1)).round().clamp(0, self.points - 1).int().tolist()
        return row * self.points + column

    def draw(self, start_0, start_1, cycle):
        """The picture after ``cycle`` cycles from the nearest start of the grid, as PNG bytes."""
        i, moving = self.index(start_0, start_1), self.canvas.moving
        for name, controls in self.controls.items():
            h = cycle if name == "network" else 0
            moving["states", name].set_data(*self.states[name][h, i].T)
            if name != "no push at all":
                moving["controls", name].set_data(*plots.levels(self.system.dt, controls[h, i]))
        moving["start"].set_data(*self.states["network"][0, i, :1].T)
        gap, error = self.gaps[cycle, i], self.errors[cycle, i]
        cost = (f"costs {100 * gap:.3f} % more than the optimum" if gap.isfinite()
                else "no optimum to compare with")
        error = plots.rounded(error, self.size)
        return self.canvas.png(f"after cycle {cycle}: {cost}, ends {error} from rest")


def phase_plane(model, teacher, points=21, H_cycles=6, state_range=None):
    """The widget: sliders for the start and the cycle; the target is the origin.

    Args:
        model: a `TinyRecursiveControl` of a system with two states and one control.
        teacher: gives the optimum.
        points: starts along each side of the grid.
        H_cycles: how many cycles to run.
        state_range: the box of the starts, as in `Sampler`; may be None for a `VanDerPol`.

    Raises:
        ValueError: if the teacher has another system or horizon than the model, the system has
            other sizes, or the box is missing.
    """
    plane = PhasePlane(model, teacher, points, H_cycles, state_range)
    cycle, play = cycle_player(H_cycles)
    starts = {f"start_{i}": slider(float(low + 0.75 * (high - low)), float(low), float(high),
                                   float(high - low) / (points - 1), f"start {label}")
              for i, (low, high, label) in enumerate(zip(plane.low, plane.high,
                                                         plane.system.state_labels))}
    return Shell(plane.draw, starts | {"cycle": cycle}, (play,))
