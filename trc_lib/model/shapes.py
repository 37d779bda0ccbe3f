"""Shapes for annotations; inside the networks controls are scaled and laid end to end."""

from jaxtyping import Float
from torch import Tensor

States = Float[Tensor, "batch state_dim"]
Controls = Float[Tensor, "batch horizon control_dim"]
Cycles = Float[Tensor, "cycles batch horizon control_dim"]  # before the first and after each cycle
Latent = Float[Tensor, "batch latent_dim"]
Sequence = Float[Tensor, "batch horizon_times_control_dim"]
Carry = tuple[Latent, Latent, Sequence]  # z_H, z_L, controls
