"""Pictures: data in, a matplotlib `Figure` out. Importing this module gives all pictures the course's look."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

from trc_lib.systems import SUCCESS

plt.style.use("trc_lib.course.style")

# One colour and one line style a speaker, the same in every picture; readable in grey.
OPTIMUM = {"color": "black", "linestyle": (0, (4, 2)), "linewidth": 1.8, "zorder": 5}
LOOKS = {
    "optimum": OPTIMUM,
    "network": {"color": "#0072B2"},
    "continuous law, sampled": {"color": "#D55E00", "linewidth": 4.5, "alpha": 0.6},
    "a guess": {"color": "#CC79A7", "linestyle": ":"},
    "no push at all": {"color": "0.45", "linestyle": ":"},
}


def cycle_look(cycle, cycles):
    """The look of the controls after ``cycle`` of ``cycles``: from pale to dark."""
    share = cycle / max(cycles, 1)
    return {"color": plt.get_cmap("viridis_r")(0.12 + 0.78 * share), "linewidth": 1.6 + 0.9 * share}


def _numpy(values):
    return values.detach().cpu().numpy() if torch.is_tensor(values) else np.asarray(values)


def _finished(figure):
    plt.close(figure)  # shown once, as the cell's result, and not a second time by the notebook
    return figure


def _controls(axes, dt, controls, **look):
    """A control sequence as it is held: one level a step."""
    values = _numpy(controls).ravel()
    axes.stairs(values, dt * np.arange(len(values) + 1), baseline=None, **({"linewidth": 2.4} | look))


def steering(dt, runs, target_state, title=""):
    """Controls, motion and phase plane of several ways to steer a cart.

    Args:
        dt: seconds a step.
        runs: ``{label: (states [N + 1, 2], controls [N, 1])}``; labels in `LOOKS` get their own look.
        target_state: ``[2]``, drawn as a cross.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.5))
    for i, (label, (states, controls)) in enumerate(runs.items()):
        look, states = LOOKS.get(label, {"color": f"C{i}"}), _numpy(states)
        time = dt * np.arange(len(states))
        _controls(left, dt, controls, label=label, **look)
        middle.plot(time, states[:, 0], **look)
        right.plot(states[:, 0], states[:, 1], marker="o", markersize=3, **look)
    target = _numpy(target_state)
    middle.plot(dt * (len(states) - 1), target[0], "x", color="black", markersize=10, markeredgewidth=2.5, zorder=6)
    right.plot(*target, "x", color="black", markersize=10, markeredgewidth=2.5, zorder=6, label="target")
    left.axhline(0, color="0.6", linewidth=0.8)
    left.set(xlabel="time (s)", ylabel="control u (m/s²)", title=title or "controls")
    middle.set(xlabel="time (s)", ylabel="position (m)", title="position")
    right.set(xlabel="position (m)", ylabel="velocity (m/s)", title="phase plane")
    middle.legend(handles=left.get_legend_handles_labels()[0])
    right.legend()
    return _finished(figure)


