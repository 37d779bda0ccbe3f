"""The explorables in a page without a kernel: by mouse, touch and keyboard; their numbers are PyTorch's."""

import re

import pytest
import torch
import torch.nn.functional as F

from tests.integration.other_systems import CASES, network
from tests.integration.test_web import expected
from tests.system.browser import lab
from tests.system.browser.page import outside, served, settled, shown
from trc_lib import problems, web
from trc_lib.course import widgets
from trc_lib.course.interventions import SWITCHES, refine
from trc_lib.data import generate_dataset
from trc_lib.evaluation import final_error
from trc_lib.model import FinalError, Proportional, TinyRecursiveControl
from trc_lib.systems import Craft

LABORATORY = lab.ROOT / "data/pretrained/laboratory"
SHIPPED = {"proportional_root": problems.double_integrator, "bounded_pretrained_mse": problems.bounded_inputs,
           "van_der_pol_gradient": problems.weak_van_der_pol}


@pytest.fixture(scope="module")
def browser():
    path = lab.chromium()
    if path is None:
        pytest.skip("needs a Chromium: as root, apt-get install chromium fonts-dejavu-core")
    lab.SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with lab.browser(path) as made:
        yield made


def _shipped(name):
    model = TinyRecursiveControl.load(LABORATORY / f"{name}.pt")
    return model, SHIPPED[name]().dataset(64, seed=1)


IN_PAGE = """async (given) => {
  const { read_network } = await import('/web/files.js'), { TinyRecursiveControl } = await import('/web/recursion.js');
  const { bounded_minimum_energy, linear_law } = await import('/web/laws.js');
  const net = new TinyRecursiveControl(await read_network(await (await fetch('/network.trcw')).arrayBuffer()));
  const about = given.law, floats = (each) => Float64Array.from(each), plain = (rows) => rows.map((each) => Array.from(each));
  const law = !about ? null : about.kind === 'linear' ? linear_law(about.gain)
    : bounded_minimum_energy({ ...about, low: about.low.map(Number), high: about.high.map(Number) });
  return given.problems.map(([x0, xT]) => {
    const { controls, z_H, z_L } = net.trace(floats(x0), floats(xT), net.config.H_cycles);
    return { values: [controls, z_H, z_L].map(plain), optimum: law && Array.from(law(x0, xT)) };
  });
}"""


@pytest.mark.parametrize("name", [*SHIPPED, "recursive"])
def test_every_cycle_every_latent_and_the_laws_are_pytorchs_in_a_real_browser(browser, name, tmp_path, monkeypatch):
    model = TinyRecursiveControl.load(LABORATORY / f"{name}.pt")
    problem = SHIPPED.get(name, problems.double_integrator)()
    data, law = problem.dataset(200, seed=7), web.law(problem.teacher)
    web.export_web(model, tmp_path / "network.trcw")
    (tmp_path / "web").symlink_to(lab.ROOT / "trc_lib" / "web")
    (tmp_path / "blank.html").write_text("<!doctype html>")
    x0, xT = data.initial_states, data.target_states
    with served(tmp_path) as address:
        page = browser.new_page()
        page.goto(f"{address}/blank.html")
        found = page.evaluate(IN_PAGE, {"law": law, "problems": list(zip(x0.tolist(), xT.tolist()))})
        page.close()
    values = [torch.tensor([each["values"][part] for each in found], dtype=torch.float64) for part in range(3)]
    norm, epsilon = F.rms_norm, torch.finfo(torch.float32).eps
    monkeypatch.setattr(F, "rms_norm", lambda x, shape: norm(x, shape, eps=epsilon))  # as trained
    for mine, right in zip(values, expected(model.double(), x0, xT, 3)):
        torch.testing.assert_close(mine, right, rtol=0, atol=1e-5)
    if law:  # the bounded teacher's own accuracy is 1e-8; in Node it is held against its equations solved again
        optima = torch.tensor([each["optimum"] for each in found], dtype=torch.float64)
        torch.testing.assert_close(optima, data.controls.flatten(1), rtol=0, atol=1e-9 if problem.teacher.has_ruler else 1e-8)


def _state(page, *names):
    return [page.evaluate(f"window.model.get('{name}')") for name in names]


def _error(model, page, switch="unchanged"):
    """The final error of what the page shows, by PyTorch."""
    start, target, cycle = _state(page, "start", "target", "H_cycle")
    x0, xT = (torch.tensor([state], dtype=torch.float64) for state in (start, target))
    controls = refine(model, x0, xT, cycle, switch).controls[-1]
    return final_error(model.system, x0, xT, controls.double()).item()


