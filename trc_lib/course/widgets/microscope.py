"""The refinement microscope: one problem through every H cycle and every L step."""

import functools
import itertools
import math

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure

from trc_lib import validation
from trc_lib.course import plots
from trc_lib.course.widgets.canvas import Canvas
from trc_lib.course.widgets.scene import KEPT, view
from trc_lib.course.widgets.shell import (
    UNSOLVED,
    Shell,
    button,
    choice,
    counter,
    cycle_player,
    own_copy,
    state_sliders,
    widened,
)
from trc_lib.data.sampling import box
from trc_lib.evaluation import cycle_controls, decompose_error, final_error

SWITCHES = ("as trained", "feedback off", "z_H frozen", "z_L zero", "latents swapped")
OTHER_PROBLEM = (-2.0, 1.0, 1.0, -1.0)  # p, v, p, v: latents are swapped with this one


def refine(model, x0, xT, H_cycles=None, switch="as trained"):
    """The `Trace` of a run in which one thing is changed, by forward hooks on the network.

    Args:
        model: a `TinyRecursiveControl`.
        x0, xT: ``[batch, state_dim]``.
        H_cycles: how many cycles; those of the configuration if None.
        switch: one of `SWITCHES`. With ``"latents swapped"`` each problem continues with the
            latents of the problem at the other end of the batch, from the start of cycle 2.
    """
    validation.one_of("switch", switch, SWITCHES)
    if switch == "latents swapped":
        first = model.trace(x0, xT, 1)
        z_H, z_L, controls = first.carry
        H_cycles = model.config.H_cycles if H_cycles is None else H_cycles
        carry = z_H.flip(0), z_L.flip(0), controls
        return first.followed_by(model.trace(x0, xT, H_cycles - 1, carry))
    z_initial, calls = model.trace(x0, xT, 0).z_initial, itertools.count(1)

    def on_block(block, inputs, latent):
        updates_z_H = next(calls) % (model.config.L_cycles + 1) == 0
        if switch == "z_H frozen" and updates_z_H:
            return z_initial
        return torch.zeros_like(latent) if switch == "z_L zero" and not updates_z_H else latent

    def on_feedback(feedback, inputs, output):
        signal, gain = output
        return torch.zeros_like(signal) if switch == "feedback off" else signal, gain

    source = getattr(model.feedback, "inner", model.feedback)
    with model.block.register_forward_hook(on_block), source.register_forward_hook(on_feedback):
        return model.trace(x0, xT, H_cycles)


