"""Large values are stored in memory of those that left, and nobody meets another's bytes by it."""

from __future__ import annotations

import gc
import random
import signal
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mvolatile import Purged, VolatileCache, VolatileMemory, _core
from mvolatile.cache.engine import engine_of

from .helpers import in_child, is_valid

SIZE = 300_000

pytestmark = pytest.mark.skipif(_core.tier() != "userfaultfd", reason="memory is kept where it is watched")


@pytest.fixture(autouse=True)
def _none_kept() -> Iterator[None]:
    gc.collect()
    _core.give_back_kept()
    yield
    _core.give_back_kept()


def value(number: int, nbytes: int = SIZE) -> bytes:
    return (b"%d;" % number * nbytes)[:nbytes]


def addresses(cache: VolatileCache[Any, Any]) -> set[int]:
    return {region.memory.address for region in engine_of(cache).store.regions.values()}


def full(count: int = 8, **options: Any) -> VolatileCache[int, bytes]:
    cache: VolatileCache[int, bytes] = VolatileCache(count * SIZE, **options)
    for number in range(count):
        cache[number] = value(number)
    return cache


def test_a_full_cache_lives_in_the_memory_it_has() -> None:
    with full() as cache:
        cache[-1] = value(-1)
        before = addresses(cache)
        for number in range(100, 200):
            cache[number] = value(number)
            assert cache[number] == value(number)
            assert _core.kept_bytes() <= 2 * SIZE
        assert len(addresses(cache) - before) <= 1
        assert all(found == value(number) for number, found in cache.items())
        is_valid(cache)


@pytest.mark.parametrize("leave", ["replace", "delete", "pop", "touch"])
def test_whatever_leaves_makes_room_for_the_next(leave: str) -> None:
    with VolatileCache[str, bytes]() as cache:
        cache["old"] = value(1)
        (address,) = addresses(cache)
        if leave == "replace":
            cache["old"] = b"small"
        elif leave == "delete":
            del cache["old"]
        elif leave == "pop":
            cache.pop("old")
        else:
            cache.touch("old", 0)
        cache["new"] = value(2)
        assert address in addresses(cache)
        assert cache["new"] == value(2)


@pytest.mark.parametrize("nbytes", [SIZE - 5000, SIZE - 1, SIZE, SIZE + 1, SIZE - 3 * 4096])
def test_values_of_about_that_size_share_it(nbytes: int) -> None:
    with VolatileCache[str, bytes]() as cache:
        for number in range(6):
            cache["key"] = value(number, SIZE if number % 2 else nbytes)
            assert cache["key"] == value(number, SIZE if number % 2 else nbytes)
            (region,) = [
                region for region in engine_of(cache).store.regions.values() if region.keys == ["key"]
            ]
            assert not region.memory.purged()
            region.memory.purge()
            assert cache.get("key") is None


def test_an_array_keeps_its_memory() -> None:
    with VolatileCache[int, Any](4 * 8 * SIZE) as cache:
        held = []
        for number in range(40):
            cache[number] = np.full(SIZE, number, "<i8")
            held.append(cache[number])
        assert all((array == number).all() for number, array in enumerate(held))


def test_a_reader_of_what_left_meanwhile_looks_again() -> None:
    with VolatileCache[str, bytes]() as cache:
        cache["key"] = value(1)
        (region,) = engine_of(cache).store.regions.values()
        cache["key"] = value(2)
        cache["other"] = value(3)
        with pytest.raises(ValueError, match="closed"):
            region.read(0)
        assert cache["key"] == value(2)


def test_nothing_is_kept_once_it_is_cleared_or_closed_or_gone() -> None:
    cache = full()
    for number in range(100, 110):
        cache[number] = value(number)
    del cache[109]
    assert _core.kept_bytes()
    cache.clear()
    assert not _core.kept_bytes()
    cache[1] = value(1)
    del cache[1]
    assert _core.kept_bytes()
    cache.close()
    assert not _core.kept_bytes()
    cache = full()
    del cache[0]
    assert _core.kept_bytes()
    del cache
    gc.collect()
    assert not _core.kept_bytes()


