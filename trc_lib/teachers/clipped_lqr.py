"""A suboptimal teacher from the literature: a linear regulator with clipped controls."""

import torch

from trc_lib import validation
from trc_lib.scan import as_batch, from_batch, scan
from trc_lib.systems.steps import OfSystem
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
        x0, xT = validation.state_pair(initial_state, target_state, self.system.state_dim)
        leading, low_high = x0.shape[:-1], [bound.to(x0) for bound in self.system.bounds]
        constants = [as_batch(each, leading, 1) for each in (xT, *low_high)]
        constants.append(as_batch(self.gain.to(x0), leading, 2))
        time = x0.new_zeros(leading.numel(), self.horizon)
        _, (controls,) = scan(_Regulated(self.system),
                              [as_batch(x0, leading, 1)], [time], constants)
        controls = validation.result("the controls", from_batch(controls, leading),
                                     "initial_state or target_state is")
        return controls, torch.ones(leading, dtype=torch.bool, device=x0.device)


class _Regulated(OfSystem):
    """One step of the dynamics under the law."""

    def __call__(self, carry, inputs, constants):
        (state,), (target_state, low, high, gain) = carry, constants
        control = (gain @ (target_state - state)[..., None])[..., 0].clamp(low, high)
        return [self.system.dynamics(state, control)], [control]
