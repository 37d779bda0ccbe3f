"""A run is written to disk epoch by epoch, and goes on to the same bits wherever it was stopped."""

import csv
import dataclasses
import os
import shutil

import numpy as np
import pytest
import torch

from tests.unit.training.common import (
    SHORT,
    assert_same_weights,
    script_eval_losses,
    stop_after,
    train,
    without_seconds,
)
from trc_lib import io
from trc_lib.costs import QuadraticCost
from trc_lib.data import generate_dataset
from trc_lib.model import CostGradient, TinyRecursiveControl
from trc_lib.problems import PROBLEMS
from trc_lib.training import (
    TrainConfig,
    imitation_loss,
    learning_rate,
    load_snapshots,
    objectives,
    state,
)


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
    history = train(tiny(), dataset, dataset, SHORT, folder=tmp_path,
                    on_epoch=lambda history: seen.append(len(history)))
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "train_loss", "eval_loss", "eval_final_error",
                             "eval_success", "lr", "seconds"]
    assert [{name: float(value) for name, value in row.items()} for row in rows] == history.rows
    assert history["epoch"] == seen == [1, 2, 3, 4]


def test_a_trained_model_knows_its_recipe(tiny, dataset, other_dataset):
    model, config = tiny(seed=5), TrainConfig(epochs=1)
    train(model, dataset, other_dataset, config)
    assert model.recipe["training"] == {**dataclasses.asdict(config), "snapshot_epochs": []}
    assert model.recipe["train_set"] == dataset.origin
    assert model.recipe["eval_set"] == other_dataset.origin
    assert (model.recipe["model_seed"], model.recipe["best_epoch"]) == (5, 1)


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
        if path.name == "last.pt" and next(calls) == 2:  # the other files are new already
            raise KeyboardInterrupt
        real(path, *arguments)
    monkeypatch.setattr(io, "save_checkpoint", stopping)


def stop_in_the_first_epoch(monkeypatch):
    def stopping(*arguments):
        raise KeyboardInterrupt
    monkeypatch.setattr(objectives, "imitation_loss", stopping)


@pytest.mark.parametrize("stop", [
    stop_in_the_middle_of_an_epoch, stop_after_an_epoch, stop_while_an_epoch_is_written,
    stop_in_the_first_epoch])
def test_a_run_that_was_stopped_ends_like_one_that_was_not(
        tiny, dataset, other_dataset, never_stopped, tmp_path, stop):
    with pytest.MonkeyPatch.context() as patch:
        stop(patch)
        with pytest.raises(KeyboardInterrupt,
                           match=r"training was stopped: \d whole epochs are kept in"):
            train(tiny(), dataset, other_dataset, SHORT, folder=tmp_path)
    model = tiny()
    history = train(model, dataset, other_dataset, SHORT, folder=tmp_path)
    folder, expected_model, expected_history = never_stopped
    assert without_seconds(history) == without_seconds(expected_history)
    assert_same_weights(model.state_dict(), expected_model.state_dict())
    assert model.recipe == expected_model.recipe
    ended, expected = (io.load_checkpoint(path / "last.pt", "trc_lib.training", 1)
                       for path in (tmp_path, folder))
    for part in ("weights", "best_weights", "order"):
        assert io.fingerprint(ended[part]) == io.fingerprint(expected[part])
    optimizers = [io.fingerprint(each["optimizer"]["state"]) for each in (ended, expected)]
    assert optimizers[0] == optimizers[1]
    for name in ("best_model.pt", "snapshots.pt"):
        ended, expected = (torch.load(path / name, weights_only=True)
                           for path in (tmp_path, folder))
        assert ended["fingerprint"] == expected["fingerprint"]


def test_the_best_weights_outlive_a_stop(tiny, dataset, tmp_path, monkeypatch):
    config = TrainConfig(epochs=5, snapshot_epochs=(1,))
    script_eval_losses(monkeypatch, [1.0, 2.0, 3.0, 4.0, 5.0])
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), dataset, dataset, config, folder=tmp_path, on_epoch=stop_after(3))
    model = tiny()
    history = train(model, dataset, dataset, config, folder=tmp_path)
    assert history["eval_loss"] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert_same_weights(model.state_dict(), load_snapshots(tmp_path / "snapshots.pt")[1])


