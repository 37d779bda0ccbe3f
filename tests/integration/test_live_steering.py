"""Explorables of teachers and datasets without a browser: what is sent, and the page's numbers."""

import base64
import functools
import json
import shutil
import subprocess

import numpy as np
import pytest
import torch
import traitlets

from trc_lib.course import widgets
from trc_lib.course.widgets.explorable import LIVE, bundle
from trc_lib.data import generate_dataset
from trc_lib.systems import DoubleIntegrator, LinearSystem, System
from trc_lib.teachers import MinimumEnergyController, SampledContinuousController, Teacher

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="needs node, which runs the page's modules")
STARTS = [[0.0, 0.0], [-2.5, 2.5], [1.0, 0.0], [3e-7, -1e-7], [2e5, -3e5]]
TARGETS = [[1.0, 0.0], [2.5, 2.5], [1.0, 0.0], [-2e-7, 1e-7], [-1e5, 4e5]]


def javascript(name, expression, **given):
    """The value of an expression of a module's exports ``m`` and what is ``given``."""
    script = f"""
        import * as m from "{(LIVE / name).as_uri()}";
        import {{ readFileSync }} from "node:fs";
        const given = JSON.parse(readFileSync(0, "utf-8"));
        const plain = (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
        console.log(JSON.stringify({expression}, plain));"""
    ran = subprocess.run([NODE, "--input-type=module", "--eval", script], input=json.dumps(given),
                         capture_output=True, text=True, encoding="utf-8")
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def _tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def _close(found, expected, size, tolerance=1e-9):
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * size)


def _bundle_of(widget):
    """The mimebundle, if it has a picture, the live widget and words."""
    data = widget._repr_mimebundle_()[0]
    assert bytes(data["image/png"]).startswith(b"\x89PNG")
    assert "model_id" in data["application/vnd.jupyter.widget-view+json"]
    return data["text/plain"]


# ---------------------------------------------------------------- steer it yourself


def test_the_game_is_a_live_widget_beside_its_picture_and_its_words():
    game = widgets.playground()
    assert _bundle_of(game) == ("Playground: draw the controls by hand; these end 1.000 from the "
                                "target, and within 0.1 wins if cheap enough")
    game.controls = game.teacher.solve(_tensor([0.0, 0.0]), _tensor([1.0, 0.0]))[:, 0].tolist()
    game.shows_optimum = True
    assert "these end 0.000 from" in _bundle_of(game)


def test_the_game_sends_nothing_of_the_optimum_and_takes_the_learner_s_values():
    game = widgets.playground()
    assert game.controls == [0.0] * 15 and not game.shows_optimum
    assert set(game.about) == {"dt", "box", "labels", "success", "enough", "first"}
    game.controls = tuple(range(15))
    game.start, game.target, game.pushes = [0.5, -1], [1e5, 0], 3
    assert game.controls[3] == 3.0 and game.start == [0.5, -1.0] and game.target == [1e5, 0.0]


@pytest.mark.parametrize(("name", "value", "words"), [
    ("controls", [0.0] * 14, r"controls=\[.*\] is not accepted; needs 15 finite"),
    ("controls", [float("nan")] * 15, r"controls=\[nan.*\] is not accepted; needs 15 finite"),
    ("start", [0.0, float("inf")], r"start=\[0.0, inf\] is not accepted; needs 2 finite numbers"),
    ("target", [1.0], r"target=\[1.0\] is not accepted; needs 2 finite numbers"),
    ("pushes", -1, "pushes=-1 is not accepted; needs a whole number from 0")])
def test_the_game_refuses_in_words(name, value, words):
    game = widgets.playground()
    with pytest.raises(traitlets.TraitError, match=words):
        setattr(game, name, value)
    assert game.start == [0.0, 0.0]


