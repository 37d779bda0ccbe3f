"""Diagrams: ideas of the course as pictures. Each function but one returns a matplotlib `Figure`.

What a diagram shows of a quantity, it computes. Boxes are things that happen, pills are values,
grey arrows are values that are handed on. Colours are Okabe and Ito's; where two of them matter,
hatches or dashes tell them apart, too.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

from trc_lib.course.plots import CART, CROSS, _finished, cycle_look, cycle_name, save_gif
from trc_lib.model.config import TRCConfig
from trc_lib.systems import DoubleIntegrator

BLUE, ORANGE, GREEN, VERMILION, PINK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
DARK, GREY = "0.25", "0.45"
SMALL, SIZE = 10, 11  # points
HORIZON = 15


def _canvas(width, height, title):
    """A figure without axes, whose unit of length is nearly an inch."""
    figure, axes = plt.subplots(figsize=(width, height + 0.35))
    _blank(axes, width, height)
    axes.set_title(title)
    return figure, axes


def _blank(axes, width, height):
    """Make ``axes`` a sheet of paper of this size."""
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.axis("off")


def _text(axes, x, y, text, **look):
    """A text around a point."""
    return axes.text(x, y, text, **{"ha": "center", "va": "center", "fontsize": SMALL,
                                    "color": DARK, "linespacing": 1.3} | look)


def _box(axes, x, y, text, color=GREY, width=1.3, height=0.62, corner=0.06, font=None, **look):
    """A box around a point, with a text."""
    look = {"facecolor": color + "22" if color.startswith("#") else "white", "edgecolor": color,
            "linewidth": 1.6, "zorder": 2} | look
    axes.add_patch(FancyBboxPatch((x - width / 2 + corner, y - height / 2 + corner),
                                  width - 2 * corner, height - 2 * corner,
                                  boxstyle=f"round,pad={corner}", **look))
    return _text(axes, x, y, text, zorder=3, **{"color": "black"} | (font or {}))


def _pill(axes, x, y, text, width=0.9, height=0.42, **look):
    """A value: a box with round ends."""
    return _box(axes, x, y, text, width=width, height=height, corner=height / 2 - 0.001, **look)


def _frame(axes, left, bottom, right, top, color):
    """A large dashed box behind others."""
    axes.add_patch(FancyBboxPatch((left + 0.1, bottom + 0.1), right - left - 0.2,
                                  top - bottom - 0.2, boxstyle="round,pad=0.1", zorder=0,
                                  facecolor=color + "12", edgecolor=color, linewidth=1.4,
                                  linestyle=(0, (5, 3))))


def _arrow(axes, *points, color=DARK, head="-|>", size=13, **look):
    """An arrow along some points, with its head at the last one."""
    look = {"color": color, "linewidth": 1.6, "zorder": 2} | look
    if len(points) > 2:
        axes.plot(*np.transpose(points[:-1]), solid_capstyle="round", **look)
    axes.add_patch(FancyArrowPatch(*points[-2:], arrowstyle=head, mutation_scale=size, shrinkA=0,
                                   shrinkB=0, **look))


def _plus(axes, x, y, radius=0.15):
    """A circle in which two values are added."""
    axes.add_patch(Circle((x, y), radius, facecolor="white", edgecolor=DARK, linewidth=1.6,
                          zorder=3))
    _text(axes, x, y, "+", fontsize=13, color="black", zorder=4)


def _number(value, digits=2):
    """A number for a text, with a true minus."""
    return f"{value + 0.0:.{digits}f}".replace("-", "−")


def _pair(values):
    """Numbers for a text: ``(0.25, −0.25)``."""
    return f"({', '.join(map(_number, values))})"


def _driven(controls, start=(0.0, 0.0)):
    """The states ``[N + 1, 2]`` of the cart that these controls lead through."""
    A, B = CART.A.numpy(), CART.B.numpy()[:, 0]
    states = [np.array(start)]
    for u in controls:
        states.append(A @ states[-1] + B * u)
    return np.array(states)


# ---------------------------------------------------------------- chapter 1

def push_coast_brake():
    """A plan of 15 controls: push, roll, brake; it brings the cart from 0 to rest at 1 m."""
    shape = np.repeat([1.0, 0.0, -1.0], 5)
    return shape / _driven(shape)[-1, 0]


def cart():
    """The cart on its track, with its state and control, and a plan of 15 held controls."""
    plan, step = push_coast_brake(), 4
    states, time = _driven(plan), CART.dt * np.arange(len(plan) + 1)
    figure, (track, bars) = plt.subplots(2, 1, figsize=(10, 4.9), height_ratios=(1.45, 1))
    _blank(track, 10, 2.35)
    track.set_title("a cart on a track: bring it to the flag, and let it stand there")
    rail, left, metre = 0.72, 1.5, 7.0  # inches
    track.plot([0.4, 9.6], [rail, rail], color=GREY, linewidth=3)
    for position in (0, 0.5, 1):
        x = left + metre * position
        track.plot([x, x], [rail - 0.09, rail], color=GREY, linewidth=1.5)
        _text(track, x, rail - 0.24, f"{position:g} m")
    p, v = states[step]
    now = left + metre * p
    _wagon(track, left, rail, alpha=0.25)
    _wagon(track, now, rail)
    _flag(track, left + metre * 1, rail)
    _text(track, left + metre * 1 + 0.15, rail + 1.45, "target", ha="right")
    _arrow(track, (now + 0.48, rail + 0.5), (now + 0.48 + 6 * plan[step], rail + 0.5),
           color=VERMILION, linewidth=3, size=18)
    _text(track, now + 0.6 + 6 * plan[step], rail + 0.5, ha="left", color=VERMILION,
          text="control u (m/s²): the push that you choose")
    _arrow(track, (now - 0.2, rail + 1.0), (now - 0.2 + 6 * v, rail + 1.0), color=BLUE,
           linewidth=3, size=18)
    _text(track, now + 6 * v, rail + 1.0, "velocity v (m/s)", ha="left", color=BLUE)
    _arrow(track, (left, 0.13), (now, 0.13), color=DARK, head="<|-|>")
    _text(track, now + 0.12, 0.13, "position p (m)", ha="left")
    for k, u in enumerate(plan):
        bars.add_patch(Rectangle((time[k], 0), CART.dt, u, linewidth=1.2, edgecolor="white",
                                 facecolor=VERMILION, alpha=1 if k == step else 0.45,
                                 hatch="///" if k == step else None))
    bars.plot(time, np.zeros_like(time), "|", color=DARK, markersize=9)
    bars.axhline(0, color=DARK, linewidth=1)
    bars.annotate(f"one control, held for Δt = {CART.dt:g} s", (time[step + 1], plan[step] * 0.6),
                  (time[step + 3], plan[step] * 0.6), va="center", fontsize=SMALL, color=DARK,
                  arrowprops={"arrowstyle": "-|>", "color": DARK})
    bars.set(xlim=(-0.1, time[-1] + 0.1), ylim=1.25 * plan[0] * np.array([-1, 1]),
             xlabel="time (s)", ylabel="u (m/s²)",
             title=f"a plan is {len(plan)} controls; this one pushes, rolls and brakes")
    bars.grid(False)
    return _finished(figure)


def _wagon(axes, x, rail, alpha=1.0):
    """The cart, its middle at ``x``."""
    axes.add_patch(FancyBboxPatch((x - 0.36, rail + 0.26), 0.72, 0.4, alpha=alpha, zorder=3,
                                  boxstyle="round,pad=0.05", facecolor="#56B4E9",
                                  edgecolor="black"))
    for wheel in (x - 0.24, x + 0.24):
        axes.add_patch(Circle((wheel, rail + 0.13), 0.12, facecolor="0.2", alpha=alpha, zorder=4))


def _flag(axes, x, rail):
    """The target's flag."""
    axes.plot([x, x], [rail, rail + 1.2], color="black", linewidth=2)
    axes.add_patch(Polygon([(x, rail + 1.2), (x + 0.55, rail + 1.0), (x, rail + 0.8)],
                           facecolor=GREEN, edgecolor="black"))


