"""The microscope and the time machine without a browser: traits, what is sent, and its numbers."""

import base64
import json

import numpy as np
import pytest
import torch
import traitlets

from tests.integration.other_systems import CASES, Guess, Pendulum, network
from tests.integration.test_web import in_node
from trc_lib import web
from trc_lib.course import widgets
from trc_lib.course.interventions import SWITCHES, refine
from trc_lib.course.widgets.explorable import LARGEST, LIVE
from trc_lib.data import generate_dataset
from trc_lib.evaluation import decompose_error, final_error
from trc_lib.model import TinyRecursiveControl
from trc_lib.problems import van_der_pol
from trc_lib.teachers import MinimumEnergyController


@pytest.fixture(scope="module")
def problems():
    return generate_dataset(40, seed=3)


@pytest.fixture(scope="module")
def model(problems):
    model = TinyRecursiveControl.create_two_level_small(block_hidden=16, head_hidden=16)
    model.set_scaling(problems)
    return model


@pytest.fixture
def scope(model, problems):
    return widgets.microscope(model, problems, H_cycles=4)


def _errors(model, data):
    controls = model.solve(data.initial_states, data.target_states)
    return final_error(data.system, data.initial_states, data.target_states, controls)


def test_it_opens_on_the_worst_sample_with_its_own_numbers(scope, model, problems):
    worst = int(_errors(model, problems).argmax())
    assert scope.sample == worst
    assert scope.start == problems.initial_states[worst].tolist()
    assert scope.target == problems.target_states[worst].tolist()


@pytest.mark.parametrize("name", CASES)
def test_samples_of_any_size_are_sent_to_the_bit(name):
    teacher, box = CASES[name]()
    data = generate_dataset(12, 0, teacher, box)
    scope = widgets.microscope(network(teacher, data), data, 2)
    n, width = data.system.state_dim, data.horizon * data.system.control_dim
    rows = np.frombuffer(scope.samples, "<f8").reshape(-1, 2 * n + width)
    numbers = scope.about["samples"]
    assert len(rows) == len(numbers) == 12 and sorted(numbers) == list(range(12))
    for row, i in zip(rows, numbers):
        expected = torch.cat([data.initial_states[i], data.target_states[i],
                              data.controls[i].flatten()])
        np.testing.assert_array_equal(row, expected)
    low, high = np.array(scope.about["box"])
    for states in (data.initial_states, data.target_states):
        assert (low <= states.numpy()).all() and (states.numpy() <= high).all()
    for i in (3, 7):
        scope.sample = i
        assert scope.start == data.initial_states[i].tolist()
        assert scope.target == data.target_states[i].tolist()


def test_another_start_leaves_the_sample_and_values_from_a_page_are_taken_as_they_are(scope):
    scope.start = [1.25, -0.5]
    assert scope.sample == -1 and scope.start == [1.25, -0.5]
    scope.sample = 5
    scope.set_state({"start": [0.1, 0.2], "sample": -1, "H_cycle": 3})
    assert scope.sample == -1 and scope.start == [0.1, 0.2] and scope.H_cycle == 3


@pytest.mark.parametrize("name, value, words", [
    ("H_cycle", 5, "H_cycle=5 is not accepted; needs a whole number from 0 to 4"),
    ("L_step", -1, "L_step=-1 is not accepted; needs a whole number from 0 to 4"),
    ("sample", 40, "sample=40 is not accepted; needs a whole number from -1 to 39"),
    ("start", [1.0], r"start=\[1.0\] is not accepted; needs 2 finite numbers"),
    ("target", [1.0, float("nan")], "target=.* is not accepted; needs 2 finite numbers"),
    ("switch", "z_L frozen", "'z_L frozen'")])
def test_a_value_that_is_not_accepted_is_refused_and_the_old_one_stays(scope, name, value, words):
    before = getattr(scope, name)
    with pytest.raises(traitlets.TraitError, match=words):
        setattr(scope, name, value)
    assert getattr(scope, name) == before


def test_a_slider_of_ipywidgets_can_be_linked_to_the_cycle(scope):
    import ipywidgets

    slider = ipywidgets.IntSlider(max=4)
    ipywidgets.link((slider, "value"), (scope, "H_cycle"))
    slider.value = 3
    assert scope.H_cycle == 3


def test_the_output_holds_a_picture_and_words_beside_the_widget(scope):
    data, *_ = scope._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG") and len(data["image/png"]) < 200_000
    assert "model_id" in data["application/vnd.jupyter.widget-view+json"]
    assert data["text/plain"] == ("Microscope: a problem through the cycles of a network's "
                                  "refinement; the picture shows the worst of 40")


