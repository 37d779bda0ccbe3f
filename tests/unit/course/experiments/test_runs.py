"""The variants of the studies, the search for a learning rate, and what each run is given."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from trc_lib import io
from trc_lib.course.experiments import (
    SEEDS,
    STUDIES,
    Study,
    Variant,
    multiply_adds,
    run_sweep,
    runs,
)
from trc_lib.course.experiments.runs import TUNING_SEED, next_rate, run_variant
from trc_lib.model import (
    FinalError,
    LastCycleGradient,
    NoFeedback,
    Proportional,
    SingleLatent,
    TinyRecursiveControl,
)
from trc_lib.model.baselines import MLP
from trc_lib.problems import PROBLEMS
from trc_lib.teachers import MinimumEnergyController
from trc_lib.training import History


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


def test_every_variant_is_the_network_that_its_name_says():
    teacher = MinimumEnergyController()
    made = {variant.name: variant.make(teacher, 0) for variant in STUDIES["sweep"].variants}
    plain = made["recursive"]
    assert type(plain) is TinyRecursiveControl and type(plain.feedback) is FinalError
    assert (made["one_H"].config.H_cycles, made["one_L"].config.L_cycles) == (1, 1)
    assert made["one_H"].config.L_cycles == plain.config.L_cycles > 1
    assert made["one_L"].config.H_cycles == plain.config.H_cycles > 1
    assert type(made["single_latent"]) is SingleLatent
    assert type(made["last_gradient"]) is LastCycleGradient
    assert type(made["no_feedback"].feedback) is NoFeedback
    for name, model in made.items():
        if name.startswith("mlp"):
            assert type(model) is MLP
        else:
            assert isinstance(model.feedback, Proportional) == name.startswith("proportional")


@pytest.mark.parametrize(("tried", "following"), [
    ({5e-4: 3, 1e-3: 2, 2e-3: 1}, 4e-3), ({5e-4: 1, 1e-3: 2, 2e-3: 3}, 2.5e-4),
    ({5e-4: 2, 1e-3: 1, 2e-3: 3}, None), ({1e-3: 3, 4e-3: 2, 8e-3: 1}, None),
    ({1.25e-4: 1, 1e-3: 2}, None)])
def test_the_learning_rate_is_searched_outward_until_the_best_lies_inside(tried, following):
    assert next_rate(tried) == following


# ---------------------------------------------------------------- what each run is given

ONE = Variant("one", "one", sizes={"H_cycles": 1, "L_cycles": 1}, training={"epochs": 2})
TINY = Study("tiny", "double_integrator", (
    ONE, Variant("mlp", "mlp", mlp="parameters", training={"epochs": 1}, before={"epochs": 1})),
    shipped=(), num_train=12, num_validation=6, num_test=8, run_off=2)


@dataclasses.dataclass
class Given:
    """What one call of `train`, `measure` or `LinearMap` was given."""

    call: str
    problems: list        # a set of (start, target) for each dataset
    weights: dict | None = None
    seed: int | None = None


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A whole sweep of `TINY` with seeds 0, 1 and 2: its table, and what its calls were given."""
    calls, folder = [], tmp_path_factory.mktemp("sweep")
    real_train, real_measure, real_map = runs.train, runs.measure, runs.LinearMap

    def problems(dataset):
        return {tuple(row) for row in torch.cat(
            [dataset.initial_states, dataset.target_states], dim=1).tolist()}

    def train(model, train_set, eval_set, config, **options):
        weights = {name: value.clone() for name, value in model.named_parameters()}
        calls.append(Given("train", [problems(train_set), problems(eval_set)], weights,
                           config.seed))
        return real_train(model, train_set, eval_set, config, **options)

    def measure(dataset, controls):
        calls.append(Given("measure", [problems(dataset)]))
        return real_measure(dataset, controls)

    def linear_map(dataset):
        calls.append(Given("linear", [problems(dataset)]))
        return real_map(dataset)

    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("train", train), ("measure", measure), ("LinearMap", linear_map),
                            ("LOWEST", 5e-4), ("HIGHEST", 2e-3)):
            patch.setattr(runs, name, value)
        table = run_sweep(folder, TINY, (0, 1, 2), workers=1)
    return folder, table, calls


