"""Nonlinear systems: the iterative linear-quadratic regulator with bounded controls, for a whole batch at once."""

import dataclasses

import torch

from trc_lib import validation
from trc_lib.costs import QuadraticCost
from trc_lib.systems import KINDS
from trc_lib.teachers.teacher import LONGEST, Teacher

TOLERANCE = 1e-9                              # on the improvement that an iteration promises, relative to the cost
MOST_ITERATIONS = 300
MOST_HALVINGS = 12                            # of a step that does not lower the cost
FIRST_DAMPING, MOST_DAMPING = 1e-3, 1e10      # added to the curvature in the controls after a step that failed


@dataclasses.dataclass(frozen=True, eq=False)
class Solved:
    """What came of a batch of problems.

    Attributes:
        controls: ``[..., horizon, control_dim]``, the best that were found, whether or not that is a solution.
        solved: booleans ``[...]``: no step promises a relative improvement of more than 1e-9.
        iterations: ``[...]``, how many backward passes each problem took.
        total: ``[...]``, what the controls cost.
    """

    controls: torch.Tensor
    solved: torch.Tensor
    iterations: torch.Tensor
    total: torch.Tensor


class IterativeLQR(Teacher):
    """Controls of (locally) least quadratic cost for any system, within the limits of its controls.

    Each iteration linearises the dynamics along the current trajectory, solves the linear-quadratic problem by one sweep
    backwards, with a small bounded quadratic programme at every step, and goes forwards with a step that lowers the true cost.

    Args:
        system: a `System`.
        horizon: number of steps N.
        cost: a `QuadraticCost`.
        success: a problem counts as solved if |x_N - x_T| stays below this.

    Source: Tassa, Mansard and Todorov (2014), Control-limited differential dynamic programming; without the second derivatives of
    the dynamics (Gauss-Newton).
    """

    reason = "was not solved: no minimum was found"

    def __init__(self, system, horizon, cost, success=0.1):
        validation.like("system", system, "a System", "dynamics")
        validation.like("cost", cost, "a QuadraticCost", "check_fit").check_fit(system)
        self.system, self.horizon, self.quadratic_cost = system, validation.whole("horizon", horizon, at_most=LONGEST), cost
        self.success = validation.positive("success", success)

    def cost(self, initial_state, target_state, controls):
        """The total cost of ``controls``, ``[...]``; differentiable in them."""
        return self.quadratic_cost.of_controls(self.system, initial_state, controls, target_state)

    def contents(self):
        return {"system": self.system.kind, **self.system.contents(), **self.quadratic_cost.contents(), "horizon": self.horizon,
                "success": self.success}

    @classmethod
    def from_contents(cls, contents):
        contents = dict(contents)
        kind = validation.one_of("system", contents.pop("system"), tuple(KINDS))
        cost = QuadraticCost(*(contents.pop(name) for name in ("Q", "R", "Q_final")))
        horizon, success = contents.pop("horizon"), contents.pop("success")
        return cls(KINDS[kind](**contents), horizon, cost, success)

    def try_solve(self, initial_state, target_state):
        result = self.iterate(initial_state, target_state)
        return result.controls.where(result.solved[..., None, None], torch.nan), result.solved

    def iterate(self, initial_state, target_state, guess=None, tolerance=TOLERANCE):
        """Improve a guess until no improvement is left: a `Solved`.

        Args:
            initial_state, target_state: ``[..., state_dim]``.
            guess: controls to begin with, ``[..., horizon, control_dim]``; zeros if not given. Cut to the limits.
            tolerance: on the relative improvement that an iteration promises.
        """
        x0, xT = validation.state_pair(initial_state, target_state, self.system.state_dim)
        tolerance = validation.positive("tolerance", tolerance, or_zero=True)
        leading, shape = x0.shape[:-1], (self.horizon, self.system.control_dim)
        x0, xT = (state.reshape(-1, self.system.state_dim) for state in (x0, xT))
        limit = self._limit(x0)
        guess = torch.zeros(shape) if guess is None else validation.array("guess", guess, shape, torch.float64)
        try:
            controls = guess.to(x0).expand(*leading, *shape).reshape(-1, *shape)
        except RuntimeError:
            raise ValueError(f"guess has shape {list(guess.shape)}; needs {[*leading, *shape]}") from None
        controls = controls.clamp(-limit, limit)
        states = self.system.rollout_unchecked(x0, controls)
        total = self.quadratic_cost.total(states, controls, xT)
        damping = torch.zeros_like(total).where(total.isfinite(), MOST_DAMPING)            # whose states overflow has no answer
        solved, iterations = torch.zeros_like(total, dtype=torch.bool), torch.zeros_like(total, dtype=torch.long)
        for _ in range(MOST_ITERATIONS):
            at = (~solved & (damping < MOST_DAMPING)).nonzero().squeeze(1)                # who is not done yet
            if not len(at):
                break
            iterations[at] += 1
            steps, gains, promised = self._backward(states[at], controls[at], xT[at], damping[at], limit)
            done = (promised <= tolerance * total[at]) & (damping[at] <= FIRST_DAMPING)
            solved[at] = done
            found = self._forward(states[at], controls[at], xT[at], total[at], steps, gains, promised, limit)
            better = found[3]
            for values, new in zip((states, controls, total), found):
                values[at[better]] = new[better]
            raised = (10 * damping[at]).clamp(min=FIRST_DAMPING)
            lowered = (damping[at] / 10).where(damping[at] > FIRST_DAMPING, 0)
            damping[at] = torch.where(better | done, lowered, raised)
        return Solved(controls.reshape(*leading, *shape), solved.reshape(leading), iterations.reshape(leading),
                      total.reshape(leading))

    def _limit(self, like):
        limit = self.system.control_limit
        return (torch.full((self.system.control_dim,), torch.inf) if limit is None else limit).to(like)

    def _backward(self, states, controls, target_state, damping, limit):
        """From the last step to the first: steps ``[n, N, m]``, gains ``[n, N, m, state_dim]``, and the promised improvement
        of the whole step ``[n]``."""
        A, B = self.system.jacobians(states[:, :-1], controls)
        Q, R, Q_final = (matrix.to(states) for matrix in (self.quadratic_cost.Q, self.quadratic_cost.R, self.quadratic_cost.Q_final))
        off = (states - target_state[:, None])[..., None]                                  # [n, N+1, state_dim, 1]
        slope, curvature = 2 * Q_final @ off[:, -1], (2 * Q_final).expand(len(states), -1, -1)   # of the cost to go
        steps, gains, promised = [], [], torch.zeros_like(damping)
        eye = torch.eye(controls.shape[-1]).to(states)
        for k in reversed(range(self.horizon)):
            a, b, u = A[:, k], B[:, k], controls[:, k]
            Qx, Qu = 2 * Q @ off[:, k] + a.mT @ slope, 2 * R @ u[..., None] + b.mT @ slope
            Qxx, Quu, Qux = 2 * Q + a.mT @ curvature @ a, 2 * R + b.mT @ curvature @ b, b.mT @ curvature @ a
            damped = Quu + damping[:, None, None] * eye
            step, free = bounded_quadratic(damped, Qu[..., 0], -limit - u, limit - u)
            gain = -torch.linalg.solve(_on(free, damped), free[..., None] * Qux)           # a control at its limit stays there
            step = step[..., None]
            promised -= (step.mT @ Qu + step.mT @ Quu @ step / 2)[:, 0, 0]
            slope = Qx + gain.mT @ (Quu @ step + Qu) + Qux.mT @ step
            curvature = Qxx + gain.mT @ Quu @ gain + gain.mT @ Qux + Qux.mT @ gain
            curvature = (curvature + curvature.mT) / 2
            steps.append(step[..., 0])
            gains.append(gain)
        return torch.stack(steps[::-1], dim=1), torch.stack(gains[::-1], dim=1), promised

    def _forward(self, states, controls, target_state, total, steps, gains, promised, limit):
        """The longest of the steps 1, 1/2, 1/4, ... that lowers the cost: new states, controls, total, and whether there is."""
        new_states, new_controls, new_total = states.clone(), controls.clone(), total.clone()
        missing, length = torch.ones_like(total, dtype=torch.bool), 1.0
        for _ in range(MOST_HALVINGS):
            at = missing.nonzero().squeeze(1)
            if not len(at):
                break
            x, trial_states, trial_controls = states[at, 0], [states[at, 0]], []
            for k in range(self.horizon):
                back = (gains[at, k] @ (x - states[at, k])[..., None])[..., 0]
                u = (controls[at, k] + length * steps[at, k] + back).clamp(-limit, limit)
                x = self.system.dynamics(x, u)
                trial_states.append(x)
                trial_controls.append(u)
            trial_states, trial_controls = torch.stack(trial_states, dim=1), torch.stack(trial_controls, dim=1)
            trial_total = self.quadratic_cost.total(trial_states, trial_controls, target_state[at])
            better = trial_total < total[at] - 1e-4 * length * promised[at]                # False for NaN, too
            won = at[better]
            new_states[won], new_controls[won] = trial_states[better], trial_controls[better]
            new_total[won] = trial_total[better]
            missing[won] = False
            length /= 2
        return new_states, new_controls, new_total, ~missing


