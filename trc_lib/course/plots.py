"""Pictures: data in, a matplotlib `Figure` out. Importing this module sets the course's style.

Their argument ``system``, the course's cart if not given, says how many states and controls there
are and what they are called. ``shown`` are the two components of the state in the phase plane; a
system with one state has none. The widgets use the looks, `levels`, `draw_*` and `label_*` on
figures that they keep.
"""

import functools
import io
import math
import re
import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import MaxNLocator
from PIL import Image

from trc_lib import validation
from trc_lib.data.sampling import box as box_of
from trc_lib.systems import SUCCESS, DoubleIntegrator, System

plt.style.use("trc_lib.course.style")


def small_png(figure: Figure, **options: object) -> bytes:
    """A figure as PNG in 256 colours, a third of the size; ``options`` as of `Figure.savefig`."""
    stream, small = io.BytesIO(), io.BytesIO()
    figure.savefig(stream, format="png", **options)
    picture = Image.open(stream).convert("RGB")
    picture.quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        small, format="PNG", optimize=True)
    return small.getvalue()


def save_gif(path: object, figures: object, milliseconds: object) -> None:
    """Draw figures, close them, and write them as an animated GIF that repeats.

    All have one palette: of the first and the last, so that colours do not flicker.

    Args:
        path: of the file.
        figures: of one size; may be an iterator, which draws them one by one.
        milliseconds: how long each is shown.
    """
    frames = []
    for figure in figures:
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
        plt.close(figure)
        frames.append(Image.open(stream).convert("RGB"))
    width, height = frames[0].size
    both = Image.new("RGB", (2 * width, height))
    both.paste(frames[0], (0, 0))
    both.paste(frames[-1], (width, 0))
    palette = both.quantize(128)
    first, *rest = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    first.save(path, format="GIF", save_all=True, append_images=rest, loop=0,
               duration=list(milliseconds))


def _keep_small_pictures():
    """In a notebook, figures are shown and kept by `small_png`; a format of the user's is left."""
    shell = "IPython" in sys.modules and sys.modules["IPython"].get_ipython()
    if shell:
        plt.switch_backend(plt.get_backend())  # it sets formats of its own when it is loaded
        png = shell.display_formatter.formatters["image/png"]
        usual = png.lookup_by_type(Figure) if Figure in png else None
        if usual is not None and getattr(usual, "keywords", {}).get("fmt") == "png":
            png.for_type(Figure, functools.partial(small_png, bbox_inches="tight"))


_keep_small_pictures()

CART = DoubleIntegrator()

# One colour and one line style for each source of controls, the same everywhere; readable in grey.
OPTIMUM = {"color": "black", "linestyle": (0, (4, 2)), "linewidth": 1.8, "zorder": 5}
LOOKS = {
    "optimum": OPTIMUM,
    "network": {"color": "#0072B2"},
    "sampled law": {"color": "#D55E00", "linewidth": 4.5, "alpha": 0.6},
    "a guess": {"color": "#CC79A7", "linestyle": ":"},
    "no push at all": {"color": "0.45", "linestyle": ":"},
}
CROSS = {"marker": "x", "linestyle": "none", "color": "black", "markersize": 10,
         "markeredgewidth": 2.5, "zorder": 6}  # a target
ON_MAP = {"facecolor": "0.3", "labelcolor": "white", "frameon": True}  # a legend on a dark map


def cycle_look(cycle, cycles):
    """The look of the controls after ``cycle`` of ``cycles``: darker and darker.

    The palest has a contrast of 3 with white, as WCAG 2 asks of lines.
    """
    share = cycle / max(cycles, 1)
    color = plt.get_cmap("viridis_r")(0.41 + 0.59 * share)
    return {"color": color, "linewidth": 1.6 + 0.9 * share}


def cycle_name(cycle):
    """What the controls after ``cycle`` are called."""
    return f"after cycle {cycle}" if cycle else "first proposal"


def _numpy(values):
    return values.detach().cpu().numpy() if torch.is_tensor(values) else np.asarray(values)


def rounded(value, size, digits=4):
    """``value`` for a text, to as many ``digits`` after the first of ``size``.

    A ``size`` from 0.01 to 100 counts as 1: the course's pictures have the same digits throughout.
    """
    first = 0 if 0.01 <= size <= 100 or not 0 < size < math.inf else math.floor(math.log10(size))
    return f"{value:.{min(max(digits - first, 0), 12)}f}"


