"""More data than memory: a dataset as a folder of shards, made and read one shard at a time.

The problems are those of `LQRDataset` with the same seed, solved in float64 and stored in float32,
the precision of the training.
"""

import errno
import json
import shutil

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from tqdm.auto import tqdm

from trc_lib import io, validation
from trc_lib.data.dataset import LQRDataset, teacher_of_version_1
from trc_lib.data.sampling import Sampler
from trc_lib.rebuild import check_saveable, rebuilt
from trc_lib.teachers import Teacher

VERSION = 2                # of the format of ``store.json``; 1 is still read
SHARD = 100_000            # problems in a shard: what is held in memory at a time
BLOCK = 4_000              # problems that the teacher solves at a time: iLQR needs 60 KB for each
LARGEST_FILE = 1_000_000   # problems in a file of `generate`; it makes a store of more
MANIFEST = "store.json"


class Store:
    """A finished store, read shard by shard; each is checked against its fingerprint when read.

    A shard is an npy file of float32 rows, each a start, a target and the controls, end to end. The
    manifest ``store.json`` holds what made them.

    Args:
        folder: of the store.

    Raises:
        FileNotFoundError: if there is no store.
        ValueError: if it is unfinished, of another version, or its manifest was changed.
    """

    def __init__(self, folder: object):
        self.folder = validation.path("folder", folder)
        manifest = _read_manifest(self.folder)
        if manifest is None:
            code = ("from trc_lib.problems import double_integrator; "
                    f"double_integrator().store({json.dumps(str(self.folder))}, 100_000)")
            raise FileNotFoundError(f"{self.folder} holds no store; make it with: "
                                    f"{io.command('python', '-c', code)}")
        self.recipe, self.shards = manifest["recipe"], manifest["shards"]
        try:
            self.teacher = rebuilt(Teacher, self.recipe["teacher"])
        except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{self.folder / MANIFEST} is refused: {error}") from None
        if len(self.shards) < (count := _count(self.recipe)):
            raise ValueError(f"{self.folder} is unfinished, with {len(self.shards)} of {count} "
                             "shards; run the command that makes it again to go on")

    def __len__(self) -> int:
        return self.recipe["num_samples"]

    @property
    def origin(self) -> dict:
        """What made the store, and its fingerprint, as plain values."""
        contents = {"recipe": self.recipe, "shards": self.shards}
        return {**self.recipe, "fingerprint": io.fingerprint(contents)}

    @property
    def sample(self) -> LQRDataset:
        """The first shard."""
        values = (value.double() for value in self.read(0))
        recipe = {name: self.recipe[name]
                  for name in ("state_range", "target_range", "seed", "sampler")}
        return LQRDataset(*values, teacher=self.teacher, drawn=self.shards[0]["drawn"], **recipe)

    @property
    def drawn(self) -> int:
        """How many problems were drawn; those without an answer were left out."""
        return self.shards[-1]["drawn"]

    def read(self, shard: int) -> tuple[Float32[Tensor, "n state_dim"],
                                        Float32[Tensor, "n state_dim"],
                                        Float32[Tensor, "n horizon control_dim"]]:
        """Starts, targets and controls of one shard.

        Raises:
            ValueError: if the shard is missing, truncated or was changed.
        """
        rows = _read_shard(self.folder, self.recipe, self.shards, shard)
        n, m = self.teacher.system.state_dim, self.teacher.system.control_dim
        starts, targets, controls = rows.tensor_split((n, 2 * n), dim=1)
        return starts, targets, controls.unflatten(1, (self.teacher.horizon, m))


