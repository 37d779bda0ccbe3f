"""Sweeps that resume, share their work and add up; and what is shipped of them."""

import dataclasses
import os
import signal
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest

from trc_lib import course, io
from trc_lib.course import experiments
from trc_lib.course.experiments import STUDIES, Study, Variant, runs
from trc_lib.course.experiments.runs import TEST_SEED, Tuning
from trc_lib.data import generate_dataset
from trc_lib.evaluation import evaluate, measure
from trc_lib.model import FinalError, Proportional, TinyRecursiveControl
from trc_lib.model.baselines import MLP
from trc_lib.problems import PROBLEMS

ONE = Variant("one", "one", sizes={"H_cycles": 1, "L_cycles": 1}, training={"epochs": 1})
PAIR = (ONE, Variant("mlp", "mlp", mlp="parameters", training={"epochs": 1}))
MEETING = Study("meeting", "double_integrator", PAIR, shipped=(), num_train=128,
                num_validation=32, num_test=64)


@pytest.fixture(autouse=True)
def short_search(monkeypatch):
    monkeypatch.setattr(runs, "HIGHEST", 2e-3)


def sweep(folder, study=MEETING, seeds=(0,), workers=1, **changes):
    study = dataclasses.replace(study, **changes)
    return experiments.run_sweep(folder, study, seeds, workers)["variants"]


def test_a_sweep_leaves_one_file_a_run_and_a_table_that_adds_up(tmp_path):
    table = sweep(tmp_path, seeds=(0, 1, 2))
    row, tuning = table["one"], Tuning(tmp_path, ONE, (0, 1, 2))
    errors = [run["final_error_mean"] for run in row["runs"]]
    assert len(set(errors)) == 3 and row["failed"] == 0
    assert row["mean"]["final_error_mean"] == pytest.approx(np.mean(errors))
    assert row["spread"]["final_error_mean"] == pytest.approx(np.std(errors, ddof=1))
    tried = {float(lr): error for lr, error in row["tuning"].items()}
    best = [lr for lr, error in tried.items() if np.sum(np.array([*tried.values()]) < error) < 2]
    by_rate = {lr: np.mean([tuning.read(lr, seed)["validation_error"] for seed in (0, 1, 2)])
               for lr in best}
    assert len(tried) >= 3
    assert row["lr"] == min(by_rate, key=by_rate.get) and len(by_rate) == 2
    assert {float(lr): error for lr, error in row["run_off"].items()} == pytest.approx(by_rate)
    assert table["linear"]["mean"]["final_error_max"] < 1e-9
    for variant, kind in zip(PAIR, (TinyRecursiveControl, MLP)):  # the saved network does the same
        path = Tuning(tmp_path, variant, ()).path(table[variant.name]["lr"], 1)
        again = evaluate(kind.load(path.with_suffix(".pt")), generate_dataset(64, TEST_SEED))[-1]
        figure = table[variant.name]["runs"][1]["final_error_mean"]
        assert again.final_error_mean == pytest.approx(figure, rel=1e-5)
    assert not list(tmp_path.rglob("*.lock"))


