"""Steer by hand, compare two laws, browse the dataset, go back in training."""

import functools
import math

import numpy as np
import torch

from trc_lib.course import plots
from trc_lib.course.widgets.scene import SteeringScene
from trc_lib.course.widgets.shell import (
    UNSOLVED,
    Shell,
    button,
    check_teacher,
    choice,
    counter,
    is_cart,
    own_copy,
    slider,
    state_box,
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


def time_machine(model, snapshots, teacher=None, state_range=None, shown=(0, 1)):
    """The widget: the network of any epoch of a training, by cycle, start and target.

    Args:
        model: a network of the kind that was trained.
        snapshots: ``{epoch: weights}``, as `load_snapshots` returns them.
        teacher: gives the optimum; none is drawn if None, except for a cart without limits.
        state_range: the box of the sliders, as in `Sampler`; may be None for a cart.
        shown: as in `dataset_browser`.

    Raises:
        ValueError: if the teacher is for another system or horizon, or the box is missing.
    """
    model, system, horizon = own_copy(model), model.system, model.config.horizon
    if teacher is None and is_cart(system) and system.control_limit is None:
        teacher = MinimumEnergyController(system, horizon)
    if teacher is not None:
        check_teacher(teacher, model)
    low, high = state_box(system, state_range, BOX if is_cart(system) else None)
    names = ("network",) if teacher is None else ("network", "optimum")
    scene = SteeringScene(system, {name: plots.LOOKS[name] for name in names}, horizon * system.dt,
                          shown=shown, box=(low, high))

    @functools.lru_cache(maxsize=128)
    @torch.no_grad()
    def cycles(problem, epoch):
        model.load_state_dict(snapshots[epoch])
        x0, xT = torch.tensor([problem]).split(system.state_dim, dim=1)
        return model(x0, xT)["cycle_controls"][:, 0].double()

    def draw(epoch, cycle, **states):
        problem = tuple(states.values())
        x0, xT = torch.tensor(problem, dtype=torch.float64).split(system.state_dim)
        controls, solved = {"network": cycles(problem, epoch)[cycle]}, True
        if teacher is not None:
            controls["optimum"], solved = teacher.try_solve(x0, xT)            # NaN is not drawn
        error = final_error(system, x0, xT, controls["network"]).item()
        text = (f"after epoch {epoch}, {f'cycle {cycle}' if cycle else 'first proposal'}: "
                f"ends {plots.rounded(error, max(map(abs, problem)))} from the target")
        return scene.draw(system, x0, controls, xT, text + ("" if solved else UNSOLVED))

    epoch = choice(sorted(snapshots), "after epoch")
    epoch.value = max(snapshots)
    cycle = counter("H cycle", model.config.H_cycles)
    target = (low + high) / 2
    target[0] += 0.2 * (high - low)[0]
    return Shell(draw, {"epoch": epoch, "cycle": cycle} | state_sliders(system, low, high, target))
