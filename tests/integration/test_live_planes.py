"""Phase plane, error map and bounded pieces without a browser: traits, and numbers in Node."""

import base64
import io
import json
import sys

import numpy as np
import pytest
import scipy.integrate
import torch
import traitlets
from PIL import Image

from tests.integration.other_systems import CASES, Guess, Pendulum, network
from tests.integration.test_web import _polished, in_node
from trc_lib import web
from trc_lib.course import widgets
from trc_lib.course.widgets.error_map import ErrorMap
from trc_lib.course.widgets.explorable import LIVE
from trc_lib.course.widgets.phase_plane import PhasePlane, _cost, limit_cycle
from trc_lib.data import generate_dataset
from trc_lib.evaluation import final_error
from trc_lib.model import CostGradient, FinalError, Proportional, TinyRecursiveControl
from trc_lib.problems import van_der_pol, weak_van_der_pol
from trc_lib.systems import DoubleIntegrator, LinearSystem, System, VanDerPol
from trc_lib.teachers import BoundedMinimumEnergyController, MinimumEnergyController
from trc_lib.teachers.bounded import SOLVED, UNDECIDED, UNREACHABLE
from trc_lib.teachers.teacher import Teacher


def _oscillator(horizon=20, mu=1.0, limit=2.0):
    problem = van_der_pol(horizon=horizon, control_limit=limit)
    teacher = problem.teacher
    if mu != 1.0:
        teacher = type(teacher)(VanDerPol(mu, 0.05, limit), horizon, teacher.quadratic_cost)
    model = TinyRecursiveControl.create_two_level_small(
        teacher.system, horizon=horizon, block_hidden=16, head_hidden=16, latent_dim=16,
        feedback=CostGradient(teacher.system, teacher.quadratic_cost, horizon))
    model.set_scaling(generate_dataset(32, 0, teacher, 2.0, 0.0))
    return model, teacher


@pytest.fixture(scope="module")
def oscillator():
    return _oscillator()


@pytest.fixture(scope="module")
def cart():
    model = TinyRecursiveControl.create_two_level_small(block_hidden=16, head_hidden=16)
    model.set_scaling(generate_dataset(40, seed=3))
    return model


@pytest.fixture(scope="module")
def made(oscillator, cart):
    """One of each."""
    return {"phase plane": widgets.phase_plane(*oscillator, points=5, H_cycles=4),
            "error map": widgets.error_map(cart, points=5),
            "bounded pieces": widgets.bounded_pieces(BoundedMinimumEnergyController(), points=21)}


def _tell(monkeypatch, widget, content):
    """What a widget answers to a message of the page."""
    sent = []
    monkeypatch.setattr(widget, "send", lambda content, buffers=None: sent.append(content))
    widget._handle_custom_msg(content, [])
    return sent


# ---------------------------------------------------------------- all three


@pytest.mark.parametrize("name, words", [
    ("phase plane", "PhasePlane: optimum, network through 4 cycles and free motion from any start"),
    ("error map", "ErrorMap: how far from a target a network ends, from 5 x 5 starts"),
    ("bounded pieces", "BoundedPieces: which of 15 bounded controls are at their limit")])
