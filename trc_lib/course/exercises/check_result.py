"""What a check returns, and the functions that all checks share.

A check never raises: a wrong answer is shown in the notebook, and the notebook runs on.
"""

import copy
import dataclasses
import dis
import functools
import inspect
import os
import textwrap
import traceback

import numpy as np
import torch

COLUMNS = 88  # of a verdict: JupyterLab breaks longer lines within words


class Wrong(Exception):
    """Raised inside a check; its text says what is wrong with the answer."""


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """Whether an answer is right (None: not attempted), and a message to the learner."""

    passed: bool | None
    message: str

    def __repr__(self):
        verdict = {True: "Right", False: "Not yet", None: "Not attempted"}[self.passed]
        return "\n".join(
            textwrap.fill(line, COLUMNS, break_long_words=False, break_on_hyphens=False)
            for line in f"{verdict}: {self.message}".splitlines())


UNREADABLE = "What your function returns cannot be read. Its first line says what to return."


def exercise(check):
    """Make a check of a function that takes an answer and returns praise or raises `Wrong`.

    The check returns a `CheckResult`. An answer that raises NotImplementedError, returns an
    ellipsis or has no body was not attempted. One that raises anything else is wrong: its line is
    shown.
    """

    @functools.wraps(check)
    def checked(answer):
        def attempted(*arguments):
            if not callable(answer):
                raise Wrong(f"Give the function itself, not {type(answer).__name__}.")
            _refuse_other_arguments(answer, arguments)
            given = answer(*arguments)
            if given is ... or (given is None and _is_empty(answer)):
                raise NotImplementedError
            if given is None:
                raise Wrong("Your function returns None. Is its `return` missing?")
            return given

        try:
            return CheckResult(True, check(attempted))
        except Wrong as wrong:
            return CheckResult(False, str(wrong))
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            code = getattr(answer, "__code__", None)
            if isinstance(error, NotImplementedError) and not str(error):  # PyTorch's says why
                return CheckResult(None, _left_open(answer, frames[-1].name))
            own = [frame for frame in frames if code and _together(frame.filename, code)]
            if code and not own:  # what was returned stopped the check
                return CheckResult(False, UNREADABLE)
            place = (own or frames)[-1]  # the learner's last line, rather than one in a library
            where = f"line {place.lineno}, in {place.name}, `{place.line}`"
            return CheckResult(False, f"{where}, raises {type(error).__name__}: {error}")

    return checked


def _together(filename, code):
    """Whether a file lies beside that of a function: cells of one notebook do."""
    return os.path.dirname(filename) == os.path.dirname(code.co_filename)


def _left_open(answer, raised_by):
    """What to do about an answer that raised NotImplementedError, or called what did."""
    if raised_by in ("attempted", getattr(answer, "__name__", raised_by)):
        return "fill in the function above, and run the cell again."
    return f"your function calls {raised_by}, which is not filled in yet."


def _is_empty(answer):
    """Whether a function has no body but a docstring, ``pass`` or ``...``."""
    code = getattr(answer, "__code__", None)
    idle = {"RESUME", "NOP", "POP_TOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE"}
    return code is not None and {each.opname for each in dis.get_instructions(code)} <= idle


def _refuse_other_arguments(answer, arguments):
    """Raise `Wrong` if a function cannot be called with as many arguments."""
    try:
        signature = inspect.signature(answer)
    except (TypeError, ValueError):  # a builtin may have none
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        raise Wrong(f"Your function takes {signature}; it is called with {len(arguments)} "
                    "arguments, as in the template.") from None


def on_copies(answer, **arguments):
    """Call the answer with copies of the arguments, in this order.

    Raises:
        Wrong: An argument was changed in place; its name is in the message.
    """
    copies = [copy.deepcopy(value) for value in arguments.values()]
    given = answer(*copies)
    for (name, before), after in zip(arguments.items(), copies):
        if not np.array_equal(before, after):
            raise Wrong(f"{name} was changed in place (by += or [...] =), but the caller still "
                        "needs it. Make a new array, or work on a copy.")
    return given


def several(given, *names):
    """The parts of an answer: a tuple, list or array with one part for each name."""
    if isinstance(given, np.ndarray | torch.Tensor) and given.ndim:
        given = list(given)
    if not isinstance(given, (tuple, list)) or len(given) != len(names):
        count = {2: "two", 3: "three"}[len(names)]
        raise Wrong(f"Return {count} things: {', '.join(names)}.")
    return given


def as_array(given, shape, what, hints=None):
    """What the learner gave, as a float64 array of ``shape``.

    Args:
        given: A number, list, array or tensor; for a number also one of size 1.
        what: Its name in messages.
        hints: The message for each wrong shape that has a known cause.
    """
    if torch.is_tensor(given):
        given = given.detach().cpu().numpy()
    wanted = "an array of numbers" if shape else "a number"
    try:
        array = np.asarray(given)
        if array.dtype.kind in "USO" and array.size and any(isinstance(each, (str, bytes))
                                                            for each in array.flat):
            raise Wrong(f"{what} should be {wanted}, not text.")
        array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise Wrong(f"{what} should be {wanted}, not {type(given).__name__}.") from None
    if tuple(shape) == () and array.size == 1:
        array = array.reshape(())
    if array.shape != tuple(shape):
        wanted = f"it should have {list(shape)}" if shape else "it should be one number"
        general = f"{what} has shape {list(array.shape)}; {wanted}."
        raise Wrong((hints or {}).get(array.shape, general))
    if not np.isfinite(array).all():
        raise Wrong(f"{what} holds NaN or infinite values.")
    return array


def as_number(given, what):
    """What the learner gave, as a float."""
    return as_array(given, (), what).item()


def same(given, right, tolerance=1e-8):
    """Whether two arrays agree, to a tolerance relative to the largest right entry (at least 1)."""
    given, right = np.asarray(given), np.asarray(right, dtype=np.float64)
    scale = max(1, np.abs(right).max())
    return given.shape == right.shape and np.allclose(given, right, rtol=0, atol=tolerance * scale)


def first(*faults):
    """The message of the first of the faults (condition, message) that holds, or None."""
    return next((message for holds, message in faults if holds), None)


def refuse(*faults):
    """Raise `Wrong` with the message of the first of the faults that holds, if any."""
    if message := first(*faults):
        raise Wrong(message)


def recognise(given, mistakes, tolerance=1e-8, where=""):
    """Raise `Wrong` with the message of the first mistake whose outcome was given.

    Args:
        mistakes: Rows (outcome, message), or (outcome, ..., message) if a mistake has several.
        where: What comes before every message.
    """
    for *outcomes, message in mistakes:
        if any(same(given, outcome, tolerance) for outcome in outcomes):
            raise Wrong(where + message)


def judge(given, right, mistakes, otherwise, tolerance=1e-8, where=""):
    """Raise `Wrong` unless the answer is right: as `recognise`, else with ``otherwise``.

    What is right but for the rounding of float32 is right.
    """
    if same(given, right, max(tolerance, 1e-5)):
        return
    recognise(given, mistakes, tolerance, where)
    raise Wrong(where + otherwise)


def apart(*values):
    """Numbers as words, with as many digits as it takes to tell them apart."""
    for digits in range(4, 17):
        words = [f"{value:.{digits}g}" for value in values]
        if len(set(words)) == len(set(values)):
            break
    return words
