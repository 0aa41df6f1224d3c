"""Reading the small text files of proc, sysfs and cgroupfs; and writing one of our own.

A file that is missing or may not be read says that this kernel or container does not give the thing, which is
an answer, not an error: `read` and those built on it return None then.

Caches read such files in any thread. The core does it, since another thread may close all descriptors meanwhile: a
descriptor of Python's would be a file of the program's by then, to be read and closed.
"""

from __future__ import annotations

import errno
import os

from .. import _core

__all__ = ["read", "read_int", "read_or_raise", "read_table", "replace"]


def read(path: str | os.PathLike[str]) -> str | None:
    """The text of a file without its last newline, or None where it cannot be had."""
    try:
        return read_or_raise(path).rstrip("\n")
    except OSError:
        return None


def read_or_raise(path: str | os.PathLike[str]) -> str:
    """The text of a file; `OSError` where it cannot be had. No other thread of Python runs meanwhile."""
    return _core.read_file(os.fsencode(path)).decode("utf-8", "surrogateescape")


def read_int(path: str | os.PathLike[str]) -> int | None:
    """A file that holds one decimal number; None where it cannot be had or holds another word, such as
    ``max``.
    """
    text = read(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def read_table(path: str | os.PathLike[str]) -> dict[str, int]:
    """Lines of ``key number``, with or without a colon and a unit of kB (which becomes bytes)."""
    table = {}
    for line in (read(path) or "").splitlines():
        key, *rest = line.split()
        if rest and rest[0].isdigit():
            table[key.rstrip(":")] = int(rest[0]) * (1024 if rest[1:] == ["kB"] else 1)
    return table


def replace(path: str | os.PathLike[str], text: str) -> None:
    """Write a file as a whole, beside it first, as ``PATH.new``; `OSError`, and it is as it was.

    A thread of the core does it, which has no descriptor in common with the program: what Python writes by number may
    land in a file that the program has opened since. Only where there is no such thread (in a sandbox that does not
    know ``close_range``) Python does.
    """
    name, beside, data = os.fsencode(path), os.fsencode(path) + b".new", text.encode()
    try:
        _core.replace_file(name, beside, data)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        with open(beside, "wb") as file:
            file.write(data)
        os.replace(beside, path)