def _finished(figure):
    plt.close(figure)  # else a notebook would show it twice
    return figure


def components(system, shown=(0, 1)):
    """``shown``, if these are two components of the state; ``(0,)`` for a system with one state."""
    if validation.instance("system", system, System).state_dim == 1:
        return (0,)
    given = tuple(shown) if isinstance(shown, tuple | list) else ()
    if len(given) != 2 or len({*given} & {*range(system.state_dim)}) != 2:
        raise ValueError(f"shown={shown!r} is not accepted; give two different components of the "
                         f"state, each from 0 to {system.state_dim - 1}")
    return given


def plain(label):
    """A label of a `System` without its unit, and the unit: ``"speed (m/s)"`` has ``" (m/s)"``."""
    name, unit = re.fullmatch(r"(.*?)( \([^()]*\))?", label, re.DOTALL).groups("")
    return name.removeprefix("control "), unit


def squared_unit(system):
    """The unit of squared controls, ``"(m/s²)²"`` for the cart; empty if there is not one."""
    units = {plain(label)[1][1:] for label in system.control_labels}
    return f"{units.pop()}²" if len(units) == 1 and "" not in units else ""


def _sized(name, values, size, what, dimensions=2):
    """``values`` as an array of at least so many dimensions, the last that of the system."""
    values = _numpy(values)
    if values.ndim == 1 and size == 1 and what == "controls":
        values = values[:, None]
    if values.ndim < dimensions or values.shape[-1] != size:
        raise ValueError(f"{name} has shape {list(values.shape)}; needs [..., {size}], the {what} "
                         f"of this system; give another system, or other {what}")
    return values


def levels(dt, controls):
    """Values and edges (s) of one control, ``[N]`` or ``[N, 1]``, as `StepPatch.set_data` takes."""
    values = _numpy(controls)
    if not values.ndim or values.shape[1:] not in ((), (1,)):
        raise ValueError(f"controls has shape {list(values.shape)}; needs [N] or [N, 1]: one "
                         "control is drawn at a time, such as controls[:, 0]")
    return values.ravel(), dt * np.arange(len(values) + 1)


def plane(dt, states, shown=(0, 1)):
    """A run's states ``[N + 1, state_dim]`` in the phase plane, x and y; over time if only one."""
    states = _numpy(states)
    return states[:, shown].T if len(shown) == 2 else (dt * np.arange(len(states)), states[:, 0])


def at_end(dt, horizon, state, shown=(0, 1)):
    """Where a run that ends in ``state`` ends in its `plane`."""
    return _numpy(state)[list(shown)] if len(shown) == 2 else (dt * horizon, _numpy(state)[0])


def stacked(figure, cell, count):
    """Axes for so many controls under one another in a cell of a grid."""
    parts = cell.subgridspec(count, 1) if count > 1 else [cell]
    return [figure.add_subplot(part) for part in parts]


def draw_controls(axes, dt, controls, **look):
    """Draw one control, ``[N]`` or ``[N, 1]``, over time; return the `StepPatch`."""
    return axes.stairs(*levels(dt, controls), baseline=None, **({"linewidth": 2.4} | look))


def draw_run(panels, dt, states, controls, label, look, shown=(0, 1)):
    """Draw one run: each control, a state over time and the phase plane; return the artists.

    Args:
        panels: axes, one a control, one for the first state of ``shown``, one for the phase plane.
        dt: seconds a step.
        states: ``[N + 1, state_dim]``; controls: ``[N, control_dim]`` or ``[N]``.
        label: of the controls, for a legend; look: keywords of the lines.
        shown: components of the state; without a phase plane only one.
    """
    states, controls = _numpy(states), _numpy(controls)
    controls = controls.reshape(len(controls), -1)                             # [N, control_dim]
    artists = [draw_controls(axes, dt, control, label=label, **look)
               for axes, control in zip(panels, controls.T)]
    artists += panels[len(artists)].plot(*plane(dt, states[:, shown[:1]], (0,)), **look)
    if len(shown) == 2:
        artists += panels[len(artists)].plot(*plane(dt, states, shown), marker="o", markersize=3,
                                             **look)
    return tuple(artists)


def label_controls(axes, system=CART, title="controls", component=0, **limits):
    """Name the axes of one control of a `System` over time."""
    axes.set(xlabel="time (s)", ylabel=system.control_labels[component], title=title, **limits)


