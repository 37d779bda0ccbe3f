"""Physical units outside, scaled inside; limits are kept and bad arguments refused by name."""

import numpy as np
import pytest
import torch

from trc_lib.model import TinyRecursiveControl
from trc_lib.model.learner import straight_through_clamp
from trc_lib.systems import DoubleIntegrator


def test_scaling_is_the_root_mean_square_of_the_dataset(scaled, dataset):
    model = scaled()
    states = np.concatenate([dataset.initial_states, dataset.target_states])
    np.testing.assert_allclose(model.state_scale, np.sqrt((states**2).mean(axis=0)), rtol=1e-6)
    scale = np.sqrt((dataset.controls.numpy()**2).mean(axis=(0, 1)))
    np.testing.assert_allclose(model.control_scale, scale, rtol=1e-6)


@pytest.mark.parametrize("leading", [(), (3,), (2, 4)])
def test_solve_has_the_interface_of_a_teacher(scaled, leading):
    model = scaled()
    generator = torch.Generator().manual_seed(0)
    x0, xT = torch.rand(2, *leading, 2, dtype=torch.float64, generator=generator)
    controls = model.solve(x0, xT)
    assert controls.dtype == torch.float64 and not controls.requires_grad
    assert tuple(controls.shape) == (*leading, 15, 1)
    expected = model(x0.reshape(-1, 2), xT.reshape(-1, 2))["controls"].double()
    torch.testing.assert_close(controls.reshape(-1, 15, 1), expected)


@pytest.mark.parametrize("call", ["forward", "trace"])
@pytest.mark.parametrize(("bad", "error", "reason"), [
    (torch.zeros(4, 3), ValueError, r"has shape \[4, 3\]; needs \[\.\.\., any, 2\]"),
    (torch.zeros(2), ValueError, r"has shape \[2\]; needs"),
    (torch.zeros(1, 4, 2), ValueError, r"has shape \[1, 4, 2\]; needs \[batch, 2\]"),
    (torch.full((4, 2), torch.nan), ValueError, "holds NaN or infinite values"),
    (torch.zeros(4, 2, dtype=torch.int64), TypeError, r"has dtype torch\.int64"),
    ("here", TypeError, "cannot be read"),
])
def test_states_that_make_no_sense_are_refused_by_name(tiny, call, bad, error, reason):
    model, good = tiny(), torch.zeros(4, 2)
    with pytest.raises(error, match=f"initial_state {reason}"):
        getattr(model, call)(bad, good)
    with pytest.raises(error, match=f"target_state {reason}"):
        getattr(model, call)(good, bad)


def test_starts_and_targets_of_different_number_are_refused(tiny):
    with pytest.raises(ValueError, match="target_state has 3 rows and initial_state 4"):
        tiny()(torch.zeros(4, 2), torch.zeros(3, 2))


@pytest.mark.parametrize(("H_cycles", "error"), [
    (-1, ValueError), (2.0, TypeError), (True, TypeError)])
def test_a_number_of_cycles_that_makes_no_sense_is_refused(tiny, H_cycles, error):
    with pytest.raises(error, match=f"H_cycles={H_cycles}"):
        tiny()(torch.zeros(1, 2), torch.zeros(1, 2), H_cycles=H_cycles)


def test_a_system_that_does_not_fit_is_refused(tiny):
    with pytest.raises(ValueError, match="does not fit state_dim=3, control_dim=1"):
        tiny(state_dim=3)


@pytest.mark.parametrize("limit", [0.1, 1.0])
def test_controls_stay_within_their_limits_in_every_cycle(limit, dataset):
    model, free = (TinyRecursiveControl.create_two_level_small(system, seed=2) for system in (
        DoubleIntegrator(control_limit=limit), DoubleIntegrator()))
    for each in (model, free):
        each.set_scaling(dataset)
        each.initial_generator[-1].weight.data.mul_(30)  # so that many would be beyond
    x0, xT = dataset.initial_states.float(), dataset.target_states.float()
    cycles, unlimited = (each(x0, xT)["cycle_controls"].detach().double() for each in (model, free))
    held = float(cycles.abs().max())
    assert 0.999999 * limit < held <= limit
    assert float((cycles.abs() == held).double().mean()) > 0.1  # equal to the bit
    assert not bool(((cycles.abs() > (1 - 4e-7) * limit) & (cycles.abs() < held)).any())
    torch.testing.assert_close(cycles[0], unlimited[0].clamp(-limit, limit), rtol=1e-6, atol=1e-7)


def test_a_control_beyond_its_limit_still_has_a_gradient():
    raw = torch.tensor([-3.0, 0.5, 3.0], requires_grad=True)
    controls = straight_through_clamp(raw, torch.tensor(-1.0), torch.tensor(1.0))
    assert controls.tolist() == [-1.0, 0.5, 1.0]
    (controls - torch.tensor([-1.0, 1.0, 0.0])).square().sum().backward()
    assert raw.grad.tolist() == [0.0, -1.0, 2.0]  # zero only where the limit is right


def test_inside_the_network_controls_exceed_their_limit_by_a_millionth_at_most():
    model = TinyRecursiveControl.create_two_level_small(DoubleIntegrator(control_limit=0.7))
    model.control_scale.fill_(0.3)
    clamped = model.clamp(torch.tensor([[-9.0, 9.0, *[0.5] * 13]])) * model.control_scale
    assert clamped[0, :3].tolist() == pytest.approx([-0.7, 0.7, 0.15], rel=2e-6)
