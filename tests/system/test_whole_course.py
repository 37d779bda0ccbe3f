"""The whole course on the smoke lane."""

import shutil

from tests import ROOT
from trc_lib import io
from trc_lib.__main__ import main
from trc_lib.course.batch.plan import CHAPTERS
from trc_lib.course.experiments import STUDIES


def test_the_whole_course_runs_on_the_smoke_lane_and_is_reused(scratch_course, capsys):
    for name in CHAPTERS:
        shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", scratch_course / "notebooks")
    shutil.copytree(ROOT / "data" / "pretrained", scratch_course / "data" / "pretrained")
    given = scratch_course / "data" / "results"
    given.mkdir()
    for study in STUDIES:
        shutil.copy(ROOT / "data" / "results" / f"{study}.json", given)
    assert main(["course", "--lane", "smoke"]) == 0
    printed = capsys.readouterr().out
    for row in ("mean final error", "success rate", "146,718"):
        assert row in printed
    results = io.read_json(scratch_course / "runs/smoke/metrics.json")
    evaluation = results["05_evaluation"]
    assert evaluation["num_eval"] == 200 and evaluation["checkpoint"] == "trained"
    assert set(results["seconds"]) == set(CHAPTERS)
    assert not (scratch_course / "figures").exists()
    assert {path.stem for path in given.iterdir()} == set(STUDIES)  # nothing is added

    assert main(["course", "--lane", "smoke"]) == 0
    assert "runs/smoke: reused" in capsys.readouterr().out
    assert io.read_json(scratch_course / "runs/smoke/metrics.json") == results
