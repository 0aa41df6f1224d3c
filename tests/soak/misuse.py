"""What programs do to a process that a library lives in, in a forked child: all descriptors closed, beside a cache that
listens for pressure, files of its own on those numbers; forks in C; no thread to be had; SIGBUS that is not ours.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import traceback
from pathlib import Path

from mvolatile import VolatileCache
from mvolatile.cache import pressure
from support.c_fork import c_fork

from .tally import Row, Wrong

__all__ = ["misuse"]

_FILES = 24
_CONTENT = b"a file of the program's own"

_FOREIGN = r"""
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>
static sigjmp_buf back;
static void jump(int number) { (void)number; siglongjmp(back, 1); }
int jumped(int fd) {
    struct sigaction ours = {.sa_handler = jump}, before;
    volatile char *page = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) return -1;
    sigaction(SIGBUS, &ours, &before);
    int came = sigsetjmp(back, 1);
    if (!came) (void)*page;
    sigaction(SIGBUS, &before, 0);
    munmap((void *)page, 4096);
    return came;
}
"""


def _foreign() -> ctypes.CDLL | None:
    """A library that reads a mapped file beyond its end, and jumps out of its handler; None without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as directory:
        source, built = Path(directory, "foreign.c"), Path(directory, "foreign.so")
        source.write_text(_FOREIGN)
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", str(source), "-o", str(built)], check=True)
        return ctypes.CDLL(str(built))


_library = _foreign()


def misuse(source: random.Random, row: Row) -> None:
    """One such child, which must end well."""
    row.count("processes misused")
    seed = source.randrange(1 << 30)
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(120)  # a hang
            _live(random.Random(seed))
            os._exit(0)
        except BaseException:
            os.write(2, f"--- misuse, seed {seed}\n{traceback.format_exc()}".encode())
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise Wrong(f"a child that misuses the library ended with {code}, seed {seed}")


def _live(source: random.Random) -> None:
    cache: VolatileCache[int, bytes] = VolatileCache()
    with tempfile.TemporaryDirectory() as directory:
        for number in range(20):
            cache[number % 7] = bytes([number]) * 2000
            action = source.choice((_close_all, _fork_in_c, _no_threads, _pressure, _sigbus, _reopen))
            cache = action(cache, Path(directory))
            value = cache.get(number % 7)
            if value is not None and value != bytes([number]) * 2000:
                raise Wrong(f"cache: {value[:9]!r} for {number}")
    cache.close()


def _close_all(cache: VolatileCache[int, bytes], directory: Path) -> VolatileCache[int, bytes]:
    over = threading.Event()

    def use() -> None:
        while not over.is_set():
            cache[100] = b"meanwhile" * 100
            cache.get(100)

    thread = threading.Thread(target=use)
    thread.start()
    os.closerange(3, 256)
    mine = [os.open(directory / str(i), os.O_CREAT | os.O_RDWR | os.O_TRUNC) for i in range(_FILES)]
    for fd in mine:
        os.write(fd, _CONTENT)
    cache.get(100)
    pressure.tell_all()
    over.set()
    thread.join()
    for i, fd in enumerate(mine):
        found = (directory / str(i)).read_bytes()
        if found != _CONTENT or os.lseek(fd, 0, os.SEEK_CUR) != len(_CONTENT):
            raise Wrong(f"a file of the program's was touched: {found!r}")
        os.close(fd)
    return cache


def _fork_in_c(cache: VolatileCache[int, bytes], directory: Path) -> VolatileCache[int, bytes]:
    child = c_fork()
    if child == 0:
        signal.alarm(60)
        cache[5] = b"child" * 50
        good = cache.get(5) in (b"child" * 50, None)
        cache.close()
        os._exit(0 if good else 3)
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise Wrong(f"a child forked in C ended with {code}")
    return cache


def _no_threads(cache: VolatileCache[int, bytes], directory: Path) -> VolatileCache[int, bytes]:
    def refuse(*arguments: object, **options: object) -> None:
        raise RuntimeError("can't start new thread")

    kept = threading.Thread.start
    try:
        threading.Thread.start = refuse  # type: ignore[method-assign]
        if cache.get_or_set(-1, lambda: b"made") != b"made":
            raise Wrong("what was made without a thread is something else")
        return cache
    finally:
        threading.Thread.start = kept  # type: ignore[method-assign]


def _pressure(cache: VolatileCache[int, bytes], directory: Path) -> VolatileCache[int, bytes]:
    pressure.tell_all()
    cache.purge()
    return cache


def _sigbus(cache: VolatileCache[int, bytes], directory: Path) -> VolatileCache[int, bytes]:
    if _library is not None:
        with open(directory / "empty", "w+b") as file:
            if _library.jumped(file.fileno()) != 1:
                raise Wrong("a handler of the program's did not come")
    return cache


def _reopen(cache: VolatileCache[int, bytes], directory: Path) -> VolatileCache[int, bytes]:
    """The last cache goes, and with it the listener; another starts."""
    values = dict(cache.items())
    cache.close()
    new: VolatileCache[int, bytes] = VolatileCache()
    new.update(values)
    return new
