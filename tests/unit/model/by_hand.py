"""The recursion written out by hand, and the variants that it is compared on."""

import pytest
import torch

from trc_lib.model import (
    FinalError,
    LastCycleGradient,
    NoFeedback,
    Proportional,
    SingleLatent,
)
from trc_lib.training import imitation_loss

SMALL = {"latent_dim": 16, "block_hidden": 16, "head_hidden": 16}
VARIANTS = {
    "recursive": {},
    "no feedback": {"feedback": NoFeedback},
    "last gradient": {"network": LastCycleGradient},
    "no feedback, last gradient": {"feedback": NoFeedback, "network": LastCycleGradient},
    "proportional": {"feedback": lambda system: Proportional(FinalError(system))},
    "single latent": {"network": SingleLatent},
}
each_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))


def refined_by_hand(model, x0, xT, first_gradient_cycle=0):
    """The controls after every cycle, from the weights alone, with plain loops.

    Cycles before ``first_gradient_cycle`` run without gradient.
    """
    w, c = dict(model.named_parameters()), model.config

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)

    def silu(x):
        return x / (1 + torch.exp(-x))

    def block(x):
        for i in range(c.block_layers):
            both = linear(f"block.layers.{i}.gate_and_value", x)
            gate, value = both.split(c.block_hidden, dim=-1)
            x = x + linear(f"block.layers.{i}.down", silu(gate) * value)
            x = x / (x.square().mean(dim=-1, keepdim=True) + torch.finfo(x.dtype).eps).sqrt()
        return x

    def final_state(u):
        A, B, x = model.system.A.to(x0), model.system.B.to(x0), x0
        for k in range(c.horizon):
            x = x @ A.T + u[:, k] @ B.T
        return x

    def physical(controls):
        return controls.reshape(-1, c.horizon, c.control_dim) * model.control_scale

    seconds = float(f"{c.horizon * model.system.dt:.15e}".split("e")[0])  # 1 to 10
    time = torch.full((len(x0), 1), seconds, dtype=x0.dtype)
    x = torch.cat([x0 / model.state_scale, xT / model.state_scale, time], dim=1)
    z_initial = linear("encoder.4", silu(linear("encoder.2", silu(linear("encoder.0", x)))))
    controls = linear("initial_generator.2", silu(linear("initial_generator.0", z_initial)))
    z_H, z_L, all_controls = z_initial, torch.zeros_like(z_initial), [physical(controls)]
    for h in range(c.H_cycles):
        with torch.set_grad_enabled(h >= first_gradient_cycle):
            x = z_initial + linear("control_embedding", controls)
            size = 1
            if not isinstance(model.feedback, NoFeedback):
                error = (final_state(physical(controls)) - xT) / model.state_scale
                if isinstance(model.feedback, Proportional):
                    size = ((error ** 2).sum(dim=1, keepdim=True) + 1e-12) ** 0.5
                    error = torch.cat([error / size, torch.log(size) / 4], dim=1)
                x = x + linear("error_embedding", error)
            if isinstance(model, SingleLatent):
                z_H = z_H * 0
            for _ in range(c.L_cycles):
                z_L = block(z_L + z_H + x)
            z_H = block(z_H + z_L)
            correction = size * linear("decoder.2", silu(linear("decoder.0", z_H)))
        controls = controls + correction
        all_controls.append(physical(controls))
    return torch.stack(all_controls)


def gradients(model, cycle_controls, optimal_controls, cycle_weight=0.0):
    model.zero_grad()
    imitation_loss(cycle_controls, optimal_controls, cycle_weight)[0].backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
