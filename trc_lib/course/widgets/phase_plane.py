"""The phase-plane explorer: optimum, network and free motion of an oscillator from any start."""

import math
import zlib

import matplotlib.pyplot as plt
import numpy as np
import torch
import traitlets

from trc_lib import validation, web
from trc_lib.course import plots
from trc_lib.course.widgets.explorable import LARGEST, LIVE, WithNetwork, bundle, numbers
from trc_lib.course.widgets.shell import check_teacher, own_copy, state_box
from trc_lib.systems import VanDerPol
from trc_lib.teachers.teacher import QuadraticCostTeacher, Teacher
from trc_lib.training.compute import one_thread

BOX = 2.0  # half the side of the square of starts of the course's oscillator
SETTLING = 2_000  # steps until free motion is on the limit cycle, and more than one round of it
ROOM = 690_000  # bytes of network and optima: with all else below 1 MB in a notebook
FEWEST = 5  # starts along a side of the grid, however long the optima are
MOST_SHOWN = 300  # states of the limit cycle in the page


def limit_cycle(system, start=(2.0, 0.0)):
    """Free motion ``[steps, 2]`` once round the limit cycle; a single state if at rest."""
    free = torch.zeros(3 * SETTLING, system.control_dim, dtype=torch.float64)
    start = torch.as_tensor(start, dtype=torch.float64)
    states = system.rollout_unchecked(start, free)[SETTLING:].numpy()
    upwards = np.flatnonzero((states[:-1, 0] < 0) & (states[1:, 0] >= 0))
    return states[upwards[0]:upwards[1] + 2] if len(upwards) > 1 else states[-1:]


def has_limit_cycle(system, cycle, start):
    """Whether ``cycle`` is one, and free motion from half of its ``start`` ends on the same."""
    if len(cycle) == 1 or not np.isfinite(cycle).all():
        return False
    sizes = [abs(each).max(axis=0) for each in (cycle, limit_cycle(system, start / 2))]
    return bool((abs(sizes[0] - sizes[1]) < 0.05 * sizes[0]).all())


