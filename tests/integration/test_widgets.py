"""Widgets: every callback at the ends of its ranges and in between, and what the buttons do."""

import io
import random

import ipywidgets
import numpy as np
import pytest
import scipy.integrate
import torch
from PIL import Image

from trc_lib.course import widgets
from trc_lib.course.widgets.error_map import ErrorMap
from trc_lib.course.widgets.microscope import SWITCHES, Microscope, refine
from trc_lib.course.widgets.phase_plane import PhasePlane, limit_cycle
from trc_lib.course.widgets.scene import closest_view
from trc_lib.course.widgets.steering import KNOTS, Playground
from trc_lib.data import generate_dataset
from trc_lib.evaluation import final_error
from trc_lib.model import CostGradient, FinalError, Proportional, TinyRecursiveControl
from trc_lib.problems import PROBLEMS, van_der_pol
from trc_lib.systems import DoubleIntegrator, VanDerPol
from trc_lib.teachers import MinimumEnergyController

PROBLEM = {"start_position": -1.0, "start_velocity": 0.5, "target_position": 1.0, "target_velocity": 0.0}


@pytest.fixture(scope="module")
def model():
    return TinyRecursiveControl.create_two_level_small(block_hidden=16, head_hidden=16)


@pytest.fixture(scope="module")
def problems():
    return generate_dataset(40, seed=3)


@pytest.fixture(scope="module")
def shells(model, problems):
    snapshots = {epoch: TinyRecursiveControl.create_two_level_small(seed=epoch, block_hidden=16, head_hidden=16).state_dict()
                 for epoch in (0, 1, 5)}
    scope = widgets.microscope(model, problems)
    return {"playground": widgets.playground(), "teacher_explorer": widgets.teacher_explorer(),
            "dataset_browser": widgets.dataset_browser(problems), "microscope": scope,
            "time_machine": widgets.time_machine(model, snapshots), "error_map": widgets.error_map(model, scope, points=5)}


def _choices(control, rng):
    """The ends of a control's range, and a value in between."""
    if hasattr(control, "options"):
        return [control.options[0], control.options[-1], rng.choice(control.options)]
    between = rng.uniform(control.min, control.max)
    return [control.min, control.max, between if isinstance(control.step, float) else round(between)]


@pytest.mark.parametrize("name", ["playground", "teacher_explorer", "dataset_browser", "microscope", "time_machine", "error_map"])
def test_every_control_works_from_end_to_end_and_changes_the_picture(shells, name):
    shell, rng = shells[name], random.Random(0)
    assert Image.open(io.BytesIO(bytes(shell.picture.value))).size[0] >= 700
    for key, control in shell.controls.items():
        pictures = set()
        for value in _choices(control, rng):
            control.value = value
            assert shell.trouble.value == "", (key, value, shell.trouble.value)
            pictures.add(bytes(shell.picture.value))
        assert len(pictures) > 1, f"{key} changes nothing"
        assert control.description and control.style.description_width == "initial"


def test_trouble_is_said_in_words_and_the_picture_stays(shells):
    shell = shells["teacher_explorer"]
    kept, draw = bytes(shell.picture.value), shell.draw

    def broken(**values):
        raise ValueError("no <such> thing")

    shell.draw = broken
    shell.redraw()
    assert "ValueError" in shell.trouble.value and "&lt;such&gt;" in shell.trouble.value and shell.picture.value == kept
    shell.draw = draw
    shell.redraw()
    assert shell.trouble.value == ""


# ---------------------------------------------------------------- the playground


def test_the_optimum_wins_the_game_and_doing_nothing_does_not():
    game = Playground()
    line = np.interp(np.linspace(0, 1, KNOTS), (np.arange(15) + 0.5) / 15, game.optimum[:, 0])
    slope = (game.optimum[1] - game.optimum[0]).item() * 15
    line[0], line[-1] = game.optimum[0].item() - slope / 30, game.optimum[-1].item() + slope / 30  # half a step out
    torch.testing.assert_close(game.controls(*line), game.optimum, rtol=0, atol=1e-12)
    said = []
    game.scene.draw = lambda dt, runs, target, text: said.append(text)
    game.draw(**dict(zip("abcde", line)))
    game.draw(**dict.fromkeys("abcde", 0.0))
    assert "you win" in said[0] and "1.00 times" in said[0] and "to win" in said[1]


