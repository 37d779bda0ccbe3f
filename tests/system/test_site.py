"""The course's website, read in a Chromium that has no network.

`toy` is a site of one small notebook, whose widgets answer what the course's own may leave open.
"""

import base64
import dataclasses
import html.parser
import json
import os
import re
import urllib.parse
import zlib

import pytest
import torch

pytest.importorskip("playwright", reason="make test installs playwright")
pytest.importorskip("myst_nb", reason="make test installs Sphinx and its extensions")

from playwright.sync_api import sync_playwright

from docs.site.build import STATE, VIEW, build, widget_outputs
from tests import ROOT
from tests.system.browser import lab
from tests.system.browser.page import served, settled
from trc_lib.model import TinyRecursiveControl

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")  # Sphinx's, of its extensions
ALONE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
LARGEST = 3e6  # bytes that a page may load at its start
SLOWEST = 2000  # milliseconds until a page is interactive

COUNTER = """
function render({model, el}) {
  const button = document.createElement("button");
  const show = () => { button.textContent = `count ${model.get("count")}`; };
  button.onclick = () => { model.set("count", model.get("count") + 1); model.save_changes(); };
  model.on("change:count", show);
  show();
  el.append(button);
}
export default { render };
"""
BYTES = """
function initialize({model}) { model.set("sum", model.get("network").getUint8(0) + model.get("network").getUint8(1)); }
function render({model, el}) { el.textContent = `sum ${model.get("sum")}`; }
export default { initialize, render };
"""
BROKEN = "export default { render() { throw new Error('no such thing'); } };"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "site"
    assert build(folder) == 0
    return folder


@pytest.fixture(scope="module")
def address(site):
    with served(site) as address:
        yield address


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    path = lab.chromium()
    if path is None:
        pytest.skip("needs a Chromium: as root, apt-get install chromium fonts-dejavu-core")
    home = str(tmp_path_factory.mktemp("home"))
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, args=[*lab.QUIET, ALONE], env=os.environ | {"HOME": home})
        yield made
        made.close()


@pytest.fixture
def page(chromium):
    made = chromium.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    yield made
    made.close()


# ---------------------------------------------------------------- a toy with widgets


def any_model(esm, buffers=(), **state):
    return {"model_name": "AnyModel", "model_module": "anywidget",
            "state": {"_esm": esm, "_css": "button { color: rgb(1, 2, 3); }", "_anywidget_id": "toy", **state},
            "buffers": [{"encoding": "base64", "path": ["network"], "data": base64.b64encode(each).decode()}
                        for each in buffers]}


