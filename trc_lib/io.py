"""Files that are there whole or not at all."""

import contextlib
import glob
import hashlib
import io
import json
import os
import pathlib
import pickle
import socket
import tempfile
import uuid

import numpy as np
import torch

from trc_lib import validation

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class Busy(RuntimeError):
    """Another process is at it."""


@contextlib.contextmanager
def claimed(lock, what):
    """Hold the file ``lock`` for this process alone while the block runs. The lock is the system's, and goes with the process.

    Where nothing can be written, or the file system knows no locks, nobody is kept out.

    Args:
        lock: path of a file that serves no other purpose; its folder is made if missing, and the file is gone afterwards.
        what: the lock protects, for the message.

    Raises:
        Busy: at once, if another process holds it; the message says which.
    """
    held = _lock(pathlib.Path(lock), what)
    try:
        yield
    finally:
        if held is not None:
            with contextlib.suppress(OSError):
                os.unlink(lock)
            os.close(held)


def _lock(path, what):
    """The descriptor of ``path``, locked; None where there can be no lock."""
    while fcntl is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(held), os.stat(path)):
                os.ftruncate(held, 0)
                with contextlib.suppress(OSError):  # a full disk
                    os.write(held, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return held
            os.close(held)
        except FileNotFoundError:  # its former holder took it away in between: once more
            os.close(held)
        except BlockingIOError:
            holder = os.read(held, 1000).decode(errors="replace") or "another process"
            os.close(held)
            raise Busy(f"{what} is in use by {holder}; wait for it, or end it") from None
        except OSError:
            os.close(held)
            return None


@contextlib.contextmanager
def written_whole(path):
    """Give a temporary path beside ``path`` to write to; rename it to ``path`` when all went well.

    Whatever was at ``path`` stays untouched until then. The folder is made if missing. What a process that was killed while it
    wrote to ``path`` left behind is taken away.

    Raises:
        OSError: with ``path`` and the reason, where the disk is full or the folder is read-only.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.????????.part"):
            with contextlib.suppress(Busy), claimed(left, left):  # it is locked as long as somebody writes to it
                pass
        temporary.touch(exist_ok=False)
        with claimed(temporary, path):
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
    except OSError as error:
        raise type(error)(error.errno, f"cannot write {path}: {error.strerror or error}; nothing was changed") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def check_writable(folder):
    """Raise an OSError that names ``folder`` if nothing can be written there; the folder is made if missing."""
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(b"trial")
    except OSError as error:
        raise type(error)(error.errno, f"cannot write to {folder}: {error.strerror or error}") from error


def write_text(path, text):
    """Write ``text`` to ``path``, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, contents):
    """Write a dict of what JSON can hold to ``path``, whole or not at all, readable, and with its fingerprint."""
    text = json.dumps(contents, indent=1)
    write_text(path, json.dumps(json.loads(text) | {"fingerprint": fingerprint(json.loads(text))}, indent=1) + "\n")


def read_json(path):
    """Read what `write_json` wrote: lists where tuples were, and keys that are strings.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is truncated, is not such a file, or was changed since it was written.
    """
    if not pathlib.Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        contents = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON, it is truncated or something else: {error}") from None
    if not isinstance(contents, dict) or "fingerprint" not in contents:
        raise ValueError(f"{path} is not a file of results of this course: it has no fingerprint")
    if contents.pop("fingerprint") != fingerprint(contents):
        raise ValueError(f"{path} was changed after it was written: its contents do not match its fingerprint")
    return contents


def fingerprint(contents):
    """SHA-256 of a nest of dicts, lists, arrays, tensors and plain values: equal if and only if the contents are."""
    digest = hashlib.sha256()

    def feed(value):
        if torch.is_tensor(value):
            value = value.detach().cpu().numpy()
        if isinstance(value, np.ndarray):
            digest.update(f"array {value.dtype.str} {value.shape} ".encode() + np.ascontiguousarray(value).tobytes())
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


def plain(contents):
    """A nest of dicts with its tensors and arrays as lists, as JSON can hold it."""
    if isinstance(contents, dict):
        return {name: plain(value) for name, value in contents.items()}
    return contents.tolist() if torch.is_tensor(contents) or isinstance(contents, np.ndarray) else contents


def changes(old, new, name=""):
    """Where two nests of dicts differ, as words: ``training.epochs: 2 -> 3``."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old | new:
            yield from changes(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        brief = [f"{value[:8]}..." if isinstance(value, str) and len(value) == 64 else value for value in (old, new)]
        yield f"{name}: {brief[0]} -> {brief[1]}"


def save_checkpoint(path, kind, version, contents):
    """Write a dict of tensors and plain values to ``path``, whole or not at all, with its kind and fingerprint."""
    checkpoint = {"format": kind, "version": version, **contents}
    serialized = io.BytesIO()  # torch's own file writer hides a full disk behind a RuntimeError
    torch.save(checkpoint | {"fingerprint": fingerprint(checkpoint)}, serialized)
    with written_whole(path) as temporary:
        temporary.write_bytes(serialized.getvalue())  # a view, left in a traceback, crashes Python 3.12.1


def load_checkpoint(path, kind, *versions):
    """Read what `save_checkpoint` wrote in one of these ``versions``; only tensors and plain values are read, never code.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is truncated, of another kind or version, or was changed since it was saved.
    """
    if not validation.path("path", path).exists():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's own message recommends the unsafe way to read it
        raise ValueError(f"{path} is not read as a checkpoint: it holds more than tensors and plain values") from None
    except Exception as error:  # broken bytes can make an unpickler fail in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read as a checkpoint, it is truncated or something else: {reason}") from None
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != kind:
        raise ValueError(f"{path} is not a checkpoint of the kind {kind}")
    if checkpoint.get("version") not in versions:
        raise ValueError(f"{path} has format version {checkpoint.get('version')}; "
                         f"this library reads version {' and '.join(map(str, versions))}")
    if checkpoint.pop("fingerprint", None) != fingerprint(checkpoint):
        raise ValueError(f"{path} was changed after it was saved: its contents do not match its fingerprint")
    return checkpoint
