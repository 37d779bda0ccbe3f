"""More data than memory: a dataset as a folder of shards, made and read one shard at a time.

The problems are those of `LQRDataset` with the same seed, solved in float64. They are stored in float32: training reads no more
than that, and it halves the disk and the reading.
"""

import errno
import shutil

import numpy as np
import torch
from tqdm.auto import tqdm

from trc_lib import io, validation
from trc_lib.data.dataset import LARGEST_DRAW, LQRDataset, Sampler
from trc_lib.teachers import TEACHERS

VERSION = 1                # of the format of ``store.json``
SHARD = 100_000            # problems in a shard: what is held in memory at a time
BLOCK = 4_000              # problems that the teacher solves at a time: iLQR needs 60 KB for each
LARGEST_FILE = 1_000_000   # problems: `generate` makes a file of up to so many, and a store of more
MANIFEST = "store.json"


class Store:
    """A finished store, as `make` left it: read shard by shard, each checked against its fingerprint whenever it is read.

    On disk a shard is an npy file of float32 rows, a problem with its answer laid end to end: start, target, controls. The
    manifest ``store.json`` says what made them.

    Args:
        folder: where it is.

    Raises:
        FileNotFoundError: if there is no store.
        ValueError: if it is unfinished, of another version, or its manifest was changed.
    """

    def __init__(self, folder):
        self.folder = validation.path("folder", folder)
        manifest = _read_manifest(self.folder)
        if manifest is None:
            raise FileNotFoundError(f"{self.folder} holds no store; make it with: python -m trc_lib generate")
        self.recipe, self.shards = manifest["recipe"], manifest["shards"]
        try:
            made_of = {name: torch.tensor(value, dtype=torch.float64) if isinstance(value, list) else value
                       for name, value in self.recipe["made_of"].items()}
            self.teacher = TEACHERS[validation.one_of("teacher", self.recipe["teacher"], tuple(TEACHERS))].from_contents(made_of)
        except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{self.folder / MANIFEST} is refused: {error}") from None
        if len(self.shards) < _count(self.recipe):
            raise ValueError(f"{self.folder} is unfinished, with {len(self.shards)} of {_count(self.recipe)} shards; "
                             "go on with the same command that began it: python -m trc_lib generate ...")

    def __len__(self):
        return self.recipe["num_samples"]

    @property
    def origin(self):
        """What made the store, and its fingerprint, as plain values."""
        return {**self.recipe, "fingerprint": io.fingerprint({"recipe": self.recipe, "shards": self.shards})}

    @property
    def sample(self):
        """The first shard, as an `LQRDataset`: what the whole looks like."""
        initial_states, target_states, controls = (values.double() for values in self.read(0))
        return LQRDataset(initial_states, target_states, controls, teacher=self.teacher, seed=self.recipe["seed"],
                          state_range=self.recipe["state_range"], target_range=self.recipe["target_range"])

    def read(self, shard):
        """One shard, float32: initial_states and target_states ``[n, state_dim]``, controls ``[n, horizon, control_dim]``.

        Raises:
            ValueError: if the shard is missing, truncated or was changed after it was written.
        """
        rows = _read_shard(self.folder, self.recipe, self.shards, shard)
        n, m = self.teacher.system.state_dim, self.teacher.system.control_dim
        return rows[:, :n], rows[:, n:2 * n], rows[:, 2 * n:].unflatten(1, (self.teacher.horizon, m))


def make(folder, num_samples, seed, teacher, state_range, target_range, progress=True):
    """Sample problems, let the teacher solve them, and write them to ``folder``, shard by shard: a `Store`.

    It can be stopped at any moment, by whatever means: the same call goes on after the last whole shard, and what comes out is
    the same to the bit. Shards that are there already are checked; from the first unsound one on they are made anew.

    Args:
        num_samples: how many.
        seed, teacher, state_range, target_range: as in `generate_dataset`, whose problems these are.
        progress: show a progress bar.

    Raises:
        ValueError: if ``folder`` holds a store of something else, or hardly any problem has an answer.
        OSError: if the disk is too small, or ``folder`` cannot be written to.
        io.Busy: if another process is writing there.
        KeyboardInterrupt: on Ctrl-C, when all whole shards have been kept.
    """
    sampler = Sampler(seed, teacher.system.state_dim, state_range, target_range)
    made_of = {name: value.tolist() if torch.is_tensor(value) else value for name, value in teacher.contents().items()}
    recipe = {"num_samples": validation.whole("num_samples", num_samples), "seed": int(seed), "teacher": type(teacher).__name__,
              "made_of": made_of, "state_range": sampler.state_range, "target_range": sampler.target_range,
              "columns": 2 * teacher.system.state_dim + teacher.horizon * teacher.system.control_dim, "shard_size": SHARD}
    folder = validation.path("folder", folder)
    shards = _kept(folder, recipe)
    kept, drawn = len(shards) * SHARD if len(shards) < _count(recipe) else num_samples, shards[-1]["drawn"] if shards else 0
    _check_space(folder, recipe, num_samples - kept)
    with io.claimed(folder / ".lock", folder), tqdm(total=num_samples, initial=kept, unit="problem", unit_scale=True,
                                                       desc="generating", disable=not progress, delay=2) as bar:
        try:
            for start in range(0, drawn, BLOCK):         # the generator goes on where the last shard ended
                sampler.draw(min(BLOCK, drawn - start))
            for shard in range(len(shards), _count(recipe)):
                rows, used = _solve(sampler, teacher, _size(recipe, shard))
                drawn += used
                with io.written_whole(_path(folder, shard)) as temporary, open(temporary, "wb") as stream:
                    np.save(stream, rows)
                shards.append({"drawn": drawn, "fingerprint": io.fingerprint(rows)})
                io.write_json(folder / MANIFEST, {"version": VERSION, "recipe": recipe, "shards": shards})
                bar.update(len(rows))
        except KeyboardInterrupt:
            kept = f"{len(shards)} of {_count(recipe)} shards are kept in {folder}"
            raise KeyboardInterrupt(f"{kept}; run again to go on") from None
    return Store(folder)


