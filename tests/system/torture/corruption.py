"""Damage on disk: bytes that flip, files that are cut short, pickles that want to run code."""

import dataclasses
import json
import pathlib
import pickle
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from io import BytesIO

import numpy as np
import torch

from tests import ROOT
from tests.benchmarks.publish import tagged_pictures
from tests.system.torture.kills import SMALL, TRAINING
from tests.system.torture.rows import Row
from trc_lib import io
from trc_lib.data import LQRDataset, generate_dataset, shards
from trc_lib.model import TinyRecursiveControl, TRCConfig
from trc_lib.training import epochs_kept, load_snapshots, train


def equal(before, after):
    """Whether nothing that was read has changed."""
    return io.fingerprint(before) == io.fingerprint(after)


@dataclasses.dataclass(frozen=True)
class Target:
    """A file to damage.

    Attributes:
        name: of its kind.
        path: of a whole one.
        load: what the library reads it with; its result is what must not change silently.
        harmless: of what was read from the whole and from the damaged file: whether the damage did no harm.
    """

    name: str
    path: pathlib.Path
    load: Callable
    harmless: Callable = equal


def _dataset(path):
    dataset = LQRDataset.load(path)
    return [dataset.initial_states, dataset.target_states, dataset.controls, dataset.origin]


def _model(path):
    model = TinyRecursiveControl.load(path)
    return [dict(model.state_dict()), dataclasses.asdict(model.config), model.system.contents(), model.recipe]


def _shard(path, manifest):
    """A shard, read as part of its store."""
    if path.parent != manifest.parent:
        shutil.copy(manifest, path.parent)
    return list(shards.Store(path.parent).read(0))


def _no_other_picture(before, after):
    """All that the course takes from an executed notebook is its pictures: each is as it was, or missing."""
    return set(after.values()) <= set(before.values())


def targets(folder):
    """One file of each kind, made in ``folder``."""
    data, model = generate_dataset(64), TinyRecursiveControl(TRCConfig(**SMALL))
    data.save(folder / "data.npz")
    train(model, data, data, TRAINING, folder, "cpu", progress=False)
    shards.make(folder / "store", 200, 1, data.teacher, 2.5, 2.5, progress=False)
    return [
        Target("dataset", folder / "data.npz", _dataset),
        Target("checkpoint", folder / "best_model.pt", _model),
        Target("training state", folder / "last.pt", lambda path: io.load_checkpoint(path, "trc_lib.training", 1)),
        Target("snapshots", folder / "snapshots.pt", load_snapshots),
        Target("shard", folder / "store" / "shard-00000.npy", lambda path: _shard(path, folder / "store" / shards.MANIFEST)),
        Target("results file", ROOT / "data" / "results" / "course.json", io.read_json),
        Target("executed notebook, for its pictures", ROOT / "notebooks" / "02_dataset.ipynb", tagged_pictures,
               _no_other_picture),
    ]


def flipped(whole, rng):
    """The bytes with one of them changed."""
    i = int(rng.integers(len(whole)))
    return whole[:i] + bytes([whole[i] ^ int(rng.integers(1, 256))]) + whole[i + 1:]


def truncated(whole, rng):
    """The first of the bytes."""
    return whole[:int(rng.integers(len(whole)))]


def damage(target, how, tries, rng, advance=lambda: None):
    """Damage one file so many times: refused by a ValueError that names it, or what is read is as it was."""
    row = Row("corruption", f"{target.name}, {'a byte flipped' if how is flipped else 'cut short'}")
    before, whole = target.load(target.path), target.path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        broken = pathlib.Path(folder) / target.path.name
        for _ in range(tries):
            broken.write_bytes(how(whole, rng))
            try:
                after = target.load(broken)
            except ValueError as error:
                row.add("refused", None if str(broken) in str(error) else f"a message that does not name the file: {error}")
            except Exception as error:
                row.add("", f"{type(error).__name__}: {error}")
            else:
                row.add("harmless", None if target.harmless(before, after) else "read with other contents")
            advance()
    return row


def everything_damaged(tries, rng, advance=lambda: None):
    """Each kind of file, flipped and cut short, so many times each."""
    with tempfile.TemporaryDirectory() as folder:
        return [damage(target, how, tries, rng, advance)
                for target in targets(pathlib.Path(folder)) for how in (flipped, truncated)]


def source_notebooks(tries, rng, advance=lambda: None):
    """A byte flipped in the code of a notebook is other code, as in any source: what knows is git, by the hash of each file."""
    row = Row("corruption", "source notebook, a byte flipped: shown by git")
    notebooks = sorted((ROOT / "notebooks").rglob("*.ipynb"))
    with tempfile.TemporaryDirectory() as folder:
        broken = pathlib.Path(folder) / "broken.ipynb"

        def hash_of(path):
            return subprocess.run(["git", "hash-object", "--no-filters", path], check=True, capture_output=True, cwd=ROOT).stdout

        hashes = {path: hash_of(path) for path in notebooks}
        for _ in range(tries):
            path = notebooks[rng.integers(len(notebooks))]
            broken.write_bytes(flipped(path.read_bytes(), rng))
            row.add("shown", None if hash_of(broken) != hashes[path] else f"{path.name} has the hash it had")
            advance()
    return row


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return pathlib.Path.touch, (self.witness,)


def malicious_pickles(advance=lambda: None):
    """Files that run code when they are unpickled carelessly, given to everything that reads files."""
    row = Row("corruption", "malicious pickle")
    readers = {"LQRDataset": LQRDataset.load, "model": TinyRecursiveControl.load, "snapshots": load_snapshots,
               "training state": lambda path: epochs_kept(path.parent), "results": io.read_json}
    with tempfile.TemporaryDirectory() as folder:
        witness, path = pathlib.Path(folder) / "executed", pathlib.Path(folder) / "last.pt"
        for content in _payloads(Evil(witness)):
            for name, read in readers.items():
                path.write_bytes(content)
                try:
                    read(path)
                    failure = "read"
                except ValueError as error:
                    failure = None if path.name in str(error) else f"a message that does not name the file: {error}"
                if witness.exists():
                    failure = "executed"
                    witness.unlink()
                row.add("refused", failure and f"{name}: {failure}")
                advance()
    return row


def _payloads(evil):
    """The same evil in every form that a reader might unpickle."""
    for protocol in (0, 2, 4):
        yield pickle.dumps(evil, protocol=protocol)
    written = [lambda stream: torch.save({"format": "trc_lib.model", "version": 2, "weights": evil}, stream),
               lambda stream: torch.save(evil, stream, _use_new_zipfile_serialization=False),
               lambda stream: np.savez(stream, initial_states=np.array([evil], dtype=object)),
               lambda stream: np.save(stream, np.array([evil], dtype=object), allow_pickle=True)]
    for write in written:
        stream = BytesIO()
        write(stream)
        yield stream.getvalue()
    yield json.dumps({"py/object": "os.system", "fingerprint": "0" * 64}).encode()
