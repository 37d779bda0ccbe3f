"""How good controls are: final errors, success, the two parts of a mistake, closed loop."""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from trc_lib import validation
from trc_lib.systems import LinearSystem
from trc_lib.systems.steps import check_methods
from trc_lib.systems.system import Controls, States, System
from trc_lib.validation import ArrayLike, Number, Whole

LONGEST_DRIVE = 100_000  # steps in closed loop

Cycles = Float[Tensor, "cycles batch horizon control_dim"]


def final_error(system: System, initial_state: ArrayLike, target_state: ArrayLike,
                controls: ArrayLike) -> Float[Tensor, "..."]:
    """|x_N - x_T|, the distance between the final state and the target, simulated in float64.

    It mixes m and m/s; use it only to compare.

    Args:
        system: a `System`.
        initial_state, target_state: ``[..., state_dim]``.
        controls: ``[..., horizon, control_dim]``.

    Returns:
        ``[...]``, the Euclidean norm.
    """
    validation.instance("system", system, System)
    x0, xT = validation.state_pair(initial_state, target_state, system.state_dim)
    controls = validation.array("controls", controls, (None, system.control_dim), torch.float64)
    errors = _offset(system, x0, xT, controls).norm(dim=-1)
    return validation.result("the error", errors, "initial_state, target_state or controls are")


def _offset(system, x0, xT, controls):
    """x_N - x_T, ``[..., state_dim]``."""
    return system.rollout(x0, controls)[..., -1, :] - xT


