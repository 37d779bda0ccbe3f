"""Systems with other sizes, units, limits and magnitudes than the cart's, and networks for them."""

import torch

from trc_lib.model import TinyRecursiveControl
from trc_lib.systems import DoubleIntegrator, LinearSystem, System
from trc_lib.teachers import MinimumEnergyController, Teacher


class Pendulum(System):
    """Upright at angle 0, with a bounded torque."""

    def __init__(self, dt=0.05):
        super().__init__(2, 1, dt, 3.0, ("angle (rad)", "speed (rad/s)", "torque (N m)"))

    def dynamics(self, state, control):
        angle, speed = state.unbind(-1)
        speed = speed + self.dt * (9.81 * torch.sin(angle) + control[..., 0])
        return torch.stack([angle + self.dt * speed, speed], dim=-1)


class Quadrotor(System):
    """In a plane, with two thrusts of 0 to 10 N."""

    def __init__(self, dt=0.05):
        names = ("x (m)", "z (m)", "tilt (rad)", "vx (m/s)", "vz (m/s)", "rate (rad/s)")
        super().__init__(6, 2, dt, [[0.0, 10.0], [0.0, 10.0]],
                         (*names, "left thrust (N)", "right thrust (N)"))

    def dynamics(self, state, control):
        x, z, tilt, vx, vz, rate = state.unbind(-1)
        left, right = control.unbind(-1)
        vx = vx - self.dt * (left + right) * torch.sin(tilt)
        vz = vz + self.dt * ((left + right) * torch.cos(tilt) - 9.81)
        rate = rate + self.dt * 2 * (right - left)
        return torch.stack([x + self.dt * vx, z + self.dt * vz, tilt + self.dt * rate, vx, vz,
                            rate], dim=-1)


class Guess(Teacher):
    """Not optimal; has no answer where the first component of the start is in its last tenth."""

    def __init__(self, system, horizon, middle, last):
        self.middle, self.last = middle, last
        super().__init__(system, horizon)

    def try_solve(self, initial_state, target_state):
        x0, xT = (torch.as_tensor(state, dtype=torch.float64)
                  for state in (initial_state, target_state))
        m = self.system.control_dim
        turn = torch.cos(torch.linspace(0, 3, self.horizon)).double()
        share = torch.arange(1, m + 1) * (xT - x0)[..., :1]
        controls = self.middle + turn[:, None] * share[..., None, :]
        controls = controls.clamp(*self.system.bounds)
        solved = x0[..., 0] < self.last
        return controls.where(solved[..., None, None], torch.nan), solved


def _scaled_cart(scale, unit):
    """The cart in other units: states and controls are ``scale`` times the numbers."""
    cart = DoubleIntegrator()
    names = tuple(f"{name} ({unit})" for name in ("height", "climb", "push"))
    return MinimumEnergyController(LinearSystem(cart.A, cart.B, cart.dt, labels=names)), 2.5 * scale


def _room():
    """The temperature of a room, which a heater can only raise."""
    system = LinearSystem([[1.0]], [[0.01]], 60.0, [[0.0, float("inf")]],
                          ("temperature (K)", "heating (W)"))
    return Guess(system, 10, 50.0, 299.0), [[290.0, 300.0]]


CASES = {"pendulum": lambda: (Guess(Pendulum(), 20, 0.0, 0.36), [0.4, 1.0]),
         "quadrotor": lambda: (Guess(Quadrotor(), 12, 5.0, 0.9), [1.0, 1.0, 0.2, 0.5, 0.5, 0.2]),
         "room": _room, "large": lambda: _scaled_cart(1e3, "mm"),
         "small": lambda: _scaled_cart(1e-3, "km")}


def network(teacher, data=None):
    """A small network, with the scales of a dataset."""
    model = TinyRecursiveControl.create_two_level_small(
        teacher.system, horizon=teacher.horizon, block_hidden=16, head_hidden=16, latent_dim=16)
    if data is not None:
        model.set_scaling(data)
    return model