def label_inputs(panels, system=CART, title="controls", limits=()):
    """`label_controls` for panels under one another; ``limits`` are (low, high) for each."""
    for i, axes in enumerate(panels):
        label_controls(axes, system, title if i == 0 else "", i)
        if limits:
            axes.set_ylim(limits[i])
        if axes is not panels[-1]:
            axes.set_xlabel("")
            axes.tick_params(labelbottom=False)


def label_state(axes, system=CART, component=0, **limits):
    """Name the axes of one state of a `System` over time."""
    label = system.state_labels[component]
    axes.set(**{"xlabel": "time (s)", "ylabel": label, "title": plain(label)[0]} | limits)


def label_phase_plane(axes, system=CART, title="phase plane", shown=(0, 1), **limits):
    """Name the axes of one state of a `System` over another; of the only one over time."""
    if len(shown) == 1:
        return label_state(axes, system, title=title, **limits)
    xlabel, ylabel = (system.state_labels[i] for i in shown)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title, **limits)


def steering(dt, runs, target_state, title="controls", system=CART, shown=(0, 1)):
    """Controls, a state over time and phase plane of several ways to steer a system.

    Args:
        dt: seconds a step.
        runs: ``{label: (states [N + 1, state_dim], controls [N, control_dim])}``; some labels have
            `LOOKS`.
        target_state: ``[state_dim]``, drawn as a cross.
        title: of the controls.
        system: names states and controls.
        shown: the components of the state in the phase plane; the first is drawn over time.

    Raises:
        ValueError: if a shape does not fit the system.
    """
    shown, n, m = components(system, shown), system.state_dim, system.control_dim
    figure = plt.figure(figsize=(12, max(3.5, 1.6 * m)))
    first, *cells = figure.add_gridspec(1, 1 + len(shown))
    inputs, others = stacked(figure, first, m), [figure.add_subplot(cell) for cell in cells]
    for i, (label, (states, controls)) in enumerate(runs.items()):
        states = _sized(f"runs[{label!r}] (states)", states, n, "states")
        controls = _sized(f"runs[{label!r}] (controls)", controls, m, "controls")
        draw_run((*inputs, *others), dt, states, controls, label,
                 LOOKS.get(label, {"color": f"C{i}"}), shown)
    target, horizon = _sized("target_state", target_state, n, "states", 1), len(states) - 1
    others[0].plot(*at_end(dt, horizon, target[list(shown[:1])], (0,)), **CROSS)
    label_state(others[0], system, shown[0])
    if len(shown) == 2:
        others[1].plot(*at_end(dt, horizon, target, shown), label="target", **CROSS)
        label_phase_plane(others[1], system, shown=shown)
        others[1].legend()
    for axes in inputs:
        axes.axhline(0, color="0.6", linewidth=0.8)
    label_inputs(inputs, system, title)
    others[0].legend(handles=inputs[0].get_legend_handles_labels()[0])
    return _finished(figure)


def refinement(dt, cycle_controls, cycle_states, optimal_controls, optimal_states, target_state,
               title="controls after each cycle", system=CART, shown=(0, 1)):
    """One problem's controls and phase plane after each H cycle, with the optimum.

    Args:
        dt: seconds a step.
        cycle_controls: ``[H_cycles + 1, N, control_dim]``; cycle_states: ``[H_cycles + 1, N + 1,
            state_dim]``.
        optimal_controls: ``[N, control_dim]``; optimal_states: ``[N + 1, state_dim]``.
        target_state: ``[state_dim]``, drawn as a cross.
        title, system, shown: as in `steering`.

    Raises:
        ValueError: if a shape does not fit the system.
    """
    shown, n, m = components(system, shown), system.state_dim, system.control_dim
    cycle_controls = _sized("cycle_controls", cycle_controls, m, "controls")
    optimal_controls = _sized("optimal_controls", optimal_controls, m, "controls")
    cycle_states = _sized("cycle_states", cycle_states, n, "states")
    optimal_states = _sized("optimal_states", optimal_states, n, "states")
    target = _sized("target_state", target_state, n, "states", 1)
    figure = plt.figure(figsize=(12, max(3.8, 1.6 * m)))
    first, last = figure.add_gridspec(1, 2, width_ratios=(1.6, 1))
    inputs, right = stacked(figure, first, m), figure.add_subplot(last)
    cycles, horizon = len(cycle_controls) - 1, len(optimal_controls)
    for k, (controls, states) in enumerate(zip(cycle_controls, cycle_states)):
        look = cycle_look(k, cycles)
        named = cycles <= 4 or k in (0, cycles)  # of many cycles, only the first and the last
        for axes, control in zip(inputs, controls.T):
            draw_controls(axes, dt, control, label=cycle_name(k) if named else None, **look)
        right.plot(*plane(dt, states, shown), **look)
        right.plot(*at_end(dt, horizon, states[-1], shown), "o", color=look["color"], markersize=6)
    for axes, control in zip(inputs, optimal_controls.T):
        draw_controls(axes, dt, control, label="optimum", **OPTIMUM)
        axes.axhline(0, color="0.6", linewidth=0.8)
    right.plot(*plane(dt, optimal_states, shown), **OPTIMUM)
    right.plot(*at_end(dt, horizon, target, shown), label="target", **CROSS)
    label_inputs(inputs, system, title)
    label_phase_plane(right, system, "where they lead", shown)
    inputs[0].legend()
    right.legend()
    return _finished(figure)