def test_a_notebook_keeps_a_picture_words_and_the_widget(made, name, words):
    contents, *_ = made[name]._repr_mimebundle_()
    assert contents["text/plain"].startswith(words)
    assert Image.open(io.BytesIO(contents["image/png"])).size[0] >= 600
    view = contents["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == made[name].model_id


@pytest.mark.parametrize("name, trait, value, words", [
    ("phase plane", "start", [1.0], r"start=\[1.0\] is not accepted; needs 2 finite numbers"),
    ("phase plane", "H_cycle", 5, "H_cycle=5 is not accepted; needs a whole number from 0 to 4"),
    ("error map", "target", [0.0, float("inf")], "target=.* is not accepted; needs 2 finite"),
    ("error map", "H_cycle", 7, "H_cycle=7 is not accepted; needs a whole number from 0 to 6"),
    ("bounded pieces", "start", [0.0] * 3, "start=.* is not accepted; needs 2 finite numbers"),
    ("bounded pieces", "target", [float("nan")] * 2, "target=.* is not accepted; needs 2 finite")])
def test_a_value_that_is_not_accepted_is_refused_and_the_old_one_stays(made, name, trait, value,
                                                                      words):
    before = getattr(made[name], trait)
    with pytest.raises(traitlets.TraitError, match=words):
        setattr(made[name], trait, value)
    assert getattr(made[name], trait) == before


def _saved(widget):
    """Bytes that a notebook keeps of a widget, without its styles and its program."""
    state = widget.get_state()
    sizes = [len(base64.b64encode(value)) if isinstance(value, bytes) else len(json.dumps(value))
             for name, value in state.items() if name not in ("_esm", "_css", "layout")]
    return sum(sizes), sum(sizes) + len(json.dumps(widget._esm)) + len(json.dumps(widget._css))


def test_the_largest_of_the_course_is_smaller_than_a_megabyte_in_a_notebook():
    from tests import ROOT

    model = TinyRecursiveControl.load(ROOT / "data/pretrained/laboratory/van_der_pol_gradient.pt")
    plane = widgets.phase_plane(model, weak_van_der_pol().teacher)
    assert plane.network and plane.points >= 15 and plane.points % 2 == 1
    assert max(_saved(plane)) < 1e6


def test_what_a_page_cannot_show_is_refused_in_words(oscillator):
    (pendulum, box), (quadrotor, _) = CASES["pendulum"](), CASES["quadrotor"]()
    model, flyer = network(pendulum), network(quadrotor)
    for make in (lambda: widgets.error_map(model), lambda: widgets.phase_plane(model, pendulum)):
        with pytest.raises(ValueError, match=r"state_range=None is not accepted .*; give the box"):
            make()
    for make in (lambda: widgets.error_map(flyer), lambda: widgets.phase_plane(flyer, quadrotor)):
        with pytest.raises(ValueError, match="has 6 states; this picture needs 2"):
            make()
    two = LinearSystem([[1, 0.1], [0, 1]], [[0.1, 0.0], [0.0, 0.1]], 0.1, 1.0)
    steered = MinimumEnergyController(two, 5)
    with pytest.raises(ValueError, match="has 2 controls; this picture needs 1"):
        widgets.phase_plane(network(steered), steered, state_range=1.0)
    with pytest.raises(ValueError, match="has 2 controls; this picture needs 1"):
        widgets.bounded_pieces(BoundedMinimumEnergyController(two, 5))
    with pytest.raises(ValueError, match="has 1 states; this picture needs 2"):
        widgets.bounded_pieces(BoundedMinimumEnergyController(
            LinearSystem([[0.9]], [[0.1]], 0.1, 1.0), 5))
    with pytest.raises(TypeError, match="teacher"):
        widgets.bounded_pieces(MinimumEnergyController())
    with pytest.raises(ValueError, match="points=2 is too small; needs at least 3"):
        widgets.error_map(model, points=2, state_range=box)
    with pytest.raises(ValueError, match="success"):
        widgets.error_map(model, state_range=box, success=0.0)
    with pytest.raises(ValueError, match="teacher is for another system"):
        widgets.phase_plane(oscillator[0], MinimumEnergyController(), points=5)
    with pytest.raises(ValueError, match="teacher has horizon=7; the model needs 20"):
        widgets.phase_plane(model, Guess(Pendulum(), 7, 0.0, 1.0), state_range=box)

    class Sorted(System):
        """A step that is no arithmetic on single numbers."""

        def __init__(self):
            super().__init__(2, 1, 0.1, 1.0)

        def dynamics(self, state, control):
            return torch.sort(state, dim=-1).values + control

    teacher = Guess(Sorted(), 5, 0.0, 0.5)
    for make in (lambda: widgets.error_map(network(teacher), state_range=1.0),
                 lambda: widgets.phase_plane(network(teacher), teacher, state_range=1.0)):
        with pytest.raises(ValueError, match="cannot be shown in a web page"):
            make()


def test_a_network_that_is_too_large_is_not_kept_but_sent_if_asked(monkeypatch, cart):
    monkeypatch.setattr("trc_lib.course.widgets.explorable.LARGEST", 1000)
    chart = widgets.error_map(cart, points=3)
    assert chart.network == b""
    sent = []
    monkeypatch.setattr(chart, "send", lambda *message: sent.append(message))
    chart._handle_custom_msg({"ask": "network", "number": 4}, [])
    assert sent == [({"number": 4}, [web.network(cart.eval())])]


def test_the_widgets_leave_the_network_as_it_was(cart):
    model = cart.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    widgets.error_map(model, points=3)._repr_mimebundle_()
    widgets.phase_plane(model, MinimumEnergyController(), 3, 1, 2.5)._repr_mimebundle_()
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


LATEST = """
const { coarse_first, filler } = await import("LIVE/problem.js");
const { order, coarse, block } = coarse_first(given.points, given.blocks);
let clock = 0; // each look at it takes 2 ms: a few cells a slice
Object.defineProperty(globalThis, "performance", { value: { now: () => (clock += 2) } });
const shown = [], queue = [];
const fill = filler({ order, coarse, together: 4, later: (f) => queue.push(f),
  values_of: (question, cells) => cells.map((cell) => [question, cell]),
  show: ({ question, values, known, whole }) => shown.push({ question, known, whole,
    right: [...block.keys()].every((cell) => (values[cell] ?? values[block[cell]])[0] === question
      && (values[cell] ?? [question, cell])[1] === cell) }) });
fill.want("first");
for (let i = 0; queue.length; i++) {
  queue.shift()();
  if (i % 3 === 2 && i < 60) fill.want(`drag ${i}`);
}
const result = { shown, order, coarse, block: Array.from(block) };
""".replace("LIVE", LIVE.as_uri())


@pytest.mark.parametrize("points, blocks", [(15, 5), (16, 5), (41, 8)])
def test_a_map_never_mixes_two_targets_and_the_latest_wins(points, blocks):
    found = in_node(LATEST, {"points": points, "blocks": blocks})
    assert sorted(found["order"]) == list(range(points ** 2))
    assert set(found["block"]) == set(found["order"][:found["coarse"]])
    assert all(each["right"] for each in found["shown"])
    last = found["shown"][-1]
    assert last["question"] == "drag 59" and last["whole"]
    assert len({each["question"] for each in found["shown"]}) > 2
    assert any(not each["whole"] for each in found["shown"])


# ---------------------------------------------------------------- the error map

ERRORS = """
const { final_errors, grid_of, worst_of } = await import("LIVE/map.js");
const net = new TinyRecursiveControl(await read_network(Buffer.from(given.network, "base64")));
const { starts, inside } = grid_of(given.box, given.points), errors = [];
const errors_of = final_errors(net);
for (let i = 0; i < starts.length; i += 4) {
  errors.push(...errors_of(starts.slice(i, i + 4), given.target, given.H));
}
const worst = worst_of(errors.map((each) => each[given.H]), inside);
const result = { starts, inside, errors, worst };
""".replace("LIVE", LIVE.as_uri())
NETWORKS = {
    "cart": lambda: (network(MinimumEnergyController(), generate_dataset(20)), 2.5),
    "pendulum": lambda: _other("pendulum"), "large": lambda: _other("large"),
    "small": lambda: _other("small"), "oscillator": lambda: (_oscillator()[0], 2.0),
    "stiff oscillator": lambda: (_oscillator(mu=2.5, limit=[[-0.5, 1.0]])[0], [[-2, 1], [0, 3]]),
    "proportional": lambda: (TinyRecursiveControl.create_two_level_small(
        DoubleIntegrator(0.33, 1.0), feedback=Proportional(FinalError(DoubleIntegrator(0.33, 1.0))),
        block_hidden=18, head_hidden=17, latent_dim=16), 2.5),
    "damped": lambda: (network(MinimumEnergyController(_damped())), [1.0, 2.0])}


def _damped():
    return LinearSystem([[1.0, 0.1], [-0.2, 0.9]], [[0.0], [0.1]], 0.1, 2.0)


def _other(name):
    teacher, box = CASES[name]()
    return network(teacher, generate_dataset(12, 0, teacher, box)), box


@pytest.mark.parametrize("name", NETWORKS)
def test_the_errors_of_a_map_are_those_of_the_model(name):
    model, box = NETWORKS[name]()
    model = model.eval()
    chart = widgets.error_map(model, points=5, state_range=box)
    found = in_node(ERRORS, {"network": base64.b64encode(chart.network).decode(), "points": 5,
                             "box": chart.about["box"], "target": chart.target, "H": 4})
    starts, size = torch.tensor(found["starts"], dtype=torch.float64), float(chart.high.abs().max())
    np.testing.assert_allclose(starts, chart.starts().reshape(-1, 2), rtol=1e-12, atol=1e-12 * size)
    middle, half = (chart.high + chart.low) / 2, (chart.high - chart.low) / 2
    within = ((starts - middle).abs() <= half * (1 + 1e-12)).all(dim=-1)
    assert found["inside"] == within.tolist() and within.sum() == 9
    errors, target = torch.tensor(found["errors"]), torch.tensor(chart.target).double()
    for cycle in (0, 1, 3, 4):
        with torch.no_grad():
            controls = model.double()(starts, target.expand_as(starts), cycle)["controls"]
        expected = final_error(model.system, starts, target, controls)
        np.testing.assert_allclose(errors[:, cycle], expected, rtol=1e-5, atol=1e-9 * size)
    model.float()
    chart.H_cycle = 4
    np.testing.assert_allclose(errors[:, 4], chart.errors(starts), rtol=1e-3, atol=1e-4 * size)
    ranked = errors[:, 4].double().where(within, -1).argsort(descending=True)[:5]
    assert found["worst"] == ranked.tolist()


def test_the_usual_map_is_that_of_solve(cart):
    chart = ErrorMap(cart, points=5)
    starts = chart.starts().reshape(-1, 2)
    assert chart.target == [1.0, 0.0] and chart.H_cycle == cart.config.H_cycles
    target = torch.tensor(chart.target).double().expand_as(starts)
    expected = final_error(cart.system, starts, target, cart.eval().solve(starts, target))
    found = in_node(ERRORS, {"network": base64.b64encode(chart.network).decode(), "points": 5,
                             "box": chart.about["box"], "target": chart.target, "H": 3})
    np.testing.assert_allclose(np.array(found["errors"])[:, 3], expected, rtol=1e-4, atol=1e-5)


def test_a_start_opens_in_the_microscope_to_the_bit(monkeypatch, cart):
    scope = widgets.microscope(cart, generate_dataset(40, seed=3), H_cycles=4)
    scope.H_cycle, scope.L_step = 3, 2
    chart = widgets.error_map(cart, scope, points=5)
    assert chart.about["scope"] and not widgets.error_map(cart, points=5).about["scope"]
    start, target = [-0.1 - 1e-16, 1 / 3], [0.7000000000000001, -2 / 7]
    question = json.loads(json.dumps({"ask": "open", "start": start, "target": target,
                                      "number": 8}))
    assert _tell(monkeypatch, chart, question) == [{"number": 8}]
    assert (scope.start, scope.target, scope.sample) == (start, target, -1)
    assert (scope.H_cycle, scope.L_step) == (0, 0)


def test_a_map_without_a_microscope_opens_nothing(monkeypatch, cart):
    chart = widgets.error_map(cart, points=3)
    assert _tell(monkeypatch, chart, {"ask": "open", "start": [0, 0], "target": [0, 0],
                                      "number": 1}) == []


def test_the_colours_of_errors_go_from_a_thousandth_of_success_to_ten_times():
    found = in_node("""
const { color_of } = await import("LIVE/map.js");
const result = [1e-9, 1e-4, 1e-1, 1, 99, NaN, 0].map((error) => color_of(error, 0.1));
""".replace("LIVE", LIVE.as_uri()), {})
    low, same, success, high, beyond, unknown, none = found
    assert low == same == none != high == beyond == unknown
    lightness = [np.dot(each, [0.3, 0.6, 0.1]) for each in (low, success, high)]
    assert lightness == sorted(lightness) and lightness[2] > lightness[0] + 100


# ---------------------------------------------------------------- the phase plane

PLAIN = """
const arrays = (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
const result = JSON.parse(JSON.stringify(found, arrays));
"""
RUNS = """
const { cost_of, grid_of, runs } = await import("LIVE/plane.js");
const { unpacked } = await import("WEB/files.js");
const net = new TinyRecursiveControl(await read_network(Buffer.from(given.network, "base64")));
const { law_from } = await import("LIVE/problem.js"), law = law_from(given.about.law);
const { horizon } = net.config, grid = grid_of(given.about), cost = cost_of(given.about.cost, 1);
const kept = law ? null : await unpacked(Buffer.from(given.optima, "base64"));
const found = given.starts.map((start) => {
  const near = grid.nearest(start), own = law ? law(near.start, [0, 0])
    : Float64Array.from(kept.subarray(near.index * horizon, (near.index + 1) * horizon));
  const optimum = own && Number.isFinite(own[0]) ? own : null;
  return { near: near.start, ...runs(net, cost, near.start, given.about.H_cycles, optimum) };
});
""".replace("LIVE", LIVE.as_uri()).replace("WEB", (LIVE.parents[2] / "web").as_uri()) + PLAIN


def _plane(name):
    if "oscillator" in name:
        model, teacher = _oscillator(**{"mu": 2.0, "limit": 0.9} if "stiff" in name else {})
        return model, teacher, None
    teacher, box = CASES[name]() if name != "damped" else (MinimumEnergyController(_damped(), 30),
                                                           1.5)
    return network(teacher, generate_dataset(12, 0, teacher, box)), teacher, box


@pytest.mark.parametrize("name", ["oscillator", "stiff oscillator", "pendulum", "large", "small",
                                  "damped"])
def test_runs_and_costs_of_a_plane_are_those_of_model_and_teacher(name):
    model, teacher, box = _plane(name)
    plane = PhasePlane(model, teacher, points=5, H_cycles=3, state_range=box)
    low, high = (np.array(end) for end in plane.about["box"])
    starts = (low + np.array([[0.23, 0.9], [0.5, 0.5], [1.0, 0.0], [0.6, 0.7]]) * (high - low))
    found = in_node(RUNS, {"network": base64.b64encode(plane.network).decode(), "about":
                           plane.about, "optima": base64.b64encode(plane.optima).decode(),
                           "starts": starts.tolist()})
    model, size = model.eval().double(), float(abs(high).max())
    for run, start in zip(found, starts):
        steps = (high - low) / 4
        np.testing.assert_allclose(run["near"], low + np.round((start - low) / steps) * steps,
                                   atol=1e-12 * size)
        x0 = torch.tensor(run["near"], dtype=torch.float64)
        xT = torch.zeros_like(x0)
        with torch.no_grad():
            cycles = model(x0[None], xT[None], 3)["cycle_controls"][:, 0]
        largest = float(cycles.abs().max())
        np.testing.assert_allclose(run["controls"], cycles[..., 0], rtol=1e-6, atol=1e-6 * largest)
        states = teacher.system.rollout(x0.expand(4, -1), cycles)
        np.testing.assert_allclose(run["states"], states, rtol=1e-6, atol=1e-5 * size)
        free = teacher.system.rollout(x0, torch.zeros_like(cycles[0]))
        np.testing.assert_allclose(run["free"], free, rtol=1e-9, atol=1e-9 * size)
        optimum, solved = teacher.try_solve(x0, xT)
        assert (run["optimum"] is not None) == bool(solved)
        if not solved:
            assert run["gaps"] is None
            continue
        np.testing.assert_allclose(run["optimum"], optimum[:, 0], rtol=3e-5, atol=1e-9 * largest)
        least = teacher.cost(x0, xT, optimum)
        if least < 1e-9 * size ** 2:  # at rest it costs nothing
            assert run["gaps"] is None or teacher.has_ruler
            continue
        gaps = teacher.cost(x0.expand(4, -1), xT, cycles) / least - 1
        np.testing.assert_allclose(run["gaps"], gaps, rtol=1e-4, atol=1e-5)


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


def test_only_an_oscillator_has_a_limit_cycle(made):
    assert len(made["phase plane"].about["cycle"]) > 50
    for name in ("pendulum", "large"):
        teacher, box = CASES[name]()
        assert PhasePlane(network(teacher), teacher, 3, 1, box).about["cycle"] == []


def test_the_kernel_gives_the_optimum_of_any_start(monkeypatch, oscillator, made):
    _, teacher = oscillator
    start = [0.123, -1.7]
    answer, = _tell(monkeypatch, made["phase plane"], {"ask": "optimum", "start": start,
                                                       "number": 2})
    np.testing.assert_allclose(answer["controls"], teacher.solve(start, [0.0, 0.0])[:, 0])
    pendulum, box = CASES["pendulum"]()
    plane = widgets.phase_plane(network(pendulum), pendulum, 3, 1, box)
    answer, = _tell(monkeypatch, plane, {"ask": "optimum", "start": [0.39, 0.0], "number": 3})
    assert answer == {"number": 3, "controls": None}


def test_the_page_knows_a_law_instead_of_a_grid_of_optima(cart):
    plane = widgets.phase_plane(cart, MinimumEnergyController(), 3, 1, 2.5)
    assert plane.about["law"]["kind"] == "linear" and plane.optima == b""


def test_a_cost_that_the_page_does_not_know_is_none(oscillator):
    class Own(Guess):
        def cost(self, initial_state, target_state, controls):
            return controls.abs().sum(dim=(-2, -1))

    assert _cost(Own(Pendulum(), 5, 0.0, 1.0)) is None
    assert _cost(Guess(Pendulum(), 5, 0.0, 1.0)) == {"kind": "energy"}
    assert _cost(oscillator[1])["kind"] == "quadratic" and isinstance(oscillator[1], Teacher)


def test_a_start_from_which_everything_diverges_is_drawn(oscillator):
    far = widgets.phase_plane(*oscillator, points=3, H_cycles=1, state_range=100)
    far.start = [100.0, 100.0]
    assert "diverges" in far.draw().axes[1].get_title(loc="left")


def test_fewer_optima_are_kept_where_there_is_less_room(monkeypatch, oscillator):
    whole = widgets.phase_plane(*oscillator, points=15, H_cycles=1)
    network, most = len(whole.network), len(whole.optima)
    monkeypatch.setattr(sys.modules[PhasePlane.__module__], "ROOM", network + most // 2)
    less = widgets.phase_plane(*oscillator, points=15, H_cycles=1)
    assert whole.points == 15 and len(less.optima) <= most // 2
    assert less.points % 2 == 1 and 7 <= less.points < 15


# ---------------------------------------------------------------- the bounded pieces

PIECES = """
const { pieces, words_of } = await import("LIVE/pieces.js");
const { dual_from } = await import("LIVE/problem.js");
const law = dual_from(given.law), piece_of = pieces(law);
const found = given.problems.map(([x0, xT]) => {
  const answer = law(x0, xT), [piece] = piece_of([x0], xT);
  return { ...answer, key: piece.key, color: piece.color ?? null, words: words_of(answer) };
});
""".replace("LIVE", LIVE.as_uri()) + PLAIN
BOUNDED = {
    "cart": (BoundedMinimumEnergyController(), 2.5),
    "one-sided": (BoundedMinimumEnergyController(DoubleIntegrator(0.2, [[-0.4, 3.0]]), 40), 2.5),
    "half-open": (BoundedMinimumEnergyController(
        DoubleIntegrator(0.3, [[-0.5, float("inf")]]), 12), 2.5),
    "damped": (BoundedMinimumEnergyController(_damped(), 30), 2.5),
    "tiny": (BoundedMinimumEnergyController(DoubleIntegrator(0.33, 1e-3)), 2.5e-3),
    "huge": (BoundedMinimumEnergyController(DoubleIntegrator(0.33, 1e3)), 2.5e3)}


def _four_states():
    """Two carts that one force drives, the second by a spring between them."""
    A = torch.tensor([[0, 1, 0, 0], [-1, 0, 1, 0], [0, 0, 0, 1], [1, 0, -1, 0.0]]).double()
    A = torch.matrix_exp(0.3 * A)
    return BoundedMinimumEnergyController(LinearSystem(
        A, torch.tensor([[0.045], [0.3], [0.0], [0.004]]).double(), dt=0.3, control_limit=1.0), 20)


def _edge(teacher, size, shares=(0.99, 1 - 1e-4, 1 - 1e-6, 1 + 1e-6, 1.01)):
    """Problems next to the edge of what is within reach, on both sides of it."""
    generator = torch.Generator().manual_seed(2)
    n = teacher.system.state_dim
    ways = size * torch.randn(20, n, generator=generator, dtype=torch.float64)
    near, far = torch.zeros(20, dtype=torch.float64), torch.full((20,), 1e3, dtype=torch.float64)
    rest = torch.zeros_like(ways)
    for _ in range(60):
        middle = (near + far) / 2
        solved = teacher.try_solve(rest, ways * middle[:, None])[1]
        near, far = middle.where(solved, near), middle.where(~solved, far)
    return torch.cat([ways * (near * share)[:, None] for share in shares])


@pytest.mark.parametrize("name", BOUNDED)
def test_the_law_and_its_pieces_are_those_of_the_teacher(name):
    """The teacher's controls are exact to about 1e-8; so their equations are solved again."""
    teacher, size = BOUNDED[name]
    generator = torch.Generator().manual_seed(1)
    x0, xT = size * (2 * torch.rand(2, 150, 2, dtype=torch.float64, generator=generator) - 1)
    edge = _edge(teacher, size)
    x0, xT = torch.cat([x0, torch.zeros_like(edge)]), torch.cat([xT, edge])
    right, solved = teacher.try_solve(x0, xT)
    found = in_node(PIECES, {"law": web.law(teacher), "problems": list(zip(x0.tolist(),
                                                                           xT.tolist()))})
    assert [each["controls"] is not None for each in found] == solved.tolist()
    assert solved.any() and not solved.all()
    (low, high), unit = teacher.system.bounds, teacher._unit
    C = teacher.system.controllability_matrix(teacher.horizon)
    pieces = {}
    for i, (each, u) in enumerate(zip(found, right[..., 0])):
        if each["controls"] is None:
            assert each["key"] in ("out of reach", "undecided")
            continue
        wanted, lam = (torch.tensor(each[name], dtype=torch.float64)
                       for name in ("wanted", "lambda"))
        exact = _polished(teacher, x0[i], xT[i], u)
        np.testing.assert_allclose(each["controls"], exact, rtol=0, atol=1e-9 * unit)
        scale = float((C.abs().T @ lam.abs()).max())
        np.testing.assert_allclose(C.T @ lam, wanted, rtol=0, atol=1e-9 * max(scale, unit))
        clear = torch.minimum((wanted - low).abs(), (wanted - high).abs()) > 1e-7 * unit
        active = (u >= high).int() - (u <= low).int()
        assert torch.equal(torch.tensor(each["at"]).int()[clear], active[clear])
        assert each["words"].startswith(f"{np.count_nonzero(each['at']) or 'None'} of ")
        assert pieces.setdefault(each["key"], each["color"]) == each["color"]
    assert len(pieces) > 5


@pytest.mark.parametrize("name", [*BOUNDED, "four states"])
def test_next_to_the_edge_a_page_is_right_or_says_that_it_cannot_decide(name):
    """Out of reach is said only where it is proved; undecided only within 1e-4 of the edge."""
    teacher, size = BOUNDED[name] if name in BOUNDED else (_four_states(), 1.0)
    shares = (0.9, 1 - 1e-5, 1 - 1e-7, 1 - 1e-9, 1 + 1e-9, 1 + 1e-7, 1 + 1e-5, 1.1)
    xT = _edge(teacher, size, shares)
    x0 = torch.zeros_like(xT)
    verdicts = teacher.decide(x0, xT)[1]
    found = in_node(PIECES, {"law": web.law(teacher), "problems": list(zip(x0.tolist(),
                                                                           xT.tolist()))})
    names = {SOLVED: "solved", UNREACHABLE: "out of reach", UNDECIDED: "undecided"}
    share_of = [share for share in shares for _ in range(20)]
    decided = [each["verdict"] for each in found]
    for mine, verdict, share in zip(decided, verdicts.tolist(), share_of):
        if mine == "undecided":
            assert abs(share - 1) < 1e-4
        elif verdict != UNDECIDED:  # the teacher's own only within 1e-8
            assert mine == names[verdict]
        else:
            assert abs(share - 1) < 1e-8 and mine == "out of reach"
    assert {"solved", "out of reach"} <= set(decided)
    for each in found:
        assert each["words"].startswith("This start is next to the edge") == (
            each["verdict"] == "undecided") == (each["key"] == "undecided")


def test_the_words_name_what_is_at_its_limit():
    teacher = BoundedMinimumEnergyController()
    problems = [([-1.5, -1.0], [1.0, 0.0]), ([0.0, 0.0], [0.1, 0.0]), ([2.5, 2.5], [-2.5, 0.0])]
    several, none, beyond = in_node(PIECES, {"law": web.law(teacher), "problems": problems})
    assert several["words"].startswith("5 of 15 controls are at their limit (steps 1 to 4 at the "
                                       "upper; 15 at the lower); λ = (1.86, −3.68). Here the law")
    assert none["words"].startswith("None of 15 controls is at its limit; λ = (")
    assert beyond["words"].startswith("From here the target is out of reach")
    assert several["color"][0] > several["color"][2] and none["color"] == [247] * 3


def test_opposite_saturations_have_opposite_colours_in_page_and_picture():
    teacher = BoundedMinimumEnergyController()
    widget = widgets.bounded_pieces(teacher, points=21)
    problems = [([0.0, -1.57], [0.0, 0.0]), ([0.0, 1.57], [0.0, 0.0])]
    up, down = in_node(PIECES, {"law": web.law(teacher), "problems": problems})
    assert up["color"][0] > up["color"][2] and down["color"][0] < down["color"][2]
    widget.target = [0.0, 0.0]
    colors = 255 * widget.colors(51)  # 0.098 a cell: row 9 is at -1.57, row 41 at 1.57
    np.testing.assert_allclose(colors[[9, 41], 25], [up["color"], down["color"]], atol=1)


def test_it_opens_where_some_controls_are_at_their_limit():
    for teacher, size in BOUNDED.values():
        widget = widgets.bounded_pieces(teacher, size, points=21)
        start, target = (torch.tensor(each, dtype=torch.float64)
                         for each in (widget.start, widget.target))
        at, solved = widget.active(start, target)
        assert solved and 0 < at.abs().sum() <= teacher.horizon / 3
        low, high = torch.tensor(widget.about["box"])
        assert (low <= start).all() and (start <= high).all()
        assert widget._repr_mimebundle_()[0]["image/png"]
