"""One refinement with everything on the way kept."""

import dataclasses

import torch


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
    """One refinement, step by step; everything detached, controls in physical units.

    Attributes:
        initial_state, target_state: the problems, ``[batch, state_dim]``.
        controls: before the first and after each H cycle, ``[H_cycles + 1, batch, horizon, control_dim]``.
        z_initial: the encoded problems, ``[batch, latent_dim]``.
        z_H: before the first and after each H cycle, ``[H_cycles + 1, batch, latent_dim]``.
        z_L: before the first and after each L step of each H cycle, ``[H_cycles, L_cycles + 1, batch, latent_dim]``.
        carry: z_H, z_L and the scaled controls at the end, from which `recursive_reasoning` can go on.
    """

    initial_state: torch.Tensor
    target_state: torch.Tensor
    controls: torch.Tensor
    z_initial: torch.Tensor
    z_H: torch.Tensor
    z_L: torch.Tensor
    carry: tuple

    def one(self, i):
        """The trace of problem ``i`` alone: the same attributes without the batch dimension."""
        return Trace(self.initial_state[i], self.target_state[i], self.controls[:, i], self.z_initial[i],
                     self.z_H[:, i], self.z_L[:, :, i], tuple(value[i] for value in self.carry))

    def followed_by(self, later):
        """This refinement and a ``later`` one that went on with the same problems, as one trace."""
        return dataclasses.replace(
            later, controls=torch.cat([self.controls, later.controls[1:]]), z_initial=self.z_initial,
            z_H=torch.cat([self.z_H, later.z_H[1:]]), z_L=torch.cat([self.z_L, later.z_L]))
