"""What tells one content of a file from another, as far as fsspec's file systems can say.

A block of version v may serve a later opening of the file only if the store has said v before the block was fetched
and says v again afterwards, and if versions are never used twice: then it was v in between. Hence:

1. The store is asked anew for each opened file, past the listings that a file system keeps. Those may be older than the
   last overwriting, and a file would be read in part as it was and in part as it is.
2. Times and sizes alone, as in `AbstractFileSystem.ukey`, tell no two changes of one tick apart: an ETag, a version or
   a checksum must be among what the store says.
3. An ETag is mostly a hash of the content, and is used again: a file is overwritten while it is open, what is read of
   it then is kept under the old ETag, and the old content is put back. So the times of changes are part of a version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeAlias, cast

from fsspec.spec import AbstractBufferedFile

__all__ = ["Version", "version_of"]

Version: TypeAlias = "str | bytes | int | Callable[[Mapping[str, Any]], Hashable] | None"

CONTENT = (
    *("ETag", "etag", "e_tag", "VersionId", "version_id", "generation", "blob_id", "sha"),
    *("md5", "md5Hash", "content_md5", "Content-MD5", "Digest", "checksum", "crc32c"),
)
"""What `info` may have of a content, in the words of fsspec's file systems."""

TIMES = (
    *("LastModified", "Last-Modified", "last_modified", "last-modified", "mtime", "modified", "modify"),
    *("updated", "created", "creation_time", "timeCreated", "modificationTime"),
)

NOTHING = (None, "", "null")  # S3's version of what has none

PLAIN = (str, bytes, int, float, bool, type(None))


def version_of(fetcher: Any, size: int, given: Version) -> tuple[Hashable, ...] | None:
    """Which file `fetcher` reads, and which content of it; None if nobody knows. Asks the store."""
    file = getattr(
        fetcher, "__self__", None
    )  # a cache is given the bound method of its file, and no more of it
    if given is False or not isinstance(file, AbstractBufferedFile):
        return None
    which = _which(file)
    if which is None:
        return None
    if given is not None and not callable(given):
        return which, size, repr(given)
    try:
        info = _asked(file)
    except Exception:  # whatever a file system raises: what cannot be asked is not known
        return None
    if info.get("size") != size:
        return None
    told = _told(file, info) if given is None else given(info)
    return None if told is None else (which, size, repr(told))


def _which(file: Any) -> str | None:
    """The file system with all its options, and the path; hashed, for options hold secrets."""
    fs = file.fs
    parts = [fs.storage_args, fs.storage_options, file.path, file.kwargs]
    parts += [getattr(file, what, None) for what in ("version_id", "generation")]
    if not _plain(parts):
        return None  # an object's name may be another object's later
    text = repr([f"{type(each).__module__}.{type(each).__qualname__}" for each in (fs, file)] + parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_plain(part) for item in value.items() for part in item)
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_plain, value))
    return isinstance(value, PLAIN)


def _asked(file: Any) -> Mapping[str, Any]:
    fs = file.fs
    if fs.dircache:
        fs.invalidate_cache(file.path)
    own = getattr(fs, "kwargs", {})
    more = {key: value for key, value in file.kwargs.items() if own.get(key) != value}
    return cast(Mapping[str, Any], fs.info(file.path, **more))


def _told(file: Any, info: Mapping[str, Any]) -> Hashable:
    told = {name: str(info[name]) for name in CONTENT if info.get(name) not in NOTHING}
    weak = any(value.startswith("W/") for value in told.values())
    # The file may be open at another version than the newest, which is what `info` tells of.
    opened = getattr(file, "_details", None) or {}
    another = any(name in opened and str(opened[name]) != value for name, value in told.items())
    if not told or weak or another:
        return None
    return repr(sorted(told.items())), repr([str(info.get(name)) for name in TIMES])
