"""The batch runner: one run of the course, or a grid of them, here or on a cluster; the pictures, and the table at the end."""

import base64
import collections
import json
import time
from io import BytesIO

from PIL import Image
from tqdm.auto import tqdm

from trc_lib import io
from trc_lib.course.batch import summary
from trc_lib.course.batch.engines import Local
from trc_lib.course.batch.job import NotebookFailed, State, devices, is_finished, prepare
from trc_lib.course.batch.plan import CHAPTERS, plan
from trc_lib.course.batch.report import BEGIN, END, closing_table, into_readme, readme_table
from trc_lib.course.presets import choose_preset
from trc_lib.course.workspace import root, shown
from trc_lib.data import EVAL_SEED, generate_dataset
from trc_lib.evaluation import cycle_controls
from trc_lib.model import TinyRecursiveControl

TRIES = 3  # a job whose process or kernel was killed goes on where it was, so often in all


def run_course(lane="cpu", seed=0, out=None, only=(), settings=(), sweeps=(), engine=None, force=False, keep_going=False,
               say=print):
    """Run the course, or a grid of runs; see `plan` for lane, seed, out, only, settings and sweeps.

    The whole course on the ``cpu`` lane with seed 0, in its own folder ``runs/cpu``, also makes anew the pictures in
    ``figures/``, ``data/results/course.json`` and the README's table.

    Args:
        engine: an engine of `trc_lib.course.batch.engines`; one process on this machine if not given.
        force: run anew what is finished.
        keep_going: after a failure, run what does not build on it.

    Returns:
        the rows of the summary, a dict for each job.

    Raises:
        ValueError: before anything starts, if the plan makes no sense.
        NotebookFailed: naming the job, the notebook, the cell and the error; its notebook is kept as far as it came.
        KeyboardInterrupt: on Ctrl-C; what is finished is kept.
    """
    jobs = plan(lane, seed, out, only, settings, sweeps, keep_going)
    grid = bool(jobs[0].swept)
    finished = [job for job in jobs if not force and is_finished(job)]
    for job in jobs:
        if job in finished:
            say(f"{shown(job.folder)}: reused, it was finished with the same code, parameters and inputs, on {devices(job)}")
        else:
            prepare(job, force)
    waiting = [job for job in jobs if job not in finished]
    failures = _run_all(waiting, Local() if engine is None else engine, keep_going, say, grid)
    rows = [summary.row(job, failures.get(job.name, ("done",))[0]) for job in jobs]
    if grid:
        summary.write(rows, jobs[0].folder.parent)
        say(f"{summary.table(rows)}\nAll figures, and their picture, are in {shown(jobs[0].folder.parent)}/summary.csv and .png")
    if failures:
        raise NotebookFailed("\n".join(f"{name}: {ended}: {words}" if grid else words
                                       for name, (ended, words) in failures.items()))
    if tuple(jobs[0].chapters) == CHAPTERS and not grid:
        results = _results(jobs[0])
        if (lane, seed, out) == ("cpu", 0, None):
            _publish(results, jobs[0])
        say(closing_table(results, shown(jobs[0].folder)))
    elif not grid:
        say(f"{summary.table(rows)}\nAll figures are in {shown(jobs[0].folder)}/metrics.json")
    return rows


