"""The installation: which PyTorch, what is left of one that was stopped, and the remedies.

The messages are those that pip 23.2 and 24.2, venv and the shell print.
"""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

from tests import ROOT
from trc_lib.course import install

MAKE = ["env", "-u", "MAKEFLAGS", "-u", "MAKELEVEL", "make", "-n"]  # also within another make
NONE_FOUND = ("ERROR: Could not find a version that satisfies the requirement {0} (from versions: "
              "{1})\nERROR: No matching distribution found for {0}\n")
BROKEN = "WARNING: Retrying (Retry(total=0, ...)) after connection broken by "
OFFLINE = BROKEN + ("'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object>: "
                    "Failed to establish a new connection: [Errno -2] Name or service not known')'")
PRINTED = [
    ("disk", "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on "
             "device", "The disk is full"),
    ("disk", "OSError: [Errno 122] Disk quota exceeded: '/home/x/.venv/lib'", "quota"),
    ("access", "Error: [Errno 13] Permission denied: '/srv/course/.venv'", "a folder of your own"),
    ("access", "OSError: [Errno 30] Read-only file system: '.venv'", "a folder of your own"),
    ("venv", "/usr/bin/python3: No module named ensurepip", "sudo apt install python3."),
    ("venv", "/usr/bin/python3: No module named venv", "sudo apt install python3."),
    ("proxy", BROKEN + "'ProxyError('Cannot connect to proxy.', NewConnectionError('...: [Errno "
              "111] Connection refused'))'", "Set HTTPS_PROXY"),
    ("proxy", BROKEN + "'ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: "
              "407 Proxy Authentication Required'))'", "http://user:password@host:port"),
    ("proxy", "ERROR: Could not install packages due to an OSError: Missing dependencies for SOCKS "
              "support.", "Set HTTPS_PROXY to http://"),
    ("certificate", BROKEN + "'SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_"
                    "FAILED] certificate verify failed: self-signed certificate (_ssl.c:1006)'))'"
                    + NONE_FOUND.format("hatchling>=1.27", "none"), "set PIP_CERT"),
    ("certificate", "ERROR: Could not install packages due to an OSError: Could not find a suitable"
                    " TLS CA certificate bundle, invalid path: /nowhere", "set PIP_CERT"),
    ("network", OFFLINE + NONE_FOUND.format("hatchling>=1.27", "none"), "cannot be reached"),
    ("network", "pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='x', "
                "port=443): Read timed out.", "cannot be reached"),
    ("network", BROKEN + "'ConnectTimeoutError(<...>, 'Connection to pypi.org timed out.')'",
     "run this again"),
    ("index", NONE_FOUND.format("hatchling>=1.27", "none"), "PIP_INDEX_URL"),
    ("index", "WARNING: The repository located at 10.1.1.1 is not a trusted or secure host and is "
              "being ignored.", "PIP_TRUSTED_HOST"),
    ("index", "ERROR: HTTP error 403 while getting https://x/torch.whl\nERROR: Could not install "
              "requirement torch because of HTTP error 403 Client Error: Forbidden for url",
     "pip config list"),
    ("conflict", "ERROR: ResolutionImpossible: for help visit https://pip.pypa.io", "CONSTRAINT"),
    ("build", NONE_FOUND.format("torch==2.13.0", "none"), "make PYTHON=python3.13"),
    ("build", NONE_FOUND.format("scipy==1.17.1", "1.0, 1.1"), "Mac with an Apple chip"),
    ("build", "error: subprocess-exited-with-error\n× Preparing metadata (pyproject.toml) did not "
              "run successfully.", "no ready build"),
    (None, "Segmentation fault", "docs/installation.md"),
]


@pytest.mark.parametrize(("kind", "printed", "remedy"), PRINTED,
                         ids=[f"{kind}-{number}" for number, (kind, *_) in enumerate(PRINTED)])
def test_what_pip_prints_leads_to_the_remedy(kind, printed, remedy):
    failure = install.Failure(printed)
    assert failure.kind == kind and remedy in str(failure) and "{" not in str(failure)
    assert len(str(failure).splitlines()) <= 2


