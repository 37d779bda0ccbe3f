"""What a file says about an object brings back the same object, or is refused."""

import json

import numpy as np
import pytest
import torch

from trc_lib.costs import QuadraticCost
from trc_lib.data import LQRDataset, generate_dataset
from trc_lib.model import TinyRecursiveControl
from trc_lib.rebuild import Rebuildable, check_saveable, rebuilt
from trc_lib.systems import DoubleIntegrator, LinearSystem, System, VanDerPol
from trc_lib.teachers import (
    BoundedMinimumEnergyController,
    IterativeLQR,
    MinimumEnergyController,
    Teacher,
)

EYE = torch.eye(2, dtype=torch.float64)


class Circuit(System):
    """Its parameters have the names of those of a cost and a teacher."""

    def __init__(self, R=1.0, Q=2, horizon=3.0, seed=4.0, dt=0.1, control_limit=1.0):
        self.R, self.Q, self.horizon, self.seed = R, Q, horizon, seed
        super().__init__(2, 1, dt, control_limit)

    def dynamics(self, state, control):
        x, v = state.unbind(-1)
        return torch.stack([x + self.dt * v, v + self.dt * (control[..., 0] - self.R * v)], dim=-1)


class Stiff(VanDerPol):
    """Other dynamics with the parameters of its parent."""

    def dynamics(self, state, control):
        return super().dynamics(state, 2 * control)


class Heavy(Circuit):
    """Fixes a parameter of its parent, and nothing else."""

    def __init__(self):
        super().__init__(R=9.0)


class Table(System):
    """Keeps arrays and a list."""

    def __init__(self, array, tensor, names=("a", "b")):
        self.array, self.tensor, self.names = array, tensor, names
        super().__init__(1, 1, 0.1)

    def dynamics(self, state, control):
        return state + control


def circuit_teacher(**parameters):
    return IterativeLQR(Circuit(**parameters), 5, QuadraticCost(2 * EYE, [[0.1]], 3 * EYE), 0.3,
                        guesses=2)


@pytest.mark.parametrize("made", [
    LinearSystem(EYE, np.ones((2, 3)), 0.1), DoubleIntegrator(0.2, control_limit=[[-1.0, 2.0]]),
    VanDerPol(3.0, control_limit=None), Circuit(R=5.0), Stiff(0.5), Heavy(),
    Table(np.arange(3), torch.ones(2, 2)), QuadraticCost(EYE, [[2.0]], 0 * EYE),
    MinimumEnergyController(DoubleIntegrator(0.5), 7, success=0.01),
    BoundedMinimumEnergyController(success=[0.1, 0.2]), circuit_teacher(horizon=8.5)],
    ids=lambda made: type(made).__name__)
def test_an_object_comes_back_from_json(made):
    again = rebuilt(Rebuildable, json.loads(json.dumps(made.contents())))
    assert again.same_as(made) and made.same_as(again)
    assert again.contents() == made.contents()
    for name, value in made.parameters().items():
        back = getattr(again, name, None)
        if torch.is_tensor(value):
            assert torch.equal(back, value) and back.dtype == value.dtype
        elif isinstance(value, np.ndarray):
            assert isinstance(back, np.ndarray) and np.array_equal(back, value)


def test_what_only_fixes_parameters_is_its_parent_and_what_changes_the_dynamics_is_not():
    cart = LinearSystem([[1, 0.5], [0, 1]], [[0.125], [0.5]], 0.5)
    assert DoubleIntegrator(0.5).same_as(cart) and not DoubleIntegrator(0.4).same_as(cart)
    assert Heavy().same_as(Circuit(R=9.0))
    assert not Stiff(1.0).same_as(VanDerPol(1.0)) and not VanDerPol(1.0).same_as(Stiff(1.0))
    assert type(rebuilt(System, Stiff(1.0).contents())) is Stiff


def test_parameters_with_the_names_of_others_come_back_with_a_dataset_and_a_network(tmp_path):
    teacher = circuit_teacher(R=5.0, Q=7, horizon=9.5, seed=11.0)
    data = generate_dataset(8, teacher=teacher, state_range=0.5, target_range=0)
    data.save(tmp_path / "data.npz")
    loaded = LQRDataset.load(tmp_path / "data.npz")
    system, cost = loaded.system, loaded.teacher.quadratic_cost
    assert (system.R, system.Q, system.horizon, system.seed) == (5.0, 7, 9.5, 11.0)
    assert (loaded.teacher.horizon, loaded.teacher.success, loaded.seed) == (5, 0.3, 0)
    assert torch.equal(cost.Q, 2 * EYE) and torch.equal(cost.Q_final, 3 * EYE)
    assert loaded.fingerprint == data.fingerprint
    other = generate_dataset(8, teacher=circuit_teacher(R=5.0, Q=8, horizon=9.5, seed=11.0),
                             state_range=0.5, target_range=0)
    assert torch.equal(other.controls, data.controls) and other.fingerprint != data.fingerprint
    model = TinyRecursiveControl.create_two_level_small(system, horizon=5)
    model.save(tmp_path / "model.pt")
    assert TinyRecursiveControl.load(tmp_path / "model.pt").system.R == 5.0


