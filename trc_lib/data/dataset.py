"""Problems with the teacher's answers, in memory and in a file."""

import dataclasses
import json
import pathlib

import numpy as np
import torch
from torch import Tensor

from trc_lib import io, validation
from trc_lib.costs import QuadraticCost
from trc_lib.data.sampling import Sampler, box
from trc_lib.rebuild import check_saveable, rebuilt
from trc_lib.systems import SUCCESS, System, from_flat
from trc_lib.teachers import (
    BoundedMinimumEnergyController,
    IterativeLQR,
    MinimumEnergyController,
    Teacher,
)

VERSION = 2  # of the file format; 1 is still read
EVAL_SEED = 1_000_000  # added to the seed of a training set: that of the eval set
TRAIN_FILE, EVAL_FILE = "lqr_dataset.npz", "lqr_dataset_eval.npz"  # what `generate` writes
ARRAYS = ("initial_states", "target_states", "controls")


@dataclasses.dataclass(frozen=True, eq=False)
class LQRDataset:
    """Problems, their answers, and what made them.

    Attributes:
        initial_states: ``[n, state_dim]``, float64.
        target_states: ``[n, state_dim]``, float64.
        controls: the teacher's answers, ``[n, horizon, control_dim]``, float64.
        teacher: solved them; holds the system, the horizon and the cost.
        state_range: the box of the starts, as in `Sampler`.
        target_range: the box of the targets; 0 if each is the origin.
        seed: of the sampling.
        sampler: the class that drew them.
        drawn: how many problems were drawn; those without an answer were left out.
    """

    initial_states: Tensor
    target_states: Tensor
    controls: Tensor
    teacher: Teacher
    state_range: object
    target_range: object
    seed: int
    sampler: str = Sampler.__name__
    drawn: int | None = None

    def __post_init__(self):
        system = validation.instance("teacher", self.teacher, Teacher).system
        values = {name: box(name, getattr(self, name), system.state_dim, or_zero)[0]
                  for name, or_zero in (("state_range", False), ("target_range", True))}
        values["seed"] = validation.whole("seed", self.seed, 0)
        for name in ARRAYS:
            value = validation.array(name, getattr(self, name), (None, None), torch.float64)
            values[name] = value.detach().contiguous()
        n = len(values["initial_states"])
        if n == 0:
            raise ValueError("initial_states is empty; needs at least 1 sample")
        values["drawn"] = validation.whole("drawn", n if self.drawn is None else self.drawn, n)
        state, control = [n, system.state_dim], [n, self.horizon, system.control_dim]
        for name, shape in zip(ARRAYS, (state, state, control)):
            if list(values[name].shape) != shape:
                raise ValueError(f"{name} has shape {list(values[name].shape)}; needs {shape}")
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.initial_states)

    def __getitem__(self, index: int | slice) -> dict[str, Tensor]:
        """One problem, or a slice of them."""
        return {"initial_state": self.initial_states[index],
                "target_state": self.target_states[index], "controls": self.controls[index]}

    @property
    def system(self) -> System:
        return self.teacher.system

    @property
    def dt(self) -> float:
        return self.system.dt

    @property
    def horizon(self) -> int:
        return self.teacher.horizon

    @property
    def mean_energy(self) -> float:
        """Mean over the problems of the sum of |u[k]|^2; (m/s^2)^2 for the double integrator."""
        return float(self.controls.square().sum(dim=(1, 2)).mean())

    @property
    def share_dropped(self) -> float:
        """The share of the problems drawn that have no answer, and were left out."""
        return 1 - len(self) / self.drawn

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all contents: equal if and only if the datasets are."""
        return io.fingerprint(self._arrays() | {"made_of": self._made_of()})

    @property
    def origin(self) -> dict:
        """What made the dataset, and its fingerprint, as plain values."""
        return {"num_samples": len(self), **self._made_of(), "fingerprint": self.fingerprint}

    def _arrays(self):
        return {name: getattr(self, name).cpu().numpy() for name in ARRAYS}

    def _made_of(self):
        return {"teacher": self.teacher.contents(), "state_range": self.state_range,
                "target_range": self.target_range, "seed": self.seed, "sampler": self.sampler,
                "drawn": self.drawn, "version": VERSION}

    def save(self, path: object) -> None:
        """Write to ``path`` (npz), whole or not at all. The same dataset gives the same bytes.

        Raises:
            TypeError, ValueError: if the teacher or its system could not be brought back.
        """
        path = validation.path("path", path)
        check_saveable(Teacher, self.teacher)
        made_of = np.array(json.dumps(self._made_of()))
        with io.written_whole(path) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **self._arrays(), made_of=made_of,
                     fingerprint=np.array(self.fingerprint))

    @classmethod
    def load(cls, path: object) -> "LQRDataset":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is truncated, is not a dataset, or was changed.
        """
        path = validation.path("path", path)
        if not path.exists():
            raise FileNotFoundError(missing_dataset(path))
        io.check_kind(path, "an npz file", (io.NPZ, io.CUT_ZIP),
                      f"a dataset, such as the {EVAL_FILE} that `generate` wrote")
        try:
            with np.load(path, allow_pickle=False) as archive:
                contents = {name: archive[name] for name in archive.files}
        except Exception as error:  # the reader raises anything on damaged bytes
            raise ValueError(f"{path} cannot be read as an npz file, it is truncated or something "
                             f"else: {error}") from None
        if missing := {*ARRAYS, "fingerprint"} - contents.keys():
            raise ValueError(f"{path} is not a dataset of this course: it lacks "
                             f"{', '.join(sorted(missing))}")
        try:
            arrays = [torch.from_numpy(contents[name]) for name in ARRAYS]
            fingerprint = str(contents.pop("fingerprint"))
            if "made_of" not in contents:
                unchanged = io.fingerprint(contents) == fingerprint
                dataset = cls(*arrays, **_made_of_version_1(contents))
            else:
                made_of = json.loads(str(contents.pop("made_of")))
                if (version := made_of.pop("version")) != VERSION:
                    raise ValueError(f"it has format version {version}; "
                                     f"this library reads versions 1 and {VERSION}")
                if extra := contents.keys() - {*ARRAYS}:
                    raise ValueError(f"it also holds {', '.join(sorted(extra))}")
                teacher = rebuilt(Teacher, made_of.pop("teacher"))
                dataset = cls(*arrays, teacher, **made_of)
                unchanged = dataset.fingerprint == fingerprint
        except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} is refused: {error}") from None
        if not unchanged:
            raise ValueError(f"{path} was changed after it was saved: "
                             "its contents do not match its fingerprint")
        return dataset


