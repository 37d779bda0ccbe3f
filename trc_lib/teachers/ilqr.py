"""The iterative linear-quadratic regulator with bounded controls, for a batch of problems."""

import dataclasses
import itertools

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trc_lib import validation
from trc_lib.scan import as_batch, from_batch, scan
from trc_lib.systems import SUCCESS
from trc_lib.systems.steps import OfSystem
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
                tolerance: Number = TOLERANCE, most: Whole = MOST_ITERATIONS) -> Solved:
        """Improve a guess until no improvement is left.

        Args:
            initial_state, target_state: ``[..., state_dim]``.
            guess: controls to begin with, ``[..., horizon, control_dim]``, clamped to the limits;
                zeros if not given.
            tolerance: on the relative improvement that an iteration promises.
            most: iterations; a problem that would need more is not solved, but improved.
        """
        most = validation.whole("most", most)
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
        results = [controls.clone(), solved.clone(), iterations.clone(), total.clone()]
        at = torch.arange(len(x0), device=x0.device)  # the problems that are not finished
        for _ in range(most + 1):
            left = ~solved & (damping < MOST_DAMPING) & (iterations < most)
            if not bool(left.all()):
                for result, value in zip(results, (controls, solved, iterations, total)):
                    result[at] = value
                at, states, controls, xT, total, damping, solved, iterations = (
                    each[left] for each in (at, states, controls, xT, total, damping, solved,
                                            iterations))
            if not len(at):
                break
            steps, gains, promised = self._backward(states, controls, xT, damping, low, high)
            solved = (promised <= tolerance * total) & (damping <= FIRST_DAMPING)
            before = total
            states, controls, total, better = self._forward(states, controls, xT, total, steps,
                                                            gains, promised, low, high)
            poor = ~better | (_lower(before, total) < POOR * promised)
            raised = (10 * damping).clamp(min=FIRST_DAMPING)
            lowered = (damping / 10).where(damping > FIRST_DAMPING, 0)
            tiny = better & (promised <= 1e-3 * tolerance * before)  # then judge it undamped
            damping = raised.where(poor & ~solved, lowered).where(~tiny, 0)
            iterations = iterations + 1
        controls, solved, iterations, total = results
        return Solved(controls.reshape(*leading, *shape), solved.reshape(leading),
                      iterations.reshape(leading), total.reshape(leading))

    def _backward(self, states, controls, target_state, damping, low, high):
        """The sweep from the last step to the first.

        Returns:
            steps ``[n, N, m]``, gains ``[n, N, m, state_dim]``, and the improvement that the whole
            step promises, ``[n]``.
        """
        A, B = self.system.jacobians(states[:, :-1], controls)
        cost, n = self.quadratic_cost, len(states)
        Q, R, Q_final = (matrix.to(states) for matrix in (cost.Q, cost.R, cost.Q_final))
        off = states - target_state[:, None]                          # [n, N + 1, state_dim]
        carry = [2 * off[:, -1] @ Q_final, (2 * Q_final).expand(n, -1, -1),
                 torch.zeros_like(damping)]
        fixed = [each.expand(n, *each.shape) for each in (Q, R, low, high)]
        (_, _, promised), (steps, gains) = scan(
            _backward_step, carry, [A, B, off[:, :-1], controls], [*fixed, damping], reverse=True)
        return steps, gains, promised[:, 0]

    def _forward(self, states, controls, target_state, total, steps, gains, promised, low, high):
        """The longest of the steps 1, 1/2, 1/4, ... that lowers the cost.

        Returns:
            the new states, controls and total, and for which problems such a step was found.
        """
        lengths = 0.5 ** torch.arange(MOST_HALVINGS).to(total)
        given = states, controls, target_state, total, steps, gains, promised
        if len(total) < 8:  # so few are as fast with all lengths at once
            return self._longest(lengths, *given, low, high)
        *new, found = self._longest(lengths[:1], *given, low, high)  # most often this will do
        if not bool(found.all()):
            at = (~found).nonzero().squeeze(1)
            others = self._longest(lengths[1:], *(each[at] for each in given), low, high)
            for values, other in zip((*new, found), others):
                values[at] = other
        return *new, found

    def _longest(self, lengths, states, controls, target_state, total, steps, gains, promised, low,
                 high):
        """`_forward` among some lengths, the longest first."""
        leading = torch.Size([len(lengths), len(total)])
        (tried,), (tried_controls,) = scan(
            _ForwardStep(self.system), [as_batch(states[:, 0], leading, 1)],
            [as_batch(states[:, :-1], leading, 2),
             *(as_batch(each, leading, 2) for each in (controls, steps)),
             as_batch(gains, leading, 3)],
            [as_batch(lengths[:, None], leading, 0), *(as_batch(each, leading, 1)
                                                       for each in (low, high))])
        tried, tried_controls = (from_batch(each, leading) for each in (tried, tried_controls))
        tried_total = self.quadratic_cost.total(tried, tried_controls, target_state)
        better = _lower(total, tried_total) >= 1e-4 * lengths[:, None] * promised  # False for NaN
        found, first = better.any(dim=0), better.int().argmax(dim=0)
        rows = torch.arange(len(total), device=total.device)
        return (tried[first, rows].where(found[:, None, None], states),
                tried_controls[first, rows].where(found[:, None, None], controls),
                tried_total[first, rows].where(found, total), found)


