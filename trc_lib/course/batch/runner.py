"""The batch runner: one run of the course or a grid of them."""

import collections
import time

from trc_lib import io
from trc_lib.course.batch import summary
from trc_lib.course.batch.engines import Local
from trc_lib.course.batch.job import NotebookFailed, State, devices, is_finished, prepare
from trc_lib.course.batch.plan import CHAPTERS, plan
from trc_lib.course.batch.report import closing_table
from trc_lib.course.places import shown

TRIES = 3  # how often a job is started whose process or kernel is killed


def run_course(lane="cpu", seed=0, out=None, only=(), settings=(), sweeps=(), engine=None,
               force=False, keep_going=False, say=print):
    """Run the course, or a grid of runs; see `plan` for lane to sweeps.

    Args:
        engine: a `Local` or `Slurm`; one process on this machine if not given.
        force: run again what is finished.
        keep_going: after a failure, run what does not build on it.
        say: is called with each line of the report.

    Returns:
        the rows of the summary, a dict for each job.

    Raises:
        ValueError: before anything starts, for a plan that is not accepted.
        NotebookFailed: naming job, notebook, cell and error; the notebook is kept as far as it ran.
        KeyboardInterrupt: on Ctrl-C; what is finished is kept.
    """
    jobs, waiting = plan(lane, seed, out, only, settings, sweeps, keep_going), []
    for job in jobs:
        if not force and is_finished(job):
            say(f"{shown(job.folder)}: reused, it was finished with the same code, parameters "
                f"and inputs, on {devices(job)}")
        else:
            prepare(job, force)
            waiting.append(job)
    grid = bool(sweeps)
    failures = _run_all(waiting, engine or Local(), keep_going, say, grid)
    rows = [summary.row(job, failures.get(job.name, ("done",))[0]) for job in jobs]
    if grid:
        folder = jobs[0].folder.parent
        summary.write(rows, folder)
        say(f"{summary.table(rows)}\nAll figures, and their picture, are in "
            f"{shown(folder)}/summary.csv and .png")
    if failures:
        raise NotebookFailed("\n".join(f"{name}: {ended}: {reason}" if grid else reason
                                       for name, (ended, reason) in failures.items()))
    if tuple(jobs[0].chapters) == CHAPTERS and not grid:
        results = io.read_json(jobs[0].folder / "metrics.json")
        say(closing_table(results, shown(jobs[0].folder)))
    elif not grid:
        say(f"{summary.table(rows)}The executed notebooks are in {shown(jobs[0].folder)}/")
    return rows


def _run_all(jobs, engine, keep_going, say, grid):
    """Run the jobs; returns ``{name: (how it ended, reason)}`` of those that are not done."""
    waiting, running, failures = list(jobs), {}, {}  # running: {name: (job, handle)}
    tries, ended_at, began = collections.Counter(), {}, time.monotonic()

    def tell(name, what):
        if grid:
            number = len(jobs) - len(waiting) - len(running)
            say(f"{name}: {what} ({number} of {len(jobs)} have ended, "
                f"{time.monotonic() - began:.0f} s)")

    try:
        while (waiting or running) and (keep_going or not failures):
            batch = waiting[:max(0, engine.room(len(running)))]
            del waiting[:len(batch)]
            if batch:
                tries.update(job.name for job in batch)
                running |= {job.name: (job, handle)
                            for job, handle in zip(batch, engine.start(batch))}
                for job in batch:
                    tell(job.name, "started")
            looks = engine.look([handle for _, handle in running.values()])
            for (name, (job, _)), look in zip(list(running.items()), looks):
                if look == "alive":
                    continue
                state = State.read(job.folder)
                settled = ended_at.setdefault(name, time.monotonic()) + engine.settle
                if look == "ended" and not state.ended and time.monotonic() < settled:
                    continue
                del running[name], ended_at[name]
                ended, reason = _how_it_ended(state, look)
                if ended == "dead" and tries[name] < TRIES:
                    say(f"{name}: {reason}; it goes on where it was")
                    prepare(job)
                    waiting.insert(0, job)
                    continue
                if ended != "done":
                    failures[name] = ended, reason
                tell(name, ": ".join(filter(None, [ended, reason.split("\n")[0]])))
            if waiting or running:
                time.sleep(engine.pause)
    except KeyboardInterrupt:
        done = len(jobs) - len(waiting) - len(running) - len(failures)
        runs = f"{done} of {len(jobs)} runs are done, and " if grid else ""
        raise KeyboardInterrupt(f"{runs}all that was finished is kept; the same command goes on"
                                ) from None
    finally:
        engine.cancel([handle for _, handle in running.values()])
    left = [job.name for job in waiting] + list(running)
    return failures | dict.fromkeys(left, ("not run", "since another failed"))


def _how_it_ended(state, look):
    """"done", "failed", "cancelled" or "dead", and the reason."""
    errors = [row["error"] for row in state.chapters.values() if row["outcome"] == "failed"]
    if state.ended and not errors:
        return "done", ""
    if look == "cancelled":  # the signal may reach the kernel first, which looks like a failure
        return "cancelled", "cancelled by somebody else"
    if state.ended:
        return "failed", "\n".join(errors)
    return "dead", state.died or "its process was killed"
