import csv
import dataclasses
import functools
import os
import shutil

import numpy as np
import pytest
import torch

from trc_lib import io, training
from trc_lib.costs import QuadraticCost
from trc_lib.data import generate_dataset
from trc_lib.evaluation import evaluate
from trc_lib.model import CostGradient, TinyRecursiveControl
from trc_lib.model.baselines import MLP, MLPConfig
from trc_lib.problems import PROBLEMS
from trc_lib.systems import DoubleIntegrator
from trc_lib.teachers import MinimumEnergyController
from trc_lib.training import TrainConfig, imitation_loss, learning_rate, load_snapshots, loop, objectives, state
from trc_lib.training.compute import precision_of
from trc_lib.training.objectives import cost_loss

train = functools.partial(training.train, device="cpu", progress=False)
SHORT = TrainConfig(epochs=4, batch_size=24, snapshot_epochs=(0, 2, 4))  # 64 problems: batches of 24, 24 and 16


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def without_seconds(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history.rows]


# ---------------------------------------------------------------- loss and schedule

@pytest.mark.parametrize("cycle_weight", [0.0, 0.1, 2.0])
def test_imitation_loss_is_the_mean_squared_error_of_the_last_cycle_and_a_share_of_the_others(cycle_weight):
    rng = np.random.default_rng(0)
    cycles, optimal = rng.normal(size=(4, 6, 5, 2)), rng.normal(size=(6, 5, 2))
    each = [((cycle - optimal)**2).sum() / (6 * 5 * 2) for cycle in cycles]
    objective, loss = imitation_loss(torch.tensor(cycles), torch.tensor(optimal), cycle_weight)
    assert float(loss) == pytest.approx(each[3], rel=1e-12)
    assert float(objective) == pytest.approx(each[3] + cycle_weight * (each[0] + each[1] + each[2]), rel=1e-12)


def test_learning_rate_warms_up_then_falls_to_zero():
    config = TrainConfig(lr=0.01, warmup=0.2)
    rates = np.array([learning_rate(step, 100, config) for step in range(101)])
    np.testing.assert_allclose(rates[:20], 0.01 * np.arange(1, 21) / 20)         # a straight line up to lr
    assert rates.max() == 0.01 and (np.diff(rates[20:]) < 0).all()
    assert rates[60] == pytest.approx(0.005) and rates[100] == pytest.approx(0, abs=1e-12)
    assert rates[99] < 1e-5                                                      # the last step that is taken


def test_learning_rate_needs_no_warm_up():
    rates = [learning_rate(step, 10, TrainConfig(lr=0.5, warmup=0)) for step in range(10)]
    assert max(rates) == 0.5 and all(0 < rate <= 0.5 for rate in rates)


# ---------------------------------------------------------------- the loop

def test_a_tiny_model_learns(tiny):
    data = generate_dataset(256, seed=3)
    history = train(tiny(), data, data, TrainConfig(epochs=30, batch_size=32, lr=3e-3))
    assert min(history["train_loss"]) < history["train_loss"][0] / 10
    assert history.best["eval_loss"] < history["eval_loss"][0] / 10
    assert history.best["eval_final_error"] < history["eval_final_error"][0] / 10
    assert history.best["eval_success"] > 0.2 > history["eval_success"][0]


@pytest.mark.parametrize("cycle_weight", [0.0, 0.1])
def test_train_loss_and_eval_loss_are_the_same_quantity(tiny, dataset, cycle_weight):
    still = TrainConfig(epochs=1, batch_size=24, lr=0, weight_decay=0, cycle_weight=cycle_weight)
    model = tiny()
    row = train(model, dataset, dataset, still).rows[0]
    assert row["train_loss"] == pytest.approx(row["eval_loss"], rel=1e-5)
    answers = model(dataset.initial_states, dataset.target_states)["controls"].detach().double()
    assert row["eval_loss"] == pytest.approx(float((answers - dataset.controls).square().mean()), rel=1e-5)


