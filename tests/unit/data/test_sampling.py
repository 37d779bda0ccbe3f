"""What is drawn lies in its box, whatever its form, and what has no answer is counted."""

import math

import numpy as np
import pytest
import torch

from trc_lib.data import LQRDataset, Sampler, generate_dataset, sample_states
from trc_lib.problems import Problem
from trc_lib.systems import DoubleIntegrator
from trc_lib.teachers import BoundedMinimumEnergyController, MinimumEnergyController


@pytest.mark.parametrize(("box", "low", "high"), [
    (2.0, [-2, -2], [2, 2]), (np.float64(2), [-2, -2], [2, 2]),
    ([1.0, 3.0], [-1, -3], [1, 3]), (np.array([1, 3]), [-1, -3], [1, 3]),
    ([[3.0, 4.0], [-1.0, 0.5]], [3, -1], [4, 0.5]),
    (torch.tensor([[3.0, 3.0], [0.0, 1.0]]), [3, 0], [3, 1]),
    ([[math.pi, math.pi], [0.0, 0.0]], [math.pi, 0], [math.pi, 0])], ids=str)
def test_states_fill_their_box(box, low, high):
    for states in (sample_states(4000, 1, state_range=box)[0],
                   sample_states(4000, 1, state_range=1.0, target_range=box)[1]):
        low, high = np.array(low, float), np.array(high, float)
        assert bool((states.numpy() >= low).all() and (states.numpy() <= high).all())
        np.testing.assert_allclose(states.amin(0), low, atol=0.01)
        np.testing.assert_allclose(states.amax(0), high, atol=0.01)
        np.testing.assert_allclose(states.mean(0), (low + high) / 2, atol=0.1)


@pytest.mark.parametrize(("box", "words"), [
    ([1.0], "state_range=.* is not accepted; give half the side of a cube, 2 of them, or 2 rows"),
    ([[1.0, 0.0], [0.0, 1.0]], "is not accepted"), ([[0.0, 1.0]], "is not accepted"),
    (0, "state_range=0 is not accepted"), (-1.0, "state_range=-1.0 is not accepted"),
    ([np.nan, 1.0], "holds NaN")], ids=str)
def test_a_box_that_is_none_is_refused(box, words):
    with pytest.raises(ValueError, match=words):
        Sampler(0, 2, box)


class OnACircle(Sampler):
    """A sampler of one's own: starts at a distance of one, targets at rest there."""

    def draw(self, num_samples):
        angle = 2 * math.pi * torch.rand(num_samples, generator=self.generator).double()
        starts = torch.stack([angle.cos(), angle.sin()], dim=1)
        return starts, starts * torch.tensor([1.0, 0.0], dtype=torch.float64)


def test_a_sampler_of_ones_own_draws_for_a_dataset_and_a_store(tmp_path):
    problem = Problem(MinimumEnergyController(), 1.0, 1.0, OnACircle)
    data = problem.dataset(50, seed=2)
    assert torch.allclose(data.initial_states.norm(dim=1), torch.ones(50).double())
    assert not bool(data.target_states[:, 1].any()) and data.sampler == "OnACircle"
    data.save(tmp_path / "data.npz")
    assert LQRDataset.load(tmp_path / "data.npz").origin == data.origin
    box = generate_dataset(50, 2, state_range=1.0, target_range=1.0)
    assert box.sampler == "Sampler" and not torch.equal(box.initial_states, data.initial_states)
    stored = problem.store(tmp_path / "store", 50, seed=2)
    assert torch.equal(stored.sample.initial_states, data.initial_states.float().double())
    assert stored.sample.sampler == "OnACircle"


def test_boxes_and_the_share_without_an_answer_are_stored(tmp_path):
    teacher = BoundedMinimumEnergyController(DoubleIntegrator(control_limit=[[-0.5, 1.0]]))
    box = [[-9.0, -1.0], [0.0, 0.5]]
    problem = Problem(teacher, box, [[0.0, 0.0], [0.0, 0.0]])
    data = problem.dataset(40, seed=1)
    starts, targets = Sampler(1, 2, box, problem.target_range).draw(data.drawn)
    solved = teacher.try_solve(starts, targets)[1]
    assert int(solved.sum()) == 40 and bool(solved[-1])  # it stops at the fortieth answer
    assert torch.equal(data.initial_states, starts[solved])
    assert 0 < data.share_dropped == pytest.approx(1 - 40 / data.drawn)
    data.save(tmp_path / "data.npz")
    loaded = LQRDataset.load(tmp_path / "data.npz")
    assert (loaded.drawn, loaded.state_range, loaded.target_range) == (
        data.drawn, box, [[0.0, 0.0], [0.0, 0.0]])
    assert problem.store(tmp_path / "store", 40, seed=1).drawn == data.drawn


def test_the_last_few_problems_are_not_looked_for_among_many(monkeypatch):
    solve, asked = BoundedMinimumEnergyController.try_solve, []

    def counted(self, x0, xT):
        asked.append(len(x0))
        return solve(self, x0, xT)

    monkeypatch.setattr(BoundedMinimumEnergyController, "try_solve", counted)
    teacher = BoundedMinimumEnergyController(DoubleIntegrator(control_limit=1.0))
    data = generate_dataset(400, 5, teacher, 2.5)
    assert len(data) == 400 < data.drawn <= sum(asked) < data.drawn + 400
    longer = generate_dataset(500, 5, teacher, 2.5)  # the same problems in other portions
    assert torch.equal(longer.initial_states[:400], data.initial_states)