def _backward_step(carry, inputs, constants):
    """The best change of one control, given the gradient and curvature of the cost to go."""
    (gradient, curvature, promised), (A, B, off, u) = carry, inputs
    Q, R, low, high, damping = constants
    gradient, off, u = gradient[..., None], off[..., None], u[..., None]  # columns
    Qx = 2 * Q @ off + A.mT @ gradient
    Qu = 2 * R @ u + B.mT @ gradient
    Qxx = 2 * Q + A.mT @ curvature @ A
    Quu = 2 * R + B.mT @ curvature @ B
    Qux = B.mT @ curvature @ A
    u = u[..., 0]
    damped = Quu + damping[..., None, None] * torch.eye(
        u.shape[-1], dtype=u.dtype, device=u.device)
    step, free = bounded_quadratic(damped, Qu[..., 0], low - u, high - u)
    # A control that a limit holds stays there: its row of the gain is zero. While damped, also that
    # of one near its limit: the gain may push it back, and the step forwards, which clamps it, need
    # not lower the cost.
    near = 1e-3 * (high - low)
    near = torch.where(near < torch.inf, near, 0.0)
    free = free & ((u > low + near) & (u < high - near) | (damping == 0)[..., None])
    gain = -_solve(_masked(free, damped), free[..., None] * Qux)
    step = step[..., None]
    less = (step.mT @ Qu + step.mT @ Quu @ step / 2)[..., 0, 0]
    gradient = Qx + gain.mT @ (Quu @ step + Qu) + Qux.mT @ step
    curvature = Qxx + gain.mT @ Quu @ gain + gain.mT @ Qux + Qux.mT @ gain
    curvature = (curvature + curvature.mT) / 2
    return [gradient[..., 0], curvature, promised - less], [step[..., 0], gain]


class _ForwardStep(OfSystem):
    """One step of the dynamics under the changed controls, which the gains correct."""

    def __call__(self, carry, inputs, constants):
        (x,), (before, u, change, gain), (length, low, high) = carry, inputs, constants
        back = (gain @ (x - before)[..., None])[..., 0]
        u = (u + length[..., None] * change + back).clamp(low, high)
        return [self.system.dynamics(x, u)], [u]


def _lower(before, after):
    """By how much a cost is lower, plus its rounding."""
    return before - after + ROUNDING * before


def _solve(matrix, right):
    """The solutions of linear systems; a singular or overflowed one does not stop the others."""
    return torch.linalg.solve_ex(matrix, right)[0]


def _masked(free, matrix):
    """``matrix`` ``[..., m, m]`` in the free rows and columns, the identity in the others."""
    both = free[..., :, None] & free[..., None, :]
    return matrix.where(both, 0) + torch.diag_embed((~free).to(matrix))


def bounded_quadratic(H: Float[Tensor, "*#batch m m"], g: Float[Tensor, "*#batch m"],
                      lower: Float[Tensor, "*#batch m"], upper: Float[Tensor, "*#batch m"],
                      ) -> tuple[Float[Tensor, "*batch m"], Bool[Tensor, "*batch m"]]:
    """Minimise d' H d / 2 + g' d between bounds, for a batch of small problems.

    Args:
        H: positive definite; lower, upper: with ``lower <= 0 <= upper``.

    Returns:
        d, and which of its components no bound holds.
    """
    d = _best_of_all(H, g, lower, upper) if g.shape[-1] <= 3 else (
        _projected_newton(H, g, lower, upper))
    return d, _free(d, H, g, lower, upper)[1]


def _free(d, H, g, lower, upper):
    """The gradient, and where it may move ``d``."""
    gradient = g + (H @ d[..., None])[..., 0]
    return gradient, ~((d <= lower) & (gradient > 0) | (d >= upper) & (gradient < 0))


def _value(d, H, g):
    return (d * ((H @ d[..., None])[..., 0] / 2 + g)).sum(dim=-1)


def _best_of_all(H, g, lower, upper):
    """The best of all ways to hold components at bounds, each solved for the others and clamped.

    One of them is the minimum, and all lie between the bounds.
    """
    m, best, least = g.shape[-1], None, None
    bounds = torch.zeros_like(g), lower, upper
    for held in itertools.product((0, 1, 2), repeat=m) if m > 1 else [(0,)]:
        fixed = torch.stack([bounds[kind][..., i] for i, kind in enumerate(held)], dim=-1)
        free = torch.stack([torch.full_like(g[..., i], kind == 0, dtype=torch.bool)
                            for i, kind in enumerate(held)], dim=-1)
        push = g + (H @ fixed[..., None])[..., 0]
        d = fixed - _solve(_masked(free, H), (free * push)[..., None])[..., 0]
        d = d.clamp(lower, upper)
        value = _value(d, H, g)
        if best is None:
            best, least = d, value
        better = value < least  # False for NaN, which infinite bounds give
        best, least = torch.where(better[..., None], d, best), torch.where(better, value, least)
    return best


def _projected_newton(H, g, lower, upper, most_steps=20):
    """Newton steps in the components that no bound holds.

    Source: Bertsekas (1982), Projected Newton methods for optimization problems with simple
    constraints.
    """
    d = torch.zeros_like(g)
    for _ in range(most_steps):
        gradient, free = _free(d, H, g, lower, upper)
        full = -_solve(_masked(free, H), (free * gradient)[..., None])[..., 0]
        new, now = (d + full).clamp(lower, upper), _value(d, H, g)
        length = torch.ones_like(d[:, :1])
        for _ in range(20):
            worse = _value(new, H, g) > now
            if not bool(worse.any()):
                break
            length = torch.where(worse[:, None], length / 2, length)
            new = (d + length * full).clamp(lower, upper)
        moved = float((new - d).abs().amax()) if len(d) else 0.0
        d = new
        if moved <= 1e-14:
            break
    return d
