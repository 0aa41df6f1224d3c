"""With swap: a page that was swapped out before it is marked (schedule 10), and one that is not volatile at all."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from support.cgroups import run_limited
from support.zram import Unavailable, zram_swap

pytestmark = [pytest.mark.usefixtures("needs_cgroup"), pytest.mark.alone]

LIMIT = 64 << 20
SWAP = 192 << 20


@pytest.fixture(scope="module", autouse=True)
def _swap() -> Iterator[None]:
    try:
        with zram_swap(SWAP):
            yield
    except Unavailable as error:
        pytest.skip(f"{error}")


def swapped_then_marked(pages: int, huge: bool) -> None:
    import json

    from mvolatile import Purged, _core
    from support.libc import pageout, states
    from support.losing import page_bytes, stamped

    def look(memory: object, lost: tuple[tuple[int, int], ...]) -> int:
        gone = {page for offset, length in lost for page in range(offset // 4096, (offset + length) // 4096)}
        with memory.pin(on_purge="zero") as view:  # type: ignore[attr-defined]
            for page in range(pages):
                data = bytes(view[page * 4096 : (page + 1) * 4096])
                assert data == (bytes(4096) if page in gone else page_bytes(page)), page
        return len(gone)

    def lost(memory: object) -> tuple[tuple[int, int], ...]:
        try:
            with memory.pin():  # type: ignore[attr-defined]
                return ()
        except Purged as error:
            return error.extents

    def swap_out(memory: object, pages: int) -> None:
        for _ in range(
            3
        ):  # first reclaim finds out that the page is not lazily freed any more, then it swaps
            pageout(memory.address, pages * 4096)  # type: ignore[attr-defined]

    held, marked, half = (stamped(pages, huge=huge) for _ in range(3))
    swapped = []
    pins = [memory.pin().__enter__() for memory in (held, marked, half)]
    for memory in (held, marked):
        swap_out(memory, pages)
        swapped.append(states(memory.address, pages * 4096).count("swapped"))
    swap_out(half, pages // 2)
    assert all(bytes(pins[0][p * 4096 : (p + 1) * 4096]) == page_bytes(p) for p in range(pages)), (
        "held is safe"
    )
    pins[1].release()  # marks what is in swap
    pins[2].release()
    found = {"swapped": swapped, "lost": look(marked, lost(marked)), "half": look(half, lost(half))}
    assert _core.is_valid(marked)
    assert _core.is_valid(half)
    print(json.dumps(found))


@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
@pytest.mark.parametrize(("pages", "huge"), [(64, False), (1024, True)])
def test_what_is_in_swap_when_it_is_marked_is_whole_or_reported(pages: int, huge: bool, tier: str) -> None:
    done = run_limited(swapped_then_marked, LIMIT, pages, huge, swap=SWAP, env={"MVOLATILE_TIER": tier})
    assert done.returncode == 0, f"{done}"
    found = json.loads(done.stdout)
    assert found["swapped"][0] > pages // 2, f"nothing went to swap, so nothing was tested: {found}"
    if tier == "userfaultfd":
        assert found["half"] <= pages // 2, "what was never swapped out is whole"


def test_volatile_memory_is_purged_and_the_rest_is_swapped() -> None:
    def both() -> None:
        from mvolatile import Purged, VolatileMemory

        plain = bytearray(b"p" * (48 << 20))
        memories = []
        for number in range(24):
            memory = VolatileMemory(4 << 20)
            memory.write(bytes([number]) * (4 << 20))
            memories.append(memory)
        lost = 0
        for number, memory in enumerate(memories):
            try:
                with memory.pin() as view:
                    assert bytes(view[::4096]) == bytes([number]) * 1024
            except Purged as error:
                lost += error.nbytes
        assert plain == b"p" * (48 << 20)
        print(lost)

    done = run_limited(both, LIMIT, swap=SWAP)
    assert done.returncode == 0, f"{done}"
    assert int(done.stdout) >= 48 << 20
