"""The minimum-energy law with bounded controls: exact, but no longer linear."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trc_lib import validation
from trc_lib.systems import SUCCESS, DoubleIntegrator
from trc_lib.teachers.minimum_energy import MinimumEnergyController
from trc_lib.teachers.teacher import Answer, Teacher
from trc_lib.validation import ArrayLike, Whole

TOLERANCE = 1e-10        # of the controls relative to their limits, of x_N - x_T to the states
MOST_STEPS = 60          # Newton steps
MOST_ITERATIONS = 80     # of the interior-point method, for what Newton's leaves undecided
MARGIN = 1e-12           # of a proof that a target is out of reach, against rounding
SOLVED, UNDECIDED, UNREACHABLE = 1, 0, -1


class BoundedMinimumEnergyController(Teacher):
    """The least-energy controls within their limits that bring the state from x0 to xT.

    The solution has the form u = clip(C^T lambda), with one lambda for each state. A damped
    semismooth Newton method on the convex dual finds it for a whole batch at once. Where no lambda
    exists, the target is out of reach, and a separating hyperplane proves it. Close to the edge of
    what is within reach lambda grows without bound; an interior-point method goes on from there.

    Args:
        system: a controllable `LinearSystem` with limits of its controls; a `DoubleIntegrator`
            with |u| <= 1 if not given.
        horizon: number of steps N.
        success: as in `Teacher`.

    Sources: Hager (1976), Lagrange duality theory for convex control problems; Qi and Sun (1993),
    A nonsmooth version of Newton's method; Mehrotra (1992), On the implementation of a primal-dual
    interior point method.
    """

    reason = "cannot be reached within the bounds"

    def __init__(self, system: object = None, horizon: Whole = 15, success: object = SUCCESS):
        system = DoubleIntegrator(control_limit=1.0) if system is None else system
        free = MinimumEnergyController(system, horizon, success)  # checks all three
        super().__init__(system, free.horizon, success)
        if system.control_limit is None:
            raise ValueError(f"system={system!r} has no control_limit; "
                             "give it one, or use MinimumEnergyController")
        F, G = system.prediction_matrices(self.horizon)
        bounds = torch.stack(system.bounds).repeat(1, self.horizon)            # [2, N m]
        finite = bounds[bounds.isfinite() & (bounds != 0)].abs()
        self._unit = float(finite.max()) if len(finite) else 1.0  # of controls in the solver
        self._drift, self._bounds = F[-1], bounds / self._unit
        self._Q, self._R = torch.linalg.qr(self._unit * G[-1].T)  # C^T = Q R: scales the dual well
        self._inward = _inward(self._Q, self._bounds)

    def try_solve(self, initial_state: ArrayLike, target_state: ArrayLike) -> Answer:
        """As in `Teacher`; NaN where the target is out of reach, or that could not be decided."""
        controls, verdict = self.decide(initial_state, target_state)
        return controls, verdict == SOLVED

    def decide(self, initial_state: ArrayLike, target_state: ArrayLike) -> tuple[
            Float[Tensor, "*batch horizon control_dim"], Int[Tensor, "*batch"]]:
        """As `try_solve`, but each problem is `SOLVED`, `UNREACHABLE`, which is proved, or neither.

        `UNDECIDED` are only targets whose distance from the edge of what is within reach is less
        than about 1e-9 of its size; where controls lack a limit, perhaps also others that are out
        of reach.
        """
        n = self.system.state_dim
        x0, xT = validation.state_pair(initial_state, target_state, n)
        leading, device = x0.shape[:-1], x0.device
        x0, xT = x0.reshape(-1, n), xT.reshape(-1, n)
        wanted = xT - x0 @ self._drift.T.to(device)                            # [batch, n]: C u
        validation.result("the square of the distance", wanted.square(),
                          "initial_state or target_state is")
        Q, R, bounds, inward = (value.to(device) for value in (self._Q, self._R, self._bounds,
                                                               self._inward))
        b = torch.linalg.solve_triangular(R.T, wanted.T, upper=False).T        # [batch, n]: Q^T u
        size = torch.stack([x0, xT, wanted]).abs().amax(dim=(0, 2))
        reach = R.abs().sum(dim=0).max()
        allowed = torch.maximum(TOLERANCE * size, 1e-14 * reach)               # |x_N - x_T|
        controls, verdict = _newton(b, Q, R, bounds, inward, allowed)
        left = (verdict == UNDECIDED).nonzero().squeeze(1)
        if len(left):
            controls[left], verdict[left] = _interior_point(
                b[left], Q, R, bounds, inward, allowed[left])
        controls = (self._unit * controls).clamp(*self._limits_of_sequence(device))
        controls = controls.where((verdict == SOLVED)[:, None], torch.nan)
        shape = (*leading, self.horizon, self.system.control_dim)
        return controls.reshape(shape), verdict.reshape(leading)

    def dual_problem(self) -> dict[str, Tensor | float]:
        """What the dual is made of, for another program that solves it.

        Returns:
            ``Q`` ``[N m, n]`` and ``R`` ``[n, n]`` with C^T = Q R; ``drift`` ``[n, n]``, A^N;
            ``bounds`` ``[2, N m]`` of controls in ``unit``, in which the limits are of size one;
            and ``inward`` ``[n]``, a mu for which (Q mu)[k] is below -1 where a control has no
            upper limit and above 1 where it has no lower one.
        """
        return {"Q": self._Q, "R": self._R, "drift": self._drift, "bounds": self._bounds,
                "unit": self._unit, "inward": self._inward}

    def _limits_of_sequence(self, device):
        return (bound.repeat(self.horizon).to(device) for bound in self.system.bounds)


def _arrives(gradient, b, R, allowed):
    """Whether controls with Q^T u - b = ``gradient`` are the solution up to rounding."""
    close = gradient.norm(dim=1) <= TOLERANCE * (1 + b.norm(dim=1))
    return close & ((gradient @ R).norm(dim=1) <= allowed)     # x_N - x_T is R^T gradient


def _inward(Q, bounds):
    """A mu for which (Q mu)[k] >= 1 where a control has no lower limit, <= -1 where no upper one.

    Zero if there is none or if there is no such control: from a linear programme.
    """
    open_low, open_high = bounds.isinf()
    if not bool((open_low | open_high).any()) or bool((open_low & open_high).any()):
        return Q.new_zeros(Q.shape[1])
    import scipy.optimize  # here: it takes half a second, and limits are seldom open

    signs = (open_high.to(Q) - open_low.to(Q))[:, None] * Q
    found = scipy.optimize.linprog(
        torch.zeros(Q.shape[1]).numpy(), A_ub=signs[open_low | open_high].numpy(),
        b_ub=-torch.ones(int((open_low | open_high).sum())).numpy(), bounds=(None, None))
    return torch.tensor(found.x).to(Q) if found.status == 0 else Q.new_zeros(Q.shape[1])


def _separates(mu, b, Q, bounds, inward):
    """Whether no admissible u has as large a product with Q mu as b has: a proof.

    Where a control has no limit, Q mu must have the sign that keeps the product from growing
    without end: mu is moved along ``inward`` by as much as is needed.
    """
    open_low, open_high = bounds.isinf()
    if bool(inward.any()):
        wrong = (mu @ Q.T * (open_high.to(Q) - open_low.to(Q))).amax(dim=1).clamp(min=0)
        size = wrong + MARGIN * (1 + mu.norm(dim=1))
        mu = mu + 1.000001 * size[:, None] * inward
    elif bool((open_low | open_high).any()):
        return torch.zeros(len(b), dtype=torch.bool, device=b.device)
    v = (mu @ Q.T)[:, None]                                                    # [batch, 1, N m]
    products = (v * bounds).where(v != 0, 0.0)                                 # [batch, 2, N m]
    largest = products.amax(dim=1).sum(dim=1)
    sizes = products.abs().where(products.isfinite(), 0.0)
    rounding = MARGIN * (sizes.amax(dim=1).sum(dim=1) + (b * mu).abs().sum(dim=1))
    return (b * mu).sum(dim=1) > largest + rounding


def _newton(b, Q, R, bounds, inward, allowed):
    """Controls and verdicts by Newton's method on the dual."""
    mu, verdict = b.clone(), torch.full((len(b),), UNDECIDED, device=b.device)
    for _ in range(MOST_STEPS):
        at = (verdict == UNDECIDED).nonzero().squeeze(1)
        if not len(at):
            break
        mu[at], verdict[at] = _newton_step(mu[at], b[at], Q, R, bounds, inward, allowed[at])
    return (mu @ Q.T).clamp(*bounds), verdict