def _solve(sampler, teacher, wanted):
    """The sampler's next ``wanted`` problems that have an answer, ``[wanted, columns]`` float32, and how many it drew."""
    found, drawn, missing = [], 0, wanted
    while missing:
        before = sampler.generator.get_state()
        problems = sampler.draw(BLOCK)
        controls, solved = teacher.try_solve(*problems)
        at = solved.nonzero()[:missing, 0]
        found.append(torch.cat([*problems, controls.flatten(1)], dim=1)[at].float().numpy())
        missing -= len(at)
        used = BLOCK if missing else int(at[-1]) + 1
        drawn += used
        if drawn > LARGEST_DRAW * (wanted - missing + 1):
            raise ValueError(f"state_range={sampler.state_range} is too wide: {drawn:,} problems were drawn, "
                             f"and only {wanted - missing} of them have an answer")
    sampler.generator.set_state(before)                  # the next shard begins with the first problem that was not used
    sampler.draw(used)
    return np.concatenate(found), drawn


def _count(recipe):
    """How many shards a store has."""
    return -(-recipe["num_samples"] // recipe["shard_size"])


def _size(recipe, shard):
    """How many problems a shard holds: all the same, but for the last."""
    return min(recipe["shard_size"], recipe["num_samples"] - shard * recipe["shard_size"])


def _path(folder, shard):
    return folder / f"shard-{shard:05d}.npy"


def _read_shard(folder, recipe, shards, shard):
    """The rows of a shard, as a tensor ``[n, columns]``; what is given back is what was checked."""
    path, shape = _path(folder, shard), (_size(recipe, shard), recipe["columns"])
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if mapped.shape != shape or mapped.dtype != np.float32:
            raise ValueError(f"it holds {list(mapped.shape)} {mapped.dtype}; needs {list(shape)} float32")
        rows = np.array(mapped)
    except Exception as error:  # broken bytes can make the reader fail in any way
        raise ValueError(f"{path} cannot be read as a shard, it is missing, truncated or something else: {error}; "
                         "run generate again to repair the store") from None
    if io.fingerprint(rows) != shards[shard]["fingerprint"]:
        raise ValueError(f"{path} was changed after it was written: its contents do not match its fingerprint; "
                         "run generate again to repair the store")
    return torch.from_numpy(rows)


def _kept(folder, recipe):
    """The entries of the shards that are there and sound, up to the first that is not."""
    manifest = _read_manifest(folder)
    if manifest is None:
        return []
    if manifest["recipe"] != recipe:
        changes = ", ".join(io.changes(manifest["recipe"], recipe))
        raise ValueError(f"{folder} holds another store ({changes}); give another folder, or remove this one")
    for shard in range(len(manifest["shards"])):
        try:
            _read_shard(folder, recipe, manifest["shards"], shard)
        except ValueError:
            return manifest["shards"][:shard]
    return manifest["shards"]


def _read_manifest(folder):
    """What ``store.json`` holds; None if there is none."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    manifest = io.read_json(path)
    if manifest.get("version") != VERSION:
        raise ValueError(f"{path} has format version {manifest.get('version')}; this library reads version {VERSION}")
    return manifest


def _check_space(folder, recipe, num_samples):
    """Raise an OSError where the disk has too little room for so many problems: now, and not hours later."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free, needed = shutil.disk_usage(existing).free, 4 * num_samples * recipe["columns"] + 10**7
    if needed > free:
        raise OSError(errno.ENOSPC, f"{num_samples:,} more problems need {needed / 1e9:,.1f} GB, and the disk of {folder} has "
                                    f"{free / 1e9:,.1f} GB free; give a smaller num_samples or a folder on another disk")
