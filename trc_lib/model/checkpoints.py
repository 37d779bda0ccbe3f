"""Networks in files: what they are, their weights and scaling, their system and their recipe."""

import torch

from trc_lib import io, validation
from trc_lib.model.feedback import feedback_from
from trc_lib.systems import KINDS

VERSION = 3  # of the format; 2 is still read


def save(model: torch.nn.Module, path: object) -> None:
    """Write a `Learner` to ``path``, whole or not at all.

    Raises:
        ValueError: if a weight is not finite.
    """
    weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    broken = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f"the model is not saved: {', '.join(broken)} holds NaN or infinite "
                         "values")
    io.save_checkpoint(path, model.kind, VERSION, model.architecture | {
        "weights": weights, "recipe": model.recipe,
        "system": {"kind": model.system.kind, **model.system.contents()}})


def load(cls: type, path: object, device: object) -> torch.nn.Module:
    """The network in ``path``, of the class ``cls`` or a subclass, in evaluation mode.

    Only tensors and plain values are read, never code.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is truncated, is not such a checkpoint, or was changed.
    """
    checkpoint = io.load_checkpoint(path, cls.kind, 2, VERSION)
    try:
        model = _build(cls, _upgraded(checkpoint) if checkpoint["version"] == 2 else checkpoint)
    except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is refused: {error}") from None
    return model.to(validation.device(device)).eval()


def _build(cls, checkpoint):
    known = {each.__name__: each for each in (cls, *cls.__subclasses__())}
    system = dict(checkpoint["system"])
    system = KINDS[validation.one_of("kind", system.pop("kind"), tuple(KINDS))](**system)
    config, feedback = cls.Config(**checkpoint["config"]), {}
    if checkpoint["feedback"] is not None:
        feedback["feedback"] = feedback_from(checkpoint["feedback"], system, config.horizon)
    name = validation.one_of("class", checkpoint["class"], tuple(known))
    model = known[name](config, system, **feedback)
    model.to(checkpoint["weights"]["state_scale"].dtype)
    model.load_state_dict(checkpoint["weights"])
    model.recipe = checkpoint["recipe"]
    return model


def _upgraded(checkpoint):
    """A checkpoint of format 2, whose configuration had switches, as one of format 3."""
    config, weights = dict(checkpoint["config"]), dict(checkpoint["weights"])
    if "feedback" not in config:
        return checkpoint | {"class": "MLP", "feedback": None}
    switch = {name: config.pop(name, False) for name in (  # the oldest files lack some
        "feedback", "proportional", "last_cycle_gradient", "single_latent")}
    feedback, cost = {"kind": "NoFeedback"}, checkpoint.get("cost")
    if switch["feedback"]:
        feedback = {"kind": "FinalError"}
        weights["feedback.scale"] = weights["state_scale"]
        if cost is not None:
            feedback = {"kind": "CostGradient", "cost": cost}
            weights["feedback.scale"] = weights.pop("slope_scale")
        if switch["proportional"]:
            feedback = {"kind": "Proportional", "inner": feedback}
            weights["feedback.inner.scale"] = weights.pop("feedback.scale")
    name = ("SingleLatent" if switch["single_latent"] else "LastCycleGradient"
            if switch["last_cycle_gradient"] else "TinyRecursiveControl")
    return checkpoint | {"class": name, "config": config, "weights": weights, "feedback": feedback}