def _said(sentence):
    number = re.search(r"end ([\d.]+(?:e−\d+)?)", sentence)[1]
    return float(number.replace("−", "-"))


@pytest.mark.parametrize("name", SHIPPED)
def test_the_numbers_are_pytorchs_wherever_the_start_is_dragged(browser, name, tmp_path):
    model, data = _shipped(name)
    with shown(browser, widgets.microscope(model, data), tmp_path) as page:
        settled(page)
        handle, frame = page.locator(".trc-handle.start"), page.locator(".trc-panel svg .trc-frame").first.bounding_box()
        for share in ((0.3, 0.4), (0.45, 0.75), (0.62, 0.35)):
            box = handle.bounding_box()
            page.mouse.move(box["x"] + 22, box["y"] + 22)
            page.mouse.down()
            place = [frame["x"] + share[0] * frame["width"], frame["y"] + share[1] * frame["height"]]
            page.mouse.move(*place, steps=5)
            settled(page)
            box = handle.bounding_box()
            assert [box["x"] + 22, box["y"] + 22] == pytest.approx(place, abs=1.5)  # it follows the finger
            page.mouse.up()
            settled(page)
            frame = page.locator(".trc-panel svg .trc-frame").first.bounding_box()
            for cycle in (0, 1, 3):
                page.evaluate(f"window.model.set('H_cycle', {cycle})")
                assert _said(settled(page)) == pytest.approx(_error(model, page), rel=6e-3, abs=2e-6)
        assert _state(page, "sample") == [-1]


def test_every_switch_by_the_keyboard(browser, tmp_path):
    model, data = _shipped("proportional_root")
    with shown(browser, widgets.microscope(model, data), tmp_path) as page:
        page.evaluate("window.model.set('H_cycle', 3)")
        for switch in SWITCHES[:-1]:  # the last one needs another problem
            page.get_by_label("change").select_option(switch)
            assert switch in (sentence := settled(page))
            assert _said(sentence) == pytest.approx(_error(model, page, switch), rel=6e-3)


def test_handles_sliders_and_buttons_by_the_keyboard(browser, tmp_path):
    model, data = _shipped("proportional_root")
    with shown(browser, widgets.microscope(model, data), tmp_path) as page:
        (start,) = _state(page, "start")
        page.locator(".trc-handle.start").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Shift+ArrowUp")
        settled(page)
        (low, high), (moved,) = page.evaluate("window.model.get('about').box"), _state(page, "start")
        steps = [(b - a) / 100 for a, b in zip(low, high)]
        assert moved == pytest.approx([min(start[0] + steps[0], high[0]), min(start[1] + 10 * steps[1], high[1])])
        page.get_by_label("H cycle").focus()
        page.keyboard.press("End")
        assert "After cycle 10, beyond H_cycles = 3" in settled(page)
        page.get_by_role("button", name="back").focus()
        page.keyboard.press("Enter")
        settled(page)
        assert _state(page, "H_cycle") == [9]
        page.get_by_label("sample, worst first").focus()
        page.keyboard.press("End")
        settled(page)
        (sample, start, target) = _state(page, "sample", "start", "target")
        assert start == data.initial_states[sample].tolist() and target == data.target_states[sample].tolist()


def test_the_pointer_is_told_the_numbers_of_the_point_next_to_it(browser, tmp_path):
    model, data = _shipped("proportional_root")
    with shown(browser, widgets.microscope(model, data), tmp_path) as page:
        page.evaluate("window.model.set('H_cycle', 3)")
        settled(page)
        frames, tips = page.locator(".trc-panel svg .trc-frame"), page.locator(".trc-tip")
        controls = _controls(model, page)
        for k in (2, 9):  # the middle of a step of the network's controls
            box, (low, high) = frames.nth(1).bounding_box(), _ends(page, 1)
            share = (controls[k] - low) / (high - low)
            page.mouse.move(box["x"] + (k + 0.5) / len(controls) * box["width"], box["y"] + (1 - share) * box["height"])
            said = tips.nth(1).inner_text().replace("−", "-")
            name, time, value = re.fullmatch(r"(network|optimum): ([\d.]+) s, (-?[\d.]+) m/s²", said).groups()
            assert float(time) == pytest.approx(k * 0.33) and float(value) == pytest.approx(controls[k], abs=0.02), name
        page.mouse.move(2, 2)
        assert not tips.nth(1).is_visible()


