"""Training is the plain loop that it claims to be, stops early, and refuses what does not fit."""

import math

import numpy as np
import pytest
import torch

from tests.unit.training.common import (
    assert_same_weights,
    script_eval_losses,
    stop_after,
    train,
    without_seconds,
)
from trc_lib.data import generate_dataset
from trc_lib.evaluation import evaluate, final_error
from trc_lib.model import TinyRecursiveControl
from trc_lib.model.baselines import MLP, MLPConfig
from trc_lib.systems import DoubleIntegrator
from trc_lib.teachers import MinimumEnergyController
from trc_lib.training import (
    TrainConfig,
    imitation_loss,
    learning_rate,
    load_snapshots,
    loop,
    objectives,
)
from trc_lib.training.state import weights_of


def test_a_tiny_model_learns(tiny):
    data = generate_dataset(64, seed=3)
    history = train(tiny(H_cycles=2, L_cycles=1), data, data,
                    TrainConfig(epochs=12, batch_size=16, lr=5e-3))
    assert min(history["train_loss"]) < history["train_loss"][0] / 4
    assert history.best["eval_loss"] < history["eval_loss"][0] / 4
    assert history.best["eval_final_error"] < history["eval_final_error"][0] / 2


@pytest.mark.parametrize("cycle_weight", [0.0, 0.1])
def test_train_loss_and_eval_loss_are_the_same_quantity(tiny, dataset, cycle_weight):
    still = TrainConfig(epochs=1, batch_size=24, lr=0, weight_decay=0, cycle_weight=cycle_weight)
    model = tiny()
    row = train(model, dataset, dataset, still).rows[0]
    assert row["train_loss"] == pytest.approx(row["eval_loss"], rel=1e-5)
    answers = model(dataset.initial_states, dataset.target_states)["controls"].detach().double()
    measured = float((answers - dataset.controls).square().mean())
    assert row["eval_loss"] == pytest.approx(measured, rel=1e-5)


def test_eval_error_and_success_are_those_of_a_simulation(tiny, dataset):
    model = tiny(H_cycles=2, L_cycles=1)
    config = TrainConfig(epochs=12, batch_size=16, lr=5e-3)
    row = train(model, generate_dataset(64, seed=3), dataset, config).best
    controls = model.solve(dataset.initial_states, dataset.target_states).numpy()
    (p, v), dt = dataset.initial_states.numpy().T, 0.33
    for u in controls[:, :, 0].T:
        p, v = p + v * dt + u * dt**2 / 2, v + u * dt
    target_p, target_v = dataset.target_states.numpy().T
    errors = np.hypot(p - target_p, v - target_v)
    assert row["eval_final_error"] == pytest.approx(errors.mean(), rel=1e-4)
    assert row["eval_success"] == pytest.approx((errors < 0.1).mean())
    assert 0 < row["eval_success"] < 1


def test_training_is_the_plain_loop_that_it_claims_to_be(tiny, dataset, tmp_path):
    """AdamW, clipped gradients and the schedule, in a loop that shares only the network."""
    config = TrainConfig(epochs=3, batch_size=24, lr=2e-3, weight_decay=0.1, clip_norm=0.3,
                         cycle_weight=0.1, seed=7, snapshot_epochs=(3,))
    train(tiny(), dataset, dataset, config, folder=tmp_path)
    model = tiny()
    model.set_scaling(dataset)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.1, fused=False)
    order = torch.Generator().manual_seed(7)
    x0, xT = dataset.initial_states.float(), dataset.target_states.float()
    optimal = dataset.controls.float()
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
    configs = [TrainConfig(epochs=2, batch_size=24, seed=seed) for seed in (0, 0, 1)]
    one, same, other = (without_seconds(train(model, dataset, other_dataset, config))
                        for model, config in zip(runs, configs))
    assert_same_weights(runs[0].state_dict(), runs[1].state_dict())
    assert one == same != other


