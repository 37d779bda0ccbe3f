"""Where the course's files are."""

import pathlib


def root():
    """The folder of the course: the first at or above the working folder that holds notebooks/ and trc_lib/.

    Where there is none, the one that this library was installed from; failing that, the working folder.
    """
    here = pathlib.Path.cwd()
    for candidate in (here, *here.parents, pathlib.Path(__file__).resolve().parents[1]):
        if (candidate / "notebooks").is_dir() and (candidate / "trc_lib").is_dir():
            return candidate
    return here


def shown(path):
    """A path as the reader finds it: from the folder of the course on."""
    path = pathlib.Path(path)
    return str(path.relative_to(root())) if path.is_relative_to(root()) else str(path)
