"""The iterative linear-quadratic regulator with bounded controls, for a batch of problems."""

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trc_lib import validation
from trc_lib.systems import SUCCESS
from trc_lib.teachers.teacher import Answer, QuadraticCostTeacher
from trc_lib.validation import ArrayLike, Number, Whole

TOLERANCE = 1e-9        # on the improvement that an iteration promises, relative to the cost
MOST_ITERATIONS = 300
MOST_HALVINGS = 12      # of a step that does not lower the cost
FIRST_DAMPING, MOST_DAMPING = 1e-3, 1e10  # of the curvature in the controls, after a poor step
POOR = 0.1              # gain of a step, relative to its promise, below which the damping is raised
ROUNDING = 1e-14        # of a cost, relative


@dataclasses.dataclass(frozen=True, eq=False)
class Solved:
    """The result for a batch of problems.

    Attributes:
        controls: ``[..., horizon, control_dim]``, the best found, solved or not.
        solved: ``[...]``: no step promises a relative improvement above the tolerance.
        iterations: ``[...]``, the number of backward passes.
        total: ``[...]``, the cost of the controls.
    """

    controls: Float[Tensor, "*batch horizon control_dim"]
    solved: Bool[Tensor, "*batch"]
    iterations: Int[Tensor, "*batch"]
    total: Float[Tensor, "*batch"]


