"""Variants of the recursion, each with one part changed; the loops themselves stay in `recursion`."""

import torch

from trc_lib.model.recursion import TinyRecursiveControl


class SingleLatent(TinyRecursiveControl):
    """One latent in both parts: z_H is forgotten at the start of each cycle, z_L alone is carried on."""

    def recursive_reasoning(self, initial_state, target_state, H_cycles, carry=None):
        problem = initial_state, target_state
        history, (z_H, z_L, controls) = super().recursive_reasoning(*problem, 0, carry)
        for _ in range(H_cycles):
            start = torch.zeros_like(z_H), z_L, controls
            cycle, (z_H, z_L, controls) = super().recursive_reasoning(*problem, 1, start)
            history = torch.cat([history, cycle[1:]])
        return history, (z_H, z_L, controls)


class LastCycleGradient(TinyRecursiveControl):
    """Gradients flow through the last H cycle only, as in TRM. Source: arXiv 2510.04871.

    The corrections of the earlier cycles are constants; the first proposal keeps its gradient.
    """

    def recursive_reasoning(self, initial_state, target_state, H_cycles, carry=None):
        problem = initial_state, target_state
        history, (z_H, z_L, controls) = super().recursive_reasoning(*problem, 0, carry)
        for h in range(H_cycles):
            with torch.set_grad_enabled(torch.is_grad_enabled() and h == H_cycles - 1):
                _, (z_H, z_L, after) = super().recursive_reasoning(*problem, 1, (z_H, z_L, controls))
            if h < H_cycles - 1:  # the value after this cycle, the gradient from before it
                after = after + (controls - controls.detach())
            history, controls = torch.cat([history, after[None]]), after
        return history, (z_H, z_L, controls)
