"""The objectives beside the plain mean squared error, and training at random depth."""

import numpy as np
import pytest
import torch

from trc_lib.evaluation import final_error
from trc_lib.model import TinyRecursiveControl
from trc_lib.training import TrainConfig, imitation_loss, objectives, train


@pytest.fixture
def cycles(dataset):
    optimum = dataset.controls[:8]
    noise = torch.randn(4, *optimum.shape, dtype=torch.float64,
                        generator=torch.Generator().manual_seed(0))
    return optimum + noise, optimum


@pytest.mark.parametrize(("objective", "by_hand"), [
    ("mse", lambda J, w: J[3] + w * (J[0] + J[1] + J[2])),
    ("rms", lambda J, w: J[3] ** 0.5 + w * (J[0] ** 0.5 + J[1] ** 0.5 + J[2] ** 0.5)),
    ("improvement", lambda J, w: (1 + w) * J[3] - w * J[0]),  # the sum of the gains telescopes
    ("relative improvement", lambda J, w: J[3] - w * (3 - J[1] / J[0] - J[2] / J[1] - J[3] / J[2])),
])
def test_every_objective_is_its_formula(cycles, objective, by_hand):
    J = [float(np.mean((np.asarray(u) - np.asarray(cycles[1])) ** 2)) for u in cycles[0]]
    value, loss = imitation_loss(*cycles, cycle_weight=0.3, objective=objective)
    assert float(value) == pytest.approx(by_hand(J, 0.3), rel=1e-8)
    assert float(loss) == pytest.approx(J[3], rel=1e-12)


@pytest.mark.parametrize("objective", ["mse", "rms"])
def test_the_final_state_counts_by_its_weight(cycles, objective):
    errors = torch.randn(4, 8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    root = 1.0 if objective == "mse" else 0.5
    by_hand = sum(w * 0.7 * float((errors[h] ** 2).sum() / 16) ** root
                  for h, w in enumerate((0.3, 0.3, 0.3, 1.0)))
    without = imitation_loss(*cycles, 0.3, objective)
    with_it = imitation_loss(*cycles, 0.3, objective, errors, final_weight=0.7)
    assert float(with_it[0] - without[0]) == pytest.approx(by_hand, rel=1e-6)
    assert with_it[1] == without[1]


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
    train(tiny(), dataset, other_dataset, config, progress=False)
    assert set(seen) == {0.7}


def test_the_root_objective_has_a_finite_slope_at_the_optimum(cycles):
    controls = cycles[1].expand(4, -1, -1, -1).clone().requires_grad_()
    imitation_loss(controls, cycles[1], 1.0, "rms")[0].backward()
    assert torch.isfinite(controls.grad).all() and not controls.grad.any()


def test_an_unknown_objective_is_refused():
    with pytest.raises(ValueError,
                       match="objective='huber' is unknown; accepted are 'mse', 'rms'"):
        TrainConfig(objective="huber")


def test_random_depth_runs_every_number_of_cycles_up_to_the_most(
        tiny, dataset, other_dataset, monkeypatch):
    depths, predict = [], TinyRecursiveControl.predict

    def watched(self, x0, xT, H_cycles=None):
        depths.append(H_cycles)
        return predict(self, x0, xT, H_cycles)

    monkeypatch.setattr(TinyRecursiveControl, "predict", watched)
    config = TrainConfig(epochs=2, batch_size=16, most_cycles=4)
    train(tiny(), dataset, other_dataset, config, progress=False)
    assert {depth for depth in depths if depth is not None} <= {1, 2, 3, 4}
    assert len(set(depths)) >= 4
    assert depths.count(None) == 2  # validated after each epoch at the network's own depth


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
    assert all(map(torch.equal, whole.state_dict().values(), stopped.state_dict().values()))
