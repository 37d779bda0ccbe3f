"""The exported network gives the same controls under another runtime."""

import contextlib
import io
import pathlib
import sys

import numpy as np
import pytest
import torch

from trc_lib import export
from trc_lib.__main__ import main
from trc_lib.costs import QuadraticCost
from trc_lib.course.workspace import pretrained
from trc_lib.model import CostGradient, FinalError, Proportional, TinyRecursiveControl
from trc_lib.model.baselines import MLP, MLPConfig
from trc_lib.systems import DoubleIntegrator, System

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(tiny, dataset, tmp_path_factory):
    """A proportional network of one cycle, exported from the command line with two."""
    model = tiny(H_cycles=1, L_cycles=1, feedback=Proportional(FinalError(DoubleIntegrator())))
    model.set_scaling(dataset)
    folder = tmp_path_factory.mktemp("exported")
    model.save(folder / "model.pt")
    words = ["--checkpoint", str(folder / "model.pt"), "--out", str(folder / "model.onnx")]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main(["export", *words, "--H-cycles", "2"]) == 0
    assert "controls equal within" in said.getvalue()
    return model, folder


def small_mlp():
    return MLP(MLPConfig(width=4, depth=1))


def test_onnx_runtime_gives_the_same_controls_for_any_batch_and_number_of_cycles(exported, dataset):
    model, folder = exported
    assert {path.name for path in folder.iterdir()} == {"model.pt", "model.onnx"}  # weights inside
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    for rows in (1, 7, 33):
        x0, xT = dataset.initial_states[:rows].float(), dataset.target_states[:rows].float()
        inputs = {"initial_state": x0.numpy(), "target_state": xT.numpy()}
        (controls,) = session.run(None, inputs)
        expected = model(x0, xT, H_cycles=2)["controls"].detach()
        np.testing.assert_allclose(controls, expected, rtol=0, atol=1e-5)
    assert np.abs(controls - model(x0, xT)["controls"].detach().numpy()).max() > 1e-3


def test_a_network_in_training_or_float64_stays_as_it_was(tmp_path, capsys):
    model = small_mlp().double().train()
    assert export.export_onnx(model, tmp_path / "model.onnx") < 1e-5
    assert model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert capsys.readouterr() == ("", "")  # nothing of the exporter's own messages


def test_a_missing_checkpoint_is_a_message(tmp_path, capsys):
    assert main(["export", "--checkpoint", str(tmp_path / "none.pt")]) == 1
    assert "none.pt does not exist" in capsys.readouterr().err


@pytest.fixture
def differing(monkeypatch):
    """Makes a network whose file would give a control of the 64th problem wrong by ``share``.

    The network's controls are all ``size`` m/s^2, and ``share`` is of that. Nothing is exported.
    """
    def begin(size, share):
        model = small_mlp()
        with torch.no_grad():
            model.layers[-1].weight.zero_()
            model.layers[-1].bias.fill_(1.0)
        model.control_scale.fill_(size)

        class Session:
            def __init__(self, path, **options):
                assert pathlib.Path(path).read_text() == "a network"

            def run(self, outputs, inputs):
                with torch.no_grad():
                    controls = model.predict(*map(torch.tensor, inputs.values()))["controls"]
                assert bool((controls == size).all())
                controls[63:, -1] += share * size
                return [controls.numpy()]

        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        monkeypatch.setattr(torch.onnx, "export", lambda network, problems, path, **options:
                            pathlib.Path(path).write_text("a network"))
        return model
    return begin


@pytest.mark.parametrize("size", [1e-6, 1.0, 1000.0])
@pytest.mark.parametrize("share", [1e-3, -1e-3, 1.0])
def test_a_file_that_differs_is_not_written(tmp_path, differing, size, share):
    with pytest.raises(ArithmeticError,
                       match=r"model\.onnx is not written: ONNX Runtime's controls are off by"):
        export.export_onnx(differing(size, share), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("size", "share"), [
    (1.0, 0.0), (1.0, 1e-6), (1000.0, 0.0), (1000.0, 1e-6), (1e-6, 1e-6)])
