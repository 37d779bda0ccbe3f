"""Sphinx's settings for the course's website; build.py prepares the pages and runs Sphinx."""

import posixpath

from docutils import nodes
from latex2mathml.converter import convert
from sphinx import addnodes

project = "Tiny Recursive Control"
extensions = ["myst_nb"]
html_theme = "sphinx_book_theme"
html_title = project
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}  # dark or light, as the reader's system has it
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("explorables.js", {"defer": "defer"})]
html_show_sourcelink = html_copy_source = html_show_sphinx = False
html_show_copyright = html_use_index = False
html_theme_options = {"use_download_button": False, "use_fullscreen_button": False,
                      "home_page_in_toc": True, "show_toc_level": 2, "navbar_persistent": [],
                      "footer_content_items": [], "search_bar_text": "Search the course"}
html_math_renderer = "mathml"
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "html_image", "attrs_block"]
myst_heading_anchors = 4


def link_outside(app, document):
    """Lead links to files that are no pages to the repository; without one, keep their words.

    MyST finds the pages by itself, but for the README: it is the front page.
    """
    page = app.env.docname
    for node in list(document.findall(addnodes.pending_xref)):
        if node.get("refdomain") or node["reftarget"].startswith("#"):
            continue
        path, _, anchor = node["reftarget"].partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        if path in ("README.md", "notebooks/README.md"):
            node["refdomain"], node["reftarget"], node["reftargetid"] = "doc", "index", anchor
        elif app.config.repository:
            address = f"{app.config.repository}/blob/main/{path}"
            node.replace_self(nodes.reference("", "", *node[0].children, refuri=address))
        else:
            node.replace_self(node[0].children)


def describe_pictures(app, document):
    """Give the code's pictures words for those who do not see them; else they are file names."""
    for image in document.findall(nodes.image):
        image.setdefault("alt", "Picture drawn by the code above")


def write_formula(display):
    """A visitor that writes a formula as MathML, which browsers show without a script."""
    def visit(writer, node):
        writer.body.append(convert(node.astext(), display=display))
        raise nodes.SkipNode
    return visit


def setup(app):
    """Add to Sphinx what this site does in its own way."""
    app.add_config_value("repository", "", "env", types=str)
    app.add_html_math_renderer("mathml", (write_formula("inline"), None),
                               (write_formula("block"), None))
    app.connect("doctree-read", link_outside)
    app.connect("doctree-read", describe_pictures)