class IterativeLQR(QuadraticCostTeacher):
    """Controls of locally least quadratic cost for any system, within its control limits.

    Each iteration linearises the dynamics along the current trajectory, solves the
    linear-quadratic problem by one sweep backwards, with a small bounded quadratic programme at
    every step, and takes a step forwards that lowers the true cost.

    A solution is a local minimum, up to the tolerance. Nothing guarantees that it is the global
    one, nor that a problem is solved: more guesses make both more likely.

    Args:
        system, horizon, cost, success: as in `QuadraticCostTeacher`.
        guesses: number of controls to begin with; each problem gets the cheapest solution. They
            are zeros, all at the lower limits, all at the upper, and then smooth random ones,
            the same for all problems.

    Source: Tassa, Mansard and Todorov (2014), Control-limited differential dynamic programming;
    without the second derivatives of the dynamics (Gauss-Newton).
    """

    reason = "was not solved: no minimum was found"

    def __init__(self, system: object, horizon: Whole, cost: object, success: object = SUCCESS,
                 guesses: Whole = 5):
        super().__init__(system, horizon, cost, success)
        self.guesses = validation.whole("guesses", guesses, at_most=1000)

    def parameters(self) -> dict:
        return super().parameters() | {"guesses": self.guesses}

    def try_solve(self, initial_state: ArrayLike, target_state: ArrayLike,
                  guess: ArrayLike = None) -> Answer:
        """As in `Teacher`; with ``guess``, from these controls alone, as in `iterate`."""
        x0, xT = validation.state_pair(initial_state, target_state, self.system.state_dim)
        controls, least = None, torch.full(x0.shape[:-1], torch.inf).to(x0)
        for begin in self._guesses() if guess is None else [guess]:
            found = self.iterate(x0, xT, begin)
            better = found.solved & (found.total < least)
            controls = torch.full_like(found.controls, torch.nan) if controls is None else controls
            controls = found.controls.where(better[..., None, None], controls)
            least = found.total.where(better, least)
        return controls, least.isfinite()

    def _guesses(self):
        """``[guesses, horizon, control_dim]``, the first that the constructor asks for."""
        low, high = (bound.clamp(-1, 1).where(bound.isinf(), bound) for bound in self.system.bounds)
        shape, generator = (self.horizon, self.system.control_dim), torch.Generator().manual_seed(0)
        time = torch.linspace(0, torch.pi, self.horizon, dtype=torch.float64)[:, None, None]
        found = [torch.zeros(shape).to(low), low.expand(shape), high.expand(shape)]
        while len(found) < self.guesses:  # up to four half waves between the limits
            weights = torch.randn(shape[1], 5, generator=generator, dtype=torch.float64)
            waves = (weights * (time * torch.arange(5)).cos()).sum(dim=-1)
            found.append(low + (high - low) * waves.sigmoid())
        return torch.stack(found[:self.guesses])

    def iterate(self, initial_state: ArrayLike, target_state: ArrayLike, guess: ArrayLike = None,
                tolerance: Number = TOLERANCE) -> Solved:
        """Improve a guess until no improvement is left.

        Args:
            initial_state, target_state: ``[..., state_dim]``.
            guess: controls to begin with, ``[..., horizon, control_dim]``, clamped to the limits;
                zeros if not given.
            tolerance: on the relative improvement that an iteration promises.
        """
        x0, xT = validation.state_pair(initial_state, target_state, self.system.state_dim)
        tolerance = validation.positive("tolerance", tolerance, or_zero=True)
        leading, shape = x0.shape[:-1], (self.horizon, self.system.control_dim)
        x0, xT = (state.reshape(-1, self.system.state_dim) for state in (x0, xT))
        low, high = (bound.to(x0) for bound in self.system.bounds)
        guess = torch.zeros(shape) if guess is None else guess
        guess = validation.array("guess", guess, shape, torch.float64)
        try:
            controls = guess.to(x0).expand(*leading, *shape).reshape(-1, *shape)
        except RuntimeError:
            raise ValueError(f"guess has shape {list(guess.shape)}; "
                             f"needs {[*leading, *shape]}") from None
        controls = controls.clamp(low, high)
        states = self.system.rollout_unchecked(x0, controls)
        total = self.quadratic_cost.total(states, controls, xT)
        damping = torch.zeros_like(total).where(total.isfinite(), MOST_DAMPING)  # overflow: give up
        solved = torch.zeros_like(total, dtype=torch.bool)
        iterations = torch.zeros_like(total, dtype=torch.long)
        for _ in range(MOST_ITERATIONS):
            at = (~solved & (damping < MOST_DAMPING)).nonzero().squeeze(1)
            if not len(at):
                break
            iterations[at] += 1
            steps, gains, promised = self._backward(states[at], controls[at], xT[at], damping[at],
                                                    low, high)
            done = (promised <= tolerance * total[at]) & (damping[at] <= FIRST_DAMPING)
            solved[at] = done
            *found, better = self._forward(states[at], controls[at], xT[at], total[at], steps,
                                           gains, promised, low, high)
            poor = _lower(total[at], found[2]) < POOR * promised
            for values, new in zip((states, controls, total), found):
                values[at[better]] = new[better]
            raised = (10 * damping[at]).clamp(min=FIRST_DAMPING)
            lowered = (damping[at] / 10).where(damping[at] > FIRST_DAMPING, 0)
            tiny = better & (promised <= 1e-3 * tolerance * total[at])  # then judge it undamped
            damping[at] = torch.where(better & ~poor | done, lowered, raised).where(~tiny, 0)
        return Solved(controls.reshape(*leading, *shape), solved.reshape(leading),
                      iterations.reshape(leading), total.reshape(leading))

    def _backward(self, states, controls, target_state, damping, low, high):
        """The sweep from the last step to the first.

        Returns:
            steps ``[n, N, m]``, gains ``[n, N, m, state_dim]``, and the improvement that the whole
            step promises, ``[n]``.
        """
        A, B = self.system.jacobians(states[:, :-1], controls)
        cost = self.quadratic_cost
        Q, R, Q_final = (matrix.to(states) for matrix in (cost.Q, cost.R, cost.Q_final))
        off = (states - target_state[:, None])[..., None]            # [n, N + 1, state_dim, 1]
        gradient = 2 * Q_final @ off[:, -1]                          # of the cost to go
        curvature = (2 * Q_final).expand(len(states), -1, -1)
        steps, gains, promised = [], [], torch.zeros_like(damping)
        eye = torch.eye(controls.shape[-1]).to(states)
        near = (1e-3 * (high - low)).nan_to_num(posinf=0.0)
        for k in reversed(range(self.horizon)):
            a, b, u = A[:, k], B[:, k], controls[:, k]
            Qx = 2 * Q @ off[:, k] + a.mT @ gradient
            Qu = 2 * R @ u[..., None] + b.mT @ gradient
            Qxx = 2 * Q + a.mT @ curvature @ a
            Quu = 2 * R + b.mT @ curvature @ b
            Qux = b.mT @ curvature @ a
            damped = Quu + damping[:, None, None] * eye
            step, free = bounded_quadratic(damped, Qu[..., 0], low - u, high - u)
            # A control that a limit holds stays there: its row of the gain is zero. While damped,
            # also that of one near its limit: the gain may push it back, and the step forwards,
            # which clamps it, need not lower the cost.
            free &= (u > low + near) & (u < high - near) | (damping == 0)[:, None]
            gain = -_solve(_masked(free, damped), free[..., None] * Qux)
            step = step[..., None]
            promised -= (step.mT @ Qu + step.mT @ Quu @ step / 2)[:, 0, 0]
            gradient = Qx + gain.mT @ (Quu @ step + Qu) + Qux.mT @ step
            curvature = Qxx + gain.mT @ Quu @ gain + gain.mT @ Qux + Qux.mT @ gain
            curvature = (curvature + curvature.mT) / 2
            steps.append(step[..., 0])
            gains.append(gain)
        return torch.stack(steps[::-1], dim=1), torch.stack(gains[::-1], dim=1), promised

    def _forward(self, states, controls, target_state, total, steps, gains, promised, low, high):
        """The longest of the steps 1, 1/2, 1/4, ... that lowers the cost.

        Returns:
            the new states, controls and total, and for which problems such a step was found.
        """
        new_states, new_controls, new_total = states.clone(), controls.clone(), total.clone()
        found = torch.zeros_like(total, dtype=torch.bool)
        lengths = 0.5 ** torch.arange(MOST_HALVINGS).to(total)[:, None]
        for some in (lengths[:1], lengths[1:]):  # most often the first will do
            at = (~found).nonzero().squeeze(1)
            x, trial_states, trial_controls = states[at, 0].expand(len(some), -1, -1), [], []
            for k in range(self.horizon):
                trial_states.append(x)
                back = (gains[at, k] @ (x - states[at, k])[..., None])[..., 0]
                u = controls[at, k] + some[..., None] * steps[at, k] + back
                trial_controls.append(u.clamp(low, high))
                x = self.system.dynamics(x, trial_controls[-1])
            trial_states = torch.stack([*trial_states, x], dim=-2)  # [lengths, n, N + 1, state_dim]
            trial_controls = torch.stack(trial_controls, dim=-2)
            trial_total = self.quadratic_cost.total(trial_states, trial_controls, target_state[at])
            better = _lower(total[at], trial_total) >= 1e-4 * some * promised[at]  # False for NaN
            won = better.any(dim=0).nonzero().squeeze(1)
            first = better[:, won].int().argmax(dim=0) if len(won) else won
            for values, trial in ((new_states, trial_states), (new_controls, trial_controls),
                                  (new_total, trial_total)):
                values[at[won]] = trial[first, won]
            found[at[won]] = True
            if bool(found.all()):
                break
        return new_states, new_controls, new_total, found


