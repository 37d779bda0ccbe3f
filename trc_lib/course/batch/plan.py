"""What a batch run consists of: the chapters, their parameters and folders, checked in advance."""

import ast
import contextlib
import dataclasses
import itertools
import json
import math
import pathlib
import re

from trc_lib import io, validation
from trc_lib.course.parameters import check_parameters
from trc_lib.course.places import shipped
from trc_lib.course.workspace import runs_folder

CHAPTERS = ("01_teacher", "02_dataset", "03_model", "04_training", "05_evaluation",
            "06_a_fair_comparison", "07_a_loop_that_looks", "08_bounded_inputs", "09_van_der_pol",
            "10_your_own_system", "11_powered_descent", "12_landing_by_network")
BUILDS_ON = {"05_evaluation": "04_training"}  # chapter 5 evaluates what chapter 4 trained
MOST_JOBS = 10_000
LONGEST_NAME = 150  # of a folder of a grid


@dataclasses.dataclass(frozen=True)
class Job:
    """Some chapters with one setting of their parameters, in a folder of their own.

    Attributes:
        folder: for the executed notebooks, the log, the checkpoint and the figures.
        lane, seed: of the whole run; a chapter's own parameters may differ from the seed.
        chapters: ``{name: parameters}``, in order.
        swept: the parameters in which the jobs of a grid differ, ``{"04.seed": 1}``.
        keep_going: after a chapter has failed, run the others that do not build on it.
    """

    folder: pathlib.Path
    lane: str
    seed: int
    chapters: dict
    swept: dict
    keep_going: bool = False

    @property
    def name(self):
        return self.folder.name

    @property
    def checkpoint(self):
        """The network that chapter 4 trains in this job."""
        return self.folder / "training" / "best_model.pt"

    def write(self):
        """Write ``job.json`` to the folder, for the process that will run the job."""
        described = dataclasses.asdict(self)
        del described["folder"]
        io.write_json(self.folder / "job.json", described)

    @classmethod
    def read(cls, folder):
        """The job that `write` left in ``folder``."""
        folder = pathlib.Path(folder)
        return cls(folder, **io.read_json(folder / "job.json"))


def plan(lane, seed=0, out=None, only=(), settings=(), sweeps=(), keep_going=False):
    """The jobs of a batch run.

    Args:
        lane: ``"smoke"``, ``"cpu"`` or ``"gpu"``.
        seed: of all chapters.
        out: folder of the run, in which each job of a grid gets its own; default ``runs/<lane>``.
        only: chapters, as ``"04"`` or ``"04_training"``. If empty all; in a sweep those that are
            swept and those that build on them.
        settings: words such as ``"04.epochs=20"``.
        sweeps: words such as ``"04.seed=0..4"`` or ``"04.cycle_weight=0,0.1,1"``; the grid
            consists of all their combinations.

    Raises:
        ValueError: for an unknown chapter or parameter, or a value that the chapter refuses.
    """
    if out is None and (settings or sweeps):
        raise ValueError("settings and sweeps (--set, --sweep) need out, a folder for the runs: "
                         "give --out")
    fixed = {key: _value(text) for key, text in map(_assignment, settings)}
    axes = {key: _values(text) for key, text in map(_assignment, sweeps)}
    if both := fixed.keys() & axes.keys():
        words = ", ".join(f"{chapter[:2]}.{name}" for chapter, name in sorted(both))
        raise ValueError(f"{words} is set and swept; give it once")
    if (size := math.prod(map(len, axes.values()))) > MOST_JOBS:
        raise ValueError(f"sweeps make {size:,} jobs; at most {MOST_JOBS:,} are accepted")
    chapters = _chapters(set(map(_chapter, only)), {chapter for chapter, _ in axes})
    for chapter, name in (*fixed, *axes):
        if chapter not in chapters:
            raise ValueError(f"{chapter[:2]}.{name} is given, but chapter {chapter} is not run; "
                             "add it to --only")
    folder = runs_folder(lane, seed) if out is None else pathlib.Path(out).resolve()
    jobs = []
    for values in itertools.product(*axes.values()):
        swept = {f"{chapter[:2]}.{name}": value for (chapter, name), value in zip(axes, values)}
        subfolder = ",".join(f"{name}={value}" for name, value in swept.items())
        job = Job(folder / _portable(subfolder), lane, seed, {
            chapter: {"lane": lane, "seed": seed} for chapter in chapters}, swept, keep_going)
        if "05_evaluation" in chapters and ("04_training" in chapters or job.checkpoint.exists()):
            job.chapters["05_evaluation"]["checkpoint"] = "trained"  # by this job
        for (chapter, name), value in (fixed | dict(zip(axes, values))).items():
            job.chapters[chapter][name] = value
        jobs.append(job)
    if len({job.name.casefold() for job in jobs}) < len(jobs):  # some systems do not tell a from A
        raise ValueError("sweeps give the same value twice; each combination is one job")
    for chapter, parameters in {repr(item): item for job in jobs
                                for item in job.chapters.items()}.values():
        try:
            check_parameters(**parameters_of(chapter) | parameters)
        except (TypeError, ValueError) as error:
            raise ValueError(f"chapter {chapter}: {error}") from None
    return jobs


