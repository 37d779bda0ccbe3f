"""One job, run by a process of its own: ``python -m trc_lib.course.batch.job FOLDER``.

It may be killed at any moment and run again. Beside the executed notebooks its folder gets
``log.txt``, ``stderr.txt``, ``training/`` (checkpoint, history), ``results/``, ``metrics.json``,
and ``state.json``: what is finished, and from what it was made.
"""

import dataclasses
import datetime
import hashlib
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time

import papermill
import torch
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

import trc_lib
from trc_lib import io, validation
from trc_lib.course import console, kernel
from trc_lib.course.batch.plan import BUILDS_ON, Job, code_cells
from trc_lib.course.places import shipped, shown
from trc_lib.course.presets import PRESETS
from trc_lib.course.workspace import RUN_FOLDER

RECORDS = ("job.json", "state.json", "metrics.json", "log.txt", "stderr.txt")  # of the job itself
# Results that no notebook reads.
NOT_INPUTS = ("course.json", "bench.json", "widgets.json", "store.json", "reliability.json",
              "gpu.json")


class NotebookFailed(Exception):
    """A cell of a notebook failed; the message names it and ends with its last lines of output."""


@dataclasses.dataclass
class State:
    """What is known of a job, as in its ``state.json``.

    Attributes:
        ended: whether its process came to the end of its chapters.
        died: why a kernel died; empty if none did.
        chapters: ``{name: {"outcome": "done" or "failed", ...}}``. Done also has the key and the
            device that it was made with, its seconds, and the files that it made; failed the error.
    """

    ended: bool = False
    died: str = ""
    chapters: dict = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, folder):
        path = folder / "state.json"
        return cls(**io.read_json(path)) if path.exists() else cls()

    def write(self, folder):
        io.write_json(folder / "state.json", dataclasses.asdict(self))

    def is_done(self, chapter):
        return self.chapters.get(chapter, {}).get("outcome") == "done"


def prepare(job, force=False):
    """Make a job's folder ready for a run; with ``force``, remove what an earlier run left there.

    Raises:
        io.Busy: a RuntimeError, if another process runs the job.
    """
    with _claimed(job):
        if force and (job.folder / "job.json").exists():
            for name in (*RECORDS, *(f"{chapter}.ipynb" for chapter in job.chapters)):
                io.remove(job.folder / name)
            for name in ("training", "results"):
                if (job.folder / name).exists():
                    shutil.rmtree(job.folder / name)
        job.write()
        chapters = State.read(job.folder).chapters
        kept = {name: row for name, row in chapters.items() if row["outcome"] == "done"}
        State(chapters=kept).write(job.folder)


def _claimed(job):
    return io.claimed(job.folder / ".lock", shown(job.folder))


def devices(job):
    """The devices on which the chapters of a finished job were run, such as ``"cpu, cuda"``."""
    chapters = State.read(job.folder).chapters
    return ", ".join(sorted({chapters[name]["device"] for name in job.chapters}))


def is_finished(job):
    """Whether every chapter of a job is finished, see `run_job`."""
    state = State.read(job.folder)
    return (job.folder / "metrics.json").exists() and all(
        _is_kept(job.folder, state, name, _key(name, parameters, state))
        for name, parameters in job.chapters.items())


def run_job(folder, bars=None, gpus=0):
    """Run the chapters of the job in ``folder``, one after the other; those finished are kept.

    Finished means: with the same code, parameters and inputs, and every file that it made is still
    there, unchanged. A chapter that fails is noted in ``state.json``.

    Args:
        bars: a stream for progress bars.
        gpus: how many GPUs the job was given; if any, and PyTorch sees none, it fails rather than
            run on the CPU for hours.

    Returns:
        the `State`.

    Raises:
        RuntimeError: if another process runs the job, or the kernel of a notebook died.
    """
    job = Job.read(folder)
    with (_claimed(job),  # a kernel may still have files open; Windows does not remove those
          tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch):
        # For the notebooks' kernels.
        os.environ |= {RUN_FOLDER: str(job.folder), **kernel.environment(scratch)}
        state = State.read(job.folder)
        for name, parameters in job.chapters.items():
            before = BUILDS_ON.get(name)
            if before in job.chapters and not state.is_done(before):
                state.chapters[name] = _failed(f"{name} builds on {before}, which failed")
                continue
            key = _key(name, parameters, state)
            if _is_kept(job.folder, state, name, key):
                _say(job, f"{name}: reused, {shown(job.folder / name)}.ipynb was made with "
                          "the same code, parameters and inputs")
                continue
            if gpus and not torch.cuda.is_available():
                state.chapters[name] = _failed(
                    f"{name} was not run: the job was given {gpus} GPU, but PyTorch "
                    f"{torch.__version__} on {socket.gethostname()} sees none; "
                    "install a PyTorch that fits the driver, or give --gpus 0")
                break
            state.chapters.pop(name, None)
            state.write(job.folder)
            _run_chapter(job, name, key, state, bars)
            if not state.is_done(name) and not job.keep_going:
                break
        io.write_json(job.folder / "metrics.json", _metrics(job, state))
        state.ended = True
        state.write(job.folder)
    return state


def _failed(error):
    return {"outcome": "failed", "error": error}


