"""The batch runner: all notebooks in order through papermill, their pictures, and the table at the end."""

import base64
import io
import json
import os
import platform
import time

import papermill
import torch
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from PIL import Image

from trc_lib import files
from trc_lib.course.artifacts import folder
from trc_lib.course.lanes import choose_lane
from trc_lib.course.report import BEGIN, END, closing_table, readme_table, replace_between
from trc_lib.datasets import LQRDataset
from trc_lib.evaluation import cycle_controls
from trc_lib.model import TinyRecursiveControl
from trc_lib.places import root, shown
from trc_lib.training import epochs_kept

NOTEBOOKS = ("01_teacher", "02_dataset", "03_model", "04_training", "05_evaluation", "06_does_recursion_help",
             "07_bounded_inputs", "08_van_der_pol")
OWN_PARAMETERS = {"05_evaluation": {"checkpoint": "trained"}}  # the course judges what it has trained itself


class NotebookFailed(Exception):
    """A cell of a notebook failed; the message ends with what it said."""


def run_course(lane_name="cpu", seed=0, say=print):
    """Run the course: the executed notebooks go to ``runs/<lane>/``, the results to ``course.json`` beside them.

    On the ``cpu`` lane with seed 0 the pictures in ``figures/``, ``data/results/course.json`` and the README's table are made
    anew as well; with another seed the folder is ``runs/<lane>-seed-<seed>/``.

    Returns:
        the results, a dict.

    Raises:
        NotebookFailed: naming the notebook, the cell and the error; its notebook is kept as far as it came.
    """
    lane = choose_lane(lane_name, seed=seed)
    out = root() / "runs" / (lane.name if seed == 0 else f"{lane.name}-seed-{seed}")
    _say_what_is_reused(lane, say)
    seconds = {}
    for name in NOTEBOOKS:
        started = time.perf_counter()
        _run_notebook(name, out / f"{name}.ipynb", {"lane": lane.name, "seed": seed, **OWN_PARAMETERS.get(name, {})})
        seconds[name] = round(time.perf_counter() - started, 1)
        say(f"{name}: {seconds[name]:.0f} s, kept as {shown(out / name)}.ipynb")
    results = _collect(lane, seconds)
    files.write_json(out / "course.json", results)
    if lane.name == "cpu" and seed == 0:
        _publish(lane, results, out)
    say(closing_table(results, shown(out)))
    return results


def _say_what_is_reused(lane, say):
    for name in ("lqr_dataset.npz", "lqr_dataset_eval.npz"):
        path = folder(lane) / name
        say(f"{'reusing' if path.exists() else 'will make'} {shown(path)}")
    kept = epochs_kept(folder(lane))
    say(f"{f'reusing ({kept} epochs)' if kept else 'will train'} {shown(folder(lane) / 'best_model.pt')}")


def _run_notebook(name, out, parameters):
    """Execute one notebook; what it left is at ``out``, whole, also where it failed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    running = out.with_name(f".{out.name}.part.ipynb")
    try:
        papermill.execute_notebook(root() / "notebooks" / f"{name}.ipynb", running, parameters, kernel_name="python3",
                                   cwd=root() / "notebooks", progress_bar={"desc": name},
                                   extra_arguments=["--log-level=ERROR"])
    except PapermillExecutionError as error:
        raise NotebookFailed(f"{name}, cell {error.exec_count}: {error.ename}: {error.evalue} (see {shown(out)})") from None
    except DeadKernelError:
        raise NotebookFailed(f"{name}: its kernel died, most likely for lack of memory (see {shown(out)})") from None
    finally:
        if running.exists():
            os.replace(running, out)


def _collect(lane, seconds):
    kept = sorted((folder(lane) / "results").glob("*.json"))
    chapters = {path.stem: files.read_json(path) for path in kept}
    return {"lane": lane.name, "seed": lane.seed, "num_train": lane.num_train,
            "python": platform.python_version(), "torch": torch.__version__.split("+")[0], "seconds": seconds, **chapters}


def _publish(lane, results, out):
    """Results, pictures and the README's table, each written whole."""
    from trc_lib import plots  # here, since the rest of the runner needs no pictures

    files.write_json(root() / "data" / "results" / "course.json", results)
    for name in NOTEBOOKS:
        for figure, png in tagged_pictures(out / f"{name}.ipynb").items():
            with files.written_whole(root() / "figures" / f"{figure}.png") as temporary:
                temporary.write_bytes(png)
    with files.written_whole(root() / "figures" / "data_flow.png") as temporary:
        plots.data_flow().savefig(temporary, format="png")
    with files.written_whole(root() / "figures" / "refinement.gif") as temporary:
        plots.refinement_gif(temporary, **_one_refinement(lane))
    readme = root() / "README.md"
    if readme.exists():
        files.write_text(readme, replace_between(readme.read_text(encoding="utf-8"), BEGIN, END, readme_table(results)))


def _one_refinement(lane):
    """What the GIF shows: the unseen problem with the worst first proposal that every cycle improves."""
    model = TinyRecursiveControl.load(folder(lane) / "best_model.pt")
    problems = LQRDataset.load(folder(lane) / "lqr_dataset_eval.npz")
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
            Image.open(io.BytesIO(png)).verify()  # every part of a PNG has its checksum
    except Exception as error:  # broken bytes can make the readers fail in any way
        raise ValueError(f"{path} is damaged, or no notebook: {error}") from None
    return pictures