def _dual(mu, b, Q, bounds):
    """The convex dual, the sum of H(Q mu) - b mu with H' = clip; its value and its gradient."""
    v = mu @ Q.T
    clipped = v.clamp(*bounds)
    value = (clipped * (v - clipped / 2)).sum(dim=1) - (b * mu).sum(dim=1)
    return value, clipped @ Q - b


def _newton_step(mu, b, Q, R, bounds, inward, allowed):
    """One damped step of each problem: the new mu, and the verdict on the old one."""
    v = mu @ Q.T
    value, gradient = _dual(mu, b, Q, bounds)
    solved = _arrives(gradient, b, R, allowed)
    unreachable = ~solved & _separates(mu, b, Q, bounds, inward)
    free = ((v > bounds[0]) & (v < bounds[1])).to(v.dtype)                     # [batch, N m]
    steepness = gradient.norm(dim=1)
    damping = (1e-3 * steepness).clamp(1e-14, 1e-3)  # vanishes at the solution
    hessian = torch.einsum("ki,nk,kj->nij", Q, free, Q)
    hessian = hessian + damping[:, None, None] * torch.eye(Q.shape[1]).to(Q)
    step = torch.linalg.solve(hessian, -gradient)
    slope, length = (gradient * step).sum(dim=1), torch.ones_like(value)
    for _ in range(40):  # halve the step until it descends
        new_value, new_gradient = _dual(mu + length[:, None] * step, b, Q, bounds)
        better = new_value <= value + 1e-4 * length * slope
        # Near the solution rounding exceeds the change of the value, but not of the gradient.
        better |= new_gradient.norm(dim=1) <= 0.5 * steepness
        if bool(better.all()):
            break
        length = torch.where(better, length, length / 2)
    moving = (~solved & ~unreachable)[:, None]
    verdict = torch.where(solved, SOLVED, torch.where(unreachable, UNREACHABLE, UNDECIDED))
    return torch.where(moving, mu + length[:, None] * step, mu), verdict


