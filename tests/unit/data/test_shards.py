"""A store holds the dataset of its seed, however it was made; every shard is checked when read."""

import shlex
import shutil

import numpy as np
import pytest
import torch

from trc_lib import io
from trc_lib.data import Sampler, Store, sampling, shards
from trc_lib.problems import PROBLEMS

PROBLEM = PROBLEMS["double_integrator"]()


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 40)
    monkeypatch.setattr(shards, "BLOCK", 16)


@pytest.fixture
def made(small_shards, tmp_path):
    return PROBLEM.store(tmp_path / "made", 100, seed=3)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read_all(store):
    return [torch.cat(values) for values in zip(*map(store.read, range(len(store.shards))))]


@pytest.mark.parametrize("problem", [
    PROBLEM, PROBLEMS["bounded_inputs"](), PROBLEMS["van_der_pol"](horizon=3)],
    ids=["double_integrator", "bounded_inputs", "van_der_pol"])
def test_a_store_holds_the_dataset_of_its_seed(small_shards, tmp_path, problem):
    """Also where one problem in three has no answer and is drawn anew."""
    made, dataset = problem.store(tmp_path, 100, seed=3), problem.dataset(100, seed=3)
    initial_states, target_states, controls = read_all(made)
    assert len(made) == 100
    assert [len(made.read(shard)[0]) for shard in range(3)] == [40, 40, 20]
    assert torch.equal(initial_states, dataset.initial_states.float())
    assert torch.equal(target_states, dataset.target_states.float())
    torch.testing.assert_close(controls, dataset.controls.float(), rtol=0, atol=1e-6)
    assert io.fingerprint(made.teacher.contents()) == io.fingerprint(problem.teacher.contents())


def test_the_first_shard_stands_for_the_whole(made):
    sample, dataset = made.sample, PROBLEM.dataset(40, seed=3)
    assert sample.controls.dtype == torch.float64 and len(sample) == 40
    torch.testing.assert_close(sample.controls, dataset.controls, rtol=0, atol=1e-6)
    assert (sample.state_range, sample.target_range, sample.seed) == (2.5, 2.5, 3)


@pytest.mark.parametrize("name", ["double_integrator", "bounded_inputs"])
@pytest.mark.parametrize("stop_at", [0, 1, 2])
def test_a_store_that_was_stopped_ends_like_one_that_was_not(
        small_shards, tmp_path, monkeypatch, name, stop_at):
    problem = PROBLEMS[name]()
    problem.store(tmp_path / "whole", 100, seed=3)
    with monkeypatch.context() as patch:
        draw, calls = Sampler.draw_solved, iter(range(100))

        def stopping(*arguments):
            if next(calls) == stop_at:
                raise KeyboardInterrupt
            return draw(*arguments)

        patch.setattr(Sampler, "draw_solved", stopping)
        with pytest.raises(KeyboardInterrupt,
                           match=f"{stop_at} of 3 shards are kept in .*; run again to go on"):
            problem.store(tmp_path / "stopped", 100, seed=3)
    if stop_at:
        with pytest.raises(ValueError, match=f"is unfinished, with {stop_at} of 3 shards; run"):
            Store(tmp_path / "stopped")
    problem.store(tmp_path / "stopped", 100, seed=3)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_what_is_there_is_not_made_again(made, monkeypatch):
    before = contents(made.folder)
    monkeypatch.setattr(Sampler, "draw_solved", None)
    PROBLEM.store(made.folder, 100, seed=3)
    assert contents(made.folder) == before


# ---------------------------------------------------------------- damage

def flip(path, at=-5):
    raw = bytearray(path.read_bytes())
    raw[at] ^= 4
    path.write_bytes(raw)


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def pickled(path):
    with open(path, "wb") as stream:
        np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize("damage", [flip, cut, pickled, lambda path: path.unlink()],
                         ids=["flip", "cut", "pickled", "gone"])
def test_a_damaged_shard_is_refused_when_it_is_read_and_repaired_by_generating(made, damage):
    before = contents(made.folder)
    damage(made.folder / "shard-00001.npy")
    made.read(0)
    with pytest.raises(ValueError,
                       match=r"shard-00001\.npy .*run generate again to repair the store"):
        made.read(1)
    PROBLEM.store(made.folder, 100, seed=3)
    assert contents(made.folder) == before


