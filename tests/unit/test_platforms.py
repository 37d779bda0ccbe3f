"""Other systems, simulated: an Apple GPU, and what Windows forbids."""

import dataclasses

import pytest
import torch

from tests.apple import apple
from trc_lib import evaluation
from trc_lib.data import LQRDataset, generate_dataset
from trc_lib.model import TinyRecursiveControl
from trc_lib.systems import DoubleIntegrator
from trc_lib.teachers import BoundedMinimumEnergyController, MinimumEnergyController
from trc_lib.training import TrainConfig, train


@pytest.fixture(scope="module")
def dataset():
    return generate_dataset(20)


@pytest.fixture
def model(dataset):
    model = TinyRecursiveControl.create_two_level_small()
    model.set_scaling(dataset)
    return model


def test_the_simulated_apple_gpu_refuses_what_a_real_one_does():
    with apple():
        there = torch.ones(3).to("mps")
        assert there.device.type == "mps" and (2 * there).cpu().tolist() == [2, 2, 2]
        with pytest.raises(TypeError, match="MPS framework doesn't support float64"):
            there.double()
        with pytest.raises(TypeError, match="MPS framework doesn't support float64"):
            torch.ones(3, dtype=torch.float64).to("mps")
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()


def test_a_network_on_an_apple_gpu_is_evaluated_solves_and_is_saved(dataset, model, tmp_path):
    expected = evaluation.evaluate(model, dataset)
    plans = model.solve(dataset.initial_states, dataset.target_states)
    with apple():
        model.to("mps")
        answer = model(dataset.initial_states, dataset.target_states.float().to("mps"))
        assert answer["controls"].device.type == "mps"
        assert evaluation.evaluate(model, dataset) == expected
        assert torch.equal(model.solve(dataset.initial_states, dataset.target_states), plans)
        states, _ = evaluation.closed_loop(model.solve, dataset.system, dataset.initial_states,
                                           dataset.target_states, steps=15, every=5)
        assert states.dtype == torch.float64
        model.save(tmp_path / "model.pt")
    loaded = TinyRecursiveControl.load(tmp_path / "model.pt")
    assert evaluation.evaluate(loaded, dataset) == expected


def test_a_network_on_an_apple_gpu_is_trained_on_the_cpu(dataset, model):
    with apple():
        model.to("mps")
        history = train(model, dataset, dataset, TrainConfig(epochs=1), progress=False)
        assert len(history) == 1 and model.state_scale.device.type == "cpu"


def test_tensors_on_an_apple_gpu_are_taken_by_what_computes_in_float64(dataset):
    numbers = [each.float() for each in (dataset.initial_states, dataset.target_states,
                                         dataset.controls)]
    system, given = dataset.system, [each.double() for each in numbers]
    teachers = [MinimumEnergyController(),
                BoundedMinimumEnergyController(DoubleIntegrator(control_limit=100.0))]
    errors, states = evaluation.final_error(system, *given), system.rollout(
        numbers[0], numbers[2])
    solved = [teacher.solve(*given[:2]) for teacher in teachers]
    with apple():
        there = [each.to("mps") for each in numbers]
        assert torch.equal(evaluation.final_error(system, *there), errors)
        assert evaluation.measure(dataset, there[2]) == evaluation.measure(dataset, given[2])
        rolled = system.rollout(there[0], there[2])
        assert rolled.device.type == "mps" and torch.equal(rolled.cpu(), states)
        for teacher, controls in zip(teachers, solved):
            assert torch.equal(teacher.solve(*there[:2]), controls)
        fields = {field.name: getattr(dataset, field.name)
                  for field in dataclasses.fields(LQRDataset)}
        names = ("initial_states", "target_states", "controls")
        made = LQRDataset(**fields | dict(zip(names, there)))
        assert made.fingerprint == LQRDataset(**fields | dict(zip(names, given))).fingerprint


def test_two_tensors_on_two_devices_are_refused_by_name():
    with apple(), pytest.raises(ValueError, match="initial_state is on mps and controls on cpu"):
        DoubleIntegrator().rollout(torch.ones(2).to("mps"), torch.ones(5, 1))
