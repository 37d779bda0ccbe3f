"""Install the course into .venv: ``python trc_lib/course/install.py``, also without make.

It needs nothing but Python. A failure names its remedy.
"""

import argparse
import ctypes
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
OLDEST, NEWEST = (3, 11), (3, 13)  # the Pythons that the course was tried with
EXTRAS = "[test,browser,export,site,dev]"
PYTORCH = "https://download.pytorch.org/whl"

# What failed, by what venv and pip print; the first that is found is the cause.
REMEDIES = {
    "disk": (
        r"No space left on device|Errno 28\b|[Qq]uota exceeded|Errno 122\b|WinError 112\b",
        "The disk is full, or a quota is used up: needed are 2 GB in {root}, 3 GB with --tests, "
        "5 GB more with PyTorch for CUDA, and {free:.1f} GB are free.\n"
        "Free some, or move this folder to a larger disk; then run this again."),
    "access": (
        r"Permission denied|Errno 13\b|Read-only file system|Errno 30\b|WinError 5\b",
        "{root} cannot be written to. Copy or clone it to a folder of your own."),
    "venv": (
        r"No module named '?(venv|ensurepip)|ensurepip is (not available|disabled)",
        "This Python comes without venv. On Debian and Ubuntu: sudo apt install {python}-venv"),
    "proxy": (
        r"ProxyError|Tunnel connection failed|Proxy Authentication Required|SOCKS|ProxySchemeUnk",
        "The proxy refuses: HTTPS_PROXY={proxy}\n"
        "Set HTTPS_PROXY to http://user:password@host:port as your network has it; "
        "hosts that need none go to NO_PROXY."),
    "certificate": (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|SSLError|CA certificate bundle",
        "The index's certificate is not trusted. If your network replaces certificates: "
        "set PIP_CERT to the file (PEM) with its own."),
    "network": (
        r"NewConnectionError|NameResolutionError|ConnectTimeout|Read ?[Tt]ime[d ]*[Oo]ut|"
        r"Connection (refused|reset|aborted|broken)|ConnectionError|RemoteDisconnected|"
        r"IncompleteRead|incomplete-download|Network is unreachable|getaddrinfo",
        "The package index cannot be reached. Check the network, then run this again. "
        "Behind a proxy, set HTTPS_PROXY=http://host:port; with an index of your own, "
        "set PIP_INDEX_URL."),
    "index": (
        r"hatchling\S* \(from versions: none\)|not a trusted or secure host|"
        r"\b[45]\d\d (Client|Server) Error|DO NOT MATCH THE HASHES",
        "The package index refuses, or lacks what is needed. It is set by PIP_INDEX_URL and by "
        "what `{venv_python} -m pip config list` shows; one without https needs PIP_TRUSTED_HOST."),
    "conflict": (
        r"ResolutionImpossible|conflicting dependencies",
        "Versions of your own contradict constraints.txt: unset PIP_CONSTRAINT, and see "
        "`{venv_python} -m pip config list`."),
    "build": (
        r"No matching distribution found|subprocess-exited-with-error|Failed building wheel|"
        r"Failed to build|metadata-generation-failed",
        "The package named above has no ready build for {version} on {machine}.\n"
        "Use a 64-bit Python {oldest} to {newest} on Linux, Windows or a Mac with an Apple chip, "
        "such as: make PYTHON=python{newest}; on other machines conda, see environment.yml. "
        "An index of your own must have the versions of constraints.txt."),
}
OF_THE_INDEX = ("proxy", "certificate", "network", "index", "build")


class Failure(Exception):
    """The installation failed; ``kind`` is a key of `REMEDIES`, or None."""

    def __init__(self, printed):
        found = (kind for kind, (pattern, _) in REMEDIES.items() if re.search(pattern, printed))
        self.kind = next(found, None)
        proxy = next((value for name, value in os.environ.items()
                      if name.lower() in ("https_proxy", "all_proxy", "pip_proxy")), "(not set)")
        super().__init__("See the lines above, and docs/installation.md." if self.kind is None
                         else REMEDIES[self.kind][1].format(
            root=ROOT, free=shutil.disk_usage(ROOT).free / 1e9, venv_python=PYTHON,
            proxy=re.sub("//.*@", "//...@", proxy), machine=f"{sys.platform} {platform.machine()}",
            version=f"Python {platform.python_version()}", oldest=dotted(OLDEST),
            newest=dotted(NEWEST), python=f"python{dotted(sys.version_info)}"))


def dotted(version):
    """The first two numbers of a version: "3.11"."""
    return ".".join(map(str, version[:2]))


