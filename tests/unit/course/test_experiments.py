"""The variants of the studies, and the search for a learning rate."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from trc_lib.course.experiments import STUDIES, multiply_adds
from trc_lib.course.experiments.runs import next_rate
from trc_lib.model import FinalError, NoFeedback, TinyRecursiveControl
from trc_lib.model.baselines import MLP
from trc_lib.problems import PROBLEMS
from trc_lib.teachers import MinimumEnergyController


@pytest.mark.parametrize("make", [
    lambda: MLP.within(5_000), TinyRecursiveControl.create_two_level_small,
    lambda: TinyRecursiveControl.create_two_level_small(H_cycles=2, L_cycles=1,
                                                        feedback=NoFeedback())])
def test_multiply_adds_are_half_the_operations_that_pytorch_counts(make):
    model = make()
    model.system.rollout_unchecked = lambda x0, u: x0[:, None]  # the rollout is not counted
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.predict(torch.zeros(1, 2), torch.ones(1, 2))
    assert multiply_adds(model) == counter.get_total_flops() // 2
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("study", STUDIES.values(), ids=list(STUDIES))
def test_variants_have_names_of_their_own_and_can_all_be_made(study):
    names = {variant.name for variant in study.variants}
    assert len(study.variants) == len(names) == len({variant.label for variant in study.variants})
    assert set(study.shipped) <= names
    teacher = PROBLEMS[study.problem]().teacher
    for variant in study.variants:
        model, configs = variant.make(teacher, seed=1), variant.train_configs(1e-3, 1)
        assert model.seed == 1 and model.system.same_as(teacher.system)
        assert len(configs) == 1 + (variant.before is not None)
        for config in configs:
            assert config.seed == 1 and config.lr == 1e-3
            assert config.patience > config.epochs and config.part in model.parts


@pytest.mark.parametrize("budget", ["parameters", "compute"])
def test_an_mlp_gets_the_budget_of_the_network_that_it_is_compared_with(budget):
    variants = {variant.name: variant for variant in STUDIES["sweep"].variants}
    mlp, recursive = (variants[name].make(MinimumEnergyController(), 0)
                      for name in (f"mlp_{budget}", "recursive"))
    size = {"parameters": lambda net: net.num_parameters, "compute": multiply_adds}[budget]
    assert 0.98 < size(mlp) / size(recursive) <= 1.0


def test_the_gradient_is_of_the_cost_of_the_problem():
    teacher = PROBLEMS["van_der_pol"]().teacher
    variants = {variant.name: variant for variant in STUDIES["van_der_pol"].variants}
    gradient, error = (variants[name].make(teacher, 0) for name in ("gradient", "final_error"))
    assert gradient.feedback.inner.cost is teacher.quadratic_cost
    assert isinstance(error.feedback.inner, FinalError)
    assert gradient.error_embedding.in_features == 101 and error.error_embedding.in_features == 3


@pytest.mark.parametrize(("tried", "following"), [
    ({5e-4: 3, 1e-3: 2, 2e-3: 1}, 4e-3), ({5e-4: 1, 1e-3: 2, 2e-3: 3}, 2.5e-4),
    ({5e-4: 2, 1e-3: 1, 2e-3: 3}, None), ({1e-3: 3, 4e-3: 2, 8e-3: 1}, None),
    ({1.25e-4: 1, 1e-3: 2}, None)])
def test_the_learning_rate_is_searched_outward_until_the_best_lies_inside(tried, following):
    assert next_rate(tried) == following
