"""Strange surroundings: full disks, read-only folders, no HOME, no network, odd paths, two runs at once, a clock set back.

Each is tried on the real thing (a small tmpfs, an empty network namespace), in fresh processes; where that is not permitted
the row says so.
"""

import contextlib
import errno
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from tests import ROOT
from tests.system.torture.kills import WHOLE, hidden
from tests.system.torture.rows import Row
from tests.system.torture.scratch import scratch_course
from trc_lib.data import LQRDataset

LOOPBACK = """
import fcntl, os, socket, struct, sys
with socket.socket() as any_socket:  # papermill talks to its kernel over 127.0.0.1
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
CLOCK = """
import time
real, calls = time.time, iter(range(10**9))
time.time = lambda: real() - 3 * 365 * 86400 - 60 * next(calls)  # three years back, and one minute further at every look
"""


def run(words, cwd=ROOT, env=None, before=(), timeout=300):
    """``python -m trc_lib`` with these words, or ``python`` where they begin with a dash."""
    words = [*before, sys.executable, *([] if words[0].startswith("-") else ["-m", "trc_lib"]), *map(str, words)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} if env is None else env
    return subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)


def generate(folder):
    """The words that make two small datasets."""
    return ["generate", "--num-samples", 128, "--num-eval", 32, "--out", folder]


def train(data, out, epochs=2):
    """The words that train a small network on them."""
    return ["train", "--data", data, "--out", out, "--network", "small", "--epochs", epochs]


def _said(ended):
    return (ended.stderr.strip().splitlines() or ["nothing was said"])[-1][:150]


def _expect(row, word, ended, code=0, message=""):
    """Count one trial: ended with this code, said this, and showed no traceback."""
    fine = ended.returncode == code and re.search(message, ended.stdout + ended.stderr) and "Traceback" not in ended.stderr
    row.add(word, None if fine else f"{word}: exit {ended.returncode}: {_said(ended)}")


@contextlib.contextmanager
def tmpfs(row, options):
    """A small file system of our own; None, and the row says so, where it is not permitted."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, text=True)
        if mounted.returncode:
            row.not_tried = f"no tmpfs can be mounted here: {mounted.stderr.strip()}"
            yield None
            return
        try:
            yield pathlib.Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


FULL = """
import os, pathlib, sys
from trc_lib import io
from trc_lib.data import generate_dataset
from trc_lib.model import TinyRecursiveControl
from trc_lib.training import TrainConfig, train
folder, free = pathlib.Path(sys.argv[1]), [int(word) for word in sys.argv[2:]]
sizes = {"latent_dim": 32, "block_hidden": 32, "head_hidden": 32}
data, model = generate_dataset(1000), TinyRecursiveControl.create_two_level_small(**sizes)

def learn(path):
    train(TinyRecursiveControl.create_two_level_small(**sizes), data, data, TrainConfig(epochs=1), path, "cpu", progress=False)

writers = {"data.npz": data.save, "model.pt": model.save, "run": learn,
           "results.json": lambda path: io.write_json(path, {"text": "x" * 200_000})}
for name, write in writers.items():
    for kilobytes in free:
        path, filler = folder / name, folder / "filler"
        if name != "run":
            path.write_text("old")
        status = os.statvfs(folder)
        with open(filler, "wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, max(1, status.f_bavail * status.f_frsize - 1024 * kilobytes))
        said = "nothing"
        try:
            write(path)
        except OSError as error:
            said = str(error)
        fine = "cannot write" in said and str(path) in said and (name == "run" or path.read_text() == "old")
        left = [one.name for one in folder.rglob(".*")]
        filler.unlink()
        write(path)
        print("fine" if fine and not left else f"{name} with {kilobytes} kB free: said {said}, left {left}")
        if path.is_dir():
            for one in path.iterdir():
                one.unlink()
        else:
            path.unlink()
"""


def full_disk(tries, advance=lambda: None):
    """Every writer on a tmpfs of one megabyte with little left: an error that names the file, and the old one stays."""
    row = Row("surroundings", "full disk (tmpfs of 1 MB)")
    with tmpfs(row, "size=1m") as folder:
        if folder is not None:
            free = [4 * k for k in range(tries)]
            lines = (ended := run(["-c", FULL, folder, *free])).stdout.splitlines()
            for line in lines:
                row.add("refused, then written", None if line == "fine" else line)
            if ended.returncode:
                row.add("", _said(ended))
    advance()
    return row


