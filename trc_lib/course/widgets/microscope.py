"""The refinement microscope: one problem, watched through every H cycle and every L step."""

import functools
import itertools

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure

from trc_lib.course import plots
from trc_lib.course.widgets.canvas import Canvas, set_controls
from trc_lib.course.widgets.scene import closest_view
from trc_lib.course.widgets.shell import LABEL, Shell, choice, state_sliders
from trc_lib.evaluation import cycle_controls, decompose_error, final_error

MOVING = ("controls", "optimum", "states", "end", "optimal_states", "target", "at_cycle", "at_H", "at_L", "at_moved", "text")
SWITCHES = ("as trained", "feedback off", "z_H frozen", "z_L zero", "latents swapped")


def refine(model, x0, xT, H_cycles=None, switch="as trained"):
    """The `Trace` of a run in which one thing is changed, by forward hooks on the network's ``block`` and ``feedback``.

    Args:
        x0, xT: ``[batch, state_dim]``.
        switch: one of `SWITCHES`. With ``"latents swapped"`` each problem goes on with the latents of the
            problem at the other end of the batch, from the start of cycle 2.
    """
    if switch == "latents swapped":
        first = model.trace(x0, xT, 1)
        z_H, z_L, controls = first.carry
        H_cycles = model.config.H_cycles if H_cycles is None else H_cycles
        return first.followed_by(model.trace(x0, xT, H_cycles - 1, (z_H.flip(0), z_L.flip(0), controls)))
    outputs = itertools.count(1)

    def on_block(block, inputs, latent):
        is_z_H = next(outputs) % (model.config.L_cycles + 1) == 0
        if switch == "z_H frozen" and is_z_H:
            return z_initial
        return torch.zeros_like(latent) if switch == "z_L zero" and not is_z_H else latent

    def on_feedback(feedback, inputs, output):
        signal, gain = output
        return torch.zeros_like(signal) if switch == "feedback off" else signal, gain

    x0, xT = (states.to(model.state_scale) for states in (x0, xT))
    with torch.no_grad():
        z_initial = model.encode(x0, xT)
    source = getattr(model.feedback, "inner", model.feedback)
    hooks = [model.block.register_forward_hook(on_block), source.register_forward_hook(on_feedback)]
    try:
        return model.trace(x0, xT, H_cycles)
    finally:
        for hook in hooks:
            hook.remove()


