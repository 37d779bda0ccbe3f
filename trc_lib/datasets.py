"""What the student sees: sampled problems with the teacher's answers, on disk and back."""

import dataclasses

import numpy as np
import torch

from trc_lib import checking, files
from trc_lib.systems import LinearSystem
from trc_lib.teachers import MinimumEnergyController

VERSION = 1  # of the file format
EVAL_SEED = 1_000_000  # is added to the seed of the training set, so that the two never draw the same problems
ARRAYS = ("initial_states", "target_states", "controls", "A", "B")
SCALARS = {"dt": float, "horizon": int, "state_range": float, "seed": int, "teacher": str, "version": int}


@dataclasses.dataclass(frozen=True, eq=False)
class LQRDataset:
    """Problems, their answers, and what made them.

    Attributes:
        initial_states: ``[n, state_dim]``, float64, uniform in ``[-state_range, state_range]``.
        target_states: ``[n, state_dim]``, likewise.
        controls: the teacher's answers, ``[n, horizon, control_dim]``, float64.
        A, B, dt: the system that the answers are for.
        horizon: number of steps.
        state_range: half the side of the box that the states are drawn from.
        seed: of the generator that drew them.
        teacher: name of the class that solved them.
    """

    initial_states: torch.Tensor
    target_states: torch.Tensor
    controls: torch.Tensor
    A: torch.Tensor
    B: torch.Tensor
    dt: float
    horizon: int
    state_range: float
    seed: int
    teacher: str
    version: int = VERSION

    def __post_init__(self):
        for name in ARRAYS:
            checking.array(name, getattr(self, name), (None, None))
        n, state_dim = self.initial_states.shape
        if n == 0:
            raise ValueError("the dataset is empty; needs at least 1 sample")
        wanted = {"target_states": (n, state_dim), "controls": (n, self.horizon, self.B.shape[1]),
                  "A": (state_dim, state_dim), "B": (state_dim, self.B.shape[1])}
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
        return LinearSystem(self.A, self.B, self.dt)

    @property
    def mean_energy(self):
        """Mean over the problems of the sum of |u[k]|^2, (m/s^2)^2 for the double integrator."""
        return float(self.controls.square().sum(dim=(1, 2)).mean())

    @property
    def fingerprint(self):
        """SHA-256 of all that the dataset holds: two datasets are the same if and only if this is."""
        return files.fingerprint(self._contents())

    @property
    def origin(self):
        """What made the dataset, and its fingerprint, as plain values."""
        return {"num_samples": len(self), **{name: getattr(self, name) for name in SCALARS}, "fingerprint": self.fingerprint}

    def _contents(self):
        arrays = {name: np.ascontiguousarray(getattr(self, name).cpu().numpy()) for name in ARRAYS}
        return arrays | {name: np.array(getattr(self, name)) for name in SCALARS}

    def save(self, path):
        """Write to ``path`` (npz), whole or not at all. The same dataset gives the same bytes."""
        with files.written_whole(path) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **self._contents(), fingerprint=np.array(self.fingerprint))

    @classmethod
    def load(cls, path):
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is truncated, is not such a dataset, or was changed since it was saved.
        """
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
        if str(contents["version"]) != str(VERSION):
            raise ValueError(f"{path} has format version {contents['version']}; this library reads version {VERSION}")
        try:
            dataset = cls(**{name: torch.from_numpy(contents[name]) for name in ARRAYS},
                          **{name: kind(contents[name].item()) for name, kind in SCALARS.items()})
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path} is refused: {error}") from None
        if str(contents["fingerprint"]) != dataset.fingerprint:
            raise ValueError(f"{path} was changed after it was saved: its contents do not match its fingerprint")
        return dataset


def sample_states(num_samples, seed, state_dim=2, state_range=2.5):
    """Pairs of start and target, each uniform in the box ``[-state_range, state_range]^state_dim``.

    Drawn on the CPU in float64, so that a seed means the same samples on every device.

    Returns:
        initial_states and target_states, each ``[num_samples, state_dim]``.
    """
    num_samples = checking.whole("num_samples", num_samples)
    state_range = checking.positive("state_range", state_range)
    generator = torch.Generator().manual_seed(checking.whole("seed", seed, at_least=0))
    unit = torch.rand(num_samples, 2, state_dim, generator=generator, dtype=torch.float64)  # in [0, 1)
    states = (2 * unit - 1) * state_range
    return states[:, 0].contiguous(), states[:, 1].contiguous()


def generate_dataset(num_samples=10_000, seed=0, teacher=None, state_range=2.5):
    """Sample problems and let the teacher solve them.

    Args:
        num_samples: how many.
        seed: of the sampling; the same seed gives the same dataset, to the bit.
        teacher: a `MinimumEnergyController`; that of the double integrator, 15 steps of 0.33 s, if not given.
        state_range: half the side of the box of starts and targets.
    """
    teacher = MinimumEnergyController() if teacher is None else teacher
    system = teacher.system
    initial_states, target_states = sample_states(num_samples, seed, system.state_dim, state_range)
    return LQRDataset(initial_states, target_states, teacher.solve(initial_states, target_states), A=system.A, B=system.B,
                      dt=system.dt, horizon=teacher.horizon, state_range=float(state_range), seed=int(seed),
                      teacher=type(teacher).__name__)
