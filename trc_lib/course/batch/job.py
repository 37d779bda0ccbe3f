"""One job, run by a process of its own: ``python -m trc_lib.course.batch.job FOLDER``. It may be killed at any moment and run again.

Beside the executed notebooks its folder gets ``log.txt``, ``stderr.txt``, ``training/`` (checkpoint, history), ``results/``,
``metrics.json``, and ``state.json``: what is finished, and from what it was made.
"""

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
import threading
import time

import papermill
import torch
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from trc_lib import io, validation
from trc_lib.course.batch.plan import BUILDS_ON, Job, code_cells
from trc_lib.course.presets import choose_preset
from trc_lib.course.workspace import RUN_FOLDER, root, shown

# Results that no notebook reads.
NOT_INPUTS = ("course.json", "bench.json", "widgets.json", "store.json", "reliability.json", "gpu.json")


class NotebookFailed(Exception):
    """A cell of a notebook failed; the message names it and ends with the last lines that it said."""


class State:
    """What is known of a job's chapters, in its ``state.json``: ``{name: {"key", "outcome", "seconds", ...}}``."""

    def __init__(self, folder):
        self.path, self.ended, self.chapters, self.died = folder / "state.json", False, {}, ""
        if self.path.exists():
            kept = io.read_json(self.path)
            self.ended, self.chapters, self.died = kept["ended"], kept["chapters"], kept["died"]

    def write(self):
        io.write_json(self.path, {"ended": self.ended, "died": self.died, "chapters": self.chapters})

    def begin(self):
        """Forget how an earlier run ended; what it finished stays."""
        self.ended, self.died = False, ""
        self.chapters = {name: row for name, row in self.chapters.items() if row["outcome"] == "done"}
        self.write()


def prepare(job, force=False):
    """Get a job's folder ready to be run; with ``force``, what an earlier run left there is removed.

    Raises:
        io.Busy: a RuntimeError, if another process is at it.
    """
    with _claimed(job):
        if force and (job.folder / "job.json").exists():
            notebooks = [f"{chapter}.ipynb" for chapter in job.chapters]
            for name in ("state.json", "metrics.json", "log.txt", "stderr.txt", *notebooks):
                (job.folder / name).unlink(missing_ok=True)
            for name in ("training", "results"):
                shutil.rmtree(job.folder / name, ignore_errors=True)
        job.write()
        State(job.folder).begin()


def _claimed(job):
    return io.claimed(job.folder / ".lock", shown(job.folder))


def devices(job):
    """On what the chapters of a finished job were run: "cpu", "cuda", or both."""
    return ", ".join(sorted({row["device"] for row in State(job.folder).chapters.values()}))


def is_finished(job):
    """Whether every chapter of a job is finished, see `run_job`."""
    state = State(job.folder)
    return (job.folder / "metrics.json").exists() and all(
        _is_kept(job.folder, state.chapters.get(name), _key(job, name, parameters, state))
        for name, parameters in job.chapters.items())


def run_job(folder, bars=None, gpus=0):
    """Run the chapters of the job in ``folder``, one after the other; those that are finished are kept.

    Finished means: with the same code, parameters and inputs, and all that it made is still there, unchanged.
    A chapter that fails is noted in ``state.json``.

    Args:
        bars: a stream for progress bars.
        gpus: how many GPUs the job was given; if any, and PyTorch sees none, it fails rather than running on the CPU for hours.

    Raises:
        RuntimeError: if another process is at it, or the kernel of a notebook died.
    """
    job = Job.read(folder)
    with _claimed(job):
        os.environ[RUN_FOLDER] = str(job.folder)          # for the notebooks' kernels
        state = State(job.folder)
        for name, parameters in job.chapters.items():
            lost = [before for before in BUILDS_ON.get(name, ())
                    if before in job.chapters and state.chapters.get(before, {}).get("outcome") != "done"]
            if lost:
                state.chapters[name] = {"outcome": "failed", "error": f"{name} builds on {lost[0]}, which failed"}
                continue
            key = _key(job, name, parameters, state)
            if _is_kept(job.folder, state.chapters.get(name), key):
                _say(job, f"{name}: reused, {shown(job.folder / name)}.ipynb was made with the same code, parameters and inputs")
                continue
            if gpus and not torch.cuda.is_available():
                state.chapters[name] = {"outcome": "failed", "error": (
                    f"{name} was not run: the job was given {gpus} GPU, but PyTorch {torch.__version__} on "
                    f"{socket.gethostname()} sees none; install a PyTorch that fits the driver, or give --gpus 0")}
                break
            state.chapters.pop(name, None)
            state.write()
            if not _run_chapter(job, name, parameters, key, state, bars) and not job.keep_going:
                break
        io.write_json(job.folder / "metrics.json", _metrics(job, state))
        state.ended = True
        state.write()
    return state