def test_eval_error_and_success_are_those_of_a_simulation(tiny, dataset):
    model = tiny()
    row = train(model, generate_dataset(256, seed=3), dataset, TrainConfig(epochs=15, batch_size=32, lr=3e-3)).best
    controls = model(dataset.initial_states, dataset.target_states)["controls"].detach().double().numpy()
    (p, v), dt = dataset.initial_states.numpy().T, 0.33
    for u in controls[:, :, 0].T:
        p, v = p + v * dt + u * dt**2 / 2, v + u * dt
    errors = np.hypot(p - dataset.target_states[:, 0].numpy(), v - dataset.target_states[:, 1].numpy())
    assert row["eval_final_error"] == pytest.approx(errors.mean(), rel=1e-4)
    assert 0 < row["eval_success"] < 1 and row["eval_success"] == pytest.approx((errors < 0.1).mean())


def test_training_is_the_plain_loop_that_it_claims_to_be(tiny, dataset, tmp_path):
    """AdamW, clipped gradients and the schedule, in a loop that shares nothing with the library's but the network."""
    config = TrainConfig(epochs=3, batch_size=24, lr=2e-3, weight_decay=0.1, clip_norm=0.3, cycle_weight=0.1, seed=7,
                         snapshot_epochs=(3,))
    train(tiny(), dataset, dataset, config, folder=tmp_path)
    model = tiny()
    model.set_scaling(dataset)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.1, fused=False)
    order = torch.Generator().manual_seed(7)
    x0, xT, optimal = dataset.initial_states.float(), dataset.target_states.float(), dataset.controls.float()
    step = 0
    for _ in range(3):
        for rows in torch.randperm(64, generator=order).split(24):
            cycles = model(x0[rows], xT[rows])["cycle_controls"]
            each = [torch.nn.functional.mse_loss(cycle, optimal[rows]) for cycle in cycles]
            model.zero_grad()
            (each[-1] + 0.1 * sum(each[:-1])).backward()
            norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
            for p in model.parameters():
                p.grad *= min(1.0, 0.3 / float(norm))
            optimizer.param_groups[0]["lr"] = learning_rate(step, 9, config)
            optimizer.step()
            step += 1
    trained = load_snapshots(tmp_path / "snapshots.pt")[3]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-3, atol=2e-5)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tiny, dataset, other_dataset):
    runs = [tiny(), tiny(), tiny()]
    histories = [train(model, dataset, other_dataset, TrainConfig(epochs=2, batch_size=24, seed=seed))
                 for model, seed in zip(runs, (0, 0, 1))]
    assert_same_weights(runs[0].state_dict(), runs[1].state_dict())
    assert without_seconds(histories[0]) == without_seconds(histories[1]) != without_seconds(histories[2])


def script_eval_losses(monkeypatch, losses):
    losses = iter(losses)
    monkeypatch.setattr(loop, "validate", lambda model, data, teacher, config: (next(losses), 1.0, 0.0))


def test_training_stops_early_and_ends_with_the_best_weights(tiny, dataset, tmp_path, monkeypatch):
    script_eval_losses(monkeypatch, [5.0, 4.0, 3.0, 3.5, 3.0, 2.0])
    model = tiny()
    history = train(model, dataset, dataset, TrainConfig(epochs=6, patience=2, snapshot_epochs=(3, 5)), folder=tmp_path)
    snapshots = load_snapshots(tmp_path / "snapshots.pt")
    assert history["eval_loss"] == [5.0, 4.0, 3.0, 3.5, 3.0]  # an equal loss is no better
    assert history.best["epoch"] == model.recipe["best_epoch"] == 3
    assert_same_weights(model.state_dict(), snapshots[3])
    assert not torch.equal(snapshots[3]["encoder.0.weight"], snapshots[5]["encoder.0.weight"])
    best = TinyRecursiveControl.load(tmp_path / "best_model.pt")
    assert_same_weights(best.state_dict(), model.state_dict())
    assert best.recipe == model.recipe