def png(width, height):
    """A white picture."""
    def chunk(kind, content):
        return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)

    head = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 0, 0, 0, 0])
    rows = zlib.compress((b"\0" + b"\xff" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


PNG = base64.b64encode(png(300, 100)).decode()


def widget_cell(model, text, picture=PNG):
    data = {VIEW: {"model_id": model}, "text/plain": text} | ({"image/png": picture} if picture else {})
    return {"cell_type": "code", "execution_count": 1, "id": re.sub(r"\W", "-", text[:20]), "metadata": {}, "source": "show()",
            "outputs": [{"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": data}]}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The address of a site whose one chapter has anywidgets and a widget whose kernel draws."""
    root = tmp_path_factory.mktemp("toy")
    for name in ("notebooks", "figures"):
        (root / name).mkdir()
    (root / "README.md").write_text("# Toy\n\n![a picture](figures/a.png)\n\n*Its caption.*\n\n"
                                    "The [chapter](notebooks/08_bounded_inputs.ipynb), and [code](trc_lib/io.py).\n")
    (root / "figures" / "a.png").write_bytes(png(3, 3))
    state = {"counter": any_model(COUNTER, count=3), "bytes": any_model(BYTES, [bytes([40, 2])], network=None),
             "broken": any_model(BROKEN),
             "shell": {"model_name": "VBoxModel", "state": {"children": ["IPY_MODEL_slider", "IPY_MODEL_image"]}},
             "slider": {"model_name": "FloatSliderModel", "state": {}},
             "bar": {"model_name": "HBoxModel", "state": {"children": []}},
             "image": {"model_name": "ImageModel", "state": {},
                       "buffers": [{"encoding": "base64", "path": ["value"], "data": PNG}]}}
    cells = [{"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# 7 · Toy\n\nSee $x^2$."},
             widget_cell("counter", "a counter"), widget_cell("counter", "its second view"),
             widget_cell("bytes", "two bytes"), widget_cell("broken", "one that fails"),
             widget_cell("shell", "Shell(children=(FloatSlider(value=0.0), Image(value=b'')))", picture=None),
             widget_cell("bar", "training:   0%|", picture=None)]
    notebook = {"cells": cells, "nbformat": 4, "nbformat_minor": 5,
                "metadata": {"language_info": {"name": "python", "pygments_lexer": "ipython3"},
                             "widgets": {STATE: {"state": state, "version_major": 2, "version_minor": 0}}}}
    (root / "notebooks" / "08_bounded_inputs.ipynb").write_text(json.dumps(notebook))
    assert build(root / "site", root=root, repository="https://example.org/course") == 0
    with served(root / "site") as address:
        yield address


def test_an_anywidget_works_without_a_kernel_in_both_of_its_views(toy, page):
    page.goto(f"{toy}/notebooks/08_bounded_inputs.html")
    page.locator(".explorable button").nth(1).wait_for()
    first, second = page.locator(".explorable button").all()
    first.click()
    assert first.inner_text() == second.inner_text() == "count 4"
    assert first.evaluate("button => getComputedStyle(button).color") == "rgb(1, 2, 3)"
    assert not page.get_by_alt_text("a counter").is_visible()


def test_an_anywidget_reads_its_binary_traits(toy, page):
    page.goto(f"{toy}/notebooks/08_bounded_inputs.html")
    page.get_by_label("two bytes").scroll_into_view_if_needed()
    page.get_by_text("sum 42").wait_for()


def test_a_widget_that_fails_leaves_its_picture_and_says_so(toy, page):
    page.goto(f"{toy}/notebooks/08_bounded_inputs.html")
    page.get_by_alt_text("one that fails").scroll_into_view_if_needed()
    page.get_by_text("This picture stays still: no such thing").wait_for()
    assert page.get_by_alt_text("one that fails").is_visible()


def test_a_widget_whose_kernel_draws_shows_its_last_picture(toy, page):
    page.goto(f"{toy}/notebooks/08_bounded_inputs.html")
    assert page.locator("figure", has_text="only in JupyterLab").locator("img").count() == 1
    text = page.locator("article").inner_text()
    assert "Shell(" not in text and "training:" not in text


def test_the_front_page_has_a_living_explorable_in_its_first_screen(toy, page):
    page.goto(f"{toy}/index.html")
    button = page.get_by_text("count 3")
    button.wait_for()
    assert button.bounding_box()["y"] < 600 and page.get_by_text("Its caption").count() == 0


def test_a_link_to_a_file_that_is_no_page_leads_to_the_repository(toy, page):
    page.goto(f"{toy}/index.html")
    assert (page.get_by_role("link", name="code").get_attribute("href")
            == "https://example.org/course/blob/main/trc_lib/io.py")


def test_a_folder_that_holds_something_else_is_not_replaced(tmp_path):
    (tmp_path / "mine").write_text("work")
    with pytest.raises(ValueError, match="not replaced"):
        build(tmp_path)
    assert (tmp_path / "mine").exists()


# ---------------------------------------------------------------- the course


CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))


def pages_of(site):
    pages = sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)  # the theme's templates
    assert len(pages) > 30
    return pages


@dataclasses.dataclass
class Visit:
    """What happened when a page was opened."""

    requests: list
    failures: list
    bytes: int  # with what was in the browser's cache
    milliseconds: float  # until the page was interactive
    widths: dict  # the page's width in windows of several widths


@pytest.fixture(scope="module")
def visits(site, address, chromium):
    """A visit to every page, by its name."""
    page = chromium.new_page()
    page.context.new_cdp_session(page).send("Network.setCacheDisabled", {"cacheDisabled": True})
    requests, failures, made = [], [], {}
    page.on("request", lambda request: requests.append(request.url))
    page.on("requestfailed", lambda request: failures.append(request.url))
    page.on("response", lambda response: response.status < 400 or failures.append(response.url))
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("console", lambda message: message.type == "error" and failures.append(message.text))
    for name in [path.relative_to(site).as_posix() for path in pages_of(site)]:
        requests.clear(), failures.clear()
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(f"{address}/{name}")
        if page.locator(".explorable").count():
            page.wait_for_load_state("networkidle")
        size, ready = page.evaluate("""() => {
            const [start] = performance.getEntriesByType('navigation');
            const loaded = [start, ...performance.getEntriesByType('resource')];
            return [loaded.reduce((sum, each) => sum + each.encodedBodySize, 0), start.domContentLoadedEventEnd]; }""")
        widths = {}
        for width in (360, 1000):
            page.set_viewport_size({"width": width, "height": 800})
            widths[width] = page.evaluate("""async () => {  // drawers of the theme slide to their places, a busy machine's late
                for (const last = performance.now() + 3000; performance.now() < last;) {
                    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
                    const slides = document.getAnimations().filter(each => each instanceof CSSTransition);
                    await Promise.allSettled(slides.map(each => each.finished));
                    if (!slides.length && document.documentElement.scrollWidth <= innerWidth) break;
                }
                return document.documentElement.scrollWidth; }""")
        made[name] = Visit([*requests], [*failures], size, ready, widths)
    page.close()
    return made


class Page(html.parser.HTMLParser):
    """The anchors of a page, and what it links to and loads."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links = set(), set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.anchors.add(value)
            elif name in ("href", "src", "data-state") and value:
                self.links.add(value)


def test_every_link_and_anchor_of_the_site_exists(site):
    pages = {path: Page(path) for path in pages_of(site)}
    broken = []
    for path, read in pages.items():
        for link in read.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            anchor = urllib.parse.unquote(parts.fragment)
            if not target.is_file() or (anchor and anchor not in pages[target].anchors):
                broken.append((path.name, link))
    assert not broken


def test_no_page_loads_anything_from_elsewhere_or_in_vain(visits, address):
    outside = {url for visit in visits.values() for url in visit.requests
               if not url.startswith((f"{address}/", "data:", "blob:"))}
    assert not outside and not {name: visit.failures for name, visit in visits.items() if visit.failures}


def test_no_page_is_large_or_slow(visits):
    assert {name: visit.bytes for name, visit in visits.items() if not 10_000 < visit.bytes < LARGEST} == {}
    assert {name: visit.milliseconds for name, visit in visits.items() if visit.milliseconds > SLOWEST} == {}


def test_no_page_is_wider_than_its_window(visits):
    assert {name: visit.widths for name, visit in visits.items()
            if any(found > width for width, found in visit.widths.items())} == {}


def test_no_page_shows_a_widget_as_text_or_a_formula_as_tex(site):
    for path in pages_of(site):
        shown = re.sub(r"<(script|style)\b.*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.S)
        assert not re.search(r"Shell\(children|Output\(\)|<merror", shown), path.name
        for formula in re.findall(r"<math.*?</math>", shown, flags=re.S):
            assert "\\" not in formula, formula


def test_every_widget_of_the_course_has_a_picture(site):
    """Of the explorables each, and of what the kernel draws all but sliders and progress bars."""
    for name in CHAPTERS:
        notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
        outputs = [output["data"] for _, output in widget_outputs(notebook)]
        states = notebook["metadata"]["widgets"][STATE]["state"]
        alive = [each for each in outputs if states[each[VIEW]["model_id"]]["model_name"] == "AnyModel"]
        assert alive and all("image/png" in each for each in alive), name
        page = (site / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        assert len(re.findall(r'<figure class="widget"><img [^>]*alt="[^"]{10,}', page)) >= len(alive), name
        assert page.count("data-state=") == len(alive), name


def test_every_chapter_says_where_it_is_and_how_to_run_it(address, page):
    page.goto(f"{address}/notebooks/02_dataset.html")
    line = page.locator(".chapter-line").inner_text()
    assert line.startswith("Chapter 2 of 12") and "make lab" in line
    link = page.locator(".chapter-line a").get_attribute("href")
    assert link == "http://localhost:8888/lab/tree/02_dataset.ipynb"


def test_cells_of_claims_are_folded(address, page):
    page.goto(f"{address}/notebooks/01_teacher.html")
    claim = page.get_by_text("assert miss_optimum < 1e-9").first
    assert claim.count() == 1 and not claim.is_visible()


def test_search_finds_a_word(address, page):
    page.goto(f"{address}/search.html?q=quadrotor")
    page.locator("#search-results li a").first.wait_for()
    assert any("Your own system" in each for each in page.locator("#search-results li a").all_inner_texts())


def test_dark_mode_is_switched_and_kept(address, page):
    page.goto(f"{address}/notebooks/01_teacher.html")
    page.get_by_role("button", name="Color mode").first.click()
    page.locator(".theme-change-button:visible[data-mode=dark]").click()
    page.goto(f"{address}/notebooks/02_dataset.html")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 18, 18)"


def test_next_and_previous_lead_through_the_chapters(address, page):
    page.goto(f"{address}/index.html")
    for chapter in ("01_teacher", "02_dataset"):
        page.locator(".prev-next-footer .right-next").click()
        page.wait_for_url(f"**/{chapter}.html")
    page.locator(".prev-next-footer .left-prev").click()
    page.wait_for_url("**/01_teacher.html")


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_explorable_of_a_chapter_lives_without_a_kernel(name, address, page):
    page.goto(f"{address}/notebooks/{name}.html")
    for one in page.locator(".explorable").all():
        one.scroll_into_view_if_needed()
        one.locator("section.trc[data-drawn]").wait_for(timeout=20_000)
        assert page.locator(".explorable.failed, .trc-failed").count() == 0
        assert not one.locator("xpath=..").locator("> img").is_visible()  # the still picture made room


def test_the_microscope_of_the_front_page_is_dragged_and_says_what_pytorch_says(address, page):
    page.goto(f"{address}/index.html")
    page.locator("section.trc[data-drawn]").wait_for(timeout=20_000)
    assert page.locator("section.trc").bounding_box()["y"] < 900  # in the first screen
    handle = page.locator(".trc-handle.start")
    handle.scroll_into_view_if_needed()
    before, box = settled(page), handle.bounding_box()
    page.mouse.move(box["x"] + 22, box["y"] + 22)
    page.mouse.down()
    page.mouse.move(box["x"] + 62, box["y"] - 18, steps=4)
    page.mouse.up()
    page.get_by_label("H cycle").focus()
    page.keyboard.press("ArrowRight")
    assert settled(page) != before and "After cycle 1" in settled(page)
    place = page.locator(".trc-handle").evaluate_all("all => all.map((each) => each.getAttribute('aria-valuetext'))")
    (start, target) = ([float(number.replace("−", "-")) for number in re.findall(r"(−?[\d.]+) m", each)] for each in place)
    model = TinyRecursiveControl.load(ROOT / "data/pretrained/laboratory/bounded_pretrained_mse.pt")
    states = (torch.tensor([state], dtype=torch.float64) for state in (start, target))
    controls = model.predict(*(state.float() for state in states), 1)["controls"][0].double()
    end = model.system.rollout(torch.tensor(start, dtype=torch.float64), controls)[-1]
    error = (end - torch.tensor(target, dtype=torch.float64)).norm().item()
    said_error = float(re.search(r"end ([\d.]+)", settled(page))[1])
    assert said_error == pytest.approx(error, abs=0.004)  # the places are said to three digits