def test_training_measures_the_final_state_by_simulation(
        tiny, dataset, other_dataset, monkeypatch):
    seen = []

    def spy(cycles, optimum, cycle_weight=0.0, objective="mse", final_errors=None,
            final_weight=0.0):
        if final_errors is not None:
            rows = [(dataset.controls.float() == u).all(dim=(1, 2)).nonzero().item()
                    for u in optimum]
            problems = dataset.initial_states[rows], dataset.target_states[rows]
            for u, errors in zip(cycles.detach(), final_errors.detach()):
                expected = final_error(dataset.system, *problems, u.double())
                np.testing.assert_allclose(errors.norm(dim=1), expected, rtol=1e-4, atol=1e-5)
            seen.append(final_weight)
        return imitation_loss(cycles, optimum, cycle_weight, objective, final_errors, final_weight)

    monkeypatch.setattr(objectives, "imitation_loss", spy)
    config = TrainConfig(epochs=2, batch_size=16, final_weight=0.7)
    train(tiny(), dataset, other_dataset, config)
    assert set(seen) == {0.7}


def test_random_depth_runs_every_number_of_cycles_up_to_the_most(
        tiny, dataset, other_dataset, monkeypatch):
    depths, predict = [], TinyRecursiveControl.predict

    def watched(self, x0, xT, H_cycles=None):
        depths.append(H_cycles)
        return predict(self, x0, xT, H_cycles)

    monkeypatch.setattr(TinyRecursiveControl, "predict", watched)
    config = TrainConfig(epochs=5, batch_size=16, most_cycles=4)
    train(tiny(), dataset, other_dataset, config)
    assert {*depths} == {1, 2, 3, 4, None}
    assert depths.count(None) == 5  # validated after each epoch at the network's own depth


def test_random_depth_draws_the_same_depths_after_a_stop(tiny, dataset, other_dataset, tmp_path):
    config = TrainConfig(epochs=3, batch_size=16, most_cycles=4)
    whole, stopped = tiny(), tiny()
    train(whole, dataset, other_dataset, config)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), dataset, other_dataset, config, tmp_path, on_epoch=stop_after(2))
    train(stopped, dataset, other_dataset, config, tmp_path)
    assert_same_weights(whole.state_dict(), stopped.state_dict())


def test_training_stops_early_and_ends_with_the_best_weights(tiny, dataset, tmp_path, monkeypatch):
    script_eval_losses(monkeypatch, [5.0, 4.0, 3.0, 3.5, 3.0, 2.0])
    model = tiny()
    config = TrainConfig(epochs=6, patience=2, snapshot_epochs=(3, 5))
    history = train(model, dataset, dataset, config, folder=tmp_path)
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