def test_a_shard_in_the_place_of_another_is_refused(made):
    shutil.copy(made.folder / "shard-00000.npy", made.folder / "shard-00001.npy")
    with pytest.raises(ValueError, match=r"shard-00001\.npy was changed"):
        made.read(1)


def test_a_changed_manifest_is_refused(made):
    path = made.folder / shards.MANIFEST
    path.write_text(path.read_text().replace('"num_samples": 100', '"num_samples": 80'))
    for reading in (lambda: Store(made.folder), lambda: PROBLEM.store(made.folder, 100, seed=3)):
        with pytest.raises(ValueError, match=r"store\.json was changed after"):
            reading()


def test_a_store_of_another_version_or_teacher_is_refused(made):
    path = made.folder / shards.MANIFEST
    manifest = io.read_json(path)
    io.write_json(path, manifest | {"version": 3})
    with pytest.raises(ValueError, match="has format version 3; this library reads versions 1 and"):
        Store(made.folder)
    teacher = manifest["recipe"]["teacher"] | {"class": "Oracle"}
    io.write_json(path, manifest | {"recipe": manifest["recipe"] | {"teacher": teacher}})
    with pytest.raises(ValueError, match="class 'Oracle' is unknown"):
        Store(made.folder)


def test_a_store_of_version_1_is_read(made):
    path = made.folder / shards.MANIFEST
    manifest, system = io.read_json(path), made.teacher.system
    recipe = manifest["recipe"] | {"teacher": type(made.teacher).__name__, "made_of": {
        "A": system.A.tolist(), "B": system.B.tolist(), "dt": system.dt,
        "horizon": made.teacher.horizon}}
    del recipe["sampler"]
    io.write_json(path, manifest | {"recipe": recipe, "version": 1})
    assert Store(made.folder).teacher.same_as(made.teacher)
    assert Store(made.folder).origin == made.origin


def test_a_folder_that_holds_no_store_or_another_one_is_refused(made, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no store; make it with: ") as error:
        Store(tmp_path / "a folder")
    code = shlex.split(str(error.value).partition("make it with: ")[2])[2]
    exec(code.replace("100_000", "100"), {})
    assert len(Store(tmp_path / "a folder")) == 100
    before = contents(made.folder)
    with pytest.raises(ValueError,
                       match=r"holds another store \(num_samples: 100 -> 90, seed: 3 -> 4\)"):
        PROBLEM.store(made.folder, 90, seed=4)
    assert contents(made.folder) == before


def test_too_small_a_disk_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(OSError, match=r"1,000,000,000,000 more problems need 76,000\.0 GB, "
                                      "and the disk of .* has"):
        PROBLEM.store(tmp_path / "new", 10**12)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("make", ["dataset", "store"])
def test_a_problem_with_hardly_an_answer_gives_up(tmp_path, monkeypatch, make):
    monkeypatch.setattr(sampling, "LARGEST_DRAW", 2)
    problem = PROBLEMS["bounded_inputs"](state_range=50.0)
    with pytest.raises(ValueError, match=r"state_range=50\.0 is too wide, or target_range=50\.0 "
                                         "is: .* problems were drawn, and only .* have an answer"):
        problem.store(tmp_path, 100) if make == "store" else problem.dataset(100)


def test_a_stopped_store_goes_on_where_only_the_rest_fits_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 1_000)
    written, write = [], io.write_json

    def stop_at_the_third(path, contents):
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        write(path, contents)

    monkeypatch.setattr(io, "write_json", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt, match=r"of 4 shards are kept"):
        PROBLEM.store(tmp_path, 4_000)
    monkeypatch.setattr(io, "write_json", write)
    columns = io.read_json(tmp_path / shards.MANIFEST)["recipe"]["columns"]
    room = 10**7 + 4 * 2_000 * columns
    usage = type(shutil.disk_usage(tmp_path))
    for free in (room - 1, room):
        monkeypatch.setattr(shards.shutil, "disk_usage", lambda _, free=free: usage(0, 0, free))
        if free < room:
            with pytest.raises(OSError, match="2,000 more problems need"):
                PROBLEM.store(tmp_path, 4_000)
    assert len(PROBLEM.store(tmp_path, 4_000)) == 4_000
