"""Pictures of landings: the path above its glide slope, and the thrust between its limits."""

import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.ticker import MaxNLocator

from trc_lib.course import plots
from trc_lib.systems.lander import H, R, T, lengths

ARROWS = 10        # thrusts that are drawn along a path
LONGEST = 0.3      # of the height of the picture: the arrow of the largest thrust
KILO = 1e3         # m in a km, N in a kN
PAUSE = 1500       # ms that an animation stands still after landing
SLOPE = {"color": "#D55E00", "alpha": 0.22, "linewidth": 0, "rstride": 1, "cstride": 1}
LIMIT = {"color": "#D55E00", "linewidth": 1.4}


def panels(figure):
    """The figure with axes for `set_scene` and for `set_thrust`."""
    grid = figure.add_gridspec(1, 2, width_ratios=(1.25, 1))
    return figure, figure.add_subplot(grid[0], projection="3d"), figure.add_subplot(grid[1])


def set_scene(axes, craft, reach, height, azimuth=-65.0):
    """Draw the target and the glide slope's cone on three-dimensional axes, in km.

    Args:
        axes: with ``projection="3d"``.
        craft: a `Craft`.
        reach: m, how far downrange the picture goes; it goes a fifth of it the other way.
        height: m, how high it goes.
        azimuth: degrees, where the viewer stands.
    """
    reach, height = reach / KILO, height / KILO
    if craft.glide_slope:
        away, turn = np.meshgrid(np.linspace(0, reach, 30), np.linspace(0, 2 * math.pi, 73))
        x, y = away * np.cos(turn), away * np.sin(turn)
        seen = (x > -0.2 * reach) & (abs(y) < 0.5 * reach)
        z = np.where(seen, math.tan(math.radians(craft.glide_slope)) * away, np.nan)
        axes.plot_surface(x, y, z, **SLOPE)
    axes.plot([0], [0], [0], **plots.CROSS)
    axes.set(xlim=(-0.2 * reach, reach), ylim=(-reach / 2, reach / 2),
             zlim=(0, height), xlabel="downrange (km)", ylabel="crossrange (km)",
             zlabel="altitude (km)")
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_major_locator(MaxNLocator(4))
    axes.set_box_aspect((1.2, 1, 0.9), zoom=1.08)
    axes.view_init(elev=14, azim=azimuth)


def path_and_arrows(system, start, controls, height):
    """A flight for a three-dimensional picture, in km.

    Args:
        system: a `Lander`.
        start: ``[7]``.
        controls: ``[N, 4]``.
        height: m, of the picture.

    Returns:
        the path, ``[N + 1, 3]``, and the thrusts of some steps as lines with gaps between,
        ``[3 ARROWS, 3]``.
    """
    path = system.rollout_unchecked(start, controls)[:, R] / KILO
    k = torch.linspace(0, len(controls) - 1, ARROWS).round().long()
    arrows = controls[k, T] / system.craft.most_thrust * (LONGEST * height / KILO)
    gap = torch.full_like(arrows, math.nan)
    return path.numpy(), torch.stack([path[k], path[k] + arrows, gap], dim=1).flatten(0, 1).numpy()


def draw_flight(axes, system, start, controls, height, label=None, arrows=True, **look):
    """Draw a flight on axes of `set_scene`; the lines are thrusts. Returns the two artists."""
    path, thrusts = path_and_arrows(system, start, controls, height)
    line, = axes.plot(*path.T, label=label, **look)
    pushes, = axes.plot(*thrusts.T, **look | {"linewidth": 1.0, "linestyle": "-"})
    pushes.set_visible(arrows)
    return line, pushes


def thrust_levels(controls):
    """The lengths of the thrusts in kN and the edges of their steps in s, for `stairs`."""
    size = lengths(controls[:, T])[:, 0] / KILO
    edges = torch.cat([torch.zeros(1).to(size), controls[:, H].cumsum(0)])
    return size.numpy(), edges.numpy()


def set_thrust(axes, craft, longest, title="length of the thrust"):
    """Label axes for thrusts over time, and draw their limits."""
    for limit, name in ((craft.most_thrust, "most"), (craft.least_thrust, "least")):
        axes.axhline(limit / KILO, **LIMIT)
        axes.text(0.995 * longest, limit / KILO * 1.01, name, color=LIMIT["color"], ha="right",
                  va="bottom")
    axes.set(xlabel="time (s)", ylabel="thrust (kN)", xlim=(0, longest), title=title,
             ylim=(0, 1.15 * craft.most_thrust / KILO))


