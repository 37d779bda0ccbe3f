"""One refinement with all intermediate values."""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
    """One refinement, step by step; all values detached.

    Attributes:
        initial_state, target_state: the problems.
        controls: before the first and after each H cycle, in physical units.
        z_initial: the encoded problems.
        z_H: before the first and after each H cycle.
        z_L: before the first and after each L step of each H cycle.
        carry: z_H, z_L and the scaled controls at the end, to go on with `recursive_reasoning`.
    """

    initial_state: Float[Tensor, "*batch state_dim"]
    target_state: Float[Tensor, "*batch state_dim"]
    controls: Float[Tensor, "cycles *batch horizon control_dim"]
    z_initial: Float[Tensor, "*batch latent_dim"]
    z_H: Float[Tensor, "cycles *batch latent_dim"]
    z_L: Float[Tensor, "H_cycles steps *batch latent_dim"]
    carry: tuple

    def one(self, i: int) -> "Trace":
        """The trace of problem ``i``: the same attributes without the batch dimension."""
        return Trace(self.initial_state[i], self.target_state[i], self.controls[:, i],
                     self.z_initial[i], self.z_H[:, i], self.z_L[:, :, i],
                     tuple(value[i] for value in self.carry))

    def followed_by(self, later: "Trace") -> "Trace":
        """This refinement and a ``later`` one that went on from its carry, as one."""
        return dataclasses.replace(
            later, controls=torch.cat([self.controls, later.controls[1:]]),
            z_initial=self.z_initial, z_H=torch.cat([self.z_H, later.z_H[1:]]),
            z_L=torch.cat([self.z_L, later.z_L]))