def missing_dataset(path: pathlib.Path, problem: str = "double_integrator") -> str:
    """That the dataset ``path`` does not exist, and the command that makes it.

    Args:
        path: of the file.
        problem: as `trc_lib.problems.named` takes it.
    """
    if blocking := [folder for folder in path.parents if folder.is_file()]:
        return f"{path} does not exist: {blocking[0]} is a file; needs a folder"
    words = ["-m", "trc_lib", "generate", "--problem", problem, "--out", str(path.parent)]
    if path.name not in (TRAIN_FILE, EVAL_FILE):
        module, _, name = problem.rpartition(":")
        file = json.dumps(str(path), ensure_ascii=False)  # in double quotes, unlike its repr
        words = ["-c", f"from {module or 'trc_lib.problems'} import {name}; "
                 f"{name}().dataset(2_000, {EVAL_SEED}).save({file})"]
    return f"{path} does not exist; make it with: {io.command('python', *words)}"


def _made_of_version_1(contents):
    """What the fields of a file of version 1, all side by side, say about a dataset."""
    flat = {name: value.item() if not value.ndim else torch.from_numpy(value)
            for name, value in contents.items() if name not in ARRAYS}
    if flat.pop("version") != 1:
        raise ValueError("it has another format version")
    state_range, seed = flat.pop("state_range"), flat.pop("seed")
    return {"state_range": state_range, "target_range": flat.pop("target_range", state_range),
            "seed": seed, "teacher": teacher_of_version_1(flat.pop("teacher"), flat)}


def teacher_of_version_1(name: str, flat: dict) -> Teacher:
    """The teacher in a file of version 1: its fields, those of its system and its cost."""
    horizon, success = flat.pop("horizon"), flat.pop("success", SUCCESS)
    flat = {key: torch.tensor(value, dtype=torch.float64) if isinstance(value, list) else value
            for key, value in flat.items()}
    cost = [flat.pop(key) for key in ("Q", "R", "Q_final") if key in flat]
    system = from_flat({"kind": flat.pop("system", "LinearSystem"), **flat})
    if name == "IterativeLQR":
        return IterativeLQR(system, horizon, QuadraticCost(*cost), success, guesses=1)
    linear = (MinimumEnergyController, BoundedMinimumEnergyController)
    return {cls.__name__: cls for cls in linear}[name](system, horizon)


def generate_dataset(num_samples: object = 10_000, seed: object = 0, teacher: object = None,
                     state_range: object = 2.5, target_range: object = None,
                     sampler: object = Sampler) -> LQRDataset:
    """Sample problems and let the teacher solve them; those without an answer are drawn anew.

    Args:
        num_samples: how many.
        seed: of the sampling; the same seed gives the same dataset, to the bit.
        teacher: a `Teacher`; a `MinimumEnergyController` if None.
        state_range, target_range: the boxes of starts and targets; see `Sampler`.
        sampler: `Sampler` or a subclass.

    Raises:
        ValueError: if the teacher finds an answer to hardly any of the problems.
    """
    teacher = MinimumEnergyController() if teacher is None else teacher
    validation.instance("teacher", teacher, Teacher)
    num_samples = validation.whole("num_samples", num_samples)
    sampler = sampler(seed, teacher.system.state_dim, state_range, target_range)
    values, drawn = sampler.draw_solved(teacher, num_samples, block=num_samples)
    return LQRDataset(*values, teacher, sampler.state_range, sampler.target_range, sampler.seed,
                      type(sampler).__name__, drawn)
