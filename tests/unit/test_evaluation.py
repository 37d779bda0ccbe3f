"""The metrics and the parts of a mistake, against oracles that share no code with them."""

import dataclasses

import numpy as np
import pytest
import scipy.linalg
import torch

from trc_lib.data import generate_dataset
from trc_lib.evaluation import (
    cycle_controls,
    decompose_error,
    error_gap,
    evaluate,
    final_error,
    measure,
)
from trc_lib.model import TinyRecursiveControl
from trc_lib.model.baselines import LinearMap
from trc_lib.problems import van_der_pol
from trc_lib.systems import DoubleIntegrator, LinearSystem
from trc_lib.teachers import MinimumEnergyController


@pytest.fixture(scope="module")
def dataset():
    return generate_dataset(200, seed=3)


@pytest.fixture(scope="module")
def disturbed(dataset):
    """The optimum with noise on it."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(dataset.controls.shape, generator=generator, dtype=torch.float64)
    return dataset.controls + 0.05 * noise


def _simulate(dataset, controls):
    """The final states by a plain NumPy loop."""
    p, v = dataset.initial_states.numpy().T
    for u in controls.numpy()[:, :, 0].T:
        p, v = p + v * 0.33 + u * 0.33**2 / 2, v + u * 0.33
    return np.stack([p, v], axis=1)


def test_final_error_is_what_a_plain_loop_measures(dataset, disturbed):
    expected = np.linalg.norm(_simulate(dataset, disturbed) - dataset.target_states.numpy(), axis=1)
    measured = final_error(dataset.system, dataset.initial_states, dataset.target_states, disturbed)
    np.testing.assert_allclose(measured, expected, atol=1e-12)


def test_metrics_are_the_statistics_of_the_final_errors(dataset, disturbed):
    errors = np.linalg.norm(_simulate(dataset, disturbed) - dataset.target_states.numpy(), axis=1)
    metrics = measure(dataset, disturbed)
    assert metrics.final_error_mean == pytest.approx(errors.mean())
    assert metrics.final_error_median == pytest.approx(np.sort(errors)[(len(errors) - 1) // 2])
    assert metrics.final_error_p99 == pytest.approx(np.percentile(errors, 99))
    assert metrics.final_error_max == pytest.approx(errors.max())
    assert metrics.success_rate == pytest.approx((errors < 0.1).mean())
    assert 0 < metrics.success_rate < 1
    u, optimum = disturbed.numpy(), dataset.controls.numpy()
    assert metrics.control_mse == pytest.approx(((u - optimum) ** 2).mean())
    assert metrics.cost_ratio == pytest.approx((u**2).sum() / (optimum**2).sum())
    reach = np.array([[0.33**2 * (14 - k + 0.5) for k in range(15)], [0.33] * 15])
    wasted = ((u - optimum)[..., 0] @ scipy.linalg.null_space(reach)) ** 2
    assert metrics.excess_energy == pytest.approx(wasted.sum() / 200)
    both = ((u - optimum) ** 2).sum() / 200
    assert metrics.terminal_error == pytest.approx(both - wasted.sum() / 200)


def test_success_is_what_the_teacher_of_the_problems_counts_as_success():
    data = van_der_pol(horizon=20).dataset(64, seed=0)
    errors = data.system.rollout(data.initial_states, data.controls)[:, -1].norm(dim=1)
    assert 0 < (errors < 0.1).double().mean() < (errors < 0.2).double().mean() < 1
    metrics = measure(data, data.controls)
    assert metrics.success_rate == pytest.approx(float((errors < 0.2).double().mean()))
    assert metrics.terminal_error is None and metrics.excess_energy is None


@pytest.mark.parametrize("state_dim, control_dim, horizon", [(2, 1, 15), (3, 1, 8), (4, 2, 6)])
def test_the_two_parts_are_the_two_projections_and_add_up(state_dim, control_dim, horizon):
    generator = torch.Generator().manual_seed(state_dim)
    A = torch.eye(state_dim) + 0.3 * torch.randn(state_dim, state_dim, generator=generator)
    B = torch.randn(state_dim, control_dim, generator=generator)
    system = LinearSystem(A, B, dt=0.1)
    controls = torch.randn(50, horizon, control_dim, generator=generator, dtype=torch.float64)
    optimal = torch.randn(50, horizon, control_dim, generator=generator, dtype=torch.float64)
    terminal, excess = decompose_error(system, controls, optimal)
    A, B = system.A.numpy(), system.B.numpy()
    C = np.hstack([np.linalg.matrix_power(A, horizon - 1 - k) @ B for k in range(horizon)])
    N = scipy.linalg.null_space(C)
    difference = (controls - optimal).reshape(50, -1).numpy()
    np.testing.assert_allclose(excess, ((difference @ N) ** 2).sum(axis=1), rtol=1e-8)
    np.testing.assert_allclose(terminal + excess, (difference**2).sum(axis=1), rtol=1e-10)


def test_excess_energy_is_the_extra_energy_of_controls_that_arrive(dataset):
    C = dataset.system.controllability_matrix(15).numpy()
    N = scipy.linalg.null_space(C)
    wiggle = torch.from_numpy(np.random.default_rng(0).normal(size=(200, 13)) @ N.T)[..., None]
    controls = dataset.controls + wiggle
    terminal, excess = decompose_error(dataset.system, controls, dataset.controls)
    extra = controls.square().sum(dim=(1, 2)) - dataset.controls.square().sum(dim=(1, 2))
    assert terminal.max() < 1e-20
    torch.testing.assert_close(excess, extra, rtol=1e-9, atol=1e-9)


def test_the_terminal_error_is_zero_if_and_only_if_the_final_error_is(dataset, disturbed):
    terminal, _ = decompose_error(dataset.system, disturbed, dataset.controls)
    errors = final_error(dataset.system, dataset.initial_states, dataset.target_states, disturbed)
    C = dataset.system.controllability_matrix(15).numpy()
    largest, smallest = np.linalg.svd(C, compute_uv=False)[[0, -1]]
    assert (errors <= largest * terminal.sqrt() * (1 + 1e-9)).all()
    assert (errors >= smallest * terminal.sqrt() * (1 - 1e-9)).all()


def test_a_perfect_controller_measures_perfect(dataset):
    metrics = measure(dataset, dataset.controls)
    assert metrics.final_error_max < 1e-9 and metrics.success_rate == 1 and metrics.cost_ratio == 1
    assert metrics.control_mse == metrics.terminal_error == metrics.excess_energy == 0


def test_evaluation_by_cycle_ends_with_the_forward_pass(dataset):
    model = TinyRecursiveControl.create_two_level_small()
    cycles = evaluate(model, dataset)
    with torch.no_grad():
        answer = model(dataset.initial_states, dataset.target_states)
    direct = measure(dataset, answer["controls"].double())
    assert len(cycles) == 4 and cycles[-1] == direct
    with torch.no_grad():
        deep = model(dataset.initial_states, dataset.target_states, H_cycles=5)["controls"]
    assert evaluate(model, dataset, 5)[-1] == measure(dataset, deep.double()) != direct
    in_batches = cycle_controls(model, dataset, batch_size=7)
    assert not in_batches.requires_grad
    torch.testing.assert_close(in_batches, cycle_controls(model, dataset), rtol=0, atol=1e-5)


def test_the_error_gap_is_the_excess_over_the_mean_error_of_the_reference(dataset, disturbed):
    reference = dataclasses.replace(measure(dataset, disturbed), final_error_mean=0.02)
    for error, gap in ((0.05, 1.5), (0.02, 0.0), (0.01, -0.5), (0.0, -1.0)):
        metrics = dataclasses.replace(measure(dataset, dataset.controls), final_error_mean=error)
        assert error_gap(metrics, reference) == pytest.approx(gap)


def test_the_linear_map_recovers_the_teacher_from_eight_examples(dataset):
    linear = LinearMap(generate_dataset(8, seed=1))
    assert linear.num_parameters == 60
    torch.testing.assert_close(linear.weights.T, MinimumEnergyController().gain, rtol=0, atol=1e-11)
    controls = linear.solve(dataset.initial_states, dataset.target_states)
    assert measure(dataset, controls).final_error_max < 1e-9


@pytest.mark.parametrize("spoil, message", [
    (lambda u: u[:, :14], "controls has shape"),
    (lambda u: u * float("nan"), "controls holds NaN"),
    (lambda u: u[:100], "controls has shape"),
])
def test_controls_that_do_not_fit_are_refused(dataset, spoil, message):
    with pytest.raises(ValueError, match=message):
        measure(dataset, spoil(dataset.controls))


def test_final_error_of_another_system_differs(dataset):
    problems = dataset.initial_states, dataset.target_states
    assert final_error(DoubleIntegrator(0.4), *problems, dataset.controls).mean() > 0.1


@pytest.mark.parametrize("teacher, message", [
    (MinimumEnergyController(DoubleIntegrator(0.5)), "dataset was made for another system"),
    (MinimumEnergyController(horizon=10), r"dataset has controls \[n, 10, 1\]"),
])
def test_a_network_is_not_measured_on_problems_of_another_kind(teacher, message):
    with pytest.raises(ValueError, match=message):
        evaluate(TinyRecursiveControl.create_two_level_small(),
                 generate_dataset(8, teacher=teacher))


def test_the_two_parts_are_right_where_the_controllability_matrix_has_not_full_rank():
    """Two carts pushed by one control: it moves two of four directions."""
    cart = DoubleIntegrator()
    A, B = torch.block_diag(cart.A, cart.A), torch.cat([cart.B, 1e-6 * cart.B])
    system, rng = LinearSystem(A, B, cart.dt), np.random.default_rng(0)
    u, best = rng.normal(size=(2, 5, 6, 1))
    terminal_error, excess_energy = decompose_error(system, u, best)
    C = system.controllability_matrix(6).numpy()
    difference = (u - best)[..., 0]
    wasted = difference @ scipy.linalg.null_space(C[:2])
    np.testing.assert_allclose(excess_energy, (wasted**2).sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(terminal_error + excess_energy, (difference**2).sum(axis=1))


def test_the_two_parts_do_not_depend_on_the_units_of_the_states():
    """Row by row the controllability matrix scales with them; its row space does not."""
    cart, units = DoubleIntegrator(), torch.diag(torch.tensor([1e-9, 1e9]).double())
    other = LinearSystem(units @ cart.A @ units.inverse(), units @ cart.B, cart.dt)
    u, best = np.random.default_rng(0).normal(size=(2, 5, 6, 1))
    for one, two in zip(decompose_error(cart, u, best), decompose_error(other, u, best)):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=0)


def test_the_two_parts_are_right_where_the_states_are_moved_in_nearly_the_same_way():
    """Two tanks with nearly the same time constant."""
    A, B = np.diag([0.9, 0.90002]), np.ones((2, 1))
    C = np.hstack([np.linalg.matrix_power(A, 19 - k) @ B for k in range(20)])
    largest, smallest = np.linalg.svd(C, compute_uv=False)
    assert 1e-6 < smallest / largest < 1e-4
    u, best = np.random.default_rng(0).normal(size=(2, 5, 20, 1))
    _, excess_energy = decompose_error(LinearSystem(A, B, 1.0), u, best)
    wasted = (u - best)[..., 0] @ scipy.linalg.null_space(C)
    np.testing.assert_allclose(excess_energy, (wasted**2).sum(axis=1), rtol=1e-6)
