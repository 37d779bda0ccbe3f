"""Other systems, simulated here: what Windows forbids, a PyTorch whose device has no float64, a Python without POSIX.

Nothing of this replaces a run on the real ones: `tests/windows.py` and `tests/apple.py` say what is simulated.
"""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import torch

from tests import ROOT
from tests.apple import apple
from tests.notebooks import write_notebook
from tests.system.torture.rows import Row
from tests.windows import WindowsLock, windows
from trc_lib import evaluation, io
from trc_lib.costs import QuadraticCost
from trc_lib.course.batch.job import State, is_finished, prepare, run_job
from trc_lib.course.batch.plan import plan
from trc_lib.data import LQRDataset, generate_dataset, shards
from trc_lib.export import export_onnx
from trc_lib.model import TinyRecursiveControl, TRCConfig
from trc_lib.model.baselines import LinearMap
from trc_lib.systems import DoubleIntegrator, LinearSystem, VanDerPol
from trc_lib.teachers import BoundedMinimumEnergyController, IterativeLQR, MinimumEnergyController
from trc_lib.training import TrainConfig, epochs_kept, train

SMALL = TRCConfig(latent_dim=8, block_hidden=8, head_hidden=8, H_cycles=2, L_cycles=1)


def _train(folder):
    sets = 2 * [generate_dataset(64, 1)]
    train(TinyRecursiveControl(SMALL), *sets, TrainConfig(epochs=2, batch_size=32, snapshot_epochs=(0, 2)), folder, "cpu",
          resume=False, progress=False)


WRITERS = {  # what writes a file into a folder, its name, and what reads it and raises where it is not whole
    "text": (lambda folder: io.write_text(folder / "a.txt", "x₀\n" * 1000), "a.txt",
             lambda path: path.read_bytes().decode().index("x₀\nx₀\n")),
    "results": (lambda folder: io.write_json(folder / "a.json", {"x₀": "Δ"}), "a.json", io.read_json),
    "dataset": (lambda folder: generate_dataset(100, 1).save(folder / "a.npz"), "a.npz", LQRDataset.load),
    "network": (lambda folder: TinyRecursiveControl(SMALL).save(folder / "a.pt"), "a.pt", TinyRecursiveControl.load),
    "ONNX": (lambda folder: export_onnx(TinyRecursiveControl(SMALL), folder / "a.onnx"), "a.onnx",
             lambda path: path.read_bytes().index(b"pytorch")),
    "store": (lambda folder: shards.make(folder, 300, 0, MinimumEnergyController(), 2.5, progress=False), "store.json",
              lambda path: shards.Store(path.parent).read(0)),
    "training": (_train, "last.pt", lambda path: epochs_kept(path.parent)),
}


@contextlib.contextmanager
def _held(path, seconds):
    """The file is open elsewhere for so many seconds."""
    reader = open(path, "rb")
    timer = threading.Timer(seconds, reader.close)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        reader.close()


@contextlib.contextmanager
def _scanned(path, rng):
    """The file is opened for a moment, again and again, as a virus scanner does."""
    ended = threading.Event()

    def scan():
        while not ended.wait(rng.uniform(0, 0.02)):
            with contextlib.suppress(OSError), open(path, "rb"):
                ended.wait(rng.uniform(0, 0.05))

    scanner = threading.Thread(target=scan)
    scanner.start()
    try:
        yield
    finally:
        ended.set()
        scanner.join()


def writers(tries, rng, advance=lambda: None):
    """Every writer, where others read its file or the name is not accepted: the file is new and whole, or as it was."""
    row = Row("platforms", "Windows simulated: every writer, with readers, scanners and names")
    for name, (write, file, whole) in WRITERS.items():
        around = {"alone": contextlib.nullcontext, "a reader": lambda path: _held(path, 0.2),
                  "a scanner": lambda path: _scanned(path, rng)}
        for what, meanwhile in [*list(around.items()) * tries, ("a reader that stays", lambda path: _held(path, 60))]:
            with tempfile.TemporaryDirectory() as folder, windows():
                row.add(*_written(pathlib.Path(folder), name, write, file, whole, what, meanwhile))
            advance()
        for part in ("a:b", "what?", "con", "dot.", "x" * 250):
            with tempfile.TemporaryDirectory() as folder, windows():
                row.add("refused by name", _refused(pathlib.Path(folder, part), write, f"{name} in {part[:10]}"))
            advance()
    return row


def _written(folder, name, write, file, whole, what, meanwhile):
    try:
        write(folder)
        before = (folder / file).read_bytes()
        with meanwhile(folder / file):
            write(folder)
    except PermissionError as error:
        kept = (folder / file).exists() and (folder / file).read_bytes() == before
        fine = what == "a reader that stays" and file in str(error) and kept
        return "refused, the old one kept", None if fine else f"{name}, {what}: {error}"
    try:
        whole(folder / file)
    except Exception as error:
        return "", f"{name}, {what}: {file} is not whole: {error}"
    left = [path.name for path in folder.rglob(".*")]
    return "written", f"{name}, {what}: {left} was left behind" if left or WindowsLock.held else None


