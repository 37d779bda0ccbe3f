"""The short version of ``make torture``, and that the torture finds what is broken on purpose."""

import contextlib
import os
import pathlib

import numpy as np
import pytest
import torch

from tests import ROOT
from tests.system.torture import __main__ as torture
from tests.system.torture import bad_input, corruption, figures, kills, platforms, surroundings
from trc_lib import io, validation
from trc_lib.teachers import minimum_energy


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def survived(row, at_least=1):
    """Whether everything was, out of enough."""
    if row.not_tried:
        pytest.skip(row.not_tried)
    assert row.failures == [] and row.survived == row.tries >= at_least
    return True


# ---------------------------------------------------------------- the short version

@pytest.mark.parametrize("kill", kills.ALL, ids=lambda kill: kill.__name__)
def test_a_kill_leaves_files_whole_or_absent_and_the_next_run_ends_the_same(kill, rng):
    assert survived(kill(3, rng), 3)


def few_writers(monkeypatch):
    monkeypatch.setattr(platforms, "WRITERS", {name: platforms.WRITERS[name] for name in ("text", "network")})


def test_other_systems_simulated_are_survived(rng, monkeypatch):
    few_writers(monkeypatch)
    assert survived(platforms.writers(1, rng), 18) and survived(platforms.other_devices(), 24)


def test_damage_is_refused_by_name_or_harmless(rng):
    rows = corruption.everything_damaged(15, rng)
    assert len(rows) == 14 and all(survived(row, 15) for row in rows)
    assert survived(corruption.source_notebooks(3, rng), 3)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_no_reader_runs_code():
    assert survived(corruption.malicious_pickles(), 40)


def test_bad_input_is_refused_by_name_or_answered_rightly(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(os.listdir("/"))
    assert survived(bad_input.by_hypothesis(200), 200)
    assert survived(bad_input.one_by_one(some=200), 200)
    paths = [(call, {name: value}) for call in bad_input.calls() for name in ("path", "folder")
             for value in call.spoil.get(name, ())]
    assert len(paths) > 40 and {bad_input.judge(*case)[1] for case in paths} == {None}
    # nothing is written elsewhere
    assert set(os.listdir("/")) == before and set(os.listdir(".")) <= {".hypothesis"}


def test_a_full_disk_is_named_and_nothing_is_lost():
    assert survived(surroundings.full_disk(2), 8)


def test_ill_conditioned_problems_are_solved_or_refused():
    row = figures.ill_conditioned()
    assert survived(row, 80) and row.outcomes["reached"] > row.outcomes["refused"] > 0


# ---------------------------------------------------------------- it finds deliberate faults

def test_it_finds_files_that_are_written_in_place(monkeypatch, rng):
    @contextlib.contextmanager
    def in_place(path):
        pathlib.Path(path).touch()
        yield pathlib.Path(path)

    monkeypatch.setattr(io, "written_whole", in_place)
    row = kills.dataset_writing(10, rng)
    assert any("data.npz is not whole" in failure for failure in row.failures)


def test_it_finds_what_a_killed_writer_leaves_behind(monkeypatch, rng):
    monkeypatch.setattr(io, "claimed", lambda *arguments: contextlib.nullcontext())
    assert any("was left behind" in failure for failure in kills.dataset_writing(10, rng).failures)


def test_it_finds_a_resume_that_ends_otherwise(monkeypatch, rng):
    monkeypatch.setattr(torch.optim.AdamW, "load_state_dict", lambda optimizer, state: None)
    row = kills.training(8, rng)
    assert any("it ended otherwise" in failure for failure in row.failures)


def test_it_finds_figures_without_a_checksum(monkeypatch, rng, tmp_path):
    monkeypatch.setattr(io, "fingerprint", lambda contents: "always the same")
    io.write_json(tmp_path / "a.json", {"numbers": [k / 7 for k in range(100)]})
    target = corruption.Target("results file", tmp_path / "a.json", io.read_json,
                               harmless=lambda a, b: a == b)
    row = corruption.damage(target, corruption.flipped, 50, rng)
    assert "read with other contents" in row.failures


def test_it_finds_arguments_that_are_not_checked(monkeypatch):
    monkeypatch.setattr(validation, "positive", lambda name, value, or_zero=False: value)
    failures = "\n".join(bad_input.one_by_one(some=1_000).failures)
    assert "DoubleIntegrator(dt=" in failures and "sample_states(" in failures


def test_it_finds_a_law_that_misses(monkeypatch):
    monkeypatch.setattr(minimum_energy, "LARGEST_MISS", float("inf"))
    assert any("misses a target" in failure for failure in figures.ill_conditioned().failures)


# ---------------------------------------------------------------- what is shown

@pytest.mark.skipif(not torture.RESULTS.exists(), reason="nothing was measured yet: make torture")
def test_the_document_shows_what_was_survived():
    document = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    result = io.read_json(torture.RESULTS)
    table = torture.table(result)
    assert f"{torture.BEGIN}\n{table}\n{torture.END}\n" in document
    assert "| kill -9: training |" in table and set(result["rows"]) <= set(torture.PARTS)
    rows = [row for rows in result["rows"].values() for row in rows]
    assert not [row["name"] for row in rows if row["survived"] < row["tries"]]


def test_a_writer_that_does_not_wait_for_readers_on_windows_is_found(rng, monkeypatch):
    few_writers(monkeypatch)
    monkeypatch.setattr(io, "replace", lambda old, new: os.replace(old, new))
    row = platforms.writers(1, rng)
    assert any("a reader" in failure for failure in row.failures)


def test_a_computation_in_float64_on_a_device_without_it_is_found(monkeypatch):
    monkeypatch.setattr(validation, "float64", lambda tensor: tensor.double())
    assert any("MPS" in failure for failure in platforms.apple_gpu().failures)