def decompose_error(system: LinearSystem, controls: ArrayLike, optimal_controls: ArrayLike
                    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Split u - u* into the part that misses the target and the part that wastes energy.

    With C the controllability matrix, x_N - x_T = C (u - u*): only the part of u - u* in the row
    space of C moves the final state. The rest, in the null space, only costs energy: for every u
    that reaches the target, |u|^2 - |u*|^2 = |u - u*|^2.

    Args:
        system: a `LinearSystem`.
        controls, optimal_controls: ``[..., horizon, control_dim]``.

    Returns:
        terminal error and excess energy, each ``[...]``, (m/s^2)^2: squared lengths that add up to
        |u - u*|^2.
    """
    validation.instance("system", system, LinearSystem)
    u, best = (validation.array(name, value, (None, system.control_dim), torch.float64)
               for name, value in (("controls", controls), ("optimal_controls", optimal_controls)))
    validation.same_kind("controls", u, u.shape, "optimal_controls", best, best.shape)
    difference = (u - best).flatten(-2)                                   # [..., N * control_dim]
    basis = row_space(system.controllability_matrix(u.shape[-2])).to(difference)
    in_row_space = difference @ basis.T @ basis
    parts = [part.square().sum(dim=-1) for part in (in_row_space, difference - in_row_space)]
    validation.result("their square", torch.stack(parts), "controls or optimal_controls are")
    return tuple(parts)


def row_space(C: Float[Tensor, "rows columns"]) -> Float[Tensor, "rank columns"]:
    """An orthonormal basis of the row space of C, in rows, whatever its rank and its units."""
    scaled = C / C.norm(dim=1, keepdim=True).clamp(min=torch.finfo(C.dtype).tiny)
    _, sizes, rows = torch.linalg.svd(scaled, full_matrices=False)
    return rows[sizes > 1e-12 * sizes[0]]


@dataclasses.dataclass(frozen=True)
class Metrics:
    """The figures of one controller on one dataset.

    Attributes:
        final_error_mean, final_error_median, final_error_p99, final_error_max: of |x_N - x_T|.
        success_rate: share of problems that `Teacher.succeeded` counts.
        control_mse: mean of (u - u*)^2, (m/s^2)^2; the training loss.
        terminal_error, excess_energy: means of the two parts of |u - u*|^2, (m/s^2)^2; None where
            `decompose_error` does not apply.
        cost_ratio: mean cost (for the minimum-energy law the energy) over the optimum's. Where the
            cost does not contain the target, compare it only between controls that arrive.
    """

    final_error_mean: float
    final_error_median: float
    final_error_p99: float
    final_error_max: float
    success_rate: float
    control_mse: float
    terminal_error: float | None
    excess_energy: float | None
    cost_ratio: float


def measure(dataset: object, controls: ArrayLike) -> Metrics:
    """The `Metrics` of ``controls`` ``[n, horizon, control_dim]`` on the problems of a dataset."""
    validation.like("dataset", dataset, "an LQRDataset", "teacher", "initial_states", "controls")
    teacher, problems = dataset.teacher, (dataset.initial_states, dataset.target_states)
    shape = tuple(dataset.controls.shape)
    controls = validation.array("controls", controls, shape, torch.float64).cpu()
    offsets = _offset(teacher.system, *problems, controls)
    errors = offsets.norm(dim=-1)
    parts = [None, None]
    if teacher.has_ruler:
        both = decompose_error(teacher.system, controls, dataset.controls)
        parts = [float(part.mean()) for part in both]
    costs = [teacher.cost(*problems, u).sum() for u in (controls, dataset.controls)]
    return Metrics(
        final_error_mean=float(errors.mean()), final_error_median=float(errors.median()),
        final_error_p99=float(np.quantile(errors.numpy(), 0.99)),  # torch's: at most 16 million
        final_error_max=float(errors.max()),
        success_rate=float(teacher.succeeded(offsets).double().mean()),
        control_mse=float((controls - dataset.controls).square().mean()),
        terminal_error=parts[0], excess_energy=parts[1], cost_ratio=float(costs[0] / costs[1]))


def cycle_controls(model: object, dataset: object, H_cycles: Whole = None,
                   batch_size: Whole = 4096) -> Cycles:
    """A network's controls before the first and after each cycle, float64.

    Args:
        model: a `Learner`.
        dataset: an `LQRDataset`.
        H_cycles: how many cycles to run; those of the network if None.
        batch_size: problems at a time.

    Returns:
        ``[H_cycles + 1, n, horizon, control_dim]``.

    Raises:
        ValueError: if the dataset has another horizon or system than the model.
    """
    validation.like("model", model, "a Learner", "check_fit").check_fit(dataset, "dataset")
    batch_size = validation.whole("batch_size", batch_size)
    starts, targets = dataset.initial_states, dataset.target_states
    with torch.no_grad():
        batches = zip(starts.split(batch_size), targets.split(batch_size))
        return torch.cat([model(*batch, H_cycles)["cycle_controls"].cpu().double()
                          for batch in batches], dim=1)


def evaluate(model: object, dataset: object, H_cycles: Whole = None) -> list[Metrics]:
    """The `Metrics` before the first and after each cycle, as in `cycle_controls`."""
    return [measure(dataset, controls) for controls in cycle_controls(model, dataset, H_cycles)]


def error_gap(metrics: Metrics, reference: Metrics) -> float:
    """The "error gap from optimal": the mean final error over that of a reference, minus one.

    It says nothing about energy, and against an exact reference it divides by rounding errors.
    """
    return metrics.final_error_mean / reference.final_error_mean - 1


@torch.no_grad()
def closed_loop(planner: Callable, plant: System, initial_state: ArrayLike,
                target_state: ArrayLike, steps: Whole, every: Whole = 1, noise: Number = 0.0,
                seed: Whole = 0) -> tuple[States, Controls]:
    """Drive a plant by plans that are renewed from the states that it reaches.

    Every plan covers the whole horizon again (receding horizon); ``every`` equal to ``steps`` is
    open loop. Where a planner has no plan for a state, the one before is carried out further; where
    that has ended, too, the states are NaN from there on, and the planner is not asked again.

    Args:
        planner: a function from states and targets ``[n, state_dim]`` to controls
            ``[n, horizon, control_dim]``, such as ``teacher.solve`` or ``model.solve``; or to
            controls and which of them are plans, ``[n]``, such as ``teacher.try_solve``.
        plant: the `System` that is driven; its limits clamp the controls.
        initial_state, target_state: ``[n, state_dim]``.
        steps: how many steps to drive.
        every: steps of each plan that are carried out before the next is made.
        noise: standard deviation of what is added to each component of the state every step.
        seed: of the noise, which does not depend on the planner.

    Returns:
        states ``[n, steps + 1, state_dim]`` and controls ``[n, steps, control_dim]``, float64.

    Raises:
        ValueError: if a plan is shorter than ``every`` steps, or has another shape, or no state has
            a plan at the start.
    """
    validation.instance("planner", planner, Callable)
    check_methods(validation.instance("plant", plant, System))
    state, target = validation.state_pair(initial_state, target_state, plant.state_dim)
    steps = validation.whole("steps", steps, at_most=LONGEST_DRIVE)
    every = validation.whole("every", every)
    noise = validation.positive("noise", noise, or_zero=True)
    generator = torch.Generator().manual_seed(validation.whole("seed", seed, at_least=0))
    leading, state = state.shape[:-1], state.reshape(-1, plant.state_dim)
    target = target.reshape(state.shape)
    low, high = (bound.to(state) for bound in plant.bounds)
    age = torch.zeros(len(state), dtype=torch.long, device=state.device)
    plan = torch.full((len(state), 1, plant.control_dim), torch.nan).to(state)
    states, controls = [state], []
    for step in range(steps):
        asked = state.isfinite().all(dim=-1).nonzero()[:, 0] if step % every == 0 else ()
        if len(asked):
            new, solved = _plans(planner, state[asked], target[asked], plant.control_dim)
            if new.shape[1] < min(every, steps - step):
                raise ValueError(f"planner gave controls {list(new.shape)}; needs plans of at "
                                 f"least every={every} steps")
            if step == 0 and not bool(solved.any()):
                raise ValueError("planner has a plan for none of the initial states")
            length = max(plan.shape[1], new.shape[1] + 1)  # a plan that has ended goes on with NaN
            plan, new = (F.pad(each, (0, 0, 0, length - each.shape[1]), value=torch.nan)
                         for each in (plan, new))
            plan[asked[solved]], age[asked[solved]] = new[solved], 0
        control = plan[torch.arange(len(plan)), age.clamp(max=plan.shape[1] - 1)].clamp(low, high)
        control = plant.within(control[:, None])[:, 0]
        disturbance = torch.randn(state.shape, generator=generator, dtype=torch.float64)
        state = plant.dynamics(state, control) + noise * disturbance.to(state)
        state = state.where(state.isfinite().all(dim=-1, keepdim=True), torch.nan)
        age += 1
        states.append(state)
        controls.append(control)
    return tuple(torch.stack(values, dim=-2).unflatten(0, leading) if leading
                 else torch.stack(values, dim=-2)[0] for values in (states, controls))


def _plans(planner, state, target, control_dim):
    """A planner's controls ``[n, horizon, control_dim]``, and which of them are plans, ``[n]``."""
    try:
        answer = planner(state, target)
    except ValueError as error:
        solved = getattr(error, "solved", None)  # of `Unsolved`
        if solved is None or not bool(solved.any()):
            raise
        some = planner(state[solved], target[solved])
        answer = torch.zeros(len(state), *some.shape[1:]).to(some), solved
        answer[0][solved] = some
    controls, solved = answer if isinstance(answer, tuple) else (
        answer, torch.ones(len(state), dtype=torch.bool, device=state.device))
    controls = torch.as_tensor(controls)
    if controls.ndim != 3 or len(controls) != len(state):
        raise ValueError(f"planner gave controls {list(controls.shape)} for states "
                         f"{list(state.shape)}; needs one plan a state")
    controls = controls.where(solved[:, None, None], 0.0)
    controls = validation.array("planner's controls", controls, (None, control_dim), torch.float64)
    return controls, solved
