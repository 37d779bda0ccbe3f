"""The landing explorer: the optimum and a network's plan from any start, and their correction."""

import functools
import io

import torch
from matplotlib.figure import Figure

from trc_lib import validation
from trc_lib.course import descents, plots
from trc_lib.course.widgets.canvas import Canvas
from trc_lib.course.widgets.shell import Shell, check_teacher, counter, own_copy, slider
from trc_lib.data.sampling import box
from trc_lib.problems import Problem
from trc_lib.systems.lander import Craft, H, Lander
from trc_lib.teachers.landing import STRICT, check, correct, safe

MOST_ITERATIONS = 10
VIEWS = 30      # degrees between two views
ROOM = 1.15     # of the largest start: what the picture shows
LATE = 1.3      # of the longest flight: how far the axis of time goes
KEPT = 64       # starts whose optimum is kept


class Descent:
    """The picture for a start, a number of iterations and a view.

    Args:
        model: a network that plans landings.
        problem: its `Problem`; the sliders take its starts.
    """

    def __init__(self, model, problem):
        self.teacher = validation.instance("problem", problem, Problem).teacher
        self.system = validation.instance("problem.teacher.system", self.teacher.system, Lander)
        check_teacher(self.teacher, model)
        self.model = own_copy(model)
        _, self.low, self.high = box("state_range", problem.state_range, self.system.state_dim)
        _, *ends = box("target_range", problem.target_range, self.system.state_dim)
        self.target = (ends[0] + ends[1]) / 2
        self.reach = ROOM * float(self.high[:2].abs().max())
        self.height = ROOM * float(self.high[2])
        self.plans = functools.lru_cache(KEPT)(self._plans)
        self.view = functools.cache(self._view)
        _, farthest, plan = self.plans(*self.high.tolist())
        self.longest = LATE * (plan if farthest is None else farthest)[0, :, H].sum().item()

    def _plans(self, *start):
        """The start ``[1, 7]``, the optimum (None where there is none) and the network's plan."""
        start = torch.tensor([start], dtype=torch.float64)
        optimum, solved = self.teacher.try_solve(start, self.target[None])
        with torch.no_grad():
            plan = self.model.solve(start, self.target[None]).double()
        return start, optimum if bool(solved) else None, plan

    def _view(self, azimuth):
        """The canvas as seen from one side."""
        figure, left, right = descents.panels(Figure(figsize=(11, 4.8), layout="constrained"))
        craft, moving = self.system.craft, {}
        descents.set_scene(left, craft, self.reach, self.height, azimuth)
        descents.set_thrust(right, craft, self.longest)
        nothing = torch.zeros(2, 4, dtype=torch.float64)
        for name in ("network", "optimum"):
            look = {"linewidth": 2.2} | plots.LOOKS[name]
            moving["path", name], moving["thrusts", name] = descents.draw_flight(
                left, self.system, self.high, nothing, self.height, label=name, **look)
            moving["size", name] = right.stairs([0.0], [0.0, 1.0], baseline=None, **look)
        left.legend(loc="upper left")
        return Canvas(figure, moving)

    def draw(self, iterations, azimuth, **start):
        """The picture as PNG bytes."""
        state = self.low.clone()
        for name, value in start.items():
            state[int(name.removeprefix("start_"))] = value
        x0, optimum, plan = self.plans(*state.tolist())
        plan = correct(self.system, x0, plan, iterations)
        canvas = self.view(azimuth)
        for name, controls in (("network", plan), ("optimum", optimum)):
            seen = controls is not None
            for kind in ("path", "thrusts", "size"):
                canvas.moving[kind, name].set_visible(seen)
            if seen:
                path, thrusts = descents.path_and_arrows(self.system, x0[0], controls[0],
                                                         self.height)
                canvas.moving["path", name].set_data_3d(*path.T)
                canvas.moving["thrusts", name].set_data_3d(*thrusts.T)
                canvas.moving["size", name].set_data(*descents.thrust_levels(controls[0]))
        return canvas.png(self.text(x0, optimum, plan, iterations))

    def text(self, x0, optimum, plan, iterations):
        """What the picture shows, in words."""
        checked = check(self.system, x0, plan)
        report = {name: value.item() for name, value in checked.items()}
        fuel = report["fuel"]
        said, more = "the teacher finds no landing from here", ""
        if optimum is not None:
            least = self.system.fuel(optimum).item()
            said = f"optimum {least:.1f} kg in {optimum[0, :, H].sum():.1f} s"
            more = f" ({100 * (fuel / least - 1):+.1f} %)"
        if bool(safe(checked)):
            verdict = f"safe, {fuel:.1f} kg{more}"
        elif report["position"] > STRICT[0] or report["speed"] > STRICT[1]:
            verdict = f"misses by {report['position']:.0f} m and {report['speed']:.1f} m/s"
        elif report["low"] > 0:
            verdict = f"{report['low']:.1f} m below the glide slope"
        else:
            verdict = "breaks a limit of the craft"
        after = f" after {iterations} iterations" if iterations else " as it is"
        return f"{said};  network{after}: {verdict}"


def _view_slider():
    view = counter("view (degrees)", 360, value=300)
    view.step = VIEWS
    return view


def relaxation(craft):
    """The widget: the ring of thrusts, and the cone that replaces it, to be turned.

    Args:
        craft: a `Craft`.
    """
    def draw(azimuth):
        stream = io.BytesIO()
        descents.relaxation(craft, azimuth).savefig(stream, format="png")
        return stream.getvalue()

    validation.instance("craft", craft, Craft)
    return Shell("The thrusts that are possible, and the cone that replaces them",
                 draw, {"azimuth": _view_slider()})


def landing(model, problem):
    """The widget: sliders for the start, the iterations of Newton's method and the view.

    Args:
        model: a network that plans landings, such as the course's.
        problem: the `Problem` that it was trained on: `trc_lib.problems.powered_descent()`.

    Raises:
        TypeError, ValueError: if the problem is none of a `Lander`, or does not fit the model.
    """
    descent = Descent(model, problem)
    starts = {}
    for i, label in enumerate(descent.system.state_labels):
        low, high = descent.low[i].item(), descent.high[i].item()
        if low < high:
            starts[f"start_{i}"] = slider(low + 0.75 * (high - low), low, high, (high - low) / 50,
                                          f"start {label}")
    return Shell("A landing: the optimum, and a network's plan", descent.draw, starts | {
        "iterations": counter("iterations", MOST_ITERATIONS), "azimuth": _view_slider()})
