"""Whether all that the course needs is here: a line for each thing, and a remedy if it is missing.

What is checked is imported inside its check, so that its absence is reported.
"""

import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile

from trc_lib.course import install, kernel
from trc_lib.course.places import FOLDER, root, shipped, shown

NETWORKS = 13  # shipped in data/pretrained
CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = shlex.quote(sys.executable) if os.name != "nt" else f'"{sys.executable}"'
NOTEBOOK = """
import sys
import ipywidgets, matplotlib.pyplot, numpy, scipy.optimize, torch
import trc_lib.course.experiments, trc_lib.course.plots, trc_lib.course.widgets
trc_lib.course.pretrained()
print(sys.prefix)
"""
KERNEL = f"""
import sys
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name="python3")
reply = client.execute_interactive({NOTEBOOK!r}, timeout=100)["content"]
client.stop_channels()
manager.shutdown_kernel(now=True)
sys.exit(f"{{reply['ename']}}: {{reply['evalue']}}" if reply["status"] == "error" else 0)
"""


def diagnose():
    """All checks, a list of (name, passed, what was found, remedy).

    ``passed`` is None for what the course can do without.
    """
    other = install.environment_elsewhere()
    if other and not importlib.util.find_spec("torch"):
        return [("Python", False, f"{sys.executable}; the course is installed in another",
                 f"source .venv/bin/activate, or use {other}")]
    folders = (root() / name for name in ("data", "runs"))
    return [_python(), *_packages(), _device(), _networks(), _notebooks(), _kernel(),
            _other_jupyter(), *map(_writable, folders), _disk()]


def report(checks, say=print):
    """Say OK or FAIL for each check, with the remedy; return whether all passed."""
    for name, passed, found, remedy in checks:
        verdict = {True: "OK  ", False: "FAIL", None: "--  "}[passed]
        say(f"{verdict}  {name:22s} {found}"
            + (f"   -> {remedy}" if remedy and not passed else ""))
    failed = sum(passed is False for _, passed, _, _ in checks)
    say(f"{failed} of {len(checks)} checks failed" if failed else "all is well")
    return not failed


def _python():
    return ("Python", sys.version_info >= install.OLDEST,
            f"{platform.python_version()} (needs {install.dotted(install.OLDEST)} or newer)",
            "install a newer Python, then: make clean course")


def _reinstall(path):
    """How a file that comes with the course is had again."""
    if (CHECKOUT / ".git").exists():
        return f"git checkout -- {path}"
    return "download the course again" if (CHECKOUT / "Makefile").exists() else (
        "install the package again, with pip install --force-reinstall --no-deps")


def _packages():
    """Each package that pyproject.toml names, against its range; those of extras may be missing."""
    try:
        from packaging.requirements import Requirement

        lines = importlib.metadata.requires("trc_lib")
    except (ImportError, importlib.metadata.PackageNotFoundError) as error:
        script = pathlib.Path(install.__file__)
        yield "packages", False, f"not installed: {error}", (
            f"{PYTHON} {shlex.quote(str(script))}" if (CHECKOUT / "Makefile").exists()
            else f"{PYTHON} -m pip install packaging")
        return
    for requirement in map(Requirement, lines):
        extra = re.search(r"extra == .(\w+)", str(requirement.marker))
        try:
            version = importlib.metadata.version(requirement.name)
            passed = requirement.specifier.contains(version, prereleases=True)
        except importlib.metadata.PackageNotFoundError:
            version, passed = "not installed", False
        use = {"export": ", for ONNX files only"}.get(extra[1], ", for the tests only") if extra \
            else ""
        yield (requirement.name, passed or (None if extra else False),
               f"{version} (needs {requirement.specifier}{use})",
               "" if extra else
               f'{PYTHON} -m pip install "{requirement.name}{requirement.specifier}"')


