"""Steer by hand, compare two laws, browse the dataset, go back in training."""

import functools
import math

import numpy as np
import torch

from trc_lib.course import plots
from trc_lib.course.widgets.scene import SteeringScene
from trc_lib.course.widgets.shell import (
    Shell,
    button,
    choice,
    counter,
    slider,
    state_sliders,
)
from trc_lib.data.sampling import box
from trc_lib.evaluation import final_error
from trc_lib.systems import DoubleIntegrator
from trc_lib.teachers import MinimumEnergyController, SampledContinuousController, Teacher

BOX = 2.5  # half the side of the cart's box of states (m, m/s)
KNOTS = 5
ENERGY_TO_WIN = 1.2  # times the least


class Playground:
    """A game: steer [0, 0] -> [1, 0] by controls through a few knots."""

    def __init__(self):
        self.teacher = MinimumEnergyController()
        self.system, self.horizon = self.teacher.system, self.teacher.horizon
        self.start, self.target = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
        self.optimum = self.teacher.solve(self.start, self.target)
        self.extra = torch.zeros_like(self.optimum)                # added by the buttons, [N, 1]
        C = self.system.controllability_matrix(self.horizon)
        self.row_space, _ = torch.linalg.qr(C.T)                   # [N, 2]
        self.generator = torch.Generator().manual_seed(0)
        self.duration = self.horizon * self.system.dt
        looks = {"you": plots.LOOKS["network"], "optimum": plots.OPTIMUM}
        self.scene = SteeringScene(self.system, looks, self.duration)

    def add(self, part):
        """Add random controls of norm 0.3; a ``"wiggle"`` leaves the final state as it was."""
        w = torch.randn(self.horizon, generator=self.generator, dtype=torch.float64)
        in_row_space = self.row_space @ (self.row_space.T @ w)
        w = w - in_row_space if part == "wiggle" else in_row_space
        self.extra = self.extra + (0.3 * w / w.norm())[:, None]

    def controls(self, *knots):
        """``[N, 1]``: straight lines through the knots, plus what the buttons have added."""
        middle = (np.arange(self.horizon) + 0.5) / self.horizon
        lines = np.interp(middle, np.linspace(0, 1, KNOTS), knots)
        return torch.from_numpy(lines)[:, None] + self.extra

    def draw(self, **knots):
        """The picture for the knots' values, as PNG bytes."""
        controls = self.controls(*knots.values())
        error = final_error(self.system, self.start, self.target, controls).item()
        energy = (controls.square().sum() / self.optimum.square().sum()).item()
        close = self.teacher.success
        won = error < close and energy < ENERGY_TO_WIN
        text = (f"you end {error:.3f} from the target, with {energy:.2f} times the least energy: "
                + ("you win" if won else f"to win, end within {close:g} with less than "
                                         f"{ENERGY_TO_WIN:g} times the least energy"))
        return self.scene.draw(self.system, self.start,
                               {"you": controls, "optimum": self.optimum}, self.target, text)


def playground():
    """The widget: a slider for each knot, buttons for a wiggle, a nudge and a new start."""
    game = Playground()
    times = np.linspace(0, game.duration, KNOTS)
    knots = {f"knot_{k}": slider(0.0, -0.6, 0.6, 0.01, f"u at {time:.1f} s (m/s²)")
             for k, time in enumerate(times)}

    def add(part):
        game.add(part)
        shell.redraw()

    def start_over():
        game.extra = torch.zeros_like(game.extra)
        shell.set(**dict.fromkeys(knots, 0.0))

    shell = Shell(game.draw, knots, (
        button("add a null-space wiggle", lambda: add("wiggle"), "220px"),
        button("add a row-space nudge", lambda: add("nudge"), "220px"),
        button("start over", start_over, "220px")))
    return shell


def teacher_explorer():
    """The widget: the exact law and the sampled continuous law, for any problem and horizon."""
    laws = {"continuous law, sampled": SampledContinuousController,
            "optimum": MinimumEnergyController}
    looks, usual = {name: plots.LOOKS[name] for name in laws}, MinimumEnergyController()

    low_and_high = box("BOX", BOX, 2)[1:]

    @functools.lru_cache(4)
    def scene(duration):
        return SteeringScene(usual.system, looks, duration, box=low_and_high)

    def draw(horizon, dt, **states):
        x0, xT = torch.tensor([*states.values()], dtype=torch.float64).split(2)
        system = DoubleIntegrator(dt)
        controls = {name: law(system, horizon).solve(x0, xT) for name, law in laws.items()}
        sampled, exact = (final_error(system, x0, xT, u).item() for u in controls.values())
        text = (f"{horizon} steps of {dt:.2f} s: the sampled law ends {sampled:.4f} from the "
                f"target, the exact law {exact:.4f}")
        duration = 2.5 * math.ceil(horizon * dt / 2.5)  # rounded up, for few scenes
        return scene(duration).draw(system, x0, controls, xT, text)

    target = torch.tensor([1.0, 0.0])
    return Shell(draw, state_sliders(usual.system, *low_and_high, target) | {
        "horizon": counter("steps", 60, usual.horizon, low=2),
        "dt": slider(usual.system.dt, 0.05, 0.5, 0.01, "dt (s)")})


def dataset_browser(dataset, shown=(0, 1)):
    """The widget: one sample and where its start lies among the others, by order and place.

    Args:
        dataset: an `LQRDataset`.
        shown: the two components of the state in the phase plane; the first is drawn over time.
    """
    teacher, system = dataset.teacher, dataset.system
    costs = teacher.cost(dataset.initial_states, dataset.target_states, dataset.controls)
    cheapest = costs.argsort()
    orders = {"cheapest first": cheapest, "costliest first": cheapest.flip(0),
              "as stored": torch.arange(len(dataset))}
    what, unit, size = "cost", "", float(costs.median())
    if type(teacher).cost is Teacher.cost:
        what, unit = "energy", plots.squared_unit(system)
    scene = SteeringScene(system, {"optimum": plots.OPTIMUM}, dataset.horizon * dataset.dt,
                          dataset.initial_states[:2000], shown,
                          box("state_range", dataset.state_range, system.state_dim)[1:])

    def draw(order, place):
        i = orders[order][place]
        x0, xT = dataset.initial_states[i], dataset.target_states[i]
        text = f"sample {i}: least {what} {plots.rounded(costs[i], size, 2)} {unit}"
        return scene.draw(system, x0, {"optimum": dataset.controls[i]}, xT, text.rstrip())

    return Shell(draw, {"order": choice(list(orders), "order"),
                        "place": counter("place", len(dataset) - 1)})
