"""What a notebook accepts as its parameters, also from papermill."""

import types

import IPython
import pytest

from trc_lib import course
from trc_lib.course import parameters
from trc_lib.course.batch.plan import CHAPTERS, parameters_of


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_parameter_that_a_notebook_declares_is_checked(chapter):
    declared = parameters_of(chapter)
    assert declared.keys() <= {*parameters.OF_THE_PRESET, *parameters.CHECKS}
    assert course.check_parameters(**declared) == course.PRESETS["cpu"]
    for name, default in declared.items():
        for wrong in ("a", -1.5, [1], float("nan")) if default is not False else ("a", 1):
            with pytest.raises((TypeError, ValueError), match=name):
                course.check_parameters(**declared | {name: wrong})


@pytest.mark.parametrize(("name", "accepted", "refused"), [
    ("horizon", (3, 200), (2, 201, 15.0)), ("dt", (0.01, 5), (0, 0.009, 5.1)),
    ("limit", (0.05, 5), (0, 0.04, 6)), ("noise", (0, 0.2), (0.21, True)),
    ("every", (0.5, 100), (0, 0.4, 101))])
def test_what_would_stop_a_notebook_is_refused_in_words(name, accepted, refused):
    for value in accepted:
        assert course.check_parameters("cpu", 0, **{name: value}).name == "cpu"
    for value in refused:
        with pytest.raises((TypeError, ValueError), match=f"{name}={value} .*(give|needs|at most)"):
            course.check_parameters("cpu", 0, **{name: value})


def test_the_cell_that_checks_can_be_run_again():
    lane = course.check_parameters("smoke", 3, lr=0.01)
    assert course.check_parameters(lane, 3, lr=0.01) == lane


def kernel(monkeypatch, *cells):
    shell = types.SimpleNamespace(user_ns={"In": ["", 'lane = "cpu"\nseed = 0\nlr = None', *cells]})
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)


@pytest.mark.parametrize(("cell", "message"), [
    ("sede = 3", "has no parameter 'sede'; it has lane, seed, lr; did you mean 'seed'?"),
    ("zzz = [1, 2]\nseed = 3", "has no parameter 'zzz'; it has lane, seed, lr"),
    ('Lane = "smoke"', "did you mean 'lane'?"),
    ("seed: int = 3", None), ("seed = 3\nlr = 0.001", None)])
def test_a_parameter_that_papermill_injects_must_be_declared(cell, message, monkeypatch):
    kernel(monkeypatch, f"# Parameters\n{cell}\n")
    if message is None:
        assert course.check_parameters("cpu", 3, lr=0.001).seed == 3
    else:
        with pytest.raises(ValueError) as refused:
            course.check_parameters("cpu", 0, lr=None)
        assert message in str(refused.value)


def test_what_a_learner_types_is_no_parameter(monkeypatch):
    kernel(monkeypatch, "x = 1", "sede = 3  # Parameters")
    assert course.check_parameters("cpu", 0, lr=None).name == "cpu"