def read_only(advance=lambda: None):
    """A read-only file system: what writes is refused by name, what reads goes on, a finished training is read."""
    row = Row("surroundings", "read-only folder (tmpfs, for root, too)")
    with tmpfs(row, "size=20m") as folder:
        if folder is not None:
            for words in (generate(folder), train(folder, folder / "run")):
                assert run(words).returncode == 0
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
            named = rf"error: .*cannot write.*{re.escape(str(folder))}.*{os.strerror(errno.EROFS)}"
            _expect(row, "refused", run(generate(folder)), 1, named)
            _expect(row, "refused", run(train(folder, folder / "other")), 1, named)
            _expect(row, "refused", run([*train(folder, folder / "run"), "--fresh"]), 1, named)
            _expect(row, "read", run(train(folder, folder / "run")), 0, "Training complete")
            checkpoint = ["--checkpoint", folder / "run" / "best_model.pt"]
            _expect(row, "read", run(["evaluate", *checkpoint, "--data", folder / "lqr_dataset_eval.npz"]), 0, "success_rate")
    advance()
    return row


def _through(row, word, folder, **options):
    """Data, training, evaluation in a folder, each a process."""
    folder = pathlib.Path(folder)
    _expect(row, word, run(generate(folder), **options), 0, "Datasets saved")
    _expect(row, word, run(train(folder, folder / "run"), **options), 0, "Training complete")
    words = ["evaluate", "--checkpoint", folder / "run" / "best_model.pt", "--data", folder / "lqr_dataset_eval.npz", "--json"]
    _expect(row, word, run(words, **options), 0, '"cycles"')


STOP = "course.load_or_make_datasets(lane)\nraise SystemError('so far')"
STOPPED = r"error: 01_teacher.*SystemError: so far"  # it ran a notebook, which made its datasets and saved its outputs


def no_home(advance=lambda: None):
    """Without HOME, and with one that cannot be made; the course's kernel, too."""
    row = Row("surroundings", "no HOME")
    for home in ({}, {"HOME": "/proc/nowhere"}):
        env = {name: value for name, value in os.environ.items() if name == "PATH"} | {"PYTHONPATH": str(ROOT)} | home
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            _through(row, "went through", folder, env=env)
            ended = run(["course", "--lane", "smoke"], scratch_course(folder / "course", STOP), env)
            _expect(row, "ran a notebook", ended, 1, STOPPED)
            advance()
    return row


def no_network(advance=lambda: None):
    """In a network namespace of its own, where nothing but 127.0.0.1 is there."""
    row = Row("surroundings", "no network (empty namespace)")
    if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
        row.not_tried = "no network namespace can be made here"
        return row
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        before = ["unshare", "-n", sys.executable, "-c", LOOPBACK]

        def alone(words, cwd=ROOT):
            env = os.environ | {"PYTHONPATH": str(ROOT)}
            return subprocess.run([*before, "-m", "trc_lib", *map(str, words)], cwd=cwd, env=env, capture_output=True, text=True)

        _expect(row, "went through", alone(generate(folder)), 0, "Datasets saved")
        _expect(row, "went through", alone(train(folder, folder / "run")), 0, "Training complete")
        _expect(row, "ran a notebook", alone(["course", "--lane", "smoke"], scratch_course(folder / "course", STOP)), 1, STOPPED)
    advance()
    return row


def elsewhere(advance=lambda: None):
    """From another working folder; the course's own files are found all the same."""
    row = Row("surroundings", "another working folder")
    with tempfile.TemporaryDirectory() as folder:
        for cwd in ("/", folder):
            _through(row, "went through", pathlib.Path(folder) / cwd.strip("/").replace("/", "_"), cwd=cwd)
            code = "from trc_lib import course; from trc_lib.course import experiments; course.pretrained(); print(len(experiments.load_results()['variants']))"
            _expect(row, "found its files", run(["-c", code], cwd=cwd), 0, r"\d+")
            advance()
    return row


