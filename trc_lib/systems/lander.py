"""A rocket that lands: three dimensions, a mass that shrinks, a thrust between two lengths."""

import dataclasses
import math

import torch
from jaxtyping import Float
from torch import Tensor

from trc_lib import validation
from trc_lib.rebuild import Rebuildable
from trc_lib.systems.system import Control, Controls, State, System
from trc_lib.validation import Number

R, V, M = slice(0, 3), slice(3, 6), 6  # of a state: position, velocity, mass
T, H = slice(0, 3), 3                  # of a control: thrust, duration
LABELS = ("downrange (m)", "crossrange (m)", "altitude (m)", "speed downrange (m/s)",
          "speed crossrange (m/s)", "speed upwards (m/s)", "mass (kg)",
          "thrust downrange (N)", "thrust crossrange (N)", "thrust upwards (N)", "duration (s)")
EMPTY = 0.1      # of the dry mass: no less is left, whatever is burnt; such flights are unsafe
ROUNDING = 1e-6  # of a limit: how far inside thrusts are put, so that float32 keeps them there


@dataclasses.dataclass(frozen=True)
class Craft(Rebuildable):
    """A lander, its planet and the limits of its flight. SI units, angles in degrees.

    Attributes:
        gravity: of the planet, m/s^2, downwards.
        dry_mass: kg without fuel.
        least_thrust, most_thrust: N, of all engines together along their axis. They burn all the
            time.
        burn_rate: kg/s of fuel for each newton of that thrust.
        glide_slope: least elevation of the lander, as seen from the target; None if it may be
            anywhere, even below the ground.
        pointing: largest angle between thrust and vertical.
        most_speed: m/s; None for no limit.

    Raises:
        TypeError, ValueError: for values that are not accepted.

    Source: the defaults are the lander of Acikmese and Ploen (2007), six engines of 3,100 N at 30
    to 80 % with a cant angle of 27 degrees and a specific impulse of 225 s.
    """

    gravity: Number = 3.7114
    dry_mass: Number = 1505.0
    least_thrust: Number = 6 * 0.3 * 3100 * math.cos(math.radians(27))
    most_thrust: Number = 6 * 0.8 * 3100 * math.cos(math.radians(27))
    burn_rate: Number = 1 / (225 * 9.807 * math.cos(math.radians(27)))
    glide_slope: object = None
    pointing: Number = 180.0
    most_speed: object = None

    def __post_init__(self):
        for name in ("gravity", "dry_mass", "least_thrust", "most_thrust", "burn_rate"):
            validation.positive(name, getattr(self, name))
        if not self.least_thrust < self.most_thrust:
            raise ValueError(f"least_thrust={self.least_thrust} is not accepted; needs less than "
                             f"most_thrust={self.most_thrust}")
        if self.glide_slope is not None:
            _angle("glide_slope", self.glide_slope, 89)  # at 90 only the vertical would be left
        _angle("pointing", self.pointing, 180)
        if self.most_speed is not None:
            validation.positive("most_speed", self.most_speed)


def _angle(name, angle, most):
    if not validation.positive(name, angle, or_zero=True) <= most:
        raise ValueError(f"{name}={angle!r} is not accepted; needs degrees from 0 to {most}")


class Lander(System):
    """A point mass on a rocket's thrust; the target is the origin.

    The state is position (downrange, crossrange, altitude, m), velocity (m/s) and mass (kg). A
    control is a thrust (N), which is held, and how long it is held (s): all steps of a flight last
    equally long, and how long is for the pilot to choose. A step is one Runge-Kutta step of fourth
    order; the mass falls by ``burn_rate`` |T| a second.

    Args:
        craft: a `Craft`.
    """

    def __init__(self, craft: object = Craft()):
        self.craft = validation.instance("craft", craft, Craft)
        self._empty = EMPTY * craft.dry_mass
        super().__init__(7, 4, 1.0, labels=LABELS)

    def parameters(self) -> dict:
        return {"craft": self.craft}

    def dynamics(self, state: State, control: Control) -> State:
        v, thrust, h, empty = state[..., V], control[..., T], control[..., H:], self._empty
        mass = state[..., M:].clamp(min=2 * empty)
        burnt = (self.craft.burn_rate * lengths(thrust) * h).minimum(mass - empty)
        before, between, after = thrust / mass, thrust / (mass - burnt / 2), thrust / (mass - burnt)
        down = torch.zeros_like(v)
        down[..., 2] = self.craft.gravity
        r = state[..., R] + h * v + h * h * ((before + 2 * between) / 6 - down / 2)
        v = v + h * ((before + 4 * between + after) / 6 - down)
        return torch.cat([r, v, mass - burnt], dim=-1)

    def fuel(self, controls: Controls) -> Float[Tensor, "*batch"]:
        """Kilograms that controls burn, ``[...]``."""
        burnt = lengths(controls[..., T]) * controls[..., H:]
        return self.craft.burn_rate * burnt.sum(dim=(-2, -1))

    def within(self, controls: Controls) -> Controls:
        """Thrusts between their lengths and near enough to the vertical, and equal durations.

        Together they last at most as long as the least thrust takes to burn the dry mass.
        """
        craft, thrust = self.craft, controls[..., T]
        up = torch.zeros_like(thrust)
        up[..., 2] = 1
        nothing = (thrust == 0).all(dim=-1, keepdim=True)
        thrust = torch.where(nothing, up * craft.least_thrust, thrust)
        if craft.pointing < 180:
            thrust = self._pointed(thrust, up)
        size = lengths(thrust)
        low, high = craft.least_thrust * (1 + ROUNDING), craft.most_thrust * (1 - ROUNDING)
        thrust = thrust * (size.clamp(low, high) / size)
        longest = craft.dry_mass / (craft.burn_rate * craft.least_thrust * controls.shape[-2])
        duration = controls[..., H:].mean(dim=-2, keepdim=True).clamp(1e-6 * longest, longest)
        return torch.cat([thrust, duration.expand_as(controls[..., H:])], dim=-1)

    def _pointed(self, thrust, up):
        """Thrusts turned towards the vertical as far as their largest angle to it asks."""
        widest = math.radians(self.craft.pointing) * (1 - ROUNDING)
        size, height = lengths(thrust), thrust[..., 2:]
        side = thrust - height * up
        away = lengths(side)
        wide = torch.atan2(away, height) > widest
        downrange = torch.zeros_like(up)
        downrange[..., 0] = 1
        side = torch.where((side == 0).all(dim=-1, keepdim=True), downrange, side / away)
        turned = size * (math.cos(widest) * up + math.sin(widest) * side)
        return torch.where(wide, turned, thrust)


def lengths(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 1"]:
    """The lengths of vectors; the slope is finite at zero."""
    return vectors.square().sum(dim=-1, keepdim=True).clamp(min=1e-30).sqrt()
