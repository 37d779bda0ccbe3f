"""The course in JupyterLab, in copies of the learner's own: ``python -m trc_lib lab``.

The copies lie in a folder that git ignores, so that opening a notebook, which saves itself, changes
nothing that git tracks.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import pathlib
import re
import secrets
import shutil
import socket
import sys
import tempfile

from trc_lib import io
from trc_lib.course.kernel import environment
from trc_lib.course.places import FOLDER, root, shipped, shown

PAGE = "README.md"  # the welcome page
MANIFEST = ".copies.json"  # what was copied
PRIVATE = ".jupyter"  # settings, the open tabs, and which notebooks are trusted
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false",
                                                    "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {
        "defaultViewers": {"markdown": "Markdown Preview"}},
}


def open_lab(folder=None, port=8888, ip="127.0.0.1", browser=True):
    """Copy the course into a folder of the learner's own, and serve it there until Ctrl-C.

    Args:
        folder: made if missing; ``my_course`` in the folder of the course if not given.
        port: the first one to try; the next free one is taken.
        ip: the address to listen on; ``0.0.0.0`` for all of this machine's.
        browser: open one, unless the learner seems to sit at another machine.

    Raises:
        ValueError: for a folder that holds the course itself, or a port that is none.
        ModuleNotFoundError: if JupyterLab is not installed.
        OSError: if the folder cannot be written, or ``ip`` is no address of this machine.
    """
    folder = (root() / "my_course" if folder is None else pathlib.Path(folder)).resolve()
    if not 0 < port < 65536:
        raise ValueError(f"--port {port} is not a port; give one from 1 to 65535, such as 8888")
    if importlib.util.find_spec("jupyterlab") is None:
        raise ModuleNotFoundError("JupyterLab is not installed; install it: "
                                  f"{sys.executable} -m pip install jupyterlab")
    for line in copy_course(folder):
        print(line, flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        os.environ |= _surroundings(folder / PRIVATE, scratch)
        os.environ.setdefault(FOLDER, str(root()))  # for the notebooks, wherever the copies lie
        _serve(folder, port, ip, browser)


def copy_course(folder):
    """Bring the copies in ``folder`` up to date; what the learner changed is kept.

    Returns:
        lines that say what was done.
    """
    if shipped("notebooks").resolve() in (folder, folder / "notebooks", *folder.parents):
        raise ValueError(f"--folder {folder} holds the course itself; "
                         "give a folder of your own, such as my_course")
    io.check_writable(folder)
    copied = {}
    with contextlib.suppress(OSError, ValueError):  # missing or damaged: all that differs is kept
        copied = io.read_json(folder / MANIFEST)["copies"]
    known, names = dict(copied), {"new": [], "renewed": [], "kept": []}
    for name, contents in _files().items():
        state = _state(folder / name, contents, copied.get(name))
        if state in ("new", "renewed"):
            with io.written_whole(folder / name) as temporary:
                temporary.write_bytes(contents)
        if state != "kept":
            known[name] = {"file": _digest(contents), "typed": _digest(_typed(contents))}
        names.setdefault(state, []).append(name)
    if known != copied:
        io.write_json(folder / MANIFEST, {"copies": known})
    return list(_report(shown(folder), names))


def _files():
    """What is copied, a dict from names to contents: welcome page, chapters, their pictures."""
    source = shipped("notebooks")
    pages = {path.name: path.read_text(encoding="utf-8")
             for path in (source / PAGE, *sorted(source.glob("*.ipynb")))}
    pictures = sorted(set(re.findall(r"\.\./(figures/[\w.]+)", "".join(pages.values()))))
    solutions = sorted((source / "solutions").glob("*.ipynb"))
    return {**{name: page.replace("../figures/", "figures/").encode()
               for name, page in pages.items()},
            **{name: shipped(name).read_bytes() for name in pictures},
            **{f"solutions/{path.name}": path.read_bytes() for path in solutions}}


def _state(copy, contents, entry):
    """What to do: ``new``, ``renewed`` and ``kept`` as they say, else ``same``: nothing."""
    mine = copy.read_bytes() if copy.exists() else b""
    if not mine:
        return "new"
    if entry and entry["file"] == _digest(contents):
        return "same"
    if entry and entry["typed"] == _digest(_typed(mine)):
        return "renewed"
    return "same" if _typed(mine) == _typed(contents) else "kept"


def _typed(contents):
    """The part of a file that people type: of a notebook its cells, without what running leaves."""
    try:
        return json.dumps([[cell["cell_type"], "".join(cell["source"]), cell.get("attachments")]
                           for cell in json.loads(contents)["cells"]]).encode()
    except (ValueError, TypeError, LookupError):  # not a notebook
        return contents


def _digest(contents):
    return hashlib.sha256(contents).hexdigest()


def _report(folder, names):
    done = [f"{len(names[state])} files {text}" for state, text in
            {"new": "copied", "renewed": "renewed"}.items() if names[state]]
    yield (f"Your copies of the course are in {folder}: {', '.join(done) or 'all are there'}. "
           "Change them as you like.")
    if names["kept"]:
        yield (f"Kept as you changed them, though the course has others now: "
               f"{', '.join(names['kept'])}. To get those, rename yours and run this again.")


def _surroundings(private, scratch):
    """Environment variables: this Python's kernel, and nothing read from or left at home."""
    settings = private / "lab" / "user-settings"
    own = pathlib.Path(os.path.expanduser("~")) / ".jupyter" / "lab" / "user-settings"
    if own.is_dir() and not settings.exists():  # the theme and the keys that the learner is used to
        with contextlib.suppress(OSError):
            shutil.copytree(own, settings)
    io.write_text(private / "labconfig" / "default_setting_overrides.json", json.dumps(SETTINGS))
    return environment(scratch) | {
        "JUPYTER_CONFIG_DIR": str(private), "JUPYTER_DATA_DIR": str(private / "data"),
        "JUPYTER_RUNTIME_DIR": scratch}