def _interior_point(b, Q, R, bounds, inward, allowed):
    """Controls and verdicts by a primal-dual interior-point method with predictor and corrector."""
    finite = bounds.isfinite()                                                 # [2, N m]: low, high
    sign = torch.tensor([[-1.0], [1.0]]).to(b)
    limit = bounds.where(finite, 0.0)
    middle = limit.mean(dim=0) + (finite[0].to(b) - finite[1].to(b)) / 2  # inside the bounds
    u, mu = middle.expand(len(b), -1).clone(), b.clone()
    z = finite.to(b).expand(len(b), -1, -1).clone()                            # multipliers
    verdict, count = torch.full((len(b),), UNDECIDED, device=b.device), finite.sum()

    def longest(value, change):
        """The largest step in 0 to 1 that keeps ``value`` above zero."""
        steps = (-value / change).where((change < 0) & finite, torch.inf)
        return steps.amin(dim=(1, 2)).clamp(max=1)[:, None]

    for iteration in range(MOST_ITERATIONS):
        enough = 1e-13 if iteration < MOST_ITERATIONS // 2 else 1e-10  # rounding can stop it there
        at = (verdict == UNDECIDED).nonzero().squeeze(1)
        if not len(at):
            break
        U, M, Z, B = u[at], mu[at], z[at], b[at]
        slack = (sign * (limit - U[:, None])).where(finite, 1.0)               # [batch, 2, N m]
        dual = M @ Q.T - U - (sign * Z).sum(dim=1)                             # residuals
        primal = B - U @ Q
        gap = (Z * slack).sum(dim=(1, 2)) / count
        solved = (_arrives(primal, B, R, allowed[at]) & (gap <= enough)
                  & (dual.norm(dim=1) <= TOLERANCE * (1 + M.norm(dim=1))))
        unreachable = ~solved & _separates(M, B, Q, bounds, inward)
        verdict[at] = torch.where(solved, SOLVED, torch.where(unreachable, UNREACHABLE, UNDECIDED))
        scale = 1 + (Z / slack).sum(dim=1)                                     # [batch, N m]
        normal = torch.einsum("ki,nk,kj->nij", Q, 1 / scale, Q)

        def direction(target, slack=slack, dual=dual, primal=primal, scale=scale, normal=normal,
                      Z=Z):
            """The Newton step towards Z * slack = Z * slack + ``target``."""
            r = dual - (sign * target / slack).sum(dim=1)
            step = torch.linalg.solve_ex(normal, primal - (r / scale) @ Q)[0]
            change = (step @ Q.T + r) / scale
            return change, step, ((target + sign * Z * change[:, None]) / slack).where(finite, 0.0)

        change, step, turn = direction(-(Z * slack))
        shrink = -sign * change[:, None]                                       # of the slack
        length = torch.minimum(longest(slack, shrink), longest(Z, turn))[..., None]
        after = ((Z + length * turn) * (slack + length * shrink)).where(finite, 0.0)
        centre = gap * (after.sum(dim=(1, 2)) / count / gap) ** 3
        change, step, turn = direction((centre[:, None, None] - Z * slack - turn * shrink)
                                       .where(finite, 0.0))
        shrink = -sign * change[:, None]
        length = 0.999 * torch.minimum(longest(slack, shrink), longest(Z, turn))
        moving = (verdict[at] == UNDECIDED) & (length * change).isfinite().all(dim=1)
        at, length = at[moving], length[moving]
        u[at] += length * change[moving]
        mu[at] += length * step[moving]
        z[at] += length[..., None] * turn[moving]
    return u, verdict