def _input(system, component):
    """``component``, if it is the number of a control of the system."""
    return validation.whole("component", component, 0, system.control_dim - 1)


def snapshots(dt, rows, optimal_controls, limits=None, system=CART, component=0):
    """Small multiples: one row a training epoch, one column a cycle, the optimum in each.

    Each panel states the root mean square of u - u*.

    Args:
        dt: seconds a step.
        rows: ``{label: cycle_controls [H_cycles + 1, N, control_dim]}``.
        optimal_controls: ``[N, control_dim]``.
        limits: of the control axis, the same in every panel.
        system: names the controls.
        component: the control that is drawn.

    Raises:
        ValueError: if a shape does not fit the system.
    """
    component, m = _input(system, component), system.control_dim
    name, unit = plain(system.control_labels[component])
    optimum = _sized("optimal_controls", optimal_controls, m, "controls")[:, component]
    cycles = len(next(iter(rows.values()))) - 1
    figure, grid = plt.subplots(len(rows), cycles + 1, figsize=(12, 2.0 * len(rows) + 0.4),
                                sharex=True, sharey=True, squeeze=False)
    for row, (label, cycle_controls) in zip(grid, rows.items()):
        cycle_controls = _sized(f"rows[{label!r}]", cycle_controls, m, "controls")
        for axes, controls in zip(row, cycle_controls[..., component]):
            draw_controls(axes, dt, controls, label="network", **LOOKS["network"])
            draw_controls(axes, dt, optimum, label="optimum", **OPTIMUM)
            off = rounded(np.sqrt(np.mean((controls - optimum) ** 2)), abs(optimum).max())
            axes.text(0.03, 0.06, f"off by {off} {unit[2:-1]}".rstrip(),
                      transform=axes.transAxes, fontsize=9.5)
        row[0].set_ylabel(f"{label}\n{name}{unit}")
    for k, axes in enumerate(grid[0]):
        axes.set_title(cycle_name(k))
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    grid[0, 0].set_ylim(limits)
    grid[0, -1].legend(loc="upper right")
    return _finished(figure)


def learning_curves(history, success=SUCCESS, loss="control MSE ((m/s²)²)"):
    """Losses, learning rate and mean final error on the eval set, by epoch of a `History`.

    Args:
        history: a `History`.
        success: that of the teacher; one for each state is not drawn, as it is no bound of |x_N -
            x_T|.
        loss: name of the loss and its unit.
    """
    figure, panels = plt.subplot_mosaic([["loss", "error"], ["rate", "error"]], figsize=(12, 4.2),
                                        height_ratios=(3.2, 1))
    left, right, rate = (panels[name] for name in ("loss", "error", "rate"))
    epochs, shown = history["epoch"], [*history["train_loss"], *history["eval_loss"]]
    left.semilogy(epochs, history["train_loss"], "o-", color="#56B4E9", label="train loss")
    left.semilogy(epochs, history["eval_loss"], "s-", color="#0072B2", label="eval loss")
    rate.plot(epochs, history["lr"], ".-", color="0.4")
    right.semilogy(epochs, history["eval_final_error"], "s-", color="#0072B2",
                   label="network, eval set")
    if np.ndim(success) == 0:
        right.axhline(float(success), color="0.4", linestyle=":", label="counts as success below")
    left.set(ylabel=loss, ylim=(1e-7, max([1, *shown])), title="loss (the optimum: 0)")
    rate.set(xlabel="epoch", ylabel="rate", ylim=(0, None), title="learning rate, end of epoch")
    right.set(xlabel="epoch", ylabel="mean |x_N − x_T|", title="final error (the optimum: 0)")
    for axes in (left, right, rate):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend()
    right.legend()
    return _finished(figure)