def test_the_password_of_a_proxy_is_not_shown(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy:3128")
    assert "HTTPS_PROXY=http://...@proxy:3128" in str(install.Failure("ProxyError"))


@pytest.mark.parametrize(("wish", "platform", "driver", "settings", "index", "reason"), [
    ("auto", "linux", False, "", "/cpu", "no NVIDIA driver"),
    ("auto", "linux", False, "global.cert='/x.pem'\n:env:.timeout='9'", "/cpu", "TORCH=default"),
    ("auto", "linux", True, "", None, "for CUDA"),
    ("auto", "darwin", False, "", None, "pip's default"),
    ("auto", "win32", True, "", None, "pip's default"),
    ("auto", "linux", False, "global.index-url='https://mirror/simple'", None, "name index-url"),
    ("auto", "linux", False, ":env:.find-links='/wheels'", None, "name find-links"),
    ("auto", "linux", False, "install.extra-index-url='https://x'", None, "name extra-index-url"),
    ("auto", "linux", False, ":env:.no-index='1'", None, "name no-index"),
    ("cpu", "linux", True, "global.index-url='https://mirror/simple'", "/cpu", "as you wish"),
    ("cu126", "win32", True, "", "/cu126", "as you wish"),
    ("default", "linux", False, "", None, "pip's default"),
])
def test_the_build_of_pytorch_fits_the_machine(monkeypatch, wish, platform, driver, settings,
                                               index, reason):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(install, "has_nvidia_driver", lambda: driver)
    chosen, said = install.choose_build(wish, settings)
    assert chosen == (index and install.PYTORCH + index) and reason in said


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty course, in a path with spaces, and the commands that the installation would run.

    A command that contains ``folder.failing`` prints ``folder.printed`` and fails.
    """
    class Course:
        root, commands, failing, printed, settings = tmp_path / "a b ü", [], None, "", ""

    def run(*command, show=True):
        words = [str(word) for word in command]
        Course.commands.append(words)
        if "venv" in words:
            install.PYTHON.parent.mkdir(exist_ok=True, parents=True)
            install.PYTHON.write_text("", encoding="utf-8")
        if Course.failing and Course.failing in words:
            raise install.Failure(Course.printed)
        return Course.settings

    Course.root.mkdir()
    (Course.root / "constraints.txt").write_text("six==1\ntorch==2.13.0\n")
    monkeypatch.setattr(install, "ROOT", Course.root)
    monkeypatch.setattr(install, "VENV", Course.root / ".venv")
    monkeypatch.setattr(install, "PYTHON", Course.root / ".venv" / "bin" / "python")
    monkeypatch.setattr(install, "run", run)
    monkeypatch.setattr(install, "has_nvidia_driver", lambda: False)
    monkeypatch.setattr(install, "runs", pathlib.Path.exists)
    monkeypatch.setattr(sys, "platform", "linux")
    Course.commands.clear()
    return Course


def _installs(folder):
    return [words[words.index("install") + 1:] for words in folder.commands if "install" in words]


def test_the_course_alone_has_none_of_the_tests_packages(folder):
    install.main([])
    torch, course = _installs(folder)
    assert torch[-1] == "torch==2.13.0" and f"{install.PYTORCH}/cpu" in torch
    assert course[-2:] == ["-e", "."]
    assert {path.name for path in (folder.root / ".venv").iterdir()} == {"bin", "ready"}


def test_the_tests_packages_come_on_top(folder):
    install.main(["--tests"])
    assert _installs(folder)[-1][-1] == "." + install.EXTRAS
    assert {path.name for path in (folder.root / ".venv").iterdir()} == {
        "bin", "ready", "ready-test"}


def test_an_unreached_index_of_pytorch_means_pips_default_build(folder, capsys):
    folder.failing, folder.printed = "--index-url", OFFLINE
    install.main([])
    assert _installs(folder)[-1][-2:] == ["-e", "."]
    assert "taking pip's default build" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "printed"), [
    ([], "No space left on device"), (["--torch", "cpu"], OFFLINE)])
def test_a_full_disk_or_a_wish_that_cannot_be_met_ends_it(folder, words, printed):
    folder.failing, folder.printed = "--index-url", printed
    with pytest.raises(SystemExit, match=r"The installation failed\. The "):
        install.main(words)
    assert len(_installs(folder)) == 1 and not (folder.root / ".venv" / "ready").exists()


def test_an_installation_that_was_killed_begins_anew(folder, monkeypatch):
    def killed(*command, show=True):
        (folder.root / ".venv" / "bin").mkdir(exist_ok=True, parents=True)
        (folder.root / ".venv" / "bin" / "python").touch()
        if "install" in command:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(install, "run", killed)
        patch.setattr(install, "choose_build", lambda *_: (None, ""))
        with pytest.raises(KeyboardInterrupt):
            install.main([])
    install.main([])
    assert "--clear" in folder.commands[0]
    folder.commands.clear()
    install.main(["--tests"])
    assert "--clear" not in folder.commands[0]


def test_after_a_failure_of_the_network_it_goes_on(folder):
    folder.failing, folder.printed = "-e", OFFLINE
    with pytest.raises(SystemExit, match="cannot be reached"):
        install.main([])
    folder.failing = None
    install.main([])
    assert not any("--clear" in words for words in folder.commands[1:])


def test_what_an_older_installation_left_is_removed(folder):
    (folder.root / "trc_lib.egg-info").mkdir()
    install.main([])
    assert not (folder.root / "trc_lib.egg-info").exists()


def test_a_python_that_was_removed_is_noticed(tmp_path):
    dead = tmp_path / "python"
    assert install.runs(sys.executable) and not install.runs(dead)
    dead.symlink_to(tmp_path / "upgraded")
    assert not install.runs(dead)


def test_a_folder_that_cannot_be_written_to_is_said(folder, monkeypatch):
    def read_only(*_, **options):
        raise OSError(30, "Read-only file system", ".cache")

    monkeypatch.setattr(pathlib.Path, "mkdir", read_only)
    with pytest.raises(SystemExit, match="cannot be written to"):
        install.main([])


def test_a_path_with_the_separator_of_paths_is_refused(folder, monkeypatch):
    monkeypatch.setattr(install, "ROOT", pathlib.Path(f"/tmp/a{os.pathsep}b"))
    with pytest.raises(SystemExit, match="rename the folder"):
        install.main([])


@pytest.mark.parametrize("word", ["cuda", "CPU", "cpu/../x", ""])
def test_an_unknown_build_is_refused(word, capsys):
    with pytest.raises(SystemExit):
        install.main(["--torch", word])
    assert "accepted are auto, default, cpu" in capsys.readouterr().err


def test_a_newer_python_is_taken_instead_of_an_old_one(monkeypatch):
    calls = []
    monkeypatch.setattr(sys, "version_info", (3, 9, 6))
    monkeypatch.setattr(sys, "argv", ["install.py", "--tests"])
    monkeypatch.setattr(subprocess, "call", lambda words: calls.append(words) or 0)
    monkeypatch.setattr(install, "newer_python", lambda: ["python3.12"])
    assert install.main(["--tests"]) == 0 and calls == [["python3.12", "install.py", "--tests"]]
    monkeypatch.setattr(install, "newer_python", lambda: None)
    with pytest.raises(SystemExit, match=r"too old.*make PYTHON=python3\.13"):
        install.main([])


def test_a_python_that_does_not_start_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(install, "NEWEST", (3, 99))
    monkeypatch.setattr(install, "OLDEST", (3, 98))
    monkeypatch.setenv("PATH", str(tmp_path))
    for minor, code in ((99, 1), (98, 0)):  # the first is as pyenv's, which only says why not
        program = tmp_path / f"python3.{minor}"
        program.write_text(f"#!/bin/sh\nexit {code}\n")
        program.chmod(0o755)
    if os.name != "nt":
        assert install.newer_python() == ["python3.98"]


def test_a_command_runs_apart_from_foreign_packages_and_shows_what_it_prints(
        tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(install, "ROOT", tmp_path)
    for name in ("PYTHONPATH", "PIP_TARGET"):
        monkeypatch.setenv(name, "/elsewhere")
    code = ("import os, sys; print([os.environ.get(name) for name in ('PYTHONPATH', 'PIP_TARGET', "
            "'PIP_USER', 'TMPDIR')]); sys.exit(len(sys.argv) - 1)")
    printed = install.run(sys.executable, "-c", code)
    assert printed.strip() == str([None, None, "0", str(tmp_path / ".cache" / "tmp")])
    assert printed == capsys.readouterr().out
    with pytest.raises(install.Failure):
        install.run(sys.executable, "-c", code, "fail", show=False)
    assert capsys.readouterr().out == printed


def test_it_needs_nothing_but_an_old_python():
    source = (ROOT / "trc_lib" / "course" / "install.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 7))
    done = subprocess.run([sys.executable, "-I", "-S", "trc_lib/course/install.py", "--help"],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--tests" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="there is no make")
@pytest.mark.parametrize(("stamp", "words"), [("ready", ""), ("ready-test", " --tests")])
def test_make_installs_the_course_or_also_the_tests(tmp_path, stamp, words):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run([*MAKE, f".venv/{stamp}", "TORCH=cu126", "PYTHON=python3.12"],
                          cwd=tmp_path, capture_output=True, text=True, check=True)
    command = "python3.12 trc_lib/course/install.py --torch cu126" + words
    assert done.stdout.splitlines()[-1].strip() == command


@pytest.mark.skipif(os.name == "nt", reason="there is no make")
@pytest.mark.parametrize("alive", [True, False])
def test_make_installs_anew_where_the_python_of_an_environment_is_gone(tmp_path, alive):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable if alive else "/gone/python")
    (tmp_path / ".venv" / "ready").touch()
    done = subprocess.run([*MAKE, ".venv/ready"], cwd=tmp_path, capture_output=True,
                          text=True, check=True)
    assert ("install.py" in done.stdout) == (not alive)
