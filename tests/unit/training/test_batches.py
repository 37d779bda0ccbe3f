"""Batches of a dataset or a store hold every problem once, in an order that the seed gives."""

import pytest
import torch

from tests.unit.training.common import assert_same_weights, stop_after, train
from trc_lib.data import shards
from trc_lib.problems import PROBLEMS
from trc_lib.training import TrainConfig
from trc_lib.training.batches import Batches

PROBLEM, CPU = PROBLEMS["double_integrator"](), torch.device("cpu")


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes a store of so many problems, in shards of so many."""
    def make(num_samples, shard):
        monkeypatch.setattr(shards, "SHARD", shard)
        return PROBLEM.store(tmp_path / "store", num_samples, seed=3)
    return make


def orders(batches, epochs=2, seed=0):
    """The batches of each epoch."""
    generator = torch.Generator().manual_seed(seed)
    return [list(batches.drawn(generator)) for _ in range(epochs)]


@pytest.mark.parametrize(("shard", "batch_size"), [
    (30, 7), (12, 7), (12, 1), (12, 12), (4, 7), (1, 30), (11, 90)])
def test_an_epoch_holds_every_problem_once_with_its_own_answer(make, shard, batch_size):
    made, dataset = make(30, shard), PROBLEM.dataset(30, seed=3)
    columns = dataset.initial_states, dataset.target_states, dataset.controls.flatten(1)
    expected = torch.cat(columns, dim=1).float()
    expected = expected[expected[:, 0].argsort()]
    for train_set in (made, dataset):
        batches = Batches(train_set, batch_size, CPU)
        first, second = orders(batches)
        sizes = [len(rows) for rows in torch.arange(30).split(batch_size)]
        assert [len(batch[0]) for batch in first] == sizes and len(batches) == len(first)
        whole = torch.cat([torch.cat([value.flatten(1) for value in batch], dim=1)
                           for batch in first])
        ordered = whole[whole[:, 0].argsort()]
        torch.testing.assert_close(ordered, expected, rtol=0, atol=1e-6)
        again = torch.cat([batch[0] for batch in second])
        assert not torch.equal(again, whole[:, :2])            # in another order


def test_the_same_seed_gives_the_same_order_and_another_seed_another(make):
    batches = Batches(make(100, 30), 16, CPU)
    one, same, other = (
        torch.cat([batch[0] for epoch in orders(batches, seed=seed) for batch in epoch])
        for seed in (5, 5, 6))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_store_of_one_shard_trains_like_the_dataset_that_it_holds(make, tiny, other_dataset):
    made, config = make(64, 64), TrainConfig(epochs=2, batch_size=24, most_cycles=2)
    first, second = tiny(), tiny()
    train(first, made, other_dataset, config)
    train(second, made.sample, other_dataset, config)
    assert_same_weights(first.state_dict(), second.state_dict())


def test_training_from_a_store_that_was_stopped_ends_like_one_that_was_not(
        make, tiny, other_dataset, tmp_path):
    made, config, whole, again = make(64, 20), TrainConfig(epochs=3, batch_size=24), tiny(), tiny()
    train(whole, made, other_dataset, config)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), made, other_dataset, config, tmp_path / "run", on_epoch=stop_after(2))
    train(again, made, other_dataset, config, tmp_path / "run")
    assert_same_weights(whole.state_dict(), again.state_dict())
    assert again.recipe == whole.recipe and again.recipe["train_set"] == made.origin


def test_training_refuses_a_shard_that_was_damaged(make, tiny, other_dataset):
    made = make(64, 20)
    path = made.folder / "shard-00002.npy"
    written = path.read_bytes()
    path.write_bytes(written[:-1] + bytes([written[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"shard-00002\.npy was changed"):
        train(tiny(), made, other_dataset, TrainConfig(epochs=1))


def test_a_store_of_another_system_is_refused(make, tiny, dataset, tmp_path):
    other = PROBLEMS["bounded_inputs"]().store(tmp_path / "other", 10)
    with pytest.raises(ValueError, match="train_set was made for another system"):
        train(tiny(), other, dataset)