def error_map(positions, velocities, errors, target_state, box=None,
              title="final error by start", system=CART, success=SUCCESS):
    """Final errors over the two components of the start, log colours; a line where success ends.

    Args:
        positions: ``[P]``, the first state; velocities: ``[V]``, the second; errors: ``[V, P]``.
        target_state: ``[2]``, drawn as a cross.
        box: the training box, drawn if given: half the side, or as in `Sampler`.
        title: of the map.
        system: names the states; it must have two.
        success: the largest final error that counts as a success.

    Raises:
        ValueError: if the system has not two states.
    """
    two_states(system)
    positions, velocities, errors = map(_numpy, (positions, velocities, errors))
    figure, axes = plt.subplots(figsize=(6.4, 4.8))
    picture = axes.pcolormesh(positions, velocities, np.maximum(errors, 1e-5 * success),
                              norm=error_colors(success), shading="nearest")
    axes.contour(positions, velocities, errors, levels=[success], colors="white", linewidths=1.2)
    axes.plot(*_numpy(target_state), label="target", **CROSS | {"color": "white"})
    axes.plot([], [], color="white", linewidth=1.2, label=f"final error {success:g}")
    if box is not None:
        _, low, high = box_of("box", box, 2)
        axes.add_patch(plt.Rectangle(low.numpy(), *(high - low).tolist(), fill=False,
                                     linestyle="--", edgecolor="white", label="training box"))
    axes.set(**dict(zip(("xlabel", "ylabel"), (f"start {name}" for name in system.state_labels))),
             title=title)
    axes.grid(False)
    figure.legend(**ON_MAP, loc="outside lower center", ncols=3)
    figure.colorbar(picture, label="|x_N − x_T|", extend="both")
    return _finished(figure)


def two_states(system):
    """Refuse a system that has not two states."""
    if system.state_dim != 2:
        raise ValueError(f"system={system!r} has {system.state_dim} states; this picture needs 2")


def error_colors(success):
    """The colours of final errors, from a thousandth of ``success`` to ten times."""
    success = validation.positive("success", success)
    return LogNorm(success / 1000, success * 10)


def data_flow():
    """The three stages of the course as boxes and arrows."""
    stages = (
        ("1  Data: an exact teacher", "#009E73", "random states\nx₀, x_T",
         "minimum-energy\ncontroller", "lqr_dataset.npz\nproblems + answers"),
        ("2  Training: imitation", "#0072B2", "problem\nx₀, x_T",
         "network: H cycles\nof refinement", "MSE to the\nteacher's controls"),
        ("3  Evaluation: the ruler", "#D55E00", "new problems\nx₀, x_T",
         "network's controls,\nsimulated", "terminal error and\nexcess energy"),
    )
    figure, axes = plt.subplots(figsize=(12, 3.6))
    arrow = {"arrowstyle": "-|>", "mutation_scale": 14, "color": "0.3"}
    for y, (title, color, *boxes) in zip((2, 1, 0), stages):
        axes.text(0.0, y, title, va="center", fontsize=12, color=color, weight="bold")
        for x, text in zip((4.0, 7.0, 10.0), boxes):
            axes.add_patch(FancyBboxPatch(
                (x - 1.05, y - 0.27), 2.1, 0.54, boxstyle="round,pad=0.04",
                facecolor=color + "1F", edgecolor=color, linewidth=1.5))
            axes.text(x, y, text, ha="center", va="center", fontsize=10.5)
        for x in (7.0, 10.0):
            axes.add_patch(FancyArrowPatch((x - 1.9, y), (x - 1.1, y), **arrow))
    for x, y, label in ((10.0, 1.5, "answers to imitate"), (7.0, 0.5, "trained weights")):
        axes.add_patch(FancyArrowPatch((x, y + 0.18), (x, y - 0.18), **arrow))
        axes.text(x + 0.12, y, label, fontsize=9.5, color="0.25", ha="left", va="center")
    axes.set(xlim=(0, 11.2), ylim=(-0.5, 2.5))
    axes.axis("off")
    return _finished(figure)


