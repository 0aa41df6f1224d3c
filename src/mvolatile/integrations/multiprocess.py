"""The files in which prometheus_client's multiprocess mode has a process's metrics (``PROMETHEUS_MULTIPROC_DIR``)."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from prometheus_client.mmap_dict import MmapedDict

__all__ = ["gauges_before", "want_room"]

LEAST = 256 << 10
"""Bytes that are to be free where more is to be written."""


def want_room(directory: str) -> None:
    """`OSError` where the disk is full: the files are mapped and sparse, so that whoever writes what was never written
    there dies of SIGBUS.
    """
    disk = os.statvfs(directory)
    if disk.f_bavail * disk.f_frsize < LEAST:
        raise OSError(errno.ENOSPC, "no room for metrics", directory)


def gauges_before(directory: str, pid: int) -> Iterator[tuple[str, dict[str, str]]]:
    """Name and labels of what is in the files of that number already: another process had it, or this one was another
    program until an exec. A counter goes on from there, and is right; a gauge would be told for ever.
    """
    read: Any = MmapedDict.read_all_values_from_file
    for mode in ("livesum", "livemax"):
        with suppress(Exception):  # another's file, of which any version has written
            for key, *_ in read(f"{directory}/gauge_{mode}_{pid}.db"):
                _, name, labels, *_ = json.loads(key)
                yield name, labels
