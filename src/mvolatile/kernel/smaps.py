"""What a process's mappings hold, from ``/proc/PID/smaps``, and which of them are this library's.

A mapping is ours if it bears our name, ``[anon:mvolatile:NAME]``: that takes Linux 5.17 with
CONFIG_ANON_VMA_NAME, which not every distribution switches on. Without names the best that can be said of a
process that has loaded our core is: nameless private memory that is watched by a userfaultfd or holds lazily
freed pages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass

from .files import read_or_raise

__all__ = [
    "NAMELESS",
    "NAME_PREFIX",
    "Mapping",
    "NamedUsage",
    "mappings",
    "of_ours",
    "our_processes",
    "rollup",
    "usage_by_name",
]

NAME_PREFIX = "mvolatile:"
"""What every name that our core gives to a mapping begins with."""

NAMELESS = "(nameless)"
"""Stands for the names where the kernel keeps none."""

_HEADER = re.compile(r"(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<mode>\S{4}) \S+ \S+ \d+ *(?P<path>.*)")
_CORE = re.compile(r"/mvolatile/_core\.[^/]*so( \(deleted\))?$", re.MULTILINE)
_ANON = "[anon:"
_FIELDS = {
    "Rss": "rss",
    "Pss": "pss",
    "Anonymous": "anonymous",
    "LazyFree": "lazy_free",
    "AnonHugePages": "huge",
    "Swap": "swap",
    "Locked": "locked",
}


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping; sizes in bytes. `lazy_free` counts pages that are volatile and still there.

    The kernel marks pages lazily free in batches, so up to 31 base pages per CPU are not counted yet. `rss`
    holds them too. `mode` is as in maps (``rw-p``), `path` a file, ``[heap]``, ``[anon:NAME]`` or empty,
    `flags` the two-letter VmFlags, of which ``um`` says that a userfaultfd watches for missing pages.
    """

    start: int
    end: int
    mode: str
    path: str
    rss: int = 0
    pss: int = 0
    anonymous: int = 0
    lazy_free: int = 0
    huge: int = 0
    swap: int = 0
    locked: int = 0
    flags: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """Bytes of address space."""
        return self.end - self.start

    @property
    def anon_name(self) -> str | None:
        """The name that a program gave to its anonymous memory."""
        return self.path[len(_ANON) : -1] if self.path.startswith(_ANON) else None


@dataclass(frozen=True, slots=True)
class NamedUsage:
    """The mappings of one name, taken together; sizes in bytes.

    Small ranges share mappings of the name ``pool``. What was lost cannot be seen from outside: a purged page
    looks like one that was never written.
    """

    name: str
    mappings: int = 0
    size: int = 0
    resident: int = 0
    lazy_free: int = 0
    huge: int = 0
    swap: int = 0


def _parse(lines: Iterable[str]) -> Iterator[Mapping]:
    header: re.Match[str] | None = None
    sizes: dict[str, int] = {}
    flags: frozenset[str] = frozenset()

    def mapping(header: re.Match[str]) -> Mapping:
        return Mapping(
            int(header["start"], 16),
            int(header["end"], 16),
            header["mode"],
            header["path"],
            flags=flags,
            **sizes,
        )

    for line in lines:
        key, colon, rest = line.partition(":")
        if colon and key in _FIELDS:
            sizes[_FIELDS[key]] = int(rest.split()[0]) * 1024
        elif key == "VmFlags":
            flags = frozenset(rest.split())
        elif (found := _HEADER.match(line)) is not None:
            if header is not None:
                yield mapping(header)
            header, sizes, flags = found, {}, frozenset()
    if header is not None:
        yield mapping(header)


def _lines(pid: int | None, name: str) -> list[str]:
    who = "self" if pid is None else str(pid)
    try:
        return read_or_raise(f"/proc/{who}/{name}").split("\n")
    except PermissionError as error:
        raise PermissionError(
            error.errno,
            f"process {who} is somebody else's: its mappings are shown to its own user and to root",
        ) from None
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(3, f"no process {who} (any more)") from None


def mappings(pid: int | None = None) -> list[Mapping]:
    """Every mapping of process `pid`, this one by default, by address; a kernel thread or a zombie has none.

    Raises ProcessLookupError for a process that is not there and PermissionError for a foreign one. The
    kernel takes no snapshot: each mapping is exact for its own moment.
    """
    return list(_parse(_lines(pid, "smaps")))


def rollup(pid: int | None = None) -> Mapping:
    """The sums over all mappings, which the kernel makes much faster; the same errors as `mappings`."""
    found = list(_parse(_lines(pid, "smaps_rollup")))
    if not found:
        raise ProcessLookupError(3, f"process {pid or 'self'} has no memory (a kernel thread or a zombie)")
    return found[0]


def _our_name(mapping: Mapping, core_loaded: bool) -> str | None:
    name = mapping.anon_name
    if name is not None:
        return name.removeprefix(NAME_PREFIX) if name.startswith(NAME_PREFIX) else None
    watched = "um" in mapping.flags or mapping.lazy_free > 0
    return NAMELESS if core_loaded and watched and not mapping.path and mapping.mode.endswith("p") else None


def of_ours(found: Iterable[Mapping]) -> list[Mapping]:
    """Those of a process's mappings that are this library's."""
    found = list(found)
    core_loaded = any(_CORE.search(mapping.path) for mapping in found)
    return [mapping for mapping in found if _our_name(mapping, core_loaded) is not None]


def usage_by_name(pid: int | None = None) -> list[NamedUsage]:
    """What the volatile memory of a process holds, by name, largest first; the same errors as `mappings`."""
    found = mappings(pid)
    core_loaded = any(_CORE.search(mapping.path) for mapping in found)
    sums: dict[str, NamedUsage] = {}
    for mapping in found:
        name = _our_name(mapping, core_loaded)
        if name is not None:
            one = NamedUsage(
                name, 1, mapping.size, mapping.rss, mapping.lazy_free, mapping.huge, mapping.swap
            )
            sums[name] = _sum(sums[name], one) if name in sums else one
    return sorted(sums.values(), key=lambda usage: (-usage.size, usage.name))


def _sum(one: NamedUsage, other: NamedUsage) -> NamedUsage:
    pairs = zip(astuple(one)[1:], astuple(other)[1:], strict=True)
    return NamedUsage(one.name, *(mine + its for mine, its in pairs))


def our_processes() -> list[int]:
    """The processes of this user that have our core loaded or memory of our names, by pid.

    Processes that end meanwhile are left out, and so are those whose mappings may not be read.
    """
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            if entry.stat().st_uid != os.geteuid():
                continue
            text = "\n".join(_lines(int(entry.name), "maps"))
        except OSError:
            continue
        if f"{_ANON}{NAME_PREFIX}" in text or _CORE.search(text):
            found.append(int(entry.name))
    return sorted(found)
