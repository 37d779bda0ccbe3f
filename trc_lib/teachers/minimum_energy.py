"""Minimum-energy controllers of linear systems, in closed form."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from trc_lib import validation
from trc_lib.systems import SUCCESS, DoubleIntegrator, LinearSystem
from trc_lib.systems.system import Controls
from trc_lib.teachers.teacher import LONGEST, Answer, Teacher
from trc_lib.validation import ArrayLike, Whole

LARGEST_MISS = 1e-9  # accepted component of x_N - x_T by rounding, for states of size one
TINY = np.finfo(float).tiny


class MinimumEnergyController(Teacher):
    """The exact discrete-time minimum-energy law of a controllable linear system.

    Of all control sequences that bring the state from x0 to xT in N steps, it gives the one of
    least energy, the sum of |u[k]|^2: u = C^T (C C^T)^-1 (xT - A^N x0), where C is the
    controllability matrix. The law is linear in (x0, xT): one matrix solves any batch.

    Args:
        system: a `LinearSystem`; a `DoubleIntegrator` if not given. Its limit is ignored.
        horizon: number of steps N.
        success: as in `Teacher`.

    Raises:
        ValueError: if the system is not controllable, or the horizon is too short to steer it, or
            the problem is ill-conditioned: rounding alone would miss targets of size one.

    Source: Kalman, Ho and Narendra (1963), Controllability of linear dynamical systems.
    """

    has_ruler = True

    def __init__(self, system: object = None, horizon: Whole = 15, success: object = SUCCESS):
        system = DoubleIntegrator() if system is None else system
        validation.instance("system", system, LinearSystem).check_box(type(self).__name__)
        super().__init__(system, horizon, success)
        n, (reached, steps) = self.system.state_dim, controllable(self.system)
        if reached < n:
            raise ValueError(f"system={system!r} is not controllable: its controls reach "
                             f"{reached} of {n} directions of the state")
        if self.horizon < steps:
            raise ValueError(f"horizon={horizon} cannot steer {n} states; "
                             f"needs at least {steps} steps")
        with np.errstate(over="ignore", invalid="ignore"):  # then the miss is not finite
            self.gain, miss = _best_gain(self.system, self.horizon)            # [N m, 2 n]
        if not miss <= LARGEST_MISS:
            raise ValueError(f"horizon={horizon} with system={system!r} is ill-conditioned: for "
                             f"states of size one, rounding to float64 would miss the target by "
                             f"{miss:.0e}; at most {LARGEST_MISS:g} is accepted. Fewer steps help, "
                             "or units in which the states are of size one")

    def try_solve(self, initial_state: ArrayLike, target_state: ArrayLike) -> Answer:
        n = self.system.state_dim
        states = validation.state_pair(initial_state, target_state, n)
        problem = torch.cat(states, dim=-1)                                    # [..., 2 n]
        controls = problem @ self.gain.T.to(problem.device)                    # [..., N m]
        validation.result("the controls", controls, "initial_state or target_state is")
        solved = torch.ones(problem.shape[:-1], dtype=torch.bool, device=problem.device)
        return controls.unflatten(-1, (self.horizon, self.system.control_dim)), solved


def controllable(system: LinearSystem) -> tuple[int, int]:
    """How many directions of the state the controls reach, and in how many steps.

    By the staircase form, which needs no powers of A: each step adds the directions into which A
    moves those reached so far. Source: Paige (1981), Properties of numerical algorithms related to
    computing controllability.
    """
    A, B = _balanced(system)
    reached, new, steps, size = np.zeros((len(A), 0)), B, 0, np.abs(B).max()
    while reached.shape[1] < len(A):
        new = new - reached @ (reached.T @ new)
        directions, sizes, _ = np.linalg.svd(new - reached @ (reached.T @ new))
        rank = int((sizes > 1e-12 * size).sum())
        if not rank:
            break
        reached = np.hstack([reached, directions[:, :rank]])
        new, steps, size = A @ directions[:, :rank], steps + 1, np.abs(A).max()
    return reached.shape[1], steps


def _balanced(system):
    """A and B in units in which each state is moved by about one in as many steps as states."""
    A, B = system.A.numpy(), system.B.numpy()
    moved = [B]
    for _ in range(len(A) - 1):
        moved.append(A @ moved[-1])
    scale = np.linalg.norm(np.hstack([each / max(abs(each).max(), TINY) for each in moved]), axis=1)
    scale = scale.clip(min=TINY)
    B = B / scale[:, None]
    return A * scale / scale[:, None], B / np.linalg.norm(B, axis=0).clip(min=TINY)


def _best_gain(system, horizon):
    """The gain with the smallest miss, and that: a component of |x_N - x_T|, states of size one."""
    C = system.controllability_matrix(horizon).numpy()
    drift = np.hstack([np.linalg.matrix_power(system.A.numpy(), horizon), -np.eye(len(C))])
    best, miss = None, np.inf
    for threshold in (np.inf, 1.0, 10 ** (1 / horizon)):
        gain = _least_norm(*_conditions(system, horizon, threshold))
        rounding = np.finfo(float).eps * abs(C) @ abs(gain)  # of the controls to float64
        size = float((abs(drift + C @ gain) + rounding).sum(axis=1).max())
        if size < miss:
            best, miss = torch.from_numpy(gain), size
    return best, miss


def _conditions(system, horizon, threshold):
    """Rows [n, N m] and right-hand sides [n, 2 n] of: ``rows @ u = wanted @ [x0, xT]`` if x_N = xT.

    Modes whose eigenvalues exceed the ``threshold`` in size are propagated backwards from the end,
    the others forwards, so that the powers of neither drown the other. Each row has length one.
    """
    import scipy.linalg  # here: it takes half a second

    A, B = system.A.numpy(), system.B.numpy()
    T, Z, k = scipy.linalg.schur(A, output="real",
                                 sort=lambda re, im: np.hypot(re, im) <= threshold)
    W = Z.T
    if 0 < k < len(A):  # W A W^-1 = diag(T_11, T_22)
        X = scipy.linalg.solve_sylvester(T[:k, :k], -T[k:, k:], -T[:k, k:])
        W = np.vstack([W[:k] - X @ W[k:], W[k:]])
    forwards, backwards = T[:k, :k], np.linalg.inv(T[k:, k:])
    late, early, last, first = W[:k] @ B, W[k:] @ B, [], []
    for _ in range(horizon):
        early = backwards @ early
        first.append(early)                      # T_22^-(step + 1) B
        last.insert(0, late)                     # T_11^(N - 1 - step) B
        late = forwards @ late
    rows = np.vstack([np.hstack(last), np.hstack(first)])
    there = np.linalg.matrix_power(forwards, horizon) @ W[:k]
    back = np.linalg.matrix_power(backwards, horizon) @ W[k:]
    wanted = np.block([[-there, W[:k]], [-W[k:], back]])
    size = np.linalg.norm(rows, axis=1, keepdims=True).clip(min=TINY)
    return rows / size, wanted / size


def _least_norm(rows, wanted):
    """The least-norm solution, by QR of the transpose: no condition number is squared."""
    Q, R = np.linalg.qr(rows.T)
    solution = np.zeros((rows.shape[1], wanted.shape[1]))
    if abs(np.diag(R)).min() > 0:
        for _ in range(2):  # the second time refines the first
            left = wanted - rows @ solution
            solution += Q @ np.linalg.solve(R.T, left)
    return solution


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
