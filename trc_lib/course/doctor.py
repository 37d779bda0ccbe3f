"""Whether all that the course needs is here: a line for each thing, and a remedy if it is missing.

What is checked is imported inside its check, so that its absence is reported.
"""

import importlib.metadata
import os
import platform
import sys
import tempfile

from trc_lib.course.places import root


def diagnose():
    """All checks, a list of (name, passed, what was found, remedy)."""
    folders = (root() / name for name in ("data", "runs", "figures"))
    return [_python(), *_packages(), _device(), _kernelspec(), *map(_writable, folders)]


def report(checks, say=print):
    """Say OK or FAIL for each check, with the remedy; return whether all passed."""
    for name, passed, found, remedy in checks:
        say(f"{'OK  ' if passed else 'FAIL'}  {name:22s} {found}"
            + ("" if passed else f"   -> {remedy}"))
    failed = sum(not passed for _, passed, _, _ in checks)
    say(f"{failed} of {len(checks)} checks failed" if failed else "all is well")
    return not failed


def _python():
    return ("Python", sys.version_info >= (3, 11),
            f"{platform.python_version()} (needs 3.11 or newer)",
            "install a newer Python, then: make clean course")


def _packages():
    """Each package that pyproject.toml names, also for the tests, against its range."""
    install = "pip install -c constraints.txt -e '.[test,browser,export,dev]'"
    try:
        from packaging.requirements import Requirement

        lines = importlib.metadata.requires("trc_lib")
    except (ImportError, importlib.metadata.PackageNotFoundError) as error:
        yield "packages", False, f"not installed: {error}", install
        return
    for requirement in map(Requirement, lines):
        try:
            version = importlib.metadata.version(requirement.name)
            passed = requirement.specifier.contains(version, prereleases=True)
        except importlib.metadata.PackageNotFoundError:
            version, passed = "not installed", False
        yield requirement.name, passed, f"{version} (needs {requirement.specifier})", install


def _device():
    try:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        ones = torch.ones(8, 8, dtype=torch.float64, device=device)
        name = (torch.cuda.get_device_name() if device == "cuda"
                else f"{torch.get_num_threads()} threads")
        return ("device", float((ones @ ones).sum()) == 512, f"{device} ({name})",
                "give device='cpu', or repair the CUDA driver")
    except (ImportError, RuntimeError) as error:
        return ("device", False, str(error),
                "install torch; with a GPU, one that fits its CUDA driver")


def _kernelspec():
    remedy = f"{sys.executable} -m ipykernel install --sys-prefix --name python3"
    try:
        from jupyter_client.kernelspec import KernelSpecManager

        command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except Exception as error:  # missing package, missing or unreadable kernelspec
        return "kernelspec python3", False, str(error), remedy
    # A bare "python" is replaced by the running interpreter when the kernel is started.
    here = os.path.dirname(command) == "" or (
        os.path.exists(command) and os.path.samefile(command, sys.executable))
    return "kernelspec python3", here, "this environment's Python" if here else command, remedy


def _writable(path):
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    remedy = f"make {existing} writable, or work in a copy"
    try:
        with tempfile.TemporaryFile(dir=existing):
            return f"write access {path.name}/", True, "yes", remedy
    except OSError as error:
        return f"write access {path.name}/", False, str(error), remedy
