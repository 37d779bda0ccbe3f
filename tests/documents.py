"""Tables in the project's documents, between two marks; the maintainers' commands write them."""

from tests import ROOT
from trc_lib import io


def write_table(path, begin, end, table):
    """Put ``table`` between two marks in a document of the course, such as ``"docs/data.md"``."""
    document = ROOT / path
    io.write_text(document, replace_between(document.read_text("utf-8"), begin, end, table))


def replace_between(text, begin, end, table):
    """The text with ``table`` between two marks.

    Raises:
        ValueError: if a mark is missing.
    """
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{table}\n{end}{after}"