def refinement_gif(path, controls, initial_state, target_state):
    """Write a refinement of the course's cart as an animated GIF: each plan is driven in turn.

    Args:
        path: of the file.
        controls: of each cycle, ``[H_cycles + 1, N, 1]``.
        initial_state, target_state: ``[2]``.
    """
    drives = [CART.rollout(initial_state, plan)[:, 0].numpy() for plan in controls]  # [N + 1]
    goal, cycles = target_state[0].item(), len(controls) - 1
    misses = [100 * (places[-1] - goal) for places in drives]  # cm

    def frame(cycle, step):
        plan, place = controls[cycle, :, 0].numpy(), drives[cycle][step]
        figure, track, bars, flag, words = _scene(np.stack(drives), goal)
        _wagon(track, track.place(place), 0.1)
        track.set_title(f"{cycle_name(cycle)}: {len(plan)} pushes, chosen before the start", x=0.03)
        colors = [VERMILION if k < step else "0.85" for k in range(len(plan))]
        bars.bar(CART.dt * np.arange(len(plan)), plan, CART.dt, align="edge", color=colors,
                 edgecolor="white")
        bars.set_ylim(1.15 * abs(controls).max().item() * np.array([-1, 1]))
        for k in range(cycle + (step == len(plan))):
            flag.plot(misses[k], -k, "o", markersize=11, color=cycle_look(k, cycles)["color"])
            side = "past" if misses[k] > 0 else "short of"
            _text(words, 0, -k, f"{cycle_name(k)}: {abs(misses[k]):.1f} cm {side} it",
                  ha="left", fontsize=SIZE)
        flag.set_xlim(1.2 * max(map(abs, misses)) * np.array([-1, 1]))
        for axes in (flag, words):
            axes.set_ylim(-cycles - 0.6, 0.6)
        return figure

    horizon = controls.shape[1]
    ends = [1200] * cycles + [3000]  # milliseconds
    save_gif(path, (frame(*at) for at in np.ndindex(cycles + 1, horizon + 1)),
             [each for end in ends for each in [70] * horizon + [end]])


