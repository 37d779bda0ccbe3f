"""The batch runner: one run of the course or a grid of them, and what is published of it."""

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
from trc_lib.course.batch.report import BEGIN, END, closing_table, readme_table, write_table
from trc_lib.course.places import root, shown
from trc_lib.course.presets import choose_preset
from trc_lib.data import EVAL_SEED, generate_dataset
from trc_lib.evaluation import cycle_controls
from trc_lib.model import TinyRecursiveControl

TRIES = 3  # how often a job is started whose process or kernel is killed


def run_course(lane="cpu", seed=0, out=None, only=(), settings=(), sweeps=(), engine=None,
               force=False, keep_going=False, say=print):
    """Run the course, or a grid of runs; see `plan` for lane to sweeps.

    The whole course on the ``cpu`` lane with seed 0, in its own folder ``runs/cpu``, also renews
    ``figures/``, ``data/results/course.json`` and the README's table.

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
        if (lane, seed, out) == ("cpu", 0, None):
            _publish(results, jobs[0])
        say(closing_table(results, shown(jobs[0].folder)))
    elif not grid:
        say(f"{summary.table(rows)}\nAll figures are in {shown(jobs[0].folder)}/metrics.json")
    return rows


def _run_all(jobs, engine, keep_going, say, grid):
    """Run the jobs; returns ``{name: (how it ended, reason)}`` of those that are not done."""
    waiting, running, failures = list(jobs), {}, {}  # running: {name: (job, handle)}
    tries, ended_at = collections.Counter(), {}
    with tqdm(total=len(jobs), unit="job", disable=not grid or None) as bar:
        try:
            while (waiting or running) and (keep_going or not failures):
                batch = waiting[:max(0, engine.room(len(running)))]
                del waiting[:len(batch)]
                if batch:
                    tries.update(job.name for job in batch)
                    running |= {job.name: (job, handle)
                                for job, handle in zip(batch, engine.start(batch))}
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
                    bar.update()
                    if ended != "done":
                        failures[name] = ended, reason
                    if grid:
                        say(": ".join(filter(None, [name, ended, reason.split("\n")[0]])))
                if waiting or running:
                    time.sleep(engine.pause)
        except KeyboardInterrupt:
            done = len(jobs) - len(waiting) - len(running) - len(failures)
            raise KeyboardInterrupt(f"{done} of {len(jobs)} jobs are done, and all that was "
                                    "finished is kept; the same command goes on") from None
        finally:
            engine.cancel([handle for _, handle in running.values()])
    left = [job.name for job in waiting] + list(running)
    return failures | dict.fromkeys(left, ("not run", "since another failed"))


def _how_it_ended(state, look):
    """"done", "failed", "cancelled" or "dead", and the reason."""
    if state.ended:
        errors = [row["error"] for row in state.chapters.values() if row["outcome"] == "failed"]
        return ("failed", "\n".join(errors)) if errors else ("done", "")
    if look == "cancelled":
        return "cancelled", "cancelled by somebody else"
    return "dead", state.died or "its process was killed"


def _publish(results, job):
    """Write the results, the pictures and the README's table."""
    from trc_lib.course import plots  # here, since the rest of the runner needs no pictures

    io.write_json(root() / "data" / "results" / "course.json", results)
    figures = root() / "figures"
    for name in job.chapters:
        for figure, png in tagged_pictures(job.folder / f"{name}.ipynb").items():
            with io.written_whole(figures / f"{figure}.png") as temporary:
                temporary.write_bytes(png)
    with io.written_whole(figures / "data_flow.png") as temporary:
        plots.data_flow().savefig(temporary, format="png")
    with io.written_whole(figures / "refinement.gif") as temporary:
        plots.refinement_gif(temporary, **_one_refinement(job))
    write_table("README.md", BEGIN, END, readme_table(results))


def _one_refinement(job):
    """For the GIF: the unseen problem with the worst proposal that every cycle improves."""
    preset = choose_preset(job.lane, seed=job.seed)
    problems = generate_dataset(preset.num_eval, preset.seed + EVAL_SEED)
    controls = cycle_controls(TinyRecursiveControl.load(job.checkpoint), problems)  # [H+1, n, N, 1]
    starts = problems.initial_states.expand(len(controls), -1, -1)
    states = problems.system.rollout(starts, controls)
    errors = (states[:, :, -1] - problems.target_states).norm(dim=-1)               # [H+1, n]
    i = int(errors[0].where((errors[1:] < errors[:-1]).all(dim=0), 0).argmax())
    return {"dt": problems.dt, "off": controls[:, i] - problems.controls[i],
            "ends": states[:, i, -1], "target_state": problems.target_states[i]}


def tagged_pictures(path):
    """The pictures of the cells tagged ``figure=<name>`` of an executed notebook, ``{name: PNG}``.

    Raises:
        ValueError: if the notebook or a picture is damaged.
    """
    try:
        notebook, pictures = json.loads(path.read_text(encoding="utf-8")), {}
        for cell in notebook["cells"]:
            tags = cell["metadata"].get("tags", [])
            names = [tag.removeprefix("figure=") for tag in tags if tag.startswith("figure=")]
            shown_data = [output.get("data", {}) for output in cell.get("outputs", [])]
            encoded = [data["image/png"] for data in shown_data if "image/png" in data]
            pictures.update({name: base64.b64decode(png) for name, png in zip(names, encoded)})
        for png in pictures.values():
            Image.open(BytesIO(png)).verify()  # every part of a PNG has its checksum
    except Exception as error:  # damaged bytes can raise any exception in the readers
        raise ValueError(f"{path} is damaged, or no notebook: {error}") from None
    return pictures
