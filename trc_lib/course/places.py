"""Where the course lies."""

import pathlib


def root():
    """The folder of the course, which holds notebooks/ and trc_lib/.

    The first such folder at or above the working folder; else the one that this library was
    installed from; else the working folder.
    """
    here = pathlib.Path.cwd()
    for candidate in (here, *here.parents, pathlib.Path(__file__).resolve().parents[2]):
        if (candidate / "notebooks").is_dir() and (candidate / "trc_lib").is_dir():
            return candidate
    return here


def shown(path):
    """A path as messages show it: relative to the folder of the course, if inside."""
    path = pathlib.Path(path)
    return str(path.relative_to(root()) if path.is_relative_to(root()) else path)
