"""The refinement microscope: one problem through every H cycle and every L step."""

import functools
import itertools

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure

from trc_lib import validation
from trc_lib.course import plots
from trc_lib.course.widgets.canvas import Canvas
from trc_lib.course.widgets.scene import closest_view
from trc_lib.course.widgets.shell import (
    Shell,
    button,
    choice,
    counter,
    cycle_player,
    own_copy,
    state_sliders,
)
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
    """The picture of one refinement, which is computed once for each problem and switch."""

    def __init__(self, model, teacher, H_cycles=10):
        self.model = own_copy(model)  # the switches put hooks on it
        self.teacher, self.H_cycles = teacher, H_cycles
        self.compute = functools.lru_cache(maxsize=32)(self._compute)
        self.scene = functools.cache(self._build)
        self.settled = {}  # what the still artists of each scene show

    def _compute(self, problem, switch):
        """All that the picture of a problem (p, v, p, v) shows: arrays by name."""
        problems = [problem, OTHER_PROBLEM] if switch == "latents swapped" else [problem]
        x0, xT = torch.tensor(problems, dtype=torch.float64).split(2, dim=1)
        trace = refine(self.model, x0, xT, self.H_cycles, switch).one(0)
        x0, xT, controls, system = x0[0], xT[0], trace.controls.double(), self.model.system
        optimum, solved = self.teacher.try_solve(x0, xT)                   # NaN is not drawn
        errors = final_error(system, x0, xT, controls)
        if self.teacher.has_ruler:
            first, second = decompose_error(system, controls, optimum.expand_as(controls))
        else:
            first, second = errors, (controls - optimum).square().sum(dim=(-2, -1))
        z_L = torch.cat([trace.z_L[0, :1], *trace.z_L[:, 1:]])           # [H * L + 1, latent_dim]
        seen = {"controls": controls[..., 0], "optimum": optimum[:, 0], "target": xT,
                "states": system.rollout(x0.expand(len(controls), 2), controls),
                "optimal_states": system.rollout_unchecked(x0, optimum), "errors": errors,
                "first": first.clamp(min=1e-12), "second": second.clamp(min=1e-12),
                "z_H": trace.z_H, "moved_H": trace.z_H.diff(dim=0).norm(dim=-1).clamp(min=1e-6),
                "z_L": z_L, "moved_L": z_L.diff(dim=0).norm(dim=-1).clamp(min=1e-6)}
        return {name: value.numpy() for name, value in seen.items()} | {"solved": bool(solved)}

    def _build(self, view):
        """The `Canvas` with the axes of one of the `VIEWS`."""
        c, system, H = self.model.config, self.model.system, self.H_cycles
        steps, (control_range, position_range, velocity_range) = H * c.L_cycles, view
        figure = Figure(figsize=(12, 6.6), layout="constrained")
        (left, middle, right), (low_left, low_middle, low_right) = figure.subplots(2, 3)
        network, zeros = {"linewidth": 2.6} | plots.LOOKS["network"], np.zeros(c.horizon)
        moving, still = {}, {}

        moving["controls"] = plots.draw_controls(left, system.dt, zeros, label="network", **network)
        moving["optimum"] = plots.draw_controls(left, system.dt, zeros, label="optimum",
                                                **plots.OPTIMUM)
        plots.label_controls(left, system.units, ylim=(-control_range, control_range))
        left.legend(loc="upper right")

        moving["states"], = middle.plot([], [], **network)
        moving["end"], = middle.plot([], [], "o", markersize=7, **network)
        moving["optimal_states"], = middle.plot([], [], **plots.OPTIMUM)
        moving["target"], = middle.plot([], [], **plots.CROSS)
        plots.label_phase_plane(middle, system.units, "where they lead",
                                xlim=(-position_range, position_range),
                                ylim=(-velocity_range, velocity_range))

        if self.teacher.has_ruler:
            names, title = ("terminal error", "excess energy"), "the ruler, cycle by cycle"
            ylabel = "squared length ((m/s²)²)"
        else:
            names, title = ("final error", "|u − u*|²"), "how far off, cycle by cycle"
            ylabel = "final error; squared length"
        for part, name, style, color in (("first", names[0], "o-", "#0072B2"),
                                         ("second", names[1], "s--", "#E69F00")):
            still[part], = right.plot(range(H + 1), np.ones(H + 1), style, color=color,
                                      markersize=4, label=name)
        right.axvspan(c.H_cycles, H, color="0.93", zorder=0)
        right.set(xlabel="cycle (grey: beyond the trained depth)", ylabel=ylabel, yscale="log",
                  ylim=(1e-9, 1e2), title=title)
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

    def draw(self, start_position, start_velocity, target_position, target_velocity, switch,
             cycle, step):
        """The picture ``step`` L steps after the end of ``cycle``, as PNG bytes."""
        problem = (start_position, start_velocity, target_position, target_velocity)
        seen = self.compute(problem, switch)
        controls, states = seen["controls"][cycle], seen["states"][cycle]
        shown = (seen["optimum"], seen["optimal_states"]) if seen["solved"] else (controls, states)
        view = closest_view(*shown)
        canvas, dt = self.scene(view), self.model.system.dt
        moving = canvas.moving
        if self.settled.get(view) is not seen:  # a step changes the moving artists only
            for name in ("first", "second", "moved_H", "moved_L"):
                canvas.still[name].set_ydata(seen[name])
            for name in ("z_H", "z_L"):
                canvas.still[name].set_data(seen[name].T)
            canvas.settle()
            self.settled[view] = seen
        moving["controls"].set_data(*plots.levels(dt, controls))
        moving["optimum"].set_data(*plots.levels(dt, seen["optimum"]))
        moving["states"].set_data(*states.T)
        moving["end"].set_data(*states[-1:].T)
        moving["optimal_states"].set_data(*seen["optimal_states"].T)
        moving["target"].set_data(*seen["target"][:, None])
        moment = min(cycle * self.model.config.L_cycles + step, len(seen["z_L"]) - 1)
        for name, at in (("at_cycle", cycle), ("at_H", cycle),
                         ("at_L", moment), ("at_moved", moment)):
            moving[name].set_xdata([at, at])
        text = (f"after cycle {cycle} and {step} L steps more, {switch}: "
                f"these controls end {seen['errors'][cycle]:.4f} from the target")
        return canvas.png(text + ("" if seen["solved"] else ", which no controls can reach"))


def microscope(model, dataset, H_cycles=10):
    """The widget: choose a problem, step or play through its cycles, throw switches.

    Args:
        model: a `TinyRecursiveControl` of a system with two states and one control.
        dataset: has the samples to choose from, and the teacher.
        H_cycles: how many cycles to run, also beyond the trained depth.
    """
    scope = Microscope(model, dataset.teacher, H_cycles)
    states = state_sliders(min(1.0, dataset.target_range), model.system.units)
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