def test_a_notebook_keeps_a_small_network_and_asks_for_a_large_one(model, problems, monkeypatch):
    small = widgets.microscope(model, problems)
    assert small.network == web.network(model) and len(small.network) <= LARGEST
    medium = TinyRecursiveControl.create_two_level_medium()
    large, sent = widgets.microscope(medium, problems), []
    assert large.network == b""
    monkeypatch.setattr(large, "send", lambda *message: sent.append(message))
    large._hear(large, {"ask": "network", "number": 7}, [])
    assert sent == [({"number": 7}, [web.network(medium)])]


def test_the_state_of_a_shipped_network_is_below_a_megabyte():
    from tests import ROOT
    from trc_lib.problems import weak_van_der_pol

    path = ROOT / "data/pretrained/laboratory/van_der_pol_gradient.pt"
    scope = widgets.microscope(TinyRecursiveControl.load(path), weak_van_der_pol().dataset(64))
    state, size = scope.get_state(), len(scope._repr_mimebundle_()[0]["image/png"]) * 4 / 3
    for value in state.values():
        size += len(base64.b64encode(value)) if isinstance(value, bytes) else len(json.dumps(value))
    assert 600_000 < size < 1_000_000


def test_optima_are_told_where_the_page_has_no_law(monkeypatch):
    problem = van_der_pol(horizon=20)
    data = problem.dataset(6, seed=2)
    model = TinyRecursiveControl.create_two_level_small(problem.teacher.system, horizon=20)
    scope, sent = widgets.microscope(model, data, 2), []
    assert scope.about["law"] is None
    monkeypatch.setattr(scope, "send", lambda content, buffers=None: sent.append(content))
    asked = {"ask": "optimum", "number": 1, "start": [0.5, 0.25], "target": [0, 0]}
    scope._hear(scope, asked, [])
    expected = problem.teacher.solve([0.5, 0.25], [0.0, 0.0])
    np.testing.assert_allclose(sent[0]["controls"], expected.flatten(), atol=1e-12)


def test_a_dataset_of_another_system_is_refused(problems):
    problem = van_der_pol(horizon=15)
    model = TinyRecursiveControl.create_two_level_small(problem.teacher.system, horizon=15)
    with pytest.raises(ValueError, match="dataset was made for another system"):
        widgets.microscope(model, problems)
    with pytest.raises(ValueError, match="shown="):
        widgets.microscope(network(MinimumEnergyController(), problems), problems, shown=(0, 2))


# ---------------------------------------------------------------- the numbers of the page

REFINED = """
const { refine, parts, few_ends } = await import("{live}/problem.js");
const net = new TinyRecursiveControl(await read_network(readFileSync(given.path)));
const [x0, xT, ...other] = given.states.map(floats);
const result = given.switches.map((change) => {
  const { controls, z_H, z_L } = refine(net, x0, xT, 4, change, other);
  const sizes = controls.map((u) => parts(given.row_space, u, floats(given.optimum), 0));
  return [controls, z_H, z_L, sizes];
});
""".replace("{live}", LIVE.as_uri())


def test_every_switch_and_both_parts_of_the_mistake_are_pythons(model, problems, tmp_path):
    path = tmp_path / "network.trcw"
    web.export_web(model, path)
    x0, xT = problems.initial_states[:2], problems.target_states[:2]
    law = web.law(problems.teacher)
    found = in_node(REFINED, {
        "path": str(path), "switches": SWITCHES, "row_space": law["row_space"],
        "states": [x0[0].tolist(), xT[0].tolist(), x0[1].tolist(), xT[1].tolist()],
        "optimum": problems.controls[0].flatten().tolist()})
    for switch, (controls, z_H, z_L, sizes) in zip(SWITCHES, found):
        trace = refine(model, x0, xT, 4, switch).one(0)
        np.testing.assert_allclose(controls, trace.controls[..., 0], atol=1e-5)
        np.testing.assert_allclose(z_H, trace.z_H, atol=1e-4)
        right = torch.cat([trace.z_L[0, :1], trace.z_L[:, 1:].flatten(0, 1)])
        np.testing.assert_allclose(z_L, right, atol=1e-4)
        given = torch.tensor(controls, dtype=torch.float64)[..., None]
        split = decompose_error(problems.system, given, problems.controls[0].expand_as(given))
        np.testing.assert_allclose(sizes, torch.stack(split, dim=1), rtol=1e-6, atol=1e-12)


# ---------------------------------------------------------------- the time machine


