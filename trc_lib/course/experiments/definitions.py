"""The networks that the studies compare, and how each is trained.

The plan of each study is written here before it runs: who takes part, with what information and
what budget, which figure decides, and on which seeds learning rates are chosen.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import torch

from trc_lib import validation
from trc_lib.course.experiments import corrections, landing
from trc_lib.model import (
    CostGradient,
    FinalError,
    LastCycleGradient,
    Learner,
    NoCarry,
    NoFeedback,
    OneCall,
    Proportional,
    SingleLatent,
    TinyRecursiveControl,
)
from trc_lib.model.baselines import MLP, Corrector, LearnedGain
from trc_lib.training import TrainConfig

ROUNDING = 1e-12  # of a cost gap: no plan counts as better than the teacher's
FIGURES = {  # those that may decide, from the `Metrics` as a dict; the smaller is better
    "control_mse": lambda metrics: metrics["control_mse"],
    "final_error": lambda metrics: metrics["final_error_mean"],
    "cost_gap": lambda metrics: max(metrics["cost_ratio"] - 1, ROUNDING),
    "rejected": lambda metrics: metrics["rejected"]}
DEFAULTS = {"epochs": 10, "patience": 1000, "cycle_weight": 0.1}  # no early stopping


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
        network: makes the untrained network from a teacher and a seed. Several workers need it to
            be importable: a function of a module, not of a notebook.
        trainings: one after the other, each the fields of `TrainConfig` that differ from
            `DEFAULTS`. All have the learning rate that is tuned, but for those that name one.
        lessons: makes of the training set the dataset that is learned from; None for the set.
    """

    name: str
    label: str
    network: Callable
    trainings: tuple = ({},)
    lessons: Callable | None = None

    def train_configs(self, lr, seed):
        """One `TrainConfig` per training, in their order."""
        return [TrainConfig(**DEFAULTS | {"lr": lr, "seed": seed} | training)
                for training in self.trainings]


@dataclasses.dataclass(frozen=True)
class Study:
    """Variants that are compared on one problem.

    Attributes:
        name: of its results, data/results/<name>.json.
        problem: name of one of the `PROBLEMS`, or ``module:function`` of a problem of your own.
        figure: the figure that decides, one of `FIGURES`: learning rates are chosen by it, on the
            validation problems, and verdicts are given by it, on the test problems.
        variants: what is compared.
        shipped: names of the variants whose network of seed 0 is in data/pretrained/laboratory.
        corrections: what is measured beside them, without any training: see `Correction`.
        judge: gives further figures of controls from a dataset, the controls, and how many
            ``iterations`` of a correction they get first: its own default for networks, none for
            the points of the front, which have corrections of their own. None for no figures.
        num_train, num_validation, num_test: problems to learn from, choose by and report on.
    """

    name: str
    problem: str
    figure: str
    variants: tuple
    shipped: tuple = ()
    corrections: tuple = ()
    judge: Callable | None = None
    num_train: int = 10_000
    num_validation: int = 2_000
    num_test: int = 10_000

    def __post_init__(self):
        validation.one_of("figure", self.figure, tuple(FIGURES))


# ---------------------------------------------------------------- networks

def final_error(teacher):
    """Feedback: the terminal error of the controls."""
    return FinalError(teacher.system)


def proportional(teacher):
    """Feedback: the same, and corrections in proportion to it."""
    return Proportional(FinalError(teacher.system))


def landing_error(teacher):
    """Feedback: the final error of a `Lander`, without the mass."""
    return FinalError(teacher.system, range(6))


def proportional_landing_error(teacher):
    """Feedback: the same, and corrections in proportion to it."""
    return Proportional(landing_error(teacher))


def cost_gradient(teacher):
    """Feedback: the gradient of the teacher's `QuadraticCost`."""
    return CostGradient(teacher.system, teacher.quadratic_cost, teacher.horizon)


def proportional_gradient(teacher):
    """Feedback: the same, and corrections in proportion to it."""
    return Proportional(cost_gradient(teacher))


def blind(teacher):
    """Feedback: none."""
    return NoFeedback()


def recursive(teacher, seed, feedback=final_error, network=TinyRecursiveControl, **sizes):
    """A small recursive network, or one with a part changed."""
    return network.create_two_level_small(teacher.system, seed, feedback(teacher),
                                          horizon=teacher.horizon, **sizes)


def mlp(teacher, seed):
    """An MLP with as many parameters as the recursive network."""
    numbers = recursive(teacher, seed).num_parameters
    return MLP.within(numbers, teacher.system, seed, horizon=teacher.horizon)


