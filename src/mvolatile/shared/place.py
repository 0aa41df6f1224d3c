"""Where clients and keepers of a user meet: a directory of the user's own, a socket and two lock files a name.

``NAME.3.lock`` is the keeper's for as long as it lives, so there are never two. ``NAME.3.start`` is held by who
starts one, so that a thousand first clients do not start a thousand. ``NAME.3.due`` has what is to be done behind.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .._core import Channel
from .wire import PROTOCOL

__all__ = ["Place", "checked_name", "runtime_directory"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

PATIENCE = 20.0
"""Seconds that a keeper may take to start, on a machine that is loaded."""
LOOK_AGAIN = 0.003
_FOR_NOW = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_NOBODY = {errno.ENOENT, errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE}

_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from mvolatile.shared.start import main; main(sys.argv[2:])"
)
_HANDED_ON = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "ASAN_OPTIONS",
    "TSAN_OPTIONS",
)


def checked_name(name: str) -> str:
    """A name that a file can have; `ValueError` for another."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, not {name!r}")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"name must be 1 to 64 letters, digits, '.', '_' and '-', and begin with a letter or digit, not {name!r}"
        )
    return name


def runtime_directory() -> Path:
    """The user's own directory, made if it is not there.

    ``MVOLATILE_RUNTIME_DIR``, or ``mvolatile`` in ``XDG_RUNTIME_DIR``, or ``mvolatile-UID`` in the temporary
    directory. `PermissionError` if it is another's, or others may enter: they could put a socket of their own there.
    """
    if given := os.environ.get("MVOLATILE_RUNTIME_DIR"):
        path = Path(given)
    elif runtime := os.environ.get("XDG_RUNTIME_DIR"):
        path = Path(runtime, "mvolatile")
    else:
        path = Path(tempfile.gettempdir(), f"mvolatile-{os.geteuid()}")
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise PermissionError(errno.EPERM, "it is not a directory", str(path))
    if found.st_uid != os.geteuid():
        raise PermissionError(
            errno.EPERM,
            f"it belongs to user {found.st_uid}, and keepers of user {os.geteuid()} do not meet there",
            str(path),
        )
    if found.st_mode & 0o077:
        raise PermissionError(
            errno.EPERM,
            f"others may enter it (mode {stat.S_IMODE(found.st_mode):04o}, and it must be 0700)",
            str(path),
        )
    return path


class _NoPlaceError(OSError):
    """There is no directory for now."""


class Place:
    """Of one name, in one directory."""

    __slots__ = ("_directory", "name", "trouble")

    def __init__(self, name: str, directory: Path | None = None) -> None:
        self.name = checked_name(name)
        self.trouble: OSError | None = None
        """Why nobody can meet there now, as far as is known."""
        self._directory = directory
        with suppress(_NoPlaceError):
            _ = self.directory

    @property
    def directory(self) -> Path:
        """Made if it is not there. Where there is no room for it now, or nothing may be written, there may be later:
        the program goes on without a keeper.
        """
        if self._directory is None:
            try:
                self._directory = runtime_directory()
            except OSError as error:
                if error.errno not in _FOR_NOW:
                    raise
                self.trouble = error
                raise _NoPlaceError(error.errno, error.strerror, error.filename) from None
        return self._directory

    def path(self, what: str) -> Path:
        """``sock``, ``lock``, ``start`` or ``due``."""
        return self.directory / f"{self.name}.{PROTOCOL}.{what}"

    @contextmanager
    def address(self) -> Iterator[str]:
        """A path to the socket that is short enough for one, whatever the directory's is."""
        path = str(self.path("sock"))
        if len(os.fsencode(path)) < 108:
            yield path
            return
        directory = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{directory}/{self.path('sock').name}"
        finally:
            os.close(directory)

    def connect(self) -> Channel | None:
        """A channel to the keeper there, or None if there is none.

        `PermissionError` for another user's; `OSError` where none is to be had (descriptors used up, no sockets).
        """
        try:
            with self.address() as path:
                channel = Channel(os.fsencode(path))
        except _NoPlaceError:
            return None
        except OSError as error:
            if error.errno in _NOBODY:
                return None
            if error.errno == errno.EPERM:  # a filter's: it is not that somebody else listens there
                raise ConnectionRefusedError(error.errno, "sockets are refused here, as by seccomp") from None
            raise
        if channel.uid != os.geteuid():
            channel.close()
            raise PermissionError(errno.EPERM, f"user {channel.uid} listens there", str(self.path("sock")))
        return channel

    def is_kept(self) -> bool:
        """Whether a keeper lives: perhaps one that does not listen yet, or any more."""
        try:
            descriptor = os.open(self.path("lock"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (FileNotFoundError, _NoPlaceError):
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # who starts meanwhile tries again
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    @contextmanager
    def _start_lock(self, until: float) -> Iterator[bool]:
        descriptor = os.open(self.path("start"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        yield False
                        return
                    time.sleep(LOOK_AGAIN)
            yield True
        finally:
            os.close(descriptor)

    def start(self, max_bytes: int | None, linger: float) -> Channel | None:
        """A channel to the keeper there, which is started if there is none. None if it cannot be: no room for its
        files, no memory for its process.
        """
        try:
            return self._started(max_bytes, linger, time.monotonic() + PATIENCE)
        except PermissionError:
            raise
        except OSError as error:
            self.trouble = error
            return None

    def _started(self, max_bytes: int | None, linger: float, until: float) -> Channel | None:
        with self._start_lock(until) as alone:
            channel = self.connect_patiently(until)
            if channel is not None or not alone:
                return channel
            starter = self._spawn(max_bytes, linger)
            try:
                while time.monotonic() < until:
                    if (channel := self.connect_patiently(until)) is not None:
                        return channel
                    if starter.poll() not in (None, 0):
                        raise ChildProcessError(
                            errno.ECHILD, "it ended at once; MVOLATILE_KEEPER_LOG=FILE has its error"
                        )
                    time.sleep(LOOK_AGAIN)
                raise TimeoutError(errno.ETIMEDOUT, "it does not begin", str(self.path("sock")))
            finally:
                _reap(starter, until)

    def connect_patiently(self, until: float) -> Channel | None:
        """As `connect`. Many may be in the queue of who listens; `TimeoutError` if it does not get shorter."""
        while True:
            try:
                return self.connect()
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError(
                        errno.ETIMEDOUT, "a keeper accepts nobody", str(self.path("sock"))
                    ) from None
                time.sleep(LOOK_AGAIN)

    def _spawn(self, max_bytes: int | None, linger: float) -> subprocess.Popen[bytes]:
        root = str(Path(__file__).resolve().parents[2])
        most = "-" if max_bytes is None else str(max_bytes)
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in _HANDED_ON or name.startswith("MVOLATILE_")
        }
        return subprocess.Popen(
            [
                _python(),
                "-I",
                "-c",
                _PROGRAM,
                root,
                str(self.directory.absolute()),
                self.name,
                most,
                repr(linger),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,
            start_new_session=True,
        )


def _reap(starter: subprocess.Popen[bytes], until: float) -> None:
    """The starter has forked the keeper, and ends once that serves."""
    try:
        starter.wait(max(0.1, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        starter.kill()
        starter.wait()


def _python() -> str:
    """An interpreter; `sys.executable` may be the program that embeds Python."""
    if given := os.environ.get("MVOLATILE_PYTHON"):
        return given
    own = sys.executable or ""
    if Path(own).name.startswith("py"):
        return own
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for name in (f"python{version}", "python3", "python"):
        path = Path(sys.prefix, "bin", name)
        if path.exists():
            return str(path)
    return own
