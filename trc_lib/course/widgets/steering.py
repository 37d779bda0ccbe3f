"""Widgets of the first chapters: steer by hand, compare the two laws, browse the dataset, go back in training."""

import functools

import ipywidgets
import numpy as np
import torch

from trc_lib.course import plots
from trc_lib.course.widgets.scene import SteeringScene
from trc_lib.course.widgets.shell import LABEL, Shell, choice, slider, state_sliders
from trc_lib.evaluation import final_error
from trc_lib.systems import DoubleIntegrator
from trc_lib.teachers import MinimumEnergyController, SampledContinuousController

KNOTS = 5


class Playground:
    """Steer [0, 0] -> [1, 0] yourself: a control sequence through a few knots, and what it is worth."""

    def __init__(self, seed=0):
        self.teacher = MinimumEnergyController()
        self.start, self.target = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
        self.optimum = self.teacher.solve(self.start, self.target)
        self.extra = torch.zeros_like(self.optimum)                 # what the buttons have added, [N, 1]
        C = self.teacher.system.controllability_matrix(self.teacher.horizon)
        self.row_space, _ = torch.linalg.qr(C.T)                    # [N, 2]
        self.generator = torch.Generator().manual_seed(seed)
        self.scene = SteeringScene({"you": plots.LOOKS["network"], "optimum": plots.OPTIMUM}, 15 * self.teacher.system.dt)

    def add(self, part):
        """Add a random sequence of length 0.3: a ``"wiggle"`` that moves no end, or a ``"nudge"`` that moves it."""
        w = torch.randn(self.teacher.horizon, generator=self.generator, dtype=torch.float64)
        in_row_space = self.row_space @ (self.row_space.T @ w)
        w = w - in_row_space if part == "wiggle" else in_row_space
        self.extra = self.extra + (0.3 * w / w.norm())[:, None]

    def controls(self, *knots):
        """The sequence ``[N, 1]`` on straight lines through the knots, plus what the buttons have added."""
        middle = (np.arange(self.teacher.horizon) + 0.5) / self.teacher.horizon
        return torch.from_numpy(np.interp(middle, np.linspace(0, 1, KNOTS), knots))[:, None] + self.extra

    def draw(self, **knots):
        """The picture for the knots' values, as PNG bytes."""
        controls, system = self.controls(*knots.values()), self.teacher.system
        miss = final_error(system, self.start, self.target, controls).item()
        energy, least = controls.square().sum().item(), self.optimum.square().sum().item()
        won = miss < 0.1 and energy < 1.2 * least
        text = (f"you end {miss:.3f} from the target, with {energy / least:.2f} times the least energy: "
                + ("you win" if won else "to win, end within 0.1 with less than 1.2 times the least energy"))
        runs = {"you": (system.rollout(self.start, controls), controls),
                "optimum": (system.rollout(self.start, self.optimum), self.optimum)}
        return self.scene.draw(system.dt, runs, self.target, text)


def playground():
    """The widget: five knots by slider, a wiggle, a nudge, and a start over."""
    game = Playground()
    controls = {f"knot_{k}": slider(0.0, -0.6, 0.6, 0.01, f"u at {k * 4.95 / (KNOTS - 1):.1f} s (m/s²)") for k in range(KNOTS)}
    shell = Shell(game.draw, controls)

    def button(description, act):
        made = ipywidgets.Button(description=description, layout=ipywidgets.Layout(width="220px"))
        made.on_click(lambda _: (act(), shell.redraw()))
        return made

    def start_over():
        game.extra = torch.zeros_like(game.extra)
        shell.set(**{name: 0.0 for name in controls})

    shell.children[0].children += (button("add a null-space wiggle", lambda: game.add("wiggle")),
                                   button("add a row-space nudge", lambda: game.add("nudge")), button("start over", start_over))
    return shell


class TeacherExplorer:
    """The exact law and the sampled continuous law side by side."""

    def __init__(self):
        looks = {name: plots.LOOKS[name] for name in ("continuous law, sampled", "optimum")}
        self.scene = functools.lru_cache(maxsize=8)(lambda duration: SteeringScene(looks, duration))

    def draw(self, start_position, start_velocity, target_position, target_velocity, horizon, dt):
        """The picture for a start, a target, a number of steps and their length, as PNG bytes."""
        x0, xT = [start_position, start_velocity], [target_position, target_velocity]
        system, runs, errors = DoubleIntegrator(dt), {}, []
        laws = {"continuous law, sampled": SampledContinuousController, "optimum": MinimumEnergyController}
        for name, law in laws.items():
            controls = law(system, horizon).solve(x0, xT)
            runs[name] = system.rollout(torch.tensor(x0).double(), controls), controls
            errors.append(final_error(system, x0, xT, controls).item())
        text = (f"{horizon} steps of {dt:.2f} s: the sampled law ends {errors[0]:.4f} from the target, "
                f"the exact law {0 if errors[1] < 1e-9 else errors[1]:.4f}")
        return self.scene(float(np.ceil(horizon * dt / 2.5) * 2.5)).draw(dt, runs, np.array(xT), text)


