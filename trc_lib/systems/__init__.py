"""What is steered: discrete-time systems with their dynamics, roll-outs and Jacobians.

Shapes: states ``[..., horizon + 1, state_dim]``, controls ``[..., horizon, control_dim]``.
"""

from trc_lib.systems.lander import Craft, Lander
from trc_lib.systems.linear import DoubleIntegrator, LinearSystem
from trc_lib.systems.system import System
from trc_lib.systems.van_der_pol import VanDerPol

SUCCESS = 0.1  # a problem counts as solved if |x_N - x_T| is below this; it mixes m and m/s


def from_flat(contents: dict) -> System:
    """The system in a file of an older format: its kind and its parameters, side by side."""
    cls = {"LinearSystem": LinearSystem, "VanDerPol": VanDerPol}[contents["kind"]]
    system = cls(**{name: value for name, value in contents.items() if name != "kind"})
    cart = DoubleIntegrator(system.dt, system.control_limit)
    return cart if system.same_as(cart) else system


__all__ = ["SUCCESS", "Craft", "DoubleIntegrator", "Lander", "LinearSystem", "System", "VanDerPol",
           "from_flat"]
