"""What all checks have in common: an answer that is missing is not wrong, and one that raises is shown its line."""

import pytest

from trc_lib.checks import dataset, evaluation, model, teacher, training

CHECKS = [check for module in (teacher, dataset, model, training, evaluation) for check in vars(module).values()
          if hasattr(check, "__wrapped__") and check.__module__ == module.__name__]


def test_there_are_three_to_five_in_each_chapter():
    counts = {module.__name__: sum(check.__module__ == module.__name__ for check in CHECKS)
              for module in (teacher, dataset, model, training, evaluation)}
    assert all(3 <= count <= 5 for count in counts.values()), counts


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_what_was_not_attempted_is_not_wrong(check):
    def empty(*problem, **options):
        raise NotImplementedError

    assert check(empty).passed is None
    assert check(lambda *problem, **options: None).passed is None
    assert check(lambda *problem, **options: ...).passed is None


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_an_answer_that_raises_is_shown_its_line(check):
    def broken(*problem, **options):
        return problem[0] / undefined_name  # noqa: F821

    verdict = check(broken)
    assert verdict.passed is False and "problem[0] / undefined_name" in verdict.message and "NameError" in verdict.message


def test_an_error_inside_a_library_is_shown_at_the_learners_line():
    import numpy as np

    def singular(C):
        return np.linalg.inv(C @ C.T * 0)  # the learner's line

    assert "np.linalg.inv(C @ C.T * 0)" in teacher.null_projector(singular).message
