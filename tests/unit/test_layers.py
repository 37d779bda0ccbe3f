"""A module imports from floors below its own, and the method never from the course."""

import ast
import pathlib

import pytest

import trc_lib

ROOT = pathlib.Path(trc_lib.__file__).parent
FLOORS = {"validation": 0, "io": 1, "rebuild": 1, "scan": 1, "systems": 2, "costs": 3,
          "evaluation": 3, "teachers": 4, "data": 5, "model": 5, "training": 6, "problems": 7,
          "export": 7, "web": 7, "course": 8}
MODULES = sorted(path for path in ROOT.rglob("*.py")
                 if path.parent != ROOT or path.stem not in ("__init__", "__main__"))


def room(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path):
    """The rooms that a module imports from, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        module = getattr(node, "module", None) or ""
        if isinstance(node, ast.ImportFrom) and module.split(".")[0] == "trc_lib":
            yield from module.split(".")[1:2] or (alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names
                        if alias.name.startswith("trc_lib."))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_from_the_floors_below(path):
    mine = room(path)
    for other in set(imported(path)) - {mine}:
        assert FLOORS[other] < FLOORS[mine], f"{path.name} imports {other}"


def test_the_layers_are_looked_for_in_every_module_and_an_import_upwards_is_found(tmp_path):
    assert {room(path) for path in MODULES} == set(FLOORS)
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from trc_lib.course import plots\n"
                   "    import trc_lib.training.loop\n")
    assert set(imported(bad)) == {"course", "training"}


def test_annotations_are_checked_in_these_tests():
    import torch
    from jaxtyping import TypeCheckError

    from trc_lib.systems import DoubleIntegrator

    with pytest.raises(TypeCheckError):
        DoubleIntegrator().dynamics("a state", torch.zeros(1))
