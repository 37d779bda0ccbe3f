"""What is printed arrives in every encoding, and never stops a command."""

import io
import os
import pathlib
import subprocess
import sys

import pytest

from tests import ROOT
from trc_lib import io as files
from trc_lib.__main__ import main
from trc_lib.course import console, doctor
from trc_lib.course.batch.report import closing_table

ENCODINGS = ["ascii", "latin-1", "cp1252", "cp437", "koi8-r", "shift_jis", "utf-16", "utf-8"]
COMMANDS = ["generate", "train", "evaluate", "export", "course", "sweep", "lab"]


class Terminal:
    """A terminal with an encoding, in the place of stdout and stderr."""

    def __init__(self, monkeypatch, encoding):
        self.bytes, self.encoding = io.BytesIO(), encoding
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, io.TextIOWrapper(self.bytes, encoding))

    def shown(self):
        sys.stdout.flush(), sys.stderr.flush()
        return self.bytes.getvalue().decode(self.encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_generate_evaluate_and_help_print_in_every_encoding(encoding, tmp_path, monkeypatch):
    terminal = Terminal(monkeypatch, encoding)
    squared = "(m/s^2)^2" if encoding in ("ascii", "shift_jis") else "(m/s²)²"
    data = tmp_path / "ä中"
    assert main(["generate", "--num-samples", "16", "--num-eval", "8", "--out", str(data)]) == 0
    assert squared in terminal.shown() and "Datasets saved to" in terminal.shown()
    checkpoint = ROOT / "data" / "pretrained" / "two_level_medium.pt"
    assert main(["evaluate", "--checkpoint", str(checkpoint),
                 "--data", str(data / "lqr_dataset_eval.npz")]) == 0
    assert "final_error_mean" in terminal.shown()
    for command in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
    assert main(["evaluate", "--checkpoint", "中.pt"]) == 1
    assert ".pt does not exist" in terminal.shown()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_doctor_and_the_table_of_the_course_print_in_every_encoding(
        encoding, tmp_path, monkeypatch):
    terminal = Terminal(monkeypatch, encoding)
    monkeypatch.setattr(doctor, "_kernel", lambda: ("notebook kernel", True, "", ""))  # it is slow
    monkeypatch.setenv("TRC_FOLDER", str(tmp_path / "²中"))
    assert main(["doctor"]) in (0, 1)
    assert "Python" in terminal.shown()
    print(closing_table(files.read_json(ROOT / "data" / "results" / "course.json"), "runs"))
    assert "mean final error" in terminal.shown()


def test_what_an_encoding_lacks_is_written_in_ascii_and_bytes_of_file_names_as_they_are(
        monkeypatch):
    terminal = Terminal(monkeypatch, "ascii")
    console.prepare()
    print("0.5 ± 0.1 m/s² – a → b, x ≥ 1 … “中”")
    assert terminal.shown() == '0.5 +- 0.1 m/s^2 - a -> b, x >= 1 ... "\\u4e2d"\n'
    print(os.fsdecode(b"a\xff"))
    sys.stdout.flush()
    assert terminal.bytes.getvalue().endswith(b"a\xff\n")


@pytest.mark.parametrize("stream", [None, "closed", io.StringIO()],
                         ids=["None", "closed", "a string"])
def test_missing_and_closed_streams_and_plain_strings_are_printed_to(stream, monkeypatch):
    if stream == "closed":
        stream = io.StringIO()
        stream.close()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, stream)
    assert main(["evaluate", "--checkpoint", "none.pt"]) == 1
    print("²", file=sys.stderr)


def _printed_to(target, code="", **options):
    """What becomes of a process that prints 100 lines, and runs some code, with this stdout."""
    script = ("import sys; from trc_lib.course import console; console.prepare()\n"
              f"for i in range(100): print(i, flush=True)\n{code}\n"
              "print('went on', file=sys.stderr); sys.exit(console.finish(0))")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", script], stdout=target, env=environment,
                            stderr=subprocess.PIPE, text=True, **options)


def test_a_pipe_whose_reader_ended_stops_nothing():
    process = _printed_to(subprocess.PIPE, "import time; time.sleep(0.2); print('more')")
    process.stdout.close()
    assert process.stderr.read() == "went on\n" and process.wait() == 0


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_after_the_work():
    with open("/dev/full", "w") as full:
        process = _printed_to(full)
        assert process.stderr.read() == (
            "went on\nerror: what was printed is not whole: No space left on device\n")
    assert process.wait() == 1
