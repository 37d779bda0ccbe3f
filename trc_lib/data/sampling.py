"""Draws problems, and keeps those that have an answer."""

import torch
from jaxtyping import Float64
from torch import Tensor

from trc_lib import validation
from trc_lib.teachers import Teacher

LARGEST_SAMPLE = 2 * 10**8  # numbers in the starts of one draw: 1.6 GB
SPARE = 16                  # problems drawn beyond twice those that are missing
LARGEST_DRAW = 1000         # problems drawn for each that has an answer, before giving up

States = Float64[Tensor, "batch state_dim"]
Box = Float64[Tensor, " state_dim"]


def box(name: str, value: object, state_dim: int,
        or_zero: bool = True) -> tuple[object, Box, Box]:
    """A box of states: as plain values, its lowest corner and its highest.

    Args:
        name: of the argument, for messages.
        value: half the side of a cube around the origin; or one such number for each component; or
            a row ``[low, high]`` for each, where both may be the same.
        state_dim: components of a state.
        or_zero: whether a cube may have no width.
    """
    if not isinstance(value, list | tuple) and not getattr(value, "ndim", 0):
        half = validation.positive(name, value, or_zero)
        high = torch.full((state_dim,), half, dtype=torch.float64)
        return half, -high, high
    corners = validation.array(name, value, (), torch.float64)
    low, high = (corners.unbind(1) if corners.shape == (state_dim, 2)
                 else (-corners.abs(), corners.abs()))
    if low.shape != (state_dim,) or not bool((low <= high).all()):
        raise ValueError(f"{name}={value!r} is not accepted; give half the side of a cube, "
                         f"{state_dim} of them, or {state_dim} rows [low, high]")
    return corners.tolist(), low, high


class Sampler:
    """Draws pairs of start and target, each uniform in a box.

    Drawn on the CPU in float64, so that a seed means the same problems on every device. A subclass
    with another `draw` draws otherwise, always from ``self.generator``.

    Args:
        seed: of the generator.
        state_dim: components of a state.
        state_range: the box of the starts: half the side of a cube around the origin; or one such
            number for each component; or a row ``[low, high]`` for each.
        target_range: the box of the targets, alike; that of the starts if None, 0 for the origin
            alone, rows ``[x, x]`` for one target.
    """

    def __init__(self, seed: object, state_dim: object, state_range: object,
                 target_range: object = None):
        self.seed = validation.whole("seed", seed, at_least=0)
        self.state_dim = validation.whole("state_dim", state_dim)
        target_range = state_range if target_range is None else target_range
        self.state_range, *self.starts = box("state_range", state_range, self.state_dim, False)
        self.target_range, *self.targets = box("target_range", target_range, self.state_dim)
        self.generator = torch.Generator().manual_seed(self.seed)

    def draw(self, num_samples: object) -> tuple[States, States]:
        """The next ``num_samples`` starts and targets."""
        num_samples = validation.whole("num_samples", num_samples)
        if num_samples * self.state_dim > LARGEST_SAMPLE:
            raise ValueError(f"num_samples={num_samples:,} with state_dim={self.state_dim:,} is "
                             f"too large; at most {LARGEST_SAMPLE:,} numbers are drawn at once")
        unit = torch.rand(num_samples, 2, self.state_dim, generator=self.generator,
                          dtype=torch.float64)  # in [0, 1)
        starts, targets = (
            (2 * unit[:, i] - 1) * ((high - low) / 2) + (high + low) / 2
            for i, (low, high) in enumerate((self.starts, self.targets)))
        return starts, targets

    def draw_solved(self, teacher: Teacher, wanted: int, block: int, dtype=torch.float64
                    ) -> tuple[list[Tensor], int]:
        """The next ``wanted`` problems that have an answer; those without are drawn anew.

        Args:
            teacher: solves them.
            wanted: how many.
            block: how many are drawn and solved at a time, at most.
            dtype: of what is kept.

        Returns:
            [starts, targets, controls], and how many problems were drawn for them. The next draw
            goes on after the last of these.

        Raises:
            ValueError: if fewer than one problem in `LARGEST_DRAW` has an answer.
        """
        found, drawn, missing = [], 0, wanted
        while missing:
            before = self.generator.get_state()
            size = min(block, 2 * missing + SPARE)  # the last few are found among few
            problems = self.draw(size)
            controls, solved = teacher.try_solve(*problems)
            at = solved.nonzero()[:missing, 0]
            found.append([values[at].to(dtype) for values in (*problems, controls)])
            missing -= len(at)
            used = size if missing else int(at[-1]) + 1
            drawn += used
            if drawn > LARGEST_DRAW * (wanted - missing + 1):
                raise ValueError(
                    f"state_range={self.state_range} is too wide, or target_range="
                    f"{self.target_range} is: {drawn:,} problems were drawn, and only "
                    f"{wanted - missing} of them have an answer")
        self.generator.set_state(before)
        self.draw(used)
        return [torch.cat(values) for values in zip(*found)], drawn


def sample_states(num_samples: object, seed: object, state_dim: object = 2,
                  state_range: object = 2.5, target_range: object = None) -> tuple[States, States]:
    """``num_samples`` starts and targets, each ``[num_samples, state_dim]``: see `Sampler`."""
    return Sampler(seed, state_dim, state_range, target_range).draw(num_samples)
