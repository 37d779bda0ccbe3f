"""Controls, gradients, teachers and a training are those of an earlier version of the code.

``python -m tests.unit.reference.test_reference`` wrote ``reference.pt``. Controls are compared to
the bit, gradients to 1e-6.
"""

import pathlib

import pytest
import torch

from trc_lib.data import generate_dataset
from trc_lib.model import (
    CostGradient,
    FinalError,
    LastCycleGradient,
    NoFeedback,
    Proportional,
    SingleLatent,
    TinyRecursiveControl,
)
from trc_lib.problems import bounded_inputs, double_integrator, van_der_pol
from trc_lib.systems import DoubleIntegrator
from trc_lib.teachers import ClippedLQR, SampledContinuousController
from trc_lib.training import TrainConfig, imitation_loss, train

FILE = pathlib.Path(__file__).with_name("reference.pt")
SMALL = {"latent_dim": 16, "block_hidden": 16, "head_hidden": 16}
NAMES = ("default", "no_feedback", "last_cycle_gradient", "single_latent", "proportional",
         "bounded_proportional", "gradient", "gradient_proportional")
DEPTHS = (0, 1, 3, 5)


def problem_of(name):
    if name.startswith("gradient"):
        return van_der_pol(horizon=20)
    return bounded_inputs() if name.startswith("bounded") else double_integrator()


def network(name, teacher):
    feedback = FinalError(teacher.system)
    if name.startswith("gradient"):
        feedback = CostGradient(teacher.system, teacher.quadratic_cost, teacher.horizon)
    if name == "no_feedback":
        feedback = NoFeedback()
    if "proportional" in name:
        feedback = Proportional(feedback)
    kinds = {"last_cycle_gradient": LastCycleGradient, "single_latent": SingleLatent}
    return kinds.get(name, TinyRecursiveControl).create_two_level_small(
        teacher.system, 3, feedback, horizon=teacher.horizon, **SMALL)


def of_network(name):
    """Controls of every cycle and gradients at every depth."""
    torch.set_num_threads(1)
    problem = problem_of(name)
    data = problem.dataset(24, seed=5)
    model = network(name, problem.teacher)
    model.set_scaling(data)
    found = {}
    for depth in DEPTHS:
        cycles = model(data.initial_states, data.target_states, depth)["cycle_controls"]
        model.zero_grad()
        imitation_loss(cycles, data.controls.float(), 0.3)[0].backward()
        found[f"controls {depth}"] = cycles.detach().clone()
        found |= {f"gradient {depth} {key}": p.grad.clone() for key, p in model.named_parameters()
                  if p.grad is not None}
    return found


def of_teachers():
    g = torch.Generator().manual_seed(7)
    x0, xT = 2 * torch.rand(2, 40, 2, generator=g, dtype=torch.float64) - 1
    oscillator = van_der_pol(horizon=30).teacher
    clipped = ClippedLQR(oscillator.system, 30, oscillator.quadratic_cost)
    return {"minimum energy": double_integrator().teacher.solve(x0, xT),
            "sampled": SampledContinuousController(DoubleIntegrator()).solve(x0, xT),
            "bounded": bounded_inputs().dataset(40, seed=3).controls,
            "ilqr": oscillator.solve(x0, 0 * xT), "clipped": clipped.solve(x0, 0 * xT)}


def of_training():
    torch.set_num_threads(1)
    train_set, eval_set = generate_dataset(256, 0), generate_dataset(64, 1)
    model = TinyRecursiveControl.create_two_level_small(seed=1, **SMALL)
    config = TrainConfig(epochs=2, cycle_weight=0.1)
    history = train(model, train_set, eval_set, config, device="cpu", progress=False)
    rows = {f"{row['epoch']} {key}": torch.tensor(value, dtype=torch.float64)
            for row in history.rows for key, value in row.items() if key != "seconds"}
    return rows | {key: value.clone() for key, value in model.state_dict().items()
                   if "feedback" not in key}


def compare(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if key.startswith("gradient"):
            torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-6)
        else:
            assert torch.equal(found[key], value), key


@pytest.fixture(scope="module")
def reference():
    return torch.load(FILE, weights_only=True)


@pytest.mark.parametrize("name", NAMES)
def test_networks_are_as_before(name, reference):
    compare(of_network(name), reference[name])


def test_teachers_are_as_before(reference):
    compare(of_teachers(), reference["teachers"])


def test_a_training_is_as_before(reference):
    compare(of_training(), reference["training"])


if __name__ == "__main__":
    torch.save({name: of_network(name) for name in NAMES} | {
        "teachers": of_teachers(), "training": of_training()}, FILE)
