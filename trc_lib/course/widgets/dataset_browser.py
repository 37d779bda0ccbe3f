"""The samples of a dataset, one at a time, among the others."""

import torch
import traitlets

from trc_lib import validation, web
from trc_lib.course import plots
from trc_lib.course.widgets.explorable import LIVE, Explorable, bundle, numbers
from trc_lib.data import LQRDataset
from trc_lib.teachers import Teacher

OFFERED, ROOM = 500, 250_000  # samples to choose from, and bytes for them
ORDERS = ("cheapest first", "costliest first", "as stored")


class DatasetBrowser(Explorable):
    """The widget that `dataset_browser` makes.

    Attributes:
        sample: its number in the dataset; all can be set here, also those not offered in the page.
        order: one of `ORDERS`.
    """

    _esm = bundle(LIVE / "samples.js")
    samples = traitlets.Bytes().tag(sync=True)
    extra = traitlets.Bytes().tag(sync=True)
    sample = traitlets.Int(0).tag(sync=True)
    order = traitlets.Enum(ORDERS, ORDERS[0]).tag(sync=True)

    def __init__(self, dataset, shown):
        self.dataset, self.shown = dataset, shown
        system, teacher = dataset.system, dataset.teacher
        self.costs = teacher.cost(dataset.initial_states, dataset.target_states,
                                  dataset.controls).double()
        cheapest = self.costs.argsort(stable=True)
        self.rank = cheapest.argsort()
        n, m, horizon = system.state_dim, system.control_dim, dataset.horizon
        row = 8 * (3 + n + horizon * m + (horizon + 1) * n)
        count = max(min(OFFERED, ROOM // row, len(dataset)), 1)
        self.offered = cheapest[torch.linspace(0, len(dataset) - 1, count).round().long()]
        low, high = map(web.spelled, system.bounds)
        energy = type(teacher).cost is Teacher.cost
        about = {"state_dim": n, "control_dim": m, "horizon": horizon, "dt": system.dt,
                 "labels": list(system.labels), "shown": list(shown), "low": low, "high": high,
                 "what": "energy" if energy else "cost", "count": len(dataset),
                 "unit": plots.squared_unit(system) if energy else ""}
        super().__init__(self.draw, about=about, samples=self._rows(self.offered),
                         sample=int(cheapest[0]))

    def _rows(self, chosen):
        """Number, rank, cost, target, controls and states of samples, as ``samples.js`` reads."""
        data, (x0, u) = self.dataset, self._run(chosen)
        states = data.system.rollout_unchecked(x0, u)
        columns = (chosen, self.rank[chosen], self.costs[chosen])
        return numbers(*(each[:, None] for each in columns), data.target_states[chosen], u, states)

    def _run(self, chosen):
        return self.dataset.initial_states[chosen], self.dataset.controls[chosen]

    @traitlets.validate("sample")
    def _known(self, proposal):
        value = self.checked_whole(proposal, 0, len(self.dataset) - 1)
        # Here, not in an observer: the page gets the numbers before it is told to show them.
        self.extra = b"" if value in self.offered else self._rows(torch.tensor([value]))
        return value

    def draw(self):
        """The static picture: the sample's optimum, and where it leads."""
        x0, controls = self._run(self.sample)
        system = self.dataset.system
        states = system.rollout_unchecked(x0, controls)
        return plots.steering(system.dt, {"optimum": (states, controls)},
                              self.dataset.target_states[self.sample], f"sample {self.sample}",
                              system, self.shown)

    def summary(self):
        count, offered = len(self.dataset), len(self.offered)
        choice = "" if offered == count else f", {offered} of them to choose from"
        return f"{count} samples, each with its optimum{choice}; the picture shows one"


def dataset_browser(dataset, shown=(0, 1)):
    """The widget: one sample and where its start lies among the others, by order and place.

    Args:
        dataset: an `LQRDataset`; of a large one, an evenly spaced choice is offered.
        shown: the two components of the state in the phase plane.

    Raises:
        TypeError: if it is no `LQRDataset`.
        ValueError: if ``shown`` are not two components of its states.
    """
    system = validation.instance("dataset", dataset, LQRDataset).system
    return DatasetBrowser(dataset, plots.components(system, shown))
