"""Problems with the teacher's answers, in memory and in a file."""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from trc_lib import io, validation
from trc_lib.data.sampling import Sampler
from trc_lib.systems import System
from trc_lib.teachers import TEACHERS, MinimumEnergyController, Teacher

VERSION = 1  # of the file format
EVAL_SEED = 1_000_000  # added to the seed of a training set: that of the eval set
ARRAYS = ("initial_states", "target_states", "controls")


@dataclasses.dataclass(frozen=True, eq=False)
class LQRDataset:
    """Problems, their answers, and what made them.

    Attributes:
        initial_states: ``[n, state_dim]``, float64, uniform in ``[-state_range, state_range]``.
        target_states: ``[n, state_dim]``, float64, uniform in ``[-target_range, target_range]``.
        controls: the teacher's answers, ``[n, horizon, control_dim]``, float64.
        teacher: solved them; holds the system, the horizon and the cost.
        state_range: half the side of the box of the starts.
        target_range: half the side of the box of the targets; 0 if each is the origin.
        seed: of the sampling.
    """

    initial_states: Tensor
    target_states: Tensor
    controls: Tensor
    teacher: Teacher
    state_range: float
    target_range: float
    seed: int

    def __post_init__(self):
        system = validation.instance("teacher", self.teacher, Teacher).system
        values = {
            "state_range": validation.positive("state_range", self.state_range),
            "target_range": validation.positive("target_range", self.target_range, or_zero=True),
            "seed": validation.whole("seed", self.seed, 0)}
        for name in ARRAYS:
            value = validation.array(name, getattr(self, name), (None, None), torch.float64)
            values[name] = value.detach().contiguous()
        n = len(values["initial_states"])
        if n == 0:
            raise ValueError("initial_states is empty; needs at least 1 sample")
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
    def fingerprint(self) -> str:
        """SHA-256 of all contents: equal if and only if the datasets are."""
        return io.fingerprint(self._contents())

    @property
    def origin(self) -> dict:
        """What made the dataset, and its fingerprint, as plain values."""
        plain = {name: value.item() for name, value in self._contents().items() if not value.ndim}
        return {"num_samples": len(self), **plain, "fingerprint": self.fingerprint}

    def _contents(self):
        contents = {name: getattr(self, name) for name in ARRAYS} | self.teacher.contents()
        if self.target_range != self.state_range:
            contents["target_range"] = self.target_range
        contents |= {"state_range": self.state_range, "seed": self.seed,
                     "teacher": type(self.teacher).__name__, "version": VERSION}
        return {name: value.cpu().numpy() if torch.is_tensor(value) else np.asarray(value)
                for name, value in contents.items()}

    def save(self, path: object) -> None:
        """Write to ``path`` (npz), whole or not at all. The same dataset gives the same bytes."""
        path = validation.path("path", path)
        with io.written_whole(path) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **self._contents(), fingerprint=np.array(self.fingerprint))

    @classmethod
    def load(cls, path: object) -> "LQRDataset":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is truncated, is not a dataset, or was changed.
        """
        path = validation.path("path", path)
        try:
            with np.load(path, allow_pickle=False) as archive:
                contents = {name: archive[name] for name in archive.files}
        except FileNotFoundError:
            raise FileNotFoundError(f"{path} does not exist; make it with: "
                                    f"python -m trc_lib generate --out {path}") from None
        except Exception as error:  # the reader raises anything on damaged bytes
            raise ValueError(f"{path} cannot be read as an npz file, it is truncated or something "
                             f"else: {error}") from None
        needed = {*ARRAYS, "state_range", "seed", "teacher", "version", "fingerprint"}
        if missing := needed - contents.keys():
            raise ValueError(f"{path} is not a dataset of this course: it lacks "
                             f"{', '.join(sorted(missing))}")
        arrays = [contents.pop(name) for name in ARRAYS]
        plain = io.plain(contents)
        fingerprint, version = plain.pop("fingerprint"), plain.pop("version")
        if version != VERSION:
            raise ValueError(f"{path} has format version {version}; "
                             f"this library reads version {VERSION}")
        try:
            state_range, seed = plain.pop("state_range"), plain.pop("seed")
            target_range = plain.pop("target_range", state_range)
            teacher = teacher_from(plain.pop("teacher"), plain)
            dataset = cls(*map(torch.from_numpy, arrays), teacher, state_range, target_range, seed)
        except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} is refused: {error}") from None
        if dataset.fingerprint != fingerprint:
            raise ValueError(f"{path} was changed after it was saved: "
                             "its contents do not match its fingerprint")
        return dataset


def teacher_from(name: object, contents: dict) -> Teacher:
    """The teacher of the class ``name`` with these `Teacher.contents`, made plain by `io.plain`."""
    cls = TEACHERS[validation.one_of("teacher", name, tuple(TEACHERS))]
    return cls.from_contents({
        key: torch.tensor(value, dtype=torch.float64) if isinstance(value, list) else value
        for key, value in contents.items()})


def generate_dataset(num_samples: object = 10_000, seed: object = 0, teacher: object = None,
                     state_range: object = 2.5, target_range: object = None) -> LQRDataset:
    """Sample problems and let the teacher solve them; those without an answer are drawn anew.

    Args:
        num_samples: how many.
        seed: of the sampling; the same seed gives the same dataset, to the bit.
        teacher: a `Teacher`; a `MinimumEnergyController` if None.
        state_range, target_range: half the sides of the boxes of starts and targets; see `Sampler`.

    Raises:
        ValueError: if the teacher finds an answer to hardly any of the problems.
    """
    teacher = MinimumEnergyController() if teacher is None else teacher
    validation.instance("teacher", teacher, Teacher)
    num_samples = validation.whole("num_samples", num_samples)
    sampler = Sampler(seed, teacher.system.state_dim, state_range, target_range)
    values, _ = sampler.draw_solved(teacher, num_samples, block=num_samples)
    return LQRDataset(*values, teacher, sampler.state_range, sampler.target_range, sampler.seed)
