"""What is dear lies apart, and is read again, so that the kernel takes it last."""

from __future__ import annotations

import signal
import threading
from itertools import count

import pytest

import mvolatile as mv
from mvolatile import _core
from mvolatile.cache.cost import class_of
from mvolatile.cache.engine import engine_of
from mvolatile.cache.keeping import Keeping
from mvolatile.cache.store import DEAR, FRESH, LargeValue, Store, region_of
from mvolatile.memory import stored_memory

CHEAP, COSTLY = class_of(0.001), class_of(0.5)
needs_traps = pytest.mark.skipif(
    mv.features().tier != "userfaultfd", reason="pages are read again where they trap"
)


def filled(cache: mv.VolatileCache[int, bytes], one_in: int = 20) -> tuple[set[int], set[int]]:
    """The regions of what is dear, and of the rest, but for those of before it was known what is usual."""
    for key in range(4000):
        cache.set(key, bytes(1000), cost=0.5 if key % one_in == 0 else 0.001)
    index = engine_of(cache).store.index
    late = range(2000, 4000)
    return (
        {region_of(index[key]) for key in late if key % one_in == 0},
        {region_of(index[key]) for key in late if key % one_in},
    )


def test_what_is_dear_shares_segments_of_its_own() -> None:
    with mv.VolatileCache[int, bytes]() as cache:
        dear, cheap = filled(cache)
        assert not dear & cheap
        assert len(dear) < len(cheap) / 5


def test_not_where_a_bound_says_what_goes() -> None:
    """Two more segments that are being filled would break what is promised of `max_bytes`."""
    with mv.VolatileCache[int, bytes](64 << 20) as cache:
        dear, cheap = filled(cache)
        assert dear <= cheap


def test_plain_stores_go_apart_too() -> None:
    """What a decorator stores in one call (`put.c`)."""
    with mv.VolatileCache[int, bytes]() as cache:
        filled(cache)
        lookup, index = engine_of(cache).lookup, engine_of(cache).store.index
        cache[5000] = bytes(1000)  # arms it
        assert lookup.put(5001, bytes(1000), None, CHEAP)
        assert not lookup.put(5002, bytes(1000), None, COSTLY), "it goes the long way"
        assert region_of(index[5001]) == region_of(index[5000])
        cache.set(5002, bytes(1000), cost=0.5)
        assert region_of(index[5002]) != region_of(index[5000])


class Reads(Keeping):
    """Notes what is read again."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.read: list[int] = []

    def _read(self, region: object) -> None:
        self.read.append(region.number)  # type: ignore[attr-defined]
        super()._read(region)  # type: ignore[arg-type]


def with_large(costs: list[int], nbytes: int = 128 << 10) -> tuple[Store, Reads]:
    store, keys = Store(), count()
    keeping = Reads(store)
    store.sealed, store.retired = keeping.sealed, keeping.left
    for cost in costs:
        memory = stored_memory([bytes(nbytes)], "value", dump=True, inherit=True)
        store.put_large(LargeValue(store.next_number(), next(keys), 0, nbytes, memory, cost=cost))
    return store, keeping


def test_what_is_worth_more_is_read_again_in_turn() -> None:
    store, keeping = with_large([CHEAP] * 8 + [COSTLY, CHEAP, COSTLY, CHEAP])
    dear = [region_of(store.index[key]) for key in (8, 10)]
    keeping.read.clear()
    keeping.read_again()
    assert sorted(keeping.read) == dear, "each once"
    keeping.read.clear()
    for _ in range(4):
        keeping.read_again(1)
    assert keeping.read[:2] == keeping.read[2:]
    assert sorted(keeping.read[:2]) == dear
    store.remove(8, None, "deleted")
    keeping.read.clear()
    keeping.read_again()
    assert keeping.read == dear[1:]


@pytest.mark.parametrize("cost", [0, CHEAP])
def test_where_all_cost_alike_nothing_is_done(cost: int) -> None:
    store, keeping = with_large([cost] * 30)
    keeping.read_again()
    assert not keeping.read
    assert store.filling(FRESH) is None


def test_stores_pay_for_it_by_what_they_fill() -> None:
    """As many bytes are read again as were filled, so that it never takes longer than the copies."""
    store, keeping = with_large([CHEAP] * 8 + [COSTLY] * 4)
    keeping.read.clear()
    for key in range(100, 116):
        memory = stored_memory([bytes(128 << 10)], "value", dump=True, inherit=True)
        store.put_large(LargeValue(store.next_number(), key, 0, 128 << 10, memory, cost=CHEAP))
    assert 4 <= len(keeping.read) <= 16


@needs_traps
def test_what_is_found_lost_leaves() -> None:
    store, keeping = with_large([CHEAP] * 8 + [COSTLY])
    region = store.regions[region_of(store.index[8])]
    region.memory.purge()
    keeping.read_again()
    assert region.number not in store.regions
    assert store.taken


def test_a_mean_cost_is_of_what_is_known() -> None:
    store = Store()
    for key, cost in enumerate([0, 40, 0, 60]):
        store.put_small(key, 0, b"bytes", cost=cost)
    segment = store.filling(FRESH)
    assert segment is not None
    assert segment.usual_cost() == 50
    assert Store().filling(FRESH) is None
    store.dear = 60
    store.put_small(9, 0, b"bytes", cost=60)
    assert store.open[FRESH + DEAR].usual_cost() == 60
    assert store.open[FRESH + DEAR].queue == FRESH


# ---- in the core


def test_keep_young_answers_whether_all_is_there() -> None:
    memory = mv.VolatileMemory(64 << 10)
    assert _core.keep_young(memory), "never written, so never lost"
    memory.write(bytes(range(256)) * 256)
    assert _core.keep_young(memory)
    with memory.pin():
        assert _core.keep_young(memory)
    with memory.pin(write=True) as view:
        assert not _core.keep_young(memory), "somebody writes: who knows"
        view[0] = 9
    assert memory.read(0, 2) == b"\x09\x01"
    memory.close()
    with pytest.raises(ValueError, match="closed"):
        _core.keep_young(memory)
    with pytest.raises(TypeError):
        _core.keep_young(object())  # type: ignore[arg-type]


@needs_traps
def test_keep_young_hides_no_loss() -> None:
    memory = mv.VolatileMemory(64 << 10)
    memory.write(b"x" * (64 << 10))
    _core.purge(memory, 16384, 4096)
    assert not _core.keep_young(memory)
    assert not _core.keep_young(memory)
    assert memory.purged() == ((16384, 4096),)
    with pytest.raises(mv.Purged) as lost, memory.pin():
        pass
    assert lost.value.extents == ((16384, 4096),)


@needs_traps
def test_keep_young_where_a_trap_would_kill() -> None:
    """A thread that has SIGBUS blocked reads nothing."""
    memory = mv.VolatileMemory(64 << 10)
    memory.write(b"x" * (64 << 10))
    memory.purge()
    answers = []

    def blocked() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGBUS})
        answers.append(_core.keep_young(memory))

    thread = threading.Thread(target=blocked)
    thread.start()
    thread.join()
    assert answers == [True]
    assert memory.purged() == ((0, 64 << 10),)
