"""The error map: final errors over the two components of the start, the worst of them marked."""

import numpy as np
import torch
from matplotlib.figure import Figure

from trc_lib import validation
from trc_lib.course import plots
from trc_lib.course.widgets.canvas import Canvas
from trc_lib.course.widgets.shell import (
    Shell,
    button,
    is_cart,
    own_copy,
    state_box,
    state_sliders,
)
from trc_lib.evaluation import final_error
from trc_lib.systems import SUCCESS

BOX = 2.5  # half the side of the training box of the course's cart; the map is twice as wide


class ErrorMap:
    """The map for one target."""

    def __init__(self, model, points=15, state_range=None, success=SUCCESS):
        self.model, points = own_copy(model), validation.whole("points", points, at_least=3)
        self.system = model.system
        plots.two_states(self.system)
        self.low, self.high = state_box(self.system, state_range,
                                        BOX if is_cart(self.system) else None)
        half, middle = (self.high - self.low) / 2, (self.high + self.low) / 2      # [2]
        unit = torch.linspace(-2, 2, points, dtype=torch.float64)
        grid = torch.stack(torch.meshgrid(unit, unit, indexing="xy"), dim=-1)      # [v, p, 2]
        self.starts, self.inside = middle + half * grid, (grid.abs() <= 1).all(dim=-1)
        figure = Figure(figsize=(7.6, 5.4), layout="constrained")
        axes = figure.subplots()
        reach = 2 * half * (1 + 1 / (points - 1))
        ends = torch.stack([middle - reach, middle + reach], dim=1).flatten()
        image = axes.imshow(np.ones((points, points)), origin="lower", cmap="cividis",
                            extent=ends.tolist(), norm=plots.error_colors(success),
                            interpolation="nearest",
                            aspect="equal" if half[0] == half[1] else "auto")
        (left, bottom), (right, top) = self.low.tolist(), self.high.tolist()
        box, = axes.plot([left, right, right, left, left], [bottom, bottom, top, top, bottom],
                         "--", color="white", linewidth=1.5, label="training box")
        target, = axes.plot([], [], label="target", **plots.CROSS | {"color": "white"})
        worst, = axes.plot([], [], "o", color="red", markerfacecolor="none", markeredgewidth=2,
                           markersize=9, label="the five worst in the box")
        figure.legend(loc="outside lower center", ncols=3, **plots.ON_MAP)
        axes.set(**dict(zip(("xlabel", "ylabel"),
                            (f"start {label}" for label in self.system.state_labels))))
        axes.grid(False)
        figure.colorbar(image, label="|x_N − x_T|", extend="both")
        self.canvas = Canvas(figure, {"image": image, "box": box, "target": target, "worst": worst})

    def errors(self, target):
        """Final errors over the starts, ``[velocities, positions]``, for a target [p, v]."""
        target = torch.tensor(target, dtype=torch.float64)
        controls = self.model.solve(self.starts, target)
        return final_error(self.system, self.starts, target, controls)

    def worst_starts(self, errors, count=5):
        """The starts in the training box with the largest errors, ``[count, 2]``, worst first."""
        count = min(count, int(self.inside.sum()))
        worst = errors.where(self.inside, 0).flatten().topk(count).indices
        return self.starts.flatten(0, 1)[worst]

    def draw(self, target_0, target_1):
        """The picture for a target, as PNG bytes."""
        target, moving = (target_0, target_1), self.canvas.moving
        errors, sizes = self.errors(target), (self.high - self.low).tolist()
        moving["image"].set_data(errors.numpy())
        moving["target"].set_data([target_0], [target_1])
        moving["worst"].set_data(*self.worst_starts(errors).T.numpy())
        place = ", ".join(plots.rounded(value, size, 1) for value, size in zip(target, sizes))
        inside, outside = (plots.rounded(errors[part].max(), max(sizes), 3)
                           for part in (self.inside, ~self.inside))
        return self.canvas.png(f"target [{place}]: largest error inside the box {inside}, "
                               f"outside {outside}")


def error_map(model, scope=None, points=15, state_range=None, success=SUCCESS):
    """The widget: the target on sliders; a button opens the worst start in a `microscope`.

    Args:
        model: a `TinyRecursiveControl` for a system with two states.
        scope: the microscope; no button if None.
        points: starts along each side of the map.
        state_range: the training box, as in `Sampler`; may be None for a cart.
        success: the largest final error that counts as a success; colours go from a hundredth of
            it to ten times.

    Raises:
        ValueError: if the system has not two states, or the box is missing.
    """
    chart = ErrorMap(model, points, state_range, success)

    def open_worst():
        target = shell.values()
        worst = chart.worst_starts(chart.errors(tuple(target.values())))[0]
        scope.set(start_0=worst[0].item(), start_1=worst[1].item(), **target)

    first = (chart.low + chart.high) / 2
    first[0] += 0.2 * (chart.high - chart.low)[0]
    sliders = state_sliders(chart.system, chart.low, chart.high, first)
    shell = Shell(chart.draw, {f"target_{i}": sliders[f"target_{i}"] for i in (0, 1)},
                  () if scope is None else
                  (button("open the worst in the microscope", open_worst, "260px"),))
    return shell
