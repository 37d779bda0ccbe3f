"""Files that are written whole or not at all, their fingerprints, and locks."""

import contextlib
import errno
import glob
import hashlib
import io
import json
import os
import pathlib
import pickle
import re
import shlex
import socket
import subprocess
import tempfile
import time
import uuid
import zipfile
from collections.abc import Iterator

import filelock
import numpy as np
import torch

from trc_lib import validation

Path = str | os.PathLike
WINDOWS = os.name == "nt"

# What files are, by their first bytes, see `looks_like`.
TORCH, PICKLE = "a PyTorch file, as checkpoints are", "a pickle file"
NPZ, CUT_ZIP = "an npz file, as datasets are", "a zip archive that is truncated"
SIGNATURES = {rb"PK\x03\x04": CUT_ZIP, rb"\x80[\x02-\x05]": PICKLE, rb"\x93NUMPY": "an npy array",
              rb"\x89PNG": "a PNG picture", rb"GIF8": "a GIF picture", rb"%PDF": "a PDF document",
              rb"\x1f\x8b": "a gzip archive", rb"\x89HDF": "an HDF5 file",
              rb"\x08.\x12": "an ONNX file", rb"(\xff\xfe|\xfe\xff)": "a text file in UTF-16"}


class Busy(RuntimeError):
    """Another process holds the lock."""


@contextlib.contextmanager
def claimed(lock: Path, what: object) -> Iterator[None]:
    """Hold the file ``lock`` while the block runs. A lock ends with its process, also a killed one.

    Where nothing can be written, or the file system has no locks, the block runs without.

    Args:
        lock: path of a file that serves no other purpose; removed afterwards. Its folder is made.
        what: the lock protects, for the message.

    Raises:
        Busy: at once, if another process holds the lock; the message says which.
    """
    lock = pathlib.Path(lock)
    held = filelock.FileLock(lock, blocking=False, fallback_to_soft=False)
    with contextlib.suppress(OSError):
        lock.parent.mkdir(parents=True, exist_ok=True)
        _acquire(held, lock, what)
        lock.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
    try:
        yield
    finally:
        if held.is_locked:
            with contextlib.suppress(OSError):
                lock.unlink()
            held.release()


