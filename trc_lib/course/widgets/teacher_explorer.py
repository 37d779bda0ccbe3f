"""Two laws for one problem: the optimum, and the continuous law held over each step."""

import torch
import traitlets

from trc_lib.course import plots
from trc_lib.course.widgets.explorable import LIVE, Explorable, bundle
from trc_lib.systems import DoubleIntegrator
from trc_lib.teachers import MinimumEnergyController, SampledContinuousController

BOX = 2.5                   # half the side of the cart's box of states (m, m/s)
STEPS, DT = (2, 60), (0.05, 0.5)
LAWS = {"sampled law": SampledContinuousController, "optimum": MinimumEnergyController}
FINE = 8                    # points of a trajectory in each step; the cart moves on a parabola


class TeacherExplorer(Explorable):
    """The widget that `teacher_explorer` makes.

    Attributes:
        start, target: the problem, two numbers each.
        steps: the horizon N; dt: seconds a step.
    """

    _esm = bundle(LIVE / "teacher.js")
    start = traitlets.List(traitlets.Float(), [0.0, 0.0]).tag(sync=True)
    target = traitlets.List(traitlets.Float(), [1.0, 0.0]).tag(sync=True)
    steps = traitlets.Int(15).tag(sync=True)
    dt = traitlets.Float(DoubleIntegrator().dt).tag(sync=True)

    def __init__(self):
        system = DoubleIntegrator()
        super().__init__(self.draw, about={"box": BOX, "labels": list(system.labels),
                                           "steps": list(STEPS), "dts": list(DT)})

    @traitlets.validate("start", "target")
    def _states(self, proposal):
        return self.checked_state(proposal, 2)

    @traitlets.validate("steps")
    def _horizon(self, proposal):
        return self.checked_whole(proposal, *STEPS)

    @traitlets.validate("dt")
    def _holding_time(self, proposal):
        (low, high), value = DT, proposal["value"]
        if not low <= value <= high:
            raise traitlets.TraitError(f"dt={value} is not accepted; "
                                       f"needs a number from {low} to {high}")
        return value

    def draw(self):
        """The static picture: the controls of both laws, and where they lead."""
        x0, xT = (torch.tensor(value, dtype=torch.float64) for value in (self.start, self.target))
        system, runs = DoubleIntegrator(self.dt), {}
        finer = DoubleIntegrator(self.dt / FINE)
        for name, law in LAWS.items():
            held = law(system, self.steps).solve(x0, xT).repeat_interleave(FINE, dim=0)
            runs[name] = finer.rollout(x0, held), held
        figure = plots.steering(finer.dt, runs, xT)
        for line in figure.axes[-1].lines:
            line.set_markevery(FINE)  # dots at the steps only
        return figure

    def summary(self):
        return ("the optimum and the continuous law u(t) = a + b t held over each step, for "
                f"{self.steps} steps of {self.dt:g} s")


def teacher_explorer():
    """The widget: drag start and target, set the steps, and compare where the two laws end."""
    return TeacherExplorer()
