"""How jobs are scheduled; no kernel is started."""

import pytest

from trc_lib.course.batch import runner
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
    # the signal of scancel may reach the kernel before the job, which then sees a failure
    with pytest.raises(NotebookFailed, match="cancelled: cancelled by somebody else"):
        run(Engine(look="cancelled"), "04.weight=-1", force=True)
    (row,) = run(Engine(look="cancelled"), "04.weight=1", force=True)  # was done before it
    assert row["ended"] == "done"


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
    assert executed == ["04", "04", "04"]
    assert [text for text in said if text.startswith("04.weight=1: done (2 of 2 have ended, ")]


def test_ctrl_c_cancels_what_runs_and_says_what_is_done(executed, scratch, monkeypatch):
    engine = Engine()

    def interrupt(handles):
        if handles[0].name == "04.weight=1":
            raise KeyboardInterrupt
        return Engine.look(engine, handles)

    monkeypatch.setattr(engine, "look", interrupt)
    with pytest.raises(KeyboardInterrupt, match="1 of 3 runs are done, and all that was"):
        run(engine, "04.weight=0.5,1,2")
    assert engine.cancelled == ["04.weight=1"]