def refinement(dt, cycle_controls, cycle_states, optimal_controls, optimal_states, target_state,
               title="controls after each cycle"):
    """One problem's controls and phase plane after each H cycle, with the optimum.

    Args:
        cycle_controls: ``[H_cycles + 1, N, 1]``; cycle_states: ``[H_cycles + 1, N + 1, 2]``.
        optimal_controls: ``[N, 1]``; optimal_states: ``[N + 1, 2]``.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 3.8), width_ratios=(1.6, 1))
    cycles = len(cycle_controls) - 1
    for k, (controls, states) in enumerate(zip(_numpy(cycle_controls), _numpy(cycle_states))):
        named = cycles <= 4 or k in (0, cycles)  # of many cycles, only the first and the last get a name
        label = None if not named else "first proposal" if k == 0 else f"after cycle {k}"
        _controls(left, dt, controls, label=label, **cycle_look(k, cycles))
        right.plot(states[:, 0], states[:, 1], **cycle_look(k, cycles))
        right.plot(*states[-1], "o", color=cycle_look(k, cycles)["color"], markersize=6)
    _controls(left, dt, optimal_controls, label="optimum", **OPTIMUM)
    right.plot(*_numpy(optimal_states).T, **OPTIMUM)
    right.plot(*_numpy(target_state), "x", color="black", markersize=10, markeredgewidth=2.5, zorder=6, label="target")
    left.axhline(0, color="0.6", linewidth=0.8)
    left.set(xlabel="time (s)", ylabel="control u (m/s²)", title=title)
    right.set(xlabel="position (m)", ylabel="velocity (m/s)", title="where they lead")
    left.legend()
    right.legend()
    return _finished(figure)


def snapshots(dt, rows, optimal_controls, limits=None):
    """Small multiples: one row a training epoch, one column a cycle, the optimum in each.

    Each panel says how far the controls are off the optimum, root mean square.

    Args:
        rows: ``{label: cycle_controls [H_cycles + 1, N, 1]}``.
        optimal_controls: ``[N, 1]``.
        limits: of the control axis, the same in every panel.
    """
    cycles = len(next(iter(rows.values()))) - 1
    figure, grid = plt.subplots(len(rows), cycles + 1, figsize=(12, 2.0 * len(rows) + 0.4),
                                sharex=True, sharey=True, squeeze=False)
    for row, (label, cycle_controls) in zip(grid, rows.items()):
        for axes, controls in zip(row, _numpy(cycle_controls)):
            _controls(axes, dt, controls, **LOOKS["network"], label="network")
            _controls(axes, dt, optimal_controls, **OPTIMUM, label="optimum")
            off = np.sqrt(np.mean((controls - _numpy(optimal_controls)) ** 2))
            axes.text(0.03, 0.06, f"off by {off:.4f} m/s²", transform=axes.transAxes, fontsize=9.5)
        row[0].set_ylabel(f"{label}\nu (m/s²)")
    for k, axes in enumerate(grid[0]):
        axes.set_title("first proposal" if k == 0 else f"after cycle {k}")
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    if limits is not None:
        grid[0, 0].set_ylim(*limits)
    grid[0, -1].legend(loc="upper right")
    return _finished(figure)


def learning_curves(history):
    """Train and eval loss (same units, log axis), and the mean final error on the eval set, by epoch."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 3.5))
    left.semilogy(history["epoch"], history["train_loss"], "o-", color="#56B4E9", label="train loss")
    left.semilogy(history["epoch"], history["eval_loss"], "s-", color="#0072B2", label="eval loss")
    left.semilogy(history["epoch"], history["lr"], ":", color="0.4", label="learning rate (end of epoch)")
    right.semilogy(history["epoch"], history["eval_final_error"], "s-", color="#0072B2", label="network, eval set")
    right.axhline(SUCCESS, color="0.4", linestyle=":", label="counts as success below")
    left.set(xlabel="epoch", ylabel="control MSE ((m/s²)²)", ylim=(1e-7, 1), title="loss (the optimum: 0)")
    right.set(xlabel="epoch", ylabel="mean |x_N − x_T|", title="final error (the optimum: 0)")
    for axes in (left, right):
        axes.legend()
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    return _finished(figure)


def latents(z_H, z_L, title="one problem's latents, step by step"):
    """Heat strips: each column one moment of the refinement, each row one latent component.

    Args:
        z_H: ``[H_cycles + 1, latent_dim]``; z_L: ``[H_cycles, L_cycles + 1, latent_dim]``.
    """
    z_H, z_L = _numpy(z_H), _numpy(z_L)
    steps = z_L.shape[1] - 1
    strip = np.concatenate([z_L[:1, 0], *(cycle[1:] for cycle in z_L)])            # [H * L + 1, latent_dim]
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(12, 4.6), height_ratios=(1, 1))
    for axes, values, name in ((top, strip, "z_L"), (bottom, z_H, "z_H")):
        picture = axes.imshow(values.T, aspect="auto", cmap="RdBu_r", vmin=-3, vmax=3, interpolation="nearest")
        axes.set_ylabel(f"{name}\ncomponent")
        axes.grid(False)
    top.set(title=title, xticks=range(len(strip)),
            xticklabels=["start"] + [f"H{h + 1}\nL{step + 1}" for h in range(len(z_L)) for step in range(steps)])
    bottom.set(xticks=range(len(z_H)), xticklabels=["start", *(f"after H{h + 1}" for h in range(len(z_L)))])
    figure.colorbar(picture, ax=(top, bottom), label="value", shrink=0.8)
    return _finished(figure)


