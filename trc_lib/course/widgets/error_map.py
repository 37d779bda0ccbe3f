"""The error map: final error over start positions and velocities, the worst of them marked."""

import ipywidgets
import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from trc_lib.course.widgets.canvas import Canvas
from trc_lib.course.widgets.shell import Shell, slider
from trc_lib.evaluation import final_error


class ErrorMap:
    """The map for a target on sliders.

    Args:
        model: a `TinyRecursiveControl` for the double integrator.
        box: half the side of the training box. limit: half the side of the map. points: starts along each side.
    """

    def __init__(self, model, box=2.5, limit=5.0, points=15):
        self.model, self.limit = model.cpu().eval(), limit
        axis = torch.linspace(-limit, limit, points, dtype=torch.float64)
        self.starts = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)      # [velocities, positions, 2]
        figure = Figure(figsize=(7.6, 5.4), layout="constrained")
        axes = figure.subplots()
        half = limit * (1 + 1 / (points - 1))
        self.image = axes.imshow(np.ones((points, points)), origin="lower", extent=(-half, half, -half, half), cmap="cividis",
                                 norm=LogNorm(1e-3, 1), interpolation="nearest")
        square = np.array([-1, 1, 1, -1, -1]) * box, np.array([-1, -1, 1, 1, -1]) * box
        self.box, = axes.plot(*square, "--", color="white", linewidth=1.5, label="training box")
        self.target, = axes.plot([], [], "x", color="white", markersize=10, markeredgewidth=2.5, label="target")
        self.worst, = axes.plot([], [], "o", color="red", markerfacecolor="none", markeredgewidth=2, markersize=9,
                                label="the five worst in the box")
        figure.legend(loc="outside lower center", ncols=3, facecolor="0.3", labelcolor="white", frameon=True)
        axes.set(xlabel="start position (m)", ylabel="start velocity (m/s)")
        axes.grid(False)
        figure.colorbar(self.image, label="|x_N − x_T|", extend="both")
        self.text = figure.suptitle(" ", x=0.02, ha="left", fontsize=12)
        self.inside = (self.starts.abs() <= box).all(dim=-1)
        self.canvas = Canvas(figure, [self.image, self.box, self.target, self.worst, self.text])

    def errors(self, target):
        """Final errors over the starts, ``[velocities, positions]``, for a target [p, v]."""
        goal = torch.tensor(target, dtype=torch.float64)
        return final_error(self.model.system, self.starts, goal, self.model.solve(self.starts, goal))

    def worst_starts(self, target, count=5):
        """The starts inside the training box with the largest final errors, ``[count, 2]``, the worst first."""
        errors = self.errors(target).where(self.inside, 0)
        return self.starts.flatten(0, 1)[errors.flatten().topk(count).indices]

    def draw(self, target_position, target_velocity):
        """The picture for a target, as PNG bytes."""
        errors = self.errors((target_position, target_velocity))
        order = errors.where(self.inside, 0).flatten().topk(5).indices
        self.image.set_data(errors.numpy())
        self.target.set_data([target_position], [target_velocity])
        self.worst.set_data(*self.starts.flatten(0, 1)[order].T.numpy())
        self.text.set_text(f"target [{target_position:.1f}, {target_velocity:.1f}]: largest error inside the box "
                           f"{errors[self.inside].max():.3f}, outside {errors[~self.inside].max():.3f}")
        return self.canvas.png()


def error_map(model, scope=None, **options):
    """The widget: the target on sliders, and a button that opens the worst start in the microscope ``scope``."""
    chart = ErrorMap(model, **options)
    controls = {"target_position": slider(1.0, -2.5, 2.5, 0.1, "target position (m)"),
                "target_velocity": slider(0.0, -2.5, 2.5, 0.1, "target velocity (m/s)")}
    open_worst = ipywidgets.Button(description="open the worst in the microscope", layout=ipywidgets.Layout(width="260px"))
    shell = Shell(chart.draw, controls, extra=() if scope is None else (open_worst,))

    def show(_):
        target = shell.values()
        position, velocity = chart.worst_starts(tuple(target.values()))[0].tolist()
        scope.set(start_position=position, start_velocity=velocity, **target)

    open_worst.on_click(show)
    return shell
