"""The networks that the studies compare, and how each is trained."""

import dataclasses
from collections.abc import Callable

import torch

from trc_lib import validation
from trc_lib.model import (
    CostGradient,
    FinalError,
    LastCycleGradient,
    Learner,
    NoFeedback,
    Proportional,
    SingleLatent,
    TinyRecursiveControl,
)
from trc_lib.model.baselines import MLP
from trc_lib.training import TrainConfig


def multiply_adds(model):
    """How many multiplications, each with its addition, the linear layers make for one problem.

    A layer counts as often as it runs. What a feedback simulates is left out: a few hundred for the
    double integrator, but most of the work where it differentiates the cost of a nonlinear system.
    """
    validation.instance("model", model, Learner)
    counted = 0

    def count(layer, inputs, output):
        nonlocal counted
        counted += layer.weight.numel() * inputs[0].shape[0]

    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        model.solve(torch.zeros(1, model.config.state_dim), torch.ones(1, model.config.state_dim))
    finally:
        for hook in hooks:
            hook.remove()
    return counted


@dataclasses.dataclass(frozen=True)
class Variant:
    """One network of a study, and its training.

    Attributes:
        name: short, for files.
        label: for tables and pictures.
        mlp: None for a recursive network; for an MLP what it shares with that network,
            ``"parameters"`` or ``"compute"``.
        sizes: fields of `TRCConfig` that differ from the network's defaults.
        network: `TinyRecursiveControl` or a subclass.
        feedback: makes the feedback from the problem's teacher; None for the final error.
        training: fields of `TrainConfig` that differ from the defaults in `train_configs`.
        before: the same of a training that comes first, with the same learning rate; or None.
    """

    name: str
    label: str
    mlp: str | None = None
    sizes: dict = dataclasses.field(default_factory=dict)
    network: type = TinyRecursiveControl
    feedback: Callable | None = None
    training: dict = dataclasses.field(default_factory=dict)
    before: dict | None = None

    def make(self, teacher, seed):
        """The untrained network."""
        system = teacher.system
        sizes = {"state_dim": system.state_dim, "control_dim": system.control_dim,
                 "horizon": teacher.horizon}
        feedback = None if self.feedback is None else self.feedback(teacher)
        model = self.network.create_two_level_small(system, seed, feedback, **sizes | self.sizes)
        if self.mlp is None:
            return model
        budget = model.num_parameters if self.mlp == "parameters" else multiply_adds(model)
        return MLP.within(budget, system, seed, **sizes)

    def train_configs(self, lr, seed):
        """One `TrainConfig` per training, in their order.

        No early stopping: on a long schedule the eval loss may stand still for many epochs.
        """
        defaults = {"epochs": 10, "patience": 1000, "cycle_weight": 0.1, "lr": lr, "seed": seed}
        trainings = [each for each in (self.before, self.training) if each is not None]
        return [TrainConfig(**defaults | training) for training in trainings]


@dataclasses.dataclass(frozen=True)
class Study:
    """Variants that are compared on one problem.

    Attributes:
        name: of its results, data/results/<name>.json.
        problem: name of one of the `PROBLEMS`, or ``module:function`` of a problem of your own.
        variants: what is compared.
        shipped: names of the variants whose network of seed 0 is in data/pretrained/laboratory.
        num_train, num_validation, num_test: problems to learn from, choose by and report on.
        run_off: how many seeds decide between the two best learning rates; 0 takes the best.
    """

    name: str
    problem: str
    variants: tuple
    shipped: tuple
    num_train: int = 10_000
    num_validation: int = 2_000
    num_test: int = 10_000
    run_off: int = 3


# Functions, since a variant is pickled on its way to a worker.
def _blind(teacher):
    return NoFeedback()


def _proportional(teacher):
    return Proportional(FinalError(teacher.system))


def _gradient(teacher):
    return CostGradient(teacher.system, teacher.quadratic_cost, teacher.horizon)


def _proportional_gradient(teacher):
    return Proportional(_gradient(teacher))