def given(sweep, call):
    return [each for each in sweep[2] if each.call == call]


def test_no_problem_that_a_table_reports_on_is_trained_on_or_chosen_by(sweep):
    tests = [each.problems[0] for each in given(sweep, "measure")]
    assert len(tests[0]) == 8 and all(each == tests[0] for each in tests)  # the same for all
    trainings = given(sweep, "train")
    assert {tuple(map(len, each.problems)) for each in trainings} == {(12, 6)}
    for each in trainings:
        train_set, validation_set = each.problems
        assert not train_set & validation_set
        assert not tests[0] & (train_set | validation_set)
    linear = given(sweep, "linear")
    assert len(linear) == 3 and not any(tests[0] & each.problems[0] for each in linear)


@pytest.fixture(scope="module")
def by_seed(sweep):
    """The trainings of both variants at every learning rate, by their seed."""
    trainings = given(sweep, "train")
    seeds = {each.seed for each in trainings}
    assert seeds == {TUNING_SEED, 0, 1, 2}
    return {seed: [each for each in trainings if each.seed == seed] for seed in seeds}


def test_every_seed_has_its_own_problems_and_initial_weights(by_seed):
    for one, other in itertools.combinations(by_seed.values(), 2):
        assert not set.union(*one[0].problems) & set.union(*other[0].problems)
        for name in ("encoder.0.weight", "block.layers.0.down.weight", "layers.0.weight"):
            first, second = (next(each.weights[name] for each in several if name in each.weights)
                             for several in (one, other))
            assert (first - second).abs().mean() > 0.5 * first.std()


def test_the_trainings_of_one_seed_have_the_same_problems_whatever_the_network(by_seed, sweep):
    for several in by_seed.values():
        assert len(several) >= 3 and all(each.problems == several[0].problems for each in several)
    assert [each.problems[0] for each in given(sweep, "linear")] == [
        by_seed[seed][0].problems[0] for seed in (0, 1, 2)]


def test_the_seed_that_learning_rates_are_tried_with_is_in_no_table(sweep, tmp_path):
    assert TUNING_SEED not in SEEDS
    for seeds in ((0, TUNING_SEED), (TUNING_SEED,), (0, 1, 0)):
        with pytest.raises(ValueError, match=r"seeds=.* is not accepted; needs different ones"):
            run_sweep(tmp_path, TINY, seeds, workers=1)
    assert not list(tmp_path.iterdir())
    folder, table, _ = sweep
    assert (table["num_train"], table["num_test"], table["seeds"]) == (12, 8, [0, 1, 2])
    for name in ("one", "mlp"):
        row = table["variants"][name]
        for seed, run in zip((0, 1, 2), row["runs"], strict=True):
            assert run == io.read_json(folder / name / f"lr-{row['lr']:g}-seed-{seed}.json")


def test_sets_that_share_a_problem_are_refused():
    problem = PROBLEMS["double_integrator"]()
    longer, shorter, other = problem.dataset(9, 0), problem.dataset(5, 0), problem.dataset(5, 1)
    runs._refuse_overlap(longer, other)
    for sets in ((longer, shorter), (other, longer, shorter)):
        with pytest.raises(ValueError, match="a problem is in two of the"):
            runs._refuse_overlap(*sets)
    with pytest.raises(ValueError, match="a problem is in two of the"):
        run_variant(ONE, 1e-3, 1_000_000, TINY)  # its validation set begins like the test set


