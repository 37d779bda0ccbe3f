"""The refinement microscope: one problem through every H cycle and every L step."""

import torch
import traitlets

from trc_lib import validation, web
from trc_lib.course import plots
from trc_lib.course.interventions import SWITCHES
from trc_lib.course.widgets.explorable import LIVE, WithNetwork, bundle, numbers
from trc_lib.course.widgets.shell import own_copy, widened
from trc_lib.data.sampling import box
from trc_lib.evaluation import final_error
from trc_lib.model import TinyRecursiveControl
from trc_lib.training.compute import one_thread

OFFERED, ROOM = 200, 20_000  # samples, and bytes for them
TESTED = 2_000  # samples that the worst is found among


class Microscope(WithNetwork):
    """The widget that `microscope` makes.

    Attributes:
        start, target: the problem, ``state_dim`` numbers each.
        sample: its number in the dataset, -1 if it is not from there; set it to go to one.
        H_cycle, L_step: the moment that is shown, so many L steps after the end of a cycle.
        switch: what is changed in the network, one of `SWITCHES`.
    """

    _esm = bundle(LIVE / "microscope.js")
    samples = traitlets.Bytes().tag(sync=True)
    start = traitlets.List(traitlets.Float()).tag(sync=True)
    target = traitlets.List(traitlets.Float()).tag(sync=True)
    sample = traitlets.Int(-1).tag(sync=True)
    L_step = traitlets.Int(0).tag(sync=True)
    switch = traitlets.Enum(SWITCHES, SWITCHES[0]).tag(sync=True)

    def __init__(self, model, dataset, H_cycles, shown):
        self.model, self.dataset, self.shown = model, dataset, shown
        system, teacher = model.system, dataset.teacher
        self.H_cycles = validation.whole("H_cycles", H_cycles)
        self.order = self._worst_first()
        row = 8 * (2 * system.state_dim + model.config.horizon * system.control_dim)
        count = max(min(OFFERED, ROOM // row, len(self.order)), 1)
        offered = self.order[torch.linspace(0, len(self.order) - 1, count).long()]
        low, high = self._box()
        about = {
            "shown": list(shown), "box": [low.tolist(), high.tolist()], "H_cycles": self.H_cycles,
            "trained": min(model.config.H_cycles, self.H_cycles), "law": web.law(teacher),
            "other": self._other(low, high), "samples": offered.tolist()}
        super().__init__(
            self.draw, web.network(model), about, samples=numbers(
                *(values[offered] for values in (dataset.initial_states, dataset.target_states,
                                                 dataset.controls))),
            sample=int(self.order[0]))

    def _worst_first(self):
        some = slice(TESTED)
        x0, xT = self.dataset.initial_states[some], self.dataset.target_states[some]
        with one_thread(), torch.no_grad():
            controls = self.model.solve(x0, xT)
        return final_error(self.model.system, x0, xT, controls).argsort(descending=True)

    def _box(self):
        n, dataset = self.model.system.state_dim, self.dataset
        ends = [box(name, getattr(dataset, name), n)[1:] for name in ("state_range",
                                                                      "target_range")]
        states = torch.cat([dataset.initial_states, dataset.target_states])
        lows, highs = zip(*ends, (states.amin(dim=0), states.amax(dim=0)))
        return widened(torch.stack(lows).amin(dim=0), torch.stack(highs).amax(dim=0))

    def _other(self, low, high):
        """The problem that latents are swapped with: far from the middle, to and fro."""
        middle, fifth = (low + high) / 2, (high - low) / 5
        signs = (-1.0) ** torch.arange(len(low))
        return [(middle + fifth * torch.where(signs > 0, -2, 1)).tolist(),
                (middle + fifth * signs).tolist()]

    @traitlets.validate("start", "target")
    def _states(self, proposal):
        return self.checked_state(proposal, self.model.system.state_dim)

    @traitlets.validate("L_step")
    def _step(self, proposal):
        return self.checked_whole(proposal, 0, self.model.config.L_cycles)

    @traitlets.validate("sample")
    def _sample(self, proposal):
        return self.checked_whole(proposal, -1, len(self.dataset) - 1)

    @traitlets.observe("sample")
    def _go_to_sample(self, change):
        if change["new"] >= 0:
            problem = self.dataset[change["new"]]
            with self.hold_trait_notifications():
                self.start = problem["initial_state"].tolist()
                self.target = problem["target_state"].tolist()

    @traitlets.observe("start", "target")
    def _leave_sample(self, change):
        if self.sample >= 0:
            problem = self.dataset[self.sample]
            theirs = [problem[name].tolist() for name in ("initial_state", "target_state")]
            if [self.start, self.target] != theirs:
                self.sample = -1

    def answer(self, content):
        controls, solved = self.optimum(content["start"], content["target"])
        return {"controls": controls.flatten().tolist() if solved else None}

    def optimum(self, start, target):
        """The teacher's controls ``[N, control_dim]``, and whether there are any."""
        states = (torch.tensor(state, dtype=torch.float64) for state in (start, target))
        with one_thread():
            controls, solved = self.dataset.teacher.try_solve(*states)
        return controls, bool(solved)

    def draw(self):
        """The static picture: the problem through all cycles of the trained depth."""
        system, x0, xT = self.model.system, torch.tensor(self.start), torch.tensor(self.target)
        with torch.no_grad():
            cycles = self.model(x0[None], xT[None])["cycle_controls"][:, 0].double()
        optimum, _ = self.optimum(self.start, self.target)
        x0 = torch.tensor(self.start, dtype=torch.float64)
        states = system.rollout_unchecked(x0.expand(len(cycles), -1), cycles)
        return plots.refinement(system.dt, cycles, states, optimum,
                                system.rollout_unchecked(x0, optimum), xT.double(), system=system,
                                shown=self.shown)

    def summary(self):
        return ("a problem through the cycles of a network's refinement; the picture shows the "
                f"worst of {len(self.order)}")


def microscope(model, dataset, H_cycles=10, shown=(0, 1)):
    """The widget: drag a problem, step or play through its cycles, change the network.

    Args:
        model: a `TinyRecursiveControl`.
        dataset: has the samples to choose from, and the teacher.
        H_cycles: how many cycles to run, also beyond the trained depth.
        shown: the two components of the state in the phase plane.

    Raises:
        ValueError: if the dataset has another system or horizon than the model, or a web page
            cannot compute with its network or system.
    """
    validation.instance("model", model, TinyRecursiveControl).check_fit(dataset, "dataset")
    return Microscope(own_copy(model), dataset, H_cycles, plots.components(model.system, shown))
