"""Every check tells right, wrong and missing answers apart, and says what is wrong with each."""

import linecache

import numpy as np
import pytest
import torch

from tests.unit.course.exercises import (
    answers_bounded,
    answers_dataset,
    answers_evaluation,
    answers_fair_comparison,
    answers_landing_by_network,
    answers_loop,
    answers_model,
    answers_powered_descent,
    answers_teacher,
    answers_training,
    answers_van_der_pol,
    answers_your_own_system,
)
from trc_lib.course.exercises import (
    bounded,
    dataset,
    evaluation,
    fair_comparison,
    landing_by_network,
    loop,
    model,
    powered_descent,
    teacher,
    training,
    van_der_pol,
    your_own_system,
)
from trc_lib.course.exercises.check_result import exercise

MODULES = (teacher, dataset, model, training, evaluation, fair_comparison, loop, bounded,
           van_der_pol, your_own_system, powered_descent, landing_by_network)
CHECKS = [check for module in MODULES for name, check in vars(module).items()
          if hasattr(check, "__wrapped__") and check.__module__ == module.__name__
          and not name.startswith("_")]

ANSWERS = (answers_teacher, answers_dataset, answers_model, answers_training, answers_evaluation,
           answers_fair_comparison, answers_loop, answers_bounded, answers_van_der_pol,
           answers_your_own_system, answers_powered_descent, answers_landing_by_network)
RIGHT = [(check, answer) for module in ANSWERS
         for check, answers in module.RIGHT.items() for answer in answers]
WRONG = [(check, *row) for module in ANSWERS
         for check, rows in module.WRONG.items() for row in rows]


def test_there_are_three_to_five_in_each_chapter():
    counts = {module.__name__: sum(check.__module__ == module.__name__ for check in CHECKS)
              for module in MODULES}
    assert all(3 <= count <= 5 for count in counts.values()), counts


def reads_well(verdict):
    """Whether what is shown is the message, in lines that need not be broken within words."""
    lines = repr(verdict).splitlines()
    return (verdict.message.split() == " ".join(lines).split(": ", 1)[1].split()
            and all(len(line) <= 88 or " " not in line.strip() for line in lines))


@pytest.mark.filterwarnings("error")  # a learner would see it above "Right"
@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer):
    verdict = check(answer)
    assert verdict.passed is True, verdict
    assert reads_well(verdict)


@pytest.mark.parametrize(("check", "answer", "word"), WRONG)
def test_wrong_answers_are_refused_with_what_is_wrong(check, answer, word):
    verdict = check(answer)
    assert verdict.passed is False and word in verdict.message, verdict
    assert reads_well(verdict)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_what_was_not_attempted_is_not_wrong(check):
    def empty(*problem):
        raise NotImplementedError

    assert check(empty).passed is None
    assert check(lambda *problem: None).passed is None
    assert check(lambda *problem: ...).passed is None


def test_an_error_in_another_cell_of_the_learner_is_shown_with_its_line(tmp_path):
    """A class in one cell, and the function that makes it in another, as in the solutions."""
    cells = {}
    for name, source in (("1.py", "def helper(C):\n    return C @ undefined\n"),
                         ("2.py", "def answer(C):\n    return lambda: helper(C)\n")):
        linecache.cache[str(tmp_path / name)] = (len(source), None, source.splitlines(True), name)
        exec(compile(source, str(tmp_path / name), "exec"), cells)
    verdict = exercise(lambda given: given(np.eye(2))())(cells["answer"])
    assert "`return C @ undefined`, raises NameError" in verdict.message, verdict


def test_who_calls_an_exercise_that_is_left_open_is_told_which():
    def first_exercise(C):
        raise NotImplementedError

    def second_exercise(C):
        return 1 - first_exercise(C)

    verdict = teacher.null_projector(second_exercise)
    assert verdict.passed is None and "calls first_exercise" in verdict.message, verdict
    assert "function above" in teacher.null_projector(first_exercise).message


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_forgotten_return_a_value_and_another_signature_are_told_from_nothing(check):
    def forgotten(*problem):
        answer = problem  # noqa: F841

    for answer, word in ((forgotten, "Is its `return` missing?"), (3.0, "the function itself"),
                         (lambda: 3.0, "takes ()")):
        verdict = check(answer)
        assert verdict.passed is False and word in verdict.message, verdict


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_an_answer_that_raises_is_shown_its_line(check):
    def broken(*problem):
        return problem[0] / undefined_name  # noqa: F821

    verdict = check(broken)
    assert verdict.passed is False
    assert "problem[0] / undefined_name" in verdict.message and "NameError" in verdict.message


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_what_cannot_be_read_is_refused_without_an_error_of_the_check(check):
    for given in ([[1.0, 2.0], [3.0]], (np.zeros(3), np.zeros((2, 2))), {"a": 1}, "text", object(),
                  (), [None], 10**400, torch.eye(3).to_sparse(), torch.zeros(3, device="meta")):
        verdict = check(lambda *problem, given=given: given)
        assert verdict.passed is False and "raises" not in verdict.message, (given, verdict)


def test_an_operation_that_pytorch_has_not_implemented_is_an_error_and_no_missing_attempt():
    verdict = teacher.null_projector(lambda C: torch.zeros(3, device="meta").numpy())
    assert verdict.passed is False and 'device="meta"' in verdict.message, verdict


def test_an_error_inside_a_library_is_shown_at_the_learners_line():
    def singular(C):
        return np.linalg.inv(C @ C.T * 0)  # the learner's line

    assert "np.linalg.inv(C @ C.T * 0)" in teacher.null_projector(singular).message


def test_the_leaky_splits_hold_the_copies_that_they_name():
    rng = np.random.default_rng(1)
    for n, m in ((300, 80), (60, 200)):
        train, test, kinds = dataset._leaky_split(rng, n, m)
        found = set(np.flatnonzero(answers_dataset.same(train, test).all(2).any(1)).tolist())
        assert found == kinds["exact"] | kinds["float32"] | kinds["edge"] and len(found) == 12


def test_logs_are_what_their_names_say():
    for kind, train, evaluated in training._logs():
        fall, rise = min(evaluated) / evaluated[0], evaluated[-1] / min(evaluated)
        lowest = min(train) / train[0]
        assert {"not learning": lowest >= 0.5,
                "different units": lowest <= 0.1 and fall >= 0.9,
                "overfitting": lowest <= 0.1 and fall <= 0.1 and rise >= 3,
                "learning": lowest <= 0.1 and fall <= 0.1 and rise < 3}[kind]
