"""Variants of the recursion with one part changed; the loops stay in `recursion`."""

import torch
from jaxtyping import Float
from torch import Tensor

from trc_lib.model.recursion import TinyRecursiveControl
from trc_lib.model.shapes import Carry, States
from trc_lib.model.trace import Trace

Result = tuple[Float[Tensor, "cycles batch sequence"], Carry]


class SingleLatent(TinyRecursiveControl):
    """One latent instead of two: each cycle starts with z_H = 0; only z_L is carried on."""

    def recursive_reasoning(self, initial_state: States, target_state: States, H_cycles: int,
                            carry: Carry | None = None) -> Result:
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

    def recursive_reasoning(self, initial_state: States, target_state: States, H_cycles: int,
                            carry: Carry | None = None) -> Result:
        problem = initial_state, target_state
        history, (z_H, z_L, controls) = super().recursive_reasoning(*problem, 0, carry)
        for h in range(H_cycles):
            last = h == H_cycles - 1
            with torch.set_grad_enabled(torch.is_grad_enabled() and last):
                start = z_H, z_L, controls
                _, (z_H, z_L, after) = super().recursive_reasoning(*problem, 1, start)
            if not last:  # the value after this cycle, the gradient from before it
                after = after + (controls - controls.detach())
            history, controls = torch.cat([history, after[None]]), after
        return history, (z_H, z_L, controls)


class NoCarry(TinyRecursiveControl):
    """Both latents begin anew in each cycle; only the controls are carried on."""

    def recursive_reasoning(self, initial_state: States, target_state: States, H_cycles: int,
                            carry: Carry | None = None) -> Result:
        z_initial = self.encode(initial_state, target_state)
        z_H, z_L, controls = carry or self.propose(z_initial)
        history = [controls]
        for _ in range(H_cycles):
            x, gain = _told(self, z_initial, initial_state, target_state, controls)
            z_H, z_L = z_initial, torch.zeros_like(z_initial)
            for _ in range(self.config.L_cycles):
                z_L = self.block(z_L + z_H + x)
            z_H = self.block(z_H + z_L)
            controls = self.clamp(controls + gain * self.decoder(z_H))
            history.append(controls)
        return torch.stack(history), (z_H, z_L, controls)

    def trace(self, initial_state: object, target_state: object, H_cycles: object = None,
              carry: Carry | None = None) -> Trace:
        """As in `TinyRecursiveControl`, with z_L zero at the start of each cycle."""
        trace = super().trace(initial_state, target_state, H_cycles, carry)
        trace.z_L[:, 0] = 0
        return trace


class OneCall(TinyRecursiveControl):
    """No latents and no inner steps: in each cycle one call of the block, and nothing carried on.

    The latents of its carry stay as they were proposed, and it has none to `trace`.
    """

    def trace(self, initial_state: object, target_state: object, H_cycles: object = None,
              carry: Carry | None = None) -> Trace:
        """Refused: there are no latents."""
        raise ValueError("a OneCall has no latents to trace; call it as a function for the "
                         "controls of each cycle")

    def recursive_reasoning(self, initial_state: States, target_state: States, H_cycles: int,
                            carry: Carry | None = None) -> Result:
        z_initial = self.encode(initial_state, target_state)
        z_H, z_L, controls = carry or self.propose(z_initial)
        history = [controls]
        for _ in range(H_cycles):
            x, gain = _told(self, z_initial, initial_state, target_state, controls)
            controls = self.clamp(controls + gain * self.decoder(self.block(x)))
            history.append(controls)
        return torch.stack(history), (z_H, z_L, controls)


def _told(model, z_initial, initial_state, target_state, controls):
    """What a cycle receives, ``[batch, latent_dim]``, and the gain of its correction."""
    signal, gain = model.feedback(initial_state, target_state, model.to_physical(controls))
    x = z_initial + model.control_embedding(controls) + model.error_embedding(signal)
    return x, gain