def _chapters(chosen, swept):
    """The chapters to run: those chosen; else those swept and what builds on them; else all."""
    return [name for name in CHAPTERS
            if (name in chosen if chosen else not swept or {name, BUILDS_ON.get(name)} & swept)]


def _portable(name):
    """A name that a file may have on every system."""
    if len(name) > LONGEST_NAME:
        raise ValueError(f"the folder {name[:40]}... would have a name of {len(name)} characters, "
                         f"at most {LONGEST_NAME} are accepted: sweep fewer parameters at once, "
                         "or give shorter values")
    return re.sub(r"[^\w.,=+-]", "_", name).rstrip(".")


def _chapter(word):
    """The name of the chapter that ``"04"``, ``"4"`` or ``"04_training"`` means."""
    for name in CHAPTERS:
        if word in (name, name[:2], name[:2].lstrip("0")):
            return name
    raise ValueError(f"chapter {word!r} is unknown; accepted are {', '.join(CHAPTERS)}, or their "
                     f"numbers{validation.did_you_mean(word, CHAPTERS)}")


def _assignment(word):
    """``"04_training.seed=7"`` or ``"04.seed=7"`` as ``(("04_training", "seed"), "7")``."""
    parts = re.fullmatch(r"(\w+)\.(\w+)=(.+)", word)
    if parts is None:
        raise ValueError(f"{word!r} is not accepted; give a chapter, a parameter and a value, "
                         "such as 04.seed=7")
    chapter, name, text = _chapter(parts[1]), parts[2], parts[3]
    if name == "lane":
        raise ValueError(f"{word!r} is not accepted; the lane is one for all chapters: give --lane")
    if name not in (declared := parameters_of(chapter)):
        raise ValueError(f"{word!r}: chapter {chapter} declares no parameter {name!r}; "
                         f"it has {', '.join(declared)}{validation.did_you_mean(name, declared)}")
    return (chapter, name), text


def _values(text):
    """``"0..4"`` as five whole numbers, ``"0,0.1,1"`` as three values."""
    span = re.fullmatch(r"(-?\d+)\.\.(-?\d+)", text)
    if span is None:
        return [_value(part) for part in text.split(",")]
    first, last = map(int, span.groups())
    if last < first or last - first >= MOST_JOBS:
        raise ValueError(f"{text!r} is not accepted; give a range from a smaller to a larger "
                         "number, such as 0..4")
    return list(range(first, last + 1))


def _value(text):
    """The number, string, True, False or None that ``text`` denotes, or else ``text`` itself."""
    with contextlib.suppress(ValueError, SyntaxError):
        value = ast.literal_eval(text)
        if value is None or isinstance(value, int | float | str):
            return value
    return text


def code_cells(chapter):
    """A chapter's code cells in order, source and tags of each."""
    path = shipped(f"notebooks/{chapter}.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [("".join(cell["source"]), cell["metadata"].get("tags", []))
            for cell in cells if cell["cell_type"] == "code"]


def parameters_of(chapter):
    """The parameters that a chapter declares, with their defaults."""
    source = next((source for source, tags in code_cells(chapter) if "parameters" in tags), "")
    return {statement.targets[0].id: ast.literal_eval(statement.value)
            for statement in ast.parse(source).body}
