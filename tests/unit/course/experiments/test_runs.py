"""The search for a learning rate, what each run is given, its figures, and when it is made anew."""

import dataclasses
import importlib
import itertools
import json
import math
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch

from tests import ROOT
from trc_lib import io
from trc_lib.course.experiments import (
    SEEDS,
    STUDIES,
    Study,
    Variant,
    definitions,
    recipe_of,
    run_sweep,
    runs,
)
from trc_lib.course.experiments.runs import (
    FAILED,
    FIRST_RATES,
    TEST_SEED,
    TUNING_SEEDS,
    Tuning,
    next_rate,
    run_variant,
)
from trc_lib.data import EVAL_SEED, generate_dataset
from trc_lib.model import TinyRecursiveControl
from trc_lib.model.baselines import MLP
from trc_lib.problems import PROBLEMS

ONE = Variant("one", "one", partial(definitions.recursive, H_cycles=1, L_cycles=1),
              ({"epochs": 2},))
TINY = Study("tiny", "double_integrator", "control_mse", (
    ONE, Variant("mlp", "mlp", definitions.mlp, ({"epochs": 1}, {"epochs": 1}))),
    num_train=12, num_validation=6, num_test=8)


@pytest.mark.parametrize(("tried", "following"), [
    ({5e-4: 3, 1e-3: 2, 2e-3: 1}, 4e-3), ({5e-4: 1, 1e-3: 2, 2e-3: 3}, 2.5e-4),
    ({5e-4: 2, 1e-3: 1, 2e-3: 3}, None), ({2e-3: 3, 8e-3: 2, 1.6e-2: 1}, None),
    ({2e-3: 2, 4e-3: 1}, 8e-3), ({2e-3: 1, 4e-3: 2}, 1e-3), ({1.25e-4: 1, 1e-3: 2}, None)])
def test_the_learning_rate_is_searched_outward_until_the_best_lies_inside(tried, following):
    assert next_rate(tried) == following


# ---------------------------------------------------------------- what each run is given

@dataclasses.dataclass
class Given:
    """What one call of `train`, `measure` or `LinearMap` was given."""

    call: str
    problems: list        # a set of (start, target) for each dataset
    weights: dict | None = None
    seed: int | None = None