def test_interrupt_says_how_many_epochs_are_kept(tiny, dataset, tmp_path):
    with pytest.raises(KeyboardInterrupt,
                       match=r"stopped: 2 whole epochs are kept in .*; run again to go on"):
        train(tiny(), dataset, dataset, SHORT, folder=tmp_path, on_epoch=stop_after(2))
    with pytest.raises(KeyboardInterrupt, match="nothing was kept: no folder was given"):
        train(tiny(), dataset, dataset, SHORT, on_epoch=stop_after(2))


def test_a_finished_run_is_only_read_again(tiny, dataset, other_dataset, never_stopped, tmp_path):
    folder, expected_model, expected_history = never_stopped
    shutil.copytree(folder, tmp_path / "copy")
    model = tiny()
    history = train(model, dataset, other_dataset, SHORT, folder=tmp_path / "copy")
    assert history.rows == expected_history.rows
    assert_same_weights(model.state_dict(), expected_model.state_dict())


@pytest.fixture
def kept(never_stopped, tmp_path):
    """A copy of the folder of a finished run, and its contents."""
    folder = tmp_path / "kept"
    shutil.copytree(never_stopped[0], folder)
    return folder, {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("difference", "named"), [
    ({"config": dataclasses.replace(SHORT, lr=2e-3)}, r"training\.lr: 0\.001 -> 0\.002"),
    ({"model": {"L_cycles": 3}}, r"model\.L_cycles: 4 -> 3"),
    ({"model": {"seed": 1}}, r"model_seed: 0 -> 1, initial_weights: .*"),
    ({"train_set": generate_dataset(64, seed=9)},
     r"train_set\.seed: 1 -> 9, train_set\.fingerprint: .*"),
    ({"eval_set": generate_dataset(48, seed=9)},
     r"eval_set\.seed: 2 -> 9, eval_set\.fingerprint: .*"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_another_recipe_in_the_folder_is_refused_and_nothing_is_lost(
        tiny, dataset, other_dataset, kept, difference, named):
    folder, contents = kept
    model = tiny(**difference.get("model", {}))
    sets = difference.get("train_set", dataset), difference.get("eval_set", other_dataset)
    with pytest.raises(ValueError, match=rf"folder=.* holds a run with another recipe \({named}\)"):
        train(model, *sets, difference.get("config", SHORT), folder=folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents


def test_a_trained_network_does_not_resume_the_run_that_trained_it(
        tiny, dataset, other_dataset, kept):
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
    best = TinyRecursiveControl.load(folder / "best_model.pt")
    assert_same_weights(best.state_dict(), model.state_dict())
    assert train(tiny(seed=8), dataset, other_dataset, config, folder=folder).rows == history.rows


def test_a_truncated_state_is_refused_and_not_written_over(
        tiny, dataset, other_dataset, kept):
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


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_first_epoch(
        tiny, dataset, tmp_path):
    blocked, seen = tmp_path / "a_file", []
    blocked.write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write to .*a_file"):
        train(tiny(), dataset, dataset, SHORT, folder=blocked / "run", on_epoch=seen.append)
    assert not seen and blocked.read_text() == "in the way"


def test_a_new_run_leaves_nothing_of_the_old_one(
        tiny, dataset, other_dataset, kept, monkeypatch):
    folder, _ = kept
    stop_in_the_first_epoch(monkeypatch)
    with pytest.raises(KeyboardInterrupt, match="0 whole epochs"):
        train(tiny(seed=5), dataset, other_dataset, SHORT, folder=folder, resume=False)
    assert not list(folder.iterdir())


def test_the_recipe_holds_every_training_and_the_cost_of_the_feedback(tmp_path):
    problem = PROBLEMS["van_der_pol"](horizon=4)
    data, cost = problem.dataset(16, seed=0), problem.teacher.quadratic_cost
    first, then = (TrainConfig(epochs=1, batch_size=16, part=part)
                   for part in ("proposal", "cycles"))

    def made(cost):
        feedback = CostGradient(problem.teacher.system, cost, 4)
        return TinyRecursiveControl.create_two_level_small(
            problem.teacher.system, 0, feedback, horizon=4)

    model = made(cost)
    train(model, data, data, first, tmp_path / "first")
    train(model, data, data, then, tmp_path / "then")
    loaded = TinyRecursiveControl.load(tmp_path / "then" / "best_model.pt")
    for recipe in (model.recipe, loaded.recipe):
        assert recipe["training"]["part"] == "cycles"
        assert recipe["before"]["training"]["part"] == "proposal"
        assert "before" not in recipe["before"]
    with pytest.raises(ValueError, match=r"holds a run with another recipe .*before"):
        train(made(cost), data, data, then, tmp_path / "then")  # from the untrained network
    dearer = QuadraticCost(2 * cost.Q, cost.R, cost.Q_final)
    with pytest.raises(ValueError, match=r"holds a run with another recipe .*cost"):
        train(made(dearer), data, data, first, tmp_path / "first")


def test_a_folder_that_another_run_trains_in_is_refused_and_left_alone(tiny, dataset, tmp_path):
    def second(history):
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        busy = rf"folder=.*{tmp_path.name}.* is in use by process {os.getpid()} on "
        with pytest.raises(io.Busy, match=busy):
            train(tiny(), dataset, dataset, TrainConfig(epochs=5), folder=tmp_path, resume=False)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    config = TrainConfig(epochs=2)
    assert len(train(tiny(), dataset, dataset, config, folder=tmp_path, on_epoch=second)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best_model.pt", "history.csv", "last.pt"]


def test_a_run_is_extended_by_more_epochs(tiny, dataset, other_dataset, kept):
    folder, _ = kept
    done = SHORT.epochs
    first = io.load_checkpoint(folder / "last.pt", "trc_lib.training", 1)["history"]
    longer = dataclasses.replace(SHORT, epochs=done + 2)
    model = tiny()
    history = train(model, dataset, other_dataset, longer, folder=folder)
    assert history.rows[:done] == first and len(history) == done + 2
    assert model.recipe["training"]["epochs"] == done + 2
    assert model.recipe["extended_at"] == [done]
    steps = -(-len(dataset) // SHORT.batch_size)
    assert history["lr"][done] == learning_rate((done + 1) * steps - 1, (done + 2) * steps, longer)
    again = train(tiny(), dataset, other_dataset, longer, folder=folder)  # finished: nothing to do
    assert again.rows == history.rows
    more = train(tiny(), dataset, other_dataset, dataclasses.replace(longer, epochs=done + 3),
                 folder=folder)
    assert more.rows[:-1] == history.rows
    loaded = TinyRecursiveControl.load(folder / "best_model.pt")
    assert loaded.recipe["extended_at"] == [done, done + 2]
    with pytest.raises(ValueError, match=rf"training\.epochs: {done + 3} -> {done + 2}"):
        train(tiny(), dataset, other_dataset, longer, folder=folder)
    with pytest.raises(ValueError, match=r"training\.epochs: .*training\.lr: "):
        train(tiny(), dataset, other_dataset,
              dataclasses.replace(longer, epochs=done + 9, lr=3e-3), folder=folder)


def test_a_snapshot_of_before_the_training_alone_is_written(tiny, dataset, tmp_path):
    model, config = tiny(), TrainConfig(epochs=2, snapshot_epochs=(0,))
    train(model, dataset, dataset, config, folder=tmp_path)
    snapshots = load_snapshots(tmp_path / "snapshots.pt")
    untrained = tiny()
    untrained.set_scaling(dataset)
    assert [*snapshots] == [0]
    assert_same_weights(snapshots[0], untrained.state_dict())


@pytest.mark.parametrize("change", [{"epochs": -1, "patience": 5}, {"epochs": 1, "patience": -1}])
def test_more_of_one_and_less_of_the_other_is_no_extension(
        tiny, dataset, other_dataset, kept, change):
    folder, contents = kept
    config = dataclasses.replace(SHORT, **{
        name: getattr(SHORT, name) + by for name, by in change.items()})
    with pytest.raises(ValueError, match="holds a run with another recipe"):
        train(tiny(), dataset, other_dataset, config, folder=folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents
