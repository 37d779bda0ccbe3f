"""Two commits held against each other."""

import subprocess

import pytest

from tests import ROOT
from tests.benchmarks import compare


def test_every_task_runs_with_the_library_as_it_is():
    found = compare.measure(2)
    assert found.keys() == compare.tasks(2).keys()
    assert all(isinstance(value, float) and value > 0 for value in found.values()), found


def test_both_take_turns_and_what_one_cannot_do_is_said(monkeypatch):
    said, runs = [], []

    def run(command, **options):
        if command[0] == "git":
            return subprocess.CompletedProcess(command, 0)
        runs.append(options["env"]["PYTHONPATH"][-1])
        times = dict.fromkeys(compare.tasks(1), 1.0 + len(runs))
        if runs[-1] == "0":
            times["importing the library"] = "ImportError: no"
        return subprocess.CompletedProcess(command, 0, stdout=f"log\n{compare.json.dumps(times)}\n")

    monkeypatch.setattr(compare.subprocess, "run", run)
    rows = compare.compare(["old", "new"], 2, 1, say=lambda text, flush: said.append(text))
    assert runs == ["0", "1", "0", "1"] and said[1] == "round 1 of 2: new"
    assert rows[0][1:] == (3.0, 4.0) and rows[-1][1:] == ("ImportError: no", 4.0)
    table = compare.table(rows, ["old", "new"])
    assert "| exact solves of the cart | 3e+03 | 4e+03 | 0.75 |" in table
    assert "| importing the library | ImportError: no | 4e+03 | – |" in table


@pytest.mark.parametrize("words", [["HEAD"], ["HEAD", "no-such-commit"]])
def test_two_commits_that_git_knows_are_needed(words, capsys):
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository")
    with pytest.raises(SystemExit):
        compare.main(words)
    said = capsys.readouterr().err
    assert "needs two commits" in said or "git knows no commit 'no-such-commit'" in said
