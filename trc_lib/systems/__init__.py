"""What is steered: discrete-time systems with their dynamics, roll-outs and Jacobians.

Shapes: states ``[..., horizon + 1, state_dim]``, controls ``[..., horizon, control_dim]``.
"""

from trc_lib.systems.linear import DoubleIntegrator, LinearSystem
from trc_lib.systems.system import System
from trc_lib.systems.van_der_pol import VanDerPol

SUCCESS = 0.1  # a problem counts as solved if |x_N - x_T| is below this; it mixes m and m/s

KINDS = {system.kind: system for system in (LinearSystem, VanDerPol)}

__all__ = ["KINDS", "SUCCESS", "DoubleIntegrator", "LinearSystem", "System", "VanDerPol"]
