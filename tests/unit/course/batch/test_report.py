"""The tables of results."""

from trc_lib import io
from trc_lib.course.batch import report, summary
from trc_lib.course.batch.plan import plan


def test_the_closing_table_is_aligned_and_says_where_to_look(results):
    table = report.closing_table(results, "runs/x")
    _, head, line, *rows, _, last = table.splitlines()
    assert {len(row) for row in (head, line, *rows)} == {len(line)} and set(line) == {"-"}
    assert any(row.startswith("parameters ") and row.endswith("~600K") for row in rows)
    assert "runs/x/" in last


def test_the_course_reached_its_headline(results):
    network = results["05_evaluation"]["this network"]
    assert results["lane"] == "cpu" and results["05_evaluation"]["checkpoint"] == "trained"
    assert results["04_training"]["seconds"] <= 120
    assert network["final_error_mean"] <= 0.010 and network["success_rate"] == 1
    assert network["control_mse"] <= 4.9e-5


def test_the_summary_says_how_each_job_ended(tmp_path):
    jobs = plan("smoke", out=tmp_path, sweeps=["04.seed=0,1"])
    jobs[0].write()
    figures = {"lane": "smoke", "04_training": {"seconds": 3, "best_epoch": {"eval_success": 1}}}
    io.write_json(jobs[0].folder / "metrics.json", figures)
    rows = [summary.row(jobs[0], "done"), summary.row(jobs[1], "dead")]
    summary.write(rows, tmp_path)
    assert (tmp_path / "summary.csv").read_text().splitlines() == [
        "04.seed,ended,04_training.seconds,04_training.best_epoch.eval_success",
        "0,done,3,1", "1,dead,,"]
    assert (tmp_path / "summary.png").read_bytes().startswith(b"\x89PNG")
    assert [line.split() for line in summary.table(rows).splitlines()[3:]] == [
        ["0", "done", "1", "3"], ["1", "dead"]]
