"""The Van der Pol oscillator, a nonlinear system that drives itself."""

import torch

from trc_lib import validation
from trc_lib.systems.system import Control, Jacobians, State, System
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

    def jacobians(self, state: State, control: Control) -> Jacobians:
        x, v, u = torch.broadcast_tensors(*state.unbind(-1), control[..., 0])
        h, half = self.dt, self.dt / 2
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        start_x, start_v = (one, zero, zero), (zero, one, zero)  # derivatives in x, v and u
        dx, dv, stage_x, stage_v = start_x, start_v, x, v
        slopes_x, slopes_v = [], []
        for ahead in (half, half, h, None):
            a = self._acceleration(stage_x, stage_v, u)
            by_x = -2 * self.mu * stage_x * stage_v - 1
            by_v = self.mu * (1 - stage_x * stage_x)
            da = tuple(by_x * p + by_v * q + r for p, q, r in zip(dx, dv, (zero, zero, one)))
            slopes_x.append(dv)
            slopes_v.append(da)
            if ahead is not None:
                dx = tuple(start + ahead * slope for start, slope in zip(start_x, slopes_x[-1]))
                dv = tuple(start + ahead * slope for start, slope in zip(start_v, da))
                stage_x, stage_v = x + ahead * stage_v, v + ahead * a
        rows = [[start + h / 6 * (k1 + 2 * (k2 + k3) + k4)
                 for start, k1, k2, k3, k4 in zip(starts, *slopes)]
                for starts, slopes in ((start_x, slopes_x), (start_v, slopes_v))]
        both = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)  # [..., 2, 3]
        return both[..., :2], both[..., 2:]
