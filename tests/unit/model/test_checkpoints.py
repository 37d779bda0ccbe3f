"""A loaded network is the saved one, to the bit; damaged and foreign files are refused."""

import numpy as np
import pytest
import torch

from tests import ROOT
from tests.unit.model.by_hand import each_variant
from trc_lib import io
from trc_lib.data import generate_dataset
from trc_lib.evaluation import evaluate
from trc_lib.model import TinyRecursiveControl
from trc_lib.model.baselines import MLP, Corrector, LearnedGain
from trc_lib.systems import DoubleIntegrator, LinearSystem

SHIPPED = sorted((ROOT / "data/pretrained").rglob("*.pt"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_checkpoint_is_read(path):
    network = next((kind for part, kind in (("mlp", MLP), ("corrector", Corrector),
                                            ("learned_gain", LearnedGain)) if part in path.name),
                   TinyRecursiveControl)
    model = network.load(path)
    n = model.config.state_dim
    x0, xT = torch.rand(2, 3, n, generator=torch.Generator().manual_seed(0))
    assert bool(torch.isfinite(model(x0, xT)["controls"]).all()) and model.recipe["best_epoch"]


@pytest.mark.parametrize("name", ["two_level_medium", "two_level_medium_long"])
def test_the_shipped_networks_of_chapter_4_arrive(name):
    """So the switches of their old format mean what they meant."""
    model = TinyRecursiveControl.load(ROOT / f"data/pretrained/{name}.pt")
    errors = [metrics.final_error_mean for metrics in evaluate(model, generate_dataset(200, 9))]
    assert errors[-1] < 0.05 and errors[-1] < 0.5 * errors[0]


@each_variant
def test_a_loaded_model_gives_the_same_controls_to_the_bit(scaled, problems, tmp_path, variant):
    model = scaled(**variant, seed=5, system=DoubleIntegrator(0.2))
    model.recipe = {"note": "by hand", "epochs": 3}
    model.save(tmp_path / "model.pt")
    loaded = TinyRecursiveControl.load(tmp_path / "model.pt")
    assert torch.equal(loaded(*problems)["cycle_controls"], model(*problems)["cycle_controls"])
    assert (loaded.architecture, loaded.recipe) == (model.architecture, model.recipe)
    assert loaded.system.dt == 0.2
    assert type(loaded) is type(model)
    assert not loaded.training


def test_a_float64_network_stays_one(scaled, problems, tmp_path):
    model, problems = scaled().double(), [states.double() for states in problems]
    model.save(tmp_path / "model.pt")
    loaded = TinyRecursiveControl.load(tmp_path / "model.pt")
    assert loaded.state_scale.dtype == torch.float64
    assert torch.equal(loaded(*problems)["controls"], model(*problems)["controls"])


def test_a_configuration_of_numpy_numbers_can_be_saved_and_loaded(tiny, tmp_path):
    tiny(H_cycles=np.int64(2)).save(tmp_path / "model.pt")
    assert TinyRecursiveControl.load(tmp_path / "model.pt").config.H_cycles == 2


def test_the_limit_travels_with_the_checkpoint(tmp_path):
    model = TinyRecursiveControl.create_two_level_small(DoubleIntegrator(control_limit=0.7))
    model.save(tmp_path / "model.pt")
    assert TinyRecursiveControl.load(tmp_path / "model.pt").system.control_limit.tolist() == [0.7]


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_saved(tiny, tmp_path, broken):
    model = tiny()
    with torch.no_grad():
        model.decoder[0].bias[3] = broken
    with pytest.raises(ValueError,
                       match=r"the model is not saved: decoder\.0\.bias holds NaN or infinite"):
        model.save(tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(tiny, tmp_path, share):
    tiny().save(tmp_path / "model.pt")
    whole = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(whole[:int(share * len(whole))])
    with pytest.raises(ValueError, match=r"model\.pt .*read as a checkpoint"):
        TinyRecursiveControl.load(tmp_path / "model.pt")


def test_a_missing_or_foreign_checkpoint_is_refused(tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pt does not exist"):
        TinyRecursiveControl.load(tmp_path / "none.pt")
    torch.save(tiny().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ValueError,
                       match=r"weights\.pt is not a checkpoint of the kind trc_lib\.model"):
        TinyRecursiveControl.load(tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("weights: 1, 2, 3\n")
    with pytest.raises(ValueError, match=r"text\.pt .*read as a checkpoint"):
        TinyRecursiveControl.load(tmp_path / "text.pt")


def tamper_weight(checkpoint):
    checkpoint["weights"]["encoder.0.bias"][0] += 1e-7


def tamper_scale(checkpoint):
    checkpoint["weights"]["control_scale"] *= 2


def tamper_system(checkpoint):
    checkpoint["system"]["parameters"]["dt"] += 1e-12


def tamper_config(checkpoint):
    checkpoint["config"]["H_cycles"] = 4


def tamper_recipe(checkpoint):
    checkpoint["recipe"]["trained_by"] = "somebody else"


@pytest.mark.parametrize("tamper", [
    tamper_weight, tamper_scale, tamper_system, tamper_config, tamper_recipe])
def test_a_checkpoint_that_was_changed_is_refused(tiny, tmp_path, tamper):
    path = tmp_path / "model.pt"
    tiny().save(path)
    checkpoint = torch.load(path, weights_only=True)
    tamper(checkpoint)
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match=r"model\.pt was changed after it was saved"):
        TinyRecursiveControl.load(path)


@pytest.mark.parametrize("change", [
    {"config": {"latent_dim": 32}}, {"config": {"no_such_field": 1}}, {"config": {"H_cycles": 0}},
    {"weights": {}}, {"system": {}}, {"system": {"class": "Pendulum", "parameters": {}}},
    {"system": LinearSystem(torch.eye(3), torch.ones(3, 1), 0.1).contents()},
    {"class": "MLP"}, {"feedback": {"kind": "Oracle"}}], ids=str)
def test_a_checkpoint_whose_parts_do_not_fit_is_refused(tiny, tmp_path, change):
    path = tmp_path / "model.pt"
    tiny().save(path)
    contents = io.load_checkpoint(path, "trc_lib.model", 4)
    io.save_checkpoint(path, "trc_lib.model", 4, contents | change)  # with a right fingerprint
    with pytest.raises(ValueError, match=r"model\.pt is refused"):
        TinyRecursiveControl.load(path)
