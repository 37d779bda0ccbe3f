"""What all networks have in common: scaling inside, argument checks, checkpoints."""

import dataclasses

import torch
from torch import nn

from trc_lib import io, validation
from trc_lib.model.config import LARGEST
from trc_lib.model.feedback import feedback_from
from trc_lib.systems import KINDS, DoubleIntegrator

VERSION = 3  # of the checkpoint format


def straight_through_clamp(controls, limit):
    """Clamp to plus or minus ``limit``; backward is the identity, so saturated controls still learn."""
    return controls.detach().clamp(-limit, limit) + (controls - controls.detach())


class Learner(nn.Module):
    """A network that maps problems to controls: physical units outside, scaled inside.

    A subclass names its ``Config`` and the ``kind`` of its checkpoints, makes its layers from ``self.seed``, and defines
    ``predict(initial_state, target_state, H_cycles=None)``, which gives a dict of ``"controls"`` and ``"cycle_controls"``.

    Args:
        config: a frozen dataclass with at least ``state_dim``, ``control_dim`` and ``horizon``.
        system: what is steered; a `DoubleIntegrator` if not given.
        seed: of the initial weights.
    """

    def __init__(self, config, system, seed):
        super().__init__()
        fields = [field.name for field in dataclasses.fields(self.Config)]
        self.config = validation.like("config", config, f"a {self.Config.__name__}", *fields)
        self.system = DoubleIntegrator() if system is None else validation.like("system", system, "a System", "rollout_unchecked", "dynamics")
        if (self.system.state_dim, self.system.control_dim) != (config.state_dim, config.control_dim):
            raise ValueError(f"system={self.system!r} does not fit state_dim={config.state_dim}, "
                             f"control_dim={config.control_dim}")
        self.seed = validation.whole("seed", seed, at_least=0)
        self.register_buffer("state_scale", torch.ones(config.state_dim))
        self.register_buffer("control_scale", torch.ones(config.control_dim))
        limit = self.system.control_limit
        if limit is not None:  # rounded towards zero, so that float32 stays within it, too
            rounded = limit.float()
            limit = torch.where(rounded.double() > limit, rounded.nextafter(torch.zeros_like(rounded)), rounded)
        self.register_buffer("control_limit", limit, persistent=False)
        self.recipe = {}  # what trained it: filled by training, kept in the checkpoint

    @property
    def parts(self):
        """What can be trained by itself: ``{name: modules}``."""
        return {"all": (self,)}

    @property
    def num_parameters(self):
        return sum(parameter.numel() for parameter in self.parameters())

    def set_scaling(self, dataset):
        """Take the sizes of states and controls from a dataset: one standard deviation becomes 1 inside."""
        self._check_shapes(dataset, "dataset")
        states = torch.cat([dataset.initial_states, dataset.target_states])
        self.state_scale.copy_(states.square().mean(dim=0).sqrt().clamp(min=1e-6))
        self.control_scale.copy_(dataset.controls.square().mean(dim=(0, 1)).sqrt().clamp(min=1e-6))

    def check_fit(self, dataset, name):
        """Raise an error if ``dataset``, the argument called ``name``, is none, or was made for another horizon or system."""
        self._check_shapes(dataset, name)
        if not dataset.system.same_as(self.system):
            raise ValueError(f"{name} was made for another system, {dataset.system!r}, than the model's, {self.system!r}")

    def _check_shapes(self, dataset, name):
        validation.like(name, dataset, "an LQRDataset", "initial_states", "target_states", "controls", "system")
        c, shape = self.config, tuple(dataset.controls.shape[1:])
        if shape != (c.horizon, c.control_dim) or dataset.initial_states.shape[1] != c.state_dim:
            raise ValueError(f"{name} has controls [n, {shape[0]}, {shape[1]}] for {dataset.initial_states.shape[1]} states; "
                             f"the model needs [n, {c.horizon}, {c.control_dim}] for {c.state_dim}")

    def forward(self, initial_state, target_state, H_cycles=None):
        """Controls for a batch of problems.

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
        if H_cycles is not None:
            H_cycles = validation.whole("H_cycles", H_cycles, at_least=0, at_most=LARGEST)
        answer = self.predict(initial_state, target_state, H_cycles)
        validation.result("the network's controls", answer["cycle_controls"], "initial_state or target_state is")
        return answer

    @torch.no_grad()
    def solve(self, initial_state, target_state):
        """Controls in float64 for states ``[..., state_dim]``: the network behind a teacher's interface."""
        initial_state, target_state = validation.state_pair(initial_state, target_state, self.config.state_dim)
        flat = [state.reshape(-1, self.config.state_dim) for state in (initial_state, target_state)]
        return self(*flat)["controls"].double().reshape(*initial_state.shape[:-1], self.config.horizon, self.config.control_dim)

    def to_physical(self, controls):
        """Scaled controls, laid end to end, as ``[..., horizon, control_dim]`` in physical units, within their exact limits."""
        physical = controls.unflatten(-1, (self.config.horizon, self.config.control_dim)) * self.control_scale
        return physical if self.control_limit is None else straight_through_clamp(physical, self.control_limit)

    def clamp(self, controls):
        """Scaled controls, laid end to end, clamped with 1e-6 slack; `to_physical` applies the exact limit."""
        if self.control_limit is None:
            return controls
        return straight_through_clamp(controls, (1.000001 * self.control_limit / self.control_scale).repeat(self.config.horizon))

    def _checked(self, initial_state, target_state):
        """Both states checked, in the dtype and on the device of the weights."""
        states = []
        for name, state in (("initial_state", initial_state), ("target_state", target_state)):
            state = validation.array(name, state, (None, self.config.state_dim))
            if state.ndim != 2:
                raise ValueError(f"{name} has shape {list(state.shape)}; needs [batch, {self.config.state_dim}]")
            states.append(validation.array(name, state.to(self.state_scale), (None, None)))  # finite in its new dtype, too
        if len(states[0]) != len(states[1]):
            raise ValueError(f"target_state has {len(states[1])} rows and initial_state {len(states[0])}; needs as many")
        return states

    # ------------------------------------------------------------------ checkpoints

    @property
    def architecture(self):
        """What the network is, but for its weights, as plain values and tensors."""
        return {"class": type(self).__name__, "config": dataclasses.asdict(self.config), "feedback": None}

    def save(self, path):
        """Write architecture, system, weights, scaling and recipe to ``path``, whole or not at all."""
        weights = {name: value.detach().cpu().clone() for name, value in self.state_dict().items()}
        broken = [name for name, value in weights.items() if not torch.isfinite(value).all()]
        if broken:
            raise ValueError(f"the model is not saved: {', '.join(broken)} holds NaN or infinite values")
        io.save_checkpoint(path, self.kind, VERSION, self.architecture | {
            "weights": weights, "recipe": self.recipe, "system": {"kind": self.system.kind, **self.system.contents()}})

    @classmethod
    def load(cls, path, device="cpu"):
        """Read what `save` wrote, also in its format 2; only tensors and plain values are read, never code.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is truncated, is not such a checkpoint, or was changed since it was saved.
        """
        checkpoint = io.load_checkpoint(path, cls.kind, 2, VERSION)
        try:
            model = _build(cls, _upgraded(checkpoint) if checkpoint["version"] == 2 else checkpoint)
        except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} is refused: {error}") from None
        return model.to(validation.device(device)).eval()


