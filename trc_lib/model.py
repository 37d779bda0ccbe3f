"""Who learns: a tiny network that proposes controls and refines them, cycle by cycle."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

from trc_lib import checking, files
from trc_lib.systems import DoubleIntegrator, LinearSystem

VERSION = 1  # of the checkpoint format


@dataclasses.dataclass(frozen=True)
class TRCConfig:
    """The sizes and switches of a `TinyRecursiveControl`; the defaults are those of the medium network.

    Attributes:
        state_dim: components of the state, n.
        control_dim: components of the control, m.
        horizon: number of control steps, N.
        latent_dim: width of z_initial, z_H and z_L.
        block_layers: residual layers in the shared block.
        block_hidden: width inside each layer of the block.
        head_hidden: width inside the encoder, the initial generator and the decoder.
        H_cycles: outer cycles, each of which corrects the controls once.
        L_cycles: inner steps in each outer cycle.
        feedback: simulate the controls before each cycle and feed the final error back.
        last_cycle_gradient: let gradients flow through the last H cycle only, as TRM does.
    """

    state_dim: int = 2
    control_dim: int = 1
    horizon: int = 15
    latent_dim: int = 128
    block_layers: int = 2
    block_hidden: int = 384
    head_hidden: int = 384
    H_cycles: int = 3
    L_cycles: int = 4
    feedback: bool = True
    last_cycle_gradient: bool = False

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int:  # a plain int, for NumPy's own would make the checkpoint unreadable
                object.__setattr__(self, field.name, checking.whole(field.name, value))
            elif not isinstance(value, bool):
                raise TypeError(f"{field.name}={value!r} is not accepted; give True or False")


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


class TinyRecursiveControl(nn.Module):
    """Two-level recursive controller: problem in, controls out, refined over H cycles.

    Args:
        config: a `TRCConfig`.
        system: what is steered; the network simulates it where ``config.feedback`` is on.
            A `DoubleIntegrator` if not given.
        seed: of the initial weights. The global random state is left as it was.

    Sources: Jolicoeur-Martineau (2025), arXiv 2510.04871, for the recursion; Jain and Linares (2025),
    arXiv 2512.16824, for its use in control.
    """

    def __init__(self, config=TRCConfig(), system=None, seed=0):
        super().__init__()
        self.config = c = config
        self.system = DoubleIntegrator() if system is None else system
        if (self.system.state_dim, self.system.control_dim) != (c.state_dim, c.control_dim):
            raise ValueError(f"system={self.system!r} does not fit state_dim={c.state_dim}, control_dim={c.control_dim}")
        self.seed = checking.whole("seed", seed, at_least=0)
        d, sequence = c.latent_dim, c.horizon * c.control_dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.encoder = nn.Sequential(
                nn.Linear(2 * c.state_dim + 1, c.head_hidden), nn.SiLU(),
                nn.Linear(c.head_hidden, c.head_hidden), nn.SiLU(),
                nn.Linear(c.head_hidden, d))
            self.initial_generator = nn.Sequential(nn.Linear(d, c.head_hidden), nn.SiLU(), nn.Linear(c.head_hidden, sequence))
            self.control_embedding = nn.Linear(sequence, d)
            self.error_embedding = nn.Linear(c.state_dim, d, bias=False) if c.feedback else None
            self.block = Block(d, c.block_hidden, c.block_layers)
            self.decoder = nn.Sequential(nn.Linear(d, c.head_hidden), nn.SiLU(), nn.Linear(c.head_hidden, sequence))
        with torch.no_grad():
            self.decoder[-1].weight.mul_(0.1)  # first corrections are small, so early training is calm
        self.register_buffer("state_scale", torch.ones(c.state_dim))
        self.register_buffer("control_scale", torch.ones(c.control_dim))
        self.recipe = {}  # what trained it: filled by training, kept in the checkpoint

    @classmethod
    def create_two_level_small(cls, system=None, seed=0, **changes):
        """About 150,000 parameters. ``changes`` are fields of `TRCConfig`."""
        return cls(TRCConfig(**{"block_hidden": 96, "head_hidden": 128} | changes), system, seed)

    @classmethod
    def create_two_level_medium(cls, system=None, seed=0, **changes):
        """About 600,000 parameters. ``changes`` are fields of `TRCConfig`."""
        return cls(TRCConfig(**changes), system, seed)

    @classmethod
    def create_two_level(cls, size, system=None, seed=0, **changes):
        """The network of a ``size``, ``"small"`` or ``"medium"``."""
        checking.one_of("size", size, ("small", "medium"))
        return (cls.create_two_level_small if size == "small" else cls.create_two_level_medium)(system, seed, **changes)

    @property
    def num_parameters(self):
        return sum(parameter.numel() for parameter in self.parameters())

    def set_scaling(self, dataset):
        """Take the sizes of states and controls from a dataset: one standard deviation becomes 1 inside."""
        states = torch.cat([dataset.initial_states, dataset.target_states])
        self.state_scale.copy_(states.square().mean(dim=0).sqrt().clamp(min=1e-6))
        self.control_scale.copy_(dataset.controls.square().mean(dim=(0, 1)).sqrt().clamp(min=1e-6))

    def check_fit(self, dataset, name):
        """Raise a ValueError if ``dataset``, the argument called ``name``, has another horizon or system than the model."""
        c, shape = self.config, tuple(dataset.controls.shape[1:])
        if shape != (c.horizon, c.control_dim) or dataset.initial_states.shape[1] != c.state_dim:
            raise ValueError(f"{name} has controls [n, {shape[0]}, {shape[1]}] for {dataset.initial_states.shape[1]} states; "
                             f"the model needs [n, {c.horizon}, {c.control_dim}] for {c.state_dim}")
        if not dataset.system.same_as(self.system):
            raise ValueError(f"{name} was made for another system, {dataset.system!r}, than the model's, {self.system!r}")

    # ------------------------------------------------------------------ the recursion

    def encode(self, initial_state, target_state):
        """z_initial ``[batch, latent_dim]`` from [x0, xT, time remaining (s)]."""
        time = torch.full_like(initial_state[:, :1], self.config.horizon * self.system.dt)
        return self.encoder(torch.cat([initial_state / self.state_scale, target_state / self.state_scale, time], dim=-1))

    def final_error(self, initial_state, target_state, controls):
        """x_N - x_T in scaled units, ``[batch, state_dim]``: where the scaled controls would end, simulated."""
        return (self.system.predict(initial_state, self._physical(controls))[:, -1] - target_state) / self.state_scale

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
        controls = self.initial_generator(z_initial)                             # controls_0
        z_H, z_L = watch("z_H", z_initial), torch.zeros_like(z_initial)
        all_controls = [controls]
        for h in range(H_cycles):                                                # outer cycle: strategy
            last = h == H_cycles - 1
            with torch.set_grad_enabled(full_gradient and (last or not config.last_cycle_gradient)):
                x = z_initial + self.control_embedding(controls)
                if config.feedback:
                    error = watch("error", self.final_error(initial_state, target_state, controls))
                    x = x + self.error_embedding(error)
                z_L = watch("z_L", z_L)
                for _ in range(config.L_cycles):                                 # inner cycle: details
                    z_L = watch("z_L", self.block(z_L + z_H + x))
                z_H = watch("z_H", self.block(z_H + z_L))                        # the same block
                correction = self.decoder(z_H)
            controls = controls + correction                                     # controls_(h+1)
            all_controls.append(controls)
        return z_initial, torch.stack(all_controls)

    # ------------------------------------------------------------------ ways to call it

    def forward(self, initial_state, target_state, H_cycles=None):
        """Propose and refine controls.

        Args:
            initial_state, target_state: ``[batch, state_dim]``, physical units.
            H_cycles: how many cycles to run; those of the configuration if not given.

        Returns:
            a dict: ``"controls"`` ``[batch, horizon, control_dim]``, and ``"cycle_controls"``
            ``[H_cycles + 1, batch, horizon, control_dim]``, those before the first and after each cycle.

        Raises:
            TypeError, ValueError: for values that are not finite floats, or shapes that do not fit.
        """
        initial_state, target_state = self._checked(initial_state, target_state)
        H_cycles = self.config.H_cycles if H_cycles is None else checking.whole("H_cycles", H_cycles, at_least=0)
        return self.predict(initial_state, target_state, H_cycles)

    def predict(self, initial_state, target_state, H_cycles):
        """`forward` without its checks, for the training loop: nothing here waits for the device."""
        _, controls = self.recursive_reasoning(initial_state, target_state, H_cycles)
        cycle_controls = self._physical(controls)
        return {"controls": cycle_controls[-1], "cycle_controls": cycle_controls}

    @torch.no_grad()
    def trace(self, initial_state, target_state, H_cycles=None, change=lambda name, value: value):
        """The same refinement as `forward`, with everything on the way kept: a `Trace`.

        ``change(name, value)`` may put something in the place of a ``"z_H"``, ``"z_L"`` or ``"error"`` as it arises.
        """
        initial_state, target_state = self._checked(initial_state, target_state)
        H_cycles = self.config.H_cycles if H_cycles is None else checking.whole("H_cycles", H_cycles, at_least=1)
        seen = {"z_H": [], "z_L": [], "error": []}

        def watch(name, value):
            seen[name].append(change(name, value))
            return seen[name][-1]

        z_initial, controls = self.recursive_reasoning(initial_state, target_state, H_cycles, watch)
        return Trace(initial_state.clone(), target_state.clone(), self._physical(controls), z_initial, torch.stack(seen["z_H"]),
                     torch.stack(seen["z_L"]).unflatten(0, (H_cycles, self.config.L_cycles + 1)))

    @torch.no_grad()
    def solve(self, initial_state, target_state):
        """Controls in float64 for states ``[..., state_dim]``: the network behind a teacher's interface."""
        initial_state, target_state = checking.state_pair(initial_state, target_state, self.config.state_dim)
        flat = [state.reshape(-1, self.config.state_dim) for state in (initial_state, target_state)]
        return self(*flat)["controls"].double().reshape(*initial_state.shape[:-1], self.config.horizon, self.config.control_dim)

    def _physical(self, controls):
        return controls.unflatten(-1, (self.config.horizon, self.config.control_dim)) * self.control_scale

    def _checked(self, initial_state, target_state):
        """Both states checked, in the dtype and on the device of the weights."""
        states = []
        for name, state in (("initial_state", initial_state), ("target_state", target_state)):
            state = checking.array(name, state, (None, self.config.state_dim))
            if state.ndim != 2:
                raise ValueError(f"{name} has shape {list(state.shape)}; needs [batch, {self.config.state_dim}]")
            states.append(checking.array(name, state.to(self.state_scale), (None, None)))  # finite in its new dtype, too
        if len(states[0]) != len(states[1]):
            raise ValueError(f"target_state has {len(states[1])} rows and initial_state {len(states[0])}; needs as many")
        return states

    # ------------------------------------------------------------------ checkpoints

    def save(self, path):
        """Write configuration, system, weights, scaling and recipe to ``path``, whole or not at all."""
        weights = {name: value.detach().cpu().clone() for name, value in self.state_dict().items()}
        broken = [name for name, value in weights.items() if not torch.isfinite(value).all()]
        if broken:
            raise ValueError(f"the model is not saved: {', '.join(broken)} holds NaN or infinite values")
        files.save_checkpoint(path, "trc_lib.model", VERSION, {
            "config": dataclasses.asdict(self.config), "weights": weights, "recipe": self.recipe,
            "system": {"A": self.system.A, "B": self.system.B, "dt": self.system.dt}})

    @classmethod
    def load(cls, path, device="cpu"):
        """Read what `save` wrote; only tensors and plain values are read, never code.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is truncated, is not such a checkpoint, or was changed since it was saved.
        """
        checkpoint = files.load_checkpoint(path, "trc_lib.model", VERSION)
        try:
            system = LinearSystem(checkpoint["system"]["A"], checkpoint["system"]["B"], checkpoint["system"]["dt"])
            model = cls(TRCConfig(**checkpoint["config"]), system)
            model.load_state_dict(checkpoint["weights"])
            model.recipe = checkpoint["recipe"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} is refused: {error}") from None
        return model.to(checking.device(device)).eval()