def odd_paths(advance=lambda: None):
    """Folders with spaces, letters beyond ASCII, quotes, and what shells and patterns take for their own."""
    row = Row("surroundings", "spaces, non-ASCII letters and [*] in paths")
    for name in ("ein Ordner", "Übung – 軌道 ẋ", "it's [a-z]* $HOME \"x\""):
        with tempfile.TemporaryDirectory() as folder:
            odd = pathlib.Path(folder) / name
            odd.mkdir()
            _through(row, "went through", odd)
            _expect(row, "ran a notebook", run(["course", "--lane", "smoke"], scratch_course(odd / "course", STOP)), 1, STOPPED)
            row.add("left nothing", f"{hidden(odd)} was left" if hidden(odd) or hidden(odd / "run") else None)
            advance()
    return row


def encodings(advance=lambda: None):
    """Terminals and pipes that lack letters that are printed: all is printed as far as it can be, and nothing fails."""
    row = Row("surroundings", "output in other encodings")
    given = [{"PYTHONIOENCODING": name} for name in ("latin-1", "ascii", "ascii:strict", "cp1252", "cp437", "koi8-r", "shift_jis", "utf-16")]
    for other in (*given, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **other}
        with tempfile.TemporaryDirectory() as folder:
            folder, raw = pathlib.Path(folder), other.get("PYTHONIOENCODING") == "utf-16"
            for words, word in ((["doctor"], "doctor"), (["--help"], "help"), (generate(folder), "data"), (train(folder, folder / "run"), "training"),
                                (["course", "--lane", "smoke", "--only", "01"], "course")):
                cwd = scratch_course(folder / "course", 'print("±²–→≥")') if word == "course" else ROOT
                ended = subprocess.run([sys.executable, "-m", "trc_lib", *map(str, words)], cwd=cwd, env=env, capture_output=True)
                failed = ended.returncode or b"UnicodeEncodeError" in ended.stderr + (b"" if raw else ended.stdout)
                row.add("printed", f"{other}, {word}: exit {ended.returncode}: {ended.stderr[-150:]!r}" if failed else None)
        advance()
    return row


def installations(advance=lambda: None):
    """Without network, proxy, disk or access: the installation names the remedy, and does not count as done."""
    row = Row("surroundings", "installation without network, disk or access")
    alone = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "PIP_RETRIES": "1", "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
    proxy = {"PIP_INDEX_URL": "https://index.invalid/simple", "HTTPS_PROXY": "http://127.0.0.1:9"}
    for options, word, given, remedy in (("size=60m", "no network", {}, "cannot be reached"), ("size=60m", "no proxy", proxy, "proxy refuses"),
                                         ("size=2m", "full disk", {}, "disk is full"), ("size=60m,ro", "read-only", {}, "cannot be written to")):
        with tmpfs(row, options.removesuffix(",ro")) as folder:
            if folder is None:
                return row
            (folder / "trc_lib" / "course").mkdir(parents=True)
            for name in ("trc_lib/course/install.py", "constraints.txt", "pyproject.toml"):
                shutil.copy(ROOT / name, folder / name)
            if options.endswith(",ro"):
                subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
            env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")} | alone | given
            ended = subprocess.run([sys.executable, folder / "trc_lib" / "course" / "install.py"], env=env, capture_output=True, text=True, cwd="/")
            said = ended.stdout + ended.stderr
            fine = ended.returncode == 1 and remedy in said and "Traceback (most recent call last)" not in ended.stderr and not (folder / ".venv" / "ready").exists()
            row.add(word, None if fine else f"{word}: exit {ended.returncode}: {_said(ended)}")
        advance()
    return row