def test_a_sweep_goes_on_where_it_was_stopped(tmp_path):
    sweep(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    lost = next(path for path in before if "seed-0" in path.name)
    figure = io.read_json(lost)["final_error_mean"]
    lost.unlink()
    sweep(tmp_path)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert [path for path in before if after[path] != before[path]] == [lost]
    assert io.read_json(lost)["final_error_mean"] == figure  # the same run gives the same figures


def _kill(teacher):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_ends_the_sweep_and_loses_no_finished_run(tmp_path):
    deadly = Variant("deadly", "deadly", feedback=_kill)
    sweep(tmp_path, variants=(ONE,), run_off=0)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    with pytest.raises(BrokenProcessPool):
        sweep(tmp_path, variants=(ONE, deadly), run_off=0, workers=2)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert len(sweep(tmp_path, workers=2, run_off=0)["mlp"]["runs"]) == 1


def test_a_run_that_another_process_is_making_is_left_to_it(tmp_path):
    tuning = Tuning(tmp_path, ONE, ())
    path = tuning.path(1e-3, 0)
    with io.claimed(path.with_suffix(".lock"), path):
        runs._run_once((MEETING, tuning, 1e-3, 0))
        assert not path.exists()
    runs._run_once((MEETING, tuning, 1e-3, 0))
    assert path.exists()


def test_a_variant_that_diverges_is_counted_and_not_hidden(tmp_path, monkeypatch):
    def diverge(*arguments, **options):
        raise FloatingPointError("the loss is no longer finite in epoch 1")

    monkeypatch.setattr(runs, "train", diverge)
    row = sweep(tmp_path, seeds=(0, 1), variants=(ONE,))["one"]
    assert row["failed"] == 2 and row["mean"] == {}
    assert "no longer finite" in row["runs"][0]["failed"]


def test_a_study_of_bounded_inputs_keeps_the_bounds_and_clamps_the_linear_map(tmp_path):
    one = Variant("one", "one", sizes={"H_cycles": 1}, training={"epochs": 1})
    table = sweep(tmp_path, STUDIES["bounded"], variants=(one,), num_train=128, num_validation=32,
                  num_test=64)
    linear = table["linear"]["runs"][0]
    assert linear["excess_energy"] is None and 0.05 < linear["final_error_mean"] < 0.3
    assert 0.5 < linear["success_rate"] < 0.95
    model = TinyRecursiveControl.load(next((tmp_path / "one").glob("*seed-0.pt")))
    again = evaluate(model, PROBLEMS["bounded_inputs"]().dataset(64, TEST_SEED))[-1]
    figure = table["one"]["runs"][0]["final_error_mean"]
    assert again.final_error_mean == pytest.approx(figure, rel=1e-5)


def test_a_variant_of_two_trainings_is_measured_after_each_and_a_study_may_have_no_run_off(
        tmp_path):
    two = Variant("two", "two", training={"part": "cycles", "epochs": 1},
                  feedback=lambda teacher: Proportional(FinalError(teacher.system)),
                  before={"part": "proposal", "epochs": 2})
    row = sweep(tmp_path, variants=(two,), run_off=0)["two"]
    model = TinyRecursiveControl.load(next((tmp_path / "two").glob("*seed-0.pt")))
    run, test_set = row["runs"][0], generate_dataset(64, TEST_SEED)
    proposals, *_, last = evaluate(model, test_set)
    (first,) = run["before"]  # the second training does not change the proposals
    assert first["final_error_mean"] == pytest.approx(proposals.final_error_mean, rel=1e-5)
    assert run["final_error_mean"] == pytest.approx(last.final_error_mean, rel=1e-5)
    assert 0 <= first["train_seconds"] <= run["train_seconds"]
    assert row["run_off"] == {}
    assert row["lr"] == float(min(row["tuning"], key=row["tuning"].get))
    costs = [each.cost_ratio for each in evaluate(model, test_set, 6)]
    assert run["cycle_cost_ratios"] == pytest.approx(costs, rel=1e-5)
    assert len(run["cycle_cheapens"]) == 6


@pytest.mark.parametrize("study", STUDIES.values(), ids=list(STUDIES))
def test_the_networks_that_are_shipped_do_what_the_stored_table_says(study):
    table = experiments.load_results(study.name)
    assert set(table["variants"]) == {"linear"} | {variant.name for variant in study.variants}
    problems = PROBLEMS[study.problem]().dataset(study.num_test, TEST_SEED)
    for variant in study.variants:
        row = table["variants"][variant.name]
        assert len(row["runs"]) == len(table["seeds"]) and row["label"] == variant.label
        if variant.name in study.shipped:
            prefix = "" if study.name == "sweep" else f"{study.name}_"
            network = course.pretrained(f"laboratory/{prefix}{variant.name}",
                                        MLP if variant.mlp else TinyRecursiveControl)
            controls = network.solve(problems.initial_states, problems.target_states)
            again, run = measure(problems, controls), row["runs"][0]
            assert again.final_error_mean == pytest.approx(run["final_error_mean"], rel=1e-3)
            assert again.success_rate == pytest.approx(run["success_rate"], abs=2e-4)
            assert again.cost_ratio == pytest.approx(run["cost_ratio"], rel=1e-5)