def _scene(drives, goal):
    """An empty frame of the GIF: the track, on which ``place`` puts metres; pushes; the flag."""
    figure = plt.figure(figsize=(9.6, 4), layout="none")
    track = figure.add_axes((0, 0.55, 1, 0.37))
    bars, flag, words = (figure.add_axes((left, 0.14, width, 0.33))
                         for left, width in ((0.075, 0.34), (0.46, 0.26), (0.74, 0.25)))
    words.axis("off")
    _blank(track, 9.6, 1.5)
    low, high = min(drives.min(), goal), max(drives.max(), goal)
    track.place = lambda metres: 0.7 + 7.9 * (metres - low) / (high - low)
    track.plot([0.2, 9.4], [0.1, 0.1], color=GREY, linewidth=3)
    _flag(track, track.place(goal), 0.1)
    bars.axhline(0, color=DARK, linewidth=1)
    bars.set(xlabel="time (s)", ylabel="push u (m/s²)", title="the plan")
    flag.axvline(0, color=GREEN, linewidth=3)
    flag.set(xlabel="from the flag (cm)", yticks=[], title="where it ends, magnified")
    return figure, track, bars, flag, words


def two_steps():
    """Two controls that shall make the cart faster by one step's length: its C, u* and a mistake.

    Returns:
        C ``[1, 2]``, the velocity that is wanted, u* ``[2]``, a learner's u ``[2]``, and the two
        parts of its mistake: in the row space and in the null space of C, ``[2]`` each.
    """
    C = CART.dt * np.ones((1, 2))
    wanted = np.array([CART.dt * 1.0])
    inverse = np.linalg.pinv(C)
    best, learner = inverse @ wanted, np.array([1.1, 0.4])
    row = inverse @ C @ (learner - best)
    return C, wanted, best, learner, row, learner - best - row


def mistake_in_two_parts():
    """Row space and null space for two controls, and a mistake split into its two parts."""
    _, wanted, best, learner, row, null = two_steps()
    corner, reach = best + row, np.array([-0.45, 1.35])
    figure, (plane, words) = plt.subplots(1, 2, figsize=(10.5, 5.6), width_ratios=(1.25, 1))
    plane.plot(reach, (wanted / CART.dt).item() - reach, color="black", linewidth=2.6)
    plane.plot(reach, reach, color=GREY, linestyle=(0, (6, 3)), linewidth=1.6)
    plane.plot(reach, -reach, color=GREY, linestyle=(0, (6, 2, 1, 2)), linewidth=1.6)
    plane.add_patch(Circle((0, 0), np.linalg.norm(best), fill=False, color=GREY, linestyle=":",
                           linewidth=1.6))
    for begin, end, color in ((best, learner, "black"), (best, corner, VERMILION),
                              (corner, learner, BLUE)):
        _arrow(plane, begin, end, color=color, linewidth=2.8, size=16, zorder=4)
    _right_angle(plane, corner, -row, null)
    plane.plot(*best, **CROSS)
    plane.plot(*learner, "s", color=GREEN, markersize=9, zorder=6)
    for x, y, text, look in (
            (0.15, 1.02, "all that arrive", {"rotation": -45, "color": "black"}),
            (1.17, 1.07, "row space", {"rotation": 45}),
            (0.35, -0.25, "null space", {"rotation": -45}),
            (-0.02, 0.5, "as much\nenergy as u*", {}),
            (*best - [0.13, 0.02], "u*", {"color": "black", "fontsize": 13}),
            (*((best + learner) / 2 + [0.08, -0.09]), "mistake", {"color": "black"}),
            (*(learner - [-0.08, 0.06]), "u", {"color": GREEN, "fontsize": 13}),
            (*(best + row / 2 - [0.13, -0.14]), "moves\nthe end", {"color": VERMILION}),
            (*(corner + null / 2 + [0.2, 0.1]), "only costs\nenergy", {"color": BLUE})):
        _text(plane, x, y, text, **look)
    plane.set(xlim=reach, ylim=reach, aspect="equal", xlabel="first control u₀ (m/s²)",
              ylabel="second control u₁ (m/s²)", title="two controls, one velocity to reach")
    _words_of_the_mistake(words)
    return _finished(figure)


def _words_of_the_mistake(axes):
    """The numbers of `mistake_in_two_parts`, one a line."""
    _, wanted, best, learner, row, null = two_steps()
    squares = [_number(part @ part, 3) for part in (learner - best, row, null)]
    _blank(axes, 4.4, 5.2)
    for y, text, color in (
            (4.95, f"wanted: {_number(wanted.item())} m/s more, by two controls", DARK),
            (4.6, f"C = Δt [1, 1], Δt = {CART.dt:g} s", DARK),
            (3.95, f"u* = {_pair(best)}", "black"),
            (3.65, "arrives with the least energy", DARK),
            (3.0, f"u = {_pair(learner)}", GREEN),
            (2.7, "what a student answers", DARK),
            (2.05, f"mistake: u − u* = {_pair(learner - best)}", "black"),
            (1.65, f"{_pair(row)} in the row space: moves the end", VERMILION),
            (1.25, f"{_pair(null)} in the null space: only costs energy", BLUE),
            (0.6, "squared lengths add up:", DARK),
            (0.25, f"{squares[0]} = {squares[1]} + {squares[2]}", "black")):
        _text(axes, 0, y, text, ha="left", color=color, fontsize=SIZE if color != DARK else SMALL)


