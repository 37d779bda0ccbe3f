"""The linear map and the multilayer perceptron."""

import dataclasses

import numpy as np
import pytest
import torch

from trc_lib.evaluation import evaluate
from trc_lib.model import TinyRecursiveControl
from trc_lib.model.baselines import MLP, LinearMap, MLPConfig
from trc_lib.problems import bounded_inputs
from trc_lib.training import TrainConfig, train


def test_the_linear_map_is_the_least_squares_fit_clamped_to_the_limits():
    problem = bounded_inputs()
    data, unseen = problem.dataset(60, seed=0), problem.dataset(20, seed=1)
    x = np.concatenate([data.initial_states, data.target_states], axis=1)
    W = np.linalg.lstsq(x, data.controls.numpy()[..., 0], rcond=None)[0]
    expected = np.concatenate([unseen.initial_states, unseen.target_states], axis=1) @ W
    assert np.abs(expected).max() > 1
    found = LinearMap(data).solve(unseen.initial_states, unseen.target_states)
    np.testing.assert_allclose(found[..., 0], expected.clip(-1, 1), rtol=0, atol=1e-9)


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


def test_an_mlp_learns_is_saved_and_is_not_taken_for_another_network(
        dataset, other_dataset, tmp_path):
    model = MLP(MLPConfig(width=32, depth=1))
    config = TrainConfig(epochs=20, batch_size=16, lr=1e-2)
    before = evaluate(model, other_dataset)[-1].control_mse
    history = train(model, dataset, other_dataset, config, progress=False)
    assert history.best["eval_loss"] < 0.1 * before
    model.save(tmp_path / "model.pt")
    loaded = MLP.load(tmp_path / "model.pt")
    problems = other_dataset.initial_states[:4], other_dataset.target_states[:4]
    assert torch.equal(loaded.solve(*problems), model.solve(*problems))
    with pytest.raises(ValueError, match=r"is not a checkpoint of the kind trc_lib\.model"):
        TinyRecursiveControl.load(tmp_path / "model.pt")


@pytest.mark.parametrize("width", [1, 7, 64])
def test_a_budget_that_a_width_fits_exactly_gives_that_width(width):
    exact = MLP(MLPConfig(width=width)).num_parameters
    assert MLP.within(exact).config.width == width
    assert MLP.within(exact + 1).config.width == width
    if width > 1:
        assert MLP.within(exact - 1).config.width == width - 1


def test_the_seed_of_an_mlp_is_that_of_its_weights():
    first, same, other = (MLP(seed=seed).layers[0].weight for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)