def _acquire(held, lock, what):
    for _ in range(50):  # not for ever: Windows also answers so where nothing can be written
        try:
            return held.acquire()
        except filelock.Timeout:
            if not lock.exists():  # its holder removed it in between
                time.sleep(0.01)
                continue
            holder = ""
            with contextlib.suppress(OSError):  # Windows does not let others read a locked file
                holder = lock.read_text(encoding="utf-8", errors="replace")
            raise Busy(f"{what} is in use by {holder or 'another process'}; "
                       "wait for it, or end it") from None
    raise OSError(f"{lock} cannot be made")


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[pathlib.Path]:
    """Yield a temporary path beside ``path``, and rename it to ``path`` if the block succeeds.

    Until then the file at ``path`` is unchanged. The folder is made if missing. Temporary files of
    ``path`` that a killed process left are removed, except on Windows.

    Raises:
        OSError: with ``path`` and the reason, e.g. a full disk or a read-only folder.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.????????.part"):
            with contextlib.suppress(Busy), _in_use(left, left):  # the claim removes it
                pass
        temporary.touch(exist_ok=False)
        with _in_use(temporary, path):
            yield temporary
            with open(temporary, "r+b") as written:
                os.fsync(written.fileno())
            replace(temporary, path)
    except OSError as error:
        reason = f"cannot write {path}: {error.strerror or error}; nothing was changed"
        raise type(error)(error.errno, reason) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def replace(old: Path, new: Path) -> None:
    """`os.replace`, tried for two seconds on Windows: there a reader or a virus scanner forbids it.

    Raises:
        PermissionError: if ``new`` is still open in another program then.
    """
    _patiently(os.replace, old, new)


def remove(path: Path) -> None:
    """Remove a file, if it exists; tried for two seconds as `replace`."""
    with contextlib.suppress(FileNotFoundError):
        _patiently(os.unlink, path)


def _patiently(change, *paths):
    until = time.monotonic() + 2
    while True:
        try:
            return change(*paths)
        except PermissionError as error:
            if not hasattr(error, "winerror") or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _in_use(temporary, path):
    """Lock a temporary file itself; not on Windows, where a locked file cannot be written."""
    return contextlib.nullcontext() if WINDOWS else claimed(temporary, path)


def check_writable(folder: Path) -> None:
    """Raise an OSError that names ``folder`` if it, made if missing, cannot be written to."""
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(b"trial")
    except OSError as error:
        why = "it is a file; needs a folder" if folder.is_file() else error.strerror or error
        reason = f"cannot write to {folder}: {why}"
        raise type(error)(error.errno, reason) from error


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_bytes(text.encode())  # `write_text` would change the newlines on Windows


def write_json(path: Path, contents: dict) -> None:
    """Write ``contents`` and their fingerprint to ``path`` as JSON, whole or not at all."""
    contents = json.loads(json.dumps(plain(contents)))  # the fingerprint is of what will be read
    signed = contents | {"fingerprint": fingerprint(contents)}
    write_text(path, json.dumps(signed, indent=1) + "\n")


def read_json(path: Path) -> dict:
    """Read what `write_json` wrote; tuples come back as lists, and all keys as strings.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is truncated, is not such a file, or was changed since it was written.
    """
    if not pathlib.Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        contents = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON, "
                         f"it is truncated or something else: {error}") from None
    if not isinstance(contents, dict) or "fingerprint" not in contents:
        raise ValueError(f"{path} is not a file of results of this course: it has no fingerprint")
    return _unchanged(path, contents)


def fingerprint(contents: object) -> str:
    """SHA-256 of nested dicts, lists, arrays, tensors and plain values."""
    digest = hashlib.sha256()

    def feed(value):
        if torch.is_tensor(value):
            value = value.detach().cpu().numpy()
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, np.ndarray):
            if value.dtype.hasobject:  # its bytes are addresses in memory
                raise TypeError(f"an array of {value.dtype} has no fingerprint; "
                                "only numbers and strings have one")
            digest.update(f"array {value.dtype.str} {value.shape} ".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, dict):
            digest.update(f"dict {len(value)} ".encode())
            for key in sorted(value, key=str):
                feed(key)
                feed(value[key])
        elif isinstance(value, list | tuple):
            digest.update(f"list {len(value)} ".encode())
            for item in value:
                feed(item)
        else:
            digest.update(f"{type(value).__name__} {value!r} ".encode())

    feed(contents)
    return digest.hexdigest()


def _unchanged(path, contents):
    """``contents`` without their fingerprint, if they match it."""
    if contents.pop("fingerprint", None) != fingerprint(contents):
        raise ValueError(f"{path} was changed after it was saved: "
                         "its contents do not match its fingerprint")
    return contents


def plain(contents: object) -> object:
    """Nested dicts and lists with their tensors, arrays and NumPy numbers as JSON can hold them."""
    if isinstance(contents, dict):
        return {plain(name): plain(value) for name, value in contents.items()}
    if isinstance(contents, list | tuple):
        return [plain(value) for value in contents]
    if isinstance(contents, torch.Tensor | np.ndarray | np.generic):
        return contents.tolist()
    return contents


def changes(old: object, new: object, name: str = "") -> Iterator[str]:
    """Yield where two nested dicts differ, such as ``training.epochs: 2 -> 3``."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old | new:
            yield from changes(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        brief = [f"{value[:8]}..." if isinstance(value, str) and len(value) == 64 else value
                 for value in (old, new)]  # fingerprints
        yield f"{name}: {brief[0]} -> {brief[1]}"


def command(*words: str) -> str:
    """The words as one line for the shell, quoted where they need it."""
    return subprocess.list2cmdline(words) if WINDOWS else shlex.join(words)


def looks_like(path: Path) -> str:
    """What kind of file ``path`` is, by its contents: `TORCH`, `NPZ`, ``"a PNG picture"``, ..."""
    if os.path.isdir(path):
        return "a folder"
    with open(path, "rb") as stream:
        head = stream.read(512)
    if not head:
        return "an empty file"
    with contextlib.suppress(Exception):  # damaged bytes can raise any exception in the reader
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("/data.pkl") for name in names):
            return TORCH
        return NPZ if any(name.endswith(".npy") for name in names) else "a zip archive"
    for signature, kind in SIGNATURES.items():
        if re.match(signature, head, re.DOTALL):
            return kind
    if re.search(rb"[^\t-\r\x1b -~\x80-\xff]", head):
        return "a binary file of another kind"
    begins = head.decode("utf-8", errors="replace").strip().partition("\n")[0]
    return f"a text file that begins with {begins[:40]!r}"


def check_kind(path: Path, wanted: str, accepted: tuple[str, ...], needed: str) -> None:
    """Raise a ValueError that says what ``path`` is, if that is none of the ``accepted``."""
    found = looks_like(path)
    if found not in accepted:
        raise ValueError(f"{path} cannot be read as {wanted}, it is {found}; needs {needed}")


def save_checkpoint(path: Path, kind: str, version: int, contents: dict) -> None:
    """Write ``contents``, tensors and plain values, to ``path`` with kind and fingerprint."""
    checkpoint = {"format": kind, "version": version, **contents}
    serialized = io.BytesIO()  # torch's own file writer hides a full disk behind a RuntimeError
    torch.save(checkpoint | {"fingerprint": fingerprint(checkpoint)}, serialized)
    with written_whole(path) as temporary:
        temporary.write_bytes(serialized.getvalue())  # a view in a traceback crashes Python 3.12.1


def load_checkpoint(path: object, kind: str, *versions: int) -> dict:
    """Read what `save_checkpoint` wrote in one of these ``versions``; code is never executed.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is truncated, of another kind or version, or was changed since then.
    """
    if not validation.path("path", path).exists():
        raise FileNotFoundError(f"{path} does not exist")
    check_kind(path, "a checkpoint", (TORCH, PICKLE, CUT_ZIP),
               "a file that `train` wrote, such as best_model.pt")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's own message recommends the unsafe way to read it
        raise ValueError(f"{path} is not read as a checkpoint: "
                         "it holds more than tensors and plain values") from None
    except Exception as error:  # damaged bytes can raise any exception in the unpickler
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read as a checkpoint, "
                         f"it is truncated or something else: {reason}") from None
    found = checkpoint.get("format") if isinstance(checkpoint, dict) else None
    if found != kind:
        raise ValueError(f"{path} is not a checkpoint of the kind {kind}"
                         + (f", but of the kind {found}" if found else ""))
    if checkpoint.get("version") not in versions:
        raise ValueError(f"{path} has format version {checkpoint.get('version')}; "
                         f"this library reads version {' and '.join(map(str, versions))}")
    return _unchanged(path, checkpoint)
