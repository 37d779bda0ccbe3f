"""A page with one explorable and no kernel, in a real browser."""

import base64
import contextlib
import functools
import http.server
import json
import threading

from ipywidgets.widgets.widget import _remove_buffers

PAGE = """<!doctype html><html lang="en" data-theme="THEME"><meta charset="utf-8"><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>explorable</title>
<body style="margin: 8px; background: BACKGROUND"><div id="host"></div><script type="module">
const { state, buffers } = await (await fetch("state.json")).json(), listeners = {};
for (const { path, data } of buffers) {
  state[path[0]] = new DataView(Uint8Array.from(atob(data), (each) => each.charCodeAt(0)).buffer);
}
window.sent = [];
const tell = (name, ...values) => [...(listeners[name] ?? [])].forEach((each) => each(...values));
window.model = { get: (name) => state[name], save_changes() {}, send: (message) => window.sent.push(message), tell,
  set(name, value) { state[name] = value; tell(`change:${name}`); },
  on(name, act) { (listeners[name] ??= []).push(act); },
  off(name, act) { listeners[name] = listeners[name].filter((each) => each !== act); } };
document.head.append(Object.assign(document.createElement("style"), { textContent: state._css }));
const module = await import(URL.createObjectURL(new Blob([state._esm], { type: "text/javascript" })));
await module.default.render({ model: window.model, el: document.getElementById("host") });
window.ready = true;
</script></body></html>"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder):
    """The address of a server of a folder."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


@contextlib.contextmanager
def shown(browser, widget, folder, width=1000, theme="light", **options):
    """The page of a widget; it fails if the page has an error."""
    state, paths, buffers = _remove_buffers(widget.get_state())
    state.pop("layout")
    packed = [{"path": path, "data": base64.b64encode(each).decode()} for path, each in zip(paths, buffers)]
    (folder / "state.json").write_text(json.dumps({"state": state, "buffers": packed}, sort_keys=True))
    background = "#fff" if theme == "light" else "#111"
    (folder / "index.html").write_text(PAGE.replace("THEME", theme).replace("BACKGROUND", background))
    errors = []
    with served(folder) as address:
        page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        try:
            page.goto(f"{address}/index.html")
            page.wait_for_function("window.ready", timeout=20_000)
            page.wait_for_selector(".trc[data-drawn], #host:has-text('cannot be shown')")
            yield page
            assert errors == []
        finally:
            page.close()


def settled(page):
    """Wait until all that was asked for is drawn; the sentence that says what is shown."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.locator(".trc-failed").count() == 0, page.locator(".trc-says").inner_text()
    return page.locator(".trc-says").inner_text()


OUTSIDE = """() => [...document.querySelectorAll('.trc-panel svg')].flatMap((svg) => {
  const frame = svg.querySelector('.trc-frame'), clip = frame && frame.getBBox();
  return clip ? [...svg.querySelectorAll('.trc-mark')].filter((mark) => {
    const box = mark.getBBox(), room = /cross|ring|dots/.test(mark.getAttribute('class')) ? 8 : 1;
    return box.width + box.height > 0 && mark.getAttribute('d') !== '' && (box.x < clip.x - room || box.y < clip.y - room
      || box.x + box.width > clip.x + clip.width + room || box.y + box.height > clip.y + clip.height + room);
  }).map((mark) => `${svg.getAttribute('aria-label')}: ${mark.getAttribute('class')}`) : []; })"""


def outside(page):
    """What leaves the axes of its panel."""
    return page.evaluate(OUTSIDE)
