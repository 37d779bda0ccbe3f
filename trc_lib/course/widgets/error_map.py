"""The error map: final errors over the two components of the start, the worst of them marked."""


import torch
import traitlets

from trc_lib import validation, web
from trc_lib.course import plots
from trc_lib.course.interventions import SWITCHES
from trc_lib.course.widgets.explorable import LIVE, WithNetwork, bundle
from trc_lib.course.widgets.microscope import Microscope
from trc_lib.course.widgets.shell import is_cart, own_copy, state_box
from trc_lib.model import TinyRecursiveControl
from trc_lib.systems import SUCCESS
from trc_lib.training.compute import one_thread

BOX = 2.5  # half the side of the training box of the course's cart; the map is twice as wide
MORE = 3   # cycles beyond the trained depth


class ErrorMap(WithNetwork):
    """The widget that `error_map` makes.

    Attributes:
        target: two numbers.
        H_cycle: the errors are those after so many cycles.
        scope: the `Microscope` in which starts are opened; None if there is none.
    """

    _esm = bundle(LIVE / "map.js")
    target = traitlets.List(traitlets.Float()).tag(sync=True)

    def __init__(self, model, scope=None, points=15, state_range=None, success=SUCCESS):
        self.model = own_copy(validation.instance("model", model, TinyRecursiveControl))
        self.scope = scope
        if scope is not None:
            validation.instance("scope", scope, Microscope)
            if not scope.model.system.same_as(model.system):
                raise ValueError(f"scope is for another system, {scope.model.system!r}, than the "
                                 f"model, {model.system!r}")
        self.points = validation.whole("points", points, at_least=3, at_most=101)
        self.system = self.model.system
        plots.two_states(self.system)
        self.success = validation.positive("success", success)
        usual = BOX if is_cart(self.system) else None
        self.low, self.high = low, high = state_box(self.system, state_range, usual)
        trained = self.model.config.H_cycles
        self.H_cycles = trained + MORE
        first = (low + high) / 2
        first[0] += 0.2 * (high - low)[0]
        about = {"box": [low.tolist(), high.tolist()], "points": self.points, "trained": trained,
                 "success": self.success, "H_cycles": self.H_cycles, "scope": scope is not None}
        super().__init__(self.draw, web.network(self.model), about, H_cycle=trained,
                         target=first.tolist())

    @traitlets.validate("target")
    def _state(self, proposal):
        return self.checked_state(proposal, 2)

    def starts(self, points=None):
        """The starts of the map ``[points, points, 2]``, velocities down, positions across."""
        unit = torch.linspace(-2, 2, points or self.points, dtype=torch.float64)
        grid = torch.stack(torch.meshgrid(unit, unit, indexing="xy"), dim=-1)
        return (self.high + self.low) / 2 + (self.high - self.low) / 2 * grid

    def errors(self, starts):
        """Final errors from ``starts`` for the target, after the chosen cycle."""
        x0 = starts.reshape(-1, 2)
        xT = torch.tensor(self.target, dtype=torch.float64).expand_as(x0)
        with one_thread(), torch.no_grad():
            to = self.model.state_scale.dtype
            controls = self.model.predict(x0.to(to), xT.to(to), self.H_cycle)["controls"].double()
        ends = self.system.rollout_unchecked(x0, controls)[:, -1]  # infinite where it diverges
        return (ends - xT).norm(dim=-1).reshape(starts.shape[:-1])

    def open_start(self, start, target):
        """Show a problem in the microscope, from its first proposal on."""
        with self.scope.hold_trait_notifications():
            self.scope.H_cycle, self.scope.L_step, self.scope.switch = 0, 0, SWITCHES[0]
            self.scope.start, self.scope.target = list(start), list(target)

    def answer(self, content):
        if self.scope is None:
            return None
        self.open_start(content["start"], content["target"])
        return {}

    def draw(self):
        """The static picture."""
        starts = self.starts()
        box = torch.stack([self.low, self.high], dim=1).tolist()
        place = ", ".join(plots.rounded(value, size, 1) for value, size
                          in zip(self.target, (self.high - self.low).tolist()))
        return plots.error_map(starts[0, :, 0], starts[:, 0, 1], self.errors(starts), self.target,
                               box=box, title=f"final error by start, target [{place}]",
                               system=self.system, success=self.success)

    def summary(self):
        return (f"how far from a target a network ends, from {self.points} x {self.points} starts "
                "over twice the training box")


def error_map(model, scope=None, points=15, state_range=None, success=SUCCESS):
    """The widget: drag the target; a button opens the worst start in a `microscope`.

    Args:
        model: a `TinyRecursiveControl` for a system with two states.
        scope: the microscope; no button if None.
        points: starts along each side of the map.
        state_range: the training box, as in `Sampler`; may be None for a cart.
        success: the largest final error that counts as a success; colours go from a thousandth of
            it to ten times.

    Raises:
        ValueError: if the system has not two states, the box is missing, or a web page cannot
            compute with the network or its system.
    """
    return ErrorMap(model, scope, points, state_range, success)
