"""Who takes part in a study: networks, their budgets and how they are trained."""

import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from trc_lib.course.experiments import STUDIES, Study, Variant, definitions, multiply_adds
from trc_lib.model import (
    CostGradient,
    FinalError,
    LastCycleGradient,
    NoCarry,
    NoFeedback,
    OneCall,
    Proportional,
    SingleLatent,
    TinyRecursiveControl,
)
from trc_lib.model.baselines import MLP, Corrector, LearnedGain
from trc_lib.problems import PROBLEMS
from trc_lib.teachers import MinimumEnergyController

each_study = pytest.mark.parametrize("study", STUDIES.values(), ids=list(STUDIES))


def made(study, *names):
    """The networks of a study by name, those of all variants if none is named."""
    teacher, study = PROBLEMS[STUDIES[study].problem]().teacher, STUDIES[study]
    return {variant.name: variant.network(teacher, 0) for variant in study.variants
            if not names or variant.name in names}


@pytest.mark.parametrize("make", [
    lambda: MLP.within(5_000), lambda: Corrector.within(5_000),
    lambda: Corrector.within(5_000, networks=3), lambda: LearnedGain.within(5_000),
    TinyRecursiveControl.create_two_level_small,
    NoCarry.create_two_level_small, OneCall.create_two_level_small,
    lambda: TinyRecursiveControl.create_two_level_small(H_cycles=2, L_cycles=1,
                                                        feedback=NoFeedback())])
def test_multiply_adds_are_half_the_operations_that_pytorch_counts(make):
    model = make()
    model.system.rollout_unchecked = lambda x0, u: x0[:, None]  # the rollout is not counted
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.predict(torch.zeros(1, 2), torch.ones(1, 2))
    assert multiply_adds(model) == counter.get_total_flops() // 2
    assert not any(module._forward_hooks for module in model.modules())


def test_a_figure_that_cannot_decide_is_refused():
    for figure in definitions.FIGURES:
        assert Study("mine", "double_integrator", figure, ()).figure == figure
    with pytest.raises(ValueError, match=r"figure='final_eror'.*final_error"):
        Study("mine", "double_integrator", "final_eror", ())


@each_study
def test_variants_have_names_of_their_own_and_can_all_be_made(study):
    names = {variant.name for variant in study.variants}
    assert len(study.variants) == len(names) == len({variant.label for variant in study.variants})
    assert set(study.shipped) <= names
    teacher = PROBLEMS[study.problem]().teacher
    for variant in study.variants:
        model, configs = variant.network(teacher, 1), variant.train_configs(1.5e-3, 1)
        assert model.seed == 1 and model.system.same_as(teacher.system)
        assert model.config.horizon == teacher.horizon
        assert len(configs) == len(variant.trainings) >= 1
        for config, training in zip(configs, variant.trainings):
            assert config.seed == 1 and config.lr == training.get("lr", 1.5e-3)
            assert config.patience > config.epochs and config.part in model.parts
        assert any("lr" not in training for training in variant.trainings)  # one is tuned


@each_study
def test_no_two_variants_of_a_study_are_the_same_network_trained_the_same_way(study):
    teacher = PROBLEMS[study.problem]().teacher
    every = [(variant.network(teacher, 0), variant.train_configs(1e-3, 0))
             for variant in study.variants]
    for (one, configs), (other, others) in itertools.combinations(every, 2):
        weights, rivals = one.state_dict(), other.state_dict()
        alike = type(one) is type(other) and one.config == other.config and (
            one.feedback.contents() == other.feedback.contents()
            if hasattr(one, "feedback") else True)
        assert not (alike and configs == others and all(
            torch.equal(weights[name], rivals[name]) for name in weights))


def test_the_trainings_of_a_variant_follow_each_other_and_override_the_defaults():
    variant = Variant("mine", "mine", definitions.mlp, ({"epochs": 7, "part": "proposal"},
                                                        {"objective": "rms"}))
    first, second = variant.train_configs(2e-3, 9)
    assert (first.epochs, first.part, first.objective, first.cycle_weight) == (
        7, "proposal", "mse", 0.1)
    assert (second.epochs, second.part, second.objective) == (10, "all", "rms")
    assert {(config.lr, config.seed) for config in (first, second)} == {(2e-3, 9)}


def test_where_a_proposal_is_trained_first_only_the_cycles_follow():
    for study in STUDIES.values():
        for variant in study.variants:
            parts = [config.part for config in variant.train_configs(1e-3, 0)]
            if "proposal" in parts:
                assert parts == ["proposal", "cycles"]


# ---------------------------------------------------------------- budgets

