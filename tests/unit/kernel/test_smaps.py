"""What mappings hold: captured texts, and real mappings of real processes."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from mvolatile.kernel import smaps
from mvolatile.kernel.smaps import NAMELESS, Mapping, NamedUsage
from support.processes import run_python

PAGE = mmap.PAGESIZE
MIB = 1 << 20
BATCH = 32 * PAGE * (os.cpu_count() or 1)
"""Pages on their way to being lazily free wait in per-CPU batches, and are not counted until a batch is full.
"""


def entry(span: str, mode: str, path: str, flags: str = "rd wr mr mw me ac", **kib: int) -> str:
    """An entry as Linux 6.12 prints it."""
    sizes = {"Size": 0, "KernelPageSize": 4, "Rss": 0, "Pss": 0, "Anonymous": 0, "LazyFree": 0} | kib
    body = "".join(f"{key + ':':<16}{value:>8} kB\n" for key, value in sizes.items())
    return f"{span} {mode} 00000000 00:00 0 {path:>26}\n{body}THPeligible:           1\nVmFlags: {flags} \n"


SAMPLE = (
    entry("55d0c0a00000-55d0c0a21000", "rw-p", "[heap]", Rss=132, Anonymous=132)
    + entry(
        "7f1000000000-7f1000400000", "rw-p", "[anon:mvolatile:tiles]", "rd wr um", Rss=3072, LazyFree=2048
    )
    + entry(
        "7f1000400000-7f1000600000",
        "rw-p",
        "[anon:mvolatile:tiles]",
        "rd wr um",
        Rss=2048,
        AnonHugePages=2048,
    )
    + entry("7f1000600000-7f1000800000", "rw-p", "[anon:mvolatile:pool]", "rd wr um", Rss=8, Swap=4)
    + entry("7f1000800000-7f1000a00000", "rw-p", "[anon: glibc: malloc arena]", Rss=2048, LazyFree=2048)
    + entry("7f1000a00000-7f1000c00000", "rw-p", "", Rss=64, LazyFree=64)
)


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands for a process whose smaps were captured; lines may be added."""
    lines = SAMPLE.splitlines()
    monkeypatch.setattr(smaps, "_lines", lambda pid, name: lines)
    return lines


@pytest.fixture
def block() -> Iterator[tuple[mmap.mmap, int]]:
    """4 MiB of private anonymous memory that was written, between two mappings it cannot merge with."""
    with mmap.mmap(-1, 4 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        memory.write(b"x" * len(memory))
        handle = ctypes.c_char.from_buffer(memory)
        address = ctypes.addressof(handle)
        del handle
        yield memory, address


def at(address: int) -> Mapping:
    return next(found for found in smaps.mappings() if found.start <= address < found.end)


def test_the_sample(sample: list[str]) -> None:
    found = smaps.mappings(1)
    assert len(found) == 6
    assert found[1] == Mapping(
        0x7F1000000000,
        0x7F1000400000,
        "rw-p",
        "[anon:mvolatile:tiles]",
        rss=3 * MIB,
        lazy_free=2 * MIB,
        flags=frozenset({"rd", "wr", "um"}),
    )
    assert (found[1].size, found[1].anon_name) == (4 * MIB, "mvolatile:tiles")
    assert (found[0].anon_name, found[0].anonymous) == (None, 132 << 10)


def test_our_mappings_by_name(sample: list[str]) -> None:
    assert smaps.usage_by_name(1) == [
        NamedUsage("tiles", 2, 6 * MIB, 5 * MIB, 2 * MIB, 2 * MIB, 0),
        NamedUsage("pool", 1, 2 * MIB, 8 << 10, 0, 0, 4 << 10),
    ]


@pytest.mark.parametrize("deleted", ["", " (deleted)"])
def test_nameless_memory_is_ours_only_where_our_core_is_loaded(sample: list[str], deleted: str) -> None:
    path = f"/usr/lib/python3/site-packages/mvolatile/_core.abi3.so{deleted}"
    sample += entry("7f2000000000-7f2000001000", "r-xp", path).splitlines()
    sample += entry("7f2000200000-7f2000400000", "rw-p", "", "rd wr um").splitlines()
    sample += entry("7f2000400000-7f2000600000", "rw-s", "", "rd wr um").splitlines()
    nameless = [usage for usage in smaps.usage_by_name(1) if usage.name == NAMELESS]
    assert nameless == [NamedUsage(NAMELESS, 2, 4 * MIB, 64 << 10, 64 << 10)]


def test_lazily_freed_pages_of_this_process(block: tuple[mmap.mmap, int]) -> None:
    memory, address = block
    before = at(address).lazy_free
    memory.madvise(mmap.MADV_FREE, 0, MIB)
    found = at(address)
    assert MIB - BATCH <= found.lazy_free - before <= MIB
    assert found.rss >= found.lazy_free
    assert "ac" in found.flags or "rd" in found.flags


def test_the_rollup_is_the_sum(block: tuple[mmap.mmap, int]) -> None:
    memory, _ = block
    memory.madvise(mmap.MADV_FREE, 0, MIB)
    total = sum(found.lazy_free for found in smaps.mappings())
    assert abs(smaps.rollup().lazy_free - total) <= BATCH
    assert total >= MIB - BATCH
    assert smaps.rollup().path == "[rollup]"


def test_a_vanished_process() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    for read in (smaps.mappings, smaps.rollup, smaps.usage_by_name):
        with pytest.raises(ProcessLookupError, match=f"no process {process.pid}"):
            read(process.pid)


def test_a_zombie_has_no_mappings() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert smaps.mappings(process.pid) == []
        with pytest.raises(ProcessLookupError, match=r"no memory|no process"):
            smaps.rollup(process.pid)
    finally:
        process.wait(200)


def test_a_foreign_process() -> None:
    if os.geteuid() != 0:
        with pytest.raises(PermissionError, match="process 1 is somebody else's"):
            smaps.mappings(1)
        return

    def as_nobody() -> None:
        import os

        from mvolatile.kernel import smaps

        os.setuid(65534)
        try:
            smaps.mappings(1)
        except PermissionError as error:
            print(error)

    assert "process 1 is somebody else's" in run_python(as_nobody).check().stdout


def test_processes_that_use_the_library_are_found() -> None:
    def start(imports: str) -> subprocess.Popen[str]:
        code = f"import {imports}; print('up', flush=True); input()"
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        return process

    with start("mvolatile._core") as ours, start("mmap") as other:
        found = smaps.our_processes()
        assert ours.pid in found
        assert other.pid not in found
        for process in (ours, other):
            process.communicate("\n", 200)
    assert ours.pid not in smaps.our_processes()


def test_no_descriptor_of_pythons_is_open_meanwhile() -> None:
    """Another thread may close all descriptors, and open its own files: one would be read for ours, and closed."""

    def child() -> None:
        import os
        import sys

        from mvolatile.kernel import smaps

        opened: list[object] = []
        sys.addaudithook(lambda event, arguments: opened.append(arguments) if event == "open" else None)
        assert smaps.mappings()
        assert smaps.rollup(os.getpid()).rss
        assert opened == []

    run_python(child).check()
