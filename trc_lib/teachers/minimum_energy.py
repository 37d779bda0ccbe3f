"""Minimum-energy controllers of linear systems, in closed form."""

import torch
from jaxtyping import Float
from torch import Tensor

from trc_lib import validation
from trc_lib.systems import DoubleIntegrator, LinearSystem
from trc_lib.systems.system import Controls
from trc_lib.teachers.teacher import LONGEST, Answer, Teacher
from trc_lib.validation import ArrayLike, Whole

LARGEST_MISS = 1e-9  # accepted |x_N - x_T| by rounding, relative to the size of the problem


class MinimumEnergyController(Teacher):
    """The exact discrete-time minimum-energy law of a controllable linear system.

    Of all control sequences that bring the state from x0 to xT in N steps, it gives the one of
    least energy, the sum of |u[k]|^2: u = C^T (C C^T)^-1 (xT - A^N x0), where C is the
    controllability matrix. The law is linear in (x0, xT): one matrix solves any batch.

    Args:
        system: a `LinearSystem`; a `DoubleIntegrator` if not given. Its limit is ignored.
        horizon: number of steps N.

    Raises:
        ValueError: if the system is not controllable, or the horizon is too short to steer it, or
            rounding alone would miss the target.

    Source: Kalman, Ho and Narendra (1963), Controllability of linear dynamical systems.
    """

    has_ruler = True

    def __init__(self, system: object = None, horizon: Whole = 15):
        system = DoubleIntegrator() if system is None else system
        self.system = validation.instance("system", system, LinearSystem)
        self.horizon = validation.whole("horizon", horizon)
        n = self.system.state_dim
        if _reach(self.system, n) < n:
            raise ValueError(f"system={system!r} is not controllable: its controls reach "
                             f"{_reach(self.system, n)} of {n} directions of the state")
        if _reach(self.system, self.horizon) < n:
            enough = next(N for N in range(1, n + 1) if _reach(self.system, N) == n)
            raise ValueError(f"horizon={horizon} cannot steer {n} states; "
                             f"needs at least {enough} steps")
        F, G = self.system.prediction_matrices(self.horizon)
        A_N, C = F[-1], G[-1]
        # With C^T = Q R, C^T (C C^T)^-1 is Q R^-T: the condition number of C is never squared.
        Q, R = torch.linalg.qr(C.T)
        pseudo_inverse = torch.linalg.solve_triangular(R, Q.T, upper=True).T
        self.gain = torch.cat([-pseudo_inverse @ A_N, pseudo_inverse], dim=1)  # [N m, 2 n]
        # x_N - x_T of unit problems: the residual of the gain, and rounding of the controls
        miss = (torch.cat([A_N, -torch.eye(n).to(A_N)], dim=1) + C @ self.gain).abs()
        miss += torch.finfo(C.dtype).eps * (C.abs() @ self.gain.abs())         # [n, 2 n]
        size = torch.cat([A_N.abs().amax(dim=0).clamp(min=1), torch.ones(n).to(A_N)])
        if not bool((miss <= LARGEST_MISS * size).all()):
            raise ValueError(f"horizon={horizon} with system={system!r} is too badly scaled: "
                             f"rounding alone would miss the target by {float(miss.max()):.0e}")

    def try_solve(self, initial_state: ArrayLike, target_state: ArrayLike) -> Answer:
        n = self.system.state_dim
        states = validation.state_pair(initial_state, target_state, n)
        problem = torch.cat(states, dim=-1)                                    # [..., 2 n]
        controls = problem @ self.gain.T.to(problem.device)                    # [..., N m]
        validation.result("the controls", controls, "initial_state or target_state is")
        solved = torch.ones(problem.shape[:-1], dtype=torch.bool, device=problem.device)
        return controls.unflatten(-1, (self.horizon, self.system.control_dim)), solved


def _reach(system, horizon):
    """How many directions of the state ``horizon`` steps can steer: the rank of C.

    Each row of C is scaled to length one first, so that the rank does not depend on units.
    """
    C = system.controllability_matrix(horizon)
    length = C.norm(dim=1, keepdim=True).clamp(min=torch.finfo(C.dtype).tiny)
    return int(torch.linalg.matrix_rank(C / length, rtol=1e-12))


class SampledContinuousController:
    """The double integrator's continuous-time law u(t) = a + b t, held constant over each step.

    In continuous time the law is exact and has the least energy. Held at its mid-step values it
    reaches the right final velocity, but misses the final position by O(dt^2): the sampling gap.

    Args:
        system: a `DoubleIntegrator`, whose ``dt`` is the holding time.
        horizon: number of steps N; the manoeuvre lasts N dt seconds.
    """

    def __init__(self, system: object = None, horizon: Whole = 15):
        self.system = DoubleIntegrator() if system is None else system
        if not (isinstance(system, LinearSystem | None)
                and self.system.same_as(DoubleIntegrator(self.system.dt))):
            raise TypeError(f"system={system!r} is not accepted; "
                            "the law u(t) = a + b t needs a DoubleIntegrator")
        self.horizon = validation.whole("horizon", horizon, at_most=LONGEST)

    def coefficients(self, initial_state: ArrayLike, target_state: ArrayLike) -> tuple[
            Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """a (m/s^2) and b (m/s^3) of u(t) = a + b t, each ``[...]``."""
        x0, xT = validation.state_pair(initial_state, target_state, self.system.state_dim)
        T = self.horizon * self.system.dt
        dp, dv = xT[..., 0] - (x0[..., 0] + x0[..., 1] * T), xT[..., 1] - x0[..., 1]
        both = torch.stack([6 * dp / T**2 - 2 * dv / T, 6 * dv / T**2 - 12 * dp / T**3])
        validation.result("the controls", both, "initial_state or target_state is")
        return both[0], both[1]

    def solve(self, initial_state: ArrayLike, target_state: ArrayLike) -> Controls:
        """u(t) at the middle of each step: controls ``[..., horizon, 1]``, float64."""
        a, b = self.coefficients(initial_state, target_state)
        steps = torch.arange(self.horizon, dtype=a.dtype, device=a.device)
        middle = (steps + 0.5) * self.system.dt
        controls = (a[..., None] + b[..., None] * middle)[..., None]
        return validation.result("the controls", controls, "initial_state or target_state is")