@each_study
def test_a_plain_network_gets_the_parameters_of_the_recursive_one(study):
    teacher, compared = PROBLEMS[study.problem]().teacher, 0
    for model in made(study.name).values():
        if isinstance(model, MLP | Corrector):
            feedback = FinalError(teacher.system) if isinstance(model, MLP) else model.feedback
            rival = TinyRecursiveControl.create_two_level_small(
                teacher.system, feedback=feedback, horizon=teacher.horizon)
            counted, wanted = (sum(weight.numel() for weight in each.parameters())
                               for each in (model, rival))
            assert 0.97 < counted / wanted <= 1.0
            compared += 1
    assert compared


# ---------------------------------------------------------------- what the names say

KINDS = {"single_latent": SingleLatent, "last_gradient": LastCycleGradient, "no_carry": NoCarry,
         "one_call": OneCall, "one_call_six": OneCall, "learned_gain": LearnedGain,
         "learned_gain_no_fuel": LearnedGain,
         "corrector": Corrector, "corrector_unshared": Corrector, "mlp": MLP, "mlp_parameters": MLP,
         "mlp_cost": MLP, "mlp_on_the_way": MLP}


@each_study
def test_every_variant_is_the_network_that_its_name_says(study):
    networks = made(study.name)
    assert {name: type(model) for name, model in networks.items()} == {
        name: KINDS.get(name, TinyRecursiveControl) for name in networks}
    full = TinyRecursiveControl.create_two_level_small().config
    for name, model in networks.items():
        feedback = getattr(model, "feedback", None)
        assert (type(feedback) is NoFeedback) == (name == "no_feedback")
        told = getattr(feedback, "inner", feedback)
        assert (getattr(told, "components", None) == [*range(6)]) == name.endswith("_no_fuel")
        if not isinstance(model, MLP):
            assert model.config.H_cycles == {"one_H": 1, "one_call_six": 6}.get(name, full.H_cycles)
        if isinstance(model, TinyRecursiveControl):
            assert model.config.L_cycles == (1 if name == "one_L" else full.L_cycles)
        if isinstance(model, Corrector):
            assert model.config.networks == (3 if name == "corrector_unshared" else 1)
    assert full.H_cycles == 3 and full.L_cycles > 1


def test_the_networks_of_the_oscillator_look_at_the_gradient_of_the_cost_of_its_problem():
    study = STUDIES["van_der_pol"]
    teacher = PROBLEMS[study.problem]().teacher
    networks = [variant.network(teacher, 0) for variant in study.variants]
    looking = [model for model in networks if not isinstance(model, MLP)]
    assert len(looking) > 2
    for model in looking:
        inner = model.feedback
        if not isinstance(model, LearnedGain):  # which is linear in the gradient as it is
            assert type(inner) is Proportional and inner.size == 101
            inner = inner.inner
        assert type(inner) is CostGradient and inner.size == 100
        assert inner.cost is teacher.quadratic_cost


def test_the_limits_bind_in_the_problem_of_the_oscillator():
    problem = PROBLEMS[STUDIES["van_der_pol"].problem]()
    data, (low, high) = problem.dataset(40, 0), problem.teacher.system.bounds
    at_limits = ((data.controls <= low) | (data.controls >= high)).any(dim=(1, 2))
    assert at_limits.double().mean() > 0.2


def test_the_networks_of_a_cart_look_at_its_final_error_in_proportion_or_as_it_is():
    for study in ("sweep", "bounded"):
        for name, model in made(study).items():
            feedback = getattr(model, "feedback", NoFeedback())
            plain = name == "learned_gain" or (study == "sweep" and name in (
                "recursive", "root", "one_H", "last_gradient", "reward"))
            if not isinstance(feedback, NoFeedback):
                assert type(feedback) is (FinalError if plain else Proportional)
                assert type(feedback if plain else feedback.inner) is FinalError


@pytest.mark.parametrize(("study", "names"), [
    ("sweep", ("recursive", "root", "proportional", "proportional_root")),
    ("bounded", ("together_mse", "together_root", "pretrained_mse", "pretrained_root"))])
def test_the_four_of_a_square_differ_in_two_ways(study, names):
    variants = {variant.name: variant for variant in STUDIES[study].variants}
    networks = made(study, *names)
    losses = [variants[name].train_configs(1e-3, 0)[-1].objective for name in names]
    assert losses == ["mse", "rms", "mse", "rms"]
    if study == "sweep":
        kinds = [type(networks[name].feedback) for name in names]
        assert kinds == [FinalError, FinalError, Proportional, Proportional]
    else:
        orders = [len(variants[name].trainings) for name in names]
        assert orders == [1, 1, 2, 2]
        assert {type(networks[name].feedback) for name in names} == {Proportional}


def test_networks_of_a_seed_are_the_same_again_and_others_for_another_seed():
    teacher = MinimumEnergyController()
    for variant in STUDIES["sweep"].variants:
        first, same, other = (next(variant.network(teacher, seed).parameters())
                              for seed in (3, 3, 4))
        assert torch.equal(first, same) and not torch.equal(first, other)
