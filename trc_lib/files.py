"""Files that are there whole or not at all."""

import contextlib
import hashlib
import io
import os
import pathlib
import pickle
import tempfile
import uuid

import numpy as np
import torch


@contextlib.contextmanager
def written_whole(path):
    """Give a temporary path beside ``path`` to write to; rename it to ``path`` when all went well.

    Whatever was at ``path`` stays untouched until then. The folder is made if missing.

    Raises:
        OSError: with ``path`` and the reason, where the disk is full or the folder is read-only.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
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


def save_checkpoint(path, kind, version, contents):
    """Write a dict of tensors and plain values to ``path``, whole or not at all, with its kind and fingerprint."""
    checkpoint = {"format": kind, "version": version, **contents}
    serialized = io.BytesIO()  # torch's own file writer hides a full disk behind a RuntimeError
    torch.save(checkpoint | {"fingerprint": fingerprint(checkpoint)}, serialized)
    with written_whole(path) as temporary:
        temporary.write_bytes(serialized.getvalue())  # a view, left in a traceback, crashes Python 3.12.1


def load_checkpoint(path, kind, version):
    """Read what `save_checkpoint` wrote; only tensors and plain values are read, never code.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is truncated, of another kind or version, or was changed since it was saved.
    """
    if not pathlib.Path(path).exists():
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
    if checkpoint.get("version") != version:
        raise ValueError(f"{path} has format version {checkpoint.get('version')}; this library reads version {version}")
    if checkpoint.pop("fingerprint", None) != fingerprint(checkpoint):
        raise ValueError(f"{path} was changed after it was saved: its contents do not match its fingerprint")
    return checkpoint
