"""Pictures: data in, a matplotlib `Figure` out. Importing this module sets the course's style.

The widgets use the looks, `levels`, `draw_*` and `label_*` on figures that they keep.
"""

import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import MaxNLocator
from PIL import Image

from trc_lib.systems import SUCCESS, System

plt.style.use("trc_lib.course.style")

# One colour and one line style for each source of controls, the same everywhere; readable in grey.
OPTIMUM = {"color": "black", "linestyle": (0, (4, 2)), "linewidth": 1.8, "zorder": 5}
LOOKS = {
    "optimum": OPTIMUM,
    "network": {"color": "#0072B2"},
    "continuous law, sampled": {"color": "#D55E00", "linewidth": 4.5, "alpha": 0.6},
    "a guess": {"color": "#CC79A7", "linestyle": ":"},
    "no push at all": {"color": "0.45", "linestyle": ":"},
}
CROSS = {"marker": "x", "linestyle": "none", "color": "black", "markersize": 10,
         "markeredgewidth": 2.5, "zorder": 6}  # a target
LATENTS = {"aspect": "auto", "cmap": "RdBu_r", "vmin": -3, "vmax": 3, "interpolation": "nearest"}
ON_MAP = {"facecolor": "0.3", "labelcolor": "white", "frameon": True}  # a legend on a dark map


def cycle_look(cycle, cycles):
    """The look of the controls after ``cycle`` of ``cycles``: from pale to dark."""
    share = cycle / max(cycles, 1)
    color = plt.get_cmap("viridis_r")(0.12 + 0.78 * share)
    return {"color": color, "linewidth": 1.6 + 0.9 * share}


def cycle_name(cycle):
    """What the controls after ``cycle`` are called."""
    return f"after cycle {cycle}" if cycle else "first proposal"


def _numpy(values):
    return values.detach().cpu().numpy() if torch.is_tensor(values) else np.asarray(values)


def _finished(figure):
    plt.close(figure)  # else a notebook would show it twice
    return figure


def levels(dt, controls):
    """Values and edges (s) of controls ``[N, 1]``, as `StepPatch.set_data` takes them."""
    values = _numpy(controls).ravel()
    return values, dt * np.arange(len(values) + 1)


def draw_controls(axes, dt, controls, **look):
    """Draw controls ``[N, 1]`` over time; return the `StepPatch`."""
    return axes.stairs(*levels(dt, controls), baseline=None, **({"linewidth": 2.4} | look))


def draw_run(panels, dt, states, controls, label, look):
    """Draw controls, position and phase plane of one run, a panel each; return three artists."""
    left, middle, right = panels
    states = _numpy(states)
    return (draw_controls(left, dt, controls, label=label, **look),
            *middle.plot(dt * np.arange(len(states)), states[:, 0], **look),
            *right.plot(*states.T, marker="o", markersize=3, **look))


def label_controls(axes, units=System.units, title="controls", **limits):
    """Name the axes of controls over time; ``units`` are those of a `System`."""
    axes.set(xlabel="time (s)", ylabel=f"control u{units[2]}", title=title, **limits)


def label_positions(axes, **limits):
    """Name the axes of a cart's position over time."""
    axes.set(xlabel="time (s)", ylabel="position (m)", title="position", **limits)


def label_phase_plane(axes, units=System.units, title="phase plane", **limits):
    """Name the axes of velocity over position; ``units`` are those of a `System`."""
    axes.set(xlabel=f"position{units[0]}", ylabel=f"velocity{units[1]}", title=title, **limits)


def steering(dt, runs, target_state, title="controls"):
    """Controls, position and phase plane of several ways to steer a cart.

    Args:
        dt: seconds a step.
        runs: ``{label: (states [N + 1, 2], controls [N, 1])}``; some labels have `LOOKS`.
        target_state: ``[2]``, drawn as a cross.
    """
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.5))
    left, middle, right = panels
    for i, (label, (states, controls)) in enumerate(runs.items()):
        draw_run(panels, dt, states, controls, label, LOOKS.get(label, {"color": f"C{i}"}))
    target = _numpy(target_state)
    middle.plot(dt * (len(states) - 1), target[0], **CROSS)
    right.plot(*target, label="target", **CROSS)
    left.axhline(0, color="0.6", linewidth=0.8)
    label_controls(left, title=title)
    label_positions(middle)
    label_phase_plane(right)
    middle.legend(handles=left.get_legend_handles_labels()[0])
    right.legend()
    return _finished(figure)