def _controls(model, page):
    start, target, cycle = _state(page, "start", "target", "H_cycle")
    x0, xT = (torch.tensor([state], dtype=torch.float64) for state in (start, target))
    return refine(model, x0, xT, cycle).controls[-1].flatten().tolist()


def _ends(page, panel):
    """The ends of the axis of a panel's values, from the places of its numbers."""
    ticks = page.locator(".trc-panel").nth(panel).locator("text[text-anchor=end]").evaluate_all(
        "all => all.map((each) => [Number(each.getAttribute('y')) - 4, Number(each.textContent.replace('−', '-'))])")
    (y0, v0), (y1, v1) = ticks[0], ticks[-1]
    box = page.locator(".trc-panel svg .trc-frame").nth(panel).evaluate("each => [each.y.baseVal.value, each.height.baseVal.value]")
    return [v0 + (y - y0) * (v1 - v0) / (y1 - y0) for y in (box[0] + box[1], box[0])]


@pytest.mark.parametrize("name", CASES)
def test_microscope_and_time_machine_of_any_size_and_unit_stay_within_their_axes(browser, name, tmp_path):
    teacher, box = CASES[name]()
    data = generate_dataset(12, 0, teacher, box)
    model = network(teacher, data)
    for widget in (widgets.microscope(model, data, H_cycles=4),
                   widgets.time_machine(model, {0: network(teacher).state_dict(), 2: model.state_dict()}, teacher, box)):
        with shown(browser, widget, tmp_path) as page:
            for slider in page.locator(".trc input[type=range]").all():
                for key in ("Home", "End"):
                    slider.focus()
                    page.keyboard.press(key)
                    settled(page)
                    assert outside(page) == []
                    if "epoch" not in widget.trait_names():
                        assert _said(page.locator(".trc-says").inner_text()) == pytest.approx(_error(model, page), rel=6e-3)


def test_it_opens_where_stepping_changes_what_is_seen(browser, tmp_path):
    model, data = _shipped("bounded_pretrained_mse")
    with shown(browser, widgets.microscope(model, data), tmp_path) as page:
        seen = set()
        for cycle in range(4):
            page.evaluate(f"window.model.set('H_cycle', {cycle})")
            settled(page)
            seen.add(page.locator(".trc-mark.network.trc-steps").nth(1).get_attribute("d"))
        assert len(seen) == 4


def test_playing_steps_through_the_cycles_and_stops(browser, tmp_path):
    model, data = _shipped("proportional_root")
    with shown(browser, widgets.microscope(model, data, H_cycles=2), tmp_path) as page:
        page.get_by_role("button", name="play").click()
        page.wait_for_function("window.model.get('H_cycle') === 2", timeout=4000)
        page.get_by_role("button", name="play").wait_for(timeout=2000)


def test_a_large_network_without_a_kernel_is_said_in_words(browser, tmp_path):
    model = TinyRecursiveControl.create_two_level_medium()
    with shown(browser, widgets.microscope(model, generate_dataset(8)), tmp_path) as page:
        assert page.locator("#host").inner_text() == "This cannot be shown: it needs the running notebook: run this cell again"


def test_the_iterations_of_a_landing_move_without_a_kernel(browser, tmp_path):
    problem = problems.powered_descent(horizon=20)
    model = TinyRecursiveControl.create_two_level_small(problem.teacher.system, horizon=20, seed=0, latent_dim=16, block_hidden=16,
                                                        head_hidden=16)
    landing = widgets.landing(model, problem)
    with shown(browser, landing, tmp_path) as page:
        labels = page.locator(".trc label").all_inner_texts()
        assert labels == [each["label"] for each in landing.controls.values()]
        for key, count in (("End", 10), ("Home", 0)):
            page.get_by_label("iterations").press(key)
            (words,) = [each["words"] for each in landing.about["kept"] if each["values"]["iterations"] == count]
            assert settled(page) == page.locator(".trc-drawn").get_attribute("alt") == words
            assert page.locator(".trc-drawn").evaluate("image => image.style.opacity") == ""
        assert page.evaluate("window.sent") == []


NAMES = """() => [...document.querySelectorAll('.trc button, .trc input, .trc select, .trc [role=img]')].filter((each) =>
  !(each.getAttribute('aria-label') || each.labels?.length || each.textContent.trim())).map((each) => each.outerHTML)"""
