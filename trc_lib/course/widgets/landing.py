"""The landing explorer: the optimum and a network's plan from any start, and their correction."""

import functools

import torch
from matplotlib import pyplot as plt

from trc_lib import validation
from trc_lib.course import descents, plots
from trc_lib.course.widgets.drawn import Drawn
from trc_lib.course.widgets.shell import check_teacher, own_copy
from trc_lib.data.sampling import box
from trc_lib.problems import Problem
from trc_lib.systems.lander import Craft, H, Lander
from trc_lib.teachers.landing import STRICT, check, correct, safe

MOST_ITERATIONS = 10
VIEWS = 30      # degrees between two views
VIEW = {"label": "view (degrees)", "min": 0, "max": 360, "step": VIEWS}
FIRST_VIEW = 300
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
        _, farthest, plan = self.plans(*self.high.tolist())
        self.longest = LATE * (plan if farthest is None else farthest)[0, :, H].sum().item()

    def _plans(self, *start):
        """The start ``[1, 7]``, the optimum (None where there is none) and the network's plan."""
        start = torch.tensor([start], dtype=torch.float64)
        optimum, solved = self.teacher.try_solve(start, self.target[None])
        with torch.no_grad():
            plan = self.model.solve(start, self.target[None]).double()
        return start, optimum if bool(solved) else None, plan

    def draw(self, iterations, azimuth, **start):
        """The picture as PNG bytes, and what it shows in words."""
        figure, words = self.figure(iterations, azimuth, **start)
        return plots.small_png(figure), words

    def figure(self, iterations, azimuth, **start):
        """The picture as a matplotlib `Figure`, and what it shows in words."""
        state = self.low.clone()
        for name, value in start.items():
            state[int(name.removeprefix("start_"))] = value
        x0, optimum, plan = self.plans(*state.tolist())
        plan = correct(self.system, x0, plan, iterations)
        craft = self.system.craft
        figure, left, right = descents.panels(plt.figure(figsize=(11, 4.5)))
        descents.set_scene(left, craft, self.reach, self.height, azimuth)
        descents.set_thrust(right, craft, self.longest)
        for name, controls in (("network", plan), ("optimum", optimum)):
            if controls is not None:
                look = {"linewidth": 2.2} | plots.LOOKS[name]
                descents.draw_flight(left, self.system, x0[0], controls[0], self.height,
                                     label=name, **look)
                size, edges = descents.thrust_levels(controls[0])
                right.stairs(size, edges, baseline=None, **look)
        left.legend(loc="upper left")
        plt.close(figure)
        return figure, self.text(x0, optimum, plan, iterations)

    def text(self, x0, optimum, plan, iterations):
        """What the picture shows, in words."""
        checked = check(self.system, x0, plan)
        report = {name: value.item() for name, value in checked.items()}
        fuel = report["fuel"]
        said, more = "The teacher finds no landing from here", ""
        if optimum is not None:
            least = self.system.fuel(optimum).item()
            said = f"Optimum: {least:.1f} kg in {optimum[0, :, H].sum():.1f} s"
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
        return f"{said}. Network{after}: {verdict}."


def relaxation(craft):
    """The widget: the ring of thrusts, and the cone that replaces it, to be turned.

    Args:
        craft: a `Craft`.
    """
    def draw(azimuth):
        figure = descents.relaxation(craft, azimuth)
        return plots.small_png(figure), f"Seen from {azimuth} degrees."

    validation.instance("craft", craft, Craft)
    return Drawn("The thrusts that are possible, and the cone that replaces them", draw,
                 {"azimuth": VIEW}, {"azimuth": FIRST_VIEW},
                 [{"azimuth": azimuth} for azimuth in range(0, 361, VIEWS)])


def landing(model, problem):
    """The widget: sliders for the start, the iterations of Newton's method and the view.

    Args:
        model: a network that plans landings, such as the course's.
        problem: the `Problem` that it was trained on: `trc_lib.problems.powered_descent()`.

    Raises:
        TypeError, ValueError: if the problem is none of a `Lander`, or does not fit the model.
    """
    descent = Descent(model, problem)
    controls, first = {}, {}
    for i, label in enumerate(descent.system.state_labels):
        low, high = descent.low[i].item(), descent.high[i].item()
        if low < high:
            controls[f"start_{i}"] = {"label": f"start {label}", "min": low, "max": high,
                                      "step": (high - low) / 50}
            first[f"start_{i}"] = low + 0.75 * (high - low)
    controls |= {"iterations": {"label": "iterations", "min": 0, "max": MOST_ITERATIONS, "step": 1},
                 "azimuth": VIEW}
    first |= {"iterations": 0, "azimuth": FIRST_VIEW}
    return Drawn("A landing: the optimum, and a network's plan", descent.draw, controls, first,
                 [first | {"iterations": k} for k in range(MOST_ITERATIONS + 1)])