def problems_of(dataset):
    return {tuple(row) for row in torch.cat(
        [dataset.initial_states, dataset.target_states], dim=1).tolist()}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A whole sweep of `TINY` with seeds 0, 1 and 2: its table, and what its calls were given."""
    calls, folder = [], tmp_path_factory.mktemp("sweep")
    real_train, real_measure, real_map = runs.train, runs.measure, runs.LinearMap

    def train(model, train_set, eval_set, config, **options):
        weights = {name: value.clone() for name, value in model.named_parameters()}
        calls.append(Given("train", [problems_of(train_set), problems_of(eval_set)], weights,
                           config.seed))
        return real_train(model, train_set, eval_set, config, **options)

    def measure(dataset, controls):
        calls.append(Given("measure", [problems_of(dataset)]))
        return real_measure(dataset, controls)

    def linear_map(dataset):
        calls.append(Given("linear", [problems_of(dataset)]))
        return real_map(dataset)

    def front(study, networks, sets):
        calls.append(Given("front", [list(map(problems_of, each)) for each in sets], networks))
        return ["the front"]

    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("train", train), ("measure", measure), ("LinearMap", linear_map),
                            ("measure_front", front), ("LOWEST", 2e-3), ("HIGHEST", 4e-3)):
            patch.setattr(runs, name, value)
        table = run_sweep(folder, TINY, (0, 1, 2), workers=1)
    return folder, table, calls


def given(sweep, call):
    return [each for each in sweep[2] if each.call == call]


@pytest.fixture(scope="module")
def by_seed(sweep):
    """The trainings of both variants at every learning rate, by their seed."""
    trainings = given(sweep, "train")
    seeds = {each.seed for each in trainings}
    assert seeds == {*TUNING_SEEDS, 0, 1, 2} and len(seeds) == 5
    return {seed: [each for each in trainings if each.seed == seed] for seed in seeds}


def test_no_problem_that_a_table_reports_on_is_trained_on_or_chosen_by(sweep):
    measured = [each.problems[0] for each in given(sweep, "measure")]
    trainings = given(sweep, "train")
    assert {tuple(map(len, each.problems)) for each in trainings} == {(12, 6)}
    chosen_by = [problems for problems in measured if len(problems) == 6]
    tests = [problems for problems in measured if len(problems) == 8]
    assert len(chosen_by) + len(tests) == len(measured) and len(chosen_by) == 2 * 7
    assert all(each == tests[0] for each in tests)  # the same for all
    assert all(each in [training.problems[1] for training in trainings] for each in chosen_by)
    for each in trainings:
        train_set, validation_set = each.problems
        assert not train_set & validation_set
        assert not tests[0] & (train_set | validation_set)
    linear = given(sweep, "linear")
    assert len(linear) == 3 and not any(tests[0] & each.problems[0] for each in linear)


def test_the_problems_of_tuning_reporting_validation_and_test_are_all_different(sweep, by_seed):
    sets = [next(each.problems[0] for each in given(sweep, "measure")
                 if len(each.problems[0]) == 8)]
    for several in by_seed.values():
        sets += several[0].problems
    assert len(sets) == 1 + 2 * 5
    for one, other in itertools.combinations(sets, 2):
        assert not one & other


def test_no_seed_of_problems_is_used_for_two_purposes():
    trained = [*SEEDS, *TUNING_SEEDS]
    used = [*trained, *(EVAL_SEED + seed for seed in trained), TEST_SEED]
    assert len(set(used)) == len(used) and len(TUNING_SEEDS) == 2 and len(SEEDS) == 5


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


def test_the_seeds_that_learning_rates_are_tried_with_are_in_no_table(sweep, tmp_path):
    assert not set(TUNING_SEEDS) & set(SEEDS)
    for seeds in ((0, TUNING_SEEDS[0]), TUNING_SEEDS[1:], (0, 1, 0)):
        with pytest.raises(ValueError, match=r"seeds=.* is not accepted; needs different ones"):
            run_sweep(tmp_path, TINY, seeds, workers=1)
    assert not list(tmp_path.iterdir())
    folder, table, _ = sweep
    assert (table["num_train"], table["num_test"], table["seeds"]) == (12, 8, [0, 1, 2])
    assert (table["figure"], table["tuning_seeds"]) == ("control_mse", list(TUNING_SEEDS))
    for variant in TINY.variants:
        row, tuning = table["variants"][variant.name], Tuning(folder, TINY, variant)
        of_runs = folder / f"{variant.name}-{tuning.digest}"
        assert row["label"] == variant.label and row["recipe"] == recipe_of(TINY, variant)
        assert {float(rate) for rate in row["tuning"]} == set(FIRST_RATES)
        for seed, run in zip((0, 1, 2), row["runs"], strict=True):
            assert run == io.read_json(of_runs / f"lr-{row['lr']:g}-seed-{seed}.json")
        for rate, figures in row["tuning"].items():
            assert figures == [io.read_json(of_runs / f"lr-{rate}-seed-{seed}.json")["validation"]
                               for seed in TUNING_SEEDS]
            assert figures[0] != figures[1]
        means = {float(rate): np.mean(figures) for rate, figures in row["tuning"].items()}
        assert row["lr"] == min(means, key=means.get)


def test_a_table_is_plain_and_comes_back_from_json(sweep):
    table = sweep[1]
    assert json.loads(json.dumps(table)) == table and table["front"] == ["the front"]


def test_the_front_gets_the_trained_networks_of_every_seed_and_their_problems(sweep, by_seed):
    table = sweep[1]
    front, = given(sweep, "front")
    for seed, sets in zip((0, 1, 2), front.problems, strict=True):
        assert sets[:2] == by_seed[seed][0].problems and len(sets[2]) == 8
    data = PROBLEMS["double_integrator"]().dataset(8, TEST_SEED)
    for name, kind in (("one", TinyRecursiveControl), ("mlp", MLP)):
        for model, run in zip(front.weights[name], table["variants"][name]["runs"], strict=True):
            assert type(model) is kind
            controls = model.solve(data.initial_states, data.target_states)
            mse = float((controls - data.controls).square().mean())
            assert mse == pytest.approx(run["control_mse"], rel=1e-4)


def test_sets_that_share_a_problem_are_refused():
    problem = PROBLEMS["double_integrator"]()
    longer, shorter, other = problem.dataset(9, 0), problem.dataset(5, 0), problem.dataset(5, 1)
    runs._refuse_overlap(longer, other)
    for sets in ((longer, shorter), (other, longer, shorter)):
        with pytest.raises(ValueError, match="a problem is in two of the"):
            runs._refuse_overlap(*sets)
    for seed in (EVAL_SEED, TEST_SEED):  # its validation set, its training set is the test set
        with pytest.raises(ValueError, match="a problem is in two of the"):
            run_variant(ONE, 1e-3, seed, TINY)


def test_problems_that_take_long_are_kept_and_those_of_another_teacher_are_not_taken(
        tmp_path, monkeypatch):
    problem = PROBLEMS["bounded_inputs"]()
    runs._set(problem, 9, 3, tmp_path)
    assert not [*tmp_path.rglob("*.npz")]          # it took no time
    monkeypatch.setattr(runs, "SLOW", 0.0)
    made = runs._set(problem, 9, 3, tmp_path)
    monkeypatch.setattr(type(problem), "dataset", None)
    assert runs._set(problem, 9, 3, tmp_path).fingerprint == made.fingerprint
    for other in ((problem, 9, 4), (problem, 8, 3), (PROBLEMS["bounded_inputs"](horizon=9), 9, 3)):
        with pytest.raises(TypeError, match="not callable"):  # it would be made
            runs._set(*other, tmp_path)


# ---------------------------------------------------------------- the search

@pytest.fixture
def scripted(tmp_path, monkeypatch):
    """A sweep whose trainings change nothing and whose validation figure is ``error(lr, seed)``.

    The figures on the test problems are the better the worse it is.
    """
    def make(error, seeds=(0, 1, 2), study=None):
        now, trained = {}, []

        def train(model, train_set, eval_set, config, progress):
            now["error"] = error(config.lr, config.seed)
            trained.append((config.lr, config.seed))
            if not math.isfinite(now["error"]):
                raise FloatingPointError("the loss is no longer finite in epoch 1")

        def figures_of(study, dataset, controls):
            error = now.get("error", 1.0)
            return {study.figure: error if len(dataset) == 6 else 1 / error}

        for name, value in (("train", train), ("figures_of", figures_of),
                            ("measure_front", lambda *arguments: [])):
            monkeypatch.setattr(runs, name, value)
        study = study or dataclasses.replace(TINY, variants=(ONE,))
        return run_sweep(tmp_path, study, seeds, workers=1)["variants"]["one"], trained
    return make


def test_every_rate_meets_all_tuning_seeds_and_their_mean_decides(scripted):
    """Not the best run: with one of the seeds alone another rate would win."""
    def error(lr, seed):
        tuned = {2e-3: (1.0, 8.0), 4e-3: (4.0, 4.0), 8e-3: (9.0, 0.5)}
        return tuned[lr][TUNING_SEEDS.index(seed)] if seed in TUNING_SEEDS else {
            2e-3: 0.1, 4e-3: 7.0, 8e-3: 0.1}[lr]  # what the reporting seeds find is not asked

    row, trained = scripted(error)
    assert row["tuning"] == {"0.002": [1.0, 8.0], "0.004": [4.0, 4.0], "0.008": [9.0, 0.5]}
    assert row["lr"] == 4e-3
    tuning = list(itertools.product((2e-3, 4e-3, 8e-3), TUNING_SEEDS))
    assert sorted(trained) == sorted([*tuning, *((4e-3, seed) for seed in (0, 1, 2))])
    assert [run["validation"] for run in row["runs"]] == [7.0, 7.0, 7.0]


@pytest.mark.parametrize(("best", "tried"), [
    (1.6e-2, ["0.002", "0.004", "0.008", "0.016"]), (8e-3, ["0.002", "0.004", "0.008", "0.016"]),
    (3e-3, ["0.002", "0.004", "0.008"]), (2.2e-3, ["0.001", "0.002", "0.004"]),
    (1e-4, ["0.000125", "0.00025", "0.0005", "0.001", "0.002", "0.004"])])
def test_a_sweep_tries_rates_beyond_the_best_as_long_as_they_are_better(scripted, best, tried):
    row, _ = scripted(lambda lr, seed: 1 + abs(math.log2(lr / best)), seeds=(0,))
    assert list(row["tuning"]) == tried
    assert row["lr"] == min(map(float, tried), key=lambda lr: abs(math.log2(lr / best)))


def test_a_learning_rate_that_fails_with_one_seed_is_not_chosen(scripted):
    row, _ = scripted(lambda lr, seed: math.nan if lr > 2e-3 and seed == TUNING_SEEDS[1]
                      else 1e-3 / lr)
    assert row["lr"] == 2e-3 and row["failed"] == 0
    assert row["tuning"]["0.004"] == [0.25, FAILED]


def test_a_run_that_fails_is_counted_with_figures_that_nothing_reaches(scripted):
    row, _ = scripted(lambda lr, seed: math.nan if seed == 1 else 1.0)
    assert row["failed"] == 1 and FAILED == 1e9
    failed = row["runs"][1]
    assert "no longer finite" in failed.pop("failed")
    assert failed == {"control_mse": FAILED, "validation": FAILED}
    assert row["mean"]["control_mse"] == 1.0  # of the others


def test_a_rate_that_another_process_still_tries_is_waited_for_in_words(tmp_path):
    tuning = Tuning(tmp_path, TINY, ONE)
    io.write_json(tuning.path(2e-3, TUNING_SEEDS[0]), {"validation": 1.0})
    with pytest.raises(FileNotFoundError, match="another process is making it"):
        tuning.tried()


# ---------------------------------------------------------------- when a run is made anew

LONGER = dataclasses.replace(ONE, trainings=({"epochs": 3},))
CHANGED = {
    "longer training": (TINY, LONGER),
    "another loss": (TINY, dataclasses.replace(ONE, trainings=({"epochs": 2,
                                                                "objective": "rms"},))),
    "a second training": (TINY, dataclasses.replace(ONE, trainings=({"epochs": 2}, {}))),
    "more cycles": (TINY, dataclasses.replace(ONE, network=partial(
        definitions.recursive, H_cycles=2, L_cycles=1))),
    "more steps, without a parameter more": (TINY, dataclasses.replace(ONE, network=partial(
        definitions.recursive, H_cycles=1, L_cycles=2))),
    "wider": (TINY, dataclasses.replace(ONE, network=partial(
        definitions.recursive, H_cycles=1, L_cycles=1, head_hidden=130))),
    "another feedback": (TINY, dataclasses.replace(ONE, network=partial(
        definitions.recursive, feedback=definitions.blind, H_cycles=1, L_cycles=1))),
    "another loop, as many weights": (TINY, dataclasses.replace(ONE, network=partial(
        definitions.recursive, network=definitions.NoCarry, H_cycles=1, L_cycles=1))),
    "a learning rate of its own": (TINY, dataclasses.replace(ONE, trainings=tuple(
        training | {"lr": 1e-3} for training in ONE.trainings))),
    "more problems to learn from": (dataclasses.replace(TINY, num_train=13), ONE),
    "more problems to choose by": (dataclasses.replace(TINY, num_validation=7), ONE),
    "more problems to report on": (dataclasses.replace(TINY, num_test=9), ONE),
    "another problem": (dataclasses.replace(TINY, problem="bounded_inputs"), ONE),
    "a wider range of problems": (dataclasses.replace(TINY, problem=f"{__name__}:farther"), ONE),
    "another figure that decides": (dataclasses.replace(TINY, figure="final_error"), ONE)}


def farther():
    return PROBLEMS["double_integrator"](state_range=2.6)


@pytest.mark.parametrize("change", CHANGED)
def test_another_recipe_has_another_folder(change, tmp_path):
    study, variant = CHANGED[change]
    before, after = Tuning(tmp_path, TINY, ONE), Tuning(tmp_path, study, variant)
    assert recipe_of(TINY, ONE) != recipe_of(study, variant)
    assert before.digest != after.digest and len(after.digest) == 10
    assert before.path(1e-3, 0) == tmp_path / f"one-{before.digest}" / "lr-0.001-seed-0.json"
    assert after.path(1e-3, 0).parent == tmp_path / f"one-{after.digest}"


def test_names_labels_and_snapshots_are_no_part_of_a_recipe(tmp_path):
    other = Variant("other", "Other", ONE.network, ({"epochs": 2, "snapshot_epochs": (0, 1)},))
    study = dataclasses.replace(TINY, name="mine", variants=(other,), shipped=("other",))
    assert Tuning(tmp_path, study, other).digest == Tuning(tmp_path, TINY, ONE).digest


@pytest.mark.parametrize("study", STUDIES.values(), ids=list(STUDIES))
def test_a_recipe_is_the_same_again_and_comes_back_from_json(study):
    for variant in study.variants[-2:]:
        recipe = recipe_of(study, variant)
        assert json.loads(json.dumps(recipe)) == recipe == recipe_of(study, variant)
        trainings = [training["epochs"] for training in recipe["trainings"]]
        assert trainings == [config.epochs for config in variant.train_configs(1.0, 0)]
        assert recipe["sets"] == [study.num_train, study.num_validation, study.num_test]


def test_the_initial_weights_are_part_of_a_recipe():
    def shifted(teacher, seed):
        model = ONE.network(teacher, seed)
        with torch.no_grad():
            model.decoder[-1].bias[0] += 1e-6
        return model

    assert recipe_of(TINY, ONE) != recipe_of(TINY, dataclasses.replace(ONE, network=shifted))


def test_an_old_run_of_another_recipe_is_neither_read_nor_lost(scripted, tmp_path):
    first, trained = scripted(lambda lr, seed: 1.0 + abs(lr - 2e-3), seeds=(0,))
    assert len(trained) == 2 * 3 + 1
    _, again = scripted(lambda lr, seed: 5.0, seeds=(0,))
    assert again == []  # all were finished
    other, trained = scripted(lambda lr, seed: 7.0 + abs(lr - 2e-3), seeds=(0,),
                              study=dataclasses.replace(TINY, variants=(LONGER,)))
    assert len(trained) == 2 * 3 + 1
    assert first["runs"][0]["validation"] < 2 < 7 <= other["runs"][0]["validation"]
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2


def test_the_same_recipe_in_another_process_has_the_same_digest(tmp_path):
    names = [("sweep", "recursive"), ("sweep", "corrector"), ("van_der_pol", "one_call")]
    script = ("import sys; from trc_lib.course.experiments import STUDIES\n"
              "from trc_lib.course.experiments.runs import Tuning\n"
              f"for study, name in {names!r}:\n"
              "    variant = next(v for v in STUDIES[study].variants if v.name == name)\n"
              "    print(Tuning('.', STUDIES[study], variant).digest)")
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          check=True, env=environment, cwd=tmp_path, timeout=120)
    here = [Tuning(tmp_path, STUDIES[study], variant).digest for study, name in names
            for variant in STUDIES[study].variants if variant.name == name]
    assert done.stdout.split() == here and len(set(here)) == 3


SOURCE = '''
from trc_lib.model.baselines import MLP


class Mine(MLP):
    def predict(self, initial_state, target_state, H_cycles=None):
        answer = super().predict(initial_state, target_state, H_cycles)
        return {name: 1.0 * value for name, value in answer.items()}


def make(teacher, seed):
    return Mine.within(2_000, teacher.system, seed, horizon=teacher.horizon)
'''
REWRITTEN = {
    "as it was": (SOURCE, True),
    "a comment": (SOURCE.replace("        answer", "        # first\n        answer"), True),
    "docstrings": (SOURCE.replace("(MLP):\n", '(MLP):\n    """Mine."""\n\n').replace(
        "=None):\n", '=None):\n        """As in MLP."""\n'), True),
    "lines": (SOURCE.replace("1.0 * value", "(\n            1.0 * value)"), True),
    "a number": (SOURCE.replace("1.0 * value", "2.0 * value"), False),
    "a method": (SOURCE.replace("    def predict", "    def more(self):\n        return 1\n\n"
                                "    def predict"), False)}


@pytest.mark.parametrize("change", REWRITTEN)
def test_only_a_change_of_what_the_code_does_is_another_recipe(change, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for version, source in (("before", SOURCE), ("after", REWRITTEN[change][0])):
        name = f"networks_{version}_{change.replace(' ', '_')}"
        (tmp_path / f"{name}.py").write_text(source)
        variant = Variant("mine", "mine", importlib.import_module(name).make)
        digests.append(Tuning(tmp_path, TINY, variant).digest)
        monkeypatch.delitem(sys.modules, name)
    assert (digests[0] == digests[1]) == REWRITTEN[change][1]


# ---------------------------------------------------------------- the figures of the tables

def arrivals(data, controls):
    """|x_N - x_T| of every problem for a cart, by a plain loop."""
    (p, v), dt = data.initial_states.numpy().T, data.dt
    for u in np.asarray(controls)[:, :, 0].T:
        p, v = p + v * dt + u * dt**2 / 2, v + u * dt
    return np.hypot(p - data.target_states[:, 0].numpy(), v - data.target_states[:, 1].numpy())


def decisive(figure, data, controls):
    """What a figure is the mean of, for every problem of a cart; and that mean."""
    controls, best = np.asarray(controls), data.controls.numpy()
    if figure == "control_mse":
        each = ((controls - best) ** 2).mean(axis=(1, 2))
        return each, each.mean()
    each = arrivals(data, controls)
    return each, each.mean()


each_figure = pytest.mark.parametrize("figure", ["control_mse", "final_error"])


@each_figure
def test_a_learning_rate_is_chosen_by_the_figure_on_the_validation_problems(figure):
    study = dataclasses.replace(TINY, figure=figure)
    model, figures = run_variant(ONE, 1e-3, 3, study)
    for name, data in (("validation", PROBLEMS[study.problem]().dataset(6, EVAL_SEED + 3)),
                       (figure, PROBLEMS[study.problem]().dataset(8, TEST_SEED))):
        controls = model.solve(data.initial_states, data.target_states)
        assert figures[name] == pytest.approx(decisive(figure, data, controls)[1], rel=1e-4)
    assert figures["validation"] != figures[figure]


@each_figure
def test_the_figures_of_a_run_are_those_of_its_network_after_each_cycle_to_twice_the_depth(
        figure, monkeypatch):
    clock = iter((0.0, 1.0, 10.0, 14.0))
    monkeypatch.setattr(runs.time, "process_time", lambda: next(clock))
    variant = Variant("two", "two", partial(definitions.recursive, H_cycles=2), (
        {"part": "proposal", "epochs": 3}, {"part": "cycles", "epochs": 3}))
    study = dataclasses.replace(TINY, num_test=31, figure=figure)
    model, figures = run_variant(variant, 1e-3, 0, study)
    data = PROBLEMS[study.problem]().dataset(31, TEST_SEED)
    with torch.no_grad():
        cycles = model(data.initial_states, data.target_states, H_cycles=4)["cycle_controls"]
    cycles = cycles.double().numpy()
    each, means = zip(*(decisive(figure, data, controls) for controls in cycles))
    first, = figures["before"]  # the second training leaves the proposals as they were
    assert first[figure] == pytest.approx(means[0], rel=1e-4)
    assert figures[figure] == pytest.approx(means[2], rel=1e-4)
    assert [cycle[figure] for cycle in figures["cycles"]] == pytest.approx(means, rel=1e-4)
    improves = [np.mean(after < before) for before, after in itertools.pairwise(each)]
    assert figures["cycle_improves"] == pytest.approx(improves) and len(improves) == 4
    errors = [arrivals(data, controls).mean() for controls in cycles]
    assert [cycle["final_error_mean"] for cycle in figures["cycles"]] == pytest.approx(
        errors, rel=1e-4)
    energies = (cycles ** 2).sum(axis=(1, 2, 3)) / float(data.controls.square().sum())
    assert [cycle["cost_ratio"] for cycle in figures["cycles"]] == pytest.approx(
        energies, rel=1e-4)
    assert (first["train_seconds"], figures["train_seconds"]) == (1.0, 5.0)
    assert figures["parameters"] == model.num_parameters and not model.training


def test_a_cost_decides_only_where_it_contains_the_target():
    study = dataclasses.replace(TINY, figure="cost_gap")
    with pytest.raises(ValueError, match="least energy is that of doing nothing"):
        run_variant(ONE, 1e-3, 0, study)
    oscillator = dataclasses.replace(study, problem="weak_van_der_pol")
    model, figures = run_variant(ONE, 1e-3, 0, oscillator)
    data = PROBLEMS["weak_van_der_pol"]().dataset(8, TEST_SEED)
    problems = data.initial_states, data.target_states
    costs = [float(data.teacher.cost(*problems, controls).sum())
             for controls in (model.solve(*problems), data.controls)]
    assert figures["cost_gap"] == pytest.approx(costs[0] / costs[1] - 1, rel=1e-4)


def test_a_network_without_cycles_has_the_figures_of_its_one_answer():
    model, figures = run_variant(TINY.variants[1], 1e-3, 0, TINY)
    data = PROBLEMS[TINY.problem]().dataset(8, TEST_SEED)
    only, = figures["cycles"]
    controls = model.solve(data.initial_states, data.target_states)
    assert only["control_mse"] == figures["control_mse"] == pytest.approx(
        decisive("control_mse", data, controls)[1], rel=1e-4)
    assert figures["cycle_improves"] == [] and len(figures["before"]) == 1


def test_the_row_of_the_linear_map_is_that_of_a_least_squares_fit_within_the_limits():
    study = dataclasses.replace(TINY, problem="bounded_inputs", num_train=40, num_test=30)
    row, problem = runs._linear_row(study, (0, 1)), PROBLEMS["bounded_inputs"]()
    test_set = problem.dataset(30, TEST_SEED)
    for seed, run in zip((0, 1), row["runs"], strict=True):
        data = problem.dataset(40, seed)
        W, *_ = np.linalg.lstsq(np.hstack([data.initial_states, data.target_states]),
                                data.controls.numpy()[:, :, 0], rcond=None)
        u = np.hstack([test_set.initial_states, test_set.target_states]) @ W
        u = u.clip(-1, 1)[..., None]
        assert run["final_error_mean"] == pytest.approx(arrivals(test_set, u).mean(), rel=1e-9)
        assert run["control_mse"] == pytest.approx(decisive("control_mse", test_set, u)[1])
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


# ---------------------------------------------------------------- what is shipped

def test_the_network_that_is_shipped_is_that_of_the_chosen_rate_and_seed_0(tmp_path, monkeypatch):
    study = dataclasses.replace(TINY, shipped=("one",))
    tuning = Tuning(tmp_path, study, ONE)
    for lr, tried, met in ((2e-3, 3.0, 1.0), (4e-3, 1.0, 9.0), (8e-3, 2.0, 2.0)):
        for seed in (*TUNING_SEEDS, 0, 1):
            path = tuning.path(lr, seed)
            io.write_json(path, {"validation": tried if seed in TUNING_SEEDS else met})
            path.with_suffix(".pt").write_text(f"{lr} {seed}")
    monkeypatch.setattr(runs, "root", lambda: tmp_path / "root")
    runs.ship(tmp_path, study)
    runs.ship(tmp_path, dataclasses.replace(study, name="sweep"))
    made = {path.relative_to(tmp_path / "root").as_posix(): path.read_text()
            for path in (tmp_path / "root").rglob("*") if path.is_file()}
    assert made == {"data/pretrained/laboratory/tiny_one.pt": "0.004 0",
                    "data/pretrained/laboratory/one.pt": "0.004 0"}


def test_the_networks_of_a_variant_are_those_of_the_chosen_rate_and_none_where_one_failed(
        tmp_path):
    tuning, teacher = Tuning(tmp_path, TINY, ONE), PROBLEMS[TINY.problem]().teacher
    for lr, figure in ((2e-3, 1.0), (4e-3, 2.0)):
        for seed in TUNING_SEEDS:
            io.write_json(tuning.path(lr, seed), {"validation": figure})
        for seed in (0, 2):
            ONE.network(teacher, seed + int(1e4 * lr)).save(
                tuning.path(lr, seed).with_suffix(".pt"))
    first, failed, third = tuning.networks((0, 1, 2))
    assert failed is None and not first.training
    for model, seed in ((first, 20), (third, 22)):
        assert torch.equal(model.encoder[0].weight, ONE.network(teacher, seed).encoder[0].weight)


def test_a_judge_may_not_take_a_name_that_a_run_has():
    """One that gave "failed" marked every run as failed."""
    problems = generate_dataset(4, seed=0)
    for name in ("failed", "cycles", "control_mse"):
        study = dataclasses.replace(STUDIES["sweep"],
                                    judge=lambda data, plans, name=name: {name: 0.1})
        with pytest.raises(ValueError, match=f"judge gives {name}, which is the name of"):
            runs.figures_of(study, problems, problems.controls)
