"""A dataset is the same for the same seed, holds true answers, and no damaged file is read."""

import json
import os
import pathlib
import pickle
import shlex

import numpy as np
import pytest
import scipy.stats
import torch

from trc_lib import io
from trc_lib.__main__ import main
from trc_lib.data import EVAL_SEED, LQRDataset, generate_dataset, sample_states
from trc_lib.systems import LinearSystem
from trc_lib.teachers import MinimumEnergyController


@pytest.fixture
def saved(dataset, tmp_path):
    path = tmp_path / "saved.npz"
    dataset.save(path)
    return path


def resaved(path, teacher=None, made_of=None, **changes):
    """The arrays of ``path`` with some changed (or left out: None), written by NumPy.

    ``made_of`` and ``teacher`` are changes of the JSON and of its teacher.
    """
    text = json.loads(str(np.load(path)["made_of"]))
    text["teacher"] = (text["teacher"] | (teacher or {})
                       if isinstance(teacher, dict | None) else teacher)
    if made_of is None or isinstance(made_of, dict):
        made_of = np.array(json.dumps(text | (made_of or {})))
    arrays = {**np.load(path), "made_of": made_of, **changes}
    kept = {name: value for name, value in arrays.items() if value is not None}
    np.savez(path.with_name("resaved.npz"), **kept)
    return path.with_name("resaved.npz")


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        generate_dataset(50, seed).save(tmp_path / name)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_another_seed_gives_other_problems():
    a, b = sample_states(100, seed=0)[0], sample_states(100, seed=1)[0]
    assert not np.isin(a.numpy(), b.numpy()).any()


def test_sampling_leaves_the_global_random_state_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    generate_dataset(10, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_larger_dataset_begins_with_the_smaller_one_of_its_seed():
    small, large = generate_dataset(100, seed=6), generate_dataset(10_000, seed=6)
    assert torch.equal(large.initial_states[:100], small.initial_states)
    assert torch.equal(large.target_states[:100], small.target_states)
    torch.testing.assert_close(large.controls[:100], small.controls, rtol=0, atol=1e-13)


@pytest.mark.parametrize("side", [0.5, 2.5])
def test_states_are_uniform_in_the_box_and_independent(side):
    states = torch.cat(sample_states(5000, seed=7, state_range=side), dim=1).numpy()  # [n, 4]
    assert np.abs(states).max() <= side
    for column in states.T:
        assert scipy.stats.kstest(column, scipy.stats.uniform(-side, 2 * side).cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(states.T) - np.eye(4)).max() < 0.06


def arrival_errors(dataset):
    """Final errors of the stored answers, by NumPy and a plain loop over the time steps."""
    A, B = dataset.system.A.numpy(), dataset.system.B.numpy()
    x = dataset.initial_states.numpy()
    for k in range(dataset.horizon):
        x = x @ A.T + dataset.controls.numpy()[:, k] @ B.T
    return np.abs(x - dataset.target_states.numpy()).max(axis=1)


def test_every_stored_answer_arrives(tmp_path):
    made = generate_dataset(10_000, seed=8)
    made.save(tmp_path / "a.npz")
    for dataset in (made, LQRDataset.load(tmp_path / "a.npz")):
        assert len(dataset) == 10_000 and arrival_errors(dataset).max() <= 1e-9


def test_a_dataset_of_another_system_holds_that_system():
    system = LinearSystem([[1.0, 0.1, 0.0], [0.0, 1.0, 0.1], [0.0, 0.0, 0.9]],
                          [[0.0, 0.1], [0.1, 0.0], [0.2, 0.3]], dt=0.1)
    dataset = generate_dataset(20, teacher=MinimumEnergyController(system, 7), state_range=1)
    assert dataset.controls.shape == (20, 7, 2) and arrival_errors(dataset).max() <= 1e-9
    assert torch.equal(dataset.system.A, system.A) and torch.equal(dataset.system.B, system.B)
    assert dataset.system.dt == 0.1


def test_a_round_trip_changes_nothing(dataset, saved):
    loaded = LQRDataset.load(saved)
    for name in ("initial_states", "target_states", "controls"):
        assert torch.equal(getattr(loaded, name), getattr(dataset, name))
    assert loaded.system.same_as(dataset.system)
    assert loaded.origin == dataset.origin
    assert (loaded.dt, loaded.horizon, loaded.seed) == (0.33, 15, 1)
    assert (loaded.state_range, loaded.target_range) == (2.5, 2.5)
    assert type(loaded.teacher) is MinimumEnergyController


def test_the_file_holds_the_names_and_shapes_of_the_description(saved):
    with np.load(saved, allow_pickle=False) as archive:
        assert archive["initial_states"].shape == archive["target_states"].shape == (64, 2)
        assert archive["controls"].shape == (64, 15, 1)
        assert archive["controls"].dtype == np.float64


def test_an_item_is_one_problem_and_a_slice_several(dataset):
    item, several = dataset[3], dataset[2:5]
    assert {name: tuple(value.shape) for name, value in item.items()} == {
        "initial_state": (2,), "target_state": (2,), "controls": (15, 1)}
    assert all(torch.equal(several[name][1], item[name]) for name in item)
    assert several["controls"].shape == (3, 15, 1)


def test_mean_energy_is_the_mean_of_the_sums_of_squares(dataset):
    assert dataset.mean_energy == pytest.approx((dataset.controls.numpy()**2).sum() / 64, rel=1e-12)


# ---------------------------------------------------------------- refusals

def refused(path, reason):
    with pytest.raises(ValueError, match=reason) as error:
        LQRDataset.load(path)
    assert path.name in str(error.value)


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.7, 0.99, 0.9999])
def test_a_truncated_file_is_refused(saved, share):
    whole = saved.read_bytes()
    saved.write_bytes(whole[:int(share * len(whole))])
    refused(saved, "cannot be read as an npz file, it is (truncated or something else|an empty)")