def _run_all(jobs, engine, keep_going, say, grid):
    """Run the jobs; returns what went wrong, ``{name: (how it ended, words)}``. Killed ones are started again, a few times."""
    waiting, running, tries, gone, failures = list(jobs), {}, collections.Counter(), {}, {}  # by name, but for waiting
    with tqdm(total=len(jobs), unit="job", disable=not grid or None) as bar:
        try:
            while (waiting or running) and (keep_going or not failures):
                batch = waiting[:max(0, engine.room(len(running)))]
                del waiting[:len(batch)]
                if batch:
                    tries.update(job.name for job in batch)
                    running.update(zip((job.name for job in batch), zip(batch, engine.start(batch))))
                looks = engine.look([handle for _, handle in running.values()])
                for (name, (job, _)), look in zip(list(running.items()), looks):
                    if look == "alive":
                        continue
                    state = State(job.folder)
                    since = gone.setdefault(name, time.monotonic())
                    if not state.ended and look == "ended" and time.monotonic() - since < engine.settle:
                        continue
                    del running[name]
                    gone.pop(name, None)
                    ended, words = _how_it_ended(state, look)
                    if ended == "dead" and tries[name] < TRIES:
                        say(f"{name}: {words}; it goes on where it was")
                        prepare(job)
                        waiting.insert(0, job)
                        continue
                    bar.update()
                    if ended != "done":
                        failures[name] = (ended, words)
                    if grid:
                        say(f"{name}: {ended}" + (f": {words.splitlines()[0]}" if words else ""))
                if waiting or running:
                    time.sleep(engine.pause)
        except KeyboardInterrupt:
            done = len(jobs) - len(waiting) - len(running) - len(failures)
            raise KeyboardInterrupt(f"{done} of {len(jobs)} jobs are done, and all that was finished is kept; "
                                    "the same command goes on") from None
        finally:
            engine.cancel([handle for _, handle in running.values()])
    return failures | {job.name: ("not run", "since another failed") for job in [*waiting, *(job for job, _ in running.values())]}


def _how_it_ended(state, look):
    """"done", "failed", "cancelled" or "dead", and the words for it."""
    if state.ended:
        wrong = "\n".join(row["error"] for row in state.chapters.values() if row["outcome"] == "failed")
        return ("failed", wrong) if wrong else ("done", "")
    if look == "cancelled":
        return "cancelled", "cancelled by somebody else"
    return "dead", state.died or "its process was killed"


def _results(job):
    return io.read_json(job.folder / "metrics.json")


def _publish(results, job):
    """Results, pictures and the README's table, each written whole."""
    from trc_lib.course import plots  # here, since the rest of the runner needs no pictures

    io.write_json(root() / "data" / "results" / "course.json", results)
    for name in job.chapters:
        for figure, png in tagged_pictures(job.folder / f"{name}.ipynb").items():
            with io.written_whole(root() / "figures" / f"{figure}.png") as temporary:
                temporary.write_bytes(png)
    with io.written_whole(root() / "figures" / "data_flow.png") as temporary:
        plots.data_flow().savefig(temporary, format="png")
    with io.written_whole(root() / "figures" / "refinement.gif") as temporary:
        plots.refinement_gif(temporary, **_one_refinement(job))
    into_readme(BEGIN, END, readme_table(results))


def _one_refinement(job):
    """What the GIF shows: the unseen problem with the worst first proposal that every cycle improves."""
    model, lane = TinyRecursiveControl.load(job.checkpoint), choose_preset(job.lane, seed=job.seed)
    problems = generate_dataset(lane.num_eval, lane.seed + EVAL_SEED)
    controls = cycle_controls(model, problems)                                                   # [H+1, n, N, 1]
    states = problems.system.rollout(problems.initial_states.expand(len(controls), -1, -1), controls)
    errors = (states[:, :, -1] - problems.target_states).norm(dim=-1)                            # [H+1, n]
    i = int(errors[0].where((errors[1:] < errors[:-1]).all(dim=0), 0).argmax())
    return {"dt": problems.dt, "off": controls[:, i] - problems.controls[i], "ends": states[:, i, -1],
            "target_state": problems.target_states[i]}


def tagged_pictures(path):
    """The pictures of an executed notebook whose cells are tagged ``figure=<name>``: ``{name: png bytes}``.

    Raises:
        ValueError: if the notebook or a picture is damaged.
    """
    try:
        notebook, pictures = json.loads(path.read_text(encoding="utf-8")), {}
        for cell in notebook["cells"]:
            names = [tag.split("=", 1)[1] for tag in cell["metadata"].get("tags", []) if tag.startswith("figure=")]
            shown_data = [output.get("data", {}) for output in cell.get("outputs", [])]
            encoded = [data["image/png"] for data in shown_data if "image/png" in data]
            pictures.update({name: base64.b64decode(png) for name, png in zip(names, encoded)})
        for png in pictures.values():
            Image.open(BytesIO(png)).verify()  # every part of a PNG has its checksum
    except Exception as error:  # broken bytes can make the readers fail in any way
        raise ValueError(f"{path} is damaged, or no notebook: {error}") from None
    return pictures
