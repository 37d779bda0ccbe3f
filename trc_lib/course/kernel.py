"""Jupyter kernels that run this Python, whatever else is installed on the machine."""

import json
import os
import pathlib
import sys
import tempfile


def environment(folder):
    """Environment variables under which the kernel ``python3`` is this Python.

    Jupyter looks for kernels in ``JUPYTER_PATH`` before it looks beside its own Python, and may
    find one of another environment there. Matplotlib and IPython write to the home folder, and
    print a warning into the first cell where they cannot; then they get a folder here.

    Args:
        folder: an existing folder, for as long as the kernels run.
    """
    folder = pathlib.Path(folder)
    spec = folder / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True, exist_ok=True)
    spec.write_text(json.dumps({
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}",
                 "--IPKernelApp.log_level=ERROR"],  # no warnings in the terminal
        "display_name": "Python 3", "language": "python",
        "metadata": {"debugger": True}}), encoding="utf-8")
    found = {"JUPYTER_PATH": os.pathsep.join(
        filter(None, [str(folder), os.environ.get("JUPYTER_PATH")]))}
    home = os.path.expanduser("~")
    if not _is_writable(home):
        found |= {name: os.environ.get(name) or str(folder / name.lower())
                  for name in ("MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR")}
    if home == "~":  # no HOME, and a user without a name, as in some containers
        found["HOME"] = str(folder)
    return found


def _is_writable(folder):
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
