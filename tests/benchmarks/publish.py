"""Publish a run of the course: ``make publish``. For maintainers; a learner's run changes nothing.

It writes the figures of the whole course on the cpu lane to data/results/course.json and README.md,
and its pictures to figures/. A run that is finished is reused.
"""

import base64
import json
from io import BytesIO

import torch
from PIL import Image

from tests import ROOT
from tests.documents import write_table
from trc_lib import io
from trc_lib.course import descents, diagrams, plots, pretrained
from trc_lib.course.batch.plan import plan
from trc_lib.course.batch.report import comparison
from trc_lib.course.batch.runner import run_course
from trc_lib.course.presets import choose_preset
from trc_lib.data import EVAL_SEED, generate_dataset
from trc_lib.evaluation import cycle_controls
from trc_lib.model import TinyRecursiveControl
from trc_lib.model.baselines import MLP
from trc_lib.problems import powered_descent
from trc_lib.teachers.landing import correct

BEGIN, END = "<!-- results: written by `make publish` -->", "<!-- end of results -->"


def readme_table(results):
    """The comparison of `trc_lib.course.batch.report` as Markdown."""
    num_eval, lane = results["05_evaluation"]["num_eval"], results["lane"]
    head = f"| {num_eval:,} unseen problems, lane `{lane}` | this course | the description |"
    rows = [f"| {' | '.join(row)} |" for row in comparison(results)]
    return "\n".join([head, "|---|---|---|", *rows])


def publish(job):
    """Write the results, the pictures and the README's table of a finished job."""
    results, figures = io.read_json(job.folder / "metrics.json"), ROOT / "figures"
    io.write_json(ROOT / "data" / "results" / "course.json", results)
    for name in job.chapters:
        for figure, png in tagged_pictures(job.folder / f"{name}.ipynb").items():
            with io.written_whole(figures / f"{figure}.png") as temporary:
                temporary.write_bytes(png)
    with io.written_whole(figures / "data_flow.png") as temporary:
        plots.data_flow().savefig(temporary, format="png")
    with io.written_whole(figures / "refinement.gif") as temporary:
        diagrams.refinement_gif(temporary, **_one_refinement(job))
    with io.written_whole(figures / "landing.gif") as temporary:
        descents.landing_gif(temporary, **_one_landing())
    write_table("README.md", BEGIN, END, readme_table(results))


def _one_refinement(job):
    """For the GIF: of the unseen problems that end slowly, and whose every cycle ends nearer, the
    one whose first proposal ends farthest from the target's position."""
    preset = choose_preset(job.lane, seed=job.seed)
    problems = generate_dataset(preset.num_eval, preset.seed + EVAL_SEED)
    controls = cycle_controls(TinyRecursiveControl.load(job.checkpoint), problems)  # [H+1, n, N, 1]
    starts = problems.initial_states.expand(len(controls), -1, -1)
    off = problems.system.rollout(starts, controls)[:, :, -1] - problems.target_states
    nearer = [(size[1:] < size[:-1]).all(dim=0) for size in (off.norm(dim=-1), off[..., 0].abs())]
    slow = problems.target_states[:, 1].abs() < 0.5  # m/s
    i = int(off[0, :, 0].abs().where(nearer[0] & nearer[1] & slow, 0).argmax())
    return {"controls": controls[:, i], "initial_state": problems.initial_states[i],
            "target_state": problems.target_states[i]}


def _one_landing():
    """For the GIF of chapter 12: a network's plan as it is and corrected, and the optimum.

    The plan misses by more than most do, so that it shows, and keeps above the glide slope.
    """
    problem = powered_descent()
    start = torch.tensor([[2400.0, 0, 1200, 20, 30, -80, 1860]], dtype=torch.float64)
    rest = torch.tensor([[0.0] * 6 + [problem.teacher.craft.dry_mass]], dtype=torch.float64)
    plan = pretrained("laboratory/powered_descent_mlp", MLP).solve(start, rest)
    corrected = correct(problem.teacher.system, start, plan, 8)
    return {"system": problem.teacher.system, "start": start[0], "flights": {
        "network, as it is": (plan[0], plots.LOOKS["a guess"] | {"linestyle": "-"}),
        "network, corrected": (corrected[0], plots.LOOKS["network"]),
        "optimum": (problem.teacher.solve(start, rest)[0], plots.OPTIMUM)}}


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


if __name__ == "__main__":
    run_course("cpu")
    publish(plan("cpu")[0])