def test_a_better_epoch_gives_new_patience(tiny, dataset, monkeypatch):
    script_eval_losses(monkeypatch, [5.0, 6.0, 4.0, 6.0, 3.0, 6.0])
    assert len(train(tiny(), dataset, dataset, TrainConfig(epochs=6, patience=2))) == 6


def test_snapshots_hold_the_weights_after_the_epochs_asked_for(tiny, dataset, tmp_path):
    untrained = tiny()
    untrained.set_scaling(dataset)
    train(tiny(), dataset, dataset, SHORT, folder=tmp_path)
    snapshots = load_snapshots(tmp_path / "snapshots.pt")
    assert list(snapshots) == [0, 2, 4]
    assert_same_weights(snapshots[0], untrained.state_dict())
    assert not torch.equal(snapshots[2]["encoder.0.weight"], snapshots[0]["encoder.0.weight"])


def test_history_csv_holds_the_history(tiny, dataset, tmp_path):
    seen = []
    history = train(tiny(), dataset, dataset, SHORT, folder=tmp_path, on_epoch=lambda history: seen.append(len(history)))
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "train_loss", "eval_loss", "eval_final_error", "eval_success", "lr", "seconds"]
    assert [{name: float(value) for name, value in row.items()} for row in rows] == history.rows
    assert history["epoch"] == seen == [1, 2, 3, 4]


def test_nothing_is_written_without_a_folder(tiny, dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(tiny(), dataset, dataset, TrainConfig(epochs=1))
    assert not list(tmp_path.iterdir())


def test_a_trained_model_knows_its_recipe(tiny, dataset, other_dataset):
    model, config = tiny(seed=5), TrainConfig(epochs=1)
    train(model, dataset, other_dataset, config)
    assert model.recipe["training"] == {**dataclasses.asdict(config), "snapshot_epochs": []}
    assert (model.recipe["train_set"], model.recipe["eval_set"]) == (dataset.origin, other_dataset.origin)
    assert (model.recipe["model_seed"], model.recipe["best_epoch"]) == (5, 1)


# ---------------------------------------------------------------- stop and go on

@pytest.fixture(scope="module")
def never_stopped(tiny, dataset, other_dataset, tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("never_stopped"), tiny()
    return folder, model, train(model, dataset, other_dataset, SHORT, folder=folder)


def stop_in_the_middle_of_an_epoch(monkeypatch):
    calls = iter(range(1000))

    def stopping(*arguments):
        if next(calls) == 9:  # an epoch calls it four times: this is the second batch of the third
            raise KeyboardInterrupt
        return imitation_loss(*arguments)
    monkeypatch.setattr(objectives, "imitation_loss", stopping)


def stop_after_an_epoch(monkeypatch):
    real, calls = state.Run.add, iter(range(1000))

    def stopping(run, row):
        real(run, row)
        if next(calls) == 1:
            raise KeyboardInterrupt
    monkeypatch.setattr(state.Run, "add", stopping)


def stop_while_an_epoch_is_written(monkeypatch):
    real, calls = io.save_checkpoint, iter(range(1000))

    def stopping(path, *arguments):
        if path.name == "last.pt" and next(calls) == 2:  # the best model, the snapshots and the history are new already
            raise KeyboardInterrupt
        real(path, *arguments)
    monkeypatch.setattr(io, "save_checkpoint", stopping)


def stop_in_the_first_epoch(monkeypatch):
    def stopping(*arguments):
        raise KeyboardInterrupt
    monkeypatch.setattr(objectives, "imitation_loss", stopping)


@pytest.mark.parametrize("stop", [stop_in_the_middle_of_an_epoch, stop_after_an_epoch, stop_while_an_epoch_is_written,
                                  stop_in_the_first_epoch])
def test_a_run_that_was_stopped_ends_like_one_that_was_not(tiny, dataset, other_dataset, never_stopped, tmp_path, stop):
    with pytest.MonkeyPatch.context() as patch:
        stop(patch)
        with pytest.raises(KeyboardInterrupt, match=r"training was stopped: \d whole epochs are kept in"):
            train(tiny(), dataset, other_dataset, SHORT, folder=tmp_path)
    model = tiny()
    history = train(model, dataset, other_dataset, SHORT, folder=tmp_path)
    folder, expected_model, expected_history = never_stopped
    assert without_seconds(history) == without_seconds(expected_history)
    assert_same_weights(model.state_dict(), expected_model.state_dict())
    assert model.recipe == expected_model.recipe
    ended, expected = (io.load_checkpoint(path / "last.pt", "trc_lib.training", 1) for path in (tmp_path, folder))
    for part in ("weights", "best_weights", "order"):
        assert io.fingerprint(ended[part]) == io.fingerprint(expected[part])
    assert io.fingerprint(ended["optimizer"]["state"]) == io.fingerprint(expected["optimizer"]["state"])
    for name in ("best_model.pt", "snapshots.pt"):
        ended, expected = (torch.load(path / name, weights_only=True) for path in (tmp_path, folder))
        assert ended["fingerprint"] == expected["fingerprint"]


def test_the_best_weights_outlive_a_stop(tiny, dataset, tmp_path, monkeypatch):
    def stop(history):
        if len(history) == 3:
            raise KeyboardInterrupt
    config = TrainConfig(epochs=5, snapshot_epochs=(1,))
    script_eval_losses(monkeypatch, [1.0, 2.0, 3.0, 4.0, 5.0])
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), dataset, dataset, config, folder=tmp_path, on_epoch=stop)
    model = tiny()
    history = train(model, dataset, dataset, config, folder=tmp_path)
    assert history["eval_loss"] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert_same_weights(model.state_dict(), load_snapshots(tmp_path / "snapshots.pt")[1])