def corrector(teacher, seed, feedback=proportional, networks=1):
    """Plain MLPs that look and correct, with as many parameters as the recursive network."""
    numbers = recursive(teacher, seed, feedback).num_parameters
    return Corrector.within(numbers, teacher.system, seed, feedback(teacher),
                            horizon=teacher.horizon, networks=networks)


def learned_gain(teacher, seed, feedback=final_error):
    """An MLP and a learned matrix for corrections, together as large as the recursive network."""
    numbers = recursive(teacher, seed, feedback).num_parameters
    return LearnedGain.within(numbers, teacher.system, seed, feedback(teacher),
                              horizon=teacher.horizon)


# ---------------------------------------------------------------- chapters 6 and 7

_ROOT = {"objective": "rms", "cycle_weight": 1.0}
_LOOKING = partial(recursive, feedback=proportional)

RECURSION = Study(
    "sweep", "double_integrator", "control_mse",
    shipped=("recursive", "proportional_root", "corrector"),
    corrections=corrections.of_the_cart("mlp_parameters", "corrector", "proportional_root"),
    variants=(
        # Chapter 6. Everybody has about 24 seconds of one core.
        Variant("recursive", "recursive, as in chapter 4", recursive),
        Variant("no_feedback", "recursive, no feedback", partial(recursive, feedback=blind)),
        Variant("mlp_parameters", "MLP, equal parameters", mlp, ({"epochs": 70},)),
        Variant("one_H", "one H cycle", partial(recursive, H_cycles=1), ({"epochs": 23},)),
        Variant("last_gradient", "gradient of the last cycle only",
                partial(recursive, network=LastCycleGradient), ({"epochs": 15},)),
        Variant("reward", "process reward, difference", recursive,
                ({"objective": "improvement"},)),
        # Chapter 7: feedback x loss, and the recursion taken apart.
        Variant("root", "recursive, root loss", recursive, (_ROOT,)),
        Variant("proportional", "recursive, error-scaled", _LOOKING),
        Variant("proportional_root", "recursive, error-scaled, root loss", _LOOKING, (_ROOT,)),
        Variant("one_L", "one L step", partial(_LOOKING, L_cycles=1),
                (_ROOT | {"epochs": 16},)),
        Variant("single_latent", "one latent", partial(_LOOKING, network=SingleLatent), (_ROOT,)),
        Variant("no_carry", "no latents carried on", partial(_LOOKING, network=NoCarry),
                (_ROOT,)),
        Variant("one_call", "one call of the block", partial(_LOOKING, network=OneCall),
                (_ROOT | {"epochs": 23},)),
        Variant("corrector", "plain corrector, shared", corrector,
                (_ROOT | {"epochs": 32},)),
        Variant("corrector_unshared", "plain corrector, one a cycle",
                partial(corrector, networks=3), (_ROOT | {"epochs": 34},)),
        Variant("learned_gain", "MLP + learned gain", learned_gain, (_ROOT | {"epochs": 40},)),
    ))

# ---------------------------------------------------------------- chapter 8

# Everybody has 20 to 30 seconds of one core.
_BOUNDED_PROPOSAL = {"part": "proposal", "epochs": 25}
_BOUNDED_CYCLES = {"part": "cycles", "epochs": 5}
_BOUNDED_TOGETHER = {"epochs": 8}

BOUNDED = Study(
    "bounded", "bounded_inputs", "control_mse",
    shipped=("pretrained_mse", "mlp_parameters"),
    corrections=corrections.of_bounded_inputs("mlp_parameters", "one_call"),
    variants=(
        # order x loss
        Variant("pretrained_root", "recursive, proposes first, root loss", _LOOKING,
                (_BOUNDED_PROPOSAL, _ROOT | _BOUNDED_CYCLES)),
        Variant("pretrained_mse", "recursive, proposes first", _LOOKING,
                (_BOUNDED_PROPOSAL, {"cycle_weight": 1.0} | _BOUNDED_CYCLES)),
        Variant("together_root", "recursive, all at once, root loss", _LOOKING,
                (_ROOT | _BOUNDED_TOGETHER,)),
        Variant("together_mse", "recursive, all at once", _LOOKING,
                ({"cycle_weight": 1.0} | _BOUNDED_TOGETHER,)),
        Variant("one_call", "proposes first, one call of the block",
                partial(_LOOKING, network=OneCall),
                (_BOUNDED_PROPOSAL, _ROOT | {"part": "cycles", "epochs": 13})),
        Variant("learned_gain", "MLP + learned gain, proposes first", learned_gain,
                (_BOUNDED_PROPOSAL | {"epochs": 40}, _ROOT | {"part": "cycles", "epochs": 15})),
        Variant("mlp_parameters", "MLP, equal parameters", mlp, ({"epochs": 64},)),
    ))

