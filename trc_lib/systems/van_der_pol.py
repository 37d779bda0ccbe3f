"""The Van der Pol oscillator: the simplest system that is pushed by its own speed, and not linear."""

import torch

from trc_lib import validation
from trc_lib.systems.linear import LinearSystem
from trc_lib.systems.system import System


class VanDerPol(System):
    """x'' = mu (1 - x^2) x' - x + u, state [x, x'], one Runge-Kutta step of fourth order a control, which is held over it.

    Args:
        mu: how strongly it is damped outside of |x| = 1, and driven inside.
        dt: seconds that one step lasts.
        control_limit: the largest |u|; None for no limit.

    Source: van der Pol (1926), On relaxation-oscillations.
    """

    kind, units = "VanDerPol", ("", "", "")

    def __init__(self, mu=1.0, dt=0.05, control_limit=2.0):
        self.mu = validation.positive("mu", mu, or_zero=True)
        super().__init__(2, 1, dt, control_limit)

    def contents(self):
        limit = {} if self.control_limit is None else {"control_limit": self.control_limit}
        return {"mu": self.mu, "dt": self.dt} | limit

    def dynamics(self, state, control):
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
        return torch.stack([x + h / 6 * (v + 2 * (v2 + v3) + v4), v + h / 6 * (a1 + 2 * (a2 + a3) + a4)], dim=-1)

    def _acceleration(self, x, v, u):
        return self.mu * (1 - x * x) * v - x + u

    def jacobians(self, state, control):
        x, v = torch.broadcast_tensors(*state.unbind(-1))
        u = control[..., 0]
        x, u = torch.broadcast_tensors(x, u)
        v = v.expand_as(x)
        h, half = self.dt, self.dt / 2
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        dx, dv = (one, zero, zero), (zero, one, zero)                        # derivatives by [x, v, u] of the stage's x and v
        stage_x, stage_v, slopes_x, slopes_v = x, v, [], []
        for ahead in (half, half, h, None):
            a = self._acceleration(stage_x, stage_v, u)
            by_x, by_v = -2 * self.mu * stage_x * stage_v - 1, self.mu * (1 - stage_x * stage_x)
            da = tuple(by_x * p + by_v * q + r for p, q, r in zip(dx, dv, (zero, zero, one)))
            slopes_x.append(dv)
            slopes_v.append(da)
            if ahead is not None:
                dx, dv = (tuple(start + ahead * p for start, p in zip((one, zero, zero), slopes_x[-1])),
                          tuple(start + ahead * q for start, q in zip((zero, one, zero), da)))
                stage_x, stage_v = x + ahead * stage_v, v + ahead * a
        rows = [[start + h / 6 * (k1 + 2 * (k2 + k3) + k4) for start, k1, k2, k3, k4 in zip(starts, *slopes)]
                for starts, slopes in (((one, zero, zero), slopes_x), ((zero, one, zero), slopes_v))]
        both = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)     # [..., 2, 3]
        return both[..., :2], both[..., 2:]

    def linearised(self):
        """The `LinearSystem` that it resembles near the origin, with the same limit."""
        origin = torch.zeros(2, dtype=torch.float64)
        return LinearSystem(*self.jacobians(origin, origin[:1]), self.dt, self.control_limit)