def test_a_text_file_a_single_array_and_a_folder_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("initial_states,target_states\n1,2\n")
    np.save(tmp_path / "array.npy", np.zeros((4, 2)))
    refused(tmp_path / "text.npz", "cannot be read as an npz file, it is a text file that begins "
            "with 'initial_states,target_states'; needs a dataset, such as the lqr_dataset_eval")
    refused(tmp_path / "array.npy", "cannot be read as an npz file, it is an npy array")
    refused(tmp_path, "cannot be read as an npz file, it is a folder")
    torch.save({"x": torch.zeros(2)}, tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "it is a PyTorch file, as checkpoints are; needs a dataset")


def test_a_foreign_npz_is_refused_with_what_it_lacks(saved, tmp_path):
    np.savez(tmp_path / "foreign.npz", x=np.zeros(3))
    refused(tmp_path / "foreign.npz",
            "is not a dataset of this course: it lacks controls, fingerprint")
    refused(resaved(saved, controls=None, fingerprint=None), "it lacks controls, fingerprint$")


@pytest.mark.parametrize(("name", "index"), [
    ("initial_states", (3, 1)), ("controls", (63, 14, 0))])
def test_a_changed_value_is_refused(saved, name, index):
    changed = np.load(saved)[name]
    changed[index] = np.nextafter(changed[index], 9)
    refused(resaved(saved, **{name: changed}), "was changed after it was saved")


@pytest.mark.parametrize("change", [
    {"made_of": {"seed": 2}}, {"made_of": {"state_range": 1.0}}, {"made_of": {"drawn": 65}},
    {"made_of": {"target_range": 0.0}}, {"made_of": {"sampler": "Other"}},
    {"fingerprint": np.array("0" * 64)}], ids=str)
def test_a_changed_origin_is_refused(saved, change):
    refused(resaved(saved, **change), "was changed after it was saved")