def relaxation(craft, azimuth=-60.0):
    """The thrusts that are possible, a ring, and with one number more a set without a hole.

    The chord joins two thrusts that are possible; its middle is not. On the right it is.

    Args:
        craft: a `Craft`.
        azimuth: degrees, where the viewer stands on the right.
    """
    figure = plt.figure(figsize=(11, 4.6))
    grid = figure.add_gridspec(1, 2, width_ratios=(1, 1.25))
    left, right = figure.add_subplot(grid[0]), figure.add_subplot(grid[1], projection="3d")
    least, most = craft.least_thrust / KILO, craft.most_thrust / KILO
    turn = np.linspace(0, 2 * math.pi, 73)
    circle = np.stack([np.cos(turn), np.sin(turn)])
    rim = np.concatenate([most * circle, least * circle[:, ::-1]], axis=1)
    left.fill(*rim, color="#56B4E9", alpha=0.45, linewidth=0)
    for length, name in ((most, "most"), (least, "least")):
        left.plot(*length * circle, color="#0072B2")
        left.text(0, length, name, ha="center", va="bottom", color="#0072B2")
    chord = 0.8 * most * np.array([[-0.96, 0.96], [0.28, 0.28]])
    middle = chord.mean(axis=1)
    left.plot(*chord, "o-", color="black")
    left.plot(*middle, **plots.CROSS | {"color": "#D55E00"})
    left.set(xlabel="thrust sideways (kN)", ylabel="thrust upwards (kN)", aspect="equal",
             title="a ring: the middle of two is in its hole")
    level = np.array([[least], [most]])
    right.plot_surface(level * circle[0], level * circle[1], level + 0 * circle[:1],
                       color="#56B4E9", alpha=0.35, linewidth=0)
    for length in (least, most):
        right.plot(*length * circle, length, color="#0072B2")
    bound = np.full(2, np.hypot(*chord[:, 0]))
    right.plot(*chord, bound, "o-", color="black")
    right.plot(*middle[:, None], bound[:1], **plots.CROSS | {"color": "#009E73", "marker": "o"})
    right.set(xlabel="sideways (kN)", ylabel="upwards (kN)", zlabel="bound s (kN)",
              title="with |thrust| ≤ s, a cone: it is inside")
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_locator(MaxNLocator(4))
    right.view_init(elev=18, azim=azimuth)
    right.set_box_aspect((1, 1, 0.7), zoom=1.0)
    plt.close(figure)
    return figure


def landing_gif(path, system, start, flights, frames=40):
    """Write landings as an animated GIF: where the craft are, and how they push.

    Args:
        path: of the file.
        system: a `Lander`.
        start: ``[7]``, of all.
        flights: by name, controls ``[N, 4]`` and how lines look.
        frames: how many pictures until the last one has landed.
    """
    height, reach = 1.1 * start[2].item(), 1.15 * start[:2].norm().item()
    longest = max(controls[:, H].sum().item() for controls, _ in flights.values())

    def frame(now):
        figure, left, right = panels(plt.figure(figsize=(9, 3.9)))
        set_scene(left, system.craft, reach, height)
        set_thrust(right, system.craft, longest)
        for name, (controls, look) in flights.items():
            look = {"linewidth": 2} | look
            draw_flight(left, system, start, controls, height, arrows=False, alpha=0.35, **look)
            size, edges = thrust_levels(controls)
            right.stairs(size, edges, baseline=None, alpha=0.35, **look)
            flown = int((edges[:-1] <= now).sum())  # steps that have begun
            until = controls[:flown].clone()
            until[-1, H] = min(now - edges[flown - 1], controls[0, H].item())
            craft = system.rollout_unchecked(start, until)[-1, R].numpy() / KILO
            size, edges = thrust_levels(until)
            right.stairs(size, edges, baseline=None, label=name, **look)
            if now < controls[:, H].sum():
                jet = until[-1, T].numpy() / system.craft.most_thrust * LONGEST * height / KILO
                left.plot(*np.stack([craft, craft - 0.6 * jet]).T, color="#E69F00", linewidth=4)
            left.plot(*craft[:, None], "o", color=look["color"], markersize=8)
        right.legend(loc="lower left")
        figure.suptitle(f"{now:4.0f} s", x=0.01, ha="left")
        return figure

    plots.save_gif(path, map(frame, np.linspace(0, longest, frames)),
                   [round(1e3 * longest / frames / 6)] * (frames - 1) + [PAUSE])
