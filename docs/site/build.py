"""Builds the course as a static website: python -m docs.site.build FOLDER.

Sphinx (conf.py) reads copies of the documents and notebooks. In the copies, a widget's output is
HTML: its stored picture, which explorables.js replaces by the living widget if it is an anywidget.
"""

import argparse
import base64
import functools
import hashlib
import html
import json
import pathlib
import re
import shutil
import struct
import sys
import tempfile

from sphinx.cmd.build import build_main

from trc_lib import web
from trc_lib.data import generate_dataset
from trc_lib.model import TinyRecursiveControl

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FRONT, SHOWN = "08_bounded_inputs", "Microscope"  # the front page shows this explorable of it
CAPTION = """
*Drag the green start or the cross, and press play: a small network proposes controls (blue) and
refines them, cycle by cycle. Dashed is the optimum. The acceleration is limited to ±1 m/s².*
"""
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
FIRST_PICTURE = re.compile(r"^!\[[^]]*\]\([^)]*\)\n+(\*[^*]+\*\n)?", re.M)  # and its caption
LAB = "http://localhost:8888/lab/tree"  # of `make lab`, unless the port is taken
STILL = "This picture follows its controls only in JupyterLab: <code>make lab</code>"


@functools.cache
def large_networks(root):
    """The course's networks that are too large for a notebook, in a page's format by their digest.

    A notebook that shows one names it; its page loads it from a file beside it.
    """
    untrained = TinyRecursiveControl.create_two_level_medium()  # chapter 3's
    untrained.set_scaling(generate_dataset(64))
    files = sorted((root / "data" / "pretrained").glob("*.pt"))
    models = [untrained, *(TinyRecursiveControl.load(path) for path in files)]
    return {web.digest(each): each for each in map(web.network, models)}


class Explorables:
    """The widgets of one notebook, as HTML; what they load goes to a folder of the site.

    Args:
        notebook: its JSON.
        site: the folder of the site.
        root: the course's folder.
    """

    def __init__(self, notebook, site, root):
        self.root = root
        widgets = notebook["metadata"].get("widgets", {})
        self.models = widgets.get(STATE, {"state": {}})["state"]
        self.folder = site / "explorables"
        self.folder.mkdir(parents=True, exist_ok=True)

    def is_alive(self, data):
        """Whether an output is an anywidget, which needs no kernel, with all that it needs."""
        model = self.models.get(data[VIEW]["model_id"], {})
        lacks = {"encoding": "base64", "path": ["network"], "data": ""} in model.get("buffers", [])
        return model.get("model_name") == "AnyModel" and (
            not lacks or model["state"]["about"]["network"] in large_networks(self.root))

    def figure(self, data, up):
        """The HTML of an output; None for what shows nothing without a kernel, as a progress bar.

        Args:
            data: the output's representations by MIME type.
            up: the way from the page to the root of the site, such as "../".
        """
        name = data[VIEW]["model_id"]
        alive = self.is_alive(data)
        label = "".join(data.get("text/plain", ""))
        if re.match(r"[A-Z]\w*\(", label):  # how ipywidgets writes a widget as text
            label = "The stored picture of a widget"
        png = data.get("image/png") or self._last_picture(name)
        if not (alive or png):
            return None
        image = self._image(base64.b64decode("".join(png)), label, up) if png else ""
        if not alive:
            return f'<figure class="widget">{image}<figcaption>{STILL}</figcaption></figure>'
        self._write_model(name)
        return (f'<figure class="widget">{image}<div class="explorable" role="group" '
                f'aria-label="{html.escape(label)}" data-state="{up}explorables/{name}.json">'
                "</div></figure>")

    def _image(self, png, label, up):
        width, height = struct.unpack(">II", png[16:24])
        return (f'<img src="{up}explorables/{self._write(png, "png")}" width="{width}" '
                f'height="{height}" loading="lazy" alt="{html.escape(label)}">')

    def _last_picture(self, name):
        """The PNG, in base64, of the last picture in a box of widgets; None without one."""
        model = self.models.get(name, {})
        if model.get("model_name") == "ImageModel":
            return model["buffers"][0]["data"]
        children = model.get("state", {}).get("children", [])
        found = [self._last_picture(child.removeprefix("IPY_MODEL_")) for child in children]
        return next(filter(None, reversed(found)), None)

    def _write_model(self, name):
        state, buffers = self.models[name]["state"], {
            tuple(each["path"]): base64.b64decode(each["data"])
            for each in self.models[name].get("buffers", [])}
        if buffers.get(("network",)) == b"":
            buffers["network",] = large_networks(self.root)[state["about"]["network"]]
        loaded = {
            "esm": self._write(state["_esm"].encode(), "js"),
            "css": self._write(state["_css"].encode(), "css") if state.get("_css") else None,
            "state": {key: value for key, value in state.items() if key[0] != "_"},
            "buffers": [{"path": path, "file": self._write(content, "bin")}
                        for path, content in buffers.items()]}
        (self.folder / f"{name}.json").write_text(json.dumps(loaded), encoding="utf-8")

    def _write(self, content, suffix):
        """Write a file that is named by its content, so that pages share it; returns its name."""
        name = f"{hashlib.sha256(content).hexdigest()[:16]}.{suffix}"
        (self.folder / name).write_bytes(content)
        return name


