"""``python -m trc_lib lab`` as it is run: what it prints, what it serves, and how it ends."""

import contextlib
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

import pytest

from tests import ROOT


@contextlib.contextmanager
def opened(*words, **environment):
    """The server, and its address; afterwards it is ended, and has to leave within 20 seconds."""
    running = subprocess.Popen([sys.executable, "-m", "trc_lib", "lab", *words], text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, env=os.environ | environment)
    lines = []
    try:
        while not re.search(r"http://\S+", lines[-1] if lines else ""):
            lines.append(running.stdout.readline())
            assert lines[-1], f"it ended: {lines}"
        running.lines = lines
        yield running, re.search(r"http://\S+", lines[-1])[0]
    finally:
        running.terminate()
        running.wait(timeout=20)


def fetched(address, path, method="GET", status=200):
    """The answer to a request of the server's, with the token of its address."""
    parts = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    token = {"Authorization": f"token {parts.query.partition('=')[2]}"}
    connection.request(method, path or parts.path, headers=token)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == status, (path, answer.status, body[:500])
    return json.loads(body) if path else body.decode()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def foreign(tmp_path):
    """A home that cannot be written, and a kernel and settings of another environment."""
    spec = tmp_path / "other" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["/no/python", "{connection_file}"],
                                "display_name": "other", "language": "python"}))
    return {"HOME": "/dev/null/home", "JUPYTER_PATH": str(tmp_path / "other"),
            "JUPYTERLAB_SETTINGS_DIR": "/dev/null/settings",
            "JUPYTER_RUNTIME_DIR": "/dev/null/runtime",
            "JUPYTERLAB_WORKSPACES_DIR": "/dev/null/workspaces"}


def test_it_opens_in_foreign_surroundings_trusted_and_without_prompts(tmp_path, foreign):
    folder, connection = tmp_path / "a folder" / "größer", "10.0.0.1 50000 10.0.0.2 22"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with opened("--folder", str(folder), "--port", str(port), SSH_CONNECTION=connection,
                    **foreign) as (running, address):
            copied, told, _ = running.lines
            assert told == f"Port {port} is taken.\n"
            assert "40 files copied" in copied and "größer" in copied
            parts = urllib.parse.urlsplit(address)
            assert parts.path == "/lab/tree/README.md" and len(parts.query) > 40
            assert parts.port != port
            tunnel = running.stdout.readline()
            assert (f"ssh -N -L {parts.port}:127.0.0.1:{parts.port} {socket.gethostname()}"
                    in tunnel)
            assert "JupyterLab" in fetched(address, None)
            fetched(address.replace("token=", "token=no"), "/api/contents/README.md", status=403)
            for name in ("01_teacher.ipynb", "solutions/01_teacher.ipynb"):
                cells = fetched(address, f"/api/contents/{name}")["content"]["cells"]
                assert all(cell["metadata"]["trusted"] for cell in cells
                           if cell["cell_type"] == "code")
            kernel = fetched(address, "/api/kernelspecs")["kernelspecs"]["python3"]
            assert kernel["spec"]["argv"][0] == sys.executable
            for plugin, name, value in (
                    ("apputils-extension:notification", "fetchNews", "false"),
                    ("apputils-extension:notification", "checkForUpdates", False),
                    ("docmanager-extension:plugin", "defaultViewers",
                     {"markdown": "Markdown Preview"})):
                settings = fetched(address, f"/lab/api/settings/@jupyterlab/{plugin}")
                assert settings["schema"]["properties"][name]["default"] == value
            fetched(address, "/api/kernels", "POST", status=201)  # interrupted while it starts
    rest = [line for line in running.stdout if "container" not in line]
    assert rest == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_ctrl_c_ends_it_at_once_without_a_question(tmp_path):
    import pty

    leader, terminal = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "trc_lib", "lab", "--folder", tmp_path, "--no-browser",
         "--port", str(free_port())], stdin=terminal, stdout=terminal, stderr=terminal,
        preexec_fn=os.setsid)
    os.close(terminal)
    shown, deadline = "", time.monotonic() + 120
    while running.poll() is None and time.monotonic() < deadline:
        if select.select([leader], [], [], 0.2)[0]:
            with contextlib.suppress(OSError):  # the other end is closed
                shown += os.read(leader, 10_000).decode()
        elif "http://" in shown and "^C" not in shown:
            time.sleep(1)
            shown += "^C"
            ended = time.monotonic() + 20
            deadline = min(deadline, ended)
            os.kill(running.pid, signal.SIGINT)
    os.close(leader)
    assert running.poll() == 0, shown
    assert "Traceback" not in shown and "?" not in shown.split("^C")[1], shown


def test_an_address_that_is_not_of_this_machine_is_an_error_in_one_line(tmp_path):
    done = subprocess.run([sys.executable, "-m", "trc_lib", "lab", "--folder", tmp_path, "--ip",
                           "203.0.113.1"], capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"error: cannot listen on --ip 203.0.113.1 --port 8888: .+\n", done.stderr)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a clone")
def test_git_ignores_the_default_folder():
    done = subprocess.run(["git", "check-ignore", "my_course/01_teacher.ipynb"], cwd=ROOT)
    assert done.returncode == 0
