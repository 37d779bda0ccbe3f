"""What Windows forbids and Linux allows, forbidden here: for tests of what writes files."""

import builtins
import contextlib
import errno
import fcntl
import io
import os
import pathlib
import re
from typing import ClassVar
from unittest import mock

import filelock

import trc_lib.io

FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.I)
LONGEST = 259  # characters of a path


def refused(path, number, winerror, reason):
    """The OSError of Windows."""
    error = OSError(number, reason, str(path))  # Python makes it a PermissionError where it is one
    error.winerror = winerror
    return error


def is_open(path):
    """Whether this process has the file open."""
    with contextlib.suppress(FileNotFoundError):
        wanted = os.stat(path)
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(int(number)), wanted):
                    return True
    return False


class WindowsLock:
    """`filelock.FileLock` there: no other handle can read or write the file, nor remove it."""

    held: ClassVar = {}  # path: the one that holds it
    denied = ()  # folders in which nothing can be written

    def __init__(self, path, **options):
        self.path, self.is_locked = pathlib.Path(path).absolute(), False

    def acquire(self):
        if self.path in self.held or self.path.parent in self.denied:
            raise filelock.Timeout(str(self.path))
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT)
        self.held[self.path], self.is_locked = self, True

    def release(self):
        self.is_locked = False
        del self.held[self.path]
        os.close(self.descriptor)
        with contextlib.suppress(OSError):
            os.unlink(self.path)


@contextlib.contextmanager
def windows(denied=()):
    """Within the block files behave as on Windows, and text files have its encoding and newlines.

    Args:
        denied: folders in which a lock cannot be made; its word for that is that it is held.
    """
    real = {name: getattr(os, name) for name in ("fsync", "replace", "unlink", "mkdir")}
    real_open = io.open

    def fsync(descriptor):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real["fsync"](descriptor)

    def replace(old, new):
        _check_name(new)
        for path in (old, new):
            if is_open(path):
                raise refused(path, errno.EACCES, 5, "Access is denied")
        real["replace"](old, new)

    def unlink(path, dir_fd=None):
        if is_open(path if dir_fd is None else f"/proc/self/fd/{dir_fd}/{path}"):
            raise refused(path, errno.EACCES, 32, "The process cannot access the file because it "
                          "is being used by another process")
        real["unlink"](path, dir_fd=dir_fd)

    def mkdir(path, *mode, **options):
        _check_name(path)
        real["mkdir"](path, *mode, **options)

    def open_(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, **rest):
        if isinstance(file, int):
            return real_open(file, mode, buffering, encoding, errors, newline, **rest)
        if set(mode) & set("wax+"):
            _check_name(file)
        if pathlib.Path(os.fsdecode(file)).absolute() in WindowsLock.held:
            raise refused(file, errno.EACCES, 33, "Permission denied")
        if "b" not in mode:
            encoding = "cp1252" if encoding in (None, "locale") else encoding
            newline = "\r\n" if newline is None and "r" not in mode else newline
        return real_open(file, mode, buffering, encoding, errors, newline, **rest)

    with contextlib.ExitStack() as stack:
        for name, fake in {"fsync": fsync, "replace": replace, "rename": replace,
                           "unlink": unlink, "remove": unlink, "mkdir": mkdir}.items():
            stack.enter_context(mock.patch.object(os, name, fake))
        for module in (builtins, io):
            stack.enter_context(mock.patch.object(module, "open", open_))
        stack.enter_context(mock.patch.object(filelock, "FileLock", WindowsLock))
        stack.enter_context(mock.patch.object(trc_lib.io, "WINDOWS", True))
        stack.enter_context(mock.patch.object(WindowsLock, "denied", tuple(denied)))
        yield


def _check_name(path):
    path = pathlib.Path(os.fsdecode(path)).absolute()
    if any(FORBIDDEN.search(part) for part in path.parts[1:]):
        raise refused(path, errno.EINVAL, 123, "The filename, directory name, or volume label "
                      "syntax is incorrect")
    if len(str(path)) > LONGEST:
        raise refused(path, errno.ENOENT, 3, "The system cannot find the path specified")
