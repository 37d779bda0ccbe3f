"""Every notebook in a real JupyterLab in a real browser: all cells run, every control of every widget worked by keyboard."""

import pathlib

import pytest

from tests.system.browser import lab

NOTEBOOKS = sorted(path.stem for path in (lab.ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = lab.chromium()
    if path is None:
        pytest.skip("needs a Chromium: as root, apt-get install chromium fonts-dejavu-core")
    folder = tmp_path_factory.mktemp("course")
    lab.copy_course(folder)
    lab.SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with lab.server(folder) as (address, log), lab.browser(path) as browser:
        yield browser, address, log


def _drag(section, page):
    """Drag the first handle by the mouse, if there is one that can be seen."""
    handles = [each for each in section.locator(".trc-handle:not(.step)").all() if each.is_visible()]
    if not handles:
        return
    handle = handles[0]
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def act():
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 30, y - 24, steps=4)
        page.mouse.up()

    assert lab.changed_after(section, act), handle.get_attribute("aria-label")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_its_widgets_work_by_keyboard(made, name):
    browser, address, log = made
    notebook = lab.Notebook(browser, address, name)
    try:
        explorables = notebook.explorables()
        assert explorables, "no widget is shown"
        for number, section in enumerate(explorables):
            lab.work(section, notebook.page.keyboard)
            _drag(section, notebook.page)
            section.screenshot(path=lab.SCREENSHOTS / f"{name}_live_{number}.png")
        assert notebook.failed_outputs() == [] and notebook.raw_signs() == [] and notebook.errors == []
        assert notebook.save()
        assert "Traceback" not in pathlib.Path(log).read_text()
    finally:
        notebook.page.close()


def test_the_welcome_page_opens_as_a_page_and_leads_to_a_trusted_chapter(made):
    browser, address, log = made
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    try:
        page.goto(f"{address}&reset", wait_until="domcontentloaded")
        start = page.locator(".jp-MarkdownViewer a", has_text="Open chapter 1")
        start.wait_for(timeout=60_000)
        page.evaluate("window.jupyterapp.restored")
        page.wait_for_timeout(1000)  # prompts come now
        shown = page.locator(".jp-MarkdownViewer img").evaluate_all("pictures => pictures.map(one => one.naturalWidth)")
        assert len(shown) == 13 and all(shown)
        page.screenshot(path=lab.SCREENSHOTS / "welcome.png")
        start.click()
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
        trusted = page.evaluate("""async () => { const shown = window.jupyterapp.shell.currentWidget;
            await shown.context.ready; await shown.sessionContext.ready;
            return [...shown.content.model.cells].filter(one => one.type === 'code').map(one => one.trusted); }""")
        assert len(trusted) > 5 and all(trusted)
        page.wait_for_timeout(2000)
        assert not page.evaluate("window.jupyterapp.shell.currentWidget.context.model.dirty")  # nothing to be saved
        assert page.locator(".jp-Dialog, .Toastify__toast").count() == 0
        page.screenshot(path=lab.SCREENSHOTS / "chapter.png")
        lines = pathlib.Path(log).read_text().splitlines()
        assert [line for line in lines if "http" in line] == [line for line in lines if "The course is open at" in line]
    finally:
        page.close()


def test_a_slider_of_ipywidgets_steps_through_the_cycles_of_the_microscope(made):
    browser, address, _ = made
    notebook = lab.Notebook(browser, address, "03_model", width=1000)
    try:
        (scope,) = notebook.explorables()
        slider = notebook.page.locator(".jp-OutputArea-output .widget-hslider .noUi-handle").first
        for press, said in (("ArrowRight", "After cycle 1, "), ("ArrowRight", "After cycle 2, "), ("Home", "First proposal, ")):
            slider.focus()
            assert lab.changed_after(scope, lambda press=press: notebook.page.keyboard.press(press))
            assert scope.locator(".trc-says").inner_text().startswith(said)
        box = scope.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 1000
    finally:
        notebook.page.close()


def test_the_explorables_of_a_stored_notebook_live_before_any_cell_is_run_also_in_the_dark(made):
    browser, address, _ = made
    notebook = lab.Notebook(browser, address, "08_bounded_inputs", run=False)
    try:
        notebook.page.locator("section.trc[data-drawn]").nth(1).wait_for(timeout=20_000)
        scope, pieces = notebook.explorables()
        notebook.page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
        for section in (scope, pieces):
            before = section.locator(".trc-says").inner_text()
            section.locator(".trc-handle").first.focus()
            assert lab.changed_after(section, lambda: notebook.page.keyboard.press("ArrowRight"))
            assert section.locator(".trc-says").inner_text() != before
        notebook.page.wait_for_function("getComputedStyle(document.querySelector('.trc')).backgroundColor === 'rgb(21, 24, 28)'")
        scope.screenshot(path=lab.SCREENSHOTS / "stored_dark.png")
        assert notebook.errors == []
    finally:
        notebook.page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")
        notebook.page.close()