def refinement(dt, cycle_controls, cycle_states, optimal_controls, optimal_states, target_state,
               title="controls after each cycle"):
    """One problem's controls and phase plane after each H cycle, with the optimum.

    Args:
        dt: seconds a step.
        cycle_controls: ``[H_cycles + 1, N, 1]``; cycle_states: ``[H_cycles + 1, N + 1, 2]``.
        optimal_controls: ``[N, 1]``; optimal_states: ``[N + 1, 2]``.
        target_state: ``[2]``, drawn as a cross.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 3.8), width_ratios=(1.6, 1))
    cycles = len(cycle_controls) - 1
    for k, (controls, states) in enumerate(zip(_numpy(cycle_controls), _numpy(cycle_states))):
        look = cycle_look(k, cycles)
        named = cycles <= 4 or k in (0, cycles)  # of many cycles, only the first and the last
        draw_controls(left, dt, controls, label=cycle_name(k) if named else None, **look)
        right.plot(*states.T, **look)
        right.plot(*states[-1], "o", color=look["color"], markersize=6)
    draw_controls(left, dt, optimal_controls, label="optimum", **OPTIMUM)
    right.plot(*_numpy(optimal_states).T, **OPTIMUM)
    right.plot(*_numpy(target_state), label="target", **CROSS)
    left.axhline(0, color="0.6", linewidth=0.8)
    label_controls(left, title=title)
    label_phase_plane(right, title="where they lead")
    left.legend()
    right.legend()
    return _finished(figure)


def refinement_gif(path, dt, off, ends, target_state):
    """Write one refinement as an animated GIF: controls less the optimum, and final states.

    Args:
        path: of the file.
        dt: seconds a step.
        off: the controls of each cycle less the optimum, ``[H_cycles + 1, N, 1]``.
        ends: the final states, ``[H_cycles + 1, 2]``.
        target_state: ``[2]``, the middle of the right panel.
    """
    off, ends, target, frames = _numpy(off), _numpy(ends), _numpy(target_state), []
    width, reach, cycles = 1.1 * abs(off).max(), 1.2 * abs(ends - target).max(), len(off) - 1
    for shown in range(cycles + 1):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6), width_ratios=(1.6, 1))
        for k in range(shown + 1):
            look = cycle_look(k, cycles) | {"alpha": 1 if k == shown else 0.35}
            draw_controls(left, dt, off[k], **look)
            right.plot(*ends[k], "o", markersize=11, color=look["color"], alpha=look["alpha"])
        left.axhline(0, **OPTIMUM)
        right.plot(*target, **CROSS | {"markersize": 12})
        left.set(xlabel="time (s)", ylabel="u − u* (m/s²)", ylim=(-width, width),
                 title=f"{cycle_name(shown)}, less the optimum")
        label_phase_plane(right, title="where it ends; x is the target",
                          xlim=(target[0] - reach, target[0] + reach),
                          ylim=(target[1] - reach, target[1] + reach))
        figure.canvas.draw()
        frames.append(Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]))
        plt.close(figure)
    frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:], loop=0,
                   duration=[1000] * cycles + [3000])  # milliseconds


def snapshots(dt, rows, optimal_controls, limits=None):
    """Small multiples: one row a training epoch, one column a cycle, the optimum in each.

    Each panel states the root mean square of u - u*.

    Args:
        dt: seconds a step.
        rows: ``{label: cycle_controls [H_cycles + 1, N, 1]}``.
        optimal_controls: ``[N, 1]``.
        limits: of the control axis, the same in every panel.
    """
    cycles = len(next(iter(rows.values()))) - 1
    figure, grid = plt.subplots(len(rows), cycles + 1, figsize=(12, 2.0 * len(rows) + 0.4),
                                sharex=True, sharey=True, squeeze=False)
    for row, (label, cycle_controls) in zip(grid, rows.items()):
        for axes, controls in zip(row, _numpy(cycle_controls)):
            draw_controls(axes, dt, controls, label="network", **LOOKS["network"])
            draw_controls(axes, dt, optimal_controls, label="optimum", **OPTIMUM)
            off = np.sqrt(np.mean((controls - _numpy(optimal_controls)) ** 2))
            axes.text(0.03, 0.06, f"off by {off:.4f} m/s²", transform=axes.transAxes, fontsize=9.5)
        row[0].set_ylabel(f"{label}\nu (m/s²)")
    for k, axes in enumerate(grid[0]):
        axes.set_title(cycle_name(k))
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    grid[0, 0].set_ylim(limits)
    grid[0, -1].legend(loc="upper right")
    return _finished(figure)


def learning_curves(history):
    """Losses on a log axis, and the mean final error on the eval set, by epoch of a `History`."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 3.5))
    epochs = history["epoch"]
    left.semilogy(epochs, history["train_loss"], "o-", color="#56B4E9", label="train loss")
    left.semilogy(epochs, history["eval_loss"], "s-", color="#0072B2", label="eval loss")
    left.semilogy(epochs, history["lr"], ":", color="0.4", label="learning rate (end of epoch)")
    right.semilogy(epochs, history["eval_final_error"], "s-", color="#0072B2",
                   label="network, eval set")
    right.axhline(SUCCESS, color="0.4", linestyle=":", label="counts as success below")
    left.set(xlabel="epoch", ylabel="control MSE ((m/s²)²)", ylim=(1e-7, 1),
             title="loss (the optimum: 0)")
    right.set(xlabel="epoch", ylabel="mean |x_N − x_T|", title="final error (the optimum: 0)")
    for axes in (left, right):
        axes.legend()
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finished(figure)


