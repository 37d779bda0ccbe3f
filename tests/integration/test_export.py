"""The exported network gives the same controls under another runtime."""

import sys

import numpy as np
import onnxruntime
import pytest
import torch

from trc_lib import export
from trc_lib.__main__ import main
from trc_lib.model import FinalError, NoFeedback, Proportional
from trc_lib.model.baselines import MLP, MLPConfig
from trc_lib.systems import DoubleIntegrator


@pytest.mark.parametrize("switches", [{}, {"feedback": Proportional(FinalError(DoubleIntegrator()))},
                                      {"feedback": NoFeedback(), "H_cycles": 1}], ids=["default", "proportional", "none"])
def test_onnx_runtime_gives_the_same_controls_for_any_batch(tiny, dataset, tmp_path, switches):
    model = tiny(L_cycles=1, **switches)  # the loops are unrolled when exported: fewer steps, less to wait for
    model.set_scaling(dataset)
    export.export_onnx(model, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]  # the weights are inside
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for rows in (1, 7, 33):
        x0, xT = dataset.initial_states[:rows].float(), dataset.target_states[:rows].float()
        (controls,) = session.run(None, {"initial_state": x0.numpy(), "target_state": xT.numpy()})
        np.testing.assert_allclose(controls, model(x0, xT)["controls"].detach(), rtol=0, atol=1e-5)


def test_the_number_of_cycles_can_be_chosen(tiny, dataset, tmp_path):
    model = tiny(H_cycles=1, L_cycles=1)
    export.export_onnx(model, tmp_path / "model.onnx", H_cycles=3)
    x0, xT = dataset.initial_states[:3].float(), dataset.target_states[:3].float()
    (controls,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(
        None, {"initial_state": x0.numpy(), "target_state": xT.numpy()})
    np.testing.assert_allclose(controls, model(x0, xT, H_cycles=3)["controls"].detach(), rtol=0, atol=1e-5)
    assert np.abs(controls - model(x0, xT)["controls"].detach().numpy()).max() > 1e-3


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(ArithmeticError, match=r"model\.onnx is not written: ONNX Runtime's controls differ by"):
        export.export_onnx(MLP(MLPConfig(width=4, depth=1)), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_network_that_gives_no_numbers_is_not_written(tmp_path):
    model = MLP(MLPConfig(width=4, depth=1))
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(ArithmeticError, match="differ by nan"):
        export.export_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_the_network_stays_as_it_was(tmp_path):
    model = MLP(MLPConfig(width=4, depth=1)).double().train()
    export.export_onnx(model, tmp_path / "model.onnx")
    assert model.training and {parameter.dtype for parameter in model.parameters()} == {torch.float64}


def test_a_failed_export_leaves_what_was_there(tmp_path, monkeypatch):
    def fail(*arguments, **words):
        raise RuntimeError("no such operator")

    (tmp_path / "model.onnx").write_text("the old one")
    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(RuntimeError, match="no such operator"):
        export.export_onnx(MLP(MLPConfig(width=4, depth=1)), tmp_path / "model.onnx")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["the old one"]


def test_what_is_missing_is_named_with_its_remedy(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError, match=r"export needs onnxruntime; install it with: pip install -e '\.\[export\]'"):
        export.export_onnx(tiny(), tmp_path / "model.onnx")


def test_what_is_missing_is_a_message_on_the_command_line(tiny, tmp_path, monkeypatch, capsys):
    tiny().save(tmp_path / "model.pt")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", "--checkpoint", str(tmp_path / "model.pt"), "--out", str(tmp_path / "model.onnx")]) == 1
    assert capsys.readouterr().err.startswith("error: export needs onnx; install it with")


def test_export_from_the_command_line(tiny, tmp_path, capsys):
    tiny(H_cycles=1, L_cycles=1).save(tmp_path / "model.pt")
    words = ["export", "--checkpoint", str(tmp_path / "model.pt"), "--out", str(tmp_path / "model.onnx")]
    assert main([*words, "--H-cycles", "2"]) == 0
    assert "equal within" in capsys.readouterr().out and (tmp_path / "model.onnx").stat().st_size > 1000
    assert main(["export", "--checkpoint", str(tmp_path / "none.pt")]) == 1
    assert "none.pt does not exist" in capsys.readouterr().err
