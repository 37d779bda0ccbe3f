"""The explorables in a page without a kernel: by mouse, touch and keyboard; their numbers are PyTorch's."""

import re

import pytest
import torch

from tests.integration.other_systems import CASES, network
from tests.system.browser import lab
from tests.system.browser.page import outside, settled, shown
from trc_lib import problems
from trc_lib.course import widgets
from trc_lib.course.interventions import SWITCHES, refine
from trc_lib.data import generate_dataset
from trc_lib.evaluation import final_error
from trc_lib.model import TinyRecursiveControl

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


def _state(page, *names):
    return [page.evaluate(f"window.model.get('{name}')") for name in names]


def _error(model, page, switch="as trained"):
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
        handle, frame = page.locator(".trc-handle.start"), page.locator(".trc-panel svg .trc-frame").first.bounding_box()
        for share in ((0.3, 0.4), (0.45, 0.75), (0.62, 0.35)):
            box = handle.bounding_box()
            page.mouse.move(box["x"] + 22, box["y"] + 22)
            page.mouse.down()
            place = [frame["x"] + share[0] * frame["width"], frame["y"] + share[1] * frame["height"]]
            page.mouse.move(*place, steps=5)
            page.mouse.up()
            settled(page)
            box = handle.bounding_box()
            assert [box["x"] + 22, box["y"] + 22] == pytest.approx(place, abs=1.5)
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
        assert "After cycle 10, trained for 3" in settled(page)
        page.get_by_role("button", name="back").focus()
        page.keyboard.press("Enter")
        settled(page)
        assert _state(page, "H_cycle") == [9]
        page.get_by_label("sample, worst first").focus()
        page.keyboard.press("End")
        settled(page)
        (sample, start, target) = _state(page, "sample", "start", "target")
        assert start == data.initial_states[sample].tolist() and target == data.target_states[sample].tolist()


def test_by_touch_on_a_phone(browser, tmp_path):
    model, data = _shipped("proportional_root")
    with shown(browser, widgets.microscope(model, data), tmp_path, width=360, has_touch=True, is_mobile=True) as page:
        handle = page.locator(".trc-handle.target")
        handle.scroll_into_view_if_needed()
        box, session = handle.bounding_box(), page.context.new_cdp_session(page)
        x, y = box["x"] + 22, box["y"] + 22
        (before,) = _state(page, "target")
        session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
        for k in range(1, 6):
            session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x + 4 * k, "y": y + 8 * k}]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        settled(page)
        (after,) = _state(page, "target")
        assert after[0] > before[0] and after[1] < before[1]
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        sizes = page.locator(".trc button, .trc input, .trc select").evaluate_all(
            "all => all.map((each) => each.getBoundingClientRect().height)")
        assert min(sizes) >= 24  # WCAG 2.2, target size


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
        assert "it needs the running notebook: run this cell again" in page.evaluate("window.failed")


NAMES = """() => [...document.querySelectorAll('.trc button, .trc input, .trc select, .trc [role=img]')].filter((each) =>
  !(each.getAttribute('aria-label') || each.labels?.length || each.textContent.trim())).map((each) => each.outerHTML)"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1000, 1440])
def test_everything_has_a_name_and_fits(browser, theme, width, tmp_path):
    model, data = _shipped("proportional_root")
    with shown(browser, widgets.microscope(model, data), tmp_path, width, theme) as page:
        page.evaluate("window.model.set('H_cycle', 2)")
        settled(page)
        assert page.evaluate(NAMES) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        sizes = page.locator(".trc-axes text").evaluate_all("all => all.map((each) => parseFloat(getComputedStyle(each).fontSize))")
        assert min(sizes) >= 11
        page.screenshot(path=lab.SCREENSHOTS / f"microscope_{theme}_{width}.png", full_page=True)