def test_it_is_a_small_part_of_what_is_stored_and_volatile() -> None:
    with full(64) as cache:
        for number in range(64):
            del cache[number]
            assert _core.kept_bytes() <= max(SIZE + 4096, cache.cache_info().bytes // 8 + SIZE)
        assert _core.kept_bytes() <= SIZE + 4096


def test_under_pressure_it_is_given_back() -> None:
    with full() as cache:
        del cache[0]
        assert _core.kept_bytes()
        engine_of(cache).under_pressure()
        assert not _core.kept_bytes()


def test_a_cache_gets_memory_of_its_own_kind_alone() -> None:
    with VolatileCache[int, bytes](inherit=False) as wiped, VolatileCache[int, bytes]() as plain:
        wiped[1] = value(1)
        (address,) = addresses(wiped)
        del wiped[1]
        plain[1] = value(1)
        assert address not in addresses(plain)
        wiped[2] = value(2)
        assert address in addresses(wiped)


def test_a_child_has_none_of_it() -> None:
    with full() as cache:
        del cache[0]

        def look() -> None:
            assert not _core.kept_bytes()
            for number in range(100, 120):
                cache[number] = value(number)
                assert cache[number] == value(number)

        in_child(look)
        assert not _core.kept_bytes()
        for number in range(200, 220):
            cache[number] = value(number)
            assert cache[number] == value(number)


def test_parts_of_a_value_are_put_one_after_another() -> None:
    with VolatileCache[int, Any]() as cache:
        for number in range(4):
            parts: list[Any] = [
                np.arange(n, dtype="<u4") * (number + 1) for n in (1000, 50_001, 3, 70_000, 0)
            ]
            parts += [np.zeros((300, 200))[:, ::2], np.array(["2026-11-28"] * 5000, "M8[D]"), np.float64(1)]
            cache[0] = parts
            for given, found in zip(parts, cache[0], strict=True):
                assert np.array_equal(given, found)
            gaps = np.arange(400_000).reshape(400, 1000)[:, ::3]
            cache[1] = gaps
            assert np.array_equal(cache[1], gaps)


def test_a_source_that_is_lost_is_told_by_its_peek() -> None:
    with VolatileMemory(SIZE) as memory, VolatileCache[int, Any]() as cache:
        for _ in range(3):
            memory.write(value(1))
            with pytest.raises(Purged), memory.peek() as view:
                memory.purge()
                cache[1] = view
            _core.forgive(memory)


def test_a_thread_whose_traps_would_kill_stores() -> None:
    done: list[Any] = []

    def store() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGBUS])
        for number in range(100, 130):
            cache[number] = value(number)
            assert cache[number] == value(number)
        done.append(True)

    with full() as cache:
        del cache[0]
        thread = threading.Thread(target=store)
        thread.start()
        thread.join()
        assert done


def test_no_two_values_are_mixed() -> None:
    """Readers, writers and a purger at once; each value tells its key and its checksum."""

    def make(key: int) -> bytes:
        head = b"%08d" % key
        body = random.Random(key).randbytes(4096) * random.randrange(5, 90)
        return head + body + zlib.crc32(head + body).to_bytes(4, "little")

    def check(key: int, found: bytes | None) -> None:
        if found is not None:
            assert found[:8] == b"%08d" % key
            assert zlib.crc32(found[:-4]).to_bytes(4, "little") == found[-4:]

    failed: list[BaseException] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(400):
                key = chance.randrange(40)
                check(key, cache.get(key))
                if chance.random() < 0.5:
                    cache[key] = make(key)
                if chance.random() < 0.1:
                    cache.purge(1 << 20)
                if chance.random() < 0.1:
                    cache.pop(chance.randrange(40), None)
        except BaseException as error:
            failed.append(error)

    with VolatileCache[int, bytes](3 << 20) as cache:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed
        is_valid(cache)


def test_mappings_do_not_grow() -> None:
    with VolatileCache[int, bytes](40 << 20) as cache:
        for number in range(60):
            cache[number] = bytes(3 << 20)
        with open("/proc/self/maps") as maps:
            before = len(maps.readlines())
        for number in range(100, 160):
            cache[number] = value(number, 3 << 20)
        with open("/proc/self/maps") as maps:
            assert len(maps.readlines()) <= before + 3
