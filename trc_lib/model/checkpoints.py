"""Networks in files: what they are, their weights and scaling, their system and their recipe."""

import torch

from trc_lib import io, validation
from trc_lib.costs import QuadraticCost
from trc_lib.model.feedback import feedback_from
from trc_lib.rebuild import check_saveable, rebuilt
from trc_lib.systems import System, from_flat

VERSION = 4  # of the format; 2 and 3 are still read


def save(model: torch.nn.Module, path: object) -> None:
    """Write a `Learner` to ``path``, whole or not at all.

    Raises:
        TypeError, ValueError: if a weight is not finite, or the system could not be brought back.
    """
    model.check_dtype()
    weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    broken = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f"the model is not saved: {', '.join(broken)} holds NaN or infinite "
                         "values")
    check_saveable(System, model.system)
    io.save_checkpoint(path, model.kind, VERSION, model.architecture | {
        "weights": weights, "recipe": model.recipe, "system": model.system.contents()})


def load(cls: type, path: object, device: object) -> torch.nn.Module:
    """The network in ``path``, of the class ``cls`` or a subclass, in evaluation mode.

    Only tensors and plain values are read, never code.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is truncated, is not such a checkpoint, or was changed.
    """
    checkpoint = io.load_checkpoint(path, cls.kind, 2, 3, VERSION)
    try:
        if checkpoint["version"] == 2:
            checkpoint = _as_version_3(checkpoint)
        if checkpoint["version"] <= 3:
            checkpoint = _as_version_4(checkpoint)
        model = _build(cls, checkpoint)
    except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is refused: {error}") from None
    return model.to(validation.device(device)).eval()


def _build(cls, checkpoint):
    known = {each.__name__: each for each in (cls, *cls.__subclasses__())}
    system = rebuilt(System, checkpoint["system"])
    config, feedback = cls.Config(**checkpoint["config"]), {}
    if checkpoint["feedback"] is not None:
        feedback["feedback"] = feedback_from(checkpoint["feedback"], system, config.horizon)
    name = validation.one_of("class", checkpoint["class"], tuple(known))
    model = known[name](config, system, **feedback)
    model.to(checkpoint["weights"]["state_scale"].dtype)
    model.load_state_dict(checkpoint["weights"])
    model.recipe = checkpoint["recipe"]
    return model


def _as_version_4(checkpoint):
    """A checkpoint of format 3, whose system lay flat and whose time was in seconds."""
    weights = dict(checkpoint["weights"])
    if checkpoint["feedback"] is not None:
        weights["time_unit"] = torch.ones(())
    system, feedback = from_flat(checkpoint["system"]).contents(), checkpoint["feedback"]
    return checkpoint | {"system": system, "weights": weights,
                         "feedback": _with_contents_of_cost(feedback)}


def _with_contents_of_cost(feedback):
    """What a format 3 says about a feedback, with its cost as `Rebuildable.contents`."""
    if feedback and "cost" in feedback:
        return feedback | {"cost": QuadraticCost(**feedback["cost"]).contents()}
    if feedback and "inner" in feedback:
        return feedback | {"inner": _with_contents_of_cost(feedback["inner"])}
    return feedback


def _as_version_3(checkpoint):
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