class Microscope:
    """The picture of one refinement, which is computed once for each problem and switch.

    Args:
        model, H_cycles, shown: as in `microscope`.
        teacher: gives the optimum.
        other: the problem that latents are swapped with, start and target, ``2 * state_dim``
            numbers.
        box: the lowest and the highest states, for the axes, as in `scene.view`.
    """

    def __init__(self, model, teacher, H_cycles=10, other=OTHER_PROBLEM, shown=(0, 1), box=None):
        self.model = own_copy(model)  # the switches put hooks on it
        self.teacher, self.H_cycles, self.other, self.box = teacher, H_cycles, other, box
        self.shown = plots.components(model.system, shown)
        self.compute = functools.lru_cache(maxsize=32)(self._compute)
        self.scene = functools.lru_cache(KEPT)(self._build)

    def _compute(self, problem, switch):
        """All that the picture of a problem, start and target, shows: arrays by name."""
        problems, n = [problem, self.other], self.model.system.state_dim
        problems = problems if switch == "latents swapped" else problems[:1]
        x0, xT = torch.tensor(problems, dtype=torch.float64).split(n, dim=1)
        trace = refine(self.model, x0, xT, self.H_cycles, switch).one(0)
        x0, xT, controls, system = x0[0], xT[0], trace.controls.double(), self.model.system
        optimum, solved = self.teacher.try_solve(x0, xT)                   # NaN is not drawn
        errors = final_error(system, x0, xT, controls)
        if self.teacher.has_ruler:
            first, second = decompose_error(system, controls, optimum.expand_as(controls))
        else:
            first, second = errors, (controls - optimum).square().sum(dim=(-2, -1))
        z_L = torch.cat([trace.z_L[0, :1], *trace.z_L[:, 1:]])           # [H * L + 1, latent_dim]
        seen = {"controls": controls, "optimum": optimum, "target": xT,
                "states": system.rollout(x0.expand(len(controls), n), controls),
                "optimal_states": system.rollout_unchecked(x0, optimum), "errors": errors,
                "first": first, "second": second,
                "z_H": trace.z_H, "moved_H": trace.z_H.diff(dim=0).norm(dim=-1).clamp(min=1e-6),
                "z_L": z_L, "moved_L": z_L.diff(dim=0).norm(dim=-1).clamp(min=1e-6)}
        return {name: value.numpy() for name, value in seen.items()} | {"solved": bool(solved)}

    def view(self, seen, cycle):
        """The ends of the axes: of controls, of the states shown, and of what is off.

        They hold all cycles of the trained depth and the chosen one, so that they change little.
        """
        at = [*range(min(self.model.config.H_cycles, self.H_cycles) + 1), cycle]
        controls, states = (
            np.concatenate([seen[name][at].reshape(-1, seen[name].shape[-1]), *more])
            for name, more in (("controls", [seen["optimum"]]),
                               ("states", [seen["optimal_states"], seen["target"][None]])))
        return (*view(self.model.system, self.shown, self.box, controls, states),
                decades(seen["first"], seen["second"]))

    def _build(self, ranges):
        """The `Canvas` with the axes of a `view`."""
        c, system, H = self.model.config, self.model.system, self.H_cycles
        m, steps, top = system.control_dim, H * c.L_cycles, max(3.3, 1.4 * system.control_dim)
        figure = Figure(figsize=(12, top + 3.3), layout="constrained")
        grid = figure.add_gridspec(2, 3, height_ratios=(top, 3.3))
        inputs = plots.stacked(figure, grid[0, 0], m)
        middle, right, low_left, low_middle, low_right = (
            figure.add_subplot(grid[i]) for i in range(1, 6))
        network, zeros = {"linewidth": 2.6} | plots.LOOKS["network"], np.zeros(c.horizon)
        moving, still = {}, {}

        for i, axes in enumerate(inputs):
            moving["controls", i] = plots.draw_controls(axes, system.dt, zeros, label="network",
                                                        **network)
            moving["optimum", i] = plots.draw_controls(axes, system.dt, zeros, label="optimum",
                                                       **plots.OPTIMUM)
        plots.label_inputs(inputs, system, limits=ranges)
        inputs[0].legend(loc="upper right")

        moving["states"], = middle.plot([], [], **network)
        moving["end"], = middle.plot([], [], "o", markersize=7, **network)
        moving["optimal_states"], = middle.plot([], [], **plots.OPTIMUM)
        moving["target"], = middle.plot([], [], **plots.CROSS)
        duration = system.dt * c.horizon
        across = ranges[m] if len(self.shown) == 2 else (0, 1.04 * duration)
        plots.label_phase_plane(middle, system, "where they lead", self.shown, xlim=across,
                                ylim=ranges[-2])

        if self.teacher.has_ruler:
            names, title = ("terminal error", "excess energy"), "the ruler, cycle by cycle"
            unit = plots.squared_unit(system)
            ylabel = f"squared length ({unit})" if unit else "squared length"
        else:
            names, title = ("final error", "|u − u*|²"), "how far off, cycle by cycle"
            ylabel = "final error; squared length"
        for part, name, style, color in (("first", names[0], "o-", "#0072B2"),
                                         ("second", names[1], "s--", "#E69F00")):
            still[part], = right.plot(range(H + 1), np.ones(H + 1), style, color=color,
                                      markersize=4, label=name)
        right.axvspan(c.H_cycles, H, color="0.93", zorder=0)
        right.set(xlabel="cycle (grey: beyond the trained depth)", ylabel=ylabel, yscale="log",
                  ylim=ranges[-1], title=title)
        right.legend(loc="upper left")

        for name, axes, last, label in (("z_H", low_left, H, "cycle"),
                                        ("z_L", low_middle, steps, "L steps, all cycles")):
            still[name] = axes.imshow(np.zeros((c.latent_dim, last + 1)), **plots.LATENTS,
                                      extent=(-0.5, last + 0.5, c.latent_dim, 0))
            axes.set(xlabel=label, ylabel=f"component of {name}", title=name)
            axes.grid(False)

        still["moved_H"], = low_right.plot(np.arange(1, H + 1) * c.L_cycles, np.ones(H), "ko-",
                                           markersize=4, label="z_H")
        still["moved_L"], = low_right.plot(np.arange(1, steps + 1), np.ones(steps), ".-",
                                           color="#009E73", label="z_L")
        low_right.set(xlabel="L steps, all cycles", ylabel="distance moved", yscale="log",
                      ylim=(1e-4, 30), title="how far the latents moved")
        low_right.legend(loc="upper right")

        for name, axes in (("at_cycle", right), ("at_H", low_left),
                           ("at_L", low_middle), ("at_moved", low_right)):
            moving[name] = axes.axvline(0, color="black", linewidth=1.2)
        return Canvas(figure, moving, still)

    def draw(self, switch, cycle, step, **states):
        """The picture ``step`` L steps after the end of ``cycle``, as PNG bytes.

        Args:
            switch: one of `SWITCHES`.
            cycle, step: the moment.
            states: the components of the start, then of the target.
        """
        problem = tuple(states.values())
        seen, dt, shown = self.compute(problem, switch), self.model.system.dt, self.shown
        controls, states = seen["controls"][cycle], seen["states"][cycle]
        ranges = self.view(seen, cycle)
        canvas = self.scene(ranges)
        moving = canvas.moving
        if getattr(canvas, "seen", None) is not seen:  # a step changes the moving artists only
            for name in ("first", "second"):
                canvas.still[name].set_ydata(seen[name].clip(min=ranges[-1][0] / 1000))
            for name in ("moved_H", "moved_L"):
                canvas.still[name].set_ydata(seen[name])
            for name in ("z_H", "z_L"):
                canvas.still[name].set_data(seen[name].T)
            canvas.settle()
            canvas.seen = seen
        for name, values in (("controls", controls), ("optimum", seen["optimum"])):
            for i, control in enumerate(values.T):
                moving[name, i].set_data(*plots.levels(dt, control))
        moving["states"].set_data(*plots.plane(dt, states, shown))
        moving["optimal_states"].set_data(*plots.plane(dt, seen["optimal_states"], shown))
        for name, state in (("end", states[-1]), ("target", seen["target"])):
            place = plots.at_end(dt, len(controls), state, shown)
            moving[name].set_data(*np.reshape(place, (2, 1)))
        moment = min(cycle * self.model.config.L_cycles + step, len(seen["z_L"]) - 1)
        for name, at in (("at_cycle", cycle), ("at_H", cycle),
                         ("at_L", moment), ("at_moved", moment)):
            moving[name].set_xdata([at, at])
        error = plots.rounded(seen["errors"][cycle], max(map(abs, problem)))
        text = (f"after cycle {cycle} and {step} L steps more, {switch}: "
                f"these controls end {error} from the target")
        return canvas.png(text + ("" if seen["solved"] else UNSOLVED))


