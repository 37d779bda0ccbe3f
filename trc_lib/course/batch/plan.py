"""What a batch run consists of: the chapters, their parameters and folders, checked in advance."""

import ast
import contextlib
import dataclasses
import itertools
import json
import math
import pathlib
import re
from io import StringIO

from trc_lib import io
from trc_lib.course.places import root, shipped

CHAPTERS = ("01_teacher", "02_dataset", "03_model", "04_training", "05_evaluation",
            "06_does_recursion_help", "07_bounded_inputs", "08_van_der_pol",
            "09_your_own_system")
BUILDS_ON = {"05_evaluation": "04_training"}  # chapter 5 evaluates what chapter 4 trained
MOST_JOBS = 10_000


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
        raise ValueError("out is needed with settings or sweeps; give --out, a folder for the runs")
    fixed = {key: _value(text) for key, text in map(_assignment, settings)}
    axes = {key: _values(text) for key, text in map(_assignment, sweeps)}
    if fixed.keys() & axes.keys():
        both = ", ".join(sorted(fixed.keys() & axes.keys()))
        raise ValueError(f"{both} is set and swept; give it once")
    if (size := math.prod(map(len, axes.values()))) > MOST_JOBS:
        raise ValueError(f"sweeps make {size:,} jobs; at most {MOST_JOBS:,} are accepted")
    chosen, swept = set(map(_chapter, only)), {_chapter(key[:2]) for key in axes}
    chapters = [name for name in CHAPTERS if name in chosen or (not chosen and (
        not axes or name in swept or BUILDS_ON.get(name) in swept))]
    for key in (*fixed, *axes):
        if _chapter(key[:2]) not in chapters:
            raise ValueError(f"{key} is given, but chapter {_chapter(key[:2])} is not run; "
                             "add it to --only")
    name = lane if seed == 0 else f"{lane}-seed-{seed}"
    folder = root() / "runs" / name if out is None else pathlib.Path(out).resolve()
    jobs = []
    for values in itertools.product(*axes.values()):
        given = dict(zip(axes, values))
        name = ",".join(f"{key}={value}" for key, value in given.items()).replace("/", "_")
        job = Job(folder / name, lane, seed, {chapter: {"lane": lane, "seed": seed}
                                              for chapter in chapters}, given, keep_going)
        if "05_evaluation" in chapters and ("04_training" in chapters or job.checkpoint.exists()):
            job.chapters["05_evaluation"]["checkpoint"] = "trained"  # by this job
        for key, value in (fixed | given).items():
            job.chapters[_chapter(key[:2])][key[3:]] = value
        jobs.append(job)
    if len({job.folder for job in jobs}) < len(jobs):
        raise ValueError("sweeps give the same value twice; each combination is one job")
    different = {repr(item): item for job in jobs for item in job.chapters.items()}
    for chapter, parameters in different.values():
        _check(chapter, parameters)
    return jobs


def _chapter(word):
    for name in CHAPTERS:
        if word in (name, name[:2]):
            return name
    numbers = ", ".join(name[:2] for name in CHAPTERS)
    raise ValueError(f"chapter {word!r} is unknown; accepted are {numbers}")


def _assignment(word):
    """``"04_training.seed=7"`` or ``"04.seed=7"`` as ``("04.seed", "7")``."""
    parts = re.fullmatch(r"(\w+)\.(\w+)=(.+)", word)
    if parts is None:
        raise ValueError(f"{word!r} is not accepted; give a chapter, a parameter and a value, "
                         "such as 04.seed=7")
    chapter, name, text = _chapter(parts[1]), parts[2], parts[3]
    if name == "lane":
        raise ValueError(f"{word!r} is not accepted; the lane is one for all chapters: give --lane")
    declared = parameters_of(chapter)
    if name not in declared:
        raise ValueError(f"{word!r}: chapter {chapter} declares no parameter {name!r}; "
                         f"it has {', '.join(declared)}")
    return f"{chapter[:2]}.{name}", text


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


def _check(chapter, parameters):
    """Raise ValueError if the chapter does not accept the parameters."""
    declared = parameters_of(chapter)
    for name, value in parameters.items():
        default = declared.get(name)
        accepted = (int, float) if isinstance(default, float) else (type(default),)
        if default is not None and type(value) not in accepted:
            raise ValueError(f"{chapter[:2]}.{name}={value!r} is not accepted; "
                             f"it needs a value like {default!r}")
    cells = code_cells(chapter)
    after = next(i for i, (_, tags) in enumerate(cells) if "parameters" in tags) + 1
    try:  # the cell after the parameters is the notebook's own check of them
        with contextlib.redirect_stdout(StringIO()):
            exec(compile(cells[after][0], f"{chapter}.ipynb", "exec"), declared | parameters)
    except (TypeError, ValueError) as error:
        raise ValueError(f"chapter {chapter}: {error}") from None