def _right_angle(axes, corner, one, other, size=0.05):
    """The mark of a right angle between two directions."""
    one, other = (size * side / np.linalg.norm(side) for side in (one, other))
    axes.plot(*np.transpose([corner + one, corner + one + other, corner + other]), color=DARK,
              linewidth=1.2)


def held_step():
    """The first step of the law's line from rest at 0 to rest at 1 m: times, line, held value."""
    T = HORIZON * CART.dt
    time = np.linspace(0, CART.dt, 201)
    line = 6 / T**2 - 12 / T**3 * time
    return time, line, np.full_like(time, 6 / T**2 - 12 / T**3 * CART.dt / 2)


def held_and_line():
    """One step of the sampled law beside its line: the velocity ends right, the position not."""
    time, line, held = held_step()
    velocity, position = position_behind(time, held - line)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4))
    left.plot(time, line, color=VERMILION, linewidth=2.4)
    left.plot(time, held, color="black", linewidth=2.6)
    for where, hatch, color in ((line > held, "\\\\\\", VERMILION), (line < held, "///", BLUE)):
        left.fill_between(time, line, held, where=where, hatch=hatch, facecolor=color + "22",
                          edgecolor=color, linewidth=0)
    right.axhline(0, color=VERMILION, linewidth=2.4)
    right.plot(time, 1000 * velocity, color="black", linewidth=2.6)
    right.fill_between(time, 1000 * velocity, hatch="\\\\\\", facecolor=VERMILION + "22",
                       edgecolor=VERMILION, linewidth=0)
    top, low, middle = line[0], line[-1], CART.dt / 2
    for axes, x, y, text, color in (
            (left, 0.85 * middle, top - 0.1 * (top - low), "the law: a line", VERMILION),
            (left, 1.55 * middle, held[0] + 0.12 * (top - low), "held: its middle value", "black"),
            (left, 0.28 * middle, held[0] - 0.12 * (top - low), "too little", VERMILION),
            (left, 1.35 * middle, held[0] - 0.44 * (top - low), "too much", BLUE),
            (right, middle, 0.12, "the law: no difference", VERMILION),
            (right, middle, -1.5, "the held control: slower", "black"),
            (right, middle, 500 * velocity.min(),
             f"area: {_number(-1000 * position, 1)} mm\nof position lost", VERMILION)):
        _text(axes, x, y, text, color=color, bbox={"facecolor": "white", "linewidth": 0, "pad": 2})
    left.set(xlabel="time in the step (s)", ylabel="control u (m/s²)",
             title="one step: both areas are equal")
    right.set(xlabel="time in the step (s)", ylabel="velocity, held − law (mm/s)",
              ylim=(-1.75, 0.3), title="so the velocity ends right; the position does not")
    return _finished(figure)


def position_behind(time, difference):
    """What a difference of controls makes of the velocity over time, and of the final position."""
    step = np.diff(time)
    velocity = np.cumsum([0, *step * (difference[1:] + difference[:-1]) / 2])
    return velocity, np.trapezoid(velocity, time)


# ---------------------------------------------------------------- chapters 3, 4, 7 and 8

def architecture():
    """The recursive network: two loops around one shared block, with the names of the code."""
    sizes = TRCConfig()
    figure, axes = _canvas(
        11, 6, "an L loop inside an H loop, around one shared block (shaded boxes: learned)")
    _frame(axes, 2.25, 0.55, 10.9, 5.95, BLUE)
    _frame(axes, 5.75, 3.31, 10.65, 5.6, VERMILION)
    _text(axes, 2.45, 5.7, f"H loop: {sizes.H_cycles} cycles", ha="left", color=BLUE, fontsize=SIZE)
    _text(axes, 8.3, 5.37, f"L loop: {sizes.L_cycles} times", color=VERMILION, fontsize=SIZE)
    _proposal_parts(axes, sizes)
    _inputs_of_a_cycle(axes)
    _two_uses_of_the_block(axes)
    _box(axes, 9.85, 1.4, "decoder", GREEN)
    _plus(axes, 7.0, 1.4)
    _arrow(axes, (9.85, 2.59), (9.85, 1.71))
    _arrow(axes, (9.2, 1.4), (7.15, 1.4))
    _text(axes, 8.2, 1.58, "correction")
    _arrow(axes, (7.0, 1.25), (7.0, 0.95), (3.4, 0.95), (3.4, 1.19), color=BLUE, linewidth=2.4)
    _text(axes, 5.2, 0.77, "corrected controls: the next cycle", color=BLUE)
    _arrow(axes, (7.0, 0.95), (7.0, 0.25), (7.6, 0.25))
    _text(axes, 7.7, 0.25, "after the last cycle: the answer", ha="left")
    _text(axes, 0.1, 0.25, "at first z_H = z_initial and z_L = 0; later cycles go on from both",
          ha="left")
    return _finished(figure)


