"""The minimum-energy law when the controls have bounds: exact still, and no longer linear."""

import torch

from trc_lib import validation
from trc_lib.systems import DoubleIntegrator, LinearSystem
from trc_lib.teachers.minimum_energy import MinimumEnergyController
from trc_lib.teachers.teacher import Teacher

TOLERANCE = 1e-10  # on |x_N - x_T|, relative to the size of the problem where that is above one
MOST_STEPS = 200


class BoundedMinimumEnergyController(Teacher):
    """The least-energy controls with |u| <= control_limit that bring the state exactly from x0 to xT.

    The answer has the form u = clip(C^T lambda): as many numbers lambda as the state has, found for a whole batch at once by a
    damped semismooth Newton method on the convex dual. Where no lambda exists, the target is out of reach, and a
    separating hyperplane proves it.

    Args:
        system: a controllable `LinearSystem` with a limit of its controls; a `DoubleIntegrator` with |u| <= 1 if not given.
        horizon: number of steps N.

    Sources: Hager (1976), Lagrange duality theory for convex control problems; Qi and Sun (1993), A nonsmooth version of
    Newton's method.
    """

    System, reason = LinearSystem, "cannot be reached within the bounds"

    def __init__(self, system=None, horizon=15):
        self.system = DoubleIntegrator(control_limit=1.0) if system is None else system
        self.horizon = MinimumEnergyController(self.system, horizon).horizon     # which checks both
        if self.system.control_limit is None:
            raise ValueError(f"system={self.system!r} has no control_limit; give it one, or use MinimumEnergyController")
        F, G = self.system.prediction_matrices(self.horizon)
        self._drift = F[-1]
        self._Q, self._R = torch.linalg.qr(G[-1].T)           # C^T = Q R: in Q's coordinates the dual is well scaled
        self._limit = self.system.control_limit.repeat(self.horizon)  # [N * control_dim]

    def try_solve(self, initial_state, target_state):
        """As in `Teacher`; NaN where the target is out of reach.

        Raises:
            ValueError: if a target is so near to the edge of what can be reached that neither can be shown.
        """
        x0, xT = validation.state_pair(initial_state, target_state, self.system.state_dim)
        leading, device = x0.shape[:-1], x0.device
        Q, R, limit = (tensor.to(device) for tensor in (self._Q, self._R, self._limit))
        wanted = (xT - x0 @ self._drift.T.to(device)).reshape(-1, self.system.state_dim)     # [n, state_dim]: C u
        validation.result("the square of the distance", wanted.square(), "initial_state or target_state is")
        b = torch.linalg.solve_triangular(R.T, wanted.T, upper=False).T                      # [n, state_dim]: Q^T u
        mu, found = b.clone(), torch.zeros(len(b), dtype=torch.bool, device=device)
        proven = torch.zeros_like(found)                                                     # out of reach
        for _ in range(MOST_STEPS):
            at = (~found & ~proven).nonzero().squeeze(1)                                     # who is not done yet
            if not len(at):
                break
            mu[at], found[at], proven[at] = _newton_step(mu[at], b[at], Q, R, limit)
        if not bool((found | proven).all()):
            raise ValueError(f"target_state lies so near to the edge of what can be reached that it cannot be told whether "
                             f"it can, for {int((~found & ~proven).sum())} of {len(b)} problems")
        controls = (mu @ Q.T).clamp(-limit, limit).where(found[:, None], torch.nan)
        return controls.reshape(*leading, self.horizon, self.system.control_dim), found.reshape(leading)


def _dual(mu, b, Q, limit):
    """The convex dual, the sum of H(Q mu) - b mu where H' = clip, ``[n]``; and its gradient, ``[n, state_dim]``."""
    v = mu @ Q.T
    inside = v.clamp(-limit, limit)
    return (inside * (v - inside / 2)).sum(dim=1) - (b * mu).sum(dim=1), inside @ Q - b


def _newton_step(mu, b, Q, R, limit):
    """One damped step for each problem; the new mu, who has arrived, and who is proven out of reach."""
    v = mu @ Q.T
    value, gradient = _dual(mu, b, Q, limit)
    arrived = (gradient @ R).norm(dim=1) <= TOLERANCE * (1 + (b @ R).norm(dim=1))            # x_N - x_T is R^T gradient
    # mu separates b from all that can be reached, if no admissible u has as large a product with it
    proven = ~arrived & ((b * mu).sum(dim=1) > (1 + 1e-12) * (v.abs() * limit).sum(dim=1))
    free = (v.abs() < limit).to(v.dtype)                                                     # [n, N control_dim]
    steepness = gradient.norm(dim=1)
    damping = (1e-3 * steepness).clamp(1e-14, 1e-3)                                          # fades as the step converges
    hessian = torch.einsum("ki,nk,kj->nij", Q, free, Q) + damping[:, None, None] * torch.eye(Q.shape[1]).to(Q)
    step = torch.linalg.solve(hessian, -gradient)
    slope, length = (gradient * step).sum(dim=1), torch.ones_like(value)
    for _ in range(40):                                                                      # halve until it is an improvement
        new_value, new_gradient = _dual(mu + length[:, None] * step, b, Q, limit)
        better = new_value <= value + 1e-4 * length * slope
        better |= new_gradient.norm(dim=1) <= 0.5 * steepness  # near the end the dual's own changes drown in rounding
        if bool(better.all()):
            break
        length = torch.where(better, length, length / 2)
    moving = (~arrived & ~proven)[:, None]
    return torch.where(moving, mu + length[:, None] * step, mu), arrived, proven
