"""The literature's weak teacher: a linear regulator whose controls are cut to their limits."""

import torch

from trc_lib import validation
from trc_lib.teachers.teacher import LONGEST, Teacher


class ClippedLQR(Teacher):
    """u = clip(-K (x - xT)) along the true trajectory, K from the linearisation at the origin and an endless horizon.

    It is not optimal: neither the limits nor what is not linear enter into K.

    Args:
        system, horizon, cost: as in `IterativeLQR`.
    """

    def __init__(self, system, horizon, cost):
        import scipy.linalg  # here, since no other teacher needs it

        validation.like("system", system, "a System", "dynamics")
        validation.like("cost", cost, "a QuadraticCost", "check_fit").check_fit(system)
        self.system, self.horizon, self.quadratic_cost = system, validation.whole("horizon", horizon, at_most=LONGEST), cost
        origin = torch.zeros(system.state_dim + system.control_dim, dtype=torch.float64)
        A, B = (jacobian.numpy() for jacobian in system.jacobians(*origin.split([system.state_dim, system.control_dim])))
        P = scipy.linalg.solve_discrete_are(A, B, cost.Q.numpy(), cost.R.numpy())
        self.gain = torch.tensor(scipy.linalg.solve(cost.R.numpy() + B.T @ P @ B, B.T @ P @ A))    # [control_dim, state_dim]

    def cost(self, initial_state, target_state, controls):
        """The total cost of ``controls``, ``[...]``; differentiable in them."""
        return self.quadratic_cost.of_controls(self.system, initial_state, controls, target_state)

    def try_solve(self, initial_state, target_state):
        state, target_state = validation.state_pair(initial_state, target_state, self.system.state_dim)
        controls, limit = [], self.system.control_limit
        for _ in range(self.horizon):
            control = (target_state - state) @ self.gain.T.to(state)
            controls.append(control if limit is None else control.clamp(-limit.to(state), limit.to(state)))
            state = self.system.dynamics(state, controls[-1])
        controls = validation.result("the controls", torch.stack(controls, dim=-2), "initial_state or target_state is")
        return controls, torch.ones(state.shape[:-1], dtype=torch.bool, device=state.device)