def _proposal_parts(axes, sizes):
    """From the problem to z_initial and the first proposal, in a column."""
    _box(axes, 1.05, 5.5, "problem\nx₀, x_T, time left", width=1.75)
    _box(axes, 1.05, 4.55, "encoder", GREEN)
    _pill(axes, 1.05, 3.6, "z_initial", width=1.1)
    _box(axes, 1.05, 2.55, "initial_generator", GREEN, width=1.65)
    _arrow(axes, (1.05, 5.19), (1.05, 4.86))
    _arrow(axes, (1.05, 4.24), (1.05, 3.81))
    _arrow(axes, (1.05, 3.39), (1.05, 2.86))
    _arrow(axes, (1.05, 2.24), (1.05, 1.4), (2.8, 1.4))
    _text(axes, 1.05, 1.05, f"first proposal:\n{sizes.horizon} controls")


def _inputs_of_a_cycle(axes):
    """What becomes of the controls at the beginning of a cycle: x."""
    _pill(axes, 3.4, 1.4, "controls", width=1.2)
    _box(axes, 3.4, 2.5, "feedback:\nsimulate, x_N − x_T", width=1.8)
    _box(axes, 3.4, 3.5, "error_embedding", GREEN, width=1.6)
    _box(axes, 5.15, 2.5, "control_\nembedding", GREEN, width=1.1)
    _plus(axes, 5.15, 4.4)
    _arrow(axes, (3.4, 1.61), (3.4, 2.19))
    _arrow(axes, (3.4, 2.81), (3.4, 3.19))
    _arrow(axes, (3.4, 3.81), (3.4, 4.4), (5.0, 4.4))
    _arrow(axes, (5.15, 1.4), (5.15, 2.19))
    _arrow(axes, (5.15, 2.81), (5.15, 4.25))
    _arrow(axes, (4.0, 1.4), (6.85, 1.4))
    _arrow(axes, (1.6, 3.6), (2.0, 3.6), (2.0, 5.0), (5.15, 5.0), (5.15, 4.55))
    _arrow(axes, (5.3, 4.4), (5.95, 4.4))
    _text(axes, 5.5, 4.6, "x", fontsize=SIZE)


def _two_uses_of_the_block(axes):
    """The same block for z_L, in the L loop, and for z_H, once a cycle."""
    _box(axes, 8.35, 3.6, "block\n(one set\nof weights)", ORANGE, width=1.15, height=2.4,
         facecolor="#FBE3B5")
    for y, given, made, color in ((4.4, "z_L + z_H + x", "z_L", VERMILION),
                                  (2.8, "z_H + z_L", "z_H", BLUE)):
        _pill(axes, 6.65, y, given, width=1.4)
        _pill(axes, 9.85, y, made, width=0.8)
        _arrow(axes, (7.35, y), (7.77, y), color=color)
        _arrow(axes, (8.93, y), (9.45, y), color=color)
    _arrow(axes, (9.85, 4.61), (9.85, 5.15), (6.65, 5.15), (6.65, 4.61), color=VERMILION,
           linewidth=2.4)
    _text(axes, 6.65, 3.15, "then once", color=BLUE)
    _text(axes, 6.65, 2.42, "(without x)", color=BLUE)


def backward_path(cycle_weight=0.1):
    """Where the gradient goes if every cycle is supervised, and if only the last one is."""
    figure, axes = _canvas(10.5, 5.7, "training: forward through the cycles, and back")
    _supervised(axes, 4.6, "every cycle supervised", [cycle_weight] * 3 + [1])
    _supervised(axes, 1.85, "only the last cycle supervised", [0] * 3 + [1])
    _arrow(axes, (2.6, 0.2), (3.3, 0.2))
    _text(axes, 3.4, 0.2, "forward: controls", ha="left")
    _arrow(axes, (5.9, 0.2), (5.2, 0.2), **_GRADIENT)
    _text(axes, 6.0, 0.2, "backward: gradient", ha="left", color=VERMILION)
    return _finished(figure)


_GRADIENT = {"color": VERMILION, "linestyle": (0, (4, 2)), "linewidth": 2}


def _supervised(axes, y, title, weights):
    """One row of `backward_path`: the first proposal, the cycles, and their weighted losses."""
    places, names = (1.3, 3.9, 6.5, 9.1), ("J₀", "J₁", "J₂", "J₃")
    terms = [f"{weight:g} · {name}".removeprefix("1 · ") for weight, name in zip(weights, names)]
    kept = [term for term, weight in zip(terms, weights) if weight]
    _text(axes, 0.4, y + 0.68, f"{title}: loss = {' + '.join(kept)}", ha="left", fontsize=SIZE,
          color="black")
    for k, (x, term, weight) in enumerate(zip(places, terms, weights)):
        _box(axes, x, y, cycle_name(k).removeprefix("after "), BLUE, width=1.6, height=0.7)
        if k:
            _arrow(axes, (x - 1.8, y + 0.15), (x - 0.8, y + 0.15))
            _arrow(axes, (x - 0.8, y - 0.15), (x - 1.8, y - 0.15), **_GRADIENT)
        if weight:
            _pill(axes, x, y - 1.1, term, width=1.1)
            _arrow(axes, (x - 0.2, y - 0.35), (x - 0.2, y - 0.89))
            _arrow(axes, (x + 0.2, y - 0.89), (x + 0.2, y - 0.35), **_GRADIENT)
        else:
            _pill(axes, x, y - 1.1, "no loss", width=1.1, linestyle=":", font={"color": GREY})


