"""From a key press to the new picture, for every widget, in a real browser: ``make bench-widgets``.

Writes data/results/widgets.json and prints a table; `interactive_output` with a fresh figure is the yardstick.
"""

import pathlib
import statistics
import sys
import tempfile

import nbformat

from tests.system.browser import lab
from trc_lib import io

PRESSES = 30
WIDGETS = {  # name: (what makes it, the sliders to press on)
    "control playground": ("widgets.playground()", ["u at 0.0 s"]),
    "teacher explorer": ("widgets.teacher_explorer()", ["start position", "dt (s)"]),
    "dataset browser": ("widgets.dataset_browser(problems)", ["place"]),
    "microscope, new problem": ("widgets.microscope(model, problems)", ["start position"]),
    "microscope, step": ("widgets.microscope(model, problems)", ["L step", "H cycle"]),
    "time machine, new problem": ("widgets.time_machine(course.pretrained(), snapshots)", ["start position"]),
    "time machine, step": ("widgets.time_machine(course.pretrained(), snapshots)", ["H cycle"]),
    "error map": ("widgets.error_map(model)", ["target position"]),
    "yardstick: interactive_output": ("yardstick()", ["position"]),
}
SETUP = """
import ipywidgets, matplotlib.pyplot as plt, torch
from trc_lib import course
from trc_lib.course import plots, widgets
from trc_lib.data import generate_dataset
from trc_lib.teachers import MinimumEnergyController
model, problems = course.pretrained(), generate_dataset(2_000, seed=1)
snapshots = {epoch: course.pretrained().state_dict() for epoch in range(6)}

def yardstick():
    teacher = MinimumEnergyController()
    slider = ipywidgets.FloatSlider(min=-2.5, max=2.5, step=0.1, description="position")

    def show(position):
        u = teacher.solve([position, 0], [1, 0])
        states = teacher.system.rollout(torch.tensor([position, 0]).double(), u)
        figure, axes = plt.subplots(1, 3, figsize=(12, 3.9))
        axes[0].stairs(u[:, 0], baseline=None)
        axes[1].plot(states[:, 0])
        axes[2].plot(*states.T)
        plt.show()

    return ipywidgets.VBox([ipywidgets.HBox([slider]), ipywidgets.interactive_output(show, {"position": slider})])
"""
TIME_TO_NEW_IMAGE = """root => { root.changed = new Promise(resolve => {
    const started = {};
    window.addEventListener('keydown', () => { started.at ??= performance.now(); }, {once: true, capture: true});
    const done = () => { seen.disconnect(); resolve(performance.now() - started.at); };
    const look = image => image.complete ? done() : image.addEventListener('load', done, {once: true});
    const seen = new MutationObserver(changes => { for (const change of changes) {
        if (change.type === 'attributes' && change.target.tagName === 'IMG') return look(change.target);
        for (const node of change.addedNodes) { const image = node.querySelector?.('img') || (node.tagName === 'IMG' && node);
            if (image) return look(image); } } });
    seen.observe(root, {subtree: true, childList: true, attributes: true, attributeFilter: ['src']}); }); }"""


def press(page, box, slider):
    """Milliseconds from an arrow key on a slider to the new picture, for a number of presses back and forth."""
    taken = []
    for k in range(PRESSES + 3):  # two steps one way, two back, since some sliders are short; the first three warm up
        slider.focus()
        box.evaluate(TIME_TO_NEW_IMAGE)
        page.keyboard.press("ArrowRight" if k % 4 < 2 else "ArrowLeft")
        taken.append(box.evaluate("root => Promise.race([root.changed, new Promise(r => setTimeout(() => r(null), 5000))])"))
    return [value for value in taken[3:] if value is not None]


def main():
    path = lab.chromium()
    if path is None:
        sys.exit("needs a Chromium: as root, apt-get install chromium fonts-dejavu-core")
    measured = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        lab.copy_course(folder)
        cells = [nbformat.v4.new_code_cell(source) for source in (SETUP, *(make for make, _ in WIDGETS.values()))]
        kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
        bench = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec})
        nbformat.write(bench, folder / "notebooks" / "bench.ipynb")
        with lab.server(folder) as (address, _), lab.browser(path) as browser:
            notebook = lab.Notebook(browser, address, "bench")
            outputs = notebook.page.locator(".jp-OutputArea-output .widget-vbox:has(> .widget-hbox)").all()
            for (name, (_, labels)), box in zip(WIDGETS.items(), outputs, strict=True):
                box.scroll_into_view_if_needed()
                taken = []
                for label in labels:
                    taken += press(notebook.page, box, box.locator(f".widget-slider:has-text('{label}') .noUi-handle").first)
                median, p90 = round(statistics.median(taken)), round(statistics.quantiles(taken, n=10)[-1])
                measured[name] = {"presses": len(taken), "median_ms": median, "p90_ms": p90}
                print(f"{name:32s} median {median:4d} ms   90 % within {p90:4d} ms", flush=True)
    io.write_json(lab.ROOT / "data" / "results" / "widgets.json", measured)


if __name__ == "__main__":
    main()