def _build(cls, checkpoint):
    """The network of a checkpoint: ``cls`` or a subclass of it."""
    known = {each.__name__: each for each in (cls, *cls.__subclasses__())}
    system = dict(checkpoint["system"])
    system = KINDS[validation.one_of("kind", system.pop("kind"), tuple(KINDS))](**system)
    config = cls.Config(**checkpoint["config"])
    feedback = {}
    if checkpoint["feedback"] is not None:
        feedback = {"feedback": feedback_from(checkpoint["feedback"], system, config.horizon)}
    model = known[validation.one_of("class", checkpoint["class"], tuple(known))](config, system, **feedback)
    model.to(checkpoint["weights"]["state_scale"].dtype)
    model.load_state_dict(checkpoint["weights"])
    model.recipe = checkpoint["recipe"]
    return model


def _upgraded(checkpoint):
    """A checkpoint of format 2, whose configuration had switches, as one of format 3."""
    config, weights, cost = dict(checkpoint["config"]), dict(checkpoint["weights"]), checkpoint.get("cost")
    if "feedback" not in config:
        return checkpoint | {"class": "MLP", "feedback": None}
    switches = {name: config.pop(name) for name in ("feedback", "proportional", "last_cycle_gradient", "single_latent")}
    feedback, prefix = {"kind": "NoFeedback"}, "feedback."
    if switches["feedback"]:
        feedback = {"kind": "FinalError"} if cost is None else {"kind": "CostGradient", "cost": cost}
        if switches["proportional"]:
            feedback, prefix = {"kind": "Proportional", "inner": feedback}, "feedback.inner."
        weights[f"{prefix}scale"] = weights.pop("slope_scale") if cost is not None else weights["state_scale"]
    name = ("SingleLatent" if switches["single_latent"] else
            "LastCycleGradient" if switches["last_cycle_gradient"] else "TinyRecursiveControl")
    return checkpoint | {"class": name, "config": config, "weights": weights, "feedback": feedback}