def _refused(folder, write, what):
    try:
        write(folder)
    except OSError as error:
        return None if folder.name in str(error) else f"{what}: {error}"
    return f"{what}: accepted"


AT_ONCE = """
import os, sys
from trc_lib.course.batch import job
os.kill = lambda process, signal: os._exit(int(signal))  # as on Windows
sys.exit(job.main(sys.argv[1]))
"""


def ended_at_once(tries, advance=lambda: None):
    """A job whose starter is gone ends at once, in the middle of a cell; its kernel ends, and the next one goes on."""
    row = Row("platforms", "Windows simulated: a job whose starter ends")
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    for _ in range(tries):
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            folder = pathlib.Path(folder).resolve()
            (folder / "notebooks").mkdir()
            (folder / "trc_lib").mkdir()
            mark = folder / "mark"
            cell = (f"import os, pathlib, time\nfirst = not pathlib.Path({str(mark)!r}).exists()\n"
                    f"pathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\ntime.sleep(600 if first else 0)")
            write_notebook(folder / "notebooks" / "04_training.ipynb", "1 + 1")
            write_notebook(folder / "notebooks" / "05_evaluation.ipynb", cell, declared='lane = "cpu"\nseed = 0\ncheckpoint = ""')
            (job,) = plan("smoke", out=folder / "out", only=("04", "05"))
            prepare(job)
            with subprocess.Popen([sys.executable, "-c", AT_ONCE, str(job.folder)], env=env, stdin=subprocess.PIPE,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                while not (mark.exists() and mark.read_text()):
                    time.sleep(0.05)
                process.stdin.close()
                code = process.wait(60)
            row.add("it went on", _went_on(job, code, pathlib.Path("/proc", mark.read_text())))
        advance()
    return row


def _went_on(job, code, kernel):
    """What went wrong, or nothing."""
    for _ in range(100):
        if not kernel.exists():
            break
        time.sleep(0.1)
    else:
        return "its kernel is still there"
    if code != 15:
        return f"it ended with {code}"
    if not State.read(job.folder).is_done("04_training"):
        return "what was finished is lost"
    with contextlib.redirect_stdout(None):
        run_job(job.folder)
    return None if is_finished(job) else "it did not go on"


WITHOUT = """
import importlib, os, pkgutil, signal, sys
import filelock, matplotlib, numpy, papermill, torch  # they see that this is not Windows
for module, names in ((os, "fork forkpty getuid geteuid getgid setsid getpgid killpg sched_getaffinity wait nice"),
                      (signal, "SIGKILL SIGALRM SIGHUP SIGUSR1 SIGUSR2 SIGCONT SIGQUIT SIGPIPE alarm setitimer pthread_kill")):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
import trc_lib
for found in pkgutil.walk_packages(trc_lib.__path__, "trc_lib."):
    try:
        importlib.import_module(found.name)
        print(found.name, "")
    except BaseException as error:
        print(found.name, repr(error))
"""


def without_posix(advance=lambda: None):
    """Every module of the library is imported by a Python without fork, user numbers and most signals."""
    row = Row("platforms", "Windows simulated: modules imported without POSIX functions")
    ended = subprocess.run([sys.executable, "-c", WITHOUT], env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
                           capture_output=True, check=True)
    for line in ended.stdout.splitlines():
        name, _, error = line.partition(" ")
        row.add("imported", f"{name}: {error}" if error else None)
        advance()
    return row


def _apple_cases(data):
    """What is computed from states, controls and a network; each is called with those of the CPU, and of the device."""
    system, teacher = data.system, data.teacher
    bounded = BoundedMinimumEnergyController(DoubleIntegrator(control_limit=100.0))
    eye = torch.eye(2)
    cost = QuadraticCost(eye, [[1.0]], eye)
    iterative, linear = IterativeLQR(VanDerPol(), 15, cost), LinearMap(data)
    return {
        "forward": lambda x0, xT, u, model: model(x0, xT)["controls"],
        "forward of lists": lambda x0, xT, u, model: model(x0.tolist(), xT.tolist())["controls"],
        "solve of a network": lambda x0, xT, u, model: model.solve(x0, xT),
        "evaluate": lambda x0, xT, u, model: evaluation.evaluate(model, data)[-1].final_error_mean,
        "cycle_controls": lambda x0, xT, u, model: evaluation.cycle_controls(model, data),
        "closed_loop": lambda x0, xT, u, model: evaluation.closed_loop(model.solve, system, x0, xT, 15, 5)[0],
        "fingerprint": lambda x0, xT, u, model: int(io.fingerprint(u.cpu()) == io.fingerprint(u)),
        "plain": lambda x0, xT, u, model: torch.tensor(io.plain({"u": u})["u"]),
        "rollout": lambda x0, xT, u, model: system.rollout(x0, u),
        "rollout of another system": lambda x0, xT, u, model: VanDerPol().rollout(x0, u.clamp(-1, 1)),
        "jacobians": lambda x0, xT, u, model: VanDerPol().jacobians(x0, u[:, 0])[0],
        "final_error": lambda x0, xT, u, model: evaluation.final_error(system, x0, xT, u),
        "final_error of lists": lambda x0, xT, u, model: evaluation.final_error(system, x0.tolist(), xT.tolist(), u),
        "decompose_error": lambda x0, xT, u, model: evaluation.decompose_error(system, u, data.controls)[0],
        "measure": lambda x0, xT, u, model: evaluation.measure(data, u).final_error_mean,
        "energy": lambda x0, xT, u, model: teacher.cost(x0, xT, u),
        "cost": lambda x0, xT, u, model: iterative.cost(x0, xT, u),
        "exact teacher": lambda x0, xT, u, model: teacher.solve(x0, xT),
        "bounded teacher": lambda x0, xT, u, model: bounded.solve(x0, xT),
        "iterative teacher": lambda x0, xT, u, model: iterative.try_solve(x0[:2], 0 * xT[:2])[0],
        "linear map": lambda x0, xT, u, model: linear.solve(x0, xT),
        "a system of such matrices": lambda x0, xT, u, model: LinearSystem(x0[:2], xT[:2], 0.1).A,
        "limits of such numbers": lambda x0, xT, u, model: DoubleIntegrator(control_limit=1 + u[0, 0].abs()).bounds[1],
        "a cost of such weights": lambda x0, xT, u, model: QuadraticCost(x0[:2].T @ x0[:2] * 0 + 1 * eye.to(x0), [[1.0]], eye).Q,
        "a dataset of such states": lambda x0, xT, u, model: LQRDataset(x0, xT, u, teacher, 2.5, 2.5, 0).controls,
        "a dataset of such a range": lambda x0, xT, u, model: generate_dataset(10, state_range=1 + x0[0].abs()).controls,
        "save and load": _saved,
        "train": _trained,
    }


def _saved(x0, xT, u, model):
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder + "/model.pt")
        return TinyRecursiveControl.load(folder + "/model.pt").solve(x0.cpu(), xT.cpu())


