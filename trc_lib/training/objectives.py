"""What a training descends: imitation of the teacher's controls, or the teacher's cost."""

import torch
from jaxtyping import Float
from torch import Tensor

from trc_lib.model.shapes import Controls, Cycles, States
from trc_lib.teachers import Teacher

IMITATION = ("mse", "rms", "improvement", "relative improvement")
COST = ("cost", "root cost")
SMALLEST_MSE = 1e-10  # in squares of `Learner.units`; keeps the slope of a root finite at zero
SMALLEST_GAP = 1e-8   # of a cost over the optimum's mean, for the same reason

Scalar = Float[Tensor, ""]


def imitation_loss(cycle_controls: Cycles, optimal_controls: Controls, cycle_weight: float = 0.0,
                   objective: str = "mse",
                   final_errors: Float[Tensor, "cycles batch state_dim"] | None = None,
                   final_weight: float = 0.0) -> tuple[Scalar, Scalar]:
    """The mean squared error of the cycles' controls and of their final states, as one number.

    With J[h] the mean squared error after cycle h, H the last cycle and w the ``cycle_weight``, the
    ``objective`` is

    - ``"mse"``: J[H] + w (J[0] + ... + J[H-1]), which supervises every cycle;
    - ``"rms"``: the same with roots, whose slope is as large for small errors as for large ones;
    - ``"improvement"``: J[H] - w sum of (J[h-1] - J[h]), which rewards the gain of each cycle;
    - ``"relative improvement"``: J[H] - w sum of (1 - J[h] / J[h-1]).

    Args:
        cycle_controls: before the first and after each cycle.
        optimal_controls: the teacher's.
        cycle_weight: w.
        objective: one of the four.
        final_errors: x_N - x_T of every cycle; needed if ``final_weight`` is not 0.
        final_weight: of their mean square (its root for ``"rms"``) beside J.

    Returns:
        the objective, and J[H], the loss that is reported.
    """
    J = (cycle_controls - optimal_controls).square().mean(dim=(1, 2, 3))         # [cycles]
    if objective in ("mse", "rms"):
        def size(error):
            return error if objective == "mse" else (error + SMALLEST_MSE).sqrt()

        each = size(J)
        if final_weight:
            each = each + final_weight * size(final_errors.square().mean(dim=(1, 2)))
        return each[-1] + cycle_weight * each[:-1].sum(), J[-1]
    before, after = J[:-1] + SMALLEST_MSE, J[1:] + SMALLEST_MSE
    gains = before - after if objective == "improvement" else 1 - after / before
    return J[-1] - cycle_weight * gains.sum(), J[-1]


def cost_loss(costs: Float[Tensor, "cycles batch"], optimal_costs: Float[Tensor, " batch"],
              cycle_weight: float = 0.0, root: bool = False) -> tuple[Scalar, Scalar]:
    """The gap between the cost of the cycles' controls and the optimum, over the optimum's mean.

    Args:
        costs: before the first and after each cycle.
        optimal_costs: of the teacher's controls.
        cycle_weight: of the gap of each earlier cycle.
        root: take the root of each problem's gap, whose slope is as large for small gaps as for
            large ones; zero where a problem costs less than the teacher's answer.

    Returns:
        the objective, and the last cycle's gap, the loss that is reported.
    """
    gaps = (costs - optimal_costs) / optimal_costs.mean()                        # [cycles, batch]
    each = ((gaps.clamp(min=0) + SMALLEST_GAP).sqrt() if root else gaps).mean(dim=1)
    return each[-1] + cycle_weight * each[:-1].sum(), gaps[-1].mean()


def objective_of(cycles: Cycles, initial_state: States, target_state: States,
                 optimal_controls: Controls, teacher: Teacher, config: object,
                 units: tuple[Tensor, Tensor] | None = None) -> tuple[Scalar, Scalar]:
    """The objective of a `TrainConfig` and the loss that is reported, for a batch of problems.

    Controls and final states are measured in ``units``, those of `Learner.units`; physical if None.
    """
    starts, targets = (states.expand(len(cycles), -1, -1)
                       for states in (initial_state, target_state))
    if config.of_cost:
        low, high = (bound.to(cycles) for bound in teacher.system.bounds)
        # Saturated controls get no gradient: optimiser noise would pull them off the limit.
        free = (cycles > low) & (cycles < high)
        cycles = torch.where(free, cycles, cycles.detach())
        optimal = teacher.cost(initial_state, target_state, optimal_controls)
        return cost_loss(teacher.cost(starts, targets, cycles), optimal, config.cycle_weight,
                         root=config.objective == "root cost")
    errors, (state_unit, control_unit) = None, (1.0, 1.0) if units is None else units
    if config.final_weight:
        errors = teacher.system.rollout_unchecked(starts, cycles)[:, :, -1] - target_state
        errors = errors / state_unit
    cycles, optimal_controls = cycles / control_unit, optimal_controls / control_unit
    return imitation_loss(cycles, optimal_controls, config.cycle_weight, config.objective, errors,
                          config.final_weight)