_TRAINED = {"color": GREEN, "facecolor": "#BFE5DA"}
_FROZEN = {"color": GREY, "facecolor": "0.93", "hatch": "////"}
_IDLE = {"color": GREY, "facecolor": "white", "linestyle": ":"}


def propose_first():
    """What is trained when: all parts at once, or the proposal first and then the cycles."""
    figure, axes = _canvas(10.6, 4.75, "two orders of training: what is trained when")
    columns = ((3.75, 2.9), (6.75, 2.35), (9.3, 2.35))
    trained, frozen, idle = ((text, look) for text, look in (
        ("trained", _TRAINED), ("frozen", _FROZEN), ("does not run", _IDLE)))
    rows = (("encoder", 3.4, (trained, trained, frozen)),
            ("initial_generator", 2.7, (trained, trained, frozen)),
            ("cycles: embeddings,\nblock, decoder", 2.0, (trained, idle, trained)))
    for name, y, cells in rows:
        _text(axes, 2.15, y, name, ha="right", color="black")
        for (x, width), (text, look) in zip(columns, cells):
            font = {"bbox": {"facecolor": "white", "linewidth": 0, "pad": 2}} if text == "frozen" \
                else None
            _box(axes, x, y, text, width=width, height=0.54, font=font, **look)
    for x, heading in ((3.75, "all at once"), (8.02, "propose first")):
        _text(axes, x, 4.45, heading, fontsize=SIZE, color="black", weight="bold")
    for (x, _), phase, loss, seen in zip(
            columns, ("one phase", "phase 1", "phase 2"),
            ("first proposal and cycles", "first proposal", "cycles"),
            ("poor at first, better later", "no cycle runs", "good from the beginning")):
        _text(axes, x, 4.0, phase)
        _text(axes, x, 1.35, loss)
        _text(axes, x, 0.85, seen)
    for y, name in ((1.35, "the loss is of the"), (0.85, "proposals that\ncycles start from")):
        _text(axes, 2.15, y, name, ha="right", color="black")
    axes.plot([5.39, 5.39], [0.55, 4.6], color=GREY, linewidth=1, linestyle=":")
    for begin, end in ((2.3, 5.2), (5.58, 10.47)):
        _arrow(axes, (begin, 0.35), (end, 0.35))
        _text(axes, (begin + end) / 2, 0.14, "time of training")
    return _finished(figure)


