"""The doctor finds what is missing, and says what to do."""

import collections
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import torch
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

from tests import ROOT
from trc_lib.__main__ import main
from trc_lib.course import doctor, install

BARE = {"playwright", "pre-commit", "onnx", "osqp", "nbval", "pytest-xdist", "ruff"}


@pytest.fixture
def diagnosis(capsys, monkeypatch):
    """Runs the doctor, without a kernel; returns the lines that fail, or of another verdict."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(doctor, "_kernel", lambda: ("notebook kernel", True, "", ""))

    def lines(verdict="FAIL"):
        code, printed = main(["doctor"]), capsys.readouterr().out
        failed = [line for line in printed.splitlines() if line.startswith("FAIL")]
        assert code == (1 if failed else 0)
        assert f"{len(failed)} of " in printed if failed else "all is well" in printed
        return [line for line in printed.splitlines() if line.startswith(verdict)]

    return lines


def test_it_passes_here_and_names_the_remedy_for_an_old_package(diagnosis, monkeypatch):
    assert diagnosis() == []
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version",
                        lambda name: "0.1" if name == "papermill" else real(name))
    (line,) = diagnosis()
    assert "papermill" in line and "0.1 (needs" in line
    assert f'{sys.executable} -m pip install "papermill<3,>=2.6"' in line


def test_packages_of_the_tests_may_be_missing(diagnosis, monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name in BARE:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert diagnosis() == []
    missing = {line.split()[1]: line for line in diagnosis("--")}
    assert missing.keys() >= BARE and "for the tests only" in missing["nbval"]
    assert "for ONNX files only" in missing["onnx"] and "->" not in missing["onnx"]


def test_it_finds_an_old_python(diagnosis, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 0))
    (line,) = diagnosis()
    assert "Python" in line and "-> install a newer Python" in line


def test_it_finds_that_nothing_is_installed(diagnosis, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    (line,) = diagnosis()
    command = line.split("-> ")[1].split()
    assert "packages" in line and command[0] == sys.executable
    assert pathlib.Path(command[1]).samefile(install.__file__)


def test_it_runs_where_pytorch_is_broken(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('broken on purpose')")
    done = subprocess.run([sys.executable, "-m", "trc_lib", "doctor"], capture_output=True,
                          text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert [line[6:28].strip() for line in failed] == ["device", "notebook kernel"]
    assert all("broken on purpose" in line for line in failed) and done.returncode == 1


@pytest.mark.parametrize(("error", "system", "remedy"), [
    (RuntimeError("CUDA driver version is insufficient"), "posix", "CUDA_VISIBLE_DEVICES=-1"),
    (OSError("[WinError 126] The specified module could not be found: c10.dll"), "nt", "vc_redist"),
    (AttributeError("module 'torch' has no attribute 'ones'"), "posix", "force-reinstall torch")])
def test_it_finds_a_pytorch_that_does_not_compute(monkeypatch, error, system, remedy):
    def broken(*arguments, **options):
        raise error

    monkeypatch.setattr(torch, "ones", broken)
    with monkeypatch.context() as patch:
        patch.setattr(doctor.os, "name", system)
        name, passed, found, said = doctor._device()
    assert (name, passed, found) == ("device", False, str(error)) and remedy in said


@pytest.mark.parametrize(("apple", "driver", "said"), [
    (True, False, "the Apple GPU is not used"), (False, True, "does not use the NVIDIA GPU"),
    (False, False, "threads)")])
def test_it_says_which_gpu_is_not_used(monkeypatch, apple, driver, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
    monkeypatch.setattr(install, "has_nvidia_driver", lambda: driver)
    _, passed, found, _ = doctor._device()
    assert passed and said in found and found.startswith("cpu")


@pytest.fixture
def damaged_course(tmp_path, monkeypatch):
    """A copy of the networks and the notebooks, to be damaged."""
    for name in ("notebooks", "data/pretrained"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "trc_lib").mkdir()
    monkeypatch.setenv("TRC_FOLDER", str(tmp_path))
    return tmp_path


def test_it_counts_what_the_course_ships():
    assert len([*(ROOT / "data" / "pretrained").rglob("*.pt")]) == doctor.NETWORKS
    assert doctor._networks()[1] and doctor._notebooks()[1]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "pointer of Git LFS", "missing"])
def test_it_finds_a_damaged_network(damaged_course, damage):
    path = damaged_course / "data" / "pretrained" / "two_level_medium.pt"
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes({
        "truncated": whole[:middle], "pointer of Git LFS": b"version https://git-lfs.github.com",
        "flipped": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1:],
        "missing": b""}[damage])
    if damage == "missing":
        path.unlink()
    _, passed, found, remedy = doctor._networks()
    assert not passed and found.startswith(f"{doctor.NETWORKS - 1} of {doctor.NETWORKS}")
    assert "data/pretrained" in remedy or "again" in remedy


@pytest.mark.parametrize("text", ['{"cells": [', "<<<<<<< HEAD\n{}", "{}"])
def test_it_finds_a_damaged_notebook(damaged_course, text):
    (damaged_course / "notebooks" / "05_evaluation.ipynb").write_text(text)
    _, passed, found, remedy = doctor._notebooks()
    assert not passed and found.startswith("11 of 12")
    assert "05_evaluation.ipynb" in remedy or "again" in remedy


@pytest.mark.parametrize(("made", "remedy"), [
    ((".git", "Makefile"), "git checkout -- x"), (("Makefile",), "download the course again"),
    ((), "install the package again")])
def test_a_file_is_had_again_as_it_came(tmp_path, monkeypatch, made, remedy):
    monkeypatch.setattr(doctor, "CHECKOUT", tmp_path)
    for name in made:
        (tmp_path / name).touch()
    assert doctor._reinstall("x").startswith(remedy)


def test_it_starts_this_python_although_jupyter_finds_another(tmp_path, monkeypatch):
    """Like a machine with JUPYTER_PATH set for another environment, and an odd encoding."""
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["/usr/bin/false"], "display_name": "other",
                                "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONIOENCODING", "utf-16")
    light = repr("import sys; print(sys.prefix)")
    monkeypatch.setattr(doctor, "KERNEL", doctor.KERNEL.replace(repr(doctor.NOTEBOOK), light))
    assert doctor._kernel()[1:3] == (True, "this Python, with all that a notebook needs")
    _, passed, found, remedy = doctor._other_jupyter()
    assert passed is None and "/usr/bin/false" in found and "-m trc_lib lab" in remedy


@pytest.mark.parametrize(("code", "found"), [
    ("raise ModuleNotFoundError('no ipykernel')", "no ipykernel"), ("print('/other')", "/other"),
    ("import time; time.sleep(9)", "no answer")])
def test_it_finds_a_kernel_that_does_not_start(monkeypatch, code, found):
    real = subprocess.run
    monkeypatch.setattr(doctor, "KERNEL", code)
    monkeypatch.setattr(subprocess, "run",
                        lambda *words, timeout, **options: real(*words, timeout=2, **options))
    _, passed, said, remedy = doctor._kernel()
    assert passed is False and found in said
    assert "mend what fails" in remedy or "127.0.0.1" in remedy


@pytest.mark.parametrize(("command", "here"), [
    ("python", True), (sys.executable, True), ("/usr/bin/env", None)])
def test_it_says_which_python_another_jupyter_starts(monkeypatch, command, here):
    spec = KernelSpec(argv=[command, "-m", "ipykernel_launcher"])
    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda self, name: spec)
    assert doctor._other_jupyter()[1] is here


def test_it_finds_folders_that_cannot_be_written_to(diagnosis, monkeypatch):
    def read_only(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    assert ["Permission denied" in line for line in diagnosis()] == [True] * 2


def test_it_finds_a_full_disk(monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9e9, 8.9e9, 1e8))
    _, passed, found, remedy = doctor._disk()
    assert not passed and found.startswith("0.1 GB") and "TRC_FOLDER" in remedy
