import collections
import errno
import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from trc_lib import io


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_written_whole_writes_and_makes_the_folder(tmp_path):
    path = tmp_path / "new" / "deep" / "a.txt"
    io.write_text(path, "x₀ → x_T")
    assert path.read_text(encoding="utf-8") == "x₀ → x_T" and names_in(path.parent) == ["a.txt"]


def test_written_file_has_the_permissions_of_any_other_file(tmp_path):
    (tmp_path / "plain").write_text("")
    io.write_text(tmp_path / "whole", "")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [
    RuntimeError("boom"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_failed_write_leaves_the_old_content_and_no_temporary_file(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)), io.written_whole(path) as temporary:
        temporary.write_text("half of the new")
        raise error
    assert path.read_text() == "old" and names_in(tmp_path) == ["a.txt"]


def test_the_old_content_stays_until_the_new_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with io.written_whole(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.parent == tmp_path
    assert path.read_text() == "new"


@pytest.fixture
def foreign_folder():
    """A folder that can be read and not written to. Root changes its user meanwhile."""
    if os.name == "nt":
        pytest.skip("on Windows a folder has no such permission")
    folder = pathlib.Path(tempfile.mkdtemp())  # another user may not enter pytest's tmp_path
    (folder / "a.txt").write_text("old")
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_folder_is_an_error_that_names_the_path(foreign_folder):
    with pytest.raises(PermissionError, match=r"cannot write .*a\.txt: .*nothing was changed"):
        io.write_text(foreign_folder / "a.txt", "new")
    assert (foreign_folder / "a.txt").read_text() == "old" and names_in(foreign_folder) == ["a.txt"]


def test_a_file_in_the_place_of_the_folder_is_an_error_that_names_the_path(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(OSError, match=r"cannot write to .*a: it is a file; needs a folder"):
        io.check_writable(tmp_path / "a")
    with pytest.raises(OSError, match=r"cannot write .*: it is a folder; nothing was changed"):
        io.write_text(tmp_path, "new")
    with pytest.raises(OSError, match=r"cannot write .*b\.txt"):
        io.write_text(tmp_path / "a" / "b.txt", "new")
    assert (tmp_path / "a").read_text() == "old"


FULL_DISK = """
import pathlib, resource, sys, torch
from trc_lib import data, io
folder = pathlib.Path(sys.argv[1])
big = data.generate_dataset(1000)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))  # as a disk that is full after 5000 bytes
for name, write in {
    "a.txt": lambda path: io.write_text(path, "x" * 10_000),
    "a.npz": big.save,
    "a.pt": lambda path: io.save_checkpoint(path, "kind", 1, {"x": torch.zeros(5000)}),
}.items():
    (folder / name).write_text("old")
    try:
        write(folder / name)
    except OSError as error:
        assert f"cannot write {folder / name}: " in str(error), error
    else:
        raise AssertionError(f"{name} was written on a full disk")
    assert (folder / name).read_text() == "old"
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource.setrlimit")
def test_a_full_disk_is_an_error_that_names_the_path_and_changes_nothing(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert names_in(tmp_path) == ["a.npz", "a.pt", "a.txt"]


CONTENTS = {"a": torch.tensor([1.0, 2.0]), "b": {"c": [1, 2, {"d": "x"}]}, "e": np.arange(4),
            "f": None, "g": True}


def test_fingerprint_of_equal_contents_is_equal():
    rebuilt = {"g": True, "f": None, "e": np.arange(4), "b": {"c": [1, 2, {"d": "x"}]},
               "a": torch.tensor([1.0, 2.0])}
    assert io.fingerprint(rebuilt) == io.fingerprint(CONTENTS)


@pytest.mark.parametrize("change", [
    {"a": torch.tensor([1.0, 2.0000002])}, {"a": torch.tensor([1.0, 2.0], dtype=torch.float64)},
    {"a": torch.tensor([[1.0, 2.0]])}, {"a": torch.tensor([2.0, 1.0])},
    {"a": torch.tensor([1.0, float("nan")])}, {"b": {"c": [1, 2, {"d": "y"}]}},
    {"b": {"c": [1, 2], "d": "x"}}, {"b": {"C": [1, 2, {"d": "x"}]}},
    {"b": {"c": [2, 1, {"d": "x"}]}}, {"e": np.arange(4).view(np.uint64)},
    {"e": np.arange(4).reshape(2, 2)}, {"f": False}, {"f": "None"}, {"g": 1}, {"h": None},
], ids=str)
def test_fingerprint_changes_with_any_value_dtype_shape_or_key(change):
    assert io.fingerprint(CONTENTS | change) != io.fingerprint(CONTENTS)


def test_fingerprint_does_not_depend_on_memory_layout():
    matrix = torch.arange(6.0).reshape(2, 3)
    assert io.fingerprint(matrix.T) == io.fingerprint(matrix.T.contiguous())
    assert io.fingerprint(matrix.T) != io.fingerprint(matrix)


def test_checkpoint_round_trip_is_exact(tmp_path):
    contents = {"x": torch.randn(3, 4, dtype=torch.float64),
                "nested": {"list": [1, 2.5, "three", None, True]}}
    io.save_checkpoint(tmp_path / "a.pt", "kind", 1, contents)
    loaded = io.load_checkpoint(tmp_path / "a.pt", "kind", 1)
    assert torch.equal(loaded["x"], contents["x"]) and loaded["nested"] == contents["nested"]


def test_the_same_checkpoint_is_the_same_bytes(tmp_path):
    for name in ("a.pt", "b.pt"):
        io.save_checkpoint(tmp_path / name, "kind", 1, {"x": torch.arange(9.0)})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return pathlib.Path.touch, (self.witness,)


@pytest.mark.parametrize("zipped", [True, False], ids=["torch file", "bare pickle"])
def test_a_malicious_checkpoint_is_refused_and_not_executed(tmp_path, zipped):
    witness = tmp_path / "executed"
    evil = {"format": "kind", "version": 1, "x": Evil(witness)}
    if zipped:
        torch.save(evil, tmp_path / "evil.pt")
    else:
        (tmp_path / "evil.pt").write_bytes(pickle.dumps(evil, protocol=2))
    message = r"evil\.pt is not read as a checkpoint: it holds more than tensors"
    with pytest.raises(ValueError, match=message):
        io.load_checkpoint(tmp_path / "evil.pt", "kind", 1)
    assert not witness.exists()
    pickle.loads(pickle.dumps(evil))
    assert witness.exists()  # the checkpoint was malicious


def test_another_kind_or_version_or_a_missing_file_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    io.save_checkpoint(path, "kind", 1, {"x": torch.zeros(2)})
    message = "not a checkpoint of the kind other, but of the kind kind"
    with pytest.raises(ValueError, match=message):
        io.load_checkpoint(path, "other", 1)
    with pytest.raises(ValueError, match="has format version 1; this library reads version 2"):
        io.load_checkpoint(path, "kind", 2)
    with pytest.raises(FileNotFoundError, match=r"missing\.pt does not exist"):
        io.load_checkpoint(tmp_path / "missing.pt", "kind", 1)


@pytest.mark.parametrize("value", [[1, 2], torch.zeros(3), collections.OrderedDict(x=1)],
                         ids=["list", "tensor", "state_dict"])
def test_a_foreign_torch_file_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="not a checkpoint of the kind"):
        io.load_checkpoint(tmp_path / "a.pt", "kind", 1)


def _picture(path):
    Image.new("L", (2, 2)).save(path, format="png")


def _zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")


@pytest.mark.parametrize(("write", "found"), [
    (lambda path: path.write_text("hello, world\nmore"), "a text file that begins with 'hello, "),
    (lambda path: path.write_bytes("Größe\n".encode("latin-1")), "a text file that begins with 'G"),
    (lambda path: path.write_text("hello", encoding="utf-16"), "a text file in UTF-16"),
    (lambda path: path.write_text('{"a": 1}'), r"a text file that begins with '{\"a\": 1}'"),
    (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid"),
     "a text file that begins with 'version https://git-lfs"),
    (lambda path: path.touch(), "an empty file"),
    (lambda path: path.mkdir(), "a folder"),
    (_picture, "a PNG picture"),
    (_zip, "a zip archive"),
    (lambda path: np.savez(open(path, "wb"), x=np.eye(2)), "an npz file, as datasets are"),
    (lambda path: np.save(open(path, "wb"), np.eye(2)), "an npy array"),
    (lambda path: path.write_bytes(b"\x08\x0a\x12\x07pytorch\x1a\x0512345"), "an ONNX file"),
    (lambda path: path.write_bytes(bytes(range(100))), "a binary file of another kind"),
], ids=range(13))
def test_another_file_given_as_checkpoint_is_refused_with_what_it_looks_like(
        write, found, tmp_path):
    write(tmp_path / "it.pt")
    with pytest.raises(ValueError, match=r"it\.pt cannot be read as a checkpoint, it is "
                                         rf"{found}.*; needs a file that `train` wrote"):
        io.load_checkpoint(tmp_path / "it.pt", "kind", 1)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_bytes_are_never_read_as_other_contents(tmp_path):
    """Truncated, one bit flipped, or noise: a ValueError, or the original contents."""
    path, broken = tmp_path / "a.pt", tmp_path / "broken.pt"
    io.save_checkpoint(path, "kind", 1, {"x": torch.arange(5.0), "name": "a"})
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    cut = [whole[:n] for n in range(0, len(whole), 37)]
    flipped = [whole[:i] + bytes([whole[i] ^ (1 << rng.integers(8))]) + whole[i + 1:]
               for i in range(0, len(whole), 3)]
    noise = [rng.bytes(n) for n in rng.integers(0, 60, 300)] + [b"some text\n"]
    refused = 0
    for content in cut + flipped + noise:
        broken.write_bytes(content)
        try:
            loaded = io.load_checkpoint(broken, "kind", 1)
        except ValueError as error:
            refused += 1
            assert str(broken) in str(error)
        else:
            assert len(content) == len(whole) and loaded["name"] == "a"
            assert torch.equal(loaded["x"], torch.arange(5.0))
    assert refused >= len(cut) + len(noise)


# ---------------------------------------------------------------- results

RESULTS = {"count": 3, "share": 0.1, "whole": 2.0, "none": None, "yes": True, "text": "x₀ → x_T",
           "rows": [{"a": 1e-300}, []]}


def test_results_come_back_equal_and_are_readable_json(tmp_path):
    io.write_json(tmp_path / "a.json", RESULTS)
    again = io.read_json(tmp_path / "a.json")
    assert again == RESULTS and {name: type(value) for name, value in again.items()} == {
        name: type(value) for name, value in RESULTS.items()}
    plain = json.loads((tmp_path / "a.json").read_text())
    assert plain.pop("fingerprint") and plain == RESULTS
    assert len((tmp_path / "a.json").read_text().splitlines()) > 10


def test_what_json_changes_does_not_count_as_damage(tmp_path):
    io.write_json(tmp_path / "a.json", {10: (1, 2), 9: {None: 1}, "x": 1.0})  # keys become strings
    assert io.read_json(tmp_path / "a.json") == {"10": [1, 2], "9": {"null": 1}, "x": 1.0}


@pytest.mark.parametrize(("old", "new", "reason"), [
    ("0.1", "0.2", "was changed after it was saved"), ("2.0", "2", "was changed"),
    ('"share"', '"shore"', "was changed"), ("true", "false", "was changed"),
    ("}\n", "", "cannot be read as JSON"), ('"fingerprint"', '"gerprintfin"', "no fingerprint"),
])
def test_a_changed_result_is_refused_by_name(tmp_path, old, new, reason):
    path = tmp_path / "a.json"
    io.write_json(path, RESULTS)
    text = path.read_text(encoding="utf-8")
    path.write_text(new.join(text.rsplit(old, 1)), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    with pytest.raises(ValueError, match=rf"a\.json .*{reason}"):
        io.read_json(path)


def test_a_missing_results_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json does not exist"):
        io.read_json(tmp_path / "none.json")


# ---------------------------------------------------------------- one at a time

def shown(pid):
    """How a message names the holder of a lock, as a pattern; Windows does not let it be read."""
    return "another process" if os.name == "nt" else rf"process {pid} on [^;]+"


HOLD = """
import sys, time
from trc_lib import io
with io.claimed(sys.argv[1], "it"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_claim_keeps_others_out_names_its_holder_and_ends_with_its_process(tmp_path):
    lock = tmp_path / "new" / ".lock"
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        message = f"^it is in use by {shown(holder.pid)}; wait for it, or end it"
        with pytest.raises(io.Busy, match=message), io.claimed(lock, "it"):
            raise AssertionError("both have it")
        holder.kill()
        holder.wait()
    assert lock.exists()
    with io.claimed(lock, "it"), pytest.raises(io.Busy, match=shown(os.getpid())), \
            io.claimed(lock, "it"):
        pass
    assert names_in(lock.parent) == []


def test_a_claim_that_fails_leaves_the_holders_lock(tmp_path):
    lock = tmp_path / ".lock"
    with io.claimed(lock, "it"):
        for _ in range(2):
            with pytest.raises(io.Busy), io.claimed(lock, "it"):
                pass
            assert lock.exists()


CONTEND = """
import sys, time
from trc_lib import io
count, lock, counter = 0, sys.argv[1], sys.argv[2]
while count < 200:
    try:
        with io.claimed(lock, "it"):
            before = int(open(counter).read())
            open(counter, "w").write(str(before + 1))
        count += 1
    except io.Busy:
        time.sleep(0.0005)
"""


def test_two_processes_that_claim_in_turns_never_hold_it_both(tmp_path):
    """The lock's file is removed and made anew all the time; no update of the counter is lost."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    command = [sys.executable, "-c", CONTEND, str(tmp_path / ".lock"), str(counter)]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert counter.read_text() == "400" and names_in(tmp_path) == ["counter"]


def test_where_nothing_can_be_written_nobody_is_kept_out(foreign_folder):
    with io.claimed(foreign_folder / ".lock", "it"):
        assert names_in(foreign_folder) == ["a.txt"]


def test_where_there_are_no_locks_nobody_is_kept_out(tmp_path, monkeypatch):
    def unknown(*arguments):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", unknown)
    with io.claimed(tmp_path / ".lock", "it"), io.claimed(tmp_path / ".lock", "it"):
        pass
    io.write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").read_text() == "x"


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot lock a file that is written to")
def test_temporary_files_of_killed_writers_are_removed_and_those_of_running_ones_not(tmp_path):
    path = tmp_path / "a[1].txt"
    left, others = tmp_path / ".a[1].txt.0123abcd.part", tmp_path / ".b.txt.0123abcd.part"
    left.write_text("half"), others.write_text("half")
    with io.written_whole(path) as temporary:
        assert names_in(tmp_path) == sorted([others.name, temporary.name])
        io.write_text(path, "second")
        assert temporary.exists()
        temporary.write_text("first")
    assert path.read_text() == "first" and names_in(tmp_path) == [others.name, path.name]


def test_what_has_no_fingerprint_is_refused():
    class Thing:
        pass

    for array in (np.array([Thing()], dtype=object), np.array([("a", None)], dtype="O,O")):
        with pytest.raises(TypeError, match="has no fingerprint; only numbers and strings have"):
            io.fingerprint({"value": array})


def test_numbers_of_numpy_are_results_like_any_others(tmp_path):
    results = {"seed": np.int64(3), "error": np.float32(0.5), "done": np.bool_(True),
               np.str_("curve"): [np.float64(0.1), (np.int32(1), 2)], "map": np.eye(2)}
    io.write_json(tmp_path / "results.json", results)
    assert io.read_json(tmp_path / "results.json") == {
        "seed": 3, "error": 0.5, "done": True, "curve": [0.1, [1, 2]],
        "map": [[1.0, 0.0], [0.0, 1.0]]}
    assert io.fingerprint(np.float64(0.1)) == io.fingerprint(0.1)
