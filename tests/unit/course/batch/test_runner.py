"""How jobs are scheduled, and what is published of them; no kernel is started."""

import base64
from io import BytesIO

import nbformat
import numpy as np
import pytest
from PIL import Image

from tests import ROOT
from trc_lib import io
from trc_lib.course.batch import plan, report, runner
from trc_lib.course.batch.job import NotebookFailed, State, run_job


class Engine:
    """Ends the first job at each look: runs it in this process, or kills it ``killed`` times."""

    pause = settle = 0.0

    def __init__(self, killed=0, workers=1, look="ended"):
        self.killed, self.workers, self.word, self.cancelled = killed, workers, look, None
        self.lives, self.most = {}, 0

    def room(self, running):
        return self.workers - running

    def start(self, jobs):
        return list(jobs)

    def look(self, handles):
        self.most = max(self.most, len(handles))
        job, *others = handles
        self.lives[job.name] = self.lives.get(job.name, 0) + 1
        if self.lives[job.name] > self.killed:
            run_job(job.folder)
        return [self.word, *["alive" for _ in others]]

    def cancel(self, handles):
        self.cancelled = [job.name for job in handles]


def run(engine, *sweeps, said=None, **options):
    say = (lambda text: None) if said is None else said.append
    return runner.run_course("smoke", out="out", only=["04"], sweeps=sweeps, engine=engine, say=say,
                             **options)


def test_a_grid_is_run_so_many_at_a_time_and_reused_the_second_time(executed, scratch):
    engine, said, grid = Engine(workers=2), [], "04.weight=0.5,1,2,4"
    rows, name = run(engine, grid), "04_training.best_epoch.eval_final_error"
    assert [row["figures"][name] for row in rows] == [0.5, 1, 2, 4]
    assert executed == ["04"] * 4 and engine.most == 2 and engine.cancelled == []
    assert run(Engine(), grid, said=said) == rows and executed == ["04"] * 4
    assert sum("reused, it was finished with the same code" in text for text in said) == 4


def test_a_killed_job_is_started_again_and_three_times_in_all(executed, scratch):
    said = []
    run(Engine(killed=2), said=said)
    assert sum("its process was killed; it goes on where it was" in text for text in said) == 2
    with pytest.raises(NotebookFailed, match="its process was killed"):
        run(engine := Engine(killed=9), force=True)
    assert engine.lives == {"out": 3}


def test_a_cancelled_job_is_not_started_again(executed, scratch):
    with pytest.raises(NotebookFailed, match="cancelled by somebody else"):
        run(engine := Engine(killed=9, look="cancelled"))
    assert engine.lives == {"out": 1}


def test_the_files_of_an_ended_job_may_be_late(executed, scratch, monkeypatch):
    engine, reads, read = Engine(killed=9), [], State.read

    def late(folder):
        reads.append(folder)
        return State(ended=True) if len(reads) == 9 else read(folder)

    monkeypatch.setattr(engine, "settle", 60.0)
    monkeypatch.setattr(runner.State, "read", late)
    monkeypatch.setattr(runner.summary, "row", lambda job, ended: {"ended": ended})
    monkeypatch.setattr(runner.summary, "table", lambda rows: "")
    assert run(engine) == [{"ended": "done"}] and len(reads) >= 9 and executed == []


def test_the_first_failure_ends_a_grid_unless_it_shall_keep_going(executed, scratch):
    with pytest.raises(NotebookFailed) as failure:
        run(Engine(), "04.weight=-1,1")
    first, second = str(failure.value).splitlines()
    assert first == "04.weight=-1: failed: 04_training, cell 2: ValueError: negative"
    assert second == "04.weight=1: not run: since another failed" and executed == ["04"]
    said = []
    with pytest.raises(NotebookFailed, match=r"^04\.weight=-1: failed: [^\n]*$"):
        run(Engine(), "04.weight=-1,1", said=said, keep_going=True)
    assert executed == ["04", "04", "04"] and "04.weight=1: done" in said


def test_ctrl_c_cancels_what_runs_and_says_what_is_done(executed, scratch, monkeypatch):
    engine = Engine()

    def interrupt(handles):
        if handles[0].name == "04.weight=1":
            raise KeyboardInterrupt
        return Engine.look(engine, handles)

    monkeypatch.setattr(engine, "look", interrupt)
    with pytest.raises(KeyboardInterrupt, match="1 of 3 jobs are done"):
        run(engine, "04.weight=0.5,1,2")
    assert engine.cancelled == ["04.weight=1"]


def test_only_the_cpu_lane_is_published_with_its_pictures_and_its_table(
        scratch_course, monkeypatch, results):
    readme = scratch_course / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")
    png = BytesIO()
    Image.new("RGB", (4, 4)).save(png, "png")
    output = nbformat.v4.new_output("display_data", {
        "image/png": base64.b64encode(png.getvalue()).decode()})
    cell = nbformat.v4.new_code_cell("", metadata={"tags": ["figure=line"]}, outputs=[output])

    def pretend(jobs, *arguments):
        for job in jobs:
            nbformat.write(nbformat.v4.new_notebook(cells=[cell]), job.folder / "01_teacher.ipynb")
            io.write_json(job.folder / "metrics.json", results | {"lane": job.lane})
        return {}

    monkeypatch.setattr(plan, "CHAPTERS", ("01_teacher",))
    monkeypatch.setattr(plan, "_check", lambda chapter, parameters: None)
    monkeypatch.setattr(runner, "CHAPTERS", ("01_teacher",))
    monkeypatch.setattr(runner, "is_finished", lambda job: False)
    monkeypatch.setattr(runner, "_run_all", pretend)
    monkeypatch.setattr(runner, "_one_refinement", lambda job: {
        "dt": 0.33, "off": np.ones((4, 15, 1)) / 9, "ends": np.ones((4, 2)) / 9,
        "target_state": np.zeros(2)})
    for options in ({"lane": "gpu"}, {"seed": 1}, {"out": scratch_course / "elsewhere"}):
        runner.run_course(**options, say=lambda text: None)
        assert "old" in readme.read_text("utf-8") and not (scratch_course / "figures").exists()
    assert {path.name for path in (scratch_course / "runs").iterdir()} == {"gpu", "cpu-seed-1"}
    runner.run_course(say=lambda text: None)
    text = readme.read_text("utf-8")
    assert text == f"before\n{report.BEGIN}\n{report.readme_table(results)}\n{report.END}\nafter\n"
    assert (scratch_course / "figures" / "line.png").read_bytes() == png.getvalue()
    assert (scratch_course / "figures" / "data_flow.png").exists()
    assert Image.open(scratch_course / "figures" / "refinement.gif").n_frames == 4
    assert io.read_json(scratch_course / "data/results/course.json") == results


@pytest.mark.parametrize("damage", [
    lambda text: text[:len(text) // 2], lambda text: text.replace("iVBORw0KGgo", "iVBORw0KGga"),
    lambda text: text.replace('"cells"', '"sells"')], ids=["cut", "picture", "key"])
def test_a_damaged_notebook_is_refused_before_its_pictures_are_shown(tmp_path, damage):
    text = (ROOT / "notebooks" / "02_dataset.ipynb").read_text(encoding="utf-8")
    (tmp_path / "broken.ipynb").write_text(damage(text), encoding="utf-8")
    with pytest.raises(ValueError, match=r"broken\.ipynb is damaged, or no notebook: "):
        runner.tagged_pictures(tmp_path / "broken.ipynb")
