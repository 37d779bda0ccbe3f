"""Sweeps that resume, share their work and add up; and what is shipped of them."""

import dataclasses
import multiprocessing
import os
import signal
from concurrent.futures.process import BrokenProcessPool
from functools import partial

import numpy as np
import pytest
import torch

from trc_lib import course, io
from trc_lib.course import experiments
from trc_lib.course.experiments import STUDIES, Study, Variant, definitions, front, recipe_of, runs
from trc_lib.course.experiments.runs import FAILED, TEST_SEED, TUNING_SEEDS, Tuning
from trc_lib.data import generate_dataset
from trc_lib.evaluation import Metrics, evaluate, measure
from trc_lib.model import TinyRecursiveControl
from trc_lib.model.baselines import MLP
from trc_lib.problems import PROBLEMS

ONE = Variant("one", "one", partial(definitions.recursive, H_cycles=1, L_cycles=1),
              ({"epochs": 1},))
PAIR = (ONE, Variant("mlp", "mlp", definitions.mlp, ({"epochs": 1},)))
MEETING = Study("meeting", "double_integrator", "control_mse", PAIR, num_train=128,
                num_validation=32, num_test=64)
PART = 150  # of the test problems that take long to solve
each_study = pytest.mark.parametrize("study", STUDIES.values(), ids=list(STUDIES))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """A short search, and short measurements of the time without ONNX."""
    monkeypatch.setattr(runs, "LOWEST", 2e-3)
    monkeypatch.setattr(runs, "HIGHEST", 4e-3)
    for name, value in (("SECONDS", 0.001), ("BATCH", 16), ("SINGLE", 4),
                        ("_session", lambda model: None)):
        monkeypatch.setattr(front, name, value)


def sweep(folder, study=MEETING, seeds=(0,), workers=1, **changes):
    study = dataclasses.replace(study, **changes)
    return experiments.run_sweep(folder, study, seeds, workers)


def in_folder(folder, table, name, seed, suffix=".pt"):
    """The file of a run of the chosen learning rate."""
    rate = f"{table['variants'][name]['lr']:g}"
    path, = folder.glob(f"{name}-*/lr-{rate}-seed-{seed}{suffix}")
    return path


def test_a_sweep_leaves_one_file_a_run_and_a_table_that_adds_up(tmp_path):
    table = sweep(tmp_path, seeds=(0, 1, 2))
    row, tuning = table["variants"]["one"], Tuning(tmp_path, MEETING, ONE)
    figures = [run["control_mse"] for run in row["runs"]]
    assert len(set(figures)) == 3 and row["failed"] == 0
    assert row["mean"]["control_mse"] == pytest.approx(np.mean(figures))
    assert row["spread"]["control_mse"] == pytest.approx(np.std(figures, ddof=1))
    for rate, tried in row["tuning"].items():
        assert tried == [tuning.read(float(rate), seed)["validation"] for seed in TUNING_SEEDS]
    means = {float(rate): np.mean(tried) for rate, tried in row["tuning"].items()}
    assert set(means) == {2e-3, 4e-3} and row["lr"] == min(means, key=means.get)
    assert row["recipe"] == recipe_of(MEETING, ONE)
    assert (table["figure"], table["tuning_seeds"]) == ("control_mse", list(TUNING_SEEDS))
    assert table["variants"]["linear"]["mean"]["final_error_max"] < 1e-9
    for name, kind in (("one", TinyRecursiveControl), ("mlp", MLP)):  # the saved one does the same
        model = kind.load(in_folder(tmp_path, table, name, 1))
        again = evaluate(model, generate_dataset(64, TEST_SEED))[-1]
        run = table["variants"][name]["runs"][1]
        assert again.control_mse == pytest.approx(run["control_mse"], rel=1e-5)
    points = {point["name"]: point for point in table["front"]}
    assert set(points) == {"one", "mlp"}
    for name, point in points.items():
        for kept, run in zip(point["runs"], table["variants"][name]["runs"], strict=True):
            for figure, value in kept.items():
                assert value == pytest.approx(run[figure], rel=1e-5, abs=1e-9)
    assert not list(tmp_path.rglob("*.lock"))