_RMS = {"objective": "rms", "cycle_weight": 1.0}
RECURSION = Study("sweep", "double_integrator", shipped=(
    "recursive", "random_depth", "single_latent", "proportional_rms"), variants=(
    Variant("recursive", "recursive, as in chapter 4"),
    Variant("mlp_parameters", "MLP, equal parameters", mlp="parameters"),
    Variant("mlp_parameters_long", "MLP, equal parameters, equal seconds", mlp="parameters",
            training={"epochs": 100}),
    Variant("mlp_compute", "MLP, equal compute", mlp="compute"),
    Variant("mlp_compute_long", "MLP, equal compute, equal seconds", mlp="compute",
            training={"epochs": 30}),
    Variant("one_H", "one H cycle", sizes={"H_cycles": 1}),
    Variant("one_L", "one L step a cycle", sizes={"L_cycles": 1}),
    Variant("single_latent", "a single latent", network=SingleLatent),
    Variant("last_gradient", "gradient of the last cycle only", network=LastCycleGradient),
    Variant("no_feedback", "no feedback", feedback=_blind),
    Variant("weight_0", "cycle weight 0", training={"cycle_weight": 0.0}),
    Variant("weight_0.01", "cycle weight 0.01", training={"cycle_weight": 0.01}),
    Variant("weight_1", "cycle weight 1", training={"cycle_weight": 1.0}),
    Variant("weight_10", "cycle weight 10", training={"cycle_weight": 10.0}),
    Variant("reward", "process reward, difference", training={"objective": "improvement"}),
    Variant("relative_reward", "process reward, ratio",
            training={"objective": "relative improvement", "cycle_weight": 1e-3}),
    Variant("random_depth", "random depth, 1 to 6", training={"most_cycles": 6}),
    Variant("rms", "root loss", training=_RMS),
    Variant("proportional", "proportional feedback", feedback=_proportional),
    Variant("proportional_rms", "proportional, root loss", feedback=_proportional, training=_RMS),
    Variant("proportional_rms_one_H", "proportional, root loss, one H cycle",
            feedback=_proportional, sizes={"H_cycles": 1}, training=_RMS),
    Variant("proportional_final", "proportional, root loss, final state", feedback=_proportional,
            training=_RMS | {"final_weight": 0.3}),
    Variant("mlp_final", "MLP, equal seconds, root loss, final state", mlp="parameters",
            training={"epochs": 100, "objective": "rms", "final_weight": 0.3}),
))

_BOUNDED = {"epochs": 30, "cycle_weight": 0.3}  # two minutes for a recursive network
BOUNDED = Study("bounded", "bounded_inputs", shipped=(
    "pretrained_proposal", "proportional", "no_feedback", "mlp_parameters"), variants=(
    Variant("pretrained_proposal", "recursive, pretrained proposal", feedback=_proportional,
            before={"part": "proposal", "epochs": 100},
            training=_RMS | {"part": "cycles", "epochs": 20}),
    Variant("proportional", "recursive, proportional feedback", feedback=_proportional,
            training=_BOUNDED),
    Variant("no_feedback", "recursive, no feedback", feedback=_blind, training=_BOUNDED),
    Variant("mlp_parameters", "MLP, equal parameters", mlp="parameters", training={"epochs": 240}),
    Variant("mlp_root", "MLP, equal parameters, then root loss", mlp="parameters",
            before={"epochs": 120}, training={"epochs": 120, "objective": "rms"}),
    Variant("mlp_compute", "MLP, equal compute", mlp="compute", training={"epochs": 80}),
))

_PROPOSAL = {"part": "proposal", "epochs": 200, "batch_size": 128}
_ROOT = {"batch_size": 256, "objective": "root cost", "cycle_weight": 1.0}
_CYCLES = _ROOT | {"part": "cycles", "epochs": 20}
VAN_DER_POL = Study("van_der_pol", "van_der_pol", num_train=4_000, num_validation=500,
                    num_test=1_000, run_off=0, shipped=(
    "gradient", "mlp_imitation", "mlp_parameters"), variants=(
    Variant("gradient", "recursive, gradient in proportion", feedback=_proportional_gradient,
            before=_PROPOSAL, training=_CYCLES),
    Variant("raw_gradient", "recursive, raw gradient", feedback=_gradient,
            before=_PROPOSAL, training=_CYCLES),
    Variant("final_error", "recursive, final error in proportion", feedback=_proportional,
            before=_PROPOSAL, training=_CYCLES),
    Variant("no_feedback", "recursive, no feedback", feedback=_blind,
            before=_PROPOSAL, training=_CYCLES),
    Variant("no_imitation", "recursive, gradient, never imitates",
            feedback=_proportional_gradient, training=_ROOT | {"epochs": 25}),
    Variant("mlp_imitation", "MLP, equal parameters, imitation alone", mlp="parameters",
            training={"batch_size": 128, "epochs": 600}),
    Variant("mlp_parameters", "MLP, equal parameters, then the cost", mlp="parameters",
            before={"batch_size": 128, "epochs": 300}, training=_ROOT | {"epochs": 35}),
    Variant("mlp_compute", "MLP, equal compute, then the cost", mlp="compute",
            before={"batch_size": 128, "epochs": 60}, training=_ROOT | {"epochs": 25}),
))

STUDIES = {study.name: study for study in (RECURSION, BOUNDED, VAN_DER_POL)}