def make(folder: object, num_samples: object, seed: object, teacher: object, state_range: object,
         target_range: object = None, progress: bool = True, sampler: object = Sampler) -> Store:
    """Sample problems, let the teacher solve them, and write them to ``folder`` shard by shard.

    After a stop or a crash, the same call goes on after the last whole shard, and ends with the
    same bytes. Existing shards are checked; from the first damaged one on they are made anew.

    Args:
        folder: of the store.
        num_samples: how many problems.
        seed, teacher, state_range, target_range, sampler: as in `generate_dataset`.
        progress: show a progress bar.

    Raises:
        ValueError: if ``folder`` holds another store, or hardly any problem has an answer.
        OSError: if the disk is too small, or ``folder`` cannot be written to.
        io.Busy: if another process writes to ``folder``.
        KeyboardInterrupt: on Ctrl-C; all whole shards are kept.
    """
    folder = validation.path("folder", folder)
    num_samples = validation.whole("num_samples", num_samples)
    system = validation.instance("teacher", teacher, Teacher).system
    check_saveable(Teacher, teacher)
    sampler = sampler(seed, system.state_dim, state_range, target_range)
    recipe = {"num_samples": num_samples, "seed": sampler.seed, "teacher": teacher.contents(),
              "state_range": sampler.state_range, "target_range": sampler.target_range,
              "sampler": type(sampler).__name__,
              "columns": 2 * system.state_dim + teacher.horizon * system.control_dim,
              "shard_size": SHARD}
    shards, count = _sound_shards(folder, recipe), _count(recipe)
    kept = min(len(shards) * SHARD, num_samples)
    _check_space(folder, recipe, num_samples - kept)
    bar = tqdm(total=num_samples, initial=kept, unit="problem", unit_scale=True, desc="generating",
               disable=not progress, delay=2)
    with io.claimed(folder / ".lock", folder), bar:
        try:
            drawn = shards[-1]["drawn"] if shards else 0
            for start in range(0, drawn, BLOCK):  # to where the last shard ended
                sampler.draw(min(BLOCK, drawn - start))
            for shard in range(len(shards), count):
                values, used = sampler.draw_solved(teacher, _size(recipe, shard), BLOCK,
                                                   torch.float32)
                rows = torch.cat([value.flatten(1) for value in values], dim=1).numpy()
                with (io.written_whole(_path(folder, shard)) as temporary,
                      open(temporary, "wb") as stream):
                    np.save(stream, rows)
                drawn += used
                shards.append({"drawn": drawn, "fingerprint": io.fingerprint(rows)})
                contents = {"version": VERSION, "recipe": recipe, "shards": shards}
                io.write_json(folder / MANIFEST, contents)
                bar.update(len(rows))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{len(shards)} of {count} shards are kept in {folder}; "
                                    "run again to go on") from None
    return Store(folder)


def _count(recipe):
    """How many shards a store has."""
    return -(-recipe["num_samples"] // recipe["shard_size"])


def _size(recipe, shard):
    """How many problems a shard holds."""
    return min(recipe["shard_size"], recipe["num_samples"] - shard * recipe["shard_size"])


def _path(folder, shard):
    return folder / f"shard-{shard:05d}.npy"


def _read_shard(folder, recipe, shards, shard):
    """The rows of a shard, checked, ``[n, columns]``."""
    path, shape = _path(folder, shard), (_size(recipe, shard), recipe["columns"])
    repair = "run generate again to repair the store"
    try:
        rows = np.load(path, allow_pickle=False)
        if rows.shape != shape or rows.dtype != np.float32:
            raise ValueError(f"it holds {list(rows.shape)} {rows.dtype}; "
                             f"needs {list(shape)} float32")
    except Exception as error:  # the reader raises anything on damaged bytes
        raise ValueError(f"{path} cannot be read as a shard, it is missing, truncated or something "
                         f"else: {error}; {repair}") from None
    if io.fingerprint(rows) != shards[shard]["fingerprint"]:
        raise ValueError(f"{path} was changed after it was written: "
                         f"its contents do not match its fingerprint; {repair}")
    return torch.from_numpy(rows)


def _sound_shards(folder, recipe):
    """The manifest's entries of the shards up to the first that is damaged."""
    manifest = _read_manifest(folder)
    if manifest is None:
        return []
    if manifest["recipe"] != recipe:
        changes = ", ".join(io.changes(manifest["recipe"], recipe))
        raise ValueError(f"{folder} holds another store ({changes}); "
                         "give another folder, or remove this one")
    for shard in range(len(manifest["shards"])):
        try:
            _read_shard(folder, recipe, manifest["shards"], shard)
        except ValueError:
            return manifest["shards"][:shard]
    return manifest["shards"]


def _read_manifest(folder):
    """The contents of ``store.json``; None if there is none."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    manifest = io.read_json(path)
    if manifest.get("version") not in (1, VERSION):
        raise ValueError(f"{path} has format version {manifest.get('version')}; "
                         f"this library reads versions 1 and {VERSION}")
    if manifest["version"] == 1:
        recipe = manifest["recipe"]
        try:
            teacher = teacher_of_version_1(recipe["teacher"], recipe.pop("made_of"))
        except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} is refused: {error}") from None
        recipe |= {"teacher": teacher.contents(), "sampler": Sampler.__name__}
    return manifest


def _check_space(folder, recipe, num_samples):
    """Raise an OSError if the disk has no room for so many problems."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free, needed = shutil.disk_usage(existing).free, 4 * num_samples * recipe["columns"] + 10**7
    if needed > free:
        raise OSError(errno.ENOSPC, f"{num_samples:,} more problems need {needed / 1e9:,.1f} GB, "
                      f"and the disk of {folder} has {free / 1e9:,.1f} GB free; "
                      "give a smaller num_samples or a folder on another disk")