def test_interrupt_says_how_many_epochs_are_kept(tiny, dataset, tmp_path):
    def stop(history):
        if len(history) == 2:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt, match=r"stopped: 2 whole epochs are kept in .*; run again to go on"):
        train(tiny(), dataset, dataset, SHORT, folder=tmp_path, on_epoch=stop)
    with pytest.raises(KeyboardInterrupt, match="nothing was kept: no folder was given"):
        train(tiny(), dataset, dataset, SHORT, on_epoch=stop)


def test_a_finished_run_is_only_read_again(tiny, dataset, other_dataset, never_stopped, tmp_path):
    folder, expected_model, expected_history = never_stopped
    shutil.copytree(folder, tmp_path / "copy")
    model = tiny()
    history = train(model, dataset, other_dataset, SHORT, folder=tmp_path / "copy")
    assert history.rows == expected_history.rows
    assert_same_weights(model.state_dict(), expected_model.state_dict())


@pytest.fixture
def kept(never_stopped, tmp_path):
    """A copy of the folder of a finished run, and what is in it."""
    folder = tmp_path / "kept"
    shutil.copytree(never_stopped[0], folder)
    return folder, {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("difference", "named"), [
    ({"config": dataclasses.replace(SHORT, lr=2e-3)}, r"training\.lr: 0\.001 -> 0\.002"),
    ({"model": {"L_cycles": 3}}, r"model\.L_cycles: 4 -> 3"),
    ({"model": {"seed": 1}}, r"model_seed: 0 -> 1, initial_weights: .*"),
    ({"train_set": generate_dataset(64, seed=9)}, r"train_set\.seed: 1 -> 9, train_set\.fingerprint: .*"),
    ({"eval_set": generate_dataset(48, seed=9)}, r"eval_set\.seed: 2 -> 9, eval_set\.fingerprint: .*"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_another_recipe_in_the_folder_is_refused_and_nothing_is_lost(tiny, dataset, other_dataset, kept, difference, named):
    folder, contents = kept
    model = tiny(**difference.get("model", {}))
    sets = difference.get("train_set", dataset), difference.get("eval_set", other_dataset)
    with pytest.raises(ValueError, match=rf"folder=.* holds a run with another recipe \({named}\)"):
        train(model, *sets, difference.get("config", SHORT), folder=folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents


def test_a_trained_network_does_not_take_up_the_run_that_trained_it(tiny, dataset, other_dataset, kept):
    folder, contents = kept
    trained = TinyRecursiveControl.load(folder / "best_model.pt")
    with pytest.raises(ValueError, match=r"initial_weights: "):
        train(trained, dataset, other_dataset, SHORT, folder=folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents


def test_resume_false_begins_anew(tiny, dataset, other_dataset, kept):
    folder, _ = kept
    model, config = tiny(seed=8), TrainConfig(epochs=1)
    history = train(model, dataset, other_dataset, config, folder=folder, resume=False)
    assert len(history) == 1 and not (folder / "snapshots.pt").exists()
    assert_same_weights(TinyRecursiveControl.load(folder / "best_model.pt").state_dict(), model.state_dict())
    assert train(tiny(seed=8), dataset, other_dataset, config, folder=folder).rows == history.rows


def test_a_truncated_state_is_refused_and_not_written_over(tiny, dataset, other_dataset, kept):
    folder, contents = kept
    (folder / "last.pt").write_bytes(contents["last.pt"][:5000])
    with pytest.raises(ValueError, match=r"last\.pt .*read as a checkpoint"):
        train(tiny(), dataset, other_dataset, SHORT, folder=folder)
    assert (folder / "last.pt").read_bytes() == contents["last.pt"][:5000]


def test_settings_given_as_numpy_numbers_can_be_resumed(tiny, dataset, tmp_path):
    config = TrainConfig(epochs=np.int64(1), lr=np.float64(1e-3), snapshot_epochs=np.arange(2))
    data = generate_dataset(np.int64(32), seed=np.int64(4))
    rows = train(tiny(), data, data, config, folder=tmp_path).rows
    assert train(tiny(), data, data, config, folder=tmp_path).rows == rows
    assert config == TrainConfig(epochs=1, snapshot_epochs=(0, 1))


# ---------------------------------------------------------------- refusals

@pytest.mark.parametrize("which", ["train_set", "eval_set"])
@pytest.mark.parametrize(("system", "horizon", "reason"), [
    (DoubleIntegrator(), 14, r"has controls \[n, 14, 1\] for 2 states; the model needs \[n, 15, 1\] for 2"),
    (DoubleIntegrator(0.1), 15, "was made for another system, .*, than the model's"),
])
def test_data_that_does_not_fit_is_refused_and_the_model_untouched(tiny, dataset, tmp_path, which, system, horizon, reason):
    other = generate_dataset(8, teacher=MinimumEnergyController(system, horizon))
    model = tiny()
    sets = {"train_set": dataset, "eval_set": dataset} | {which: other}
    with pytest.raises(ValueError, match=f"{which} {reason}"):
        train(model, **sets, folder=tmp_path / "run")
    assert_same_weights(model.state_dict(), tiny().state_dict())
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_is_not_kept(tiny, dataset, tmp_path):
    explosive = TrainConfig(epochs=3, lr=1e38, warmup=0, batch_size=16)
    with pytest.raises(FloatingPointError, match=r"the loss is no longer finite in epoch 1; try a smaller lr than 1e\+38"):
        train(tiny(), dataset, dataset, explosive, folder=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("change", "error"), [
    ({"epochs": 0}, ValueError), ({"batch_size": 1.5}, TypeError), ({"patience": 0}, ValueError), ({"seed": -1}, ValueError),
    ({"lr": -1e-3}, ValueError), ({"lr": "fast"}, TypeError), ({"weight_decay": float("nan")}, ValueError),
    ({"clip_norm": 0}, ValueError), ({"warmup": 1.0}, ValueError), ({"cycle_weight": -0.1}, ValueError),
    ({"snapshot_epochs": (-1,)}, ValueError),
], ids=str)
def test_settings_that_make_no_sense_are_refused_by_name(change, error):
    with pytest.raises(error, match=f"^{next(iter(change))}="):
        TrainConfig(**change)


def test_an_unknown_device_is_refused(tiny, dataset):
    with pytest.raises(ValueError, match="device='abacus' is unknown"):
        train(tiny(), dataset, dataset, device="abacus")


# ---------------------------------------------------------------- faster ways to the same

def test_mixed_precision_learns_nearly_the_same(tiny, dataset):
    model = tiny()
    exact, mixed = (train(network, dataset, dataset, TrainConfig(epochs=5, batch_size=16, mixed_precision=on))
                    for network, on in ((tiny(), False), (model, True)))
    assert exact["eval_loss"] != mixed["eval_loss"]  # so it was on
    np.testing.assert_allclose(mixed["eval_loss"], exact["eval_loss"], rtol=0.02)
    assert not any("forward" in vars(module) for module in model.modules()) and all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize(("place", "config", "precision"), [
    ("cuda", {"mixed_precision": True}, "high"), ("cuda", {}, "highest"), ("cpu", {"mixed_precision": True}, "highest"),
    ("cuda", {"mixed_precision": True, "objective": "cost"}, "highest")])
def test_tf32_is_set_while_training_in_mixed_precision_on_a_gpu_and_taken_back(tiny, place, config, precision):
    with precision_of(tiny(), TrainConfig(**config), torch.device(place))():
        assert torch.get_float32_matmul_precision() == precision
    assert torch.get_float32_matmul_precision() == "highest"


needs_patience = pytest.mark.skipif("TRC_SLOW_TESTS" not in os.environ, reason="takes a minute; set TRC_SLOW_TESTS=1 to run it")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler; there is no g++")


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=[needs_patience, needs_compiler])])
def test_a_compiled_network_has_the_same_loss(tiny, dataset, tmp_path, monkeypatch, backend):
    """``aot_eager`` captures the network and its gradient like the default, ``inductor``, and spares the C++ compiler."""
    compiled = []

    def compile_with_backend(function, compile=torch.compile):
        compiled.append(function)
        return compile(function, backend=backend)
    monkeypatch.setattr(torch, "compile", compile_with_backend)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    small, config = functools.partial(tiny, H_cycles=2, L_cycles=1, block_layers=1), {"epochs": 1, "batch_size": 64}
    model = small()
    fast = train(model, dataset, dataset, TrainConfig(**config, compile=True)).rows[0]
    assert compiled == [model.predict]
    plain = train(small(), dataset, dataset, TrainConfig(**config)).rows[0]
    assert fast["train_loss"] == pytest.approx(plain["train_loss"], rel=1e-5)
    assert fast["eval_loss"] == pytest.approx(plain["eval_loss"], rel=1e-3)  # after a step, so the gradient agrees as well
    torch.compiler.reset()


def test_with_mixed_precision_the_reported_losses_are_those_of_the_network_that_is_kept(tiny, dataset, other_dataset):
    model = tiny()
    history = train(model, dataset, other_dataset, TrainConfig(epochs=2, mixed_precision=True))
    controls = model.solve(other_dataset.initial_states, other_dataset.target_states)
    measured = float((controls - other_dataset.controls).square().mean())
    assert history.best["eval_loss"] == pytest.approx(measured, rel=1e-5)


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_first_epoch(tiny, dataset, tmp_path):
    blocked, seen = tmp_path / "a_file", []
    blocked.write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write to .*a_file"):
        train(tiny(), dataset, dataset, SHORT, folder=blocked / "run", on_epoch=seen.append)
    assert not seen and blocked.read_text() == "in the way"


def test_a_new_run_leaves_nothing_of_the_old_one(tiny, dataset, other_dataset, kept, monkeypatch):
    folder, _ = kept
    stop_in_the_first_epoch(monkeypatch)
    with pytest.raises(KeyboardInterrupt, match="0 whole epochs"):
        train(tiny(seed=5), dataset, other_dataset, SHORT, folder=folder, resume=False)
    assert not list(folder.iterdir())


# ---------------------------------------------------------------- beyond imitation


def test_the_cost_loss_is_the_mean_gap_relative_to_the_optimum():
    costs, optimal = torch.tensor([[3.0, 5.0], [2.0, 4.0]]), torch.tensor([1.0, 3.0])
    objective, loss = cost_loss(costs, optimal, cycle_weight=0.5)
    assert float(loss) == pytest.approx(0.5) and float(objective) == pytest.approx(0.5 + 0.5 * 1.0)


def test_the_root_of_each_gap_is_taken_problem_by_problem():
    costs, optimal = torch.tensor([[3.0, 5.0], [1.5, 2.9]]).double(), torch.tensor([1.0, 3.0]).double()
    objective, loss = cost_loss(costs, optimal, cycle_weight=0.5, root=True)
    assert float(loss) == pytest.approx((0.25 - 0.05) / 2)                         # as it is, below the optimum too
    by_hand = (0.25**0.5 + 0) / 2 + 0.5 * (1 + 1) / 2
    assert float(objective) == pytest.approx(by_hand, abs=1e-4)                    # but a root has no place there


def test_fine_tuning_lowers_the_true_cost_where_imitation_stopped():
    problem = PROBLEMS["van_der_pol"](horizon=40)
    train_set, eval_set = problem.dataset(128, seed=0), problem.dataset(64, seed=1)
    model = MLP(MLPConfig(horizon=40, width=64), problem.teacher.system)
    train(model, train_set, eval_set, TrainConfig(epochs=30, batch_size=32, lr=2e-3))
    before = evaluate(model, eval_set)[-1].cost_ratio
    history = train(model, train_set, eval_set, TrainConfig(epochs=10, batch_size=32, lr=3e-4, objective="cost"))
    after = evaluate(model, eval_set)[-1].cost_ratio
    assert 1 < after < 1 + 0.7 * (before - 1)
    assert history.best["eval_loss"] == pytest.approx(after - 1, rel=1e-3)  # the loss that is reported is the gap


def test_a_control_at_its_limit_has_no_part_in_the_cost_gradient(monkeypatch):
    problem, seen = PROBLEMS["van_der_pol"](horizon=20), []
    data = problem.dataset(16, seed=0)

    def spy(costs, optimal, cycle_weight=0.0, root=False):
        seen.append(costs)
        return cost_loss(costs, optimal, cycle_weight, root)

    monkeypatch.setattr(objectives, "cost_loss", spy)
    controls = torch.where(torch.rand(1, 16, 20, 1, generator=torch.Generator().manual_seed(0)) < 0.5, 2.0, 0.5).requires_grad_()
    values = [value.float() for value in (data.initial_states, data.target_states, data.controls)]
    objectives.objective_of(controls, *values, problem.teacher, TrainConfig(objective="cost"))[0].backward()
    assert seen and bool((controls.grad[controls == 2] == 0).all()) and bool((controls.grad[controls == 0.5] != 0).all())


@pytest.mark.parametrize("objective", ["cost", "root cost"])
def test_a_final_weight_beside_the_cost_is_refused(objective):
    with pytest.raises(ValueError, match=rf"final_weight=0\.3 is not accepted with objective='{objective}'"):
        TrainConfig(objective=objective, final_weight=0.3)


# ---------------------------------------------------------------- part by part

@pytest.mark.parametrize(("part", "moves"), [
    ("proposal", {"encoder", "initial_generator"}),
    ("cycles", {"control_embedding", "error_embedding", "block", "decoder"}),
    ("all", {"encoder", "initial_generator", "control_embedding", "error_embedding", "block", "decoder"})])
def test_only_the_part_that_is_named_is_trained(tiny, dataset, other_dataset, part, moves):
    model = tiny()
    before = {name: value.clone() for name, value in model.named_parameters()}
    history = train(model, dataset, other_dataset, TrainConfig(epochs=2, batch_size=16, part=part, weight_decay=0.1))
    assert {name.split(".")[0] for name, value in model.named_parameters() if not torch.equal(value, before[name])} == moves
    assert all(value.requires_grad for value in model.parameters())
    cycles = 0 if part == "proposal" else None
    assert history.best["eval_loss"] == pytest.approx(evaluate(model, other_dataset, cycles)[-1].control_mse, rel=1e-4)


def test_a_part_that_was_trained_by_itself_goes_on_where_it_was_stopped(tiny, dataset, other_dataset, tmp_path):
    config, whole, stopped = TrainConfig(epochs=4, batch_size=16, part="cycles"), tiny(), tiny()
    train(whole, dataset, other_dataset, config)

    def stop(history):
        if len(history) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(stopped, dataset, other_dataset, config, tmp_path, on_epoch=stop)
    assert all(value.requires_grad for value in stopped.parameters())
    again = tiny()
    train(again, dataset, other_dataset, config, tmp_path)
    assert_same_weights(whole.state_dict(), again.state_dict())


def test_the_recipe_tells_of_every_training_and_of_the_cost_that_was_told(tmp_path):
    problem = PROBLEMS["van_der_pol"](horizon=12)
    data, cost = problem.dataset(16, seed=0), problem.teacher.quadratic_cost
    first, then = (TrainConfig(epochs=1, batch_size=16, part=part) for part in ("proposal", "cycles"))

    def made(cost):
        feedback = CostGradient(problem.teacher.system, cost, 12)
        return TinyRecursiveControl.create_two_level_small(problem.teacher.system, 0, feedback, horizon=12)

    model = made(cost)
    train(model, data, data, first, tmp_path / "first")
    train(model, data, data, then, tmp_path / "then")
    for recipe in (model.recipe, TinyRecursiveControl.load(tmp_path / "then" / "best_model.pt").recipe):
        assert recipe["training"]["part"] == "cycles" and recipe["before"]["training"]["part"] == "proposal"
        assert "before" not in recipe["before"]
    with pytest.raises(ValueError, match=r"holds a run with another recipe .*before"):
        train(made(cost), data, data, then, tmp_path / "then")     # untrained: this is not how it began
    dearer = QuadraticCost(2 * cost.Q, cost.R, cost.Q_final)
    with pytest.raises(ValueError, match=r"holds a run with another recipe .*cost"):
        train(made(dearer), data, data, first, tmp_path / "first")


def test_a_part_that_is_not_there_is_refused(tiny, dataset, other_dataset):
    with pytest.raises(ValueError, match=r"part='legs' is unknown; accepted are 'all', 'proposal', 'cycles'"):
        TrainConfig(part="legs")
    with pytest.raises(ValueError, match=r"part='cycles' is not accepted for a MLP; it has 'all'"):
        train(MLP(MLPConfig()), dataset, other_dataset, TrainConfig(part="cycles"))
    with pytest.raises(ValueError, match=r"most_cycles=3 is not accepted with part='proposal'"):
        TrainConfig(part="proposal", most_cycles=3)


# ---------------------------------------------------------------- one at a time

def test_a_folder_that_another_run_is_at_is_refused_and_left_alone(tiny, dataset, tmp_path):
    def second(history):
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(io.Busy, match=rf"folder=.*{tmp_path.name}.* is in use by process {os.getpid()} on "):
            train(tiny(), dataset, dataset, TrainConfig(epochs=5), folder=tmp_path, resume=False)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    assert len(train(tiny(), dataset, dataset, TrainConfig(epochs=2), folder=tmp_path, on_epoch=second)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best_model.pt", "history.csv", "last.pt"]