def _device():
    try:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        ones = torch.ones(8, 8, dtype=torch.float64, device=device)
        name = (torch.cuda.get_device_name() if device == "cuda"
                else f"{torch.get_num_threads()} threads")
        return ("device", float((ones @ ones).sum()) == 512, f"{device} ({name}){_unused(torch)}",
                "give device='cpu', or repair the CUDA driver")
    except Exception as error:  # missing, installed by half, or without a system library
        remedy = f"{PYTHON} -m pip install --force-reinstall torch"
        if os.name == "nt" and isinstance(error, OSError):
            remedy = "install https://aka.ms/vs/17/release/vc_redist.x64.exe, then start anew"
        elif "CUDA" in str(error):
            remedy = "repair the CUDA driver, or set CUDA_VISIBLE_DEVICES=-1 to use the CPU"
        return "device", False, str(error).splitlines()[0], remedy


def _unused(torch):
    """What is said of a GPU that is here and not used."""
    if torch.cuda.is_available():
        return ""
    if torch.backends.mps.is_available():
        return "; the Apple GPU is not used: it has no double precision"
    return "; PyTorch does not use the NVIDIA GPU" if install.has_nvidia_driver() else ""


def _networks():
    folder = shipped("data/pretrained")
    files = sorted(folder.rglob("*.pt"))
    try:
        damaged = [path for path in files if zipfile.ZipFile(path).testzip()]
    except (zipfile.BadZipFile, OSError):
        damaged = [path for path in files if not zipfile.is_zipfile(path)]
    sound = len(files) - len(damaged)
    return ("shipped networks", sound >= NETWORKS, f"{sound} of {NETWORKS} in {shown(folder)}",
            _reinstall("data/pretrained"))


def _notebooks():
    folder = shipped("notebooks")
    files, damaged = sorted(folder.glob("[0-9]*.ipynb")), []
    for path in files:
        try:
            json.loads(path.read_text(encoding="utf-8"))["cells"]
        except (ValueError, KeyError, OSError):
            damaged.append(path)
    first = f"notebooks/{damaged[0].name}" if damaged else "notebooks"
    return ("notebooks", len(files) >= 9 and not damaged,
            f"{len(files) - len(damaged)} of {max(9, len(files))} in {shown(folder)}",
            _reinstall(first))


def _kernel():
    """Start a kernel as the course does, and run there what a notebook begins with."""
    remedy = "mend what fails above; where nothing does, install the course anew"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            done = subprocess.run([sys.executable, "-c", KERNEL], capture_output=True, text=True,
                                  encoding="utf-8", errors="replace", timeout=120,
                                  env=os.environ | kernel.environment(folder)
                                  | {"PYTHONIOENCODING": "utf-8"})
        except subprocess.TimeoutExpired:
            return ("notebook kernel", False, "no answer for two minutes",
                    "let Python connect to itself on 127.0.0.1: a firewall may prevent it")
    if done.returncode:
        return "notebook kernel", False, (done.stderr.strip() or "it died").splitlines()[-1], remedy
    prefix = done.stdout.strip()
    found = "this Python, with all that a notebook needs"
    return ("notebook kernel", prefix == sys.prefix,
            found if prefix == sys.prefix else f"it is {prefix}", remedy)


def _other_jupyter():
    """Which Python a Jupyter runs that the course has not started."""
    try:
        from jupyter_client.kernelspec import KernelSpecManager

        command = KernelSpecManager().get_kernel_spec("python3").argv[0]
        # A bare "python" is replaced by the running interpreter when the kernel is started.
        here = os.path.dirname(command) in ("", os.path.dirname(sys.executable))
    except Exception as error:  # missing package, missing or unreadable kernelspec
        command, here = str(error), False
    return ("kernel elsewhere", here or None,
            f"python3 is {'this Python' if here else command} for a Jupyter of your own",
            f"open the course with {PYTHON} -m trc_lib lab")


def _existing(path):
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _writable(path):
    existing = _existing(path)
    remedy = f"make {existing} writable, or set {FOLDER} to a folder of your own"
    try:
        with tempfile.TemporaryFile(dir=existing):
            return f"write access {path.name}/", True, "yes", remedy
    except OSError as error:
        return f"write access {path.name}/", False, str(error), remedy


def _disk():
    free = shutil.disk_usage(_existing(root())).free / 1e9
    return ("free disk", free > 0.5, f"{free:.1f} GB for {root()} (needs 0.5)",
            f"free some, or set {FOLDER} to a folder on another disk")
