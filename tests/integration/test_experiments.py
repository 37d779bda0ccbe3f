"""The laboratory: objectives, variants, and a sweep that resumes, shares its work and adds up."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from trc_lib import course, io
from trc_lib.course import experiments
from trc_lib.course.experiments import STUDIES, Study, Variant, multiply_adds
from trc_lib.course.experiments import runs as sweep
from trc_lib.course.experiments.runs import TEST_SEED
from trc_lib.data import generate_dataset
from trc_lib.evaluation import evaluate, final_error, measure
from trc_lib.model import FinalError, NoFeedback, Proportional, TinyRecursiveControl
from trc_lib.model.baselines import MLP, MLPConfig
from trc_lib.problems import PROBLEMS
from trc_lib.teachers import MinimumEnergyController
from trc_lib.training import TrainConfig, imitation_loss, loop, train

BY_NAME = {variant.name: variant for variant in STUDIES["sweep"].variants}
TEACHER = MinimumEnergyController()


# ---------------------------------------------------------------- objectives

@pytest.fixture
def cycles(dataset):
    optimum = dataset.controls[:8]
    return optimum + torch.randn(4, *optimum.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), optimum


@pytest.mark.parametrize(("objective", "by_hand"), [
    ("mse", lambda J, w: J[3] + w * (J[0] + J[1] + J[2])),
    ("rms", lambda J, w: J[3] ** 0.5 + w * (J[0] ** 0.5 + J[1] ** 0.5 + J[2] ** 0.5)),
    ("improvement", lambda J, w: (1 + w) * J[3] - w * J[0]),  # the sum of the gains telescopes
    ("relative improvement", lambda J, w: J[3] - w * (3 - J[1] / J[0] - J[2] / J[1] - J[3] / J[2])),
])
def test_every_objective_is_its_formula(cycles, objective, by_hand):
    J = [float(np.mean((np.asarray(u) - np.asarray(cycles[1])) ** 2)) for u in cycles[0]]
    value, loss = imitation_loss(*cycles, cycle_weight=0.3, objective=objective)
    assert float(value) == pytest.approx(by_hand(J, 0.3), rel=1e-8) and float(loss) == pytest.approx(J[3], rel=1e-12)


@pytest.mark.parametrize("objective", ["mse", "rms"])
def test_the_final_state_counts_by_its_weight(cycles, objective):
    errors = torch.randn(4, 8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    root = 1.0 if objective == "mse" else 0.5
    by_hand = sum(w * 0.7 * float((errors[h] ** 2).sum() / 16) ** root for h, w in enumerate((0.3, 0.3, 0.3, 1.0)))
    without = imitation_loss(*cycles, 0.3, objective)
    with_it = imitation_loss(*cycles, 0.3, objective, errors, final_weight=0.7)
    assert float(with_it[0] - without[0]) == pytest.approx(by_hand, rel=1e-6) and with_it[1] == without[1]


def test_training_measures_the_final_state_by_simulation(tiny, dataset, other_dataset, monkeypatch):
    seen = []

    def spy(cycles, optimum, cycle_weight=0.0, objective="mse", final_errors=None, final_weight=0.0):
        if final_errors is not None:
            rows = [(dataset.controls.float() == u).all(dim=(1, 2)).nonzero().item() for u in optimum]
            for u, errors in zip(cycles.detach(), final_errors.detach()):
                expected = final_error(dataset.system, dataset.initial_states[rows], dataset.target_states[rows], u.double())
                np.testing.assert_allclose(errors.norm(dim=1), expected, rtol=1e-4, atol=1e-5)
            seen.append(final_weight)
        return imitation_loss(cycles, optimum, cycle_weight, objective, final_errors, final_weight)

    monkeypatch.setattr(loop, "imitation_loss", spy)
    _trained(tiny, dataset, other_dataset, final_weight=0.7)
    assert set(seen) == {0.7}


def test_the_root_objective_has_a_finite_slope_at_the_optimum(cycles):
    controls = cycles[1].expand(4, -1, -1, -1).clone().requires_grad_()
    imitation_loss(controls, cycles[1], 1.0, "rms")[0].backward()
    assert torch.isfinite(controls.grad).all() and not controls.grad.any()


def test_an_unknown_objective_is_refused():
    with pytest.raises(ValueError, match="objective='huber' is unknown; accepted are 'mse', 'rms'"):
        TrainConfig(objective="huber")


# ---------------------------------------------------------------- random depth

def _trained(tiny, dataset, other_dataset, **options):
    model = tiny()
    history = train(model, dataset, other_dataset, TrainConfig(epochs=2, batch_size=16, **options), progress=False)
    return model, history


def test_random_depth_runs_every_number_of_cycles_up_to_the_most(tiny, dataset, other_dataset, monkeypatch):
    depths, predict = [], TinyRecursiveControl.predict

    def watched(self, x0, xT, H_cycles=None):
        depths.append(H_cycles)
        return predict(self, x0, xT, H_cycles)

    monkeypatch.setattr(TinyRecursiveControl, "predict", watched)
    _trained(tiny, dataset, other_dataset, most_cycles=4)
    assert {depth for depth in depths if depth is not None} <= {1, 2, 3, 4} and len(set(depths)) >= 4
    assert depths.count(None) == 2  # it is measured, after each epoch, at the network's own depth


def test_random_depth_draws_the_same_depths_after_a_stop(tiny, dataset, other_dataset, tmp_path):
    config = TrainConfig(epochs=3, batch_size=16, most_cycles=4)
    whole, stopped = tiny(), tiny()
    train(whole, dataset, other_dataset, config, progress=False)

    def stop(history):
        if len(history) == 2:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train(tiny(), dataset, other_dataset, config, tmp_path, progress=False, on_epoch=stop)
    train(stopped, dataset, other_dataset, config, tmp_path, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), stopped.state_dict().values()))


# ---------------------------------------------------------------- the multilayer perceptron

def test_an_mlp_is_its_formula_and_keeps_its_units(dataset):
    model = MLP(MLPConfig(width=7, depth=2), seed=3)
    model.set_scaling(dataset)
    x0, xT = dataset.initial_states[:5].float(), dataset.target_states[:5].float()
    h = np.concatenate([x0 / model.state_scale, xT / model.state_scale], axis=1)
    weights = [parameter.detach().numpy() for parameter in model.parameters()]
    for W, b in zip(weights[0:4:2], weights[1:4:2]):
        h = h @ W.T + b
        h = h / (1 + np.exp(-h))
    expected = (h @ weights[4].T + weights[5])[..., None] * float(model.control_scale)
    output = model(x0, xT)
    np.testing.assert_allclose(output["controls"].detach(), expected, rtol=1e-4, atol=1e-6)
    assert output["cycle_controls"].shape == (1, 5, 15, 1)
    with pytest.raises(ValueError, match="H_cycles=3 is not accepted: an MLP has no cycles"):
        model(x0, xT, H_cycles=3)


@pytest.mark.parametrize("numbers", [100, 5_000, 146_718])
def test_an_mlp_is_as_wide_as_its_budget_allows(numbers):
    model = MLP.within(numbers)
    wider = MLP(dataclasses.replace(model.config, width=model.config.width + 1))
    assert model.num_parameters <= numbers < wider.num_parameters


def test_an_mlp_learns_is_saved_and_is_not_taken_for_another_network(dataset, other_dataset, tmp_path):
    model = MLP(MLPConfig(width=32, depth=1))
    before = evaluate(model, other_dataset)[-1].control_mse
    history = train(model, dataset, other_dataset, TrainConfig(epochs=20, batch_size=16, lr=1e-2), tmp_path, progress=False)
    assert history.best["eval_loss"] < 0.1 * before
    loaded = MLP.load(tmp_path / "best_model.pt")
    problems = other_dataset.initial_states[:4], other_dataset.target_states[:4]
    assert torch.equal(loaded.solve(*problems), model.solve(*problems))
    with pytest.raises(ValueError, match=r"is not a checkpoint of the kind trc_lib\.model"):
        TinyRecursiveControl.load(tmp_path / "best_model.pt")


@pytest.mark.parametrize("make", [
    lambda: MLP.within(5_000), TinyRecursiveControl.create_two_level_small,
    lambda: TinyRecursiveControl.create_two_level_small(H_cycles=2, L_cycles=1, feedback=NoFeedback())])
def test_multiply_adds_are_half_the_operations_that_pytorch_counts(make):
    model = make()
    model.system.rollout_unchecked = lambda x0, u: x0[:, None]  # the roll-out is not counted
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.predict(torch.zeros(1, 2), torch.ones(1, 2))
    assert multiply_adds(model) == counter.get_total_flops() // 2
    assert not any(module._forward_hooks for module in model.modules())


# ---------------------------------------------------------------- the variants

@pytest.mark.parametrize("study", STUDIES.values(), ids=list(STUDIES))
def test_rivals_are_told_apart_and_can_all_be_made(study):
    names, teacher = [variant.name for variant in study.variants], PROBLEMS[study.problem]().teacher
    assert len(names) == len(set(names)) == len({variant.label for variant in study.variants}) and set(study.shipped) <= set(names)
    for variant in study.variants:
        model, configs = variant.make(teacher, seed=1), variant.train_configs(1e-3, 1)
        assert model.seed == 1 and model.system.same_as(teacher.system) and len(configs) == 1 + (variant.before is not None)
        assert all(config.seed == 1 and config.patience > config.epochs and config.part in model.parts for config in configs)


@pytest.mark.parametrize("mlp", ["mlp_parameters", "mlp_compute"])
def test_an_mlp_gets_the_budget_of_the_network_that_it_meets(mlp):
    variant, model = BY_NAME[mlp].make(TEACHER, 0), BY_NAME["recursive"].make(TEACHER, 0)
    measure = {"parameters": lambda net: net.num_parameters, "compute": multiply_adds}[BY_NAME[mlp].mlp]
    assert 0.98 < measure(variant) / measure(model) <= 1.0


# ---------------------------------------------------------------- the sweep

PAIR = (Variant("one", "one", sizes={"H_cycles": 1, "L_cycles": 1}, training={"epochs": 1}),
        Variant("mlp", "mlp", mlp="parameters", training={"epochs": 1}))
MEETING = Study("meeting", "double_integrator", PAIR, shipped=(), num_train=128, num_validation=32, num_test=64)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(sweep, "HIGHEST", 2e-3)  # the search ends soon


def test_a_sweep_leaves_one_file_a_run_and_a_table_that_adds_up(small, tmp_path):
    table = experiments.run_sweep(tmp_path, MEETING, seeds=(0, 1, 2), workers=1, progress=False)
    row = table["variants"]["one"]
    errors = [run["final_error_mean"] for run in row["runs"]]
    assert len(set(errors)) == 3 and row["failed"] == 0
    assert row["mean"]["final_error_mean"] == pytest.approx(np.mean(errors))
    assert row["spread"]["final_error_mean"] == pytest.approx(np.std(errors, ddof=1))
    assert row["lr"] in sorted(map(float, row["tuning"]), key=lambda lr: row["tuning"][f"{lr:g}"])[:2] and len(row["tuning"]) >= 3
    by_rate = {lr: np.mean([io.read_json(tmp_path / "one" / f"lr-{lr:g}-seed-{seed}.json")["validation_error"]
                            for seed in (0, 1, 2)]) for lr in sweep._two_best({float(k): v for k, v in row["tuning"].items()})}
    assert row["lr"] == min(by_rate, key=by_rate.get) and len(by_rate) == 2
    assert {float(lr): error for lr, error in row["run_off"].items()} == pytest.approx(by_rate)
    assert table["variants"]["linear"]["mean"]["final_error_max"] < 1e-9
    for variant in PAIR:  # what is in the table is what the saved network does
        run, model = table["variants"][variant.name]["runs"][1], type(variant.make(TEACHER, 0)).load(sweep._path(
            tmp_path, variant, table["variants"][variant.name]["lr"], 1).with_suffix(".pt"))
        again = evaluate(model, generate_dataset(64, TEST_SEED))[-1]
        assert again.final_error_mean == pytest.approx(run["final_error_mean"], rel=1e-5)
    assert not list(tmp_path.rglob("*.lock"))


def test_a_sweep_goes_on_where_it_was_stopped(small, tmp_path, monkeypatch):
    experiments.run_sweep(tmp_path, MEETING, seeds=(0,), workers=1, progress=False)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    lost = next(path for path in before if "seed-0" in path.name)
    kept_text = io.read_json(lost)["final_error_mean"]
    lost.unlink()
    experiments.run_sweep(tmp_path, MEETING, seeds=(0,), workers=1, progress=False)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert [path for path in before if after[path] != before[path]] == [lost]
    assert io.read_json(lost)["final_error_mean"] == kept_text  # the same run gives the same figures


def test_a_run_that_another_process_is_at_is_left_to_it(small, tmp_path):
    path = sweep._path(tmp_path, PAIR[0], 1e-3, 0)
    with io.claimed(path.with_suffix(".lock"), path):
        sweep._run_once((tmp_path, MEETING, PAIR[0], 1e-3, 0))
        assert not path.exists()
    sweep._run_once((tmp_path, MEETING, PAIR[0], 1e-3, 0))
    assert path.exists()


@pytest.mark.parametrize(("tried", "following"), [
    ({5e-4: 3, 1e-3: 2, 2e-3: 1}, 4e-3), ({5e-4: 1, 1e-3: 2, 2e-3: 3}, 2.5e-4), ({5e-4: 2, 1e-3: 1, 2e-3: 3}, None),
    ({1e-3: 3, 4e-3: 2, 8e-3: 1}, None), ({1.25e-4: 1, 1e-3: 2}, None)])
def test_the_learning_rate_is_searched_outward_until_the_best_lies_inside(tried, following):
    assert sweep._next_rate(tried) == following


def test_a_rival_that_diverges_is_counted_and_not_hidden(small, tmp_path, monkeypatch):
    def diverge(*arguments, **options):
        raise FloatingPointError("the loss is no longer finite in epoch 1")

    monkeypatch.setattr(sweep, "train", diverge)
    study = dataclasses.replace(MEETING, variants=PAIR[:1])
    row = experiments.run_sweep(tmp_path, study, seeds=(0, 1), workers=1, progress=False)["variants"]["one"]
    assert row["failed"] == 2 and row["mean"] == {} and "no longer finite" in row["runs"][0]["failed"]


def test_a_study_of_bounded_inputs_keeps_the_bounds_and_cuts_the_linear_map(small, tmp_path):
    one = Variant("one", "one", sizes={"H_cycles": 1}, training={"epochs": 1})
    study = dataclasses.replace(STUDIES["bounded"], variants=(one,), num_train=128, num_validation=32, num_test=64)
    table = experiments.run_sweep(tmp_path, study, seeds=(0,), workers=1, progress=False)
    linear, path = table["variants"]["linear"]["runs"][0], next((tmp_path / "one").glob("*seed-0.pt"))
    assert linear["excess_energy"] is None and 0.05 < linear["final_error_mean"] < 0.3
    assert 0.5 < linear["success_rate"] < 0.95
    problems = PROBLEMS["bounded_inputs"]().dataset(64, TEST_SEED)
    metrics = evaluate(TinyRecursiveControl.load(path), problems)[-1]
    assert metrics.final_error_mean == pytest.approx(table["variants"]["one"]["runs"][0]["final_error_mean"], rel=1e-5)


def test_a_rival_of_two_trainings_is_measured_after_each_and_a_study_may_have_no_run_off(small, tmp_path):
    variant = Variant("two", "two", feedback=lambda teacher: Proportional(FinalError(teacher.system)), before={"part": "proposal", "epochs": 2},
                  training={"part": "cycles", "epochs": 1})
    table = experiments.run_sweep(tmp_path, dataclasses.replace(MEETING, variants=(variant,), run_off=0), seeds=(0,), workers=1,
                                 progress=False)
    row, model = table["variants"]["two"], TinyRecursiveControl.load(next((tmp_path / "two").glob("*seed-0.pt")))
    run, test_set = row["runs"][0], generate_dataset(64, TEST_SEED)
    proposals, *_, last = evaluate(model, test_set)
    assert run["before"][0]["final_error_mean"] == pytest.approx(proposals.final_error_mean, rel=1e-5)   # not touched afterwards
    assert run["final_error_mean"] == pytest.approx(last.final_error_mean, rel=1e-5)
    assert 0 <= run["before"][0]["train_seconds"] <= run["train_seconds"]
    assert row["run_off"] == {} and row["lr"] == float(min(row["tuning"], key=row["tuning"].get))
    costs = [each.cost_ratio for each in evaluate(model, test_set, 6)]
    assert run["cycle_cost_ratios"] == pytest.approx(costs, rel=1e-5) and len(run["cycle_cheapens"]) == 6


def test_the_gradient_is_of_the_cost_of_the_problem():
    teacher = PROBLEMS["van_der_pol"]().teacher
    variants = {variant.name: variant for variant in STUDIES["van_der_pol"].variants}
    told, silent = variants["gradient"].make(teacher, 0), variants["final_error"].make(teacher, 0)
    assert told.feedback.inner.cost is teacher.quadratic_cost and isinstance(silent.feedback.inner, FinalError)
    assert told.error_embedding.in_features == 101 and silent.error_embedding.in_features == 3


# ---------------------------------------------------------------- what is stored

@pytest.mark.parametrize("study", STUDIES.values(), ids=list(STUDIES))
def test_the_networks_that_are_shipped_do_what_the_stored_table_says(study):
    table = experiments.load_results(study.name)
    assert set(table["variants"]) == {"linear"} | {variant.name for variant in study.variants}
    problems = PROBLEMS[study.problem]().dataset(study.num_test, TEST_SEED)
    for variant in study.variants:
        runs = table["variants"][variant.name]["runs"]
        assert len(runs) == len(table["seeds"]) and table["variants"][variant.name]["label"] == variant.label
        if variant.name in study.shipped:
            prefix = "" if study.name == "sweep" else f"{study.name}_"
            kind = MLP if variant.mlp else TinyRecursiveControl
            network = course.pretrained(f"laboratory/{prefix}{variant.name}", kind)
            again = measure(problems, network.solve(problems.initial_states, problems.target_states))
            assert again.final_error_mean == pytest.approx(runs[0]["final_error_mean"], rel=1e-3), variant.name
            assert again.success_rate == pytest.approx(runs[0]["success_rate"], abs=2e-4), variant.name
            assert again.cost_ratio == pytest.approx(runs[0]["cost_ratio"], rel=1e-5), variant.name
