"""Core dumps: with ``dump=False`` a memory's bytes stay out of them, and only its own."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from mvolatile import VolatileCache, VolatileMemory
from mvolatile.cache.engine import engine_of
from mvolatile.kernel.smaps import mappings
from support.memories import HUGE, PAGE, every_layout, filled
from support.processes import run_python

CRASH = """
import os, resource, sys
from mvolatile import VolatileMemory
resource.setrlimit(resource.RLIMIT_CORE, (-1, -1))
os.chdir(sys.argv[1])
nbytes, keep = int(sys.argv[2]), []
for dump, masked in ((True, sys.argv[3]), (False, sys.argv[4])):
    memory = VolatileMemory(nbytes, dump=dump)
    with memory.pin(write=True) as view:
        for i in range(0, len(masked), 2):  # in the memory alone do the bytes stand together, and unmasked
            view[i // 2] = int(masked[i : i + 2], 16) ^ 0x5A
    keep.append(memory)
os.abort()
"""


def kept_out(memory: VolatileMemory) -> bool:
    """As the kernel has it, whatever the mapping's other owners."""
    return any("dd" in one.flags for one in mappings() if one.start <= memory.address < one.end)


@every_layout
def test_the_kernel_is_told(layout: str) -> None:
    dumped, secret, also_dumped = filled(layout), filled(layout, dump=False), filled(layout)
    assert kept_out(secret)
    assert not kept_out(dumped)
    assert not kept_out(also_dumped)
    for memory in (dumped, secret, also_dumped):
        memory.close()


def test_an_option_dies_with_its_owner() -> None:
    """The next owner of the memory has what it asked for itself."""
    for nbytes in (PAGE, 9 * PAGE, HUGE):
        for _ in range(3):
            with VolatileMemory(nbytes, dump=False) as memory:
                assert kept_out(memory)
            with VolatileMemory(nbytes) as memory:
                assert not kept_out(memory)


def test_a_cache_kept_out() -> None:
    with VolatileCache(dump=False) as secret, VolatileCache() as cache:
        for one in (secret, cache):
            for i in range(200):
                one[i] = b"x" * 1000
            one["large"] = b"y" * 3_000_000
        for one, out in ((secret, True), (cache, False)):
            assert {kept_out(region.memory) for region in engine_of(one).store.regions.values()} == {out}


def _core_pattern() -> str:
    return Path("/proc/sys/kernel/core_pattern").read_text().strip()


@pytest.mark.parametrize("nbytes", [3 * PAGE, HUGE + PAGE])
def test_a_real_core_dump(tier: str, nbytes: int, tmp_path: Path) -> None:
    if _core_pattern() not in ("core", "core.%p"):
        pytest.skip(f"core dumps do not go to the working directory here, but to {_core_pattern()!r}")
    source = random.Random(nbytes)
    dumped, secret = source.randbytes(200), source.randbytes(200)
    masked = [bytes(byte ^ 0x5A for byte in text).hex() for text in (dumped, secret)]
    done = run_python(CRASH, tmp_path, nbytes, *masked, env={"MVOLATILE_TIER": tier})
    assert done.returncode == -6, done
    cores = list(tmp_path.glob("core*"))
    if not cores:
        pytest.skip("this machine writes no core dumps")
    text = cores[0].read_bytes()
    os.unlink(cores[0])
    assert dumped in text, "what may be dumped is not there, so this proves nothing"
    assert secret not in text