@needs_node
@pytest.mark.parametrize(("start", "target"), [*zip(STARTS, TARGETS)])
def test_the_page_judges_controls_as_the_teacher_does(start, target):
    teacher, rules = MinimumEnergyController(), widgets.playground().about
    u = 0.1 * torch.randn(15, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    seen = javascript("steer.js", "m.judged(given.rules, given.start, given.target, given.u)",
                      rules=rules, start=start, target=target, u=u.tolist())
    x0, xT, size = _tensor(start), _tensor(target), max(map(abs, start + target))
    optimum, states = teacher.solve(x0, xT), teacher.system.rollout(x0, u[:, None])
    _close(seen["optimum"], optimum[:, 0], size)
    _close(seen["states"], [list(state) for state in states.tolist()], max(size, 1.0))
    _close(seen["best"], teacher.system.rollout(x0, optimum).tolist(), size)
    _close(seen["miss"], (states[-1] - xT).norm(), max(size, 1.0))
    _close(seen["spent"], u.square().sum(), 1.0)
    least = optimum.square().sum().item()
    _close(seen["least"], least if least > 1e-12 else 0.0, size**2)
    assert seen["won"] is False


@needs_node
def test_the_optimum_wins_and_what_is_dearer_or_too_far_does_not():
    game, teacher = widgets.playground(), MinimumEnergyController()
    optimum = teacher.solve(_tensor(game.start), _tensor(game.target))[:, 0]

    def judged(u, target=game.target):
        return javascript("steer.js", """(() => {
            const seen = m.judged(given.rules, [0, 0], given.target, given.u);
            const names = [["position", " m"], ["velocity", " m/s"]];
            return [seen.won, m.words(given.rules, seen, names)];
        })()""", rules=game.about, target=target, u=u.tolist())

    won, said = judged(optimum)
    assert won and said == ("You win! You end at the target. Energy 0.301 (m/s²)², "
                            "1.00 times the least.")
    null = torch.linalg.svd(teacher.system.controllability_matrix(15)).Vh[2]
    won, said = judged(optimum + 0.3 * null)                       # arrives, for 30 % more
    assert not won and "1.30 times the least" in said
    assert said.endswith("To win, end within 0.1 with less than 1.2 times the least energy.")
    won, said = judged(0 * optimum)
    assert not won and said.startswith("You end 1 from the target (off by: position −1 m, ")
    won, said = judged(0 * optimum, [0.0, 0.0])                    # start and target are the same
    assert won and "the least is zero" in said
    assert not judged(0.01 * optimum, [0.0, 0.0])[0]


@needs_node
def test_a_wiggle_keeps_the_end_a_nudge_moves_it_and_both_can_be_repeated():
    system = DoubleIntegrator()
    C, u = system.controllability_matrix(15), 0.2 * torch.arange(15).double().cos()
    both = {part: javascript("steer.js", """[1, 1, 2].map((seed) =>
        m.pushed(given.dt, given.u, given.part, seed))""", dt=system.dt, u=u.tolist(), part=part)
        for part in ("wiggle", "nudge")}
    for part, (first, again, other) in both.items():
        assert first == again != other
        for pushed in (first, other):
            w = _tensor(pushed) - u
            assert w.norm().item() == pytest.approx(0.3, abs=1e-12)
            in_row_space = torch.linalg.pinv(C) @ (C @ w)
            if part == "wiggle":
                assert (C @ w).norm() < 1e-13
                assert (_tensor(pushed).square().sum() - u.square().sum()).abs() > 1e-3
            else:
                assert (C @ w).norm() > 0.1
                torch.testing.assert_close(in_row_space, w, rtol=0, atol=1e-13)


@needs_node
def test_a_stroke_sets_each_step_that_it_passes_and_no_other():
    found = javascript("steer.js", """[
        m.drawn(0.5, [9, 9, 9, 9, 9, 9], [0.1, 1], [0.1, 1]),
        m.drawn(0.5, [1, 9, 9, 9, 9, 9], [0.25, 1], [1.75, 4]),
        m.drawn(0.5, [9, 9, 9, 4, 9, 9], [1.75, 4], [0.25, 1]),
        m.drawn(0.5, [9, 9, 9, 9, 9, 5], [2.75, 5], [2.9, 7]),
        m.drawn(0.5, [9, 9, 9, 9, 9, 9], [2.9, 7], [88, 8])]""")
    assert found == [[1, 9, 9, 9, 9, 9], [1, 2, 3, 4, 9, 9], [1, 2, 3, 4, 9, 9],
                     [9, 9, 9, 9, 9, 7], [9, 9, 9, 9, 9, 8]]


# ---------------------------------------------------------------- two laws


def test_the_teacher_explorer_is_a_live_widget_and_refuses_in_words():
    shown = widgets.teacher_explorer()
    assert _bundle_of(shown) == ("TeacherExplorer: the optimum and the continuous law u(t) = a + "
                                 "b t held over each step, for 15 steps of 0.33 s")
    shown.steps, shown.dt, shown.start = 2, 0.5, [0, -1]
    assert "2 steps of 0.5 s" in _bundle_of(shown) and shown.start == [0.0, -1.0]
    for name, value, words in (
            ("steps", 1, "steps=1 is not accepted; needs a whole number from 2 to 60"),
            ("dt", 0.6, "dt=0.6 is not accepted; needs a number from 0.05 to 0.5"),
            ("dt", float("nan"), "dt=nan is not accepted"),
            ("start", [1.0], r"start=\[1.0\] is not accepted; needs 2 finite numbers")):
        with pytest.raises(traitlets.TraitError, match=words):
            setattr(shown, name, value)


@needs_node
@pytest.mark.parametrize(("steps", "dt"), [(2, 0.5), (2, 0.05), (15, 0.33), (60, 0.05), (60, 0.5)])
def test_both_laws_of_the_page_are_the_teachers(steps, dt):
    system = DoubleIntegrator(dt)
    found = javascript("teacher.js", """given.starts.map((start, i) =>
        m.compared(start, given.targets[i], given.steps, given.dt))""",
                       starts=STARTS, targets=TARGETS, steps=steps, dt=dt)
    for start, target, seen in zip(STARTS, TARGETS, found):
        x0, xT, size = _tensor(start), _tensor(target), max(map(abs, start + target))
        continuous = SampledContinuousController(system, steps)
        _close([seen["a"], seen["b"]], [float(c) for c in continuous.coefficients(x0, xT)], size)
        for name, law in (("exact", MinimumEnergyController(system, steps)),
                          ("sampled", continuous)):
            controls = law.solve(x0, xT)
            states = system.rollout(x0, controls)
            _close(seen[name]["controls"], controls[:, 0], controls.abs().max().item())
            _close(seen[name]["states"], states.tolist(), states.abs().max().item())
            _close(seen[name]["miss"], (states[-1] - xT).norm(), states.abs().max().item())
        assert seen["exact"]["miss"] < 1e-9 * size


@needs_node
def test_the_sampled_law_misses_by_what_the_answers_of_chapter_1_say():
    ends = javascript("teacher.js", """[[[0, -1], [0, 1]], [[0, -1], [2.5, 1]]].map(([x0, xT]) => {
        const { a, b, sampled } = m.compared(x0, xT, 15, 0.33);
        return [b, sampled.miss, m.ends(sampled.miss)]; })""")
    assert abs(ends[0][0]) < 1e-12 and ends[0][2] == "at the target"  # constant: exact
    assert ends[1][1] > 0.01 and ends[1][2].endswith(" from the target")


@needs_node
def test_the_motion_within_a_step_goes_through_its_ends():
    found = javascript("teacher.js", "m.between([1, -2], Float64Array.of(3, -4, 5), 0.5)")
    states = DoubleIntegrator(0.5).rollout(_tensor([1.0, -2.0]), _tensor([[3.0], [-4.0], [5.0]]))
    assert len(found) == 25
    _close(found[::8], states.tolist(), 1.0)
    _close(found[4], [1 - 2 * 0.25 + 3 * 0.25**2 / 2, -2 + 3 * 0.25], 1.0)


@needs_node
def test_axes_hold_their_values_and_seldom_change():
    values = (10.0 ** np.random.default_rng(0).uniform(-9, 9, 200)).tolist()
    found = javascript("problem.js", "given.values.map((v) => m.wider([v, -v / 3, NaN], [-2, 2]))",
                       values=values)
    for value, (low, high) in zip(values, found):
        assert low <= -value / 3 and value <= high < 2.2 * max(2.0, value)
    assert len({high for value, (_, high) in zip(values, found) if value < 2}) == 1


# ---------------------------------------------------------------- the samples of a dataset


class Wave(System):
    """Three states and two controls; erf is no operation that a page knows."""

    def __init__(self, dt=0.2):
        super().__init__(3, 2, dt, [[0.0, 4.0], [-1.0, float("inf")]],
                         ("height (m)", "tilt", "rate (1/s)", "lift (N)", "turn (N m)"))

    def dynamics(self, state, control):
        height, tilt, rate = state.unbind(-1)
        lift, turn = control.unbind(-1)
        return torch.stack([height + self.dt * torch.erf(lift - tilt), tilt + self.dt * rate,
                            rate + self.dt * turn], dim=-1)


class Guess(Teacher):
    """Not optimal; any controls will do here."""

    def try_solve(self, initial_state, target_state):
        share = (torch.as_tensor(target_state) - torch.as_tensor(initial_state))[..., :2].abs()
        ramp = torch.linspace(1, 0.3, self.horizon, dtype=torch.float64)
        return ramp[:, None] * share[..., None, :], torch.ones(share.shape[:-1], dtype=torch.bool)


def _cart(scale):
    cart = DoubleIntegrator()
    return MinimumEnergyController(LinearSystem(cart.A, cart.B, cart.dt)), 2.5 * scale


CASES = {
    "cart": lambda: _cart(1.0), "huge": lambda: _cart(1e7), "tiny": lambda: _cart(1e-7),
    "wave": lambda: (Guess(Wave(), 6), [1.0, 0.5, 2.0]),
    "room": lambda: (MinimumEnergyController(LinearSystem([[1.0]], [[0.01]], 60.0), 10),
                     [[290.0, 300.0]])}
READ = """given.bytes.map((text) => {
    const bytes = Buffer.from(text, "base64");
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    return [...m.samples_of(given.about, view).values()];
})"""


def _read(browser, *contents):
    return javascript("samples.js", READ, about=browser.about,
                      bytes=[base64.b64encode(each).decode() for each in contents])


@functools.cache
def _data(name, count=12):
    return generate_dataset(count, 0, *CASES[name]())


@needs_node
@pytest.mark.parametrize("name", CASES)
def test_the_page_has_the_dataset_s_own_numbers(name):
    data = _data(name)
    browser, system = widgets.dataset_browser(data), data.system
    samples, = _read(browser, browser.samples)
    assert sorted(each["sample"] for each in samples) == list(range(len(data)))
    costs = data.teacher.cost(data.initial_states, data.target_states, data.controls)
    for each in samples:
        i = each["sample"]
        assert each["start"] == data.initial_states[i].tolist()
        assert each["target"] == data.target_states[i].tolist()
        assert each["controls"] == data.controls[i].flatten().tolist()  # every control of a step
        states = system.rollout(data.initial_states[i], data.controls[i])
        _close(each["states"], states.tolist(), states.abs().max().item(), 1e-12)
        assert each["cost"] == pytest.approx(costs[i].item(), rel=1e-12)
        assert each["rank"] == int((costs < costs[i]).sum())
    assert browser.sample == int(costs.argmin())
    assert browser.about["labels"] == list(system.labels)


@needs_node
def test_of_a_large_dataset_a_spaced_choice_is_offered_and_any_sample_can_be_set():
    data = _data("cart", 3000)
    browser = widgets.dataset_browser(data)
    assert len(browser.samples) < 300_000 and len(browser.offered) == 500
    offered, = _read(browser, browser.samples)
    ranks = np.array([each["rank"] for each in offered])
    assert ranks[0] == 0 and ranks[-1] == 2999 and set(np.diff(ranks)) <= {6, 7}
    assert ", 500 of them to choose from" in _bundle_of(browser)
    inside = offered[7]["sample"]
    outside = next(i for i in range(3000) if i not in {each["sample"] for each in offered})
    browser.sample = inside
    assert browser.extra == b"" and browser.sample == inside
    order = []
    browser.observe(lambda change: order.append(change["name"]), names=["sample", "extra"])
    browser.sample = outside
    assert order == ["extra", "sample"]  # the numbers are there before they are to be shown
    (extra,), = _read(browser, browser.extra)
    assert extra["sample"] == outside
    assert extra["controls"] == data.controls[outside].flatten().tolist()


def test_the_browser_refuses_in_words():
    browser = widgets.dataset_browser(_data("wave"), shown=(2, 0))
    assert browser.about["shown"] == [2, 0]
    assert _bundle_of(browser) == ("DatasetBrowser: 12 samples, each with its optimum; the picture "
                                   "shows one")
    for value in (-1, 12):
        with pytest.raises(traitlets.TraitError, match=f"sample={value} is not accepted; needs a "
                                                       "whole number from 0 to 11"):
            browser.sample = value
    with pytest.raises(traitlets.TraitError, match=r"order.*cheapest first"):
        browser.order = "dearest first"
    with pytest.raises(ValueError, match=r"shown=\(0, 3\) is not accepted; give two different"):
        widgets.dataset_browser(_data("wave"), shown=(0, 3))
    with pytest.raises(TypeError, match="dataset=3 is not accepted; needs a LQRDataset"):
        widgets.dataset_browser(3)


@needs_node
def test_the_orders_and_words_of_samples():
    data = _data("cart")
    browser = widgets.dataset_browser(data)
    samples, = _read(browser, browser.samples)
    orders, said = javascript("samples.js", """[
        m.ORDERS.map((order) => m.ordered(given.samples, order).map((each) => each.sample)),
        given.samples.map((each) => m.words(given.about, each))]""",
                              samples=samples, about=browser.about)
    cheapest = data.controls.square().sum(dim=(1, 2)).argsort().tolist()
    assert orders == [cheapest, cheapest[::-1], list(range(12))]
    assert said[0].startswith(f"Sample {cheapest[0]}: least energy ")
    assert said[0].endswith(", number 1 of 12 from the cheapest.")


@needs_node
def test_the_axes_of_samples_hold_them_in_any_unit_and_magnitude():
    for scale in (1e-9, 1.0, 1e9):
        for middle in (0.0, 300.0):
            whole = [scale * (middle - 5), scale * (middle + 5)]
            for part in (1.0, 0.2, 0.004, 3.0):
                given = [scale * (middle - 4 * part), scale * (middle + 5 * part)]
                low, high = javascript("samples.js", "m.ends_among(given.given, given.whole)",
                                       given=given, whole=whole)
                assert low < given[0] and given[1] < high
                assert high - low < 4.5 * max(given[1] - given[0], scale * 0.1)
    ends = javascript("samples.js", """[m.ends_among([2, 9], [0, 10]), m.ends_among([0], [0]),
        m.ends_among([NaN], [NaN]), m.ends_among([7], [7])]""")
    assert ends[0] == pytest.approx([-0.6, 10.6])  # no room below zero, where nothing is
    for value, (low, high) in zip((0, 0, 7), ends[1:]):
        assert low <= value <= high and low < high


@needs_node
def test_the_nearest_dot_is_found_also_in_one_direction_only():
    found = javascript("samples.js", """(() => {
        const dots = [[0, 0], [10, 1], [-4, 0], [3, 30]];
        const right = (dx, dy) => dx > Math.abs(dy), down = (dx, dy) => dy < -1;
        return [m.nearest(dots, [1, 1])[0], m.nearest(dots, [0, 0], right)[0],
          m.nearest(dots, [0, 0], down)]; })()""")
    assert found[:2] == [0, 1] and found[2][0] == -1


@needs_node
@pytest.mark.parametrize("name", ["steer.js", "teacher.js", "samples.js"])
def test_a_module_is_one_file_with_a_render_function(name):
    assert javascript(name, "typeof m.default.render") == "function"
    assert not [line for line in bundle(LIVE / name).splitlines() if line.startswith("import ")]
    assert max(map(len, (LIVE / name).read_text(encoding="utf-8").splitlines())) <= 130