class Microscope:
    """The picture of one refinement; a trace is computed once a problem and switch, never once a step.

    Args:
        model: a `TinyRecursiveControl` of a system with two states and one control.
        teacher: who knows the optimum.
        H_cycles: how many cycles to run, also beyond the trained depth.
        other_problem: [p, v, p, v] of the problem that latents are swapped with.
    """

    def __init__(self, model, teacher, H_cycles=10, other_problem=(-2.0, 1.0, 1.0, -1.0)):
        self.model, self.teacher, self.H_cycles, self.other = model.cpu().eval(), teacher, H_cycles, other_problem
        self.compute = functools.lru_cache(maxsize=32)(self._compute)
        self.scene = functools.lru_cache(maxsize=None)(self._build)

    def _compute(self, problem, switch):
        """Everything that the picture shows of a problem (p, v, p, v) but the step: arrays by name."""
        x0, xT = torch.tensor([problem, self.other], dtype=torch.float64).split(2, dim=1)
        if switch != "latents swapped":
            x0, xT = x0[:1], xT[:1]
        trace = refine(self.model, x0, xT, self.H_cycles, switch).one(0)
        controls, (optimum, solved) = trace.controls.double(), self.teacher.try_solve(x0[0], xT[0])    # NaN is not drawn
        errors = final_error(self.model.system, x0[0], xT[0], controls)
        measures = (errors, (controls - optimum).square().sum(dim=(-2, -1)))
        if self.teacher.has_ruler:
            measures = decompose_error(self.model.system, controls, optimum.expand_as(controls))
        z_L = torch.cat([trace.z_L[0, :1], trace.z_L[:, 1:].flatten(0, 1)])                    # [H * L + 1, latent_dim]
        return {"controls": controls[..., 0].numpy(), "optimum": optimum[:, 0].numpy(), "target": xT[0].numpy(),
                "states": self.model.system.rollout(x0[0].expand(len(controls), 2), controls).numpy(),
                "optimal_states": self.model.system.rollout_unchecked(x0[0], optimum).numpy(), "solved": bool(solved),
                "errors": errors.numpy(), "first": measures[0].clamp(min=1e-12).numpy(),
                "second": measures[1].clamp(min=1e-12).numpy(),
                "z_H": trace.z_H.numpy(), "z_L": z_L.numpy(),
                "moved_H": (trace.z_H[1:] - trace.z_H[:-1]).norm(dim=-1).clamp(min=1e-6).numpy(),
                "moved_L": (z_L[1:] - z_L[:-1]).norm(dim=-1).clamp(min=1e-6).numpy()}

    def _build(self, view):
        """The figure with the axes of one of the `VIEWS`, and its moving parts by name."""
        c, dt, H = self.model.config, self.model.system.dt, self.H_cycles
        steps, cycles, control_range, position_range, velocity_range = H * c.L_cycles, range(H + 1), *view
        figure = Figure(figsize=(12, 6.6), layout="constrained")
        (left, middle, right), (low_left, low_middle, low_right) = figure.subplots(2, 3)
        parts, edges = {}, dt * np.arange(c.horizon + 1)

        parts["controls"] = left.stairs(edges[1:], edges, baseline=None, linewidth=2.6, label="network", **plots.LOOKS["network"])
        parts["optimum"] = left.stairs(edges[1:], edges, baseline=None, label="optimum", **plots.OPTIMUM)
        units = self.model.system.units
        left.set(xlabel="time (s)", ylabel=f"control u{units[2]}", ylim=(-control_range, control_range), title="controls")
        left.legend(loc="upper right")

        parts["states"], = middle.plot([], [], linewidth=2.6, **plots.LOOKS["network"])
        parts["end"], = middle.plot([], [], "o", markersize=7, **plots.LOOKS["network"])
        parts["optimal_states"], = middle.plot([], [], **plots.OPTIMUM)
        parts["target"], = middle.plot([], [], "x", color="black", markersize=10, markeredgewidth=2.5, zorder=6)
        middle.set(xlabel=f"position{units[0]}", ylabel=f"velocity{units[1]}", title="where they lead",
                   xlim=(-position_range, position_range), ylim=(-velocity_range, velocity_range))

        names, title, ylabel = ("final error", "|u − u*|²"), "how far off, cycle by cycle", "final error; squared length"
        if self.teacher.has_ruler:
            names, title, ylabel = ("miss", "waste (excess_energy)"), "the ruler, cycle by cycle", "squared length ((m/s²)²)"
        parts["first"], = right.plot(cycles, np.ones(H + 1), "o-", color="#0072B2", markersize=4, label=names[0])
        parts["second"], = right.plot(cycles, np.ones(H + 1), "s--", color="#E69F00", markersize=4, label=names[1])
        right.axvspan(c.H_cycles, H, color="0.93", zorder=0)
        right.set(xlabel="cycle (grey: beyond the trained depth)", ylabel=ylabel, yscale="log", ylim=(1e-9, 1e2), title=title)
        right.legend(loc="upper left")

        strip = {"aspect": "auto", "cmap": "RdBu_r", "vmin": -3, "vmax": 3, "interpolation": "nearest"}
        for name, axes, last, label in (("z_H", low_left, H, "cycle"), ("z_L", low_middle, steps, "L steps, all cycles")):
            parts[name] = axes.imshow(np.zeros((c.latent_dim, last + 1)), extent=(-0.5, last + 0.5, c.latent_dim, 0), **strip)
            axes.set(xlabel=label, ylabel=f"component of {name}", title=name)
            axes.grid(False)

        parts["moved_H"], = low_right.plot(np.arange(1, H + 1) * c.L_cycles, np.ones(H), "ko-", markersize=4, label="z_H")
        parts["moved_L"], = low_right.plot(np.arange(1, steps + 1), np.ones(steps), ".-", color="#009E73", label="z_L")
        low_right.set(xlabel="L steps, all cycles", ylabel="distance moved", yscale="log", ylim=(1e-4, 30),
                      title="how far the latents moved")
        low_right.legend(loc="upper right")

        for name, axes in (("at_cycle", right), ("at_H", low_left), ("at_L", low_middle), ("at_moved", low_right)):
            parts[name] = axes.axvline(0, color="black", linewidth=1.2)
        parts["text"] = figure.suptitle("after cycle", x=0.01, ha="left", fontsize=12)
        still = [part for name, part in parts.items() if name not in MOVING]
        return parts, Canvas(figure, [parts[name] for name in MOVING], still)

    def draw(self, start_position, start_velocity, target_position, target_velocity, switch, cycle, step):
        """The picture after ``step`` L steps of the cycle that follows ``cycle``, as PNG bytes."""
        seen = self.compute((start_position, start_velocity, target_position, target_velocity), switch)
        moment = min(cycle * self.model.config.L_cycles + step, len(seen["z_L"]) - 1)
        shown = ("optimum", "optimal_states") if seen["solved"] else ("controls", "states")
        parts, canvas = self.scene(closest_view(*(seen[name] if seen["solved"] else seen[name][cycle] for name in shown)))
        if parts.get("shown") is not seen:  # a step changes the moving parts only
            for name in ("first", "second", "moved_H", "moved_L"):
                parts[name].set_ydata(seen[name])
            for name in ("z_H", "z_L"):
                parts[name].set_data(seen[name].T)
            canvas.settle()
            parts["shown"] = seen
        set_controls(parts["controls"], seen["controls"][cycle], self.model.system.dt)
        set_controls(parts["optimum"], seen["optimum"], self.model.system.dt)
        for name, states in (("states", seen["states"][cycle]), ("end", seen["states"][cycle][-1:]),
                             ("optimal_states", seen["optimal_states"]), ("target", seen["target"][None])):
            parts[name].set_data(*states.T)
        for name, at in (("at_cycle", cycle), ("at_H", cycle), ("at_L", moment), ("at_moved", moment)):
            parts[name].set_xdata([at, at])
        parts["text"].set_text(f"after cycle {cycle} and {step} L steps more, {switch}: "
                               f"these controls end {seen['errors'][cycle]:.4f} from the target"
                               + ("" if seen["solved"] else ", which no controls can reach"))
        return canvas.png()