def test_the_figure_that_a_learning_rate_is_chosen_by_is_the_error_on_the_validation_set():
    model, figures = run_variant(ONE, 1e-3, 3, TINY)
    data = PROBLEMS["double_integrator"]().dataset(6, 1_000_003)
    (p, v), dt = data.initial_states.numpy().T, 0.33
    for u in model.solve(data.initial_states, data.target_states).numpy()[:, :, 0].T:
        p, v = p + v * dt + u * dt**2 / 2, v + u * dt
    errors = np.hypot(p - data.target_states[:, 0].numpy(), v - data.target_states[:, 1].numpy())
    assert figures["validation_error"] == pytest.approx(errors.mean(), rel=1e-4)


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    """A sweep whose trainings change nothing and report what ``error(lr, seed)`` says.

    Each train loss falls where the validation error rises.
    """
    def make(error, seeds=(0, 1, 2), **changes):
        def train(model, train_set, eval_set, config, progress):
            value = error(config.lr, config.seed)
            if not math.isfinite(value):
                raise FloatingPointError("the loss is no longer finite in epoch 1")
            row = {"train_loss": 1 / value, "eval_loss": 1.0, "eval_final_error": value}
            later = {"train_loss": 0.5 / value, "eval_loss": 2.0, "eval_final_error": 0.5 / value}
            return History([{"epoch": 1} | row, {"epoch": 2} | later])  # the first is the best

        monkeypatch.setattr(runs, "train", train)
        monkeypatch.setattr(runs, "_milliseconds", lambda model: 1.0)
        study = dataclasses.replace(TINY, variants=(ONE,), **changes)
        return run_sweep(tmp_path, study, seeds, workers=1)["variants"]["one"]
    return make


def test_the_learning_rate_with_the_least_validation_error_is_chosen(scripted):
    row = scripted(lambda lr, seed: 1 + abs(math.log2(lr / 1e-3)), run_off=0)
    assert row["tuning"] == {"0.0005": 2.0, "0.001": 1.0, "0.002": 2.0}
    assert row["lr"] == 1e-3 and row["run_off"] == {}
    assert [run["validation_error"] for run in row["runs"]] == [1.0, 1.0, 1.0]


def test_a_sweep_tries_higher_rates_as_long_as_they_are_better(scripted):
    row = scripted(lambda lr, seed: abs(math.log2(lr / 4e-3)) + 1, seeds=(0,), run_off=0)
    assert list(row["tuning"]) == ["0.0005", "0.001", "0.002", "0.004", "0.008"]
    assert row["lr"] == 4e-3


def test_the_mean_over_the_seeds_of_the_run_off_decides_between_the_two_best(scripted):
    def error(lr, seed):
        if seed == TUNING_SEED:
            return {5e-4: 2.0, 1e-3: 1.0, 2e-3: 3.0}[lr]
        return {5e-4: (4.0, 4.0, 9.0), 1e-3: (1.0, 8.0, 1.0), 2e-3: (0.1, 0.1, 0.1)}[lr][seed]

    row = scripted(error, run_off=2)
    assert row["run_off"] == {"0.0005": 4.0, "0.001": 4.5} and row["lr"] == 5e-4


def test_a_learning_rate_that_fails_is_not_chosen(scripted):
    row = scripted(lambda lr, seed: math.nan if lr > 1e-3 else 1 / lr, run_off=0)
    assert row["lr"] == 1e-3 and row["failed"] == 0
    assert row["tuning"]["0.002"] > row["tuning"]["0.0005"]


# ---------------------------------------------------------------- the figures of the tables

def arrivals(data, controls):
    """|x_N - x_T| of every problem for a cart, by a plain loop."""
    (p, v), dt = data.initial_states.numpy().T, data.dt
    for u in np.asarray(controls)[:, :, 0].T:
        p, v = p + v * dt + u * dt**2 / 2, v + u * dt
    return np.hypot(p - data.target_states[:, 0].numpy(), v - data.target_states[:, 1].numpy())


