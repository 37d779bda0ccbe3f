"""Widgets without a browser: every control over its range, and what the buttons do."""

import io
import random
import threading
import time

import ipywidgets
import numpy as np
import pytest
import scipy.integrate
import torch
from PIL import Image

from trc_lib.course import plots, widgets
from trc_lib.course.widgets.error_map import ErrorMap
from trc_lib.course.widgets.microscope import SWITCHES, Microscope, refine
from trc_lib.course.widgets.phase_plane import PhasePlane, limit_cycle
from trc_lib.course.widgets.shell import Shell
from trc_lib.course.widgets.steering import KNOTS, Playground
from trc_lib.data import generate_dataset
from trc_lib.evaluation import final_error
from trc_lib.model import CostGradient, FinalError, Proportional, TinyRecursiveControl
from trc_lib.problems import bounded_inputs, van_der_pol
from trc_lib.systems import DoubleIntegrator, VanDerPol
from trc_lib.teachers import MinimumEnergyController
from trc_lib.training import History

PROBLEM = {"start_0": -1.0, "start_1": 0.5, "target_0": 1.0, "target_1": 0.0}


def _model(seed=0):
    return TinyRecursiveControl.create_two_level_small(seed=seed, block_hidden=16, head_hidden=16)


@pytest.fixture(scope="module")
def model():
    return _model()


@pytest.fixture(scope="module")
def problems():
    return generate_dataset(40, seed=3)


@pytest.fixture(scope="module")
def shells(model, problems):
    snapshots = {epoch: _model(seed=epoch).state_dict() for epoch in (0, 1, 5)}
    scope = widgets.microscope(model, problems)
    return {"playground": widgets.playground(), "teacher_explorer": widgets.teacher_explorer(),
            "dataset_browser": widgets.dataset_browser(problems), "microscope": scope,
            "time_machine": widgets.time_machine(_model(), snapshots),
            "error_map": widgets.error_map(model, scope, points=5)}


def _choices(control, rng):
    """The ends of a control's range, and a value in between."""
    if hasattr(control, "options"):
        return [control.options[0], control.options[-1], rng.choice(control.options)]
    between = rng.uniform(control.min, control.max)
    whole = not isinstance(control.step, float)
    return [control.min, control.max, round(between) if whole else between]


@pytest.mark.parametrize("name", ["playground", "teacher_explorer", "dataset_browser",
                                  "microscope", "time_machine", "error_map"])
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


def test_an_error_is_shown_in_words_and_the_picture_stays(shells):
    shell = shells["teacher_explorer"]
    kept, draw = bytes(shell.picture.value), shell.draw

    def broken(**values):
        raise ValueError("no <such> thing")

    shell.draw = broken
    shell.redraw()
    assert shell.trouble.value == "<b>ValueError:</b> no &lt;such&gt; thing"
    assert shell.picture.value == kept
    shell.draw = draw
    shell.redraw()
    assert shell.trouble.value == ""


# ---------------------------------------------------------------- the playground


def test_the_optimum_wins_the_game_and_doing_nothing_does_not():
    game = Playground()
    line = np.interp(np.linspace(0, 1, KNOTS), (np.arange(15) + 0.5) / 15, game.optimum[:, 0])
    half_step = (game.optimum[1] - game.optimum[0]).item() / 2
    line[0], line[-1] = game.optimum[0].item() - half_step, game.optimum[-1].item() + half_step
    torch.testing.assert_close(game.controls(*line), game.optimum, rtol=0, atol=1e-12)
    said = []
    game.scene.draw = lambda system, start, controls, target, text: said.append(text)
    game.draw(**dict(zip("abcde", line)))
    game.draw(**dict.fromkeys("abcde", 0.0))
    assert "you win" in said[0] and "1.00 times" in said[0] and "to win" in said[1]


