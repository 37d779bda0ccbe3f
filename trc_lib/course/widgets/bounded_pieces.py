"""The pieces of the bounded minimum-energy law: which controls are at their limit, by start."""

import math

import matplotlib.pyplot as plt
import numpy as np
import torch
import traitlets

from trc_lib import validation, web
from trc_lib.course import plots
from trc_lib.course.widgets.explorable import LIVE, Explorable, bundle
from trc_lib.course.widgets.shell import state_box
from trc_lib.teachers import BoundedMinimumEnergyController
from trc_lib.training.compute import one_thread

NONE, LOWER, UPPER, OUT = (np.array(color) / 255 for color in (
    (247, 247, 247), (0, 68, 136), (176, 84, 0), (185, 188, 192)))
DRAWN = 81  # cells a side of the static picture


class BoundedPieces(Explorable):
    """The widget that `bounded_pieces` makes.

    Attributes:
        start, target: the problem, two numbers each.
    """

    _esm = bundle(LIVE / "pieces.js")
    start = traitlets.List(traitlets.Float()).tag(sync=True)
    target = traitlets.List(traitlets.Float()).tag(sync=True)

    def __init__(self, teacher, state_range=2.5, points=121):
        self.teacher = validation.instance("teacher", teacher, BoundedMinimumEnergyController)
        points = validation.whole("points", points, at_least=3, at_most=400)
        self.system = system = teacher.system
        plots.two_states(system)
        if system.control_dim != 1:
            raise ValueError(f"system={system!r} has {system.control_dim} controls; "
                             "this picture needs 1")
        self.low, self.high = low, high = state_box(system, state_range)
        law = web.law(teacher)
        if law is None:
            raise ValueError(f"teacher is a {type(teacher).__name__}; a web page knows the law of "
                             "BoundedMinimumEnergyController")
        about = {"law": law, "system": web.system(system), "points": points,
                 "box": [low.tolist(), high.tolist()]}
        target = low + torch.tensor([0.7, 0.5], dtype=torch.float64) * (high - low)
        super().__init__(self.draw, about=about, start=self._first_start(target).tolist(),
                         target=target.tolist())

    def _first_start(self, target):
        """A start from which a good share of the controls is at a limit, if there is one."""
        unit = torch.linspace(0.1, 0.9, 17, dtype=torch.float64)
        starts = self.low + torch.cartesian_prod(unit, unit) * (self.high - self.low)
        at, solved = self.active(starts, target)
        count = at.abs().sum(dim=-1).where(solved, -1)
        return starts[count.where(count <= self.teacher.horizon / 3, -1).argmax()]

    @traitlets.validate("start", "target")
    def _states(self, proposal):
        return self.checked_state(proposal, 2)

    def active(self, starts, target):
        """Which controls are at a limit, -1 the lower, 1 the upper, 0 none, and what is in reach.

        Args:
            starts: ``[..., 2]``; target: ``[2]``.

        Returns:
            ``[..., horizon]`` and ``[...]``.
        """
        with one_thread():
            controls, solved = self.teacher.try_solve(starts, target)
        (low, high), u = self.system.bounds, controls[..., 0]
        return (u >= high).int() - (u <= low).int(), solved

    def colors(self, points):
        """The static picture's cells, ``[points, points, 3]``; the middles of cells are starts."""
        axes = [low + (high - low) * (torch.arange(points) + 0.5) / points
                for low, high in zip(self.low, self.high)]
        starts = torch.stack(torch.meshgrid(*axes, indexing="xy"), dim=-1)
        at, solved = self.active(starts, torch.tensor(self.target, dtype=torch.float64))
        count = at.abs().sum(dim=-1, keepdim=True).numpy()
        first = at.gather(-1, (at != 0).int().argmax(dim=-1, keepdim=True)).numpy()
        share = np.where(count > 0, 0.18 + 0.82 * count / at.shape[-1], 0)
        colors = NONE + share * (np.where(first > 0, UPPER, LOWER) - NONE)
        return np.where(solved.numpy()[..., None], colors, OUT)

    def draw(self):
        """The static picture."""
        system, (start, target) = self.system, (torch.tensor(each, dtype=torch.float64) for each
                                                in (self.start, self.target))
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), width_ratios=(1.2, 1))
        ends = torch.stack([self.low, self.high], dim=1).flatten().tolist()
        left.imshow(self.colors(DRAWN), origin="lower", extent=ends, aspect="auto")
        left.plot(*target, label="target", **plots.CROSS)
        left.plot(*start, "o", color="black", markerfacecolor="none", markersize=9,
                  markeredgewidth=2, label="start")
        plots.label_phase_plane(left, system, "pieces of the law, by start (grey: out of reach)")
        left.grid(False)
        with one_thread():
            controls, solved = self.teacher.try_solve(start, target)
        if bool(solved):
            states = system.rollout_unchecked(start, controls)
            left.plot(*states.T, color="black", linewidth=1.6)
            plots.draw_controls(right, system.dt, controls, label="controls", color="C0")
        for limit in torch.cat(system.bounds).tolist():
            if math.isfinite(limit):
                right.axhline(limit, color="C1", linestyle="-.", linewidth=1.4)
        plots.label_controls(right, system, "the controls from this start")
        left.legend(loc="upper right")
        plt.close(figure)
        return figure

    def summary(self):
        return (f"which of {self.teacher.horizon} bounded controls are at their limit, by start; "
                "on each piece the law is affine")


def bounded_pieces(teacher, state_range=2.5, points=121):
    """The widget: drag start and target through the pieces of the piecewise affine law.

    Args:
        teacher: a `BoundedMinimumEnergyController` of a system with two states and one control.
        state_range: the box of starts that the map shows, as in `Sampler`.
        points: cells along each side of the map.

    Raises:
        TypeError, ValueError: if the teacher is another one, or its system has other sizes.
    """
    return BoundedPieces(teacher, state_range, points)
