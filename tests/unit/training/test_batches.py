"""The training set as the loop reads it, out of memory or out of a store."""

import functools
import subprocess
import sys

import pytest
import torch

from trc_lib import training
from trc_lib.data import shards
from trc_lib.problems import PROBLEMS
from trc_lib.training import TrainConfig
from trc_lib.training.batches import Batches

PROBLEM, CPU = PROBLEMS["double_integrator"](), torch.device("cpu")
train = functools.partial(training.train, device="cpu", progress=False)


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
    return [[[value.clone() for value in batch] for batch in batches.drawn(generator)] for _ in range(epochs)]


@pytest.mark.parametrize(("shard", "batch_size"), [(100, 16), (40, 16), (40, 1), (40, 40), (7, 16), (1, 100), (33, 300)])
def test_an_epoch_holds_every_problem_once_with_its_own_answer(make, shard, batch_size):
    made, dataset = make(100, shard), PROBLEM.dataset(100, seed=3)
    for train_set in (made, dataset):
        batches = Batches(train_set, batch_size, CPU)
        first, second = orders(batches)
        assert [len(batch[0]) for batch in first] == [len(rows) for rows in torch.arange(100).split(batch_size)]
        assert len(batches) == len(first)
        whole = torch.cat([torch.cat([value.flatten(1) for value in batch], dim=1) for batch in first])
        expected = torch.cat([dataset.initial_states, dataset.target_states, dataset.controls.flatten(1)], dim=1).float()
        torch.testing.assert_close(whole[whole[:, 0].argsort()], expected[expected[:, 0].argsort()], rtol=0, atol=1e-6)
        again = torch.cat([batch[0] for batch in second])
        assert not torch.equal(again, whole[:, :2])            # in another order


def test_the_same_seed_gives_the_same_order_and_another_seed_another(make):
    batches = Batches(make(100, 30), 16, CPU)
    one, same, other = (torch.cat([batch[0] for epoch in orders(batches, seed=seed) for batch in epoch]) for seed in (5, 5, 6))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_store_of_one_shard_trains_like_the_dataset_that_it_holds(make, tiny, other_dataset):
    made, config = make(64, 64), TrainConfig(epochs=2, batch_size=24, most_cycles=2)
    first, second = tiny(), tiny()
    train(first, made, other_dataset, config)
    train(second, made.sample, other_dataset, config)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_training_from_a_store_that_was_stopped_ends_like_one_that_was_not(make, tiny, other_dataset, tmp_path):
    made, config, whole, again = make(64, 20), TrainConfig(epochs=4, batch_size=24), tiny(), tiny()
    train(whole, made, other_dataset, config)

    def stop(history):
        if len(history) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny(), made, other_dataset, config, tmp_path / "run", on_epoch=stop)
    train(again, made, other_dataset, config, tmp_path / "run")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())
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


PEAK = """
import sys, torch
from tests.benchmarks.bench_training import peak_of_this_process
from trc_lib.problems import PROBLEMS
from trc_lib.training.batches import Batches
made = PROBLEMS["double_integrator"]().store(sys.argv[1], int(sys.argv[2]))
seen = sum(len(batch[0]) for batch in Batches(made, 1024, torch.device("cpu")).drawn(torch.Generator()))
assert seen == int(sys.argv[2])
print(peak_of_this_process())
"""


def test_the_memory_to_make_and_read_a_store_does_not_grow_with_it(tmp_path):
    """900,000 problems more are 68 MB on disk, and twice that in float64."""
    peaks = [int(subprocess.run([sys.executable, "-c", PEAK, str(tmp_path / str(n)), str(n)], check=True, capture_output=True,
                                text=True).stdout) for n in (300_000, 1_200_000)]
    assert peaks[1] < peaks[0] + 20e6 and peaks[1] < 1e9
