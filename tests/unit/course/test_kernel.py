"""Which Python the kernel ``python3`` is, and what it needs at home."""

import json
import os
import sys

import pytest
from jupyter_client.kernelspec import KernelSpecManager

from trc_lib.course import kernel

AT_HOME = {"MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"}


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """Another environment's python3 on JUPYTER_PATH."""
    spec = tmp_path / "foreign" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["/foreign/python"], "display_name": "foreign"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "foreign"))
    assert KernelSpecManager().get_kernel_spec("python3").argv == ["/foreign/python"]


def test_the_kernel_is_this_python_and_other_kernels_are_still_there(
        tmp_path, foreign, monkeypatch):
    other = tmp_path / "foreign" / "kernels" / "other" / "kernel.json"
    other.parent.mkdir()
    other.write_text(json.dumps({"argv": ["other"], "display_name": "other"}))
    for name, value in kernel.environment(tmp_path / "ours").items():
        monkeypatch.setenv(name, value)
    found = KernelSpecManager()
    assert found.get_kernel_spec("python3").argv[:3] == [sys.executable, "-m", "ipykernel_launcher"]
    assert found.get_kernel_spec("other").argv == ["other"]


def test_a_home_is_replaced_only_where_it_cannot_be_written(tmp_path, monkeypatch):
    for name in AT_HOME:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: str(tmp_path))
    assert kernel.environment(tmp_path).keys() == {"JUPYTER_PATH"}
    monkeypatch.setattr(os.path, "expanduser", lambda path: os.devnull)
    monkeypatch.setenv("IPYTHONDIR", "mine")
    given = kernel.environment(tmp_path)
    assert given.keys() == {"JUPYTER_PATH", *AT_HOME} and given["IPYTHONDIR"] == "mine"
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # a user without a name
    assert kernel.environment(tmp_path)["HOME"] == str(tmp_path)
