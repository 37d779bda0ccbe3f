"""What the student sees: sampled problems with the teacher's answers, on disk and back."""

import dataclasses

import numpy as np
import torch

from trc_lib import io, validation
from trc_lib.teachers import TEACHERS, MinimumEnergyController, Teacher

VERSION = 1  # of the file format
EVAL_SEED = 1_000_000  # is added to the seed of the training set, so that the two never draw the same problems
LARGEST_SAMPLE = 2 * 10**8  # numbers in the starts of one dataset, and in its targets: 1.6 GB each
LARGEST_DRAW = 1000  # a sampler that finds an answer to fewer than one problem in so many gives up
ARRAYS = ("initial_states", "target_states", "controls")
SCALARS = {"state_range": float, "seed": int, "teacher": str, "version": int}


@dataclasses.dataclass(frozen=True, eq=False)
class LQRDataset:
    """Problems, their answers, and what made them.

    Attributes:
        initial_states: ``[n, state_dim]``, float64, uniform in ``[-state_range, state_range]``.
        target_states: ``[n, state_dim]``, likewise with ``target_range``.
        controls: the teacher's answers, ``[n, horizon, control_dim]``, float64.
        teacher: who solved them; it knows the system, the horizon and what it all costs.
        state_range: half the side of the box that the starts are drawn from.
        target_range: the same for the targets; 0 where the target is always the origin.
        seed: of the generator that drew them.
    """

    initial_states: torch.Tensor
    target_states: torch.Tensor
    controls: torch.Tensor
    teacher: Teacher
    state_range: float
    target_range: float
    seed: int
    version: int = VERSION

    def __post_init__(self):
        for name in ARRAYS:
            object.__setattr__(self, name, validation.array(name, getattr(self, name), (None, None), torch.float64).detach())
        validation.like("teacher", self.teacher, "a Teacher", "system", "horizon", "try_solve")
        plain = {"state_range": validation.positive("state_range", self.state_range), "seed": validation.whole("seed", self.seed, 0),
                 "target_range": validation.positive("target_range", self.target_range, or_zero=True)}
        for name, value in plain.items():  # NumPy's own numbers would change the fingerprint
            object.__setattr__(self, name, value)
        n, state_dim = len(self.initial_states), self.system.state_dim
        if n == 0:
            raise ValueError("initial_states is empty; needs at least 1 sample")
        wanted = {"initial_states": (n, state_dim), "target_states": (n, state_dim),
                  "controls": (n, self.horizon, self.system.control_dim)}
        for name, shape in wanted.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"{name} has shape {list(getattr(self, name).shape)}; needs {list(shape)}")

    def __len__(self):
        return len(self.initial_states)

    def __getitem__(self, index):
        """One problem, or a slice of them, by the description's names."""
        return {"initial_state": self.initial_states[index], "target_state": self.target_states[index],
                "controls": self.controls[index]}

    @property
    def system(self):
        return self.teacher.system

    @property
    def dt(self):
        return self.system.dt

    @property
    def horizon(self):
        return self.teacher.horizon

    @property
    def mean_energy(self):
        """Mean over the problems of the sum of |u[k]|^2, (m/s^2)^2 for the double integrator."""
        return float(self.controls.square().sum(dim=(1, 2)).mean())

    @property
    def fingerprint(self):
        """SHA-256 of all that the dataset holds: two datasets are the same if and only if this is."""
        return io.fingerprint(self._contents())

    @property
    def origin(self):
        """What made the dataset, and its fingerprint, as plain values."""
        plain = {name: value for name, value in self._origin().items() if not isinstance(value, np.ndarray)}
        return {"num_samples": len(self), **plain, "fingerprint": self.fingerprint}

    def _origin(self):
        """All but the problems and their answers: arrays and plain values by name."""
        made_of = {name: value.numpy() if torch.is_tensor(value) else value for name, value in self.teacher.contents().items()}
        targets = {} if self.target_range == self.state_range else {"target_range": self.target_range}
        return made_of | targets | {"state_range": self.state_range, "seed": self.seed, "teacher": type(self.teacher).__name__,
                                    "version": self.version}

    def _contents(self):
        arrays = {name: np.ascontiguousarray(getattr(self, name).cpu().numpy()) for name in ARRAYS}
        return arrays | {name: np.asarray(value) for name, value in self._origin().items()}

    def save(self, path):
        """Write to ``path`` (npz), whole or not at all. The same dataset gives the same bytes."""
        with io.written_whole(validation.path("path", path)) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **self._contents(), fingerprint=np.array(self.fingerprint))

    @classmethod
    def load(cls, path):
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is truncated, is not such a dataset, or was changed since it was saved.
        """
        path = validation.path("path", path)
        try:
            archive = np.load(path, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            with archive:
                contents = {name: archive[name] for name in archive.files}
        except FileNotFoundError:
            raise FileNotFoundError(f"{path} does not exist; make it with: python -m trc_lib generate --out {path}") from None
        except Exception as error:  # broken bytes can make the reader fail in any way
            raise ValueError(f"{path} cannot be read as an npz file, it is truncated or something else: {error}") from None
        missing = {*ARRAYS, *SCALARS, "fingerprint"} - contents.keys()
        if missing:
            raise ValueError(f"{path} is not a dataset of this course: it lacks {', '.join(sorted(missing))}")
        fingerprint = str(contents.pop("fingerprint"))
        if str(contents["version"]) != str(VERSION):
            raise ValueError(f"{path} has format version {contents['version']}; this library reads version {VERSION}")
        try:
            dataset = cls._from_contents(contents)
        except (KeyError, AttributeError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise ValueError(f"{path} is refused: {error}") from None
        if dataset.fingerprint != fingerprint:
            raise ValueError(f"{path} was changed after it was saved: its contents do not match its fingerprint")
        return dataset

    @classmethod
    def _from_contents(cls, contents):
        contents = dict(contents)
        arrays = {name: torch.from_numpy(contents.pop(name)) for name in ARRAYS}
        scalars = {name: kind(contents.pop(name).item()) for name, kind in SCALARS.items()}
        target_range = float(contents.pop("target_range", scalars["state_range"]))
        made_of = {name: torch.from_numpy(value) if value.ndim else value.item() for name, value in contents.items()}
        teacher = TEACHERS[validation.one_of("teacher", scalars.pop("teacher"), tuple(TEACHERS))].from_contents(made_of)
        return cls(**arrays, **scalars, teacher=teacher, target_range=target_range)


def sample_states(num_samples, seed, state_dim=2, state_range=2.5, target_range=None):
    """Pairs of start and target, each uniform in the box ``[-state_range, state_range]^state_dim``.

    Drawn on the CPU in float64, so that a seed means the same samples on every device.

    Args:
        target_range: half the side of the box of the targets; that of the starts if not given, 0 for the origin alone.

    Returns:
        initial_states and target_states, each ``[num_samples, state_dim]``.
    """
    return Sampler(seed, state_dim, state_range, target_range).draw(num_samples)


class Sampler:
    """Draws one batch of problems after the other."""

    def __init__(self, seed, state_dim, state_range, target_range):
        self.generator = torch.Generator().manual_seed(validation.whole("seed", seed, at_least=0))
        self.state_dim, self.state_range = validation.whole("state_dim", state_dim), validation.positive("state_range", state_range)
        self.target_range = self.state_range if target_range is None else validation.positive(
            "target_range", target_range, or_zero=True)

    def draw(self, num_samples):
        num_samples = validation.whole("num_samples", num_samples)
        if num_samples * self.state_dim > LARGEST_SAMPLE:
            raise ValueError(f"num_samples={num_samples:,} with state_dim={self.state_dim:,} is too large; "
                             f"at most {LARGEST_SAMPLE:,} numbers are drawn at once")
        unit = torch.rand(num_samples, 2, self.state_dim, generator=self.generator, dtype=torch.float64)  # in [0, 1)
        states = 2 * unit - 1
        return (states[:, 0] * self.state_range).contiguous(), (states[:, 1] * self.target_range).contiguous()


def generate_dataset(num_samples=10_000, seed=0, teacher=None, state_range=2.5, target_range=None):
    """Sample problems and let the teacher solve them. Problems that have no answer are drawn anew.

    Args:
        num_samples: how many.
        seed: of the sampling; the same seed gives the same dataset, to the bit.
        teacher: a `Teacher`; the `MinimumEnergyController` of the double integrator, 15 steps of 0.33 s, if not given.
        state_range, target_range: half the sides of the boxes of starts and targets, as in `sample_states`.

    Raises:
        ValueError: if the teacher finds an answer to hardly any of the problems.
    """
    teacher = MinimumEnergyController() if teacher is None else teacher
    validation.like("teacher", teacher, "a Teacher", "system", "horizon", "try_solve")
    num_samples = validation.whole("num_samples", num_samples)
    sampler, found, wanted, drawn = Sampler(seed, teacher.system.state_dim, state_range, target_range), [], num_samples, 0
    while wanted > 0 or not found:
        problems = sampler.draw(num_samples)
        controls, solved = teacher.try_solve(*problems)
        found.append([values[solved][:wanted] for values in (*problems, controls)])
        wanted, drawn = wanted - len(found[-1][0]), drawn + num_samples
        if drawn > LARGEST_DRAW * (num_samples - wanted + 1):
            raise ValueError(f"state_range={state_range} is too wide, or target_range is: {drawn:,} problems were drawn, "
                             f"and only {num_samples - wanted} of them have an answer")
    initial_states, target_states, controls = (torch.cat(values) for values in zip(*found))
    return LQRDataset(initial_states, target_states, controls, teacher=teacher, state_range=sampler.state_range,
                      target_range=sampler.target_range, seed=int(seed))