def _run_chapter(job, name, parameters, key, state, bars):
    """Run one chapter and note how it ended; returns whether it went well."""
    before, started, row = _made(job.folder), time.perf_counter(), {
        "key": key, "device": validation.device("auto").type}
    _say(job, f"{name}: runs on {socket.gethostname()} with {', '.join(f'{k}={v}' for k, v in parameters.items())}", aloud=False)
    try:
        run_notebook(name, job.folder / f"{name}.ipynb", parameters, bars)
        row["outcome"] = "done"
    except DeadKernelError:
        state.died = f"{name}: its kernel died, most likely for lack of memory (see {shown(job.folder / name)}.ipynb)"
        state.write()
        _say(job, state.died, aloud=False)
        raise RuntimeError(state.died) from None
    except NotebookFailed as error:
        row |= {"outcome": "failed", "error": str(error)}
    row["seconds"] = round(time.perf_counter() - started, 1)
    made = _made(job.folder)
    row["files"] = {path: digest for path, digest in made.items() if before.get(path) != digest}
    state.chapters[name] = row
    state.write()
    if row["outcome"] == "done":
        _say(job, f"{name}: {row['seconds']:.0f} s, kept as {shown(job.folder / name)}.ipynb")
    else:
        _say(job, row["error"], aloud=False)
    return row["outcome"] == "done"


def run_notebook(name, out, parameters, bars=None):
    """Execute one notebook; what it left is at ``out``, whole, also where it failed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    running = out.with_name(f".{out.name}.part.ipynb")
    try:
        papermill.execute_notebook(root() / "notebooks" / f"{name}.ipynb", running, parameters, kernel_name="python3",
                                   cwd=root() / "notebooks", extra_arguments=["--log-level=ERROR"],
                                   progress_bar={"desc": name, "file": bars} if bars and bars.isatty() else False)
    except PapermillExecutionError as error:
        said = [line for text in error.traceback for line in re.sub(r"\x1b\[[\d;]*m", "", text).splitlines() if line.strip()]
        raise NotebookFailed("\n".join([f"{name}, cell {error.exec_count}: {error.ename}: {error.evalue} (see {shown(out)})",
                                        *(f"    {line}" for line in said[-8:])])) from None
    finally:
        if running.exists():
            os.replace(running, out)


def _metrics(job, state):
    """The figures that the notebooks recorded, and what they were made with."""
    lane = choose_preset(job.lane, seed=job.seed)
    kept = sorted((job.folder / "results").glob("*.json"))
    recorded = {path.stem: io.read_json(path) for path in kept if path.stem in job.chapters}
    return {"lane": lane.name, "seed": lane.seed, "num_train": lane.num_train,
            "python": platform.python_version(), "torch": torch.__version__.split("+")[0],
            "seconds": {name: state.chapters[name]["seconds"] for name in job.chapters
                        if state.chapters.get(name, {}).get("outcome") == "done"}, **recorded}


# ---------------------------------------------------------------- what is finished already


def _key(job, name, parameters, state):
    """SHA-256 of all that a chapter's outcome depends on, but for the device: a login node knows the runs of its GPU nodes."""
    library = sorted(path for path in pathlib.Path(validation.__file__).parent.rglob("*") if path.suffix in (".py", ".mplstyle"))
    shipped = [path for folder in ("pretrained", "results") for path in sorted((root() / "data" / folder).rglob("*"))
               if path.is_file() and path.name not in NOT_INPUTS]
    return io.fingerprint({
        "code": [source for source, _ in code_cells(name)], "parameters": parameters,
        "library": [path.read_bytes() for path in library], "inputs": [_digest(path) for path in shipped],
        "python": platform.python_version(), "torch": torch.__version__,
        "before": [state.chapters[before]["key"] for before in BUILDS_ON.get(name, ()) if before in state.chapters]})


def _is_kept(folder, row, key):
    return row is not None and row["outcome"] == "done" and row["key"] == key and all(
        (folder / path).is_file() and _digest(folder / path) == digest for path, digest in row["files"].items())


def _made(folder):
    """What lies in a job's folder, less its own records: ``{path: SHA-256}``."""
    own = {"job.json", "state.json", "metrics.json", "log.txt", "stderr.txt"}
    return {str(path.relative_to(folder)): _digest(path) for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in own and not path.name.startswith(".")}


def _digest(path):
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# ---------------------------------------------------------------- the process


def _say(job, text, aloud=True):
    """One line to the log, with the time, and to the terminal."""
    with open(job.folder / "log.txt", "a", encoding="utf-8") as log:
        log.write(f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}  {text}\n")
    if aloud:
        print(text, flush=True)


def _stop(*_):
    raise KeyboardInterrupt


def _watch_parent():
    """End this process when the one that started it is gone, which closes our standard input."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def main(folder):
    """Run the job in ``folder``, started by `trc_lib.course.batch.engines.Local`; returns the exit code."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    terminal = os.fdopen(os.dup(2), "w")
    with open(pathlib.Path(folder) / "stderr.txt", "a") as stream:
        os.dup2(stream.fileno(), 2)  # what kernels say there, most of all when they are stopped, is for whoever looks for a fault
    threading.Thread(target=_watch_parent, daemon=True).start()
    try:
        run_job(folder, terminal)
    except KeyboardInterrupt:
        return 130
    except RuntimeError as error:
        print(f"error: {error}", file=terminal)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