def decades(*values):
    """The ends of a log axis that holds the largest of ``values`` and much smaller ones."""
    values = np.concatenate(values)
    largest = values[np.isfinite(values)].max(initial=0)
    if largest == 0 or 1e-4 < largest <= 100:
        return 1e-9, 1e2
    top = 10.0 ** (3 * math.ceil(math.log10(largest) / 3))
    return 1e-11 * top, top


def microscope(model, dataset, H_cycles=10, shown=(0, 1)):
    """The widget: choose a problem, step or play through its cycles, throw switches.

    Args:
        model: a `TinyRecursiveControl`.
        dataset: has the samples to choose from, and the teacher.
        H_cycles: how many cycles to run, also beyond the trained depth.
        shown: the two components of the state in the phase plane.

    Raises:
        ValueError: if the dataset has another system or horizon than the model.
    """
    model.check_fit(dataset, "dataset")
    system = model.system
    starts, targets = (box(name, getattr(dataset, name), system.state_dim)[1:]
                       for name in ("state_range", "target_range"))
    states = torch.cat([dataset.initial_states, dataset.target_states])
    low, high = widened(torch.stack([starts[0], targets[0], states.amin(dim=0)]).amin(dim=0),
                        torch.stack([starts[1], targets[1], states.amax(dim=0)]).amax(dim=0))
    middle, fifth = (low + high) / 2, (high - low) / 5
    signs = (-1.0) ** torch.arange(system.state_dim)
    other = middle + fifth * torch.where(signs > 0, -2, 1), middle + fifth * signs
    target = (targets[0] + targets[1]) / 2
    target[0] += (targets[1] - targets[0])[0] / 5
    scope = Microscope(model, dataset.teacher, H_cycles, tuple(torch.cat(other).tolist()), shown,
                       (low, high))
    states = state_sliders(system, low, high, target, (starts[0] + starts[1]) / 2)
    cycle, play = cycle_player(H_cycles)
    number = ipywidgets.BoundedIntText(max=len(dataset) - 1, description="sample",
                                       style={"description_width": "initial"})

    def show(change):
        problem = dataset[change["new"]]
        values = *problem["initial_state"].tolist(), *problem["target_state"].tolist()
        shell.set(**dict(zip(states, values)))

    def show_worst():
        controls = cycle_controls(model, dataset)[-1]
        errors = final_error(dataset.system, dataset.initial_states, dataset.target_states,
                             controls)
        number.value = int(errors.argmax())

    number.observe(show, names="value")
    shell = Shell(scope.draw, states | {
        "switch": choice(SWITCHES, "switch"), "cycle": cycle,
        "step": counter("L step", model.config.L_cycles),
    }, (play, number, button("the worst sample", show_worst)))
    return shell