def test_a_wiggle_keeps_the_arrival_and_a_nudge_does_not():
    for part, arrives in (("wiggle", True), ("nudge", False)):
        game = Playground()
        game.add(part)
        controls = game.optimum + game.extra
        error = final_error(game.teacher.system, game.start, game.target, controls).item()
        assert game.extra.norm() == pytest.approx(0.3) and (error < 1e-12) == arrives
        if arrives:
            gain = controls.square().sum() - game.optimum.square().sum()
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
    scope = Microscope(model, MinimumEnergyController(), H_cycles=5)
    seen = scope.compute(tuple(PROBLEM.values()), "as trained")
    x0, xT = torch.tensor([[-1.0, 0.5]]), torch.tensor([[1.0, 0.0]])
    with torch.no_grad():
        expected = model(x0, xT, H_cycles=5)["cycle_controls"][:, 0, :, 0]
    np.testing.assert_allclose(seen["controls"][..., 0], expected, atol=1e-6)
    optimum = MinimumEnergyController().solve(x0[0], xT[0])[:, 0]
    np.testing.assert_allclose(seen["optimum"][:, 0], optimum, atol=1e-12)
    shapes = [seen[name].shape for name in ("states", "z_H", "z_L")]
    assert shapes == [(6, 16, 2), (6, 128), (21, 128)]
    squares = ((seen["controls"] - seen["optimum"]) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(seen["first"] + seen["second"], squares, rtol=1e-6)
    errors = np.linalg.norm(seen["states"][:, -1] - seen["target"], axis=1)
    np.testing.assert_allclose(seen["errors"], errors, atol=1e-9)


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_does_what_it_says(model, switch):
    x0 = torch.tensor([[-1.0, 0.5], [2.0, 0.0]])
    xT = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    plain, changed = model.trace(x0, xT), refine(model, x0, xT, switch=switch)
    assert torch.equal(plain.controls, changed.controls) == (switch == "as trained")
    if switch == "z_H frozen":
        assert (changed.z_H == changed.z_H[0]).all()
    if switch == "z_L zero":
        assert not changed.z_L.any()
    if switch == "latents swapped":
        assert torch.equal(changed.controls[:2], plain.controls[:2])  # in force from cycle 2
        assert torch.equal(changed.z_L[1, 0], plain.z_L[1, 0].flip(0))
        expected = model.block(plain.z_H[1].flip(0) + changed.z_L[1, -1])
        torch.testing.assert_close(changed.z_H[2], expected)
    if switch == "feedback off":
        silent = TinyRecursiveControl(model.config, model.system)
        silent.load_state_dict(model.state_dict())
        silent.error_embedding.weight.data.zero_()
        torch.testing.assert_close(changed.controls, silent.trace(x0, xT).controls)
    assert not any(module._forward_hooks for module in model.modules())


def test_an_unknown_switch_is_refused(model):
    with pytest.raises(ValueError, match="switch='z_L frozen' is unknown; accepted are"):
        refine(model, torch.zeros(1, 2), torch.zeros(1, 2), switch="z_L frozen")


def test_a_step_computes_no_new_trace_and_a_problem_one():
    scope = Microscope(_model(), MinimumEnergyController(), H_cycles=4)
    for cycle in range(5):
        for step in range(5):
            scope.draw(**PROBLEM, switch="as trained", cycle=cycle, step=step)
    assert scope.compute.cache_info().misses == 1
    scope.draw(**PROBLEM | {"start_0": 0.3}, switch="as trained", cycle=0, step=0)
    assert scope.compute.cache_info().misses == 2


def test_the_microscope_finds_the_worst_sample(model, problems):
    shell = widgets.microscope(model, problems, H_cycles=4)
    *_, number, worst = shell.children[0].children
    worst.click()
    errors = final_error(problems.system, problems.initial_states, problems.target_states,
                         model.solve(problems.initial_states, problems.target_states))
    assert number.value == int(errors.argmax())
    shown = shell.values()["start_0"]
    assert shown == pytest.approx(problems.initial_states[number.value, 0].item())
    assert shell.picture.value == shell.draw(**shell.values())


@pytest.mark.parametrize("problem", [bounded_inputs(), van_der_pol(horizon=20)],
                         ids=["bounded_inputs", "van_der_pol"])
def test_the_microscope_works_on_the_other_problems(problem):
    data, system = problem.dataset(6, seed=2), problem.teacher.system
    model = TinyRecursiveControl.create_two_level_small(
        system, feedback=Proportional(FinalError(system)), horizon=problem.teacher.horizon)
    shell = widgets.microscope(model, data, H_cycles=4)
    shell.children[0].children[-1].click()
    assert not shell.trouble.value and bytes(shell.picture.value).startswith(b"\x89PNG")
    labels = [shell.controls[key].description for key in ("start_0", "target_1")]
    assert labels == [f"start {system.state_labels[0]}", f"target {system.state_labels[1]}"]
    scope, i = Microscope(model, problem.teacher), 3
    states = *data.initial_states[i].tolist(), *data.target_states[i].tolist()
    seen = scope.compute(states, "as trained")
    np.testing.assert_allclose(seen["optimum"], data.controls[i], atol=1e-9)
    squares = ((seen["controls"] - seen["optimum"]) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(seen["second"], squares, rtol=1e-6)
    np.testing.assert_allclose(seen["first"], seen["errors"])


def test_the_microscope_says_what_cannot_be_reached():
    problem = bounded_inputs()
    model = TinyRecursiveControl.create_two_level_small(problem.teacher.system)
    scope = Microscope(model, problem.teacher, H_cycles=4)
    far = dict(zip(PROBLEM, (-2.5, -2.5, 2.5, -2.5)))
    seen = scope.compute(tuple(far.values()), "as trained")
    assert not seen["solved"]
    scope.draw(**far, switch="as trained", cycle=2, step=0)
    canvas = scope.scene(scope.view(seen, 2))
    assert canvas.moving["text"].get_text().endswith("for which the teacher has no answer")


# ---------------------------------------------------------------- the error map


def test_the_error_map_holds_final_errors_in_the_right_places(model):
    chart, axis = ErrorMap(model, points=5), (-5.0, -2.5, 0.0, 2.5, 5.0)
    errors = chart.errors((1.0, 0.0))
    for row, velocity in enumerate(axis):
        for column, position in enumerate(axis):
            x0, xT = [position, velocity], [1.0, 0.0]
            expected = final_error(model.system, x0, xT, model.solve(x0, xT)).item()
            assert errors[row, column].item() == pytest.approx(expected, rel=1e-4)
    worst = chart.worst_starts(errors, count=1)[0]
    inside = [(errors[row, column].item(), axis[column], axis[row])
              for row in (1, 2, 3) for column in (1, 2, 3)]
    assert worst.tolist() == list(max(inside)[1:])


def test_the_error_map_opens_its_worst_start_in_the_microscope(model, problems):
    scope = widgets.microscope(model, problems, H_cycles=4)
    shell = widgets.error_map(model, scope, points=5)
    shell.children[0].children[-1].click()
    chart = ErrorMap(model, points=5)
    position, velocity = chart.worst_starts(chart.errors((1.0, 0.0)))[0].tolist()
    values = scope.values()
    assert (values["start_0"], values["start_1"]) == (position, velocity)


# ---------------------------------------------------------------- the phase plane

@pytest.fixture(scope="module")
def oscillator():
    problem = van_der_pol(horizon=20)
    model = TinyRecursiveControl.create_two_level_small(
        problem.teacher.system, horizon=20,
        feedback=CostGradient(problem.teacher.system, problem.teacher.quadratic_cost, 20))
    model.set_scaling(problem.dataset(32, seed=0))
    return model, problem.teacher


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
def test_the_limit_cycle_is_the_one_that_scipy_finds(mu):
    cycle = limit_cycle(VanDerPol(mu, control_limit=None))
    late = scipy.integrate.solve_ivp(
        lambda t, s: [s[1], mu * (1 - s[0] ** 2) * s[1] - s[0]], (0, 100), [0.1, 0.0],
        rtol=1e-10, atol=1e-10, t_eval=np.linspace(60, 100, 40_001)).y.T
    crossings = np.flatnonzero((late[:-1, 0] < 0) & (late[1:, 0] >= 0)) * 1e-3
    period = crossings[1] - crossings[0]
    assert 0.05 * (len(cycle) - 1) == pytest.approx(period, abs=0.11)  # two steps
    assert cycle[:, 0].max() == pytest.approx(late[:, 0].max(), abs=0.01)
    distances = np.abs(cycle[:, None] - late[None, ::20]).sum(axis=-1)
    assert distances.min(axis=1).max() < 0.1  # of every point to the nearest of SciPy's
    assert len(limit_cycle(DoubleIntegrator(0.05), start=(0.0, 0.0))) == 1  # stays at rest
    assert len(limit_cycle(VanDerPol(8.0))) > 250  # the period is long


def test_the_phase_plane_shows_optimum_and_network_of_the_start_that_is_chosen(oscillator):
    model, teacher = oscillator
    plane = PhasePlane(model, teacher, points=5, H_cycles=4)
    plane.draw(-1.0, 2.0, 3)
    x0, xT = torch.tensor([-1.0, 2.0]).double(), torch.zeros(2).double()
    with torch.no_grad():
        controls = model(x0[None], xT[None], 3)["controls"][0].double()
    optimum = teacher.solve(x0, xT)
    plans = {"network": controls, "optimum": optimum, "no push at all": torch.zeros_like(optimum)}
    for name, plan in plans.items():
        line = np.stack(plane.canvas.moving["states", name].get_data(), axis=1)
        assert np.allclose(line, teacher.system.rollout(x0, plan), atol=1e-5), name
    for name in ("network", "optimum"):
        drawn = plane.canvas.moving["controls", name].get_data().values
        assert np.allclose(drawn, plans[name][:, 0], atol=1e-6)
    gap = 100 * float(teacher.cost(x0, xT, controls) / teacher.cost(x0, xT, optimum) - 1)
    text = plane.canvas.moving["text"]
    assert f"costs {gap:.3f} % more" in text.get_text() and gap > 0
    plane.draw(0.0, 0.0, 1)
    assert "no optimum to compare with, ends" in text.get_text()  # at rest it costs nothing
    with pytest.raises(ValueError, match="teacher is for another system"):
        PhasePlane(model, MinimumEnergyController(), points=5)
    assert plane.index(-1.2, 1.7) == plane.index(-1.0, 2.0)
    assert plane.index(99, -99) == plane.index(2, -2)


def test_every_control_of_the_phase_plane_changes_the_picture(oscillator):
    shell = widgets.phase_plane(*oscillator, points=5, H_cycles=4)
    assert set(shell.controls) == {"start_0", "start_1", "cycle"}
    for name, values in (("start_0", (-2.0, 0.0, 2.0)),
                         ("start_1", (-2.0, 0.0, 2.0)), ("cycle", (0, 2, 4))):
        pictures = []
        for value in values:
            shell.controls[name].value = value
            assert shell.trouble.value == ""
            pictures.append(shell.picture.value)
        assert len(set(pictures)) == 3, name


# ---------------------------------------------------------------- pictures


def test_the_repr_of_a_widget_leaves_out_the_bytes_of_its_picture(shells):
    assert "Picture()" in repr(shells["playground"]) and "PNG" not in repr(shells["playground"])
    assert isinstance(shells["playground"], ipywidgets.VBox)


def test_a_live_picture_shows_the_argument_of_the_last_call():
    update = widgets.live_picture(plots.learning_curves)
    rows = [{"epoch": k, "train_loss": 1.0 / k, "eval_loss": 1.0 / k, "eval_final_error": 0.2 / k,
             "lr": 1e-3} for k in (1, 2)]
    update(History(rows[:1]))
    first = bytes(update.picture.value)
    update(History(rows))
    assert first.startswith(b"\x89PNG") and update.picture.value != first


def test_two_callbacks_at_once_draw_one_after_the_other_and_the_latest_values_win():
    inside, most = [], []

    def draw(level):
        inside.append(level)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()
        return bytes([level])

    shell = Shell(draw, {"level": ipywidgets.IntSlider(value=0, min=0, max=20)})

    def move(levels):
        for level in levels:
            shell.controls["level"].value = level

    threads = [threading.Thread(target=move, args=(range(first, 20, 2),)) for first in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and shell.picture.value == bytes([shell.controls["level"].value])


def test_the_worst_sample_is_found_while_the_microscope_draws(model, problems):
    """The button and the sliders run in two threads, on the same network."""
    shell = widgets.microscope(model, problems, H_cycles=4)
    press = next(each for each in shell.children[0].children
                 if getattr(each, "description", "") == "the worst sample").click
    other = threading.Thread(target=lambda: [press() for _ in range(10)])
    other.start()
    for switch in SWITCHES * 4:
        shell.controls["switch"].value = switch
        assert shell.trouble.value == ""
    other.join()
    assert shell.trouble.value == ""


def test_widgets_leave_the_network_as_it_was(problems):
    model = _model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    snapshots = {epoch: _model(seed=epoch).state_dict() for epoch in (1, 2)}
    scope = widgets.microscope(model, problems, H_cycles=2)
    shells = [scope, widgets.time_machine(model, snapshots), widgets.error_map(model, scope, 3)]
    for shell in shells:
        shell.redraw()
    assert model.training and not model.block._forward_hooks
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