def _lower(before, after):
    """By how much a cost is lower, plus its rounding."""
    return before - after + ROUNDING * before


def _solve(matrix, right):
    """The solutions of linear systems; a singular or overflowed one does not stop the others."""
    return torch.linalg.solve_ex(matrix, right)[0]


def _masked(free, matrix):
    """``matrix`` ``[n, m, m]`` in the free rows and columns, the identity in the others."""
    both = free[:, :, None] & free[:, None, :]
    return matrix.where(both, 0) + torch.diag_embed((~free).to(matrix))


def bounded_quadratic(H: Float[Tensor, "n m m"], g: Float[Tensor, "n m"],
                      lower: Float[Tensor, "n m"], upper: Float[Tensor, "n m"],
                      most_steps: int = 20) -> tuple[Float[Tensor, "n m"], Bool[Tensor, "n m"]]:
    """Minimise d' H d / 2 + g' d between bounds, for a batch of small problems.

    Args:
        H: positive definite; lower, upper: with ``lower <= 0 <= upper``.

    Returns:
        d, and which of its components no bound holds.

    Source: Bertsekas (1982), Projected Newton methods for optimization problems with simple
    constraints.
    """
    def value(d):
        return (d * ((H @ d[..., None])[..., 0] / 2 + g)).sum(dim=-1)

    def free_at(d):
        gradient = g + (H @ d[..., None])[..., 0]
        return gradient, ~((d <= lower) & (gradient > 0) | (d >= upper) & (gradient < 0))

    d = torch.zeros_like(g)
    for _ in range(most_steps):
        gradient, free = free_at(d)
        full = -_solve(_masked(free, H), (free * gradient)[..., None])[..., 0]
        new, now, length = (d + full).clamp(lower, upper), value(d), torch.ones_like(g[:, :1])
        if g.shape[1] > 1:  # with one control the full step is exact
            for _ in range(20):
                worse = value(new) > now
                if not bool(worse.any()):
                    break
                length = torch.where(worse[:, None], length / 2, length)
                new = (d + length * full).clamp(lower, upper)
        moved = float((new - d).abs().amax()) if len(d) else 0.0
        d = new
        if moved <= 1e-14 or g.shape[1] == 1:
            break
    return d, free_at(d)[1]
