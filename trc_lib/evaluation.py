"""How good it is: final errors, success, and the ruler that splits an imitation error into miss and excess_energy."""

import dataclasses

import torch

from trc_lib import validation

LONGEST_DRIVE = 100_000  # steps of a drive


def final_error(system, initial_state, target_state, controls):
    """|x_N - x_T|: how far from the target the controls end, simulated in float64.

    Args:
        system: what is steered.
        initial_state, target_state: ``[..., state_dim]``.
        controls: ``[..., horizon, control_dim]``.

    Returns:
        ``[...]``, the Euclidean norm over the state (metres and metres a second mixed, as the description does).
    """
    validation.like("system", system, "a System", "rollout")
    initial_state, target_state = validation.state_pair(initial_state, target_state, system.state_dim)
    controls = validation.array("controls", controls, (None, system.control_dim), torch.float64)
    errors = (system.rollout(initial_state, controls)[..., -1, :] - target_state).norm(dim=-1)
    return validation.result("the error", errors, "initial_state, target_state or controls are")


def decompose_error(system, controls, optimal_controls):
    """The ruler: split u - u* into the part that misses the target and the part that wastes energy.

    With C the controllability matrix, x_N - x_T = C (u - u*): only the part of u - u* in the row space of C moves
    the final state. The rest, in the null space, changes nothing but the energy: for every u that arrives,
    |u|^2 - |u*|^2 = |u - u*|^2.

    Args:
        controls, optimal_controls: ``[..., horizon, control_dim]``.

    Returns:
        ``miss`` and ``excess_energy``, each ``[...]``, (m/s^2)^2: squared lengths that add up to |u - u*|^2.
    """
    validation.like("system", system, "a LinearSystem", "controllability_matrix")
    controls, optimal_controls = (validation.array(name, value, (None, system.control_dim), torch.float64) for name, value in (
        ("controls", controls), ("optimal_controls", optimal_controls)))
    validation.same_kind("controls", controls, controls.shape, "optimal_controls", optimal_controls, optimal_controls.shape)
    horizon = controls.shape[-2]
    difference = (controls - optimal_controls).flatten(-2)                       # [..., N * control_dim]
    Q, _ = torch.linalg.qr(system.controllability_matrix(horizon).T)             # columns span the row space of C
    in_row_space = difference @ Q.to(difference) @ Q.T.to(difference)
    parts = torch.stack([in_row_space.square().sum(dim=-1), (difference - in_row_space).square().sum(dim=-1)])
    return validation.result("their square", parts, "controls or optimal_controls are").unbind()


