"""What is printed never stops a command: on no terminal, in no encoding, into no pipe.

Needs nothing but Python: the doctor prints where packages are missing.
"""

import codecs
import contextlib
import errno
import io
import os
import sys

ASCII = {"²": "^2", "±": "+-", "–": "-", "—": "-", "−": "-", "×": "x", "·": "*", "→": "->",
         "≤": "<=", "≥": ">=", "…": "...", "‘": "'", "’": "'", "“": '"', "”": '"', "µ": "u"}
_lost = []  # errors of writing, such as that of a full disk


def _as_ascii(error):
    if not isinstance(error, UnicodeEncodeError):
        raise error
    each, end = error.object[error.start], error.start + 1
    if "\udc80" <= each <= "\udcff" and error.encoding in ("ascii", "utf-8"):
        return bytes([ord(each) - 0xdc00]), end  # a byte of a file's name, as it is
    return ASCII.get(each, ascii(each)[1:-1]), end


codecs.register_error("trc_lib.ascii", _as_ascii)


class _Output(io.FileIO):
    """A file descriptor to which writing never fails: what cannot be written is dropped."""

    def write(self, data):
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EINVAL):  # the latter: EPIPE on Windows
                _lost.append(error)
            return memoryview(data).nbytes


def prepare():
    """Make stdout and stderr take whatever is printed, for this process.

    A character that the encoding lacks is written in ASCII: "m/s²" as "m/s^2", others as "\\u4e2d".
    If the reader of a pipe has ended, as that of ``| head -1``, the rest is dropped. A stream that
    is missing or closed becomes `os.devnull`.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):
            stream = open(os.devnull, "w", encoding="utf-8")
        elif stream is getattr(sys, f"__{name}__") and not stream.isatty():
            stream.flush()
            output = io.BufferedWriter(_Output(stream.fileno(), "w", closefd=False))
            stream = io.TextIOWrapper(output, stream.encoding, stream.errors,
                                      line_buffering=stream.line_buffering,
                                      write_through=stream.write_through)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="trc_lib.ascii")
        setattr(sys, name, stream)


def finish(code):
    """Write what is still buffered; returns the exit code, 1 if what was printed is not whole."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    if not _lost:
        return code
    print(f"error: what was printed is not whole: {_lost[0].strerror}", file=sys.stderr)
    return 1