# ---------------------------------------------------------------- chapter 9

# Everybody has 35 to 57 seconds of one core. The learned gain cannot bear the rates that its
# proposal likes (an earlier search came down to 5e-4 for both): its matrix has a rate of its own.
_PROPOSAL = {"part": "proposal", "epochs": 300, "batch_size": 128}
_OF_COST = {"batch_size": 256, "objective": "root cost", "cycle_weight": 1.0}
_CYCLES = _OF_COST | {"part": "cycles"}
_SLOPES = partial(recursive, feedback=proportional_gradient)

VAN_DER_POL = Study(
    "van_der_pol", "weak_van_der_pol", "cost_gap", num_train=4_000, num_validation=500,
    num_test=1_000, shipped=("gradient", "one_call", "mlp"),
    corrections=corrections.of_the_oscillator("mlp", "one_call", "gradient"),
    variants=(
        # The recursion taken apart, and a plain network.
        Variant("gradient", "recursive", _SLOPES, (_PROPOSAL, _CYCLES | {"epochs": 20})),
        Variant("no_carry", "recursive, no latents carried on", partial(_SLOPES, network=NoCarry),
                (_PROPOSAL, _CYCLES | {"epochs": 20})),
        Variant("one_call", "one call of the block", partial(_SLOPES, network=OneCall),
                (_PROPOSAL, _CYCLES | {"epochs": 50})),
        Variant("one_call_six", "one call of the block, six cycles",
                partial(_SLOPES, network=OneCall, H_cycles=6),
                (_PROPOSAL, _CYCLES | {"epochs": 25})),
        Variant("corrector", "plain corrector", partial(corrector, feedback=proportional_gradient),
                (_PROPOSAL, _CYCLES | {"epochs": 50})),
        Variant("learned_gain", "MLP + learned gain", partial(learned_gain, feedback=cost_gradient),
                (_PROPOSAL | {"epochs": 250}, _CYCLES | {"epochs": 30, "lr": 5e-4})),
        Variant("mlp_cost", "MLP, trained on the cost, too", mlp,
                (_PROPOSAL | {"part": "all", "epochs": 250},
                 _OF_COST | {"epochs": 150, "lr": 1e-3})),
        Variant("mlp", "MLP, equal parameters", mlp, ({"batch_size": 128, "epochs": 450},)),
    ))

# ---------------------------------------------------------------- chapter 12

# Everybody has 46 to 62 seconds of one core, and its controls get five iterations of Newton's
# method before they are judged.
_LANDING_PROPOSAL = {"part": "proposal", "epochs": 150, "batch_size": 128}
_LANDING_CYCLES = {"part": "cycles", "epochs": 30, "batch_size": 128, "cycle_weight": 1.0}

POWERED_DESCENT = Study(
    "powered_descent", "powered_descent", "rejected", num_train=3_000, num_validation=300,
    num_test=1_000, shipped=("learned_gain", "mlp", "recursive"),
    judge=landing.judge,
    corrections=corrections.of_powered_descent("mlp", "recursive", "one_call", "learned_gain"),
    variants=(
        Variant("mlp", "MLP, equal parameters", mlp, ({"epochs": 480, "batch_size": 128},)),
        Variant("mlp_on_the_way", "MLP, also from states on the way", mlp,
                ({"epochs": 160, "batch_size": 128},), landing.on_the_way),
        Variant("recursive", "recursive", _LOOKING, (_LANDING_PROPOSAL, _LANDING_CYCLES)),
        Variant("one_call", "one call of the block", partial(_LOOKING, network=OneCall),
                (_LANDING_PROPOSAL, _LANDING_CYCLES | {"epochs": 75})),
        Variant("learned_gain", "MLP + learned gain", learned_gain,
                (_LANDING_PROPOSAL | {"epochs": 300}, _LANDING_CYCLES | {"epochs": 60})),
        # The same two, but not told how much fuel is left.
        Variant("recursive_no_fuel", "recursive, not told its fuel",
                partial(recursive, feedback=proportional_landing_error),
                (_LANDING_PROPOSAL, _LANDING_CYCLES)),
        Variant("learned_gain_no_fuel", "MLP + learned gain, not told its fuel",
                partial(learned_gain, feedback=landing_error),
                (_LANDING_PROPOSAL | {"epochs": 300}, _LANDING_CYCLES | {"epochs": 60})),
    ))

STUDIES = {study.name: study for study in (RECURSION, BOUNDED, VAN_DER_POL, POWERED_DESCENT)}