@pytest.mark.parametrize(("change", "reason"), [
    ({"controls": np.full((64, 15, 1), np.nan)}, "controls holds NaN or infinite values"),
    ({"teacher": {"class": "somebody"}},
     "class 'somebody' is unknown; import the module that defines it first. Known are Bounded"),
    ({"teacher": {"class": "LinearSystem"}}, "class 'LinearSystem' is unknown"),
    ({"teacher": {"parameters": {}}}, "is not the same again when it is made from its param"),
    ({"teacher": {"parameters": {"lengthy": 1}}}, "cannot be made again: .*lengthy"),
    ({"teacher": "somebody"}, "refused"),
    ({"extra": np.array(1.0)}, "it also holds extra"),
    ({"made_of": {"extra": 1}}, "extra"),
    ({"made_of": {"version": 3}}, "it has format version 3; this library reads versions 1 and 2"),
    ({"made_of": np.array("not JSON")}, "refused"),
    ({"target_states": np.zeros((63, 2))},
     r"target_states has shape \[63, 2\]; needs \[64, 2\]"),
    ({"initial_states": np.zeros((0, 2)), "target_states": np.zeros((0, 2)),
      "controls": np.zeros((0, 15, 1))}, "is empty"),
    ({"initial_states": np.zeros((64, 2), dtype=int)},
     r"initial_states has dtype torch\.int64"),
    ({"initial_states": np.array(["a", "b"])}, "refused"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_contents_that_make_no_sense_are_refused_with_the_reason(saved, change, reason):
    refused(resaved(saved, **change), reason)


def test_a_file_of_version_1_is_read_and_checked(dataset, tmp_path):
    arrays = {name: getattr(dataset, name).numpy() for name in (
        "initial_states", "target_states", "controls")}
    flat = arrays | {
        "A": dataset.system.A.numpy(), "B": dataset.system.B.numpy(), "dt": np.asarray(0.33),
        "horizon": np.asarray(15), "state_range": np.asarray(2.5), "seed": np.asarray(1),
        "teacher": np.asarray("MinimumEnergyController"), "version": np.asarray(1)}
    path = tmp_path / "old.npz"
    np.savez(path, **flat, fingerprint=np.array(io.fingerprint(flat)))
    loaded = LQRDataset.load(path)
    assert loaded.fingerprint == dataset.fingerprint and loaded.teacher.same_as(dataset.teacher)
    assert loaded.system.labels == ("position (m)", "velocity (m/s)", "control u (m/s²)")
    flat["seed"] = np.asarray(2)
    np.savez(path, **flat, fingerprint=np.array(io.fingerprint(flat | {"seed": np.asarray(1)})))
    refused(path, "was changed after it was saved")
    np.savez(path, **flat | {"teacher": np.asarray("somebody")}, fingerprint=np.array(""))
    refused(path, "somebody")


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return pathlib.Path.touch, (self.witness,)


def test_a_malicious_file_is_refused_and_not_executed(saved, tmp_path):
    witness = tmp_path / "executed"
    evil = np.array([Evil(witness)], dtype=object)
    refused(resaved(saved, controls=evil), "cannot be read as an npz file.*pickle")
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Evil(witness)))
    refused(tmp_path / "bare.npz", "cannot be read as an npz file")
    assert not witness.exists()
    np.load(tmp_path / "resaved.npz", allow_pickle=True)["controls"]
    assert witness.exists()  # the file was malicious indeed


def test_no_turned_bit_gets_through(tmp_path):
    """Refused by ValueError, or read with the same contents (the zip's directory holds dates)."""
    whole_set, rng = generate_dataset(2), np.random.default_rng(0)
    whole_set.save(tmp_path / "a.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    for i in rng.choice(len(whole), 200, replace=False):
        turned = bytes([whole[i] ^ (1 << rng.integers(8))])
        (tmp_path / "b.npz").write_bytes(whole[:i] + turned + whole[i + 1:])
        try:
            loaded = LQRDataset.load(tmp_path / "b.npz")
        except ValueError:
            continue
        assert torch.equal(loaded.controls, whole_set.controls)
        assert loaded.origin == whole_set.origin


@pytest.mark.skipif(os.name == "nt", reason="the command is quoted for another shell")
@pytest.mark.parametrize("name", ["lqr_dataset.npz", "lqr_dataset_eval.npz", "it's one.npz"])
def test_a_missing_file_is_refused_with_the_command_that_makes_it(name, tmp_path):
    path = tmp_path / "my data" / name
    with pytest.raises(FileNotFoundError, match="does not exist; make it with: ") as error:
        LQRDataset.load(path)
    python, *words = shlex.split(str(error.value).partition("make it with: ")[2])
    assert python == "python"
    if words[0] == "-c":
        exec(words[1], {})
    else:
        assert words[:2] == ["-m", "trc_lib"] and main(words[2:]) == 0
    made = LQRDataset.load(path)
    assert (len(made), made.seed) == {"lqr_dataset.npz": (10_000, 0)}.get(name, (2_000, EVAL_SEED))


def test_below_a_file_no_dataset_can_be_made_and_none_is_advised(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match=r"x\.npz does not exist: .*is a file; needs a"):
        LQRDataset.load(tmp_path / "file" / "x.npz")


@pytest.mark.parametrize(("arguments", "error", "reason"), [
    ({"num_samples": 0}, ValueError, "num_samples=0 is too small"),
    ({"num_samples": 10.5}, TypeError, r"num_samples=10\.5 is not a whole number"),
    ({"seed": -1}, ValueError, "seed=-1 is too small"),
    ({"state_range": 0}, ValueError, "state_range=0 is not accepted"),
    ({"state_range": float("nan")}, ValueError, "state_range=nan is not accepted"),
])
def test_generating_what_makes_no_sense_is_refused(arguments, error, reason):
    with pytest.raises(error, match=reason):
        generate_dataset(**arguments)