@dataclasses.dataclass(frozen=True)
class Metrics:
    """What the table shows of one controller on one dataset.

    Attributes:
        final_error_mean, final_error_median, final_error_p99, final_error_max: of |x_N - x_T|.
        success_rate: share of problems with |x_N - x_T| below the teacher's ``success``.
        control_mse: mean of (u - u*)^2, (m/s^2)^2; the training loss.
        terminal_error, excess_energy: mean over the problems of the two parts of |u - u*|^2, (m/s^2)^2; None where the ruler does not hold.
        cost_ratio: mean cost (for the minimum-energy law the energy) over the optimum's; says nothing without the final error
            beside it where the target is not part of the cost.
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


def measure(dataset, controls):
    """The `Metrics` of ``controls`` ``[n, horizon, control_dim]`` on the problems of ``dataset``."""
    validation.like("dataset", dataset, "an LQRDataset", "teacher", "initial_states", "target_states", "controls")
    teacher, problems = dataset.teacher, (dataset.initial_states, dataset.target_states)
    controls = validation.array("controls", controls, tuple(dataset.controls.shape), torch.float64).cpu()
    errors = final_error(teacher.system, *problems, controls)
    parts = [None, None]
    if teacher.has_ruler:
        parts = [float(part.mean()) for part in decompose_error(teacher.system, controls, dataset.controls)]
    return Metrics(
        final_error_mean=float(errors.mean()), final_error_median=float(errors.median()),
        final_error_p99=float(errors.quantile(0.99)), final_error_max=float(errors.max()),
        success_rate=float((errors < teacher.success).double().mean()),
        control_mse=float((controls - dataset.controls).square().mean()), terminal_error=parts[0], excess_energy=parts[1],
        cost_ratio=float(teacher.cost(*problems, controls).sum() / teacher.cost(*problems, dataset.controls).sum()))


def cycle_controls(model, dataset, H_cycles=None, batch_size=4096):
    """The model's controls before the first and after each cycle, ``[H_cycles + 1, n, horizon, control_dim]``, float64.

    Raises:
        ValueError: if the dataset has another horizon or system than the model.
    """
    validation.like("model", model, "a Learner", "check_fit").check_fit(dataset, "dataset")
    batch_size = validation.whole("batch_size", batch_size)
    with torch.no_grad():
        batches = zip(dataset.initial_states.split(batch_size), dataset.target_states.split(batch_size))
        return torch.cat([model(*batch, H_cycles)["cycle_controls"].double().cpu() for batch in batches], dim=1)


def evaluate(model, dataset, H_cycles=None):
    """`Metrics` after each cycle, a list of H_cycles + 1; the last is that of the finished controls."""
    return [measure(dataset, controls) for controls in cycle_controls(model, dataset, H_cycles)]


def error_gap(metrics, reference):
    """The description's "error gap from optimal": mean final error over a reference's, minus one.

    A ratio of two final errors. It says nothing about energy, and against an exact reference, whose error is rounding
    alone, it is a huge number without meaning.
    """
    return metrics.final_error_mean / reference.final_error_mean - 1


@torch.no_grad()
def closed_loop(planner, plant, initial_state, target_state, steps, every=1, noise=0.0, seed=0):
    """Drive a plant by plans that are made anew from the state that was really reached.

    Every plan reaches over its whole horizon again (a receding horizon); ``every`` equal to ``steps`` is open loop.

    Args:
        planner: a function from states and targets ``[n, state_dim]`` to controls ``[n, horizon, control_dim]``, such as
            ``teacher.solve`` or ``model.solve``.
        plant: the `System` that is really driven; its limits cut what the planner asks for.
        initial_state, target_state: ``[n, state_dim]``.
        steps: how many steps to drive.
        every: steps of each plan that are carried out before the next is made.
        noise: standard deviation of what is added to each component of the state after every step.
        seed: of the noise; the same seed, the same noise, whoever plans.

    Returns:
        states ``[n, steps + 1, state_dim]`` and controls ``[n, steps, control_dim]``, in float64.

    Raises:
        ValueError: if a plan is too short to be carried out until the next one, or has another shape.
    """
    validation.like("planner", planner, "a function", "__call__")
    validation.like("plant", plant, "a System", "dynamics", "control_limit")
    state, target = validation.state_pair(initial_state, target_state, plant.state_dim)
    steps, every = validation.whole("steps", steps, at_most=LONGEST_DRIVE), validation.whole("every", every)
    noise = validation.positive("noise", noise, or_zero=True)
    generator = torch.Generator().manual_seed(validation.whole("seed", seed, at_least=0))
    states, controls = [state], []
    for step in range(steps):
        if step % every == 0:
            plan = validation.array("planner's controls", planner(state, target), (None, plant.control_dim), torch.float64)
            if plan.shape[:-2] != state.shape[:-1] or plan.shape[-2] < min(every, steps - step):
                raise ValueError(f"planner gave controls {list(plan.shape)} for states {list(state.shape)}; "
                                 f"needs one plan a state, of at least every={every} steps")
        control = plan[..., step % every, :]
        if plant.control_limit is not None:
            limit = plant.control_limit.to(control)
            control = control.clamp(-limit, limit)
        disturbance = torch.randn(state.shape, generator=generator, dtype=torch.float64)   # drawn without noise, too: same order
        state = plant.dynamics(state, control) + noise * disturbance.to(state)
        states.append(state)
        controls.append(control)
    states, controls = torch.stack(states, dim=-2), torch.stack(controls, dim=-2)
    return validation.result("the states", states, "initial_state, target_state or noise is"), controls
