"""The linear map, the multilayer perceptron, and perceptrons that look and correct."""

import dataclasses

import numpy as np
import pytest
import torch

from trc_lib.evaluation import evaluate
from trc_lib.model import CostGradient, FinalError, NoFeedback, Proportional, TinyRecursiveControl
from trc_lib.model.baselines import (
    MLP,
    Corrector,
    CorrectorConfig,
    LearnedGain,
    LinearMap,
    MLPConfig,
)
from trc_lib.problems import bounded_inputs, van_der_pol
from trc_lib.systems import DoubleIntegrator, LinearSystem
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


@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e6])
def test_the_linear_map_stands_components_that_never_change(unit):
    """Such as the altitude of a target; the answer is the same in any unit of one of the others."""
    class Problems:
        system = DoubleIntegrator()

    rng = torch.Generator().manual_seed(0)
    x = torch.randn(300, 6, generator=rng, dtype=torch.float64) * torch.tensor(
        [1000.0, 0.0, 70.0, 1.0, 0.0, 0.0]) + torch.tensor([0.0, 0, 0, 0, 1505, 0])
    controls = x @ torch.randn(6, 8, generator=rng, dtype=torch.float64) + 3
    units = torch.tensor([1.0, 1, unit, 1, 1, 1], dtype=torch.float64)
    data = Problems()
    data.initial_states, data.target_states = (x * units).split(3, dim=1)
    data.controls = controls[:, :, None]
    problems = torch.cat([data.initial_states, data.target_states], dim=1)
    fitted = problems @ LinearMap(data).weights
    assert float((fitted - controls).abs().max()) < 1e-6 * float(controls.abs().max())


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


# ---------------------------------------------------------------- perceptrons that look

SMALL = {"width": 7, "depth": 2}
FEEDBACKS = {"final error": FinalError, "none": lambda system: NoFeedback(system),
             "proportional": lambda system: Proportional(FinalError(system))}
each_feedback = pytest.mark.parametrize("feedback", FEEDBACKS.values(), ids=list(FEEDBACKS))
each_sharing = pytest.mark.parametrize("networks", [1, 3], ids=["shared", "one a cycle"])


@pytest.fixture
def looking(dataset):
    """Makes a small corrector with the scaling of a dataset."""
    def make(feedback=FinalError, control_limit=None, **sizes):
        system = DoubleIntegrator(control_limit=control_limit)
        model = Corrector(CorrectorConfig(**SMALL | sizes), system, 5, feedback(system))
        model.set_scaling(dataset)
        return model
    return make


@pytest.fixture
def problems(dataset):
    return dataset.initial_states[:6].float(), dataset.target_states[:6].float()


def corrected_by_hand(model, x0, xT, cycles, limit=np.inf):
    """The controls of every cycle in float64 NumPy, for a cart of 15 steps of 0.33 s."""
    weights = {name: value.detach().double().numpy() for name, value in model.named_parameters()}
    x0, xT = x0.double().numpy(), xT.double().numpy()
    size, unit = model.state_scale.double().numpy(), model.control_scale.double().numpy()

    def layers(name, x):
        last = 2 * model.config.depth
        for i in range(0, last + 1, 2):
            x = x @ weights[f"{name}.{i}.weight"].T + weights[f"{name}.{i}.bias"]
            x = x / (1 + np.exp(-x)) if i < last else x
        return x

    problem = np.hstack([x0 / size, xT / size])
    controls = layers("proposal", problem).clip(-limit / unit, limit / unit)
    history = [controls]
    for h in range(cycles):
        p, v, dt, gain = x0[:, 0], x0[:, 1], 0.33, 1.0
        for u in (controls * unit).T:
            p, v = p + v * dt + u * dt**2 / 2, v + u * dt
        signal = (np.stack([p, v], axis=1) - xT) / size
        if isinstance(model.feedback, NoFeedback):
            signal = 0 * signal[:, :1]
        if isinstance(model.feedback, Proportional):
            gain = np.sqrt((signal**2).sum(axis=1, keepdims=True) + 1e-12)
            signal = np.hstack([signal / gain, np.log(gain) / 4])
        which = h if model.config.networks > 1 else 0
        which = min(which, model.config.networks - 1)
        correction = layers(f"correctors.{which}", np.hstack([problem, controls, signal]))
        controls = (controls + gain * correction).clip(-limit / unit, limit / unit)
        history.append(controls)
    return np.stack(history)[..., None] * unit