def grid(given, figures):
    """A grid of runs: one panel a figure; each run is a point, with mean and range over the seeds.

    The first swept parameter whose values are numbers is across, and lines join the means along it.
    If none is, the first parameter is across, and nothing is joined. Each setting of the others has
    its colour. Seeds are repetitions, never across.

    Args:
        given: each run's parameters, dicts with the same keys: ``{"04.seed": 1, "04.size": 2}``.
        figures: ``{label: values}``, one value a run, None where a run has none.
    """
    names = [name for name in given[0] if not name.endswith(".seed")]
    numbers = [name for name in names if all(type(run[name]) in (int, float) for run in given)]
    across = next(iter(numbers + names), None)
    places = [run.get(across, f"{len(given)} runs") for run in given]
    words = [] if numbers else list(dict.fromkeys(map(str, places)))
    if words:
        places = [words.index(str(place)) for place in places]
    settings = {}  # of the other parameters, with the indices of their runs
    for i, run in enumerate(given):
        setting = ", ".join(f"{name} {run[name]}" for name in names if name != across)
        settings.setdefault(setting, []).append(i)
    rows, columns = math.ceil(len(figures) / 3), min(3, len(figures))
    figure, panels = plt.subplots(rows, columns, squeeze=False, figsize=(4.4 * columns, 3.4 * rows))
    for axes in panels.flat[len(figures):]:
        axes.axis("off")
    for axes, (title, values) in zip(panels.flat, figures.items()):
        if words:
            axes.set(xlim=(-0.5, len(words) - 0.5), xticks=range(len(words)), xticklabels=words)
            axes.tick_params(axis="x", rotation=20 if len("".join(words)) > 30 else 0)
        else:
            _scale_of_numbers(axes, sorted(set(places)))
        axes.set(xlabel=across or ", ".join(given[0]), title=title)
        found = [value for value in values if value is not None and math.isfinite(value)]
        if found and min(found) > 0 and max(found) > 20 * min(found):
            axes.set_yscale("log")
        for k, (setting, runs) in enumerate(settings.items()):
            beside = 0.6 * ((k + 0.5) / len(settings) - 0.5) if words else 0
            points = [(places[i] + beside, values[i]) for i in runs if values[i] in found]
            look = {"color": plt.get_cmap("viridis")(0.85 * k / max(1, len(settings) - 1)),
                    "marker": "osD^v"[k % 5], "linestyle": "none" if words else "-"}
            if len(names) == len(given[0]):  # one run of each
                axes.plot(*zip(*sorted(points)), **look, markersize=7, label=setting)
            else:
                _points_mean_and_range(axes, points, setting, look, first=k == 0)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    if labels:
        long = max(map(len, labels)) > 24
        figure.legend(handles, labels, loc="outside lower center", fontsize=9,
                      ncols=columns if long else 2 * columns)
    return _finished(figure)


def _points_mean_and_range(axes, points, setting, look, first):
    """Runs ``[(x, y), ...]`` as points; of those with the same x the mean and the range."""
    columns = {x: [y for at, y in points if at == x] for x in sorted({x for x, _ in points})}
    axes.plot([x for x, _ in points], [y for _, y in points], "o", color=look["color"], alpha=0.6,
              markersize=5, markeredgewidth=0, label="one run" if first else None)
    axes.vlines(list(columns), [min(ys) for ys in columns.values()],
                [max(ys) for ys in columns.values()], color=look["color"], linewidth=1,
                label="range" if first else None)
    axes.plot(list(columns), [np.mean(ys) for ys in columns.values()], **look, markersize=7,
              label=f"mean, {setting}" if setting else "mean")


def _scale_of_numbers(axes, numbers):
    """Across are these sorted numbers: logarithmic if they span more than a factor of 20."""
    sizes = [abs(number) for number in numbers if number]
    if sizes and max(sizes) > 20 * min(sizes):
        near_zero = {} if numbers[0] > 0 else {"linthresh": min(sizes)}
        axes.set_xscale("symlog" if near_zero else "log", **near_zero)
    if len(numbers) <= 8:
        axes.set_xticks(numbers, [f"{number:g}" for number in numbers])
        axes.minorticks_off()