def test_a_wiggle_keeps_the_arrival_and_a_nudge_does_not():
    for part, arrives in (("wiggle", True), ("nudge", False)):
        game = Playground()
        game.add(part)
        error = final_error(game.teacher.system, game.start, game.target, game.optimum + game.extra).item()
        assert game.extra.norm() == pytest.approx(0.3) and (error < 1e-12) == arrives
        if arrives:
            gain = (game.optimum + game.extra).square().sum() - game.optimum.square().sum()
            assert gain.item() == pytest.approx(0.09)


def test_the_buttons_of_the_playground_add_and_start_over():
    shell = widgets.playground()
    untouched = bytes(shell.picture.value)
    wiggle, nudge, over = shell.children[0].children[-3:]
    wiggle.click()
    wiggled = bytes(shell.picture.value)
    nudge.click()
    assert len({untouched, wiggled, bytes(shell.picture.value)}) == 3
    over.click()
    assert shell.picture.value == untouched


# ---------------------------------------------------------------- the microscope


def test_the_microscope_shows_what_the_network_does(model):
    seen = Microscope(model, MinimumEnergyController(), H_cycles=5).compute(tuple(PROBLEM.values()), "as trained")
    x0, xT = torch.tensor([[-1.0, 0.5]]), torch.tensor([[1.0, 0.0]])
    with torch.no_grad():
        expected = model(x0, xT, H_cycles=5)["cycle_controls"][:, 0, :, 0]
    np.testing.assert_allclose(seen["controls"], expected, atol=1e-6)
    np.testing.assert_allclose(seen["optimum"], MinimumEnergyController().solve(x0[0], xT[0])[:, 0], atol=1e-12)
    assert seen["states"].shape == (6, 16, 2) and seen["z_H"].shape == (6, 128) and seen["z_L"].shape == (21, 128)
    np.testing.assert_allclose(seen["first"] + seen["second"], ((seen["controls"] - seen["optimum"]) ** 2).sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(seen["errors"], np.linalg.norm(seen["states"][:, -1] - seen["target"], axis=1), atol=1e-9)


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_does_what_it_says(model, switch):
    x0, xT = torch.tensor([[-1.0, 0.5], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    plain, changed = model.trace(x0, xT), refine(model, x0, xT, switch=switch)
    assert torch.equal(plain.controls, changed.controls) == (switch == "as trained")
    if switch == "z_H frozen":
        assert (changed.z_H == changed.z_H[0]).all()
    if switch == "z_L zero":
        assert not changed.z_L.any()
    if switch == "latents swapped":
        assert torch.equal(changed.controls[:2], plain.controls[:2])  # the swap is in force from the start of cycle 2
        assert torch.equal(changed.z_L[1, 0], plain.z_L[1, 0].flip(0))
        torch.testing.assert_close(changed.z_H[2], model.block(plain.z_H[1].flip(0) + changed.z_L[1, -1]))
    if switch == "feedback off":
        silent = TinyRecursiveControl(model.config, model.system)
        silent.load_state_dict(model.state_dict())
        silent.error_embedding.weight.data.zero_()
        torch.testing.assert_close(changed.controls, silent.trace(x0, xT).controls)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_step_computes_no_new_trace_and_a_problem_one():
    model = TinyRecursiveControl.create_two_level_small(block_hidden=16, head_hidden=16)
    scope = Microscope(model, MinimumEnergyController(), H_cycles=4)
    for cycle in range(5):
        for step in range(5):
            scope.draw(**PROBLEM, switch="as trained", cycle=cycle, step=step)
    assert scope.compute.cache_info().misses == 1
    scope.draw(**PROBLEM | {"start_position": 0.3}, switch="as trained", cycle=0, step=0)
    assert scope.compute.cache_info().misses == 2


def test_the_microscope_finds_the_worst_sample(model, problems):
    shell = widgets.microscope(model, problems, H_cycles=4)
    *_, number, worst = shell.children[0].children
    worst.click()
    errors = final_error(problems.system, problems.initial_states, problems.target_states,
                         model.solve(problems.initial_states, problems.target_states))
    assert number.value == int(errors.argmax())
    assert shell.values()["start_position"] == pytest.approx(problems.initial_states[number.value, 0].item())
    assert shell.picture.value == shell.draw(**shell.values())


@pytest.mark.parametrize("name", ["bounded_inputs", "van_der_pol"])
def test_the_microscope_works_on_the_other_problems(name):
    problem = PROBLEMS[name]()
    data, system = problem.dataset(6, seed=2), problem.teacher.system
    model = TinyRecursiveControl.create_two_level_small(system, feedback=Proportional(FinalError(system)),
                                                        horizon=problem.teacher.horizon)
    shell = widgets.microscope(model, data, H_cycles=4)
    shell.children[0].children[-1].click()
    assert not shell.trouble.value and bytes(shell.picture.value).startswith(b"\x89PNG")
    labels = [shell.controls[key].description for key in ("start_position", "target_velocity")]
    assert labels == [f"start position{system.units[0]}", f"target velocity{system.units[1]}"]
    scope, i = Microscope(model, problem.teacher), 3
    seen = scope.compute((*data.initial_states[i].tolist(), *data.target_states[i].tolist()), "as trained")
    np.testing.assert_allclose(seen["optimum"], data.controls[i, :, 0], atol=1e-9)
    np.testing.assert_allclose(seen["second"], ((seen["controls"] - seen["optimum"]) ** 2).sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(seen["first"], seen["errors"])


def test_the_microscope_says_what_cannot_be_reached():
    problem = PROBLEMS["bounded_inputs"]()
    scope = Microscope(TinyRecursiveControl.create_two_level_small(problem.teacher.system), problem.teacher, H_cycles=4)
    far = {"start_position": -2.5, "start_velocity": -2.5, "target_position": 2.5, "target_velocity": -2.5}
    assert not scope.compute(tuple(far.values()), "as trained")["solved"]
    scope.draw(**far, switch="as trained", cycle=2, step=0)
    parts, _ = scope.scene(closest_view(*(scope.compute(tuple(far.values()), "as trained")[name][2]
                                          for name in ("controls", "states"))))
    assert parts["text"].get_text().endswith("which no controls can reach")


# ---------------------------------------------------------------- the error map


def test_the_error_map_holds_final_errors_in_the_right_places(model):
    chart = ErrorMap(model, limit=4.0, points=5)
    errors = chart.errors((1.0, 0.0))
    for row, velocity in enumerate((-4.0, -2.0, 0.0, 2.0, 4.0)):
        for column, position in enumerate((-4.0, -2.0, 0.0, 2.0, 4.0)):
            x0, xT = [position, velocity], [1.0, 0.0]
            expected = final_error(model.system, x0, xT, model.solve(x0, xT)).item()
            assert errors[row, column].item() == pytest.approx(expected, rel=1e-4)
    worst = chart.worst_starts((1.0, 0.0), count=1)[0]
    inside = [(errors[row, column].item(), position, velocity) for row, velocity in ((1, -2.0), (2, 0.0), (3, 2.0))
              for column, position in ((1, -2.0), (2, 0.0), (3, 2.0))]
    assert worst.tolist() == list(max(inside)[1:])


def test_the_error_map_opens_its_worst_start_in_the_microscope(model, problems):
    scope = widgets.microscope(model, problems, H_cycles=4)
    shell = widgets.error_map(model, scope, points=5)
    shell.children[0].children[-1].click()
    position, velocity = ErrorMap(model, points=5).worst_starts((1.0, 0.0))[0].tolist()
    values = scope.values()
    assert (values["start_position"], values["start_velocity"]) == (position, velocity)


# ---------------------------------------------------------------- the phase plane

@pytest.fixture(scope="module")
def oscillator():
    problem = van_der_pol(horizon=20)
    model = TinyRecursiveControl.create_two_level_small(
        problem.teacher.system, 0, CostGradient(problem.teacher.system, problem.teacher.quadratic_cost, 20), horizon=20)
    model.set_scaling(problem.dataset(32, seed=0))
    return model, problem.teacher


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
def test_the_limit_cycle_is_the_one_that_scipy_finds(mu):
    cycle = limit_cycle(VanDerPol(mu, control_limit=None))
    late = scipy.integrate.solve_ivp(lambda t, s: [s[1], mu * (1 - s[0] ** 2) * s[1] - s[0]], (0, 100), [0.1, 0.0], rtol=1e-10,
                                     atol=1e-10, t_eval=np.linspace(60, 100, 40_001)).y.T
    crossings = np.flatnonzero((late[:-1, 0] < 0) & (late[1:, 0] >= 0)) * 1e-3
    assert 0.05 * (len(cycle) - 1) == pytest.approx(crossings[1] - crossings[0], abs=0.11)               # to a step or two
    assert cycle[:, 0].max() == pytest.approx(late[:, 0].max(), abs=0.01)
    assert np.abs(cycle[:, None] - late[None, ::20]).sum(axis=-1).min(axis=1).max() < 0.1                # every point lies on it
    assert len(limit_cycle(DoubleIntegrator(0.05), start=(0.0, 0.0))) == 1                               # at rest it stays
    assert len(limit_cycle(VanDerPol(8.0))) > 250  # slow, but it comes round


def test_the_phase_plane_shows_optimum_and_network_of_the_start_that_is_chosen(oscillator):
    model, teacher = oscillator
    plane = PhasePlane(model, teacher, points=5, H_cycles=4)
    plane.draw(-1.0, 2.0, 3)
    x0, xT = torch.tensor([-1.0, 2.0]).double(), torch.zeros(2).double()
    with torch.no_grad():
        controls = model(x0[None], xT[None], 3)["controls"][0].double()
    optimum = teacher.solve(x0, xT)
    for name, plan in (("network", controls), ("optimum", optimum), ("no push at all", torch.zeros(20, 1).double())):
        line = np.stack(plane.parts["states", name].get_data(), axis=1)
        assert np.allclose(line, teacher.system.rollout(x0, plan), atol=1e-5), name
    for name, plan in (("network", controls), ("optimum", optimum)):
        assert np.allclose(plane.parts["controls", name].get_data().values, plan[:, 0], atol=1e-6)
    gap = 100 * float(teacher.cost(x0, xT, controls) / teacher.cost(x0, xT, optimum) - 1)
    assert f"costs {gap:.3f} % more" in plane.text.get_text() and gap > 0
    plane.draw(0.0, 0.0, 1)
    assert "no optimum to compare with, ends" in plane.text.get_text()  # at rest it costs nothing
    with pytest.raises(ValueError, match="teacher is for another system"):
        PhasePlane(model, MinimumEnergyController(), points=5)
    assert plane.index(-1.2, 1.7) == plane.index(-1.0, 2.0) and plane.index(99, -99) == plane.index(2, -2)


def test_every_control_of_the_phase_plane_changes_the_picture(oscillator):
    shell = widgets.phase_plane(*oscillator, points=5, H_cycles=4)
    assert set(shell.controls) == {"start_position", "start_velocity", "cycle"}
    for name, values in (("start_position", (-2.0, 0.0, 2.0)), ("start_velocity", (-2.0, 0.0, 2.0)), ("cycle", (0, 2, 4))):
        pictures = []
        for value in values:
            shell.controls[name].value = value
            assert shell.trouble.value == ""
            pictures.append(shell.picture.value)
        assert len(set(pictures)) == 3, name


def test_a_widget_says_nothing_of_its_pictures_bytes(shells):
    assert "Picture()" in repr(shells["playground"]) and "PNG" not in repr(shells["playground"])
    assert isinstance(shells["playground"], ipywidgets.VBox)
