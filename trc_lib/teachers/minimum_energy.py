"""Who knows the answer: minimum-energy controllers in closed form."""

import torch

from trc_lib import validation
from trc_lib.systems import DoubleIntegrator, LinearSystem
from trc_lib.teachers.teacher import LONGEST, Teacher

LARGEST_MISS = 1e-9  # |x_N - x_T| by rounding, relative to the size of the problem; what misses by more is refused


def _reach(system, horizon):
    """How many directions of the state ``horizon`` steps can steer: the rank of C.

    Each row of C is first scaled to length one, so that the answer does not hang on units or on dt.
    """
    C = system.controllability_matrix(horizon)
    length = C.norm(dim=1, keepdim=True)
    return int(torch.linalg.matrix_rank(C / length.clamp(min=torch.finfo(C.dtype).tiny), rtol=1e-12))


class MinimumEnergyController(Teacher):
    """The exact discrete-time minimum-energy law of a controllable linear system.

    Of all control sequences that bring the state from x0 to xT in N steps, it gives the one
    with the least energy, the sum of |u[k]|^2: u = C^T (C C^T)^-1 (xT - A^N x0), where C is the
    controllability matrix. The law is linear in (x0, xT): one matrix, made once, solves any batch.

    Args:
        system: a `LinearSystem`; a `DoubleIntegrator` if not given. A limit of its controls is not looked at.
        horizon: number of steps N.

    Raises:
        ValueError: if the system is not controllable, or the horizon is too short to steer it.

    Source: Kalman, Ho and Narendra (1963), Controllability of linear dynamical systems.
    """

    System, has_ruler = LinearSystem, True

    def __init__(self, system=None, horizon=15):
        system = DoubleIntegrator() if system is None else system
        if not isinstance(system, LinearSystem):
            raise TypeError(f"system={system!r} is not accepted; needs a LinearSystem")
        self.system, self.horizon = system, validation.whole("horizon", horizon)
        n = system.state_dim
        if _reach(system, n) < n:
            raise ValueError(f"system={system!r} is not controllable: its controls reach "
                             f"{_reach(system, n)} of {n} directions of the state")
        if _reach(system, self.horizon) < n:
            enough = next(N for N in range(1, n + 1) if _reach(system, N) == n)
            raise ValueError(f"horizon={horizon} cannot steer {n} states; needs at least {enough} steps")
        F, G = system.prediction_matrices(self.horizon)
        A_N, C = F[-1], G[-1]
        # With C^T = Q R, C^T (C C^T)^-1 is Q R^-T: the condition number of C is never squared.
        Q, R = torch.linalg.qr(C.T)
        pseudo_inverse = torch.linalg.solve_triangular(R, Q.T, upper=True).T
        self.gain = torch.cat([-pseudo_inverse @ A_N, pseudo_inverse], dim=1)  # [N * control_dim, 2 * state_dim]
        # x_N - x_T of unit problems: that of this gain, and what rounding makes of large controls that cancel each other
        miss = (torch.cat([A_N, -torch.eye(n).to(A_N)], dim=1) + C @ self.gain).abs()
        miss += torch.finfo(C.dtype).eps * (C.abs() @ self.gain.abs())   # [state_dim, 2 * state_dim]
        size = torch.cat([A_N.abs().amax(dim=0).clamp(min=1), torch.ones(n).to(A_N)])
        if not bool((miss <= LARGEST_MISS * size).all()):
            raise ValueError(f"horizon={horizon} with system={system!r} is too badly scaled: rounding alone would miss the "
                             f"target by {float(miss.max()):.0e}")

    def try_solve(self, initial_state, target_state):
        initial_state, target_state = validation.state_pair(initial_state, target_state, self.system.state_dim)
        problem = torch.cat([initial_state, target_state], dim=-1)       # [..., 2 * state_dim]
        controls = problem @ self.gain.T.to(problem.device)              # [..., N * control_dim]
        validation.result("the controls", controls, "initial_state or target_state is")
        solved = torch.ones(problem.shape[:-1], dtype=torch.bool, device=problem.device)
        return controls.unflatten(-1, (self.horizon, self.system.control_dim)), solved


class SampledContinuousController:
    """The double integrator's continuous-time law u(t) = a + b t, held constant over each step.

    In continuous time this law is exact and has the least energy. Held at its mid-step values it
    gives the right final velocity but misses the final position by O(dt^2): the sampling gap.

    Args:
        system: a `DoubleIntegrator`, whose ``dt`` is the holding time.
        horizon: number of steps N; the manoeuvre lasts N dt seconds.
    """

    def __init__(self, system=None, horizon=15):
        self.system = DoubleIntegrator() if system is None else system
        if not isinstance(self.system, LinearSystem) or not self.system.same_as(DoubleIntegrator(self.system.dt)):
            raise TypeError(f"system={system!r} is not accepted; the law u(t) = a + b t needs a DoubleIntegrator")
        self.horizon = validation.whole("horizon", horizon, at_most=LONGEST)

    def coefficients(self, initial_state, target_state):
        """a (m/s^2) and b (m/s^3) of u(t) = a + b t, each ``[...]``."""
        initial_state, target_state = validation.state_pair(initial_state, target_state, self.system.state_dim)
        T = self.horizon * self.system.dt
        drift = initial_state[..., 0] + initial_state[..., 1] * T        # where the cart is at T if left alone
        dp, dv = target_state[..., 0] - drift, target_state[..., 1] - initial_state[..., 1]
        both = torch.stack([6 * dp / T**2 - 2 * dv / T, 6 * dv / T**2 - 12 * dp / T**3])
        return validation.result("the controls", both, "initial_state or target_state is").unbind()

    def solve(self, initial_state, target_state):
        """u(t) at the middle of each step: controls ``[..., horizon, 1]``, float64."""
        a, b = self.coefficients(initial_state, target_state)
        middle = (torch.arange(self.horizon, dtype=a.dtype, device=a.device) + 0.5) * self.system.dt
        controls = (a[..., None] + b[..., None] * middle)[..., None]
        return validation.result("the controls", controls, "initial_state or target_state is")