class PhasePlane(WithNetwork):
    """The widget that `phase_plane` makes.

    Attributes:
        start: two numbers; the optimum is known to the page for starts of the grid, and for others
            as long as the notebook runs.
        H_cycle: the cycle that is shown.
        points: starts along a side of the grid; fewer than asked for if the network is large.
    """

    _esm = bundle(LIVE / "plane.js")
    optima = traitlets.Bytes().tag(sync=True)
    least = traitlets.Bytes().tag(sync=True)  # float64, the cost of each optimum of the grid
    start = traitlets.List(traitlets.Float()).tag(sync=True)

    def __init__(self, model, teacher, points=21, H_cycles=6, state_range=None):
        points = validation.whole("points", points, at_least=2, at_most=101)
        self.H_cycles = validation.whole("H_cycles", H_cycles)
        check_teacher(teacher, model)
        self.model, self.teacher = own_copy(model), teacher
        self.system = system = self.model.system
        plots.two_states(system)
        if system.control_dim != 1:
            raise ValueError(f"system={system!r} has {system.control_dim} controls; "
                             "this picture needs 1")
        usual = BOX if isinstance(system, VanDerPol) else None
        self.low, self.high = low, high = state_box(system, state_range, usual)
        contents, law = web.network(self.model), web.law(teacher)
        room = ROOM - (len(contents) if len(contents) <= LARGEST else 0)
        self.points, optima, least = (points, b"", b"") if law else self._packed(points, room)
        corner = torch.stack([high[0], torch.zeros_like(high[0])])
        cycle = limit_cycle(system, corner)
        if not has_limit_cycle(system, cycle, corner):
            cycle = cycle[:0]
        self.cycle = cycle[:: max(len(cycle) // MOST_SHOWN, 1)]
        about = {"box": [low.tolist(), high.tolist()], "points": self.points, "law": law,
                 "view": self._view(), "cycle": self.cycle.tolist(), "cost": _cost(teacher),
                 "H_cycles": self.H_cycles, "trained": min(self.model.config.H_cycles,
                                                           self.H_cycles)}
        super().__init__(self.draw, contents, about, optima=optima, least=least,
                         start=self.starts()[round(0.75 * (self.points - 1)) * (self.points + 1)]
                         .tolist())

    def starts(self):
        """The starts of the grid ``[points**2, 2]``."""
        return torch.cartesian_prod(*(
            torch.linspace(float(low), float(high), self.points, dtype=torch.float64)
            for low, high in zip(self.low, self.high)))

    def _packed(self, points, room):
        """The largest grid up to ``points`` a side whose optima fit into ``room`` bytes.

        Also these, and their costs.

        They are float32 numbers in the format of the weights in ``web/files.js``, NaN if unsolved;
        of their 24 bits only the first 16, which is finer than any picture. Costs are exact.
        """
        self.points = points
        while True:
            starts = self.starts()
            with one_thread():
                controls, _ = self.teacher.try_solve(starts, torch.zeros_like(starts))
            exact = controls.cpu().numpy().astype("<f4").ravel()
            half = np.where(np.isfinite(exact), 0x80, 0).astype("<u4")  # rounded, not cut off
            rounded = (exact.view("<u4") + half) & np.uint32(0xFFFFFF00)
            packed = zlib.compress(rounded.view(np.uint8).reshape(-1, 4).T.tobytes(), 9)
            if len(packed) <= room or self.points <= FEWEST:
                costs = self.teacher.cost(starts, torch.zeros_like(starts), controls)
                return self.points, packed, numbers(costs[:, None])
            fewer = math.floor(self.points * math.sqrt(max(room, 0) / len(packed)))
            # By an even number, so that the middle of an odd grid stays on it.
            self.points -= max((self.points - fewer + 1) // 2 * 2, 2)
            self.points = max(self.points, FEWEST)

    def _view(self):
        """The ends of the axes: the box with room, and the limit cycle."""
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        room = torch.tensor([1.3, 1.6]) * half
        cycle = torch.as_tensor(self.cycle.reshape(-1, 2))
        return [torch.cat([cycle, (middle - room)[None]]).amin(dim=0).tolist(),
                torch.cat([cycle, (middle + room)[None]]).amax(dim=0).tolist()]

    @traitlets.validate("start")
    def _state(self, proposal):
        return self.checked_state(proposal, 2)

    def answer(self, content):
        controls, solved = self.optimum(content["start"])
        return {"controls": controls.flatten().tolist() if solved else None}

    def optimum(self, start):
        """The teacher's controls ``[N, 1]``, and whether there are any."""
        start = torch.tensor(start, dtype=torch.float64)
        with one_thread():
            controls, solved = self.teacher.try_solve(start, torch.zeros_like(start))
        return controls, bool(solved)

    def draw(self):
        """The static picture: the start after the cycle of the trained depth."""
        system, x0 = self.system, torch.tensor(self.start, dtype=torch.float64)
        depth = min(self.model.config.H_cycles, self.H_cycles)
        with torch.no_grad():
            to = self.model.state_scale.dtype
            network = self.model.predict(x0[None].to(to), torch.zeros_like(x0)[None].to(to),
                                         depth)["controls"][0]  # infinite where it diverges
        optimum, solved = self.optimum(self.start)
        runs = {"no push at all": torch.zeros_like(optimum), "network": network.double()}
        runs |= {"optimum": optimum} if solved else {}
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8))
        if len(self.cycle):
            left.plot(*self.cycle.T, color="0.8", linewidth=6, label="limit cycle")
        for name, controls in runs.items():
            look = {"linewidth": 2.4} | plots.LOOKS[name]
            left.plot(*system.rollout_unchecked(x0, controls).T, label=name, **look)
            if name != "no push at all":
                plots.draw_controls(right, system.dt, controls, label=name, **look)
        left.plot(*x0, "o", color="black", markersize=8)
        left.plot(0, 0, **plots.CROSS)
        low, high = self.about["view"]
        plots.label_phase_plane(left, system, "where it goes (dot: start, cross: rest)",
                                xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        left.legend(loc="upper right", fontsize="small")
        miss = system.rollout_unchecked(x0, network.double())[-1].norm().item()
        size = float(torch.maximum(self.low.abs(), self.high.abs()).max())
        ends = (f"ends {plots.rounded(miss, size, 2)} from rest" if math.isfinite(miss)
                else "diverges")
        plots.label_controls(right, system, f"after cycle {depth}: {ends}")
        plt.close(figure)
        return figure

    def summary(self):
        return (f"optimum, network through {self.H_cycles} cycles and free motion from any start; "
                f"{self.points} x {self.points} starts have an optimum in the page")


def _cost(teacher):
    """What a teacher minimises, for the page; None if that is a cost of its own."""
    own = type(teacher).cost
    if own is Teacher.cost:
        return {"kind": "energy"}
    if own is QuadraticCostTeacher.cost:
        return {"kind": "quadratic"} | {name: getattr(teacher.quadratic_cost, name).tolist()
                                        for name in ("Q", "R", "Q_final")}
    return None


def phase_plane(model, teacher, points=21, H_cycles=6, state_range=None):
    """The widget: drag the start, play through the cycles; the target is the origin.

    Args:
        model: a `TinyRecursiveControl` of a system with two states and one control.
        teacher: gives the optimum.
        points: starts along each side of the grid whose optimum is kept in the notebook; fewer if
            these and the network would be larger than 1 MB.
        H_cycles: how many cycles to run.
        state_range: the box of the starts, as in `Sampler`; may be None for a `VanDerPol`.

    Raises:
        ValueError: if the teacher has another system or horizon than the model, the system has
            other sizes, the box is missing, or a web page cannot compute with the network or its
            system.
    """
    return PhasePlane(model, teacher, points, H_cycles, state_range)
