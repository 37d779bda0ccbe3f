"""The tests; see CONTRIBUTING.md for the three tiers."""

import os
import pathlib
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]


def git(folder, *words):
    """What git prints in a folder, whatever the user's own settings are."""
    env = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    return subprocess.run(["git", *map(str, words)], cwd=folder, env=env, capture_output=True,
                          text=True, check=True).stdout


def source_files(below="."):
    """The names of the project's files: those that git does not ignore, also without a clone."""
    with tempfile.TemporaryDirectory() as empty:
        git(empty, "init", "--quiet", "--bare")
        listed = git(ROOT, "--git-dir", empty, "--work-tree", ROOT, "ls-files", "-z", "--others",
                     "--exclude-standard", "--", below)
    return listed.strip("\0").split("\0")