def widget_outputs(notebook):
    """The outputs of a notebook that show a widget, each after its cell."""
    return [(cell, output) for cell in notebook["cells"] for output in cell.get("outputs", [])
            if VIEW in output.get("data", {})]


def convert(source, copy, chapters, site, root):
    """Write the copy of a notebook that Sphinx reads.

    Args:
        chapters: how many there are.
    """
    notebook = json.loads(source.read_text(encoding="utf-8"))
    solutions = source.parent.name == "solutions"
    explorables = Explorables(notebook, site, root)
    for cell, output in widget_outputs(notebook):
        figure = explorables.figure(output["data"], "../../" if solutions else "../")
        if figure is None:
            cell["outputs"].remove(output)
        else:
            output["data"] = {"text/html": figure}
    for cell in notebook["cells"]:
        if "claim" in (tags := cell["metadata"].get("tags", [])):
            tags.append("hide-input")  # folded, as in JupyterLab
    notebook["metadata"].pop("widgets", None)  # else myst-nb loads the widgets' manager from a CDN
    title, _, rest = "".join(notebook["cells"][0]["source"]).partition("\n")
    number = int(source.stem[:2])
    here = f"Solutions, chapter {number}" if solutions else f"Chapter {number}"
    path = f"solutions/{source.name}" if solutions else source.name
    line = (f"{{.chapter-line}}\n{here} of {chapters} · To run and change it, type `make lab` "
            f"(or `python -m trc_lib lab`). While that runs, here is [{path}]({LAB}/{path}) in it.")
    notebook["cells"][0]["source"] = f"{title}\n\n{line}\n{rest}"
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(json.dumps(notebook), encoding="utf-8")


def front_page(root, pages, site):
    """The README, with a living explorable in place of its first picture, and the contents.

    Args:
        pages: the names of the other pages by part of the course.
    """
    text = (root / "README.md").read_text(encoding="utf-8")
    chapter = root / "notebooks" / f"{FRONT}.ipynb"
    if chapter.exists():
        notebook = json.loads(chapter.read_text(encoding="utf-8"))
        explorables = Explorables(notebook, site, root)
        alive = [output["data"] for _, output in widget_outputs(notebook)
                 if explorables.is_alive(output["data"])]
        alive.sort(key=lambda data: not "".join(data.get("text/plain", "")).startswith(SHOWN))
        if alive:
            figure = explorables.figure(alive[0], "") + f"\n{CAPTION}"
            text = FIRST_PICTURE.sub(lambda _: figure, text, count=1)
    for caption, names in pages.items():
        lines = ["```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```"]
        text += "\n" + "\n".join(lines) + "\n"
    return text


def build(site, root=ROOT, repository=""):
    """Build the website anew.

    Args:
        site: the folder to write; what is there is replaced, if all went well.
        root: the course's folder.
        repository: where its files are on GitHub, "https://github.com/OWNER/NAME"; without it,
            links to files that are no pages become plain text.

    Returns:
        Sphinx's exit code, 0 if all went well; a warning, such as a broken link, is a failure.

    Raises:
        ValueError: if the folder holds something else.
    """
    if site.exists() and any(site.iterdir()) and not (site / "explorables").is_dir():
        raise ValueError(f"{site} is not empty, and no website of this course: not replaced")
    chapters = sorted((root / "notebooks").glob("[0-9]*.ipynb"))
    solutions = sorted((root / "notebooks" / "solutions").glob("[0-9]*.ipynb"))
    documents = [path for pattern in ("docs/*.md", "CONTRIBUTING.md", "CHANGELOG.md")
                 for path in sorted(root.glob(pattern))]
    with tempfile.TemporaryDirectory() as folder:
        source, made = pathlib.Path(folder) / "pages", pathlib.Path(folder) / "made" / "site"
        shutil.copytree(root / "figures", source / "figures")
        for path in documents:
            (source / path.relative_to(root)).parent.mkdir(exist_ok=True)
            shutil.copy(path, source / path.relative_to(root))
        for path in chapters + solutions:
            convert(path, source / path.relative_to(root), len(chapters), made, root)
        parts = {"Chapters": chapters, "Solutions": solutions, "More": documents}
        pages = {caption: [path.relative_to(root).with_suffix("").as_posix() for path in paths]
                 for caption, paths in parts.items()}
        (source / "index.md").write_text(front_page(root, pages, made), encoding="utf-8")
        code = build_main(["-q", "-W", "--keep-going", "-c", str(HERE), "-d", f"{folder}/trees",
                           "-D", f"repository={repository}", str(source), str(made)])
        if code == 0:
            fresh, old = site.with_name(f".{site.name}.new"), site.with_name(f".{site.name}.old")
            for left in (fresh, old):
                shutil.rmtree(left, ignore_errors=True)
            shutil.copytree(made, fresh)  # beside it, so that a site is there at all times
            if site.exists():
                site.rename(old)
            fresh.rename(site)
            shutil.rmtree(old, ignore_errors=True)
        return code


def main():
    """Build the website that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--repository", default="", metavar="URL",
                        help="the course's address on GitHub, for links to its files")
    options = parser.parse_args()
    if code := build(options.folder, repository=options.repository):
        sys.exit(code)
    print(f"To read it: {pathlib.Path(sys.executable).name} -m http.server -d {options.folder}, "
          "then http://localhost:8000")


if __name__ == "__main__":
    main()