def test_a_sweep_goes_on_where_it_was_stopped(tmp_path):
    sweep(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    lost = next(path for path in before if path.stem.endswith("seed-0"))
    figure = io.read_json(lost)["control_mse"]
    lost.unlink()
    sweep(tmp_path)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert [path for path in before if after[path] != before[path]] == [lost]
    assert io.read_json(lost)["control_mse"] == figure  # the same run gives the same figures


def test_a_sweep_makes_the_runs_of_a_changed_recipe_and_of_no_other_anew(tmp_path):
    sweep(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    longer = dataclasses.replace(PAIR[1], trainings=({"epochs": 2},))
    table = sweep(tmp_path, variants=(ONE, longer))
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert before.items() <= after.items()
    new = {path.parent for path in after.keys() - before.keys()}
    assert len(new) == 1 and new.pop().name == f"mlp-{Tuning(tmp_path, MEETING, longer).digest}"
    assert table["variants"]["mlp"]["recipe"]["trainings"][0]["epochs"] == 2


def _kill(teacher, seed):
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return definitions.mlp(teacher, seed)


def test_a_killed_worker_ends_the_sweep_and_loses_no_finished_run(tmp_path):
    deadly = Variant("deadly", "deadly", _kill)
    sweep(tmp_path, variants=(ONE,))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    with pytest.raises(BrokenProcessPool):
        sweep(tmp_path, variants=(ONE, deadly), workers=2)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert len(sweep(tmp_path, workers=2)["variants"]["mlp"]["runs"]) == 1


def test_a_run_that_another_process_is_making_is_left_to_it(tmp_path):
    tuning = Tuning(tmp_path, MEETING, ONE)
    path = tuning.path(1e-3, 0)
    with io.claimed(path.with_suffix(".lock"), path):
        runs._run_once((tuning, 1e-3, 0))
        assert not path.exists()
    runs._run_once((tuning, 1e-3, 0))
    assert path.exists() and path.with_suffix(".pt").exists()


def test_a_variant_that_diverges_is_counted_and_not_hidden(tmp_path, monkeypatch):
    def diverge(*arguments, **options):
        raise FloatingPointError("the loss is no longer finite in epoch 1")

    monkeypatch.setattr(runs, "train", diverge)
    table = sweep(tmp_path, seeds=(0, 1), variants=(ONE,))
    row = table["variants"]["one"]
    assert row["failed"] == 2 and row["mean"] == {} and table["front"] == []
    assert "no longer finite" in row["runs"][0]["failed"]
    assert row["runs"][0]["control_mse"] == row["runs"][0]["validation"] == FAILED
    assert not list(tmp_path.rglob("*.pt"))


def test_a_study_of_bounded_inputs_keeps_the_bounds_and_clamps_the_linear_map(tmp_path):
    one = Variant("one", "one", partial(definitions.recursive, H_cycles=1), ({"epochs": 1},))
    table = sweep(tmp_path, STUDIES["bounded"], variants=(one,), num_train=128, num_validation=32,
                  num_test=64)
    linear = table["variants"]["linear"]["runs"][0]
    assert linear["excess_energy"] is None and 0.05 < linear["final_error_mean"] < 0.3
    assert 0.5 < linear["success_rate"] < 0.95
    model = TinyRecursiveControl.load(in_folder(tmp_path, table, "one", 0))
    again = evaluate(model, PROBLEMS["bounded_inputs"]().dataset(64, TEST_SEED))[-1]
    run = table["variants"]["one"]["runs"][0]
    assert again.control_mse == pytest.approx(run["control_mse"], rel=1e-5)
    from_nothing = [point for point in table["front"] if point["name"] == "newton"]
    errors = [point["runs"][0]["control_mse"] for point in from_nothing]
    assert len(errors) == 9 and errors[0] > 0.01 and errors[-1] < 1e-12
    assert {point["name"] for point in table["front"]} == {"one", "newton", "linear_newton"}


def test_a_variant_of_two_trainings_is_measured_after_each_and_after_every_cycle(tmp_path):
    two = Variant("two", "two", partial(definitions.recursive, feedback=definitions.proportional),
                  ({"part": "proposal", "epochs": 2}, {"part": "cycles", "epochs": 1}))
    table = sweep(tmp_path, variants=(two,))
    row = table["variants"]["two"]
    model = TinyRecursiveControl.load(in_folder(tmp_path, table, "two", 0))
    run, test_set = row["runs"][0], generate_dataset(64, TEST_SEED)
    proposals, *_, last = evaluate(model, test_set)
    (first,) = run["before"]  # the second training does not change the proposals
    assert first["control_mse"] == pytest.approx(proposals.control_mse, rel=1e-5)
    assert run["control_mse"] == pytest.approx(last.control_mse, rel=1e-5)
    assert 0 <= first["train_seconds"] <= run["train_seconds"]
    again = evaluate(model, test_set, 6)
    for figure in ("control_mse", "cost_ratio", "final_error_mean"):
        assert [cycle[figure] for cycle in run["cycles"]] == pytest.approx(
            [getattr(each, figure) for each in again], rel=1e-5)
    assert len(run["cycle_improves"]) == 6 and all(0 <= part <= 1 for part in
                                                   run["cycle_improves"])


@pytest.mark.parametrize(("study", "name"), [
    ("sweep", "corrector"), ("bounded", "one_call"), ("bounded", "mlp_parameters")])
def test_the_networks_of_the_studies_answer_alike_in_every_implementation(
        study, name, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.undo()  # of `_session`
    monkeypatch.setattr(front, "SECONDS", 0.001)
    problem = PROBLEMS[STUDIES[study].problem]()
    network, = (variant.network for variant in STUDIES[study].variants if variant.name == name)
    model, data = network(problem.teacher, 0), problem.dataset(20, 5)
    model.set_scaling(data)
    fast, problems = front._Fast(model.eval()), (data.initial_states, data.target_states)
    expected = model.solve(*problems)
    assert fast.session is not None
    for solve in (fast._torch, fast._onnx, fast.batch):
        found = solve(*problems)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for solve in (fast._torch_one, fast._onnx_one, fast.one):
        found = solve(*(states[3].numpy() for states in problems))
        assert found.dtype == float
        np.testing.assert_allclose(found, expected[3], rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- what is stored

@each_study
def test_a_stored_table_is_of_the_recipes_of_today(study):
    table = experiments.load_results(study.name)
    assert set(table["variants"]) == {"linear"} | {variant.name for variant in study.variants}
    assert (table["figure"], table["tuning_seeds"], table["seeds"]) == (
        study.figure, list(TUNING_SEEDS), list(experiments.SEEDS))
    assert (table["num_train"], table["num_test"]) == (study.num_train, study.num_test)
    for variant in study.variants:
        row = table["variants"][variant.name]
        assert row["label"] == variant.label and row["recipe"] == recipe_of(study, variant)


@each_study
def test_the_means_and_spreads_of_a_stored_table_are_those_of_its_runs(study):
    for row in experiments.load_results(study.name)["variants"].values():
        whole = [run for run in row["runs"] if "failed" not in run]
        assert row["failed"] == len(row["runs"]) - len(whole)
        names = {name for name, value in whole[0].items() if isinstance(value, int | float)}
        assert set(row["mean"]) == set(row["spread"]) == names and "control_mse" in names
        for name in names:
            values = [run[name] for run in whole]
            assert row["mean"][name] == pytest.approx(np.mean(values), rel=1e-9, abs=1e-15)
            spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
            assert row["spread"][name] == pytest.approx(spread, rel=1e-6, abs=1e-15)


@each_study
def test_the_learning_rates_of_a_stored_table_have_the_best_mean_of_their_tuning(study):
    for name, row in experiments.load_results(study.name)["variants"].items():
        if name != "linear":
            means = {float(rate): np.mean(tried) for rate, tried in row["tuning"].items()}
            assert all(len(tried) == len(TUNING_SEEDS) for tried in row["tuning"].values())
            assert row["lr"] == min(means, key=means.get)
            assert min(means) < row["lr"] < max(means) or not 2e-4 <= row["lr"] <= 8e-3


@each_study
def test_the_stored_front_has_a_point_for_every_network_and_every_number_of_iterations(study):
    table = experiments.load_results(study.name)
    points = {(point["name"], point["iterations"]): point for point in table["front"]}
    assert len(points) == len(table["front"])
    assert set(points) == {(variant.name, 0) for variant in study.variants} | {
        (correction.name, iterations) for correction in study.corrections
        for iterations in correction.iterations}
    plain = {field.name for field in dataclasses.fields(Metrics)}
    for point in points.values():
        assert 0 < point["batch_ms"] <= point["one_ms"]
    for variant in study.variants:
        rows = [run for run in table["variants"][variant.name]["runs"] if "failed" not in run]
        for kept, run in zip(points[variant.name, 0]["runs"], rows, strict=True):
            for figure, value in kept.items():
                if study.judge is not None and figure not in plain:
                    continue  # of plans that were not corrected; those of the table were
                if value is None:  # the parts of a mistake, which a nonlinear system has not
                    assert run[figure] is None
                    continue
                slack = 2e-4 if figure == "success_rate" else 1e-9
                assert value == pytest.approx(run[figure], rel=1e-2, abs=slack)
    for correction in study.corrections:
        if {(correction.start, 0), (correction.name, 0)} <= points.keys():
            pairs = zip(*(points[name, 0]["runs"] for name in (correction.name, correction.start)))
            for ours, theirs in pairs:  # a network's answer in float32, and put into its limits
                for figure, value in ours.items():
                    assert value == (theirs[figure] if value is None else
                                     pytest.approx(theirs[figure], rel=1e-4)), figure


@each_study
def test_the_networks_that_are_shipped_do_what_the_stored_table_says(study):
    table = experiments.load_results(study.name)
    problem = PROBLEMS[study.problem]()
    # landings take a tenth of a second each: of these only a part, so the shares are only near
    problems = problem.dataset(PART if study.judge else study.num_test, TEST_SEED)
    for variant in study.variants:
        row = table["variants"][variant.name]
        assert len(row["runs"]) == len(table["seeds"])
        if variant.name in study.shipped:
            prefix = "" if study.name == "sweep" else f"{study.name}_"
            network = course.pretrained(f"laboratory/{prefix}{variant.name}",
                                        type(variant.network(problem.teacher, 0)))
            controls = network.solve(problems.initial_states, problems.target_states)
            again, run = measure(problems, controls), row["runs"][0]
            if study.judge is not None:
                judged = study.judge(problems, controls)
                for share in ("landed", "unsafe", "rejected"):
                    near = 4 * (run[share] * (1 - run[share]) / PART) ** 0.5 + 2 / PART
                    assert judged[share] == pytest.approx(run[share], abs=near), share
                assert judged["fuel_excess"] == pytest.approx(run["fuel_excess"], abs=0.005)
                continue
            assert definitions.FIGURES[study.figure](dataclasses.asdict(again)) == pytest.approx(
                run[study.figure], rel=1e-3)
            assert again.final_error_mean == pytest.approx(run["final_error_mean"], rel=1e-3)
            assert again.success_rate == pytest.approx(run["success_rate"], abs=2e-4)
            assert again.cost_ratio == pytest.approx(run["cost_ratio"], rel=1e-5)