def test_the_figures_of_a_run_are_those_of_its_network(monkeypatch):
    clock = iter((0.0, 1.0, 10.0, 14.0))
    monkeypatch.setattr(runs.time, "process_time", lambda: next(clock))
    variant = Variant("two", "two", sizes={"H_cycles": 2}, before={"part": "proposal", "epochs": 3},
                      training={"part": "cycles", "epochs": 3})
    study = dataclasses.replace(TINY, num_test=31)
    model, figures = run_variant(variant, 1e-3, 0, study)
    data = PROBLEMS[study.problem]().dataset(31, runs.TEST_SEED)
    with torch.no_grad():
        cycles = model(data.initial_states, data.target_states, H_cycles=4)["cycle_controls"]
    errors = np.stack([arrivals(data, u.double()) for u in cycles])
    energies = (cycles.double().numpy() ** 2).sum(axis=(2, 3))
    first, = figures["before"]  # the second training leaves the proposals as they were
    assert first["final_error_mean"] == pytest.approx(errors[0].mean(), rel=1e-4)
    assert figures["final_error_mean"] == pytest.approx(errors[2].mean(), rel=1e-4)
    assert figures["cycle_errors"] == pytest.approx(errors[:3].mean(axis=1), rel=1e-4)
    assert figures["cycle_improves"] == pytest.approx((errors[1:3] < errors[:2]).mean(axis=1))
    assert figures["cycle_cost_ratios"] == pytest.approx(
        energies.sum(axis=1) / float(data.controls.square().sum()), rel=1e-4)
    assert figures["cycle_cheapens"] == pytest.approx((energies[1:] < energies[:-1]).mean(axis=1))
    assert (first["train_seconds"], figures["train_seconds"]) == (1.0, 5.0)
    assert figures["parameters"] == model.num_parameters and not model.training


def test_the_row_of_the_linear_map_is_that_of_a_least_squares_fit_within_the_limits():
    study = dataclasses.replace(TINY, problem="bounded_inputs", num_train=40, num_test=30)
    row, problem = runs._linear_row(study, (0, 1)), PROBLEMS["bounded_inputs"]()
    test_set = problem.dataset(30, runs.TEST_SEED)
    for seed, run in zip((0, 1), row["runs"], strict=True):
        data = problem.dataset(40, seed)
        W, *_ = np.linalg.lstsq(np.hstack([data.initial_states, data.target_states]),
                                data.controls.numpy()[:, :, 0], rcond=None)
        u = np.hstack([test_set.initial_states, test_set.target_states]) @ W
        errors = arrivals(test_set, u.clip(-1, 1)[..., None])
        assert run["final_error_mean"] == pytest.approx(errors.mean(), rel=1e-9)
        assert run["parameters"] == 60


def test_a_row_has_the_mean_and_spread_of_the_runs_that_did_not_fail():
    runs_of_row = [{"error": 1.0, "part": None, "each": [1]}, {"failed": "so", "error": 1e9},
                   {"error": 4.0, "part": None, "each": [2]}, {"error": 10.0, "part": None}]
    summary = runs._summary(runs_of_row)
    assert summary["runs"] == runs_of_row and summary["failed"] == 1
    assert summary["mean"] == {"error": 5.0}
    assert summary["spread"] == {"error": pytest.approx(21**0.5)}
    assert runs._summary(runs_of_row[:2])["spread"] == {"error": 0.0}
    assert runs._summary(runs_of_row[1:2])["mean"] == {}


def test_the_network_that_is_shipped_is_that_of_the_chosen_rate_and_seed_0(tmp_path, monkeypatch):
    study = dataclasses.replace(TINY, shipped=("one",))
    tuning = runs.Tuning(tmp_path, ONE, (0, 1))
    for lr, tried, met in ((5e-4, 3.0, 9.0), (1e-3, 1.0, 2.0), (2e-3, 2.0, 1.0)):
        for seed in (TUNING_SEED, 0, 1):
            path = tuning.path(lr, seed)
            io.write_json(path, {"validation_error": tried if seed == TUNING_SEED else met})
            path.with_suffix(".pt").write_text(f"{lr} {seed}")
    monkeypatch.setattr(runs, "root", lambda: tmp_path / "root")
    runs.ship(tmp_path, study)
    made = [path for path in (tmp_path / "root").rglob("*") if path.is_file()]
    assert [path.relative_to(tmp_path / "root").as_posix() for path in made] == [
        "data/pretrained/laboratory/tiny_one.pt"]
    assert made[0].read_text() == "0.002 0"