def _machine(teacher, box, data, **changes):
    model = network(teacher, data)
    other = network(teacher)
    snapshots = {0: other.state_dict(), 3: model.state_dict()}
    return model, other, widgets.time_machine(model, snapshots, **{
        "teacher": teacher, "state_range": box} | changes)


@pytest.mark.parametrize("name", CASES)
def test_the_time_machine_holds_every_epoch_and_cycle_of_every_start(name):
    teacher, box = CASES[name]()
    model, other, machine = _machine(teacher, box, generate_dataset(12, 0, teacher, box))
    c, starts = model.config, torch.tensor(machine.about["starts"], dtype=torch.float64)
    controls = np.frombuffer(machine.controls, "<f4").reshape(
        2, c.H_cycles + 1, len(starts), c.horizon, c.control_dim)
    target = torch.tensor(machine.target, dtype=torch.float64).expand_as(starts)
    for found, one in zip(controls, (other, model)):
        with torch.no_grad():
            right = one(starts, target)["cycle_controls"]
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5 * float(right.abs().max()))
    optima = np.frombuffer(machine.optima, "<f8").reshape(len(starts), c.horizon, -1)
    np.testing.assert_allclose(optima, teacher.try_solve(starts, target)[0])
    assert machine.start in machine.about["starts"] and len(machine.controls) <= 200_000
    before = machine.controls
    machine.target = (0.9 * torch.tensor(machine.target)).tolist()
    assert machine.controls != before


def test_the_time_machine_refuses_what_it_does_not_have():
    teacher, box = CASES["pendulum"]()
    model, _, machine = _machine(teacher, box, generate_dataset(12, 0, teacher, box))
    with pytest.raises(traitlets.TraitError, match=r"epoch=1 is not accepted; .* \[0, 3\]"):
        machine.epoch = 1
    with pytest.raises(traitlets.TraitError, match="H_cycle=9 is not accepted"):
        machine.H_cycle = 9
    assert machine._repr_mimebundle_()[0]["image/png"].startswith(b"\x89PNG")
    alone = widgets.time_machine(model, {1: model.state_dict()}, state_range=box)
    assert np.isnan(np.frombuffer(alone.optima, "<f8")).all()
    assert alone._repr_mimebundle_()[0]["image/png"].startswith(b"\x89PNG")


@pytest.mark.parametrize("shown", [(4, 2), (0, 5)])
def test_the_components_of_the_phase_plane_can_be_chosen(shown):
    teacher, box = CASES["quadrotor"]()
    data = generate_dataset(4, 0, teacher, box)
    model = network(teacher, data)
    scope = widgets.microscope(model, data, 2, shown=shown)
    machine = widgets.time_machine(model, {1: model.state_dict()}, teacher, box, shown)
    assert scope.about["shown"] == machine.about["shown"] == list(shown)
    starts = np.array(machine.about["starts"])
    moved = np.flatnonzero(np.ptp(starts, axis=0))
    np.testing.assert_array_equal(moved, sorted(shown))
    axes = scope.draw().axes[-1]
    assert (axes.get_xlabel(), axes.get_ylabel()) == tuple(
        teacher.system.state_labels[i] for i in shown)


def test_what_a_widget_cannot_show_is_refused_in_words():
    (pendulum, box), (quadrotor, _) = CASES["pendulum"](), CASES["quadrotor"]()
    model = network(pendulum)
    weights = {1: model.state_dict()}
    with pytest.raises(ValueError, match=r"state_range=None is not accepted .*; give the box"):
        widgets.time_machine(model, weights)
    with pytest.raises(ValueError, match=r"state_range=\[1.0, 2.0, 3.0\] is not accepted; give"):
        widgets.time_machine(model, weights, state_range=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="teacher is for another system"):
        widgets.time_machine(model, weights, quadrotor, box)
    with pytest.raises(ValueError, match="teacher has horizon=7; the model needs 20"):
        widgets.time_machine(model, weights, Guess(Pendulum(), 7, 0.0, 1.0), box)
    with pytest.raises(ValueError, match="dataset"):
        widgets.microscope(model, generate_dataset(4))


def test_widgets_leave_the_network_as_it_was(problems):
    model = TinyRecursiveControl.create_two_level_small(block_hidden=16, head_hidden=16).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    other = TinyRecursiveControl.create_two_level_small(block_hidden=16, head_hidden=16, seed=1)
    widgets.microscope(model, problems, H_cycles=2).draw()
    widgets.time_machine(model, {1: other.state_dict(), 2: other.state_dict()}).draw()
    assert model.training and not model.block._forward_hooks
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
