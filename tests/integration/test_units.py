"""The whole way, from system to ONNX, gives the same relative results in any units."""

import numpy as np
import pytest
import torch

from trc_lib.costs import QuadraticCost
from trc_lib.data import LQRDataset
from trc_lib.evaluation import closed_loop, evaluate
from trc_lib.export import export_onnx
from trc_lib.model import CostGradient, FinalError, Proportional, TinyRecursiveControl
from trc_lib.model.baselines import MLP, MLPConfig
from trc_lib.problems import Problem
from trc_lib.systems import DoubleIntegrator, LinearSystem, System
from trc_lib.teachers import BoundedMinimumEnergyController, IterativeLQR, MinimumEnergyController
from trc_lib.training import TrainConfig, train

# Factors of position, velocity, control and time.
UNITS = {"metres": (1.0, 1.0, 1.0, 1.0), "milliseconds": (1.0, 1.0, 1.0, 1000.0),
         "millimetres": (1000.0, 1000.0, 1000.0, 1.0), "kilonewtons": (1.0, 1.0, 1e-3, 1.0),
         "mixed": (1000.0, 1e-2, 100.0, 10.0), "tiny": (1e-6, 1e-6, 1e-6, 1.0),
         "huge": (1e7, 1e7, 1e5, 1e-3)}


class Rescaled(System):
    """The cart with a spring that stiffens, in other units."""

    def __init__(self, x=1.0, v=1.0, u=1.0, t=1.0):
        self.x, self.v, self.u, self.t = x, v, u, t
        super().__init__(2, 1, 0.2 * t, 1.5 * u)

    def dynamics(self, state, control):
        p, v = state[..., 0] / self.x, state[..., 1] / self.v
        a = control[..., 0] / self.u - p - 0.2 * p**3
        return torch.stack([self.x * (p + 0.2 * v), self.v * (v + 0.2 * a)], dim=-1)


def linear(x, v, u, t, limit):
    cart, size = DoubleIntegrator(), torch.tensor([x, v], dtype=torch.float64)
    A, B = size[:, None] * cart.A / size, size[:, None] * cart.B / u
    return LinearSystem(A, B, 0.33 * t, None if limit is None else limit * u)


def problem_in(kind, units):
    x, v, u, _ = units
    success, box = [0.1 * x, 0.1 * v], [2.5 * x, 2.5 * v]
    if kind == "minimum energy":
        return Problem(MinimumEnergyController(linear(*units, None), 15, success), box, box)
    if kind == "bounded":
        teacher = BoundedMinimumEnergyController(linear(*units, 1.0), 15, success)
        return Problem(teacher, box, box)
    cost = QuadraticCost(np.diag([x**-2, v**-2]), [[0.1 * u**-2]], np.diag([9 * x**-2, 9 * v**-2]))
    return Problem(IterativeLQR(Rescaled(*units), 15, cost, success, guesses=1), box, 0.0)


def network_for(kind, teacher):
    system, sizes = teacher.system, {"latent_dim": 32, "block_hidden": 32, "head_hidden": 32}
    if kind == "mlp":
        return MLP(MLPConfig(horizon=15, width=32), system)
    feedback = FinalError(system)
    if kind == "gradient":
        feedback = CostGradient(system, teacher.quadratic_cost, 15)
    feedback = Proportional(feedback) if kind == "proportional" else feedback
    return TinyRecursiveControl.create_two_level_small(system, feedback=feedback, horizon=15,
                                                       **sizes)


def relative_results(kind, network, units, folder, **training):
    """Every figure of the whole way, without units."""
    x, v, u, _ = units
    problem = problem_in(kind, units)
    made, unseen = problem.dataset(96, seed=1), problem.dataset(48, seed=2)
    made.save(folder / "data.npz")
    data = LQRDataset.load(folder / "data.npz")
    assert data.fingerprint == made.fingerprint
    model = network_for(network, data.teacher)
    config = TrainConfig(**{"epochs": 2, "batch_size": 24, "cycle_weight": 0.1} | training)
    history = train(model, data, unseen, config, folder / "run", progress=False)
    model = type(model).load(folder / "run" / "best_model.pt")
    metrics = evaluate(model, unseen)[-1]
    size = torch.tensor([x, v], dtype=torch.float64)
    planned = closed_loop(model.solve, data.system, unseen.initial_states, unseen.target_states,
                          steps=6, every=2)[0] / size
    answers = model.solve(unseen.initial_states, unseen.target_states) / u
    figures = {"drawn": data.drawn, "loss": np.array(history["eval_loss"]),
               "success": metrics.success_rate, "cost": metrics.cost_ratio,
               "mse": metrics.control_mse / u**2, "closed loop": planned.numpy(),
               "teacher": (unseen.controls / u).numpy(), "controls": answers.numpy()}
    return figures, model


@pytest.mark.parametrize(("kind", "network", "training"), [
    ("minimum energy", "plain", {"final_weight": 0.1}),
    ("minimum energy", "proportional", {"objective": "rms"}),
    ("bounded", "plain", {"objective": "improvement"}), ("bounded", "mlp", {"cycle_weight": 0}),
    ("quadratic", "gradient", {}), ("quadratic", "plain", {"objective": "root cost"})],
    ids=lambda value: value if isinstance(value, str) else "")
def test_the_same_results_in_any_units(kind, network, training, tmp_path):
    figures = {}
    slow = kind == "quadratic"  # the roll-outs and Jacobians of a system of one's own
    for name, units in UNITS.items():
        if slow and name not in ("metres", "mixed", "huge"):
            continue
        (tmp_path / name).mkdir()
        figures[name], _ = relative_results(kind, network, units, tmp_path / name, **training)
    expected = figures.pop("metres")
    assert expected["loss"][-1] < expected["loss"][0]  # it has learned something
    for name, found in figures.items():
        for what, value in found.items():
            off = np.abs(np.asarray(value) - expected[what]).max()
            allowed = {"teacher": 1e-6, "drawn": 0}.get(what, 0.02)
            assert off <= allowed * max(1, np.abs(expected[what]).max()), (name, what, off)


@pytest.mark.parametrize("name", ["metres", "tiny", "huge", "mixed"])
def test_a_network_is_exported_in_any_units(name, tmp_path):
    _, model = relative_results("minimum energy", "plain", UNITS[name], tmp_path, epochs=1)
    assert export_onnx(model, tmp_path / "model.onnx") <= 1e-5


def test_the_success_of_a_teacher_is_kept(tmp_path):
    for success in (0.001, [0.1, 0.002]):
        problem = Problem(MinimumEnergyController(success=success), 2.5, 2.5)
        data = problem.dataset(16)
        data.save(tmp_path / "data.npz")
        loaded = LQRDataset.load(tmp_path / "data.npz")
        assert loaded.fingerprint == data.fingerprint
        usual = Problem(MinimumEnergyController(), 2.5, 2.5).dataset(16)
        assert loaded.fingerprint != usual.fingerprint
        offset = torch.tensor([[0.0, 0.0015], [0.0009, 0.0], [0.05, 0.001]]).double()
        expected = [False, True, False] if success == 0.001 else [True, True, True]
        assert loaded.teacher.succeeded(offset).tolist() == expected