def test_a_file_that_differs_by_rounding_is_written(tmp_path, differing, size, share):
    difference = export.export_onnx(differing(size, share), tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_text() == "a network"
    assert 0.5 * share <= difference <= 5e-6


def test_a_network_that_gives_no_numbers_is_not_written(tmp_path):
    model = small_mlp()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(ArithmeticError, match="off by nan"):
        export.export_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


class Pendulum(System):
    """A stranger's system: sin, a saturation, a solve, and nothing written for the exporter."""

    def __init__(self):
        super().__init__(2, 1, 0.1, 3.0)

    def dynamics(self, state, control):
        angle, speed = state.unbind(-1)
        push = torch.where(speed.abs() > 1, 0.9 * control[..., 0], control[..., 0])
        inertia = torch.stack([torch.stack([2 + angle.cos(), 0 * angle], -1),
                               torch.stack([0 * angle, 1 + 0 * angle], -1)], -2)
        force = torch.stack([push - angle.sin(), speed], -1)
        rates = torch.linalg.solve(inertia, force[..., None])[..., 0]
        return torch.stack([angle + self.dt * rates[..., 1], speed + self.dt * rates[..., 0]], -1)


def stranger():
    system = Pendulum()
    cost = QuadraticCost(torch.eye(2), [[0.1]], torch.eye(2))
    return TinyRecursiveControl.create_two_level_small(
        system, horizon=40, H_cycles=1, feedback=Proportional(CostGradient(system, cost, 40)))


# one of each problem and each kind of feedback; the others have the same parts
@pytest.mark.parametrize("make", [
    lambda: pretrained("laboratory/proportional_root"),
    lambda: pretrained("laboratory/bounded_pretrained_mse"),
    lambda: pretrained("laboratory/bounded_mlp_parameters", MLP),
    lambda: pretrained("laboratory/van_der_pol_gradient"), stranger],
    ids=["double integrator", "bounded", "bounded, MLP", "oscillator", "a stranger's system"])
def test_networks_of_every_problem_are_exported(make, tmp_path):
    model = make().eval()
    assert export.export_onnx(model, tmp_path / "model.onnx") < 5e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    x0, xT = (model.state_scale * torch.randn(5, model.config.state_dim) for _ in range(2))
    xT = 0 * xT  # within reach
    (controls,) = session.run(None, {"initial_state": x0.numpy(), "target_state": xT.numpy()})
    with torch.no_grad():
        off = (torch.from_numpy(controls) - model.predict(x0, xT)["controls"]) / model.control_scale
    assert float(off.abs().max()) < 5e-4


def test_a_failed_export_leaves_the_old_file(tmp_path, monkeypatch):
    def fail(*arguments, **words):
        raise RuntimeError("no such operator")

    (tmp_path / "model.onnx").write_text("the old one")
    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(RuntimeError, match="no such operator"):
        export.export_onnx(small_mlp(), tmp_path / "model.onnx")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["the old one"]


def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError, match=r"export needs onnxruntime; install it with: "
                                                  r"pip install onnx onnxscript onnxruntime$"):
        export.export_onnx(small_mlp(), tmp_path / "model.onnx")


def test_a_missing_package_is_a_message_on_the_command_line(tiny, tmp_path, monkeypatch, capsys):
    tiny().save(tmp_path / "model.pt")
    monkeypatch.setitem(sys.modules, "onnx", None)
    words = ["--checkpoint", str(tmp_path / "model.pt"), "--out", str(tmp_path / "model.onnx")]
    assert main(["export", *words]) == 1
    assert capsys.readouterr().err.startswith("error: export needs onnx; install it with")


def test_a_network_in_half_precision_is_not_exported(tmp_path):
    with pytest.raises(TypeError, match=r"model has dtype torch\.float16"):
        export.export_onnx(small_mlp().half(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
