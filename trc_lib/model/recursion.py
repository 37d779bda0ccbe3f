"""The tiny recursive controller: it proposes controls and refines them, cycle by cycle."""

import math
import threading

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trc_lib import validation
from trc_lib.model.config import TRCConfig
from trc_lib.model.feedback import Feedback, FinalError
from trc_lib.model.learner import Learner, sizes_of
from trc_lib.model.shapes import Carry, Latent, States
from trc_lib.model.trace import Trace


class SwiGLU(nn.Module):
    """A gated layer: down(silu(gate(x)) * value(x)). Source: Shazeer (2020), arXiv 2002.05202."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate_and_value = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Latent) -> Latent:
        gate, value = self.gate_and_value(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)


class Block(nn.Module):
    """The block that updates both latents: residual layers, x <- norm(x + layer(x))."""

    def __init__(self, width: int, hidden: int, layers: int):
        super().__init__()
        self.layers = nn.ModuleList(SwiGLU(width, hidden) for _ in range(layers))

    def forward(self, x: Latent) -> Latent:
        for layer in self.layers:
            x = F.rms_norm(x + layer(x), x.shape[-1:])
        return x


class TinyRecursiveControl(Learner):
    """Two-level recursive controller: problem in, controls out, refined over H cycles.

    Args:
        config: a `TRCConfig`.
        system: what is steered; a `DoubleIntegrator` if None.
        seed: of the initial weights. The global random state stays as it is.
        feedback: a `Feedback`, what each cycle receives about its controls; `FinalError` if None.

    Sources: Jolicoeur-Martineau (2025), arXiv 2510.04871, for the recursion; Jain and Linares
    (2025), arXiv 2512.16824, for its use in control.
    """

    Config, kind = TRCConfig, "trc_lib.model"

    def __init__(self, config: object = TRCConfig(), system: object = None, seed: object = 0,
                 feedback: object = None):
        super().__init__(config, system, seed)
        duration = config.horizon * self.system.dt
        unit = torch.tensor(10.0 ** math.floor(math.log10(duration)))  # (s): the time is 1 to 10
        self.register_buffer("time_unit", unit)
        feedback = FinalError(self.system) if feedback is None else feedback
        validation.instance("feedback", feedback, Feedback).check_fit(self.system, config.horizon)
        c, d, sequence = config, config.latent_dim, config.horizon * config.control_dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.encoder = nn.Sequential(
                nn.Linear(2 * c.state_dim + 1, c.head_hidden), nn.SiLU(),
                nn.Linear(c.head_hidden, c.head_hidden), nn.SiLU(),
                nn.Linear(c.head_hidden, d))
            self.initial_generator = nn.Sequential(
                nn.Linear(d, c.head_hidden), nn.SiLU(), nn.Linear(c.head_hidden, sequence))
            self.control_embedding = nn.Linear(sequence, d)
            self.error_embedding = feedback.embedding(d)
            self.block = Block(d, c.block_hidden, c.block_layers)
            self.decoder = nn.Sequential(
                nn.Linear(d, c.head_hidden), nn.SiLU(), nn.Linear(c.head_hidden, sequence))
        self.feedback = feedback
        with torch.no_grad():
            self.decoder[-1].weight.mul_(0.1)  # small first corrections make early training stable

    @classmethod
    def create_two_level(cls, size: object, system: object = None, seed: object = 0,
                         feedback: object = None, **changes) -> "TinyRecursiveControl":
        """The network of a ``size``, ``"small"`` or ``"medium"``.

        Args:
            size, seed, feedback: as above.
            system: gives ``state_dim`` and ``control_dim``.
            changes: to the `TRCConfig`.
        """
        sizes = {"small": {"block_hidden": 96, "head_hidden": 128}, "medium": {}}
        fields = sizes[validation.one_of("size", size, tuple(sizes))]
        return cls(TRCConfig(**fields | sizes_of(system) | changes), system, seed, feedback)

    @classmethod
    def create_two_level_small(cls, *arguments, **changes) -> "TinyRecursiveControl":
        """`create_two_level` with about 150,000 parameters."""
        return cls.create_two_level("small", *arguments, **changes)

    @classmethod
    def create_two_level_medium(cls, *arguments, **changes) -> "TinyRecursiveControl":
        """`create_two_level` with about 600,000 parameters."""
        return cls.create_two_level("medium", *arguments, **changes)

    def set_scaling(self, dataset: object) -> None:
        """Take the sizes of states, controls and feedback signals from an `LQRDataset`."""
        super().set_scaling(dataset)
        self.feedback.set_scaling(self, dataset)

    @property
    def architecture(self) -> dict:
        return super().architecture | {"feedback": self.feedback.contents()}

    @property
    def parts(self) -> dict[str, tuple[nn.Module, ...]]:
        proposal = (self.encoder, self.initial_generator)
        cycles = tuple(module for module in self.children() if module not in proposal)
        return {"all": (self,), "proposal": proposal, "cycles": cycles}

    def encode(self, initial_state: States, target_state: States) -> Latent:
        """z_initial from [x0, xT, time remaining], each in a unit in which it is of size one."""
        time = torch.full_like(initial_state[:, :1], self.config.horizon * self.system.dt)
        time = time / self.time_unit
        states = initial_state / self.state_scale, target_state / self.state_scale
        return self.encoder(torch.cat([*states, time], dim=-1))

    def propose(self, z_initial: Latent) -> Carry:
        """The carry before the first cycle: z_H, z_L and the first proposal of the controls."""
        controls = self.clamp(self.initial_generator(z_initial))
        return z_initial, torch.zeros_like(z_initial), controls

    def recursive_reasoning(self, initial_state: States, target_state: States, H_cycles: int,
                            carry: Carry | None = None
                            ) -> tuple[Float[Tensor, "cycles batch sequence"], Carry]:
        """H cycles, each of L_cycles updates of z_L, one of z_H and one correction of the controls.

        Controls are scaled here, and laid end to end: ``[batch, horizon * control_dim]``.

        Args:
            initial_state, target_state: ``[batch, state_dim]``.
            H_cycles: how many cycles.
            carry: (z_H, z_L, controls) to go on from; the encoded problem, zeros and the first
                proposal if None.

        Returns:
            the controls before the first and after each cycle, and the carry after the last.
        """
        z_initial = self.encode(initial_state, target_state)               # [batch, latent_dim]
        z_H, z_L, controls = carry or self.propose(z_initial)
        history = [controls]
        for _ in range(H_cycles):                                          # outer cycle: strategy
            x = z_initial + self.control_embedding(controls)
            signal, gain = self.feedback(initial_state, target_state, self.to_physical(controls))
            x = x + self.error_embedding(signal)
            for _ in range(self.config.L_cycles):                          # inner cycle: details
                z_L = self.block(z_L + z_H + x)
            z_H = self.block(z_H + z_L)                                    # the same block
            controls = self.clamp(controls + gain * self.decoder(z_H))
            history.append(controls)
        return torch.stack(history), (z_H, z_L, controls)

    def predict(self, initial_state: States, target_state: States, H_cycles: int | None = None
                ) -> dict[str, Tensor]:
        """`forward` without its checks: nothing here waits for the device."""
        H_cycles = self.config.H_cycles if H_cycles is None else H_cycles
        history, _ = self.recursive_reasoning(initial_state, target_state, H_cycles)
        cycle_controls = self.to_physical(history)
        return {"controls": cycle_controls[-1], "cycle_controls": cycle_controls}

    @torch.no_grad()
    def trace(self, initial_state: object, target_state: object, H_cycles: object = None,
              carry: Carry | None = None) -> Trace:
        """The same refinement as `forward`, with all intermediate values.

        Forward hooks on ``block`` and ``feedback`` can change a run; the trace shows their results.

        Args:
            initial_state, target_state, H_cycles: as in `forward`.
            carry: as in `recursive_reasoning`; that of another trace goes on where it ended.
        """
        *problem, H_cycles = self._checked(initial_state, target_state, H_cycles)
        H_cycles = self.config.H_cycles if H_cycles is None else H_cycles
        z_initial, outputs, mine = self.encode(*problem), [], threading.get_ident()
        z_H, z_L, controls = carry or self.propose(z_initial)

        def record(block, inputs, output):
            if threading.get_ident() == mine:  # another thread may run the same network meanwhile
                outputs.append(output)

        hook = self.block.register_forward_hook(record)
        try:
            history, carry = self.recursive_reasoning(*problem, H_cycles, (z_H, z_L, controls))
        finally:
            hook.remove()
        steps = torch.stack([z_L, *outputs])[1:].unflatten(0, (H_cycles, self.config.L_cycles + 1))
        before = torch.cat([z_L[None], steps[:-1, -2]]) if H_cycles else steps[:, 0]
        return Trace(*(state.clone() for state in problem), self._finite(self.to_physical(history)),
                     z_initial, torch.cat([z_H[None], steps[:, -1]]),
                     torch.cat([before[:, None], steps[:, :-1]], dim=1), carry)
