"""A game: steer the cart by controls that are drawn by hand."""

import torch
import traitlets

from trc_lib.course import plots
from trc_lib.course.widgets.explorable import LIVE, Explorable, bundle
from trc_lib.evaluation import final_error
from trc_lib.teachers import MinimumEnergyController

START, TARGET = [0.0, 0.0], [1.0, 0.0]
BOX = 1.5            # how far start and target may be dragged (m, m/s)
ENERGY_TO_WIN = 1.2  # times the least


class Playground(Explorable):
    """The widget that `playground` makes.

    Attributes:
        start, target: the problem, two numbers each.
        controls: the learner's controls (m/s²), one for each of the N steps.
        shows_optimum: whether the optimum is drawn; it also is once the learner has won.
        pushes: how many wiggles and nudges there were; each has this number as its seed.
    """

    _esm = bundle(LIVE / "steer.js")
    start = traitlets.List(traitlets.Float(), START).tag(sync=True)
    target = traitlets.List(traitlets.Float(), TARGET).tag(sync=True)
    controls = traitlets.List(traitlets.Float()).tag(sync=True)
    shows_optimum = traitlets.Bool(False).tag(sync=True)
    pushes = traitlets.Int(0).tag(sync=True)

    def __init__(self):
        self.teacher = MinimumEnergyController()
        system = self.teacher.system
        about = {"dt": system.dt, "box": BOX, "labels": list(system.labels),
                 "success": self.teacher.success, "enough": ENERGY_TO_WIN,
                 "first": {"start": START, "target": TARGET}}
        super().__init__(self.draw, about=about, controls=[0.0] * self.teacher.horizon)

    @traitlets.validate("start", "target", "controls")
    def _numbers(self, proposal):
        is_controls = proposal["trait"].name == "controls"
        return self.checked_state(proposal, self.teacher.horizon if is_controls else 2)

    @traitlets.validate("pushes")
    def _count(self, proposal):
        return self.checked_whole(proposal, 0, 2**31 - 1)

    def draw(self):
        """The static picture: the controls as they are, and the optimum if it is shown."""
        system = self.teacher.system
        x0, xT, u = (torch.tensor(value, dtype=torch.float64)
                     for value in (self.start, self.target, self.controls))
        runs = {"you": u[:, None]}
        if self.shows_optimum:
            runs["optimum"] = self.teacher.solve(x0, xT)
        return plots.steering(system.dt, {name: (system.rollout(x0, controls), controls)
                                          for name, controls in runs.items()}, xT, "your controls")

    def summary(self):
        x0, xT, u = (torch.tensor(value, dtype=torch.float64)
                     for value in (self.start, self.target, self.controls))
        error = final_error(self.teacher.system, x0, xT, u[:, None]).item()
        return (f"draw the controls by hand; these end {error:.3f} from "
                f"the target, and within {self.teacher.success:g} wins if cheap enough")


def playground():
    """The widget: draw the controls, drag start and target, add a wiggle or a nudge.

    Steer [0, 0] -> [1, 0] so that the end is near and the energy not far above the least. The
    optimum is hidden until the learner asks for it or wins.
    """
    return Playground()