def run(*command, show=True):
    """Run a command in the course's folder.

    Args:
        show: show what it prints while it runs, not only if it fails.

    Raises:
        Failure: it failed.
    """
    kept = {name: value for name, value in os.environ.items()  # what would lead pip elsewhere
            if name not in ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX")}
    settings = {"TMPDIR": str(ROOT / ".cache" / "tmp"), "PIP_USER": "0", "PIP_NO_INPUT": "1"}
    printed = ""
    with subprocess.Popen([str(word) for word in command], cwd=ROOT, env={**kept, **settings},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace") as process:
        for line in process.stdout:
            printed += line
            if show:
                print(line, end="", flush=True)
    if process.returncode:
        print("" if show else printed, end="")
        raise Failure(printed)
    return printed


def has_nvidia_driver():
    """Whether PyTorch's build for CUDA could use a GPU here."""
    try:
        ctypes.CDLL("libcuda.so.1")
        return True
    except OSError:
        return bool(shutil.which("nvidia-smi")) or os.path.exists("/proc/driver/nvidia")


def choose_build(wish, pip_settings):
    """Which of PyTorch's builds is installed: (its index or None for pip's default, the reason).

    Args:
        wish: "auto"; "default", pip's default; or PyTorch's name of a build, such as "cu126".
        pip_settings: what ``pip config list`` prints.
    """
    own = re.findall(r"\.(index-url|extra-index-url|find-links|no-index)=", pip_settings)
    if wish not in ("auto", "default"):
        return f"{PYTORCH}/{wish}", f"PyTorch: {wish}, as you wish"
    if wish == "default" or sys.platform != "linux":
        return None, "PyTorch: pip's default build"
    if has_nvidia_driver():
        return None, "PyTorch: pip's default build, for CUDA, since an NVIDIA driver is here"
    if own:
        return None, f"PyTorch: the build that pip finds, since its settings name {own[0]}"
    return f"{PYTORCH}/cpu", ("PyTorch: the build for the CPU, since no NVIDIA driver is here "
                              "(for CUDA: make TORCH=default)")


def install(wish, tests):
    """Make .venv, if it is missing, and install into it what is missing there."""
    if os.pathsep in str(ROOT):
        sys.exit(f"{ROOT} contains {os.pathsep!r}, which no environment can have in its path: "
                 "rename the folder")
    unfinished = VENV / "unfinished"  # left by an installation that was killed
    (ROOT / ".cache" / "tmp").mkdir(parents=True, exist_ok=True)
    for stale in ROOT.glob("*.egg-info"):  # of an older version; it would hide the new one
        shutil.rmtree(stale)
    anew = [] if runs(PYTHON) and not unfinished.exists() else ["--clear"]
    run(sys.executable, "-m", "venv", "--without-pip", *anew, VENV, show=False)
    unfinished.touch()
    try:
        run(PYTHON, "-m", "ensurepip", "--default-pip", show=False)
        pinned = re.search("^torch==.*", (ROOT / "constraints.txt").read_text("utf-8"), re.M)[0]
        index, reason = choose_build(wish, run(PYTHON, "-m", "pip", "config", "list", show=False))
        print(f"installing into .venv, takes a few minutes. {reason}", flush=True)
        pip = (PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
               "-c", "constraints.txt")
        if index:
            try:
                run(*pip, "--no-deps", "--index-url", index, "--retries", "1", pinned)
            except Failure as failure:
                if wish != "auto" or failure.kind not in OF_THE_INDEX:
                    raise
                print(f"none from {index}: taking pip's default build, for CUDA, several GB",
                      flush=True)
        run(*pip, "-e", "." + (EXTRAS if tests else ""))
    except Failure as failure:
        if failure.kind in OF_THE_INDEX:  # no package is installed by half
            unfinished.unlink()
        raise
    unfinished.unlink()
    for stamp in ("ready", "ready-test")[:1 + tests]:
        (VENV / stamp).touch()
    print(f"installed. To open the course: {PYTHON.relative_to(ROOT)} -m trc_lib lab")


def runs(python):
    """Whether a Python is there and starts; one that was upgraded or removed leaves a dead link."""
    try:
        return not subprocess.run([python, "-c", ""], capture_output=True).returncode
    except OSError:
        return False


def environment_elsewhere():
    """The Python of the course's .venv, if it is installed there and this is another; else None."""
    ready = (VENV / "ready").exists() and pathlib.Path(sys.prefix).resolve() != VENV
    return PYTHON if ready else None


def newer_python():
    """The command of a Python that is new enough, or None."""
    versions = [f"3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    for command in [[f"python{each}"] for each in versions] + [["py", f"-{each}"]
                                                               for each in versions]:
        try:
            subprocess.run([*command, "-c", "import venv"], check=True, capture_output=True)
            return command
        except (OSError, subprocess.CalledProcessError):
            pass


def main(words=None):
    """Install; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", default="auto", metavar="BUILD", help="PyTorch's build: auto, "
                        "default (of pip), or a name of PyTorch's, such as cpu, cu126, rocm6.4")
    parser.add_argument("--tests", action="store_true", help="also what the tests need")
    options = parser.parse_args(words)
    if not re.fullmatch(r"auto|default|cpu|xpu|(cu|rocm)\d[\d.]*", options.torch):
        parser.error(f"--torch {options.torch} is unknown; accepted are auto, default, cpu, and "
                     "names of PyTorch's such as cu126")
    sys.stdout.reconfigure(errors="replace")  # pip's signs, in a terminal without them
    if sys.version_info < OLDEST:
        other = newer_python()
        if other is None:
            sys.exit(f"Python {platform.python_version()} is too old. Install Python "
                     f"{dotted(NEWEST)}, then say which: make PYTHON=python{dotted(NEWEST)}")
        return subprocess.call([*other, *sys.argv])
    if sys.version_info[:2] > NEWEST:
        print(f"Python {platform.python_version()} is newer than those that the course was tried "
              f"with. If it fails: make clean course PYTHON=python{dotted(NEWEST)}")
    try:
        install(options.torch, options.tests)
    except Failure as failure:
        sys.exit(f"\nThe installation failed. {failure}")
    except OSError as error:
        sys.exit(f"\nThe installation failed: {error}. {Failure(str(error))}")


if __name__ == "__main__":
    sys.exit(main())
