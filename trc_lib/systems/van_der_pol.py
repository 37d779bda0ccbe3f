"""The Van der Pol oscillator, a nonlinear system that drives itself."""

import torch

from trc_lib import validation
from trc_lib.systems.system import Control, State, System
from trc_lib.validation import Number


class VanDerPol(System):
    """x'' = mu (1 - x^2) x' - x + u with state [x, x'].

    A step is one Runge-Kutta step of fourth order with the control held.

    Args:
        mu: strength of the damping, which is negative for |x| < 1.
        dt, control_limit: as in `System`.

    Source: van der Pol (1926), On relaxation-oscillations.
    """

    def __init__(self, mu: Number = 1.0, dt: Number = 0.05, control_limit: object = 2.0):
        self.mu = validation.positive("mu", mu, or_zero=True)
        super().__init__(2, 1, dt, control_limit, ("position", "velocity", "control u"))

    def dynamics(self, state: State, control: Control) -> State:
        x, v = state.unbind(-1)
        u = control[..., 0]
        h, half = self.dt, self.dt / 2
        a1 = self._acceleration(x, v, u)
        v2 = v + half * a1
        a2 = self._acceleration(x + half * v, v2, u)
        v3 = v + half * a2
        a3 = self._acceleration(x + half * v2, v3, u)
        v4 = v + h * a3
        a4 = self._acceleration(x + h * v3, v4, u)
        return torch.stack([x + h / 6 * (v + 2 * (v2 + v3) + v4),
                            v + h / 6 * (a1 + 2 * (a2 + a3) + a4)], dim=-1)

    def _acceleration(self, x, v, u):
        return self.mu * (1 - x * x) * v - x + u