@each_feedback
@each_sharing
def test_a_corrector_is_its_loop_written_out_by_hand(looking, problems, feedback, networks):
    model = looking(feedback, networks=networks)
    output = model(*problems)
    expected = corrected_by_hand(model, *problems, 3)
    np.testing.assert_allclose(output["cycle_controls"].detach(), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(output["controls"], output["cycle_controls"][-1])
    assert np.abs(np.diff(expected, axis=0)).min(axis=0).max() > 1e-3  # every look corrects


@each_sharing
def test_further_cycles_than_trained_go_on_with_the_last_network(looking, problems, networks):
    model = looking(networks=networks)
    longer = model(*problems, H_cycles=7)["cycle_controls"].detach()
    assert longer.shape == (8, 6, 15, 1)
    np.testing.assert_allclose(longer, corrected_by_hand(model, *problems, 7), rtol=1e-4, atol=1e-5)
    for fewer in (0, 2):
        assert torch.equal(model(*problems, H_cycles=fewer)["cycle_controls"], longer[:fewer + 1])


def test_one_shared_network_is_that_of_every_look_and_others_have_one_each(looking, problems):
    shared, apart = looking(networks=1), looking(networks=3)
    assert (len(shared.correctors), len(apart.correctors)) == (1, 3)
    assert not torch.equal(apart.correctors[0][0].weight, apart.correctors[1][0].weight)
    for corrector in apart.correctors:
        corrector.load_state_dict(shared.correctors[0].state_dict())
    apart.proposal.load_state_dict(shared.proposal.state_dict())
    assert torch.equal(shared(*problems)["cycle_controls"], apart(*problems)["cycle_controls"])
    with torch.no_grad():
        apart.correctors[1][-1].bias.add_(1.0)
    same = (shared(*problems)["cycle_controls"] == apart(*problems)["cycle_controls"])
    assert same[:2].all() and not same[2].any()


@pytest.mark.parametrize("networks", [0, 2, 4])
def test_a_corrector_has_one_network_or_one_for_each_cycle(networks):
    with pytest.raises(ValueError, match=f"networks={networks} is (not accepted|too small)"):
        CorrectorConfig(networks=networks, H_cycles=3)
    assert CorrectorConfig(networks=5, H_cycles=5).networks == 5


@each_sharing
@pytest.mark.parametrize("feedback", [None, NoFeedback(), "proportional"])
@pytest.mark.parametrize("numbers", [3_000, 146_718])
def test_a_corrector_is_as_wide_as_its_budget_allows(networks, feedback, numbers):
    system = DoubleIntegrator()
    feedback = Proportional(FinalError(system)) if feedback == "proportional" else feedback
    model = Corrector.within(numbers, system, 2, feedback, networks=networks)
    wider = Corrector(dataclasses.replace(model.config, width=model.config.width + 1), system, 2,
                      feedback)
    counted = sum(weight.numel() for weight in model.parameters())
    assert model.num_parameters == counted <= numbers < wider.num_parameters
    exact = Corrector.within(counted, system, 2, feedback, networks=networks)
    assert exact.config == model.config and exact.seed == 2
    less = Corrector.within(counted - 1, system, 2, feedback, networks=networks)
    assert less.config.width == model.config.width - 1


@each_sharing
def test_a_corrector_keeps_the_limits_in_every_cycle(looking, problems, networks):
    model = looking(FEEDBACKS["proportional"], control_limit=0.05, networks=networks)
    controls = model(*problems, H_cycles=6)["cycle_controls"].detach()
    expected = corrected_by_hand(model, *problems, 6, limit=0.05)
    np.testing.assert_allclose(controls, expected, rtol=1e-4, atol=2e-6)
    assert controls.abs().max() <= 0.05 and np.isclose(np.abs(expected), 0.05).sum() > 10


@each_feedback
@each_sharing
def test_a_corrector_comes_back_from_a_file(looking, problems, feedback, networks, tmp_path):
    model = looking(feedback, networks=networks)
    model.save(tmp_path / "model.pt")
    loaded = Corrector.load(tmp_path / "model.pt")
    assert loaded.config == model.config and not loaded.training
    assert torch.equal(loaded(*problems)["cycle_controls"], model(*problems)["cycle_controls"])
    assert torch.equal(loaded.solve(*problems), model.solve(*problems))
    for other in (MLP, TinyRecursiveControl):
        with pytest.raises(ValueError, match="is not a checkpoint of the kind"):
            other.load(tmp_path / "model.pt")


def test_a_feedback_of_another_system_or_horizon_is_refused():
    with pytest.raises(ValueError, match="feedback was made for another system"):
        Corrector(CorrectorConfig(), DoubleIntegrator(), 0, FinalError(DoubleIntegrator(0.1)))
    teacher = van_der_pol(horizon=20).teacher
    gradient = CostGradient(teacher.system, teacher.quadratic_cost, 20)
    with pytest.raises(ValueError, match="feedback was made for 20 steps; the network has 15"):
        Corrector(CorrectorConfig(horizon=15), teacher.system, 0, gradient)
    with pytest.raises(TypeError, match="feedback"):
        Corrector(feedback="final error")


def test_a_corrector_serves_systems_of_several_states_and_controls():
    rng = np.random.default_rng(0)
    system = LinearSystem(rng.normal(size=(3, 3)) / 3, rng.normal(size=(3, 2)), 0.1, (0.5, 2.0))
    model = Corrector.within(4_000, system, horizon=6)
    model.control_scale.copy_(torch.tensor([0.5, 3.0]))
    x0, xT = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    controls = model(10 * x0, xT)["cycle_controls"]
    assert controls.shape == (4, 5, 6, 2)
    assert (controls.abs() <= torch.tensor([0.5, 2.0])).all()
    alone = model(10 * x0[:1], xT[:1])["cycle_controls"]
    torch.testing.assert_close(alone, controls[:, :1], rtol=1e-5, atol=1e-6)


@each_feedback
@each_sharing
def test_every_parameter_of_a_corrector_learns(looking, problems, feedback, networks, dataset):
    model = looking(feedback, networks=networks)
    errors = model(*problems)["controls"] - dataset.controls[:6].float()
    errors.square().mean().backward()
    assert all(parameter.grad.any() for parameter in model.parameters())


@each_sharing
def test_a_corrector_learns_in_whole_and_in_parts(looking, dataset, other_dataset, networks):
    model = looking(FEEDBACKS["proportional"], networks=networks, width=32)
    before = [each.control_mse for each in evaluate(model, other_dataset)]
    for part in ("proposal", "cycles", "all"):
        weights = {name: value.clone() for name, value in model.named_parameters()}
        train(model, dataset, other_dataset, progress=False, config=TrainConfig(
            epochs=15, batch_size=16, lr=5e-3, part=part, cycle_weight=0.1))
        changed = {name.split(".")[0] for name, value in model.named_parameters()
                   if not torch.equal(value, weights[name])}
        assert changed == {"proposal": {"proposal"}, "cycles": {"correctors"},
                           "all": {"proposal", "correctors"}}[part]
        after = [each.control_mse for each in evaluate(model, other_dataset)]
        at = 0 if part == "proposal" else -1
        assert after[at] < before[at]
        before = after
    assert after[-1] < 0.5 * after[0]  # it corrects


def test_the_first_corrections_of_a_corrector_are_a_tenth_of_a_proposal():
    model = Corrector(CorrectorConfig(width=512, networks=3))
    for corrector in model.correctors:
        ratio = corrector[-1].weight.std() / model.proposal[-1].weight.std()
        assert float(ratio.detach()) == pytest.approx(0.1, rel=0.05)


def test_the_seed_of_a_corrector_is_that_of_its_weights():
    torch.manual_seed(0)
    drawn = torch.get_rng_state()
    first, same, other = (Corrector(seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), drawn)
    for part in ("proposal", "correctors"):
        first_weight, same_weight, other_weight = (
            next(getattr(model, part).parameters()) for model in (first, same, other))
        assert torch.equal(first_weight, same_weight)
        assert not torch.equal(first_weight, other_weight)


def test_the_signal_of_a_corrector_is_scaled_by_its_proposals_for_the_data():
    problem = van_der_pol(horizon=10)
    data, teacher = problem.dataset(16, seed=0), problem.teacher
    model = Corrector.within(3_000, teacher.system, 0, Proportional(CostGradient(
        teacher.system, teacher.quadratic_cost, 10)), horizon=10)
    model.set_scaling(data)
    x0, xT = data.initial_states.float(), data.target_states.float()
    controls = model(x0, xT, H_cycles=0)["controls"].detach().requires_grad_()
    teacher.cost(x0, xT, controls).sum().backward()
    expected = controls.grad.flatten(1).square().mean(dim=0).sqrt() * 10**0.5
    torch.testing.assert_close(model.feedback.inner.scale, expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- one learned matrix

def test_a_learned_gain_adds_its_matrix_times_the_error_in_every_cycle(dataset, problems):
    system = DoubleIntegrator(control_limit=1.5)
    model = LearnedGain(CorrectorConfig(**SMALL), system, 5, FinalError(system))
    model.set_scaling(dataset)
    proposed = model(*problems)["cycle_controls"].detach()
    assert torch.equal(proposed[0], proposed[3])  # the matrix begins with zeros
    matrix = torch.randn(15, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.correctors[0].weight.copy_(matrix)
    assert model.correctors[0].bias is None
    x0, xT = (states.double().numpy() for states in problems)
    size, unit = model.state_scale.double().numpy(), model.control_scale.double().numpy()
    u = proposed[0, :, :, 0].double().numpy()
    for cycle in model(*problems)["cycle_controls"].detach()[1:, :, :, 0]:
        p, v = x0.T
        for now in u.T:
            p, v = p + v * 0.33 + now * 0.33**2 / 2, v + now * 0.33
        u = (u + (np.stack([p, v], axis=1) - xT) / size @ matrix.double().numpy().T * unit)
        u = u.clip(-1.5, 1.5)
        np.testing.assert_allclose(cycle, u, rtol=1e-4, atol=1e-5)


@each_sharing
@pytest.mark.parametrize("numbers", [3_000, 146_718])
def test_a_learned_gain_is_as_wide_as_its_budget_allows(networks, numbers):
    model = LearnedGain.within(numbers, seed=2, networks=networks)
    counted = sum(weight.numel() for weight in model.parameters())
    assert model.num_parameters == counted <= numbers and len(model.correctors) == networks
    assert LearnedGain.within(counted, networks=networks).config == model.config
    assert LearnedGain.within(counted - 1, networks=networks).config.width < model.config.width


def test_a_learned_gain_comes_back_from_a_file_as_no_other_network(dataset, problems, tmp_path):
    model = LearnedGain(CorrectorConfig(**SMALL))
    model.set_scaling(dataset)
    train(model, dataset, dataset, TrainConfig(epochs=2, lr=1e-2), progress=False)
    assert model.correctors[0].weight.any()
    model.save(tmp_path / "model.pt")
    assert torch.equal(LearnedGain.load(tmp_path / "model.pt").solve(*problems),
                       model.solve(*problems))
    with pytest.raises(ValueError, match="is not a checkpoint of the kind"):
        Corrector.load(tmp_path / "model.pt")
