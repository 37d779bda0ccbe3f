"""Courses and jobs that need no kernel."""

import json

import pytest

from tests import ROOT
from tests.notebooks import write_notebook
from trc_lib import io
from trc_lib.course.batch import job

DECLARED = 'lane = "cpu"\nseed = 0\nweight = 0.5'


@pytest.fixture
def results():
    return io.read_json(ROOT / "data" / "results" / "course.json")


@pytest.fixture
def scratch(scratch_course):
    """A course of two chapters."""
    notebooks = scratch_course / "notebooks"
    write_notebook(notebooks / "04_training.ipynb", "print(weight)", declared=DECLARED)
    write_notebook(notebooks / "05_evaluation.ipynb", "print(checkpoint)",
                   declared=DECLARED + '\ncheckpoint = "shipped"')
    return scratch_course


@pytest.fixture
def executed(scratch, monkeypatch):
    """The chapters that were executed; they record their weight, and fail if it is negative."""
    names = []

    def execute(name, out, parameters, bars=None):
        names.append(name[:2])
        out.write_text(json.dumps(parameters))
        weight = parameters.get("weight", 0.5)
        if weight < 0:
            raise job.NotebookFailed(f"{name}, cell 2: ValueError: negative")
        figures = {"seconds": 1.5, "best_epoch": {"eval_final_error": weight}}
        io.write_json(out.parent / "results" / f"{name}.json", figures)

    monkeypatch.setattr(job, "run_notebook", execute)
    return names