def latents(z_H, z_L, title="one problem's latents, step by step"):
    """Heat strips: each column one moment of the refinement, each row one latent component.

    Args:
        z_H: ``[H_cycles + 1, latent_dim]``; z_L: ``[H_cycles, L_cycles + 1, latent_dim]``.
    """
    z_H, z_L = _numpy(z_H), _numpy(z_L)
    cycles, steps = range(1, len(z_L) + 1), range(1, z_L.shape[1])
    strip = np.concatenate([z_L[0, :1], *z_L[:, 1:]])                # [H * L + 1, latent_dim]
    by_step = [f"H{h}\nL{step}" for h in cycles for step in steps]
    figure, panels = plt.subplots(2, 1, figsize=(12, 4.6))
    for axes, values, name, labels in ((panels[0], strip, "z_L", by_step),
                                       (panels[1], z_H, "z_H", [f"after H{h}" for h in cycles])):
        picture = axes.imshow(values.T, **LATENTS)
        axes.set(ylabel=f"{name}\ncomponent", xticks=range(len(values)),
                 xticklabels=["start", *labels])
        axes.grid(False)
    panels[0].set_title(title)
    figure.colorbar(picture, ax=panels, label="value", shrink=0.8)
    return _finished(figure)


def error_map(positions, velocities, errors, target_state, box=None,
              title="final error by start"):
    """Final errors over start positions and velocities, log colours; a line where success ends.

    Args:
        positions: ``[P]`` (m); velocities: ``[V]`` (m/s); errors: ``[V, P]``.
        target_state: ``[2]``, drawn as a cross.
        box: half the side of the training box, drawn if given.
    """
    positions, velocities, errors = map(_numpy, (positions, velocities, errors))
    figure, axes = plt.subplots(figsize=(6.4, 4.8))
    picture = axes.pcolormesh(positions, velocities, np.maximum(errors, 1e-6),
                              norm=LogNorm(1e-3, 1), shading="nearest")
    axes.contour(positions, velocities, errors, levels=[SUCCESS], colors="white", linewidths=1.2)
    axes.plot(*_numpy(target_state), label="target", **CROSS | {"color": "white"})
    if box is not None:
        axes.add_patch(plt.Rectangle((-box, -box), 2 * box, 2 * box, fill=False, linestyle="--",
                                     edgecolor="white", label="training box"))
    axes.set(xlabel="start position (m)", ylabel="start velocity (m/s)", title=title)
    axes.grid(False)
    axes.legend(**ON_MAP, framealpha=0.7, loc="upper right")
    figure.colorbar(picture, label="|x_N − x_T|", extend="both")
    return _finished(figure)


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
    """A grid of runs: one panel a figure, over the first parameter that was swept.

    Each setting of the other parameters is a line through the means over the seeds. Where there
    are several seeds, each run is a pale dot.

    Args:
        given: each run's parameters, dicts with the same keys: ``{"04.seed": 1, "04.size": 2}``.
        figures: ``{label: values}``, one value a run, None where a run has none.
    """
    across, *others = [name for name in given[0] if not name.endswith(".seed")] or list(given[0])
    places = list(dict.fromkeys(run[across] for run in given))
    run_settings = [tuple(run[name] for name in others) for run in given]
    settings = list(dict.fromkeys(run_settings))
    rows, columns = math.ceil(len(figures) / 3), min(3, len(figures))
    figure, panels = plt.subplots(rows, columns, squeeze=False, figsize=(4.4 * columns, 3.4 * rows))
    for axes in panels.flat[len(figures):]:
        axes.axis("off")
    for axes, (label, values) in zip(panels.flat, figures.items()):
        for i, setting in enumerate(settings):
            color = plt.get_cmap("viridis")(0.8 * i / max(1, len(settings) - 1))
            mine = [(places.index(run[across]), value)
                    for run, its, value in zip(given, run_settings, values)
                    if its == setting and value is not None]
            at = sorted({place for place, _ in mine})
            if len(mine) > len(at):
                axes.plot(*zip(*mine), "o", color=color, alpha=0.5, markersize=5, markeredgewidth=0)
            means = [np.mean([value for place, value in mine if place == here]) for here in at]
            name = ", ".join(f"{name} {value}" for name, value in zip(others, setting))
            axes.plot(at, means, marker="osD^v"[i % 5], color=color, markersize=7,
                      label=name or "mean of the runs")
        found = [value for value in values if value is not None]
        if min(found) > 0 and max(found) > 20 * min(found):
            axes.set_yscale("log")
        axes.set(xlabel=across, title=label, xticks=range(len(places)),
                 xticklabels=map(str, places))
    if others or len(given) > len(places):
        panels[0, 0].legend(fontsize=9)
    return _finished(figure)
