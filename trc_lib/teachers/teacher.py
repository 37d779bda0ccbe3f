"""What all teachers have in common."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trc_lib import validation
from trc_lib.costs import QuadraticCost
from trc_lib.systems import KINDS, SUCCESS, LinearSystem
from trc_lib.systems.system import Controls, State, System
from trc_lib.validation import ArrayLike, Number, Whole

LONGEST = 10_000  # largest horizon of a teacher that loops over time

Answer = tuple[Float[Tensor, "*batch horizon control_dim"], Bool[Tensor, "*batch"]]


class Teacher:
    """Computes the controls of least cost for any start and target.

    A subclass sets ``system`` and ``horizon`` and defines `try_solve`. It defines ``cost`` unless
    it minimises the energy, and ``contents`` and ``from_contents`` if it has more parameters.

    Attributes:
        system: a `System`.
        horizon: number of steps N.
        success: a problem counts as solved if |x_N - x_T| is below this.
        has_ruler: whether `evaluation.decompose_error` applies to its optimum.
    """

    success, has_ruler = SUCCESS, False
    reason = "has no solution"  # for the message of `Unsolved`

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

    def solve(self, initial_state: ArrayLike, target_state: ArrayLike) -> Controls:
        """The controls of `try_solve`, for problems that all have a solution.

        Raises:
            Unsolved: a ValueError, if any has none.
        """
        controls, solved = self.try_solve(initial_state, target_state)
        if not bool(solved.all()):
            raise Unsolved(solved, self.reason)
        return controls

    def cost(self, initial_state: State, target_state: State,
             controls: Controls) -> Float[Tensor, "..."]:
        """What the teacher minimises, ``[...]``: the energy, the sum of |u[k]|^2."""
        return controls.square().sum(dim=(-2, -1))

    def contents(self) -> dict:
        """The parameters, plain values and tensors by name, for files."""
        return {**self.system.contents(), "horizon": self.horizon}

    @classmethod
    def from_contents(cls, contents: dict) -> "Teacher":
        """The teacher with these `contents`; here for one that is made of a `LinearSystem`."""
        system = {name: value for name, value in contents.items() if name != "horizon"}
        return cls(LinearSystem(**system), contents["horizon"])


class QuadraticCostTeacher(Teacher):
    """A teacher whose cost is a `QuadraticCost` of the trajectory.

    Args:
        system: a `System`.
        horizon: number of steps N.
        cost: a `QuadraticCost`.
        success: a problem counts as solved if |x_N - x_T| is below this.
    """

    def __init__(self, system: object, horizon: Whole, cost: object, success: Number = SUCCESS):
        self.system = validation.instance("system", system, System)
        self.quadratic_cost = validation.instance("cost", cost, QuadraticCost)
        self.quadratic_cost.check_fit(self.system)
        self.horizon = validation.whole("horizon", horizon, at_most=LONGEST)
        self.success = validation.positive("success", success)

    def cost(self, initial_state: State, target_state: State,
             controls: Controls) -> Float[Tensor, "..."]:
        """The total cost, ``[...]``; differentiable in the controls."""
        return self.quadratic_cost.of_controls(self.system, initial_state, controls, target_state)

    def contents(self) -> dict:
        return {"system": self.system.kind, **self.system.contents(),
                **self.quadratic_cost.contents(), "horizon": self.horizon, "success": self.success}

    @classmethod
    def from_contents(cls, contents: dict) -> "QuadraticCostTeacher":
        contents = dict(contents)
        kind = validation.one_of("system", contents.pop("system"), tuple(KINDS))
        cost = QuadraticCost(*(contents.pop(name) for name in ("Q", "R", "Q_final")))
        horizon, success = contents.pop("horizon"), contents.pop("success")
        return cls(KINDS[kind](**contents), horizon, cost, success)

    def _limit(self, like):
        """The limits of the controls, infinite where there are none, as ``like``."""
        limit = self.system.control_limit
        if limit is None:
            limit = torch.full((self.system.control_dim,), torch.inf)
        return limit.to(like)


class Unsolved(ValueError):
    """Some problems have no solution; ``solved`` says which have one, a boolean a problem."""

    def __init__(self, solved, reason):
        self.solved = solved
        super().__init__(f"target_state {reason} for {int((~solved).sum())} of {solved.numel()} "
                         "problems; try_solve(...) tells which")