def test_a_class_that_is_not_known_or_has_changed_is_refused(tmp_path):
    contents = Circuit().contents()
    assert contents["class"] == f"{__name__}.Circuit"
    with pytest.raises(ValueError, match=r"'other\.Pendulum' is unknown; import the module"):
        rebuilt(System, contents | {"class": "other.Pendulum"})
    moved = rebuilt(System, contents | {"class": "where_it_was.Circuit"})  # a module was renamed
    assert type(moved) is Circuit
    changed = contents | {"step": [0.1, 0.3]}
    with pytest.raises(ValueError, match=r"the dynamics of .*Circuit have changed since"):
        rebuilt(System, changed)
    with pytest.raises(ValueError, match="class 'QuadraticCost' is unknown"):
        rebuilt(System, QuadraticCost(EYE, [[1.0]], EYE).contents())
    for wrong in (None, {}, [], {"class": "LinearSystem"}, {"class": 3, "parameters": {}}):
        with pytest.raises(ValueError, match=r"names no class|is unknown"):
            rebuilt(System, wrong)


def test_classes_of_one_name_in_two_versions_of_a_cell_are_told_apart_by_what_they_do():
    def version(gain):
        class Cell(System):
            def __init__(self):
                super().__init__(1, 1, 0.1)

            def dynamics(self, state, control):
                return state + gain * control

        return Cell

    first, same, other = version(1.0)(), version(1.0)(), version(2.0)()
    assert first.same_as(same) and not first.same_as(other)
    with pytest.raises(ValueError, match="have changed since"):
        rebuilt(System, first.contents())  # the name now means the last


class Forgetful(System):
    def __init__(self, mass):
        super().__init__(1, 1, 0.1)

    def dynamics(self, state, control):
        return state


class Doubling(System):
    def __init__(self, mass):
        self.mass = 2 * mass
        super().__init__(1, 1, 0.1)

    def dynamics(self, state, control):
        return state


@pytest.mark.parametrize(("made", "error", "words"), [
    (lambda: Forgetful(1.0), TypeError, "Forgetful cannot be saved: .*mass.*under its name"),
    (lambda: Doubling(1.0), ValueError, "Doubling is not the same again when it is made from"),
    (lambda: Table(np.ones(1), len), TypeError, "Table's parameter tensor is <built-in function"),
    (lambda: Table(np.array([object()]), 1), TypeError, "parameter array has dtype object"),
    (lambda: Table(np.ones(1), float("nan")), TypeError, "parameter tensor is nan"),
], ids=["not kept", "changed", "a function", "objects", "nan"])
def test_what_cannot_be_held_is_refused_when_it_is_saved(tmp_path, made, error, words):
    class Frozen(Teacher):
        def try_solve(self, initial_state, target_state):
            solved = torch.ones(len(initial_state), dtype=torch.bool)
            return torch.zeros(len(initial_state), 3, 1, dtype=torch.float64), solved

    with pytest.raises(error, match=words):
        check_saveable(System, made())
    data = generate_dataset(4, teacher=Frozen(made(), 3))
    with pytest.raises(error, match=words):
        data.save(tmp_path / "data.npz")
    model = TinyRecursiveControl.create_two_level_small(made(), horizon=3)
    with pytest.raises(error, match=words):
        model.save(tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("factor", "same"), [(1 + 1e-5, True), (1.001, False), (1.5, False)])
def test_dynamics_that_differ_by_more_than_rounding_have_changed(factor, same):
    contents = VanDerPol(1.0).contents()
    contents["step"] = [factor * value for value in contents["step"]]
    if same:  # as on a machine with another sine
        again = rebuilt(System, contents)
        assert again.contents() == contents  # or a fingerprint would change with the machine
        return
    with pytest.raises(ValueError, match="the dynamics of VanDerPol have changed since"):
        rebuilt(System, contents)


def test_one_of_two_classes_of_a_name_in_other_modules_is_not_guessed():
    twins = [type("Twin", (Circuit,), {"__module__": module, "extra": number})
             for number, module in enumerate(("one", "two"))]
    contents = twins[0]().contents()
    assert contents["class"] == "one.Twin" and type(rebuilt(System, contents)) is twins[0]
    with pytest.raises(ValueError, match=r"class 'three\.Twin' is unknown"):
        rebuilt(System, contents | {"class": "three.Twin"})


def test_a_change_of_dynamics_is_noticed_in_any_units():
    class Slow(System):
        def __init__(self, rate=1e-7):
            self.rate = rate
            super().__init__(1, 1, 0.1)

        def dynamics(self, state, control):
            return self.rate * (state + control)

    contents = Slow().contents()
    with pytest.raises(ValueError, match="have changed since"):
        rebuilt(System, contents | {"step": [1.1 * contents["step"][0]]})
