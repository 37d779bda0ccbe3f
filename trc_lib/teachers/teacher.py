"""What all teachers have in common."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trc_lib import validation
from trc_lib.costs import QuadraticCost
from trc_lib.rebuild import Rebuildable
from trc_lib.systems import SUCCESS
from trc_lib.systems.system import Controls, State, System
from trc_lib.validation import ArrayLike, Whole

LONGEST = 10_000  # largest horizon of a teacher that loops over time

Answer = tuple[Float[Tensor, "*batch horizon control_dim"], Bool[Tensor, "*batch"]]


class Teacher(Rebuildable):
    """Computes the controls of least cost for any start and target.

    A subclass defines `try_solve`, and ``cost`` unless it minimises the energy. Files hold the
    arguments of its constructor: keep each under its name, or define ``parameters``.

    Args:
        system: a `System`.
        horizon: number of steps N.
        success: the largest |x_N - x_T| at which controls count as a success, a number; or one for
            each component of the state, which then are |(x_N - x_T) / success| < 1.

    Attributes:
        has_ruler: whether `evaluation.decompose_error` applies to its optimum.
    """

    has_ruler = False
    reason = "has no solution"  # for the message of `Unsolved`

    def __init__(self, system: object, horizon: Whole, success: object = SUCCESS):
        self.system = validation.instance("system", system, System)
        self.horizon = validation.whole("horizon", horizon)
        if isinstance(success, list | tuple | np.ndarray) or torch.is_tensor(success):
            n = system.state_dim
            self.success = validation.array("success", success, (n,), torch.float64).clone()
            if self.success.ndim != 1 or not bool((self.success > 0).all()):
                raise ValueError(f"success={success!r} is not accepted; "
                                 f"give a number above zero, or {n} of them")
        else:
            self.success = validation.positive("success", success)

    def succeeded(self, offset: Float[Tensor, "*batch state_dim"]) -> Bool[Tensor, "*batch"]:
        """Whether controls that end at x_N - x_T = ``offset`` count as a success."""
        if not torch.is_tensor(self.success):
            return offset.norm(dim=-1) < self.success
        return (offset / self.success.to(offset)).norm(dim=-1) < 1

    def try_solve(self, initial_state: ArrayLike, target_state: ArrayLike) -> Answer:
        """Solve the problems that have a solution.

        Args:
            initial_state, target_state: ``[..., state_dim]``; leading dimensions broadcast.

        Returns:
            controls ``[..., horizon, control_dim]``, float64, NaN where there is no solution; and
            which problems are solved, ``[...]``.

        Raises:
            TypeError, ValueError: for values that are not finite floats, or shapes that do not fit.
        """
        raise NotImplementedError

    def solve(self, initial_state: ArrayLike, target_state: ArrayLike, **options) -> Controls:
        """The controls of `try_solve`, for problems that all have a solution.

        Raises:
            Unsolved: a ValueError, if any has none.
        """
        controls, solved = self.try_solve(initial_state, target_state, **options)
        if not bool(solved.all()):
            raise Unsolved(solved, self.reason)
        return controls

    def cost(self, initial_state: State, target_state: State,
             controls: Controls) -> Float[Tensor, "..."]:
        """What the teacher minimises, ``[...]``: the energy, the sum of |u[k]|^2."""
        return controls.square().sum(dim=(-2, -1))


class QuadraticCostTeacher(Teacher):
    """A teacher whose cost is a `QuadraticCost` of the trajectory.

    Args:
        system, horizon, success: as in `Teacher`.
        cost: a `QuadraticCost`.
    """

    def __init__(self, system: object, horizon: Whole, cost: object, success: object = SUCCESS):
        validation.whole("horizon", horizon, at_most=LONGEST)
        super().__init__(system, horizon, success)
        self.system.check_box(type(self).__name__)
        self.quadratic_cost = validation.instance("cost", cost, QuadraticCost)
        self.quadratic_cost.check_fit(self.system)

    def cost(self, initial_state: State, target_state: State,
             controls: Controls) -> Float[Tensor, "..."]:
        """The total cost, ``[...]``; differentiable in the controls."""
        return self.quadratic_cost.of_controls(self.system, initial_state, controls, target_state)

    def parameters(self) -> dict:
        return {"system": self.system, "horizon": self.horizon, "cost": self.quadratic_cost,
                "success": self.success}


class Unsolved(ValueError):
    """Some problems have no solution; ``solved`` says which have one, a boolean a problem."""

    def __init__(self, solved, reason):
        self.solved = solved
        super().__init__(f"target_state {reason} for {int((~solved).sum())} of {solved.numel()} "
                         "problems; try_solve(...) tells which")