def _run_chapter(job, name, key, state, bars):
    """Run one chapter and note how it ended."""
    parameters, notebook = job.chapters[name], f"{shown(job.folder / name)}.ipynb"
    given = ", ".join(f"{word}={value}" for word, value in parameters.items())
    _say(job, f"{name}: runs on {socket.gethostname()} with {given}")
    files, started = _files(job.folder), time.perf_counter()
    try:
        run_notebook(name, job.folder / f"{name}.ipynb", parameters, bars)
        seconds = round(time.perf_counter() - started, 1)
        made = dict(sorted(_files(job.folder).items() - files.items()))
        state.chapters[name] = {"outcome": "done", "key": key, "files": made, "seconds": seconds,
                                "device": validation.device("auto").type}
        _say(job, f"{name}: {seconds:.0f} s, kept as {notebook}")
    except NotebookFailed as error:
        state.chapters[name] = _failed(str(error))
        _say(job, str(error), aloud=False)
    except DeadKernelError:
        state.died = f"{name}: its kernel died, most likely for lack of memory (see {notebook})"
        _say(job, state.died, aloud=False)
        raise RuntimeError(state.died) from None
    except Exception as error:  # of Jupyter, of the disk
        state.chapters[name] = _failed(f"{name} could not be run: {str(error) or repr(error)}; "
                                       "python -m trc_lib doctor says what is missing")
        _say(job, state.chapters[name]["error"], aloud=False)
    finally:
        state.write(job.folder)


def run_notebook(name, out, parameters, bars=None):
    """Execute one notebook and keep it as ``out``, whole, also where a cell failed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    running = out.with_name(f".{out.name}.part.ipynb")
    notebooks = shipped("notebooks")
    try:
        papermill.execute_notebook(
            notebooks / f"{name}.ipynb", running, parameters, kernel_name="python3", cwd=notebooks,
            progress_bar={"desc": name, "file": bars} if bars and bars.isatty() else False)
    except PapermillExecutionError as error:
        plain = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback))  # without colours
        last = [f"    {line}" for line in plain.splitlines()
                if line.strip(" -") and "Traceback (most recent call last)" not in line][-8:]
        where = f"{name}, cell {error.exec_count}: {error.ename}: {error.evalue} (see {shown(out)})"
        raise NotebookFailed("\n".join([where, *last])) from None
    finally:
        if running.exists():
            io.replace(running, out)


def _metrics(job, state):
    """The figures that the notebooks recorded, and what they were made with."""
    paths = {name: job.folder / "results" / f"{name}.json" for name in job.chapters}
    return {"lane": job.lane, "seed": job.seed, "num_train": PRESETS[job.lane].num_train,
            "python": platform.python_version(), "torch": torch.__version__.split("+")[0],
            "seconds": {name: state.chapters[name]["seconds"] for name in job.chapters
                        if state.is_done(name)},
            **{name: io.read_json(path) for name, path in paths.items() if path.exists()}}


def _key(name, parameters, state):
    """SHA-256 of all that a chapter's outcome depends on.

    The device is left out: a login node shall recognise what its GPU nodes have finished.
    """
    library = pathlib.Path(trc_lib.__file__).parent
    files = [path for path in library.rglob("*") if path.suffix in (".py", ".mplstyle")]
    files += [path for folder in ("pretrained", "results")
              for path in shipped(f"data/{folder}").rglob("*")
              if path.is_file() and path.name not in NOT_INPUTS]
    return io.fingerprint({
        "code": [source for source, _ in code_cells(name)], "parameters": parameters,
        "files": sorted(map(_digest, files)),
        "python": platform.python_version(), "torch": torch.__version__,
        "before": state.chapters.get(BUILDS_ON.get(name), {}).get("key")})


def _is_kept(folder, state, name, key):
    return state.is_done(name) and state.chapters[name]["key"] == key and (
        state.chapters[name]["files"].items() <= _files(folder).items())


def _files(folder):
    """The files in a job's folder, without its records: ``{path: SHA-256}``."""
    return {path.relative_to(folder).as_posix(): _digest(path) for path in folder.rglob("*")
            if path.is_file() and path.name not in RECORDS and not path.name.startswith(".")}


def _digest(path):
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _say(job, text, aloud=True):
    """Write one line to the log, with the time, and to the terminal."""
    with open(job.folder / "log.txt", "a", encoding="utf-8") as log:
        log.write(f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}  {text}\n")
    if aloud:
        print(text, flush=True)


def _stop(*_):
    raise KeyboardInterrupt


def _watch_parent():
    """End this process when the one that started it has ended, which closes standard input.

    On Windows SIGTERM is no signal but the end, at once; the kernel sees it and ends too.
    """
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def main(folder):
    """Run the job in ``folder`` for `trc_lib.course.batch.engines.Local`; returns the exit code."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    console.prepare()
    terminal = os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors)
    with open(pathlib.Path(folder) / "stderr.txt", "ab") as stream:
        os.dup2(stream.fileno(), 2)  # where the kernels' messages go: they are for debugging
    threading.Thread(target=_watch_parent, daemon=True).start()
    try:
        run_job(folder, terminal)
    except KeyboardInterrupt:
        return 130
    except (OSError, RuntimeError) as error:
        print(f"error: {error}", file=terminal)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
