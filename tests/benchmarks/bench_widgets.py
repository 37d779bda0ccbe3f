"""From a finger's move to the new picture, for every explorable, in a real browser without a kernel: ``make bench-widgets``.

Writes data/results/widgets.json and prints a table; and how long one refinement takes in JavaScript.
"""

import math
import pathlib
import sys
import tempfile

import torch

from tests.system.browser import lab
from tests.system.browser.page import served, shown
from trc_lib import course, io, problems, web
from trc_lib.course import widgets
from trc_lib.data import generate_dataset
from trc_lib.model import TinyRecursiveControl

LABORATORY = lab.ROOT / "data" / "pretrained" / "laboratory"
CASES = {"proportional_root": problems.double_integrator, "bounded_pretrained_mse": problems.bounded_inputs,
         "van_der_pol_gradient": problems.weak_van_der_pol}
# Notes the milliseconds from a pointer's move, by the browser's own clock, to the new picture, and those of its frames.
WATCH = """() => {
  const root = document.querySelector('.trc');
  Object.assign(window, { taken: [], computing: [], frames: [], moved: null });
  window.addEventListener('pointermove', (event) => { window.moved ??= event.timeStamp; }, true);
  new MutationObserver(() => {
    if (window.moved !== null) window.taken.push(performance.now() - window.moved);
    window.computing.push(Number(root.dataset.milliseconds));
    window.frames.push(performance.now());
    window.moved = null;
  }).observe(root, { attributes: true, attributeFilter: ['data-drawn'] });
}"""
MOVES = 150


def drag(page):
    """Drag the first handle round in circles for two seconds or more."""
    handle = page.locator(".trc-handle").first
    handle.scroll_into_view_if_needed()
    place, frame = handle.bounding_box(), handle.locator("xpath=..").locator(".trc-frame").bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    page.mouse.down()
    page.evaluate(WATCH)
    for k in range(MOVES):
        page.mouse.move(frame["x"] + frame["width"] * (0.5 + 0.3 * math.cos(k / 20)),
                        frame["y"] + frame["height"] * (0.5 + 0.3 * math.sin(k / 20)))
    page.mouse.up()
    return page.evaluate("({ taken: window.taken.slice(5), computing: window.computing.slice(5), frames: window.frames.slice(5) })")


REFINE = """async (x0) => {
  const { read_network } = await import('/web/files.js'), { TinyRecursiveControl } = await import('/web/recursion.js');
  const net = new TinyRecursiveControl(await read_network(await (await fetch('/network.trcw')).arrayBuffer()));
  const [start, target, taken] = [Float64Array.from(x0), new Float64Array(x0.length), []];
  for (let k = 0; k < 220; k++) {
    const at = performance.now();
    for (let i = 0; i < 5; i++) net.recursive_reasoning(start, target, net.config.H_cycles);
    taken.push((performance.now() - at) / 5);
  }
  return taken.slice(20);
}"""


def explorables():
    """Each of them by name."""
    made = {}
    for name, make in CASES.items():
        model, data = TinyRecursiveControl.load(LABORATORY / f"{name}.pt"), make().dataset(64, seed=1)
        made[f"microscope, {name}"] = widgets.microscope(model, data)
    model = TinyRecursiveControl.load(LABORATORY / "proportional_root.pt")
    snapshots = {epoch: course.pretrained().state_dict() for epoch in range(6)}
    bounded = problems.bounded_inputs().teacher
    oscillator = TinyRecursiveControl.load(LABORATORY / "van_der_pol_gradient.pt")
    return made | {
        "steer it yourself": widgets.playground(), "teacher explorer": widgets.teacher_explorer(),
        "dataset browser": widgets.dataset_browser(generate_dataset(2_000, seed=1)),
        "time machine": widgets.time_machine(course.pretrained(), snapshots), "error map": widgets.error_map(model),
        "pieces of the bounded law": widgets.bounded_pieces(bounded),
        "phase plane": widgets.phase_plane(oscillator, problems.weak_van_der_pol().teacher)}


def quantiles(values):
    """The median and the 90th percentile, to a hundredth."""
    median, p90 = torch.tensor(values).quantile(torch.tensor([0.5, 0.9])).tolist()
    return round(median, 2), round(p90, 2)


def main():
    path = lab.chromium()
    if path is None:
        sys.exit("needs a Chromium: as root, apt-get install chromium fonts-dejavu-core")
    measured = {"drag": {}, "refinement": {}}
    with tempfile.TemporaryDirectory() as scratch, lab.browser(path) as browser:
        folder = pathlib.Path(scratch)
        (folder / "web").symlink_to(lab.ROOT / "trc_lib" / "web")
        for name in CASES:
            model = TinyRecursiveControl.load(LABORATORY / f"{name}.pt")
            size = web.export_web(model, folder / "network.trcw")
            (folder / "blank.html").write_text("<!doctype html>")
            with served(folder) as address:
                page = browser.new_page()
                page.goto(f"{address}/blank.html")
                median, p90 = quantiles(page.evaluate(REFINE, [1.0, -0.5]))
                page.close()
            measured["refinement"][name] = {"median_ms": median, "p90_ms": p90, "bytes": size}
            print(f"one refinement, {name:24s} median {median:6.2f} ms   90 % within {p90:6.2f} ms   {size / 1e6:.2f} MB", flush=True)
        for name, widget in explorables().items():
            with shown(browser, widget, folder) as page:
                found = drag(page)
            (total, p90), (computing, _), frames = quantiles(found["taken"]), quantiles(found["computing"]), found["frames"]
            fps = round((len(frames) - 1) / (frames[-1] - frames[0]) * 1000, 1)
            measured["drag"][name] = {"median_ms": total, "p90_ms": p90, "computing_ms": computing, "fps": fps}
            print(f"{name:36s} drag to picture: median {total:6.2f} ms   90 % within {p90:6.2f} ms   of that computing and drawing "
                  f"{computing:5.2f} ms   {fps:.0f} frames a second", flush=True)
    io.write_json(lab.ROOT / "data" / "results" / "widgets.json", measured)


if __name__ == "__main__":
    main()