def teacher_explorer():
    """The widget: start, target, horizon and dt by slider."""
    controls = state_sliders() | {
        "horizon": ipywidgets.IntSlider(value=15, min=2, max=60, description="steps", style=LABEL),
        "dt": slider(0.33, 0.05, 0.5, 0.01, "dt (s)")}
    return Shell(TeacherExplorer().draw, controls)


class DatasetBrowser:
    """One sample's problem and answer, and where it lies in the cloud of starts."""

    ORDERS = ("cheapest first", "costliest first", "as stored")

    def __init__(self, dataset):
        self.dataset = dataset
        self.energy = dataset.controls.square().sum(dim=(1, 2))
        by_energy = self.energy.argsort()
        self.orders = dict(zip(self.ORDERS, (by_energy, by_energy.flip(0), torch.arange(len(dataset)))))
        self.scene = SteeringScene({"optimum": plots.OPTIMUM}, dataset.horizon * dataset.dt,
                                   dataset.initial_states[:2000].numpy(), ("start position (m)", "start velocity (m/s)"))

    def draw(self, order, place):
        """The picture of the sample at ``place`` of an order, as PNG bytes."""
        i = self.orders[order][place]
        x0, xT, controls = self.dataset.initial_states[i], self.dataset.target_states[i], self.dataset.controls[i]
        text = f"sample {i}: least energy {self.energy[i]:.2f} (m/s²)²"
        return self.scene.draw(self.dataset.dt, {"optimum": (self.dataset.system.rollout(x0, controls), controls)}, xT, text, x0)


def dataset_browser(dataset):
    """The widget: an order, and a place in it."""
    return Shell(DatasetBrowser(dataset).draw, {
        "order": choice(DatasetBrowser.ORDERS, "order"),
        "place": ipywidgets.IntSlider(value=0, min=0, max=len(dataset) - 1, description="place", style=LABEL)})


class TimeMachine:
    """Epoch and cycle as two sliders over the snapshots of a training run, for any start and target.

    Args:
        model: a network of the kind that was trained; its weights are replaced.
        snapshots: ``{epoch: weights}``, as `load_snapshots` gives them.
    """

    def __init__(self, model, snapshots):
        self.viewer, self.snapshots = model.cpu().eval(), snapshots
        self.teacher = MinimumEnergyController(model.system, model.config.horizon)
        self.cycles = functools.lru_cache(maxsize=128)(self._cycles)  # of one problem at one epoch: computed once
        self.scene = SteeringScene({"network": plots.LOOKS["network"], "optimum": plots.OPTIMUM},
                                   model.config.horizon * model.system.dt)

    @torch.no_grad()
    def _cycles(self, problem, epoch):
        self.viewer.load_state_dict(self.snapshots[epoch])
        x0, xT = torch.tensor([problem]).split(2, dim=1)
        return self.viewer(x0, xT)["cycle_controls"][:, 0].double()

    def draw(self, start_position, start_velocity, target_position, target_velocity, epoch, cycle):
        """The picture of one problem after ``cycle`` cycles of the network as it was after ``epoch``, as PNG bytes."""
        problem, system = (start_position, start_velocity, target_position, target_velocity), self.teacher.system
        x0, xT = torch.tensor([problem], dtype=torch.float64)[0].split(2)
        controls, optimum = self.cycles(problem, epoch)[cycle], self.teacher.solve(x0, xT)
        error = final_error(system, x0, xT, controls).item()
        text = f"after epoch {epoch}, {f'cycle {cycle}' if cycle else 'first proposal'}: ends {error:.4f} from the target"
        runs = {"network": (system.rollout(x0, controls), controls), "optimum": (system.rollout(x0, optimum), optimum)}
        return self.scene.draw(system.dt, runs, xT, text)


def time_machine(model, snapshots):
    """The widget: epoch and cycle, start and target."""
    epochs = sorted(snapshots)
    controls = {"epoch": choice(epochs, "after epoch"),
                "cycle": ipywidgets.IntSlider(value=0, min=0, max=model.config.H_cycles, description="H cycle", style=LABEL)}
    controls["epoch"].value = epochs[-1]
    return Shell(TimeMachine(model, snapshots).draw, controls | state_sliders())