def _serve(folder, port, ip, browser):
    from jupyterlab.labapp import LabApp  # reads the surroundings

    token, remote, log = secrets.token_hex(24), _is_remote(), folder / PRIVATE / "lab.log"
    try:
        app = LabApp.initialize_server([
            f"--ServerApp.root_dir={folder}", f"--ServerApp.port={port}", f"--ServerApp.ip={ip}",
            "--ServerApp.open_browser=False",  # but see below
            "--ServerApp.use_redirect_file=False",  # some browsers may not read hidden folders
            "--ServerApp.allow_root=True", "--ServerApp.answer_yes=True",
            f"--IdentityProvider.token={token}", "--Application.log_level=ERROR",
            f"--LabApp.default_url=/lab/tree/{PAGE}",
            f"--LabApp.user_settings_dir={folder / PRIVATE / 'lab' / 'user-settings'}",
            f"--LabApp.workspaces_dir={folder / PRIVATE / 'lab' / 'workspaces'}"])
    except OSError as error:
        raise OSError(f"cannot listen on --ip {ip} --port {port}: {error.strerror}; "
                      "leave --ip out to listen on this machine alone") from None
    _trust(folder, app.contents_manager.notary)
    with contextlib.ExitStack() as quiet:  # in this order, once the server listens
        app.io_loop.add_callback(_announce, app, port, token, remote, log)
        app.io_loop.add_callback(quiet.enter_context, _printed_to(log))
        if browser and not remote:
            app.io_loop.add_callback(app.launch_browser)
        app.start()


def _announce(app, asked, token, remote, log):
    port, address = app.port, app.local_url.partition("?")[0]
    if port != asked:
        print(f"Port {asked} is taken.")
    print(f"The course is open at {address}?token={token} "
          f"(Ctrl-C ends it; messages: {shown(log)})")
    if remote:
        print("To reach it from another machine, run there, with the user, host and options of "
              f"your login: ssh -N -L {port}:127.0.0.1:{port} {socket.gethostname()} ; then open "
              "the same address there.")
    if _is_container() and app.ip == "127.0.0.1":
        again = io.command(sys.executable, "-m", "trc_lib", "lab", "--ip", "0.0.0.0",
                           "--port", str(port), "--folder", str(app.root_dir))
        print(f"Or start this container with -p {port}:{port}, and run in it: {again}")
    sys.stdout.flush()


@contextlib.contextmanager
def _printed_to(log):
    """Send to a file what this process, its kernels and its browser print."""
    with open(log, "wb") as file:
        terminal = {output: os.dup(output) for output in (1, 2)}
        for output in terminal:
            os.dup2(file.fileno(), output)
    try:
        yield
    finally:
        for output, original in terminal.items():
            os.dup2(original, output)
            os.close(original)


def _trust(folder, notary):
    """Sign the copies that are the course's own, so that the pictures of their widgets show."""
    import nbformat

    for name, contents in _files().items():
        if name.endswith(".ipynb") and (folder / name).read_bytes() == contents:
            notary.sign(nbformat.reads(contents.decode(), 4))


def _is_remote():
    """Whether the learner probably sits at another machine, where no browser opened here shows."""
    screen = sys.platform in ("win32", "darwin") or any(
        map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return bool(os.environ.get("SSH_CONNECTION")) or not screen or _is_container()


def _is_container():
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(
        map(os.path.exists, ("/.dockerenv", "/run/.containerenv")))