def test_nothing_is_written_without_a_folder(tiny, dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(tiny(), dataset, dataset, TrainConfig(epochs=1))
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_finite_stops_the_run_and_is_not_kept(tiny, dataset, tmp_path):
    explosive = TrainConfig(epochs=3, lr=1e38, warmup=0, batch_size=16)
    with pytest.raises(FloatingPointError, match=r"the loss is no longer finite in epoch 1; "
                                                 r"try a smaller lr than 1e\+38"):
        train(tiny(), dataset, dataset, explosive, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_after_a_loss_that_is_not_finite_the_model_has_its_best_weights(tiny, dataset, monkeypatch):
    model, good = tiny(), {}
    train(model, dataset, dataset, TrainConfig(epochs=1, batch_size=16))
    good = weights_of(model)
    script_eval_losses(monkeypatch, [1.0, 2.0, math.nan, math.nan])
    with pytest.raises(FloatingPointError, match="in epoch 3"):
        train(model, dataset, dataset, TrainConfig(epochs=3, batch_size=16, lr=0.0, warmup=0))
    assert all(torch.equal(value, good[name]) for name, value in model.state_dict().items())
    with pytest.raises(FloatingPointError, match="in epoch 1"):
        train(model, dataset, dataset, TrainConfig(epochs=3, batch_size=16, lr=1e38, warmup=0))
    assert all(torch.equal(value, good[name]) for name, value in model.state_dict().items())


def test_a_loss_that_is_not_finite_is_noticed_long_before_the_end_of_the_epoch(
        tiny, dataset, monkeypatch):
    steps, plain = [], loop.objective_of
    monkeypatch.setattr(loop, "LOOK_EVERY", 2)
    monkeypatch.setattr(loop, "objective_of", lambda *given: steps.append(1) or plain(*given))
    with pytest.raises(FloatingPointError):
        train(tiny(), dataset, dataset, TrainConfig(epochs=1, batch_size=4, lr=1e38, warmup=0))
    assert len(steps) <= 4 < len(dataset) / 4


@pytest.mark.parametrize("which", ["train_set", "eval_set"])
@pytest.mark.parametrize(("system", "horizon", "reason"), [
    (DoubleIntegrator(), 14,
     r"has controls \[n, 14, 1\] for 2 states; the model needs \[n, 15, 1\] for 2"),
    (DoubleIntegrator(0.1), 15, "was made for another system, .*, than the model's"),
])
def test_data_that_does_not_fit_is_refused_and_the_model_untouched(
        tiny, dataset, tmp_path, which, system, horizon, reason):
    other = generate_dataset(8, teacher=MinimumEnergyController(system, horizon))
    model = tiny()
    sets = {"train_set": dataset, "eval_set": dataset} | {which: other}
    with pytest.raises(ValueError, match=f"{which} {reason}"):
        train(model, **sets, folder=tmp_path / "run")
    assert_same_weights(model.state_dict(), tiny().state_dict())
    assert not (tmp_path / "run").exists()


def test_an_unknown_device_is_refused(tiny, dataset):
    with pytest.raises(ValueError, match="device='abacus' is unknown"):
        train(tiny(), dataset, dataset, device="abacus")


@pytest.mark.parametrize(("part", "moves"), [
    ("proposal", {"encoder", "initial_generator"}),
    ("cycles", {"control_embedding", "error_embedding", "block", "decoder"}),
    ("all", {"encoder", "initial_generator", "control_embedding", "error_embedding", "block",
             "decoder"})])
def test_only_the_part_that_is_named_is_trained(tiny, dataset, other_dataset, part, moves):
    model = tiny()
    before = {name: value.clone() for name, value in model.named_parameters()}
    config = TrainConfig(epochs=2, batch_size=16, part=part, weight_decay=0.1)
    history = train(model, dataset, other_dataset, config)
    assert {name.split(".")[0] for name, value in model.named_parameters()
            if not torch.equal(value, before[name])} == moves
    assert all(value.requires_grad for value in model.parameters())
    measured = evaluate(model, other_dataset, 0 if part == "proposal" else None)[-1].control_mse
    assert history.best["eval_loss"] == pytest.approx(measured, rel=1e-4)


def test_a_part_that_was_trained_by_itself_goes_on_where_it_was_stopped(
        tiny, dataset, other_dataset, tmp_path):
    config, whole, stopped = TrainConfig(epochs=3, batch_size=16, part="cycles"), tiny(), tiny()
    train(whole, dataset, other_dataset, config)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, dataset, other_dataset, config, tmp_path, on_epoch=stop_after(2))
    assert all(value.requires_grad for value in stopped.parameters())
    again = tiny()
    train(again, dataset, other_dataset, config, tmp_path)
    assert_same_weights(whole.state_dict(), again.state_dict())


def test_a_part_that_the_network_lacks_is_refused(dataset, other_dataset):
    with pytest.raises(ValueError, match=r"part='cycles' is not accepted for a MLP; it has 'all'"):
        train(MLP(MLPConfig()), dataset, other_dataset, TrainConfig(part="cycles"))


def test_every_problem_counts_alike_in_the_eval_loss_however_the_set_is_split(tiny, dataset):
    model, config = tiny(), TrainConfig()
    model.set_scaling(dataset)
    data = [values.float() for values in (
        dataset.initial_states, dataset.target_states, dataset.controls)]
    whole = loop.validate(model, data, dataset.teacher, config)
    for size in (1, 5, 63):  # 64 problems: the last batch is smaller
        split = loop.validate(model, data, dataset.teacher, config, batch_size=size)
        assert split == pytest.approx(whole, rel=1e-4)
