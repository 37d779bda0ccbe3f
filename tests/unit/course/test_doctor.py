"""The doctor finds what is missing, and says what to do."""

import importlib.metadata
import subprocess
import sys

import pytest
import torch
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

from tests import ROOT
from trc_lib.__main__ import main


@pytest.fixture
def diagnosis(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)

    def failures():
        code, printed = main(["doctor"]), capsys.readouterr().out
        failed = [line for line in printed.splitlines() if line.startswith("FAIL")]
        assert code == (1 if failed else 0)
        assert f"{len(failed)} of " in printed if failed else "all is well" in printed
        return failed

    return failures


def test_it_passes_here_and_names_the_remedy_for_an_old_package(diagnosis, monkeypatch):
    assert diagnosis() == []
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version",
                        lambda name: "0.1" if name == "papermill" else real(name))
    (line,) = diagnosis()
    assert "papermill" in line and "0.1 (needs" in line and "-> pip install" in line


def test_it_finds_an_old_python(diagnosis, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 0))
    (line,) = diagnosis()
    assert "Python" in line and "-> install a newer Python" in line


def test_it_finds_that_nothing_is_installed(diagnosis, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    (line,) = diagnosis()
    assert "packages" in line and "-> pip install" in line


def test_it_runs_without_pytorch():
    code = ("import sys; sys.modules['torch'] = None; from trc_lib.__main__ import main; "
            "sys.exit(main(['doctor']))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert done.returncode == 1 and "device" in line and "-> install torch" in line


def test_it_finds_a_device_that_does_not_compute(diagnosis, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("CUDA driver version is insufficient")

    monkeypatch.setattr(torch, "ones", broken)
    (line,) = diagnosis()
    assert "insufficient" in line and "-> " in line


def test_it_finds_a_kernelspec_of_another_environment(diagnosis, monkeypatch):
    other = KernelSpec(argv=["/usr/bin/env", "-m", "ipykernel_launcher"])
    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda self, name: other)
    (line,) = diagnosis()
    assert "kernelspec" in line and "ipykernel install" in line


def test_it_finds_folders_that_cannot_be_written_to(diagnosis, monkeypatch):
    def read_only(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    assert ["Permission denied" in line for line in diagnosis()] == [True] * 3
