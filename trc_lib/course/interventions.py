"""Changes to one part of a trained network, to see what it does."""

import itertools

import torch

from trc_lib import validation

SWITCHES = ("unchanged", "feedback off", "z_H frozen", "z_L zero", "latents swapped")


def refine(model, x0, xT, H_cycles=None, switch="unchanged"):
    """The `Trace` of a run in which one thing is changed, by forward hooks on the network.

    Args:
        model: a `TinyRecursiveControl`.
        x0, xT: ``[batch, state_dim]``.
        H_cycles: how many cycles; those of the configuration if None.
        switch: one of `SWITCHES`. With ``"latents swapped"`` each problem continues with the
            latents of the problem at the other end of the batch, from the start of cycle 2.
    """
    validation.one_of("switch", switch, SWITCHES)
    if switch == "latents swapped":
        first = model.trace(x0, xT, 1)
        z_H, z_L, controls = first.carry
        H_cycles = model.config.H_cycles if H_cycles is None else H_cycles
        carry = z_H.flip(0), z_L.flip(0), controls
        return first.followed_by(model.trace(x0, xT, H_cycles - 1, carry))
    z_initial, calls = model.trace(x0, xT, 0).z_initial, itertools.count(1)

    def on_block(block, inputs, latent):
        updates_z_H = next(calls) % (model.config.L_cycles + 1) == 0
        if switch == "z_H frozen" and updates_z_H:
            return z_initial
        return torch.zeros_like(latent) if switch == "z_L zero" and not updates_z_H else latent

    def on_feedback(feedback, inputs, output):
        signal, gain = output
        return torch.zeros_like(signal) if switch == "feedback off" else signal, gain

    source = getattr(model.feedback, "inner", model.feedback)
    with model.block.register_forward_hook(on_block), source.register_forward_hook(on_feedback):
        return model.trace(x0, xT, H_cycles)
