"""What a batch run is to do: which chapters, with which parameters, in which folders; refused here where it makes no sense."""

import ast
import contextlib
import dataclasses
import itertools
import json
import pathlib
import re
from io import StringIO

from trc_lib import io
from trc_lib.course.workspace import root

CHAPTERS = ("01_teacher", "02_dataset", "03_model", "04_training", "05_evaluation", "06_does_recursion_help",
            "07_bounded_inputs", "08_van_der_pol")
BUILDS_ON = {"05_evaluation": ("04_training",)}  # in a batch run, chapter 5 judges what chapter 4 has trained
MOST_JOBS = 10_000


@dataclasses.dataclass(frozen=True)
class Job:
    """Some chapters, with one setting of their parameters, and a folder of their own.

    Attributes:
        folder: where the executed notebooks, the log, the checkpoint and the figures go.
        lane: its name.
        seed: that of the whole run; a chapter's own parameters may differ.
        chapters: in their order, ``{name: parameters}``.
        swept: the parameters in which this job differs from the others of its grid, ``{"04.seed": 1}``.
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
        """Leave it in its folder, for the process that will run it; what an earlier run finished there is kept."""
        described = {"lane": self.lane, "seed": self.seed, "chapters": self.chapters, "swept": self.swept,
                     "keep_going": self.keep_going}
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
        out: folder for it all; a grid gets a folder in it for each job. ``runs/<lane>`` if not given.
        only: chapters, as ``"04"`` or ``"04_training"``; all if empty, or in a sweep those swept and those that build on them.
        settings: words such as ``"04.epochs=20"``.
        sweeps: words such as ``"04.seed=0..4"`` or ``"04.cycle_weight=0,0.1,1"``; the grid is all their combinations.

    Raises:
        ValueError: for a chapter that there is not, a parameter that it does not declare, or a value that it refuses.
    """
    if out is None and (settings or sweeps):
        raise ValueError("out is needed with settings or sweeps; give --out, a folder for the runs")
    fixed = {key: _value(text) for key, text in map(_assignment, settings)}
    axes = {key: _values(text) for key, text in map(_assignment, sweeps)}
    both = sorted(f"{chapter[:2]}.{name}" for chapter, name in fixed.keys() & axes.keys())
    if both:
        raise ValueError(f"{', '.join(both)} is set and swept; give it once")
    chapters = [_chapter(word) for word in only]
    if not chapters:
        swept = {chapter for chapter, _ in axes}
        chapters = [name for name in CHAPTERS if not axes or name in swept or swept & set(BUILDS_ON.get(name, ()))]
    for chapter, name in (*fixed, *axes):
        if chapter not in chapters:
            raise ValueError(f"{chapter[:2]}.{name} is given, but chapter {chapter} is not run; add it to --only")
    size = 1
    for values in axes.values():
        size *= len(values)
    if size > MOST_JOBS:
        raise ValueError(f"sweeps make {size:,} jobs; at most {MOST_JOBS:,} are accepted")
    folder = root() / "runs" / (lane if seed == 0 else f"{lane}-seed-{seed}") if out is None else pathlib.Path(out).resolve()
    jobs = []
    for values in itertools.product(*axes.values()):
        swept = dict(zip(axes, values))
        words = {f"{chapter[:2]}.{name}": value for (chapter, name), value in swept.items()}
        job = Job(folder / _folder_name(words) if axes else folder, lane, seed, {}, words, keep_going)
        for chapter in sorted(set(chapters), key=CHAPTERS.index):
            job.chapters[chapter] = {"lane": lane, "seed": seed}
        if "05_evaluation" in job.chapters and ("04_training" in job.chapters or job.checkpoint.exists()):
            job.chapters["05_evaluation"]["checkpoint"] = "trained"  # by chapter 4, in this very folder
        for (chapter, name), value in (fixed | swept).items():
            job.chapters[chapter][name] = value
        jobs.append(job)
    if len({job.folder for job in jobs}) < len(jobs):
        raise ValueError("sweeps give the same value twice; each combination is one job")
    _check(jobs)
    return jobs


def _chapter(word):
    found = [name for name in CHAPTERS if word in (name, name[:2])]
    if not found:
        raise ValueError(f"chapter {word!r} is unknown; accepted are {', '.join(name[:2] for name in CHAPTERS)}")
    return found[0]


def _assignment(word):
    """``"04.seed=7"`` as ``(("04_training", "seed"), "7")``."""
    parts = re.fullmatch(r"(\w+)\.(\w+)=(.+)", word)
    if parts is None:
        raise ValueError(f"{word!r} is not accepted; give a chapter, a parameter and a value, such as 04.seed=7")
    chapter, name, text = parts.groups()
    chapter = _chapter(chapter)
    if name == "lane":
        raise ValueError(f"{word!r} is not accepted; the lane is one for all chapters: give --lane")
    declared = parameters_of(chapter)
    if name not in declared:
        raise ValueError(f"{word!r}: chapter {chapter} declares no parameter {name!r}; it has {', '.join(declared)}")
    return (chapter, name), text


def _values(text):
    """``"0..4"`` as five whole numbers, ``"0,0.1,1"`` as three values."""
    span = re.fullmatch(r"(-?\d+)\.\.(-?\d+)", text)
    if span is None:
        return [_value(part) for part in text.split(",")]
    first, last = map(int, span.groups())
    if last < first or last - first >= MOST_JOBS:
        raise ValueError(f"{text!r} is not accepted; give a range from a smaller to a larger number, such as 0..4")
    return list(range(first, last + 1))


def _value(text):
    """A number, True, False or None where it reads as one; otherwise the text itself."""
    with contextlib.suppress(ValueError, SyntaxError):
        value = ast.literal_eval(text)
        if value is None or isinstance(value, int | float | str):
            return value
    return text


def _folder_name(words):
    return ",".join(f"{key}={value}" for key, value in words.items()).replace("/", "_")


# ---------------------------------------------------------------- what a notebook accepts


def code_cells(chapter):
    """A chapter's code cells in order, source and tags of each."""
    path = root() / "notebooks" / f"{chapter}.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [("".join(cell["source"]), cell["metadata"].get("tags", [])) for cell in cells]


def parameters_of(chapter):
    """The parameters that a chapter declares, with their defaults."""
    source = next((source for source, tags in code_cells(chapter) if "parameters" in tags), "")
    return {statement.targets[0].id: ast.literal_eval(statement.value) for statement in ast.parse(source).body}


def _check(jobs):
    """Let every chapter judge the parameters that it is to get, before anything starts."""
    judged = set()
    for job in jobs:
        for chapter, parameters in job.chapters.items():
            given = (chapter, repr(parameters))
            if given not in judged:
                judged.add(given)
                _check_one(chapter, parameters)


def _check_one(chapter, parameters):
    declared = parameters_of(chapter)
    for name, value in parameters.items():
        default = declared.get(name)
        numbers = isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool)
        if default is not None and type(value) is not type(default) and not numbers:
            raise ValueError(f"{chapter[:2]}.{name}={value!r} is not accepted; it needs a value like {default!r}")
    cells = code_cells(chapter)
    after = next(i for i, (_, tags) in enumerate(cells) if "parameters" in tags) + 1
    names = declared | parameters
    try:  # the cell after the parameters is the notebook's own check: what it refuses there, it refuses here
        with contextlib.redirect_stdout(StringIO()):
            exec(compile(cells[after][0], f"{chapter}.ipynb", "exec"), names)
    except (TypeError, ValueError) as error:
        raise ValueError(f"chapter {chapter}: {error}") from None
