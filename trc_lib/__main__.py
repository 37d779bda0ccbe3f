"""``python -m trc_lib <command>``, see ``--help``."""

import signal
import sys


def main(words=None):
    """Run one command; returns the exit code."""
    words = sys.argv[1:] if words is None else words
    if words == ["doctor"]:  # before anything is imported that may be missing
        from trc_lib.course.doctor import diagnose, report

        return 0 if report(diagnose()) else 1
    from trc_lib.course.cli import run

    return run(words)


def _stop(*_):
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)  # like Ctrl-C: what is finished is kept
    sys.exit(main())
