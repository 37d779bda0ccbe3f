"""Debian packages that a test needs."""

import os
import shutil
import subprocess
import tempfile


def install(*names):
    """Install them as root, where there is apt; one process after the other, since apt refuses a second at the same time."""
    if not (hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get")):
        return
    import fcntl  # not on Windows

    with open(os.path.join(tempfile.gettempdir(), "apt.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for words in (["update"], ["install", "-y", "--no-install-recommends", *names]):
            subprocess.run(["apt-get", "-q", *words], env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
