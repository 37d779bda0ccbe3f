"""``python -m trc_lib <command>``, see ``--help``."""

import signal
import sys

from trc_lib.course import console


def main(words=None):
    """Run one command; returns the exit code."""
    console.prepare()
    try:
        code = _run(sys.argv[1:] if words is None else words)
    except KeyboardInterrupt:  # while packages are imported
        print("interrupted", file=sys.stderr)
        code = 1
    return console.finish(code)


def _run(words):
    if words == ["doctor"]:  # before anything is imported that may be missing
        from trc_lib.course.doctor import diagnose, report

        return 0 if report(diagnose()) else 1
    try:
        from trc_lib.course.cli import run
    except ImportError as error:
        from trc_lib.course.install import environment_elsewhere

        other = environment_elsewhere()
        print(f"error: {error}; " + (f"the course is installed in another Python: {other}" if other
              else "see what else is missing: python -m trc_lib doctor"), file=sys.stderr)
        return 1
    return run(words)


def _stop(*_):
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)  # like Ctrl-C: what is finished is kept
    sys.exit(main())