def error_map(positions, velocities, errors, target_state, box=None, title="final error by start"):
    """Final error over start positions and velocities, colours on a log scale; a line where success ends, at 0.1.

    Args:
        positions: ``[P]`` (m); velocities: ``[V]`` (m/s); errors: ``[V, P]``.
        box: half the side of the training box, drawn if given.
    """
    figure, axes = plt.subplots(figsize=(6.4, 4.8))
    picture = axes.pcolormesh(_numpy(positions), _numpy(velocities), np.maximum(_numpy(errors), 1e-6),
                              norm=LogNorm(1e-3, 1), shading="nearest")
    axes.contour(_numpy(positions), _numpy(velocities), _numpy(errors), levels=[SUCCESS], colors="white", linewidths=1.2)
    axes.plot(*_numpy(target_state), "x", color="white", markersize=10, markeredgewidth=2.5, label="target")
    if box is not None:
        axes.add_patch(plt.Rectangle((-box, -box), 2 * box, 2 * box, fill=False, edgecolor="white", linestyle="--",
                                     label="training box"))
    axes.set(xlabel="start position (m)", ylabel="start velocity (m/s)", title=title)
    axes.grid(False)
    axes.legend(facecolor="0.3", labelcolor="white", framealpha=0.7, frameon=True, loc="upper right")
    figure.colorbar(picture, label="|x_N − x_T|", extend="both")
    return _finished(figure)


def data_flow():
    """The three stages of the course as boxes and arrows."""
    figure, axes = plt.subplots(figsize=(12, 3.6))
    stages = (
        ("1  Data: an exact teacher", "#009E73",
         ("random states\nx₀, x_T", "minimum-energy\ncontroller", "lqr_dataset.npz\nproblems + answers")),
        ("2  Training: imitation", "#0072B2",
         ("problem\nx₀, x_T", "network: H cycles\nof refinement", "MSE to the\nteacher's controls")),
        ("3  Evaluation: the ruler", "#D55E00",
         ("new problems\nx₀, x_T", "network's controls,\nsimulated", "miss and regret,\nfinal error")),
    )
    arrow = {"arrowstyle": "-|>", "mutation_scale": 14, "color": "0.3"}
    for row, (title, color, boxes) in enumerate(stages):
        y = 2 - row
        axes.text(0.0, y, title, va="center", fontsize=12, color=color, weight="bold")
        for column, text in enumerate(boxes):
            x = 4.0 + 3.0 * column
            axes.add_patch(FancyBboxPatch((x - 1.05, y - 0.27), 2.1, 0.54, boxstyle="round,pad=0.04",
                                          facecolor=color + "1F", edgecolor=color, linewidth=1.5))
            axes.text(x, y, text, ha="center", va="center", fontsize=10.5)
            if column:
                axes.add_patch(FancyArrowPatch((x - 1.9, y), (x - 1.1, y), **arrow))
    for x, y, label in ((10.0, 1.5, "answers to imitate"), (7.0, 0.5, "trained weights")):
        axes.add_patch(FancyArrowPatch((x, y + 0.18), (x, y - 0.18), **arrow))
        axes.text(x + 0.12, y, label, fontsize=9.5, color="0.25", ha="left", va="center")
    axes.set(xlim=(0, 11.2), ylim=(-0.5, 2.5))
    axes.axis("off")
    return _finished(figure)


