"""The error map: final errors over start positions and velocities, the worst of them marked."""

import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from trc_lib.course import plots
from trc_lib.course.widgets.canvas import Canvas
from trc_lib.course.widgets.shell import Shell, button, own_copy, slider
from trc_lib.evaluation import final_error

BOX, LIMIT = 2.5, 5.0  # half the sides of the training box and of the map


class ErrorMap:
    """The map for one target."""

    def __init__(self, model, points=15):
        self.model = own_copy(model)
        axis = torch.linspace(-LIMIT, LIMIT, points, dtype=torch.float64)
        self.starts = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)  # [v, p, 2]
        self.inside = (self.starts.abs() <= BOX).all(dim=-1)
        figure = Figure(figsize=(7.6, 5.4), layout="constrained")
        axes = figure.subplots()
        half = LIMIT * (1 + 1 / (points - 1))
        image = axes.imshow(np.ones((points, points)), origin="lower", cmap="cividis",
                            extent=(-half, half, -half, half), norm=LogNorm(1e-3, 1),
                            interpolation="nearest")
        box, = axes.plot(BOX * np.array([-1, 1, 1, -1, -1]), BOX * np.array([-1, -1, 1, 1, -1]),
                         "--", color="white", linewidth=1.5, label="training box")
        target, = axes.plot([], [], label="target", **plots.CROSS | {"color": "white"})
        worst, = axes.plot([], [], "o", color="red", markerfacecolor="none", markeredgewidth=2,
                           markersize=9, label="the five worst in the box")
        figure.legend(loc="outside lower center", ncols=3, **plots.ON_MAP)
        axes.set(xlabel="start position (m)", ylabel="start velocity (m/s)")
        axes.grid(False)
        figure.colorbar(image, label="|x_N − x_T|", extend="both")
        self.canvas = Canvas(figure, {"image": image, "box": box, "target": target, "worst": worst})

    def errors(self, target):
        """Final errors over the starts, ``[velocities, positions]``, for a target [p, v]."""
        target = torch.tensor(target, dtype=torch.float64)
        controls = self.model.solve(self.starts, target)
        return final_error(self.model.system, self.starts, target, controls)

    def worst_starts(self, errors, count=5):
        """The starts in the training box with the largest errors, ``[count, 2]``, worst first."""
        worst = errors.where(self.inside, 0).flatten().topk(count).indices
        return self.starts.flatten(0, 1)[worst]

    def draw(self, target_position, target_velocity):
        """The picture for a target, as PNG bytes."""
        errors, moving = self.errors((target_position, target_velocity)), self.canvas.moving
        moving["image"].set_data(errors.numpy())
        moving["target"].set_data([target_position], [target_velocity])
        moving["worst"].set_data(*self.worst_starts(errors).T.numpy())
        return self.canvas.png(
            f"target [{target_position:.1f}, {target_velocity:.1f}]: largest error inside the box "
            f"{errors[self.inside].max():.3f}, outside {errors[~self.inside].max():.3f}")


def error_map(model, scope=None, points=15):
    """The widget: the target on sliders; a button opens the worst start in a `microscope`.

    Args:
        model: a `TinyRecursiveControl` for the double integrator.
        scope: the microscope; no button if None.
        points: starts along each side of the map.
    """
    chart = ErrorMap(model, points)

    def open_worst():
        target = shell.values()
        worst = chart.worst_starts(chart.errors(tuple(target.values())))[0]
        scope.set(start_position=worst[0].item(), start_velocity=worst[1].item(), **target)

    shell = Shell(chart.draw, {
        "target_position": slider(1.0, -2.5, 2.5, 0.1, "target position (m)"),
        "target_velocity": slider(0.0, -2.5, 2.5, 0.1, "target velocity (m/s)"),
    }, () if scope is None else (button("open the worst in the microscope", open_worst, "260px"),))
    return shell
