"""Where the course's files lie: what comes with it, and what is made."""

import os
import pathlib

FOLDER = "TRC_FOLDER"  # environment variable: the folder for data/ and runs/


def root():
    """The folder in which data/ and runs/ are made.

    ``TRC_FOLDER`` if that is set; else the checkout at or above the working folder; else the
    checkout that this library lies in; else, where it was installed as a package, the working
    folder.
    """
    if os.environ.get(FOLDER):
        return pathlib.Path(os.environ[FOLDER]).resolve()
    here = pathlib.Path.cwd()
    for candidate in (here, *here.parents, pathlib.Path(__file__).resolve().parents[2]):
        if (candidate / "notebooks").is_dir() and (candidate / "trc_lib").is_dir():
            return candidate
    return here


def shipped(path):
    """A file or folder that comes with the course, such as ``"notebooks"``.

    The one in the checkout at hand, see `root`; else the one that was installed with this library.
    """
    own = root() / path
    if own.exists():
        return own
    library = pathlib.Path(__file__).resolve()
    inside = library.parent / "shipped"  # pyproject.toml puts it there in an installed package
    return (inside if inside.exists() else library.parents[2]) / path


def shown(path):
    """A path as messages show it: relative to the folder of the course, if inside."""
    path = pathlib.Path(path)
    return str(path.relative_to(root()) if path.is_relative_to(root()) else path)