def corrected_once():
    """A proposal for the cart, the exact matrix K, and how far off it ends before and after.

    Returns:
        K ``[15, 2]``, the controls ``[15]`` at first and after one and two corrections ``u + K e``,
        and their final errors e, ``[3, 2]``.
    """
    K = -np.linalg.pinv(CART.controllability_matrix(HORIZON).numpy())
    target, size = np.array([1.0, 0.0]), 4 / (HORIZON * CART.dt) ** 2
    controls = [np.where(np.arange(HORIZON) < HORIZON // 2, size, -size)]
    errors = [_driven(controls[0])[-1] - target]
    for _ in range(2):
        controls.append(controls[-1] + K @ errors[-1])
        errors.append(_driven(controls[-1])[-1] - target)
    return K, controls, np.array(errors)


def one_cycle_twice():
    """Two cycles of a network that simulates, beside two corrections with the exact matrix."""
    K, _, errors = corrected_once()
    figure, axes = _canvas(10.8, 5.2, "simulate, look at the final error, correct: two times")
    _text(axes, 0.2, 5.05, "a network: it learns a correction from the final error e = x_N − x_T, "
          "u and the problem", ha="left", fontsize=SIZE, color="black")
    _two_corrections(axes, 3.75, "network", GREEN)
    _arrow(axes, (3.45, 3.44), (3.45, 3.05), (8.3, 3.05), (8.3, 3.44), linestyle=(0, (4, 2)))
    _text(axes, 5.87, 2.87, "a recursive one also hands on z_H and z_L; the weights are the same")
    _text(axes, 0.2, 2.3, f"the exact correction: u + K e with one matrix, K = −C⁺, "
          f"of {K.size} numbers", ha="left", fontsize=SIZE, color="black")
    _two_corrections(axes, 1.0, "K e", ORANGE)
    for x, error in zip((1.75, 6.6, 10.2), errors):
        _text(axes, x, 0.4, f"ends {_number(np.linalg.norm(error), 3)} off")
    return _finished(figure)


def _two_corrections(axes, y, name, color):
    """A row of `one_cycle_twice`: controls, simulation, final error, correction, sum; twice."""
    for number, left in ((1, 0.15), (2, 5.0)):
        _pill(axes, left + 0.35, y, "u", width=0.7)
        _box(axes, left + 1.6, y, "simulate", width=1.1)
        _box(axes, left + 3.3, y, name, color, width=1.1)
        _plus(axes, left + 4.3, y)
        _arrow(axes, (left + 0.7, y), (left + 1.05, y))
        _arrow(axes, (left + 2.15, y), (left + 2.75, y))
        _text(axes, left + 2.42, y + 0.18, "e", fontsize=SIZE, color="black")
        _arrow(axes, (left + 3.85, y), (left + 4.15, y))
        _arrow(axes, (left + 0.35, y + 0.21), (left + 0.35, y + 0.7), (left + 4.3, y + 0.7),
               (left + 4.3, y + 0.15))
        _arrow(axes, (left + 4.45, y), (left + 4.85, y))
        _text(axes, left + 2.3, y + 0.87, f"cycle {number}")
    _pill(axes, 10.2, y, "u", width=0.7)


def clipped_line(limit):
    """The least-energy controls from −2.5 m to 2.5 m within a limit, by Newton's method.

    Returns:
        Cᵀλ ``[15]``, which is a line in time, and the controls ``[15]``: the line, clipped.
    """
    C, d, lam = CART.controllability_matrix(HORIZON).numpy(), np.array([5.0, 0.0]), np.zeros(2)
    for _ in range(20):
        line = C.T @ lam
        free = np.abs(line) < limit
        lam = lam - np.linalg.solve(C[:, free] @ C[:, free].T, C @ line.clip(-limit, limit) - d)
    return C.T @ lam, (C.T @ lam).clip(-limit, limit)


def bounded_dual(limit=0.92):
    """The line Cᵀλ before it is clipped, and the controls within their limits."""
    line, controls = clipped_line(limit)
    edges, steps = CART.dt * np.arange(len(line) + 1), CART.dt * (np.arange(len(line)) + 0.5)
    figure, axes = plt.subplots(figsize=(10, 4.6))
    for low, high, color, hatch, name in ((0, limit, VERMILION, "///", "upper"),
                                          (-limit, 0, BLUE, "\\\\\\", "lower")):
        held = np.flatnonzero(controls == (high or low))
        left, right = edges[held[0]], edges[held[-1] + 1]
        axes.add_patch(Rectangle((left, low), right - left, high - low, facecolor=color + "33",
                                 edgecolor=color, hatch=hatch, linewidth=0))
        _text(axes, (left + right) / 2, (low + high) / 2, f"{len(held)} steps at\nthe {name} limit",
              color="black", bbox={"facecolor": "white", "linewidth": 0, "pad": 3})
        axes.axhline(high or low, color=GREY, linewidth=1.6, linestyle=":")
    axes.stairs(controls, edges, baseline=None, color="black", linewidth=2.8, zorder=4)
    axes.plot(steps, line, "o", color=PINK, markersize=6, linestyle=(0, (4, 2)), zorder=5)
    middle = len(line) // 2
    for x, y, text, color in ((steps[1] + 0.15, line[1] + 0.1, "the line Cᵀλ", "#9C3F77"),
                              (steps[middle - 1] + 0.2, line[middle - 2],
                               "controls u: the line, clipped", "black"),
                              (steps[-4], limit + 0.13, f"limit {limit:g} m/s²", GREY)):
        _text(axes, x, y, text, color=color, ha="left", fontsize=SIZE)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set(xlabel="time (s)", ylabel="control u (m/s²)",
             title="two numbers λ give one line; clipped at the limits it is the optimum")
    return _finished(figure)


def proof_of_no_way():
    """Two controls within ±1 on a cart with Δt = 1 s, and a target that they cannot reach.

    Returns:
        the corners ``[4, 2]`` of what is within reach, in order; the target d ``[2]``; the nearest
        end within reach ``[2]``; and the direction y ``[2]`` from there to d.
    """
    C = DoubleIntegrator(dt=1.0).controllability_matrix(2).numpy()
    corners = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) @ C.T
    d = np.array([2.3, 0.8])
    sides = np.roll(corners, -1, axis=0) - corners
    shares = ((d - corners) * sides).sum(axis=1) / (sides**2).sum(axis=1)
    points = corners + shares.clip(0, 1)[:, None] * sides
    nearest = points[np.linalg.norm(points - d, axis=1).argmin()]
    return corners, d, nearest, d - nearest


def certificate():
    """What two bounded controls can reach, and a line that proves a target out of reach."""
    corners, d, nearest, y = proof_of_no_way()
    figure, (plane, words) = plt.subplots(1, 2, figsize=(10.5, 4.9), width_ratios=(1.35, 1))
    plane.add_patch(Polygon(corners, facecolor="#56B4E955", edgecolor=BLUE, linewidth=2))
    along = np.array([-y[1], y[0]]) / np.linalg.norm(y)
    plane.plot(*np.transpose([nearest - 6 * along, nearest + 6 * along]), color=VERMILION,
               linestyle=(0, (5, 3)), zorder=3)
    _arrow(plane, nearest, nearest + 0.9 * y, color=VERMILION, linewidth=2.6, zorder=4)
    plane.plot(*d, **CROSS)
    for x, height, text, look in (
            (0, 0, "within reach", {"color": "black", "rotation": 45}),
            (*corners[0] - [0.65, -0.05], "u = (1, 1)", {}),
            (*corners[1] + [0.75, -0.1], "u = (1, −1)", {}),
            (*corners[2] + [0.75, -0.15], "u = (−1, −1)", {}),
            (*corners[3] - [0.8, 0], "u = (−1, 1)", {}),
            (*(d - [-0.25, -0.1]), "d", {"color": "black", "fontsize": 13}),
            (*(nearest + y / 2 + [0.12, 0.25]), "y", {"color": VERMILION, "fontsize": 13})):
        _text(plane, x, height, text, **look)
    plane.set(xlim=(-3.2, 3.2), ylim=(-2.6, 2.6), aspect="equal", xlabel="position to gain (m)",
              ylabel="velocity to gain (m/s)", title="a proof that a target is out of reach")
    _blank(words, 4.3, 4.6)
    for height, text, color in (
            (4.3, "a cart, two controls of 1 s each, |u| ≤ 1 m/s²", DARK),
            (3.9, "shaded: all ends C u within these limits", BLUE),
            (3.2, f"d = {_pair(d)}: what the target asks for", "black"),
            (2.8, f"y = {_pair(y)}: a direction", VERMILION),
            (2.1, f"yᵀd = {_number(y @ d)}", "black"),
            (1.7, f"largest yᵀC u within reach: {_number((corners @ y).max())}", VERMILION),
            (1.0, f"{_number(y @ d)} > {_number((corners @ y).max())}: d lies beyond the dashed",
             "black"),
            (0.7, "line, all that is within reach before it", "black")):
        _text(words, 0, height, text, ha="left", color=color)
    return _finished(figure)


# ---------------------------------------------------------------- chapters 9 and 10

def ilqr_sweeps():
    """One iteration of iterative LQR: a sweep backward for gains, and one forward with them."""
    figure, axes = _canvas(11, 4.6, "one iteration of iterative LQR: sweep backward, sweep forward")
    places, steps, up, down = (2.3, 4.55, 7.1), ("0", "1", "N−1"), 3.75, 2.0
    for x, k in zip(places, steps):
        k = f"{{{k}}}"
        _box(axes, x, up, f"step ${k}$", VERMILION, width=1.3)
        _box(axes, x, down, f"$u_{k} + α\\,k_{k}$\n$+\\ K_{k}(x_{k} - \\bar{{x}}_{k})$", BLUE,
             width=1.8, height=0.8)
        _arrow(axes, (x, up - 0.31), (x, down + 0.4))
        _text(axes, x + 0.1, (up + down) / 2 + 0.05, f"$k_{k},\\ K_{k}$", ha="left")
    _box(axes, 9.1, up, "end: slope and\ncurvature of cost", VERMILION, width=1.5)
    _arrow(axes, (8.35, up), (7.75, up), color=VERMILION)
    for begin, end, before in ((6.45, 5.2, "… "), (3.9, 2.95, "")):
        _arrow(axes, (begin, up), (end, up), color=VERMILION)
        _text(axes, (begin + end) / 2, up + 0.2, f"{before}$p,\\ P$", color=VERMILION)
    for begin, end, state in ((3.2, 3.65, "$x_1$"), (5.45, 6.2, "$x_2$ …"), (8.0, 8.4, "$x_N$")):
        _arrow(axes, (begin, down), (end, down), color=BLUE)
        _text(axes, (begin + end) / 2, down + 0.2, state, color=BLUE)
    _line_search(axes, up, down)
    _text(axes, 0.1, up, "backward\nsweep", ha="left", color=VERMILION, fontsize=SIZE)
    _text(axes, 0.1, down, "forward\nsweep", ha="left", color=BLUE, fontsize=SIZE)
    _text(axes, 0.1, 0.2, "$p,\\ P$: slope and curvature of the cost still to come;   "
          "$u,\\ \\bar{x}$: the path so far;   $α$: 1 at first", ha="left")
    return _finished(figure)


def _line_search(axes, up, down):
    """The question after the forward sweep, and where its two answers lead."""
    axes.add_patch(Polygon([(8.4, down), (9.4, down + 0.55), (10.4, down), (9.4, down - 0.55)],
                           facecolor="white", edgecolor=GREY, linewidth=1.6))
    _text(axes, 9.4, down, "is the cost\nlower?", color="black")
    _arrow(axes, (9.4, down + 0.55), (9.4, up - 0.31))
    _text(axes, 9.5, (up + down) / 2 + 0.1, "yes: linearise\nalong this path", ha="left")
    _arrow(axes, (9.4, down - 0.55), (9.4, 0.95), (2.3, 0.95), (2.3, down - 0.4))
    _text(axes, 5.9, 0.75, "no: halve α, and simulate again")
