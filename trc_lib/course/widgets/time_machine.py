"""The time machine: the network as it was after each epoch of its training, cycle by cycle."""

import numpy as np
import torch
import traitlets

from trc_lib import validation, web
from trc_lib.course import plots
from trc_lib.course.widgets.explorable import LIVE, Explorable, bundle, numbers
from trc_lib.course.widgets.shell import check_teacher, is_cart, own_copy, state_box
from trc_lib.model import Learner
from trc_lib.teachers import MinimumEnergyController
from trc_lib.training.compute import one_thread

BOX = 2.5  # half the side of the cart's box of states (m, m/s)
ROOM = 200_000  # bytes of controls


class TimeMachine(Explorable):
    """The widget that `time_machine` makes.

    The snapshots stay in the kernel; the page has their controls for a grid of starts.

    Attributes:
        epoch: one of the snapshots'.
        H_cycle: the cycle that is shown.
        start: the nearest start of the grid is shown, ``about["starts"]``.
        target: ``state_dim`` numbers.
    """

    _esm = bundle(LIVE / "epochs.js")
    controls = traitlets.Bytes().tag(sync=True)  # float32 [epochs, cycles + 1, starts, N m]
    optima = traitlets.Bytes().tag(sync=True)    # float64 [starts, N m], NaN where there is none
    start = traitlets.List(traitlets.Float()).tag(sync=True)
    target = traitlets.List(traitlets.Float()).tag(sync=True)
    epoch = traitlets.Int().tag(sync=True)
    H_cycle = traitlets.Int(0).tag(sync=True)

    def __init__(self, model, snapshots, teacher, low, high, shown):
        self.model, self.snapshots, self.teacher = model, snapshots, teacher
        self.epochs, c, system = sorted(snapshots), model.config, model.system
        self.shown = shown
        each = 4 * len(self.epochs) * (c.H_cycles + 1) * c.horizon * c.control_dim
        side = max(int((ROOM / each) ** (1 / len(shown))), 1)
        side = min(side - 1 + side % 2, 7 if len(shown) == 2 else 41)  # odd: one in the middle
        self.starts = self._grid(low, high, side)
        steps = [(high - low)[i].item() / max(side - 1, 1) for i in shown]
        about = {"epochs": self.epochs, "cycles": c.H_cycles, "shown": list(shown),
                 "box": [low.tolist(), high.tolist()], "horizon": c.horizon, "steps": steps,
                 "starts": self.starts.tolist(), "system": web.system(system)}
        target = (low + high) / 2
        target[0] += 0.2 * (high - low)[0]
        super().__init__(self.draw, about=about, epoch=self.epochs[0], H_cycle=c.H_cycles,
                         start=self.starts[len(self.starts) // 2].tolist(), target=target.tolist())

    def _grid(self, low, high, side):
        """Starts over the two components that are shown; the others are in the middle."""
        starts = ((low + high) / 2).expand(side ** len(self.shown), -1).clone()
        lines = (torch.linspace(low[i].item(), high[i].item(), side, dtype=torch.float64)
                 for i in self.shown)
        starts[:, list(self.shown)] = torch.cartesian_prod(*lines).reshape(len(starts), -1)
        return starts

    @traitlets.validate("start", "target")
    def _states(self, proposal):
        return self.checked_state(proposal, self.model.system.state_dim)

    @traitlets.validate("epoch")
    def _epoch(self, proposal):
        if proposal["value"] not in self.epochs:
            raise traitlets.TraitError(f"epoch={proposal['value']} is not accepted; "
                                       f"the snapshots are of {self.epochs}")
        return proposal["value"]

    @traitlets.validate("H_cycle")
    def _cycle(self, proposal):
        return self.checked_whole(proposal, 0, self.model.config.H_cycles)

    @traitlets.observe("target")
    def _solve(self, _):
        """Controls from all starts to the target: by every snapshot, and the optima."""
        target = torch.tensor(self.target, dtype=torch.float64).expand_as(self.starts)
        optima, found = torch.full((len(self.starts), 1), torch.nan), []
        with one_thread(), torch.no_grad():
            if self.teacher is not None:
                optima, _ = self.teacher.try_solve(self.starts, target)
            for epoch in self.epochs:
                self.model.load_state_dict(self.snapshots[epoch])
                found.append(self.model(self.starts, target)["cycle_controls"])
        with self.hold_sync():
            self.optima = numbers(optima)
            self.controls = torch.stack(found).float().numpy().astype("<f4").tobytes()

    def draw(self):
        """The static picture: the start in the middle, after the first epoch.

        Later the lines of all cycles coincide.
        """
        c, i, early = self.model.config, len(self.starts) // 2, min(1, len(self.epochs) - 1)
        shape = len(self.epochs), c.H_cycles + 1, len(self.starts), c.horizon, c.control_dim
        cycles = torch.from_numpy(np.frombuffer(self.controls, "<f4").reshape(shape).copy())
        optimum = torch.from_numpy(np.frombuffer(self.optima, "<f8").copy())
        optimum = optimum.reshape(len(self.starts), -1)[i].expand(c.horizon * c.control_dim)
        optimum = optimum.reshape(c.horizon, c.control_dim)
        cycles, x0, system = cycles[early, :, i].double(), self.starts[i], self.model.system
        return plots.refinement(
            system.dt, cycles, system.rollout_unchecked(x0.expand(len(cycles), -1), cycles),
            optimum, system.rollout_unchecked(x0, optimum), torch.tensor(self.target),
            title=f"controls after epoch {self.epochs[early]}", system=system, shown=self.shown)

    def summary(self):
        return f"a network's refinement after epochs {', '.join(map(str, self.epochs))}"


def time_machine(model, snapshots, teacher=None, state_range=None, shown=(0, 1)):
    """The widget: the network of any epoch of a training, by cycle and start.

    Args:
        model: a network of the kind that was trained.
        snapshots: ``{epoch: weights}``, as `load_snapshots` returns them.
        teacher: gives the optimum; none is drawn if None, except for a cart without limits.
        state_range: the box of the starts, as in `Sampler`; may be None for a cart.
        shown: the two components of the state in the phase plane.

    Raises:
        ValueError: if the teacher is for another system or horizon, the box is missing, or a web
            page cannot compute the system's steps.
    """
    system = validation.instance("model", model, Learner).system
    if not snapshots:
        raise ValueError("snapshots is empty; needs the weights of one epoch at least")
    if teacher is None and is_cart(system) and system.control_limit is None:
        teacher = MinimumEnergyController(system, model.config.horizon)
    if teacher is not None:
        check_teacher(teacher, model)
    low, high = state_box(system, state_range, BOX if is_cart(system) else None)
    return TimeMachine(own_copy(model), snapshots, teacher, low, high,
                       plots.components(system, shown))
