"""Other systems, simulated: an Apple GPU, and what Windows forbids."""

import ast
import dataclasses
import os
import sys
import threading

import pytest
import torch

from tests import ROOT
from tests.apple import apple
from trc_lib import evaluation, io
from trc_lib.data import LQRDataset, generate_dataset, shards
from trc_lib.model import TinyRecursiveControl, TRCConfig
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


@pytest.fixture
def on_windows(tmp_path):
    """The folder to write to."""
    if sys.platform != "linux":
        pytest.skip("the simulation looks into /proc")
    from tests.windows import windows

    with windows(denied=[tmp_path / "denied"]):
        yield tmp_path


def test_the_simulated_windows_refuses_what_the_real_one_does(on_windows):
    path = on_windows / "a.txt"
    path.write_text("é\n")
    assert path.read_bytes() == b"\xe9\r\n"
    with open(path, "rb") as held:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fsync(held.fileno())
        for change in (path.unlink, lambda: path.with_name("b").replace(path)):
            path.with_name("b").touch()
            with pytest.raises(PermissionError):
                change()
    for name in ("a:b", "nul.txt", "dot.", "x" * 260):
        with pytest.raises(OSError, match=r"syntax is incorrect|cannot find"):
            (on_windows / name).mkdir()


def test_all_that_is_written_is_written_on_windows(on_windows, dataset):
    folder, config = on_windows, TrainConfig(epochs=2, batch_size=16, snapshot_epochs=(0, 2))
    for _ in range(2):  # the second time over the first
        io.write_text(folder / "a.txt", "x₀\n")
        io.write_json(folder / "a.json", {"x": "Δ"})
        dataset.save(folder / "a.npz")
        store = shards.make(folder / "store", 30, 0, MinimumEnergyController(), 2.5, progress=False)
        for resume in (False, True):
            if (folder / "run" / "last.pt").exists():
                threading.Timer(0.2, open(folder / "run" / "last.pt", "rb").close).start()
            model = TinyRecursiveControl(TRCConfig(H_cycles=1, L_cycles=1))
            train(model, dataset, dataset, config, folder / "run", resume=resume, progress=False)
    assert (folder / "a.txt").read_bytes() == "x₀\n".encode()
    assert io.read_json(folder / "a.json") == {"x": "Δ"} and len(store) == 30
    assert LQRDataset.load(folder / "a.npz").fingerprint == dataset.fingerprint
    assert b"\r" not in (folder / "run" / "history.csv").read_bytes()
    assert not list(folder.rglob(".*"))


def test_a_reader_on_windows_is_waited_for_and_one_that_stays_is_named(on_windows):
    path = on_windows / "a.txt"
    io.write_text(path, "old")
    for change in (lambda: io.write_text(path, "new"), lambda: io.remove(path),
                   lambda: io.write_text(path, "new")):
        path.touch()
        reader = open(path)
        threading.Timer(0.2, reader.close).start()
        change()
    with open(path) as reader, pytest.raises(PermissionError, match=r"cannot write .*a\.txt: "):
        io.write_text(path, "newer")
    assert path.read_text() == "new" and [each.name for each in on_windows.iterdir()] == ["a.txt"]


def test_a_lock_on_windows_is_held_and_one_that_cannot_be_made_does_not_wait(on_windows):
    with io.claimed(on_windows / ".lock", "it"):
        with pytest.raises(io.Busy, match="it is in use by another process"):
            with io.claimed(on_windows / ".lock", "it"):
                pass
    with io.claimed(on_windows / "denied" / ".lock", "it"):
        pass
    assert not list(on_windows.rglob(".lock"))


def in_the_systems_encoding(call):
    """Whether a call opens, reads or writes text without naming the encoding; `io` has its own."""
    owner, name = ast.unparse(call.func).rpartition(".")[::2]
    strings = [word.value for word in call.args if isinstance(word, ast.Constant)]
    if name in ("open", "fdopen"):
        text = owner in ("", "os") and not any("b" in str(word) for word in strings)
    else:
        text = name in ("read_text", "write_text") and owner not in ("", "io")
    return text and "utf-8" not in strings and not any(
        word.arg == "encoding" for word in call.keywords)


def test_no_text_is_read_or_written_in_an_encoding_that_depends_on_the_system():
    found = [(path.name, ast.unparse(call)) for path in (ROOT / "trc_lib").rglob("*.py")
             for call in ast.walk(ast.parse(path.read_text("utf-8")))
             if isinstance(call, ast.Call) and in_the_systems_encoding(call)]
    assert not found
    assert in_the_systems_encoding(ast.parse("open(path)", mode="eval").body)
