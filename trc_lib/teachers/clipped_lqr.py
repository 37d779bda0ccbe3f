"""A suboptimal teacher from the literature: a linear regulator with clipped controls."""

import torch

from trc_lib import validation
from trc_lib.teachers.teacher import Answer, QuadraticCostTeacher
from trc_lib.validation import ArrayLike, Whole


class ClippedLQR(QuadraticCostTeacher):
    """u = clip(-K (x - xT)) along the true trajectory.

    K is the infinite-horizon gain of the linearisation at the origin. It takes neither the limits
    nor the nonlinearity into account, so the controls are not optimal.

    Args:
        system, horizon, cost: as in `QuadraticCostTeacher`.
    """

    def __init__(self, system: object, horizon: Whole, cost: object):
        import scipy.linalg  # here, because no other teacher needs it

        super().__init__(system, horizon, cost)
        n, m = self.system.state_dim, self.system.control_dim
        origin = torch.zeros(n + m, dtype=torch.float64).split([n, m])
        A, B = (jacobian.numpy() for jacobian in self.system.jacobians(*origin))
        Q, R = self.quadratic_cost.Q.numpy(), self.quadratic_cost.R.numpy()
        P = scipy.linalg.solve_discrete_are(A, B, Q, R)
        self.gain = torch.tensor(scipy.linalg.solve(R + B.T @ P @ B, B.T @ P @ A))  # [m, n]

    def try_solve(self, initial_state: ArrayLike, target_state: ArrayLike) -> Answer:
        """The law's controls; every problem counts as solved."""
        n = self.system.state_dim
        state, target_state = validation.state_pair(initial_state, target_state, n)
        controls, (low, high) = [], (bound.to(state) for bound in self.system.bounds)
        for _ in range(self.horizon):
            control = (target_state - state) @ self.gain.T.to(state)
            controls.append(control.clamp(low, high))
            state = self.system.dynamics(state, controls[-1])
        controls = validation.result("the controls", torch.stack(controls, dim=-2),
                                     "initial_state or target_state is")
        return controls, torch.ones(state.shape[:-1], dtype=torch.bool, device=state.device)