def _trained(x0, xT, u, model):
    sets = 2 * [generate_dataset(32, 3)]
    return train(model, *sets, TrainConfig(epochs=1), device="cpu", progress=False)["eval_loss"][0]


def apple_gpu(advance=lambda: None):
    """Tensors and networks on a device without float64: the same as on the CPU within 1e-4, or refused by name."""
    row = Row("platforms", "Apple GPU simulated: tensors and networks that lie there")
    data = generate_dataset(20, 5)
    given = [each.float() for each in (data.initial_states, data.target_states, data.controls)]

    def network():
        model = TinyRecursiveControl(SMALL)
        model.set_scaling(data)
        return model.eval()

    for name, compute in _apple_cases(data).items():
        with torch.random.fork_rng(devices=[]):
            expected = torch.as_tensor(compute(*given, network())).double()
        try:
            with apple():
                found = compute(*(each.to("mps") for each in given), network().to("mps"))
                found = torch.as_tensor(found.cpu() if torch.is_tensor(found) else found).double()
            same = torch.allclose(found, expected, rtol=1e-4, atol=1e-4, equal_nan=True)
            row.add("computed", None if same else f"{name}: other numbers")
        except (TypeError, ValueError) as error:
            raw = any(word in str(error) for word in ("MPS", "mps:0", "numpy"))
            row.add("refused by name", f"{name}: {error}" if raw else None)
        except Exception as error:
            row.add("", f"{name}: {type(error).__name__}: {error}")
        advance()
    return row


def other_devices(advance=lambda: None):
    """Each way to name a device, with those that have no float64 or are not there: refused, with what to give."""
    row = Row("platforms", "devices that are not there or have no float64: refused by name")
    data = generate_dataset(20, 5)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/a.pt"
        TinyRecursiveControl(SMALL).save(path)
        takers = {
            "train": lambda device: train(TinyRecursiveControl(SMALL), data, data, TrainConfig(epochs=1), device=device),
            "load": lambda device: TinyRecursiveControl.load(path, device)}
        for device in ("mps", "mps:0", "xpu", "hpu", "meta", "npu", "gpu", "cuda:99", "CUDA", "", 0, None):
            for name, take in takers.items():
                try:
                    take(device)
                    row.add("", f"{name} on {device!r}: accepted")
                except ValueError as error:
                    row.add("refused by name", None if f"device={device!r}" in str(error) and "cpu" in str(error)
                            else f"{name} on {device!r}: {error}")
                except Exception as error:
                    row.add("", f"{name} on {device!r}: {type(error).__name__}: {error}")
                advance()
    return row