def microscope(model, dataset, H_cycles=10):
    """The widget: choose a problem, step or play through its cycles, throw switches.

    Args:
        model: a `TinyRecursiveControl`.
        dataset: where sample numbers, the worst problem, and the teacher are taken from.
    """
    scope = Microscope(model, dataset.teacher, H_cycles)
    controls = state_sliders(target_position=min(1.0, dataset.target_range), units=model.system.units) | {
        "switch": choice(SWITCHES, "switch"),
        "cycle": ipywidgets.IntSlider(value=0, min=0, max=H_cycles, description="H cycle"),
        "step": ipywidgets.IntSlider(value=0, min=0, max=model.config.L_cycles, description="L step")}
    number = ipywidgets.BoundedIntText(value=0, min=0, max=len(dataset) - 1, description="sample", style=LABEL)
    worst = ipywidgets.Button(description="the worst sample")
    play = ipywidgets.Play(value=0, min=0, max=H_cycles, interval=700, description="play the cycles")
    ipywidgets.jslink((play, "value"), (controls["cycle"], "value"))
    shell = Shell(scope.draw, controls, extra=(play, number, worst))

    def show(i):
        states = [*dataset.initial_states[i].tolist(), *dataset.target_states[i].tolist()]
        names = ("start_position", "start_velocity", "target_position", "target_velocity")
        shell.set(**dict(zip(names, states)))

    def show_worst(_):
        errors = final_error(dataset.system, dataset.initial_states, dataset.target_states, cycle_controls(model, dataset)[-1])
        number.value = int(errors.argmax())

    number.observe(lambda change: show(change["new"]), names="value")
    worst.on_click(show_worst)
    return shell