def refinement_gif(path, dt, off, ends, target_state, milliseconds=1000):
    """One refinement as an animated GIF: how far each cycle's controls are off the optimum, and where they end.

    Args:
        path: where to write it.
        dt: seconds a step.
        off: the controls of each cycle less the optimum, ``[H_cycles + 1, N, 1]``.
        ends: the final states, ``[H_cycles + 1, 2]``.
        target_state: ``[2]``, in the middle of the right panel.
    """
    off, ends, target, frames = _numpy(off), _numpy(ends), _numpy(target_state), []
    width, reach, cycles = 1.1 * np.abs(off).max(), 1.2 * np.abs(ends - target).max(), len(off) - 1
    for shown in range(cycles + 1):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6), width_ratios=(1.6, 1))
        for k in range(shown + 1):
            look = cycle_look(k, cycles) | ({} if k == shown else {"alpha": 0.35})
            _controls(left, dt, off[k], **look)
            right.plot(*ends[k], "o", markersize=11, color=look["color"], alpha=look.get("alpha", 1))
        left.axhline(0, **OPTIMUM)
        right.plot(*target, "x", color="black", markersize=12, markeredgewidth=2.5, zorder=6)
        left.set(xlabel="time (s)", ylabel="u − u* (m/s²)", ylim=(-width, width),
                 title="first proposal, less the optimum" if shown == 0 else f"after cycle {shown}, less the optimum")
        right.set(xlabel="position (m)", ylabel="velocity (m/s)", title="where it ends; x is the target",
                  xlim=(target[0] - reach, target[0] + reach), ylim=(target[1] - reach, target[1] + reach))
        figure.canvas.draw()
        frames.append(Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]))
        plt.close(figure)
    frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:], loop=0,
                   duration=[milliseconds] * cycles + [3 * milliseconds])


def grid(given, figures):
    """A grid of runs: one panel a figure, over the first parameter that was swept; one line for each setting of the others.

    Where several seeds were run, each is a pale dot, and the line goes through their means.

    Args:
        given: what each run was given, a list of dicts with the same keys, ``{"04.seed": 1, "04.cycle_weight": 0.1}``.
        figures: ``{label: values}``, one value a run; None where a run has none.
    """
    names = [name for name in given[0] if not name.endswith(".seed")] or list(given[0])
    across, others = names[0], names[1:]
    places = list(dict.fromkeys(run[across] for run in given))
    settings = list(dict.fromkeys(tuple(run[name] for name in others) for run in given))
    columns = min(3, len(figures))
    figure, panels = plt.subplots(-(-len(figures) // columns), columns, squeeze=False,
                                  figsize=(4.4 * columns, 3.4 * -(-len(figures) // columns)))
    for axes in panels.flat[len(figures):]:
        axes.axis("off")
    for axes, (label, values) in zip(panels.flat, figures.items()):
        for i, setting in enumerate(settings):
            color = plt.get_cmap("viridis")(0.8 * i / max(1, len(settings) - 1))
            mine = [(places.index(run[across]), value) for run, value in zip(given, values)
                    if value is not None and tuple(run[name] for name in others) == setting]
            if len(mine) > len({place for place, _ in mine}):
                axes.plot(*zip(*mine), "o", color=color, alpha=0.5, markersize=5, markeredgewidth=0)
            at = sorted({place for place, _ in mine})
            means = [np.mean([value for place, value in mine if place == here]) for here in at]
            axes.plot(at, means, marker="osD^v"[i % 5], color=color, markersize=7,
                      label=", ".join(f"{name} {value}" for name, value in zip(others, setting)) or "mean of the runs")
        found = [value for value in values if value is not None]
        if min(found) > 0 and max(found) > 20 * min(found):
            axes.set_yscale("log")
        axes.set(xlabel=across, title=label, xticks=range(len(places)), xticklabels=[str(place) for place in places])
    if others or len(given) > len(places):
        panels[0][0].legend(fontsize=9)
    return _finished(figure)
