"""A JupyterLab on this machine, and a Chromium that looks at it."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

from playwright.sync_api import sync_playwright

from tests import ROOT
from tests.system import packages

SCREENSHOTS = ROOT / "runs" / "screenshots"
CONFIG = {"jupyter_lab_config.json": {"LabApp": {"expose_app_in_browser": True}},
          "labconfig/default_setting_overrides.json": {
              "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}}}
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]


def chromium():
    """The path of a Chromium, installed by apt if it is missing and may be; None if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        packages.install("chromium", "fonts-dejavu-core")
        found = shutil.which("chromium")
    return found


def copy_course(folder):
    """The course's notebooks, set to the smoke lane, and its results, in a folder of their own."""
    for name in ("notebooks", "data/pretrained", "data/results"):
        shutil.copytree(ROOT / name, folder / name)
    for path in (folder / "notebooks").glob("*.ipynb"):
        text = path.read_text(encoding="utf-8").replace('lane = \\"cpu\\"', 'lane = \\"smoke\\"')
        path.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def server(folder):
    """What `make lab` opens, of the course in ``folder``; gives the address of its welcome page and the file of its log.

    Pages have the application as ``window.jupyterapp``, and notebooks draw all their cells at once.
    """
    (folder / "config" / "labconfig").mkdir(parents=True)
    for name, contents in CONFIG.items():
        (folder / "config" / name).write_text(json.dumps(contents))
    log = folder / "lab.log"
    with open(log, "w") as stream:
        places = {"TRC_FOLDER": str(folder), "JUPYTER_CONFIG_PATH": str(folder / "config")}
        running = subprocess.Popen([sys.executable, "-m", "trc_lib", "lab", "--no-browser"], env=os.environ | places,
                                   stdout=stream, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 90
        while not (found := re.search(r"http://\S+", log.read_text())):
            assert running.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield found[0], log
    finally:
        running.terminate()
        running.wait(timeout=20)


@contextlib.contextmanager
def browser(path):
    """A headless Chromium, in a home of its own: it keeps reports of crashes there."""
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, args=QUIET, env=os.environ | {"HOME": home})
        try:
            yield made
        finally:
            made.close()


RAW = r"""() => [...document.querySelectorAll('.jp-MarkdownCell .jp-RenderedMarkdown')].flatMap(cell => {
    const missing = [...cell.querySelectorAll('img')].filter(each => each.complete && !each.naturalWidth);
    const copy = cell.cloneNode(true);
    copy.querySelectorAll('code, pre, mjx-container').forEach(each => each.remove());
    const texts = [...copy.querySelectorAll('*')].flatMap(each => [...each.childNodes]).filter(each => each.nodeType === 3);
    return [...texts.map(each => each.data).filter(text => /[`$\\]|\*\*|<\/?[a-z]+>/.test(text)),
            ...missing.map(each => each.src), ...[...cell.querySelectorAll('mjx-merror')].map(each => each.textContent)]; })"""


class Notebook:
    """A notebook in JupyterLab in a page, with all its cells run, or as it is stored."""

    def __init__(self, made, address, name, width=1300, run=True):
        self.page, self.errors, self.name = made.new_page(viewport={"width": width, "height": 1000}), [], name
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{address.replace('README.md', f'{name}.ipynb')}&reset", wait_until="domcontentloaded")
        self.page.wait_for_selector(".jp-Notebook", timeout=60_000)
        self.page.evaluate("""async (run) => {
            const app = window.jupyterapp; await app.restored;
            while (!(app.shell.currentWidget && app.shell.currentWidget.context)) await new Promise(r => setTimeout(r, 50));
            await app.shell.currentWidget.context.ready; await app.shell.currentWidget.sessionContext.ready;
            if (!app.shell.leftCollapsed) await app.commands.execute('application:toggle-left-area');
            if (run) await app.commands.execute('notebook:run-all-cells'); }""", run)

    def failed_outputs(self):
        """What the page shows of errors and of the standard error stream."""
        kinds = ("application/vnd.jupyter.error", "application/vnd.jupyter.stderr")
        shown = [text for kind in kinds for text in self.page.locator(f'[data-mime-type="{kind}"]').all_inner_texts()]
        return [text for text in shown if "it/s" not in text and "step/s" not in text]  # a progress bar is no error

    def raw_signs(self):
        """Texts of the notebook that show signs of Markdown or TeX, and its pictures that are missing."""
        return self.page.evaluate(RAW)

    def explorables(self):
        """Those that compute in the page, all drawn."""
        sections = self.page.locator(".jp-OutputArea-output section.trc")
        sections.first.wait_for(state="attached", timeout=60_000)  # a busy machine takes its time
        self.page.wait_for_timeout(500)
        found = sections.all()
        for one in found:
            one.scroll_into_view_if_needed()
            one.and_(self.page.locator("[data-drawn]")).wait_for(timeout=20_000)
        return found

    def save(self):
        """Save the notebook; whether nothing is left unsaved."""
        self.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
        return not self.page.evaluate("window.jupyterapp.shell.currentWidget.context.model.dirty")


SEEN = """section => [section.innerText, ...[...section.querySelectorAll('path')].map(each => each.getAttribute('d')),
    ...[...section.querySelectorAll('canvas')].map(each => each.toDataURL()),
    ...[...section.querySelectorAll('img')].map(each => each.src)].join()"""


def changed_after(section, act, timeout=3000):
    """Do something; whether the explorable shows something else then, and no error."""
    before = section.evaluate(SEEN)
    act()
    deadline = time.monotonic() + timeout / 1000
    section.page.wait_for_timeout(30)
    while section.evaluate(SEEN) == before and time.monotonic() < deadline:
        section.page.wait_for_timeout(30)
    assert "trc-failed" not in section.get_attribute("class"), section.locator(".trc-says").inner_text()
    return section.evaluate(SEEN) != before


WORKED = {"input[type=range]": ["End", "Home", "ArrowRight"], "select": ["ArrowDown"],
          ".trc-handle": ["ArrowRight", "ArrowLeft", "ArrowUp"], ".trc-button": ["Enter"]}


def work(section, keyboard):
    """Work every control of an explorable by its keys."""
    for kind, keys in WORKED.items():
        for control in section.locator(kind).all():
            if not control.is_visible():
                continue
            changed = []
            for key in keys:
                control.focus()
                changed.append(changed_after(section, lambda key=key: keyboard.press(key), 600 if kind != ".trc-button" else 200))
            name = control.get_attribute("aria-label") or control.get_attribute("id") or control.inner_text()
            assert any(changed) or kind == ".trc-button", f"{name}: nothing changed after {', '.join(keys)}"
