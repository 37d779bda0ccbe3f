"""What a check says: a result that shows itself in the notebook, and never fails it."""

import dataclasses
import functools
import traceback

import numpy as np


class Wrong(Exception):
    """Raised inside a check: the answer is wrong, and this is what is wrong with it."""


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """Whether an answer is right (None: not attempted), and what there is to say about it."""

    passed: bool | None
    message: str

    def __repr__(self):
        return f"{ {True: 'Right', False: 'Not yet', None: 'Not attempted'}[self.passed] }: {self.message}"


def exercise(check):
    """Make a check of a function that tries the learner's answer and raises `Wrong`, or returns praise.

    The check then returns a `CheckResult`. An answer that raises NotImplementedError, or gives None, was not attempted;
    one that raises anything else is wrong, and its line is shown.
    """

    @functools.wraps(check)
    def checked(answer):
        try:
            return CheckResult(True, check(_attempted(answer)))
        except NotImplementedError:
            return CheckResult(None, "fill in the function above, and run the cell again.")
        except Wrong as wrong:
            return CheckResult(False, str(wrong))
        except Exception as error:  # whatever the learner's code did
            frames = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in frames if frame.filename == answer.__code__.co_filename]
            place = (own or frames)[-1]  # the last line of the learner's own, not one inside a library
            return CheckResult(False, f"line {place.lineno} of {place.name}, `{place.line}`, raises {type(error).__name__}: {error}")

    return checked


def _attempted(answer):
    """The learner's function, for which None and ... count as not attempted."""

    @functools.wraps(answer)
    def called(*arguments, **options):
        given = answer(*arguments, **options)
        if given is None or given is ...:
            raise NotImplementedError
        return given

    return called


def as_array(given, shape, what):
    """What the learner gave as a float64 NumPy array of ``shape``, or `Wrong`, saying what it is instead."""
    import torch

    if torch.is_tensor(given):
        given = given.detach().cpu().numpy()
    try:
        array = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise Wrong(f"{what} should be an array of numbers, not {type(given).__name__}.") from None
    if array.shape != tuple(shape):
        raise Wrong(f"{what} has shape {list(array.shape)}; it should have {list(shape)}.")
    if not np.isfinite(array).all():
        raise Wrong(f"{what} holds NaN or infinite values.")
    return array


def same(given, right):
    """Whether two arrays agree but for rounding, which is measured by the largest entry that is right."""
    right = np.asarray(right, dtype=np.float64)
    return given.shape == right.shape and np.allclose(given, right, rtol=0, atol=1e-8 * max(1, np.abs(right).max()))


def recognise(given, mistakes):
    """Raise `Wrong` with the message of the first of the pairs (outcome, message) whose outcome is what was given."""
    for outcome, message in mistakes:
        if same(given, outcome):
            raise Wrong(message)
