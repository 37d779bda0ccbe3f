"""The tiny recursive controller: it proposes controls and refines them, cycle by cycle."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

from trc_lib import checking
from trc_lib.model.config import LARGEST, TRCConfig
from trc_lib.model.learner import Learner

SMALLEST_ERROR = 1e-6  # of a proportional network, in scaled units: where float32 can no longer tell the error from zero


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
    """One refinement, step by step; everything detached, controls in physical units.

    Attributes:
        initial_state, target_state: the problems, ``[batch, state_dim]``.
        controls: before the first and after each H cycle, ``[H_cycles + 1, batch, horizon, control_dim]``.
        z_initial: the encoded problems, ``[batch, latent_dim]``.
        z_H: before the first and after each H cycle, ``[H_cycles + 1, batch, latent_dim]``.
        z_L: before the first and after each L step of each H cycle, ``[H_cycles, L_cycles + 1, batch, latent_dim]``.
    """

    initial_state: torch.Tensor
    target_state: torch.Tensor
    controls: torch.Tensor
    z_initial: torch.Tensor
    z_H: torch.Tensor
    z_L: torch.Tensor

    def one(self, i):
        """The trace of problem ``i`` alone: the same attributes without the batch dimension."""
        return Trace(self.initial_state[i], self.target_state[i], self.controls[:, i], self.z_initial[i],
                     self.z_H[:, i], self.z_L[:, :, i])


class SwiGLU(nn.Module):
    """A gated layer: down(silu(gate(x)) * value(x)). Source: Shazeer (2020), arXiv 2002.05202."""

    def __init__(self, width, hidden):
        super().__init__()
        self.gate_and_value = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        gate, value = self.gate_and_value(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)


class Block(nn.Module):
    """The one block that does all the thinking: residual layers, x <- norm(x + layer(x))."""

    def __init__(self, width, hidden, layers):
        super().__init__()
        self.layers = nn.ModuleList(SwiGLU(width, hidden) for _ in range(layers))
        self.mixed_precision = False  # the layers in bfloat16; latents, controls and roll-outs stay in float32

    def forward(self, x):
        for layer in self.layers:
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self.mixed_precision):
                update = layer(x)
            x = F.rms_norm(x + update, x.shape[-1:])
        return x


class TinyRecursiveControl(Learner):
    """Two-level recursive controller: problem in, controls out, refined over H cycles.

    Args:
        config: a `TRCConfig`.
        system: what is steered; the network simulates it where ``config.feedback`` is on.
            A `DoubleIntegrator` if not given.
        seed: of the initial weights. The global random state is left as it was.
        cost: a `QuadraticCost`; each cycle is then told how this would change with the controls (its gradient), in place of
            where they end.

    Sources: Jolicoeur-Martineau (2025), arXiv 2510.04871, for the recursion; Jain and Linares (2025),
    arXiv 2512.16824, for its use in control.
    """

    Config, kind = TRCConfig, "trc_lib.model"

    def __init__(self, config=TRCConfig(), system=None, seed=0, cost=None):
        super().__init__(config, system, seed)
        c = config
        d, sequence = c.latent_dim, c.horizon * c.control_dim
        if cost is not None:
            if not c.feedback:
                raise ValueError("cost is given, but config.feedback is False: nothing would look at it")
            checking.like("cost", cost, "a QuadraticCost", "check_fit", "gradient").check_fit(self.system)
            self.cost = cost
            self.register_buffer("slope_scale", torch.ones(sequence))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.encoder = nn.Sequential(
                nn.Linear(2 * c.state_dim + 1, c.head_hidden), nn.SiLU(),
                nn.Linear(c.head_hidden, c.head_hidden), nn.SiLU(),
                nn.Linear(c.head_hidden, d))
            self.initial_generator = nn.Sequential(nn.Linear(d, c.head_hidden), nn.SiLU(), nn.Linear(c.head_hidden, sequence))
            self.control_embedding = nn.Linear(sequence, d)
            told = c.state_dim if cost is None else sequence
            self.error_embedding = nn.Linear(told + c.proportional, d, bias=False) if c.feedback else None
            self.block = Block(d, c.block_hidden, c.block_layers)
            self.decoder = nn.Sequential(nn.Linear(d, c.head_hidden), nn.SiLU(), nn.Linear(c.head_hidden, sequence))
        with torch.no_grad():
            self.decoder[-1].weight.mul_(0.1)  # first corrections are small, so early training is calm

    @classmethod
    def create_two_level_small(cls, system=None, seed=0, cost=None, **changes):
        """About 150,000 parameters. ``changes`` are fields of `TRCConfig`."""
        return cls(TRCConfig(**{"block_hidden": 96, "head_hidden": 128} | changes), system, seed, cost)

    @classmethod
    def create_two_level_medium(cls, system=None, seed=0, cost=None, **changes):
        """About 600,000 parameters. ``changes`` are fields of `TRCConfig`."""
        return cls(TRCConfig(**changes), system, seed, cost)

    @classmethod
    def create_two_level(cls, size, system=None, seed=0, cost=None, **changes):
        """The network of a ``size``, ``"small"`` or ``"medium"``."""
        checking.one_of("size", size, ("small", "medium"))
        return (cls.create_two_level_small if size == "small" else cls.create_two_level_medium)(system, seed, cost, **changes)

    def set_scaling(self, dataset):
        """Take the sizes of states and controls from a dataset, and those of a cost's slopes from the first proposals for it."""
        super().set_scaling(dataset)
        if self.cost is not None:
            with torch.no_grad():
                problems = (dataset.initial_states.to(self.state_scale), dataset.target_states.to(self.state_scale))
                slopes = self._slopes(*problems, self.predict(*problems, 0)["controls"])       # [n, horizon * control_dim]
                self.slope_scale.copy_(slopes.square().mean(dim=0).sqrt().clamp(min=1e-6) * slopes.shape[1] ** 0.5)

    @property
    def parts(self):
        """What can be trained by itself: ``{name: modules}``."""
        proposal = (self.encoder, self.initial_generator)
        return {"all": (self,), "proposal": proposal, "cycles": tuple(m for m in self.children() if m not in proposal)}

    # ------------------------------------------------------------------ the recursion

    def encode(self, initial_state, target_state):
        """z_initial ``[batch, latent_dim]`` from [x0, xT, time remaining (s)]."""
        time = torch.full_like(initial_state[:, :1], self.config.horizon * self.system.dt)
        return self.encoder(torch.cat([initial_state / self.state_scale, target_state / self.state_scale, time], dim=-1))

    def final_error(self, initial_state, target_state, controls):
        """x_N - x_T in scaled units, ``[batch, state_dim]``: where the scaled controls would end, simulated."""
        return (self.system.predict(initial_state, self._physical(controls))[:, -1] - target_state) / self.state_scale

    def feedback(self, initial_state, target_state, controls):
        """What a cycle is told of the scaled controls it begins with: `final_error`, ``[batch, state_dim]``; or with a ``cost``
        its gradient in the controls, over that of the first proposals, ``[batch, horizon * control_dim]``."""
        if self.cost is None:
            return self.final_error(initial_state, target_state, controls)
        return self._slopes(initial_state, target_state, self._physical(controls)) / self.slope_scale

    @torch.no_grad()
    def _slopes(self, initial_state, target_state, controls):
        """The gradient of the cost in physical controls, end to end; 0 where it pushes a control against its limit."""
        states = self.system.predict(initial_state, controls)
        slopes = self.cost.gradient(self.system, states, controls, target_state)
        if self.control_limit is not None:
            slopes = slopes.masked_fill((controls.abs() >= self.control_limit) & (slopes * controls < 0), 0)
        return slopes.flatten(-2)

    def recursive_reasoning(self, initial_state, target_state, H_cycles, watch=lambda name, value: value):
        """The heart: H cycles, each of L_cycles updates of z_L, one of z_H, and one correction of the controls.

        In here the controls are scaled and laid end to end, ``[batch, horizon * control_dim]``.
        ``watch`` is shown every z_H, z_L and error, in the order in which they arise, and gives back what is
        to be used in its place: what it was shown, if it only looks on.

        Returns:
            z_initial, and the controls before the first and after each cycle, ``[H_cycles + 1, batch, ...]``.
        """
        config, full_gradient = self.config, torch.is_grad_enabled()
        z_initial = self.encode(initial_state, target_state)                     # [batch, latent_dim]
        controls = self._admissible(self.initial_generator(z_initial))           # controls_0
        z_H, z_L = watch("z_H", z_initial), torch.zeros_like(z_initial)
        all_controls = [controls]
        for h in range(H_cycles):                                                # outer cycle: strategy
            last = h == H_cycles - 1
            with torch.set_grad_enabled(full_gradient and (last or not config.last_cycle_gradient)):
                x = z_initial + self.control_embedding(controls)
                if config.feedback:
                    error = watch("error", self.feedback(initial_state, target_state, controls))
                    if config.proportional:
                        size = (error.square().sum(dim=-1, keepdim=True) + SMALLEST_ERROR**2).sqrt()
                        error = torch.cat([error / size, size.log() / 4], dim=-1)
                    x = x + self.error_embedding(error)
                if config.single_latent:
                    z_H = torch.zeros_like(z_H)                                  # z_L alone is carried on
                z_L = watch("z_L", z_L)
                for _ in range(config.L_cycles):                                 # inner cycle: details
                    z_L = watch("z_L", self.block(z_L + z_H + x))
                z_H = watch("z_H", self.block(z_H + z_L))                        # the same block
                correction = self.decoder(z_H) * size if config.proportional else self.decoder(z_H)
            controls = self._admissible(controls + correction)                   # controls_(h+1)
            all_controls.append(controls)
        return z_initial, torch.stack(all_controls)

    # ------------------------------------------------------------------ ways to call it

    def predict(self, initial_state, target_state, H_cycles=None):
        """`forward` without its checks, for the training loop: nothing here waits for the device."""
        H_cycles = self.config.H_cycles if H_cycles is None else H_cycles
        _, controls = self.recursive_reasoning(initial_state, target_state, H_cycles)
        cycle_controls = self._physical(controls)
        return {"controls": cycle_controls[-1], "cycle_controls": cycle_controls}

    @torch.no_grad()
    def trace(self, initial_state, target_state, H_cycles=None, change=lambda name, value: value):
        """The same refinement as `forward`, with everything on the way kept: a `Trace`.

        ``change(name, value)`` may put something in the place of a ``"z_H"``, ``"z_L"`` or ``"error"`` as it arises.
        """
        initial_state, target_state = self._checked(initial_state, target_state)
        H_cycles = self.config.H_cycles if H_cycles is None else checking.whole("H_cycles", H_cycles, at_most=LARGEST)
        seen = {"z_H": [], "z_L": [], "error": []}

        def watch(name, value):
            seen[name].append(change(name, value))
            return seen[name][-1]

        z_initial, controls = self.recursive_reasoning(initial_state, target_state, H_cycles, watch)
        controls = checking.result("the network's controls", self._physical(controls), "initial_state or target_state is")
        return Trace(initial_state.clone(), target_state.clone(), controls, z_initial, torch.stack(seen["z_H"]),
                     torch.stack(seen["z_L"]).unflatten(0, (H_cycles, self.config.L_cycles + 1)))
