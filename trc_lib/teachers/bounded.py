"""The minimum-energy law with bounded controls: exact, but no longer linear."""

import torch

from trc_lib import validation
from trc_lib.systems import DoubleIntegrator
from trc_lib.teachers.minimum_energy import MinimumEnergyController
from trc_lib.teachers.teacher import Answer, Teacher
from trc_lib.validation import ArrayLike, Whole

TOLERANCE = 1e-10  # of |x_N - x_T|, relative to the size of the problem where that is above one
MOST_STEPS = 200   # Newton steps


class BoundedMinimumEnergyController(Teacher):
    """The least-energy controls with |u| <= control_limit that bring the state from x0 to xT.

    The solution has the form u = clip(C^T lambda), with one lambda for each state. A damped
    semismooth Newton method on the convex dual finds it for a whole batch at once. Where no lambda
    exists, the target is out of reach, and a separating hyperplane proves it.

    Args:
        system: a controllable `LinearSystem` with limits of its controls; a `DoubleIntegrator`
            with |u| <= 1 if not given.
        horizon: number of steps N.

    Sources: Hager (1976), Lagrange duality theory for convex control problems; Qi and Sun (1993),
    A nonsmooth version of Newton's method.
    """

    reason = "cannot be reached within the bounds"

    def __init__(self, system: object = None, horizon: Whole = 15):
        self.system = DoubleIntegrator(control_limit=1.0) if system is None else system
        self.horizon = MinimumEnergyController(self.system, horizon).horizon  # which checks both
        if self.system.control_limit is None:
            raise ValueError(f"system={self.system!r} has no control_limit; "
                             "give it one, or use MinimumEnergyController")
        F, G = self.system.prediction_matrices(self.horizon)
        self._drift = F[-1]
        self._Q, self._R = torch.linalg.qr(G[-1].T)  # C^T = Q R: scales the dual well
        self._limit = self.system.control_limit.repeat(self.horizon)           # [N m]

    def try_solve(self, initial_state: ArrayLike, target_state: ArrayLike) -> Answer:
        """As in `Teacher`; NaN where the target is out of reach.

        Raises:
            ValueError: if a target is so near the edge of the reachable set that neither a
                solution nor a proof is found.
        """
        n = self.system.state_dim
        x0, xT = validation.state_pair(initial_state, target_state, n)
        leading, device = x0.shape[:-1], x0.device
        Q, R, limit = (tensor.to(device) for tensor in (self._Q, self._R, self._limit))
        wanted = (xT - x0 @ self._drift.T.to(device)).reshape(-1, n)           # [batch, n]: C u
        validation.result("the square of the distance", wanted.square(),
                          "initial_state or target_state is")
        b = torch.linalg.solve_triangular(R.T, wanted.T, upper=False).T        # [batch, n]: Q^T u
        mu, found = b.clone(), torch.zeros(len(b), dtype=torch.bool, device=device)
        unreachable = torch.zeros_like(found)
        for _ in range(MOST_STEPS):
            at = (~found & ~unreachable).nonzero().squeeze(1)
            if not len(at):
                break
            mu[at], found[at], unreachable[at] = _newton_step(mu[at], b[at], Q, R, limit)
        undecided = int((~found & ~unreachable).sum())
        if undecided:
            raise ValueError("target_state is too near the edge of the reachable set to decide "
                             f"whether it is inside, for {undecided} of {len(b)} problems")
        controls = (mu @ Q.T).clamp(-limit, limit).where(found[:, None], torch.nan)
        shape = (*leading, self.horizon, self.system.control_dim)
        return controls.reshape(shape), found.reshape(leading)


def _dual(mu, b, Q, limit):
    """The convex dual, the sum of H(Q mu) - b mu with H' = clip; its value and its gradient."""
    v = mu @ Q.T
    clipped = v.clamp(-limit, limit)
    value = (clipped * (v - clipped / 2)).sum(dim=1) - (b * mu).sum(dim=1)
    return value, clipped @ Q - b


def _newton_step(mu, b, Q, R, limit):
    """One damped step of each problem: the new mu, who is solved, who is proved unreachable."""
    v = mu @ Q.T
    value, gradient = _dual(mu, b, Q, limit)
    # x_N - x_T is R^T gradient
    solved = (gradient @ R).norm(dim=1) <= TOLERANCE * (1 + (b @ R).norm(dim=1))
    # mu separates b from the reachable set if no admissible u has as large a product with it.
    largest = (v.abs() * limit).sum(dim=1)
    unreachable = ~solved & ((b * mu).sum(dim=1) > (1 + 1e-12) * largest)
    free = (v.abs() < limit).to(v.dtype)                                       # [batch, N m]
    steepness = gradient.norm(dim=1)
    damping = (1e-3 * steepness).clamp(1e-14, 1e-3)  # vanishes at the solution
    hessian = torch.einsum("ki,nk,kj->nij", Q, free, Q)
    hessian = hessian + damping[:, None, None] * torch.eye(Q.shape[1]).to(Q)
    step = torch.linalg.solve(hessian, -gradient)
    slope, length = (gradient * step).sum(dim=1), torch.ones_like(value)
    for _ in range(40):  # halve the step until it descends
        new_value, new_gradient = _dual(mu + length[:, None] * step, b, Q, limit)
        better = new_value <= value + 1e-4 * length * slope
        # Near the solution rounding exceeds the change of the value, but not of the gradient.
        better |= new_gradient.norm(dim=1) <= 0.5 * steepness
        if bool(better.all()):
            break
        length = torch.where(better, length, length / 2)
    moving = (~solved & ~unreachable)[:, None]
    return torch.where(moving, mu + length[:, None] * step, mu), solved, unreachable