def foreign_kernels(advance=lambda: None):
    """Kernels called python3 of other environments, first on JUPYTER_PATH: a run uses its own, and a home that cannot be written is none."""
    row = Row("surroundings", "foreign kernels on JUPYTER_PATH")
    specs = {"another Python": {"argv": ["/nowhere/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]},
             "one that ends": {"argv": ["false"]}, "one that waits": {"argv": ["sleep", "600"]}, "another language": {"argv": ["R"], "language": "R"},
             "damaged": "{"}
    for name, spec in specs.items():
        for home in (None, os.devnull):
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                path = folder / "foreign" / "kernels" / "python3" / "kernel.json"
                path.parent.mkdir(parents=True)
                path.write_text(spec if isinstance(spec, str) else json.dumps({"display_name": name, "language": "python"} | spec))
                env = os.environ | {"PYTHONPATH": str(ROOT), "JUPYTER_PATH": str(folder / "foreign")} | ({"HOME": home} if home else {})
                ended = run(["course", "--lane", "smoke", "--only", "01"], scratch_course(folder / "course", "import matplotlib.pyplot"), env)
                _expect(row, "ran its own", ended, 0, "01_teacher: ")
                (kept,) = [path for path in (folder / "course").rglob("01_teacher.ipynb") if "runs" in path.parts]
                row.add("nothing on stderr", "a message in a cell" if '"stderr"' in kept.read_text(encoding="utf-8") else None)
                advance()
    return row


def two_at_once(tries, advance=lambda: None):
    """Two trainings in one folder, started together: one is refused by name or reads the other's result, which is as if alone."""
    row = Row("surroundings", "two runs in one folder at once")
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start(words):
        return subprocess.Popen([sys.executable, "-m", "trc_lib", *map(str, words)], env=env, cwd=ROOT, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for _ in range(tries):
            both = [start(generate(folder / "data")) for _ in range(2)]
            codes = [process.wait() for process in both]
            loaded = [LQRDataset.load(folder / "data" / name).seed for name in ("lqr_dataset.npz", "lqr_dataset_eval.npz")]
            row.add("same datasets", None if codes == [0, 0] and loaded == [0, 1_000_000] and not hidden(folder / "data")
                    else f"generate: exits {codes}, {hidden(folder / 'data')} left")
            alone = run([*train(folder / "data", folder / "alone", 12), "--fresh"])
            assert alone.returncode == 0, alone.stderr
            both = [start(train(folder / "data", folder / "both", 12)) for _ in range(2)]
            ends = [(process.communicate()[1], process.returncode) for process in both]
            refused = [said for said, code in ends if code]
            fine = len(refused) <= 1 and all("is in use by process" in said and "Traceback" not in said for said in refused)
            same = _result(folder / "alone") == _result(folder / "both")
            row.add("one was refused" if refused else "one after the other", None if fine and same and not hidden(folder / "both")
                    else f"train: {[said[-100:] for said in refused]}, {'the same' if same else 'another'} result")
            shutil.rmtree(folder / "both")
            advance()
    return row


def _result(folder):
    """What a training without snapshots left, but for its seconds."""
    return [WHOLE["history.csv"](folder / "history.csv"), WHOLE["best_model.pt"](folder / "best_model.pt").recipe,
            (folder / "best_model.pt").read_bytes()]


def clock_set_back(advance=lambda: None):
    """``time.time`` runs backwards, three years ago, over files from the future: the result is the same, and so is a resume."""
    row = Row("surroundings", "clock set back (time.time patched, files ten years ahead)")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(CLOCK)
        env = os.environ | {"PYTHONPATH": f"{folder / 'site'}:{ROOT}", "OMP_NUM_THREADS": "1"}
        for words in (generate(folder), train(folder, folder / "now", 4)):
            assert run(words).returncode == 0
        before = (folder / "lqr_dataset.npz").read_bytes()
        _expect(row, "data", run(generate(folder), env=env), 0, "Datasets saved")
        row.add("same data", None if (folder / "lqr_dataset.npz").read_bytes() == before else "other bytes")
        _expect(row, "training", run(train(folder, folder / "then", 4), env=env), 0, "Training complete")
        row.add("same training", None if _result(folder / "now") == _result(folder / "then") else "another result")
        for path in folder.rglob("*"):
            os.utime(path, (4e9, 4e9))
        _expect(row, "read again", run(train(folder, folder / "then", 4), env=env), 0, "Training complete")
        _expect(row, "notebook", run(["course", "--lane", "smoke"], scratch_course(folder / "course", STOP), env), 1, STOPPED)
    advance()
    return row


def dead_kernel(tries, advance=lambda: None):
    """The kernel is killed in the middle of a cell: the course says so and names the notebook, which is kept."""
    row = Row("surroundings", "kernel killed during a cell")
    for _ in range(tries):
        with tempfile.TemporaryDirectory() as folder:
            course = scratch_course(pathlib.Path(folder), "import os\nprint('so far')\nos.kill(os.getpid(), 9)")
            ended = run(["course", "--lane", "smoke"], course)
            _expect(row, "named", ended, 1, "error: 01_teacher: its kernel died")
            kept = [path for path in course.rglob("01_teacher.ipynb") if "notebooks" not in path.parts]
            readable = len(kept) == 1 and len(json.loads(kept[0].read_text(encoding="utf-8"))["cells"]) >= 2
            row.add("kept", None if readable and not hidden(kept[0].parent) else "its notebook is not there, or more is")
            advance()
    return row