def _on(free, matrix):
    """``matrix`` ``[n, m, m]`` in the free rows and columns, the identity in the others."""
    both = free[:, :, None] & free[:, None, :]
    return matrix.where(both, 0) + torch.diag_embed((~free).to(matrix))


def bounded_quadratic(H, g, lower, upper, most_steps=20):
    """Minimise d' H d / 2 + g' d between bounds, by projected Newton steps, for a batch of small problems.

    Args:
        H: ``[n, m, m]``, positive definite; g, lower, upper: ``[n, m]`` with ``lower <= 0 <= upper``.

    Returns:
        d ``[n, m]``, and which of its components are free (not held by a bound).

    Source: Bertsekas (1982), Projected Newton methods for optimization problems with simple constraints.
    """
    def value(d):
        return (d * ((H @ d[..., None])[..., 0] / 2 + g)).sum(dim=-1)

    d = torch.zeros_like(g)
    for _ in range(most_steps):
        slope = g + (H @ d[..., None])[..., 0]
        free = ~((d <= lower) & (slope > 0) | (d >= upper) & (slope < 0))
        full = -torch.linalg.solve(_on(free, H), (free * slope)[..., None])[..., 0]
        new, now, length = (d + full).clamp(lower, upper), value(d), torch.ones_like(g[:, :1])
        if g.shape[1] > 1:                                                                 # one control: the full step is exact
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
    slope = g + (H @ d[..., None])[..., 0]
    return d, ~((d <= lower) & (slope > 0) | (d >= upper) & (slope < 0))
