"""The method on another device gives what the CPU gives: ``pytest tests/unit --device cuda``.

Without the option both are the CPU. The tests at the end need no GPU: PyTorch's fake tensors hold
no numbers, but are on a device, and refuse to be computed with tensors of the CPU.
"""

import types

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from tests import conftest
from trc_lib.model import CostGradient, FinalError, Proportional
from trc_lib.problems import PROBLEMS
from trc_lib.scan import plain_scan, scan
from trc_lib.systems import DoubleIntegrator, VanDerPol
from trc_lib.teachers import ilqr
from trc_lib.training import TrainConfig
from trc_lib.training.objectives import objective_of

SYSTEMS = {"linear": DoubleIntegrator(), "nonlinear": VanDerPol()}
NEAR = {torch.float32: 1e-5, torch.float64: 1e-12}  # relative and absolute, of 20 steps
TEACHER = PROBLEMS["van_der_pol"]().teacher
COST = TEACHER.quadratic_cost
PROBLEM_OF = {"double_integrator": 1e-12, "bounded_inputs": 1e-7, "van_der_pol": 1e-6}


def random(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(len(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def assert_same(function, device, *given, near=1e-12):
    """The function on both devices, of tensors that are moved there; it stays on its device."""
    here, there = function(*given), function(*(each.to(device) for each in given))
    here, there = ([each] if torch.is_tensor(each) else each for each in (here, there))
    for mine, other in zip(here, there, strict=True):
        assert other.device.type == device.type and other.dtype == mine.dtype
        torch.testing.assert_close(other.cpu(), mine, rtol=near, atol=near)


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("kind", SYSTEMS)
def test_a_system_moves_and_is_linearised_as_on_the_cpu(kind, dtype, device):
    states, controls = random(7, 2, dtype=dtype), random(7, 20, 1, dtype=dtype)
    system = SYSTEMS[kind]
    assert_same(system.rollout, device, states, controls, near=NEAR[dtype])
    assert_same(system.jacobians, device, states, controls[:, 0], near=NEAR[dtype])


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("kind", SYSTEMS)
def test_the_gradient_of_a_cost_is_that_of_the_cpu(kind, dtype, device):
    def gradient(start, controls, target):
        states = SYSTEMS[kind].rollout_unchecked(start, controls)
        return COST.gradient(SYSTEMS[kind], states, controls, target)

    given = (random(7, *shape, dtype=dtype) for shape in ((2,), (20, 1), (2,)))
    assert_same(gradient, device, *given, near=100 * NEAR[dtype])  # the weights are up to 200


@pytest.mark.parametrize("name", PROBLEM_OF)
def test_a_teacher_solves_what_it_solves_on_the_cpu(name, device):
    problem = PROBLEMS[name]()
    states = problem.sampler(0, 2, problem.state_range, problem.target_range).draw(16)
    here, solved = problem.teacher.try_solve(*states)
    there, solved_there = problem.teacher.try_solve(*(state.to(device) for state in states))
    assert there.device.type == device.type and torch.equal(solved_there.cpu(), solved)
    assert solved.sum() > 4
    values = [problem.teacher.cost(*(state[solved] for state in states), answer.cpu()[solved])
              for answer in (here, there)]
    torch.testing.assert_close(values[1], values[0], rtol=PROBLEM_OF[name], atol=1e-9)


def network(tiny, kind):
    system = VanDerPol()
    feedback = (FinalError(system) if kind == "final error" else
                Proportional(CostGradient(system, COST, 20)))
    getattr(feedback, "inner", feedback).scale.fill_(100)  # else the limits hold all controls
    return tiny(system, horizon=20, feedback=feedback)


@pytest.mark.parametrize("kind", ["final error", "gradient in proportion"])
def test_a_network_answers_as_on_the_cpu(kind, tiny, device):
    model = network(tiny, kind)
    given = random(9, 2), random(9, 2)
    with torch.no_grad():
        here = model(*given)["cycle_controls"]
        there = model.to(device)(*given)["cycle_controls"]  # it moves the problems itself
    assert there.device.type == device.type and (here[-1].abs() < 1.9).float().mean() > 0.5
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-4)


def running_product(carry, inputs, constants):
    after = carry[0] * inputs[0].cos() + constants[0]
    return [after], [after.square()]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_on_the_device_is_the_plain_loop_on_the_cpu(reverse, device):
    given = random(5, 3), random(5, 20, 3), random(5, 3)
    wanted = plain_scan(running_product, *([each] for each in given), reverse)
    found = scan(running_product, *([each.to(device)] for each in given), reverse)
    for mine, right in zip((*found[0], *found[1]), (*wanted[0], *wanted[1]), strict=True):
        assert mine.device.type == device.type
        torch.testing.assert_close(mine.cpu(), right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [pytest.param("cuda", marks=pytest.mark.skipif(
    torch.cuda.is_available(), reason="there is a GPU")), "magic"])
def test_a_device_that_is_not_here_is_a_usage_error(name):
    config = types.SimpleNamespace(getoption=lambda option: name)
    with pytest.raises(pytest.UsageError, match=f"^--device='{name}' is "):
        conftest.pytest_configure(config)


# ---------------------------------------------------------------- without a GPU


@pytest.fixture
def there():
    """Makes tensors of a shape on a device that is not the CPU; PyTorch computes no numbers."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield lambda *shape, dtype=torch.float64: torch.ones(shape, dtype=dtype, device="meta")


def test_tensors_of_two_devices_are_noticed(there):
    with pytest.raises(RuntimeError, match="same device"):
        there(3) + torch.ones(3)


@pytest.mark.parametrize("kind", SYSTEMS)
def test_systems_and_costs_stay_on_the_device(kind, there):
    system, states, controls = SYSTEMS[kind], there(5, 21, 2), there(5, 20, 1)
    found = [system.rollout_unchecked(states[:, 0], controls),
             *system.jacobians(states[:, 0], controls[:, 0]),
             COST.of_controls(system, states[:, 0], controls, states[:, 1]),
             COST.gradient(system, states, controls, states[:, 1])]
    assert {each.device.type for each in found} == {"meta"}


@pytest.mark.parametrize("m", [1, 2, 3])
def test_the_small_programmes_of_the_iterative_lqr_stay_on_the_device(m, there):
    found = ilqr.bounded_quadratic(there(5, m, m), there(5, m), -there(5, m), there(5, m))
    assert {each.device.type for each in found} == {"meta"}


def test_the_sweeps_of_the_iterative_lqr_stay_on_the_device(there):
    low, high = (bound.to("meta") for bound in TEACHER.system.bounds)
    states, controls, target = there(5, 21, 2), there(5, 20, 1), there(5, 2)
    steps, gains, promised = TEACHER._backward(states, controls, target, there(5), low, high)
    found = TEACHER._longest(there(3), states, controls, target, there(5), steps, gains, promised,
                             low, high)
    assert {each.device.type for each in found} == {"meta"}


class Loss(torch.nn.Module):
    """The objective of a network as a module, for `torch.func.functional_call`."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, states, targets, controls, teacher, config):
        cycles = self.model.predict(states, targets)["cycle_controls"]
        return objective_of(cycles, states, targets, controls, teacher, config, self.model.units)


@pytest.mark.parametrize("objective", ["rms", "root cost"])
@pytest.mark.parametrize("kind", ["final error", "gradient in proportion"])
def test_a_network_learns_on_the_device(kind, objective, tiny, there):
    with unset_fake_temporarily():
        module = Loss(network(tiny, kind))
    values = {name: there(*value.shape, dtype=value.dtype).requires_grad_(value.requires_grad)
              for name, value in (*module.named_parameters(), *module.named_buffers())}
    given = (there(*shape, dtype=torch.float32) for shape in ((6, 2), (6, 2), (6, 20, 1)))
    losses = torch.func.functional_call(
        module, values, (*given, TEACHER, TrainConfig(objective=objective)))
    losses[0].backward()
    assert {each.grad.device.type for each in values.values() if each.grad is not None} == {"meta"}