# The contrast of each text and line with what is behind it (WCAG 2): text needs 4.5, lines 3.
CONTRASTS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (color) => { canvas.fillStyle = '#000'; canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = (color) => rgb(color).slice(0, 3).map((each) => each / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = getComputedStyle(document.querySelector('.trc')).backgroundColor;
  const ratio = (color) => { const [a, b] = [light(color), light(paper)].sort((x, y) => y - x); return (a + 0.05) / (b + 0.05); };
  const texts = [...document.querySelectorAll('.trc p, .trc label, .trc output, .trc-title, .trc-legend, .trc-group-name')].map((each) => ratio(getComputedStyle(each).color));
  const lines = [...document.querySelectorAll('.trc-mark.network, .trc-mark.optimum, .trc-mark.second')].map((each) => getComputedStyle(each).stroke)
    .filter((stroke) => stroke !== 'none').map(ratio);
  return [Math.min(...texts), Math.min(4.5, ...lines)];
}"""


@pytest.fixture(scope="module")
def explorables():
    """Each of them by name, as the course shows it."""
    (cart, carts), (bounded, bounds) = map(_shipped, ("proportional_root", "bounded_pretrained_mse"))
    (oscillator, swings) = _shipped("van_der_pol_gradient")
    snapshots = {epoch: _half_trained(cart, share) for epoch, share in ((0, 0.0), (1, 0.5), (10, 1.0))}
    return {"microscope": widgets.microscope(cart, carts), "bounded": widgets.microscope(bounded, bounds),
            "oscillator": widgets.microscope(oscillator, swings), "steer": widgets.playground(), "teacher": widgets.teacher_explorer(),
            "dataset": widgets.dataset_browser(generate_dataset(300, seed=1)), "epochs": widgets.time_machine(cart, snapshots),
            "map": widgets.error_map(cart), "pieces": widgets.bounded_pieces(bounds.teacher),
            "plane": widgets.phase_plane(oscillator, swings.teacher), "cone": widgets.relaxation(Craft())}


def _half_trained(model, share):
    """Weights between those of an untrained network and those of ``model``."""
    fresh = TinyRecursiveControl(model.config, model.system, 1, Proportional(FinalError(model.system))).state_dict()
    return {name: fresh[name] + share * (value - fresh[name]) for name, value in model.state_dict().items()}


SHOWN = ("microscope", "bounded", "oscillator", "steer", "teacher", "dataset", "epochs", "map", "pieces", "plane", "cone")


@pytest.mark.parametrize("name", SHOWN)
def test_by_touch_on_a_phone(browser, explorables, name, tmp_path):
    with shown(browser, explorables[name], tmp_path, width=360, has_touch=True, is_mobile=True) as page:
        page.wait_for_timeout(600 if name in ("map", "pieces") else 50)
        settled(page)
        handles = [each for each in page.locator(".trc-handle:not(.step)").all() if each.is_visible()]
        what, session = (handles or page.locator("input[type=range]").all())[-1], page.context.new_cdp_session(page)
        what.scroll_into_view_if_needed()
        box = what.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

        def drag():
            session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
            for k in range(1, 6):
                session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x + 6 * k, "y": y - 5 * k * bool(handles)}]})
            session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

        assert lab.changed_after(page.locator("section.trc"), drag)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        heights = page.locator(".trc button, .trc input, .trc select").evaluate_all(
            "all => all.map((each) => each.getBoundingClientRect().height).filter((each) => each)")
        assert min(heights) >= 24  # WCAG 2.2, target size


@pytest.mark.parametrize("name", SHOWN)
def test_everything_has_a_name_fits_and_can_be_read(browser, explorables, name, tmp_path):
    for width, theme in ((360, "light"), (1000, "dark"), (1440, "light")):
        with shown(browser, explorables[name], tmp_path, width, theme) as page:
            page.evaluate("window.model.get('H_cycle') === undefined || window.model.set('H_cycle', 2)")
            page.wait_for_timeout(600 if name in ("map", "pieces") else 50)
            settled(page)
            assert page.evaluate(NAMES) == [] and outside(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            sizes = page.locator(".trc-axes text").evaluate_all("all => all.map((each) => parseFloat(getComputedStyle(each).fontSize))")
            assert min(sizes, default=11) >= 11
            text, lines = page.evaluate(CONTRASTS)
            assert text >= 4.5 and lines >= 3
            page.screenshot(path=lab.SCREENSHOTS / f"{name}_{theme}_{width}.png", full_page=True)


@pytest.mark.parametrize("name", SHOWN)
def test_every_control_works_by_the_keyboard_and_nothing_leaves_its_axes(browser, explorables, name, tmp_path):
    with shown(browser, explorables[name], tmp_path) as page:
        lab.work(page.locator("section.trc"), page.keyboard)
        settled(page)
        assert outside(page) == []
