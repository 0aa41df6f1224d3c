"""The litmus tests as data: each race of the protocol, named, with its threads."""

from __future__ import annotations

from litmus.protocol.lab import Litmus, do
from mvolatile.model.stock.linger import marker, use_again, use_close_and_store
from mvolatile.model.stock.machine import FAULTCOUNT, USERFAULTFD, Config
from mvolatile.model.stock.programs import (
    child,
    close,
    close_and_reopen,
    close_and_store,
    copy_out,
    forker,
    in_turn,
    peek,
    pin,
    stray,
    survey,
    trap_elsewhere,
    write,
)

SMALL = Config()
LARGE = Config(large=True)
TOUCHED = Config(touch=True)
TOUCHED_LARGE = Config(touch=True, large=True)
BLIND = Config(pagemap=False)
COUNTED = Config(tier=FAULTCOUNT)
FORKS = Config(child_tier=USERFAULTFD)
SANDBOXED = Config(child_tier=USERFAULTFD, sandboxed=True)
FORKS_LARGE = Config(child_tier=USERFAULTFD, large=True)
FALLS_BACK = Config(child_tier=FAULTCOUNT)
COUNTED_FORKS = Config(tier=FAULTCOUNT, child_tier=FAULTCOUNT)

RACES = [
    Litmus("pin vs reclaim", SMALL, {"a": do(pin)}, purges=3),
    Litmus("pin vs reclaim, large", LARGE, {"a": do(pin)}, purges=3),
    Litmus("pin vs reclaim, three pages", Config(pages=3), {"a": do(pin)}, purges=2),
    Litmus("pin vs reclaim and a signal", Config(signals=True), {"a": do(pin)}, purges=2),
    Litmus("pin vs reclaim, no pagemap", BLIND, {"a": do(pin, rebuild=2)}, purges=2),
    Litmus("pin vs reclaim, faultcount", COUNTED, {"a": do(pin)}, purges=3),
    Litmus(
        "pin vs reclaim and a signal, faultcount",
        Config(tier=FAULTCOUNT, signals=True),
        {"a": do(pin)},
        purges=2,
    ),
    Litmus("pin by touch vs reclaim", TOUCHED, {"a": do(pin)}, purges=3),
    Litmus("pin by touch vs peek", TOUCHED, {"a": do(pin), "b": do(peek)}),
    Litmus("pin by touch vs peek, large", TOUCHED_LARGE, {"a": do(pin), "b": do(peek)}),
    Litmus(
        "lost and rebuilt inside a peek, by touch",
        TOUCHED,
        {"a": do(pin, rebuild=2), "b": do(peek)},
        purges=2,
    ),
    Litmus(
        "read, then pin by touch",
        TOUCHED,
        {"a": do(in_turn, parts=(do(survey), do(copy_out, pages=3), do(pin, rebuild=2))), "b": do(peek)},
        purges=2,
    ),
    Litmus(
        "rebuilt inside a peek by touch, then pinned",
        TOUCHED,
        {"a": do(pin, rebuild=2), "b": do(peek), "c": do(pin)},
        stress=True,
    ),
    Litmus("nested pins", SMALL, {"a": do(pin, nested=True), "b": do(pin)}, purges=2),
    Litmus("nested pins, large", LARGE, {"a": do(pin, nested=True), "b": do(pin)}, purges=2),
    Litmus("nested pins, faultcount", COUNTED, {"a": do(pin, nested=True), "b": do(pin)}, purges=2),
    Litmus("two rebuild", SMALL, {"a": do(pin, rebuild=2), "b": do(pin)}, purges=2),
    Litmus("pin vs peek", SMALL, {"a": do(pin), "b": do(peek)}),
    Litmus("pin vs peek, large", LARGE, {"a": do(pin), "b": do(peek)}),
    Litmus("pin vs peek, no pagemap", BLIND, {"a": do(pin), "b": do(peek)}),
    Litmus("two peeks", SMALL, {"a": do(peek), "b": do(peek)}),
    Litmus("two peeks, large", LARGE, {"a": do(peek), "b": do(peek)}),
    Litmus("two peeks, ioctl refused", SANDBOXED, {"a": do(peek), "b": do(peek)}),
    Litmus("peek vs a trap elsewhere, ioctl refused", SANDBOXED, {"a": do(trap_elsewhere), "b": do(peek)}),
    Litmus("lost and rebuilt inside a peek", SMALL, {"a": do(pin, rebuild=2), "b": do(peek)}, purges=2),
    Litmus(
        "lost and rebuilt inside a peek, large", LARGE, {"a": do(pin, rebuild=2), "b": do(peek)}, purges=2
    ),
    Litmus("lost and rebuilt inside a peek, no pagemap", BLIND, {"a": do(pin, rebuild=2), "b": do(peek)}),
    Litmus(
        "rebuilt inside a peek, then pinned", SMALL, {"a": do(pin, rebuild=2), "b": do(peek), "c": do(pin)}
    ),
    Litmus(
        "rebuilt inside a peek, then pinned, large",
        LARGE,
        {"a": do(pin, rebuild=2), "b": do(peek), "c": do(pin)},
        stress=True,
    ),
    Litmus("write pin vs peek", SMALL, {"a": do(pin, write=2), "b": do(peek)}),
    Litmus("write pin vs peek, faultcount", COUNTED, {"a": do(pin, write=2), "b": do(peek)}, purges=2),
    Litmus("write pin vs peek, signal blocked", SMALL, {"a": do(pin, write=2), "b": do(peek, blocked=True)}),
    Litmus(
        "pin vs read, signal blocked",
        SMALL,
        {"a": do(pin, rebuild=2), "b": do(copy_out, pages=3, blocked=True)},
    ),
    Litmus("write vs peek", SMALL, {"a": do(write, pages=3, version=2), "b": do(peek)}),
    Litmus("write vs peek, large", LARGE, {"a": do(write, pages=3, version=2), "b": do(peek)}),
    Litmus(
        "first write vs peek",
        LARGE,
        {"a": do(write, pages=1, version=2), "b": do(peek, zeros=True)},
        fresh=True,
    ),
    Litmus(
        "write, then pin, large",
        LARGE,
        {"a": do(in_turn, parts=(do(write, pages=3, version=2), do(pin)))},
        purges=2,
    ),
    Litmus(
        "read, then pin, large",
        LARGE,
        {"a": do(in_turn, parts=(do(copy_out, pages=1), do(copy_out, pages=3), do(pin, rebuild=2), do(pin)))},
        purges=3,
    ),
    Litmus(
        "survey, then write, then pin, large",
        LARGE,
        {
            "a": do(in_turn, parts=(do(survey), do(write, pages=2, version=1), do(pin, rebuild=2))),
            "b": do(peek),
        },
        purges=2,
        stress=True,
    ),
    Litmus("write vs read", SMALL, {"a": do(write, pages=3, version=2), "b": do(copy_out, pages=3)}),
    Litmus("read vs read", LARGE, {"a": do(copy_out, pages=3), "b": do(copy_out, pages=3)}),
    Litmus("read vs pin, faultcount", COUNTED, {"a": do(copy_out, pages=3), "b": do(pin)}, purges=2),
    Litmus("survey vs peek", SMALL, {"a": do(survey), "b": do(peek)}),
    Litmus("survey vs rebuild", LARGE, {"a": do(survey), "b": do(pin, rebuild=2)}, purges=2),
    Litmus("fork vs pin", FORKS, {"a": do(pin, rebuild=2), "forker": do(forker), "child": do(child)}),
    Litmus(
        "fork vs pin, large", FORKS_LARGE, {"a": do(pin, rebuild=2), "forker": do(forker), "child": do(child)}
    ),
    Litmus("fork vs peek", FORKS, {"a": do(peek), "forker": do(forker), "child": do(child)}),
    Litmus("fork vs read", FORKS, {"a": do(copy_out, pages=3), "forker": do(forker), "child": do(child)}),
    Litmus(
        "fork vs peek, pages first",
        FORKS,
        {"a": do(peek), "forker": do(forker, library_first=False), "child": do(child)},
    ),
    Litmus(
        "fork inside a peek", FORKS, {"a": do(pin), "forker": do(forker, peeking=True), "child": do(child)}
    ),
    Litmus(
        "fork interrupted inside a peek",
        FORKS,
        {"forker": do(forker, peeking=True, interrupted=True), "child": do(child)},
    ),
    Litmus(
        "fork inside a peek, falling back",
        FALLS_BACK,
        {"forker": do(forker, peeking=True), "child": do(child)},
    ),
    Litmus(
        "fork of what was never written",
        FORKS,
        {"forker": do(forker, peeking=True, zeros=True), "child": do(child, zeros=True)},
        fresh=True,
    ),
    Litmus("fork vs pin, falling back", FALLS_BACK, {"a": do(pin), "forker": do(forker), "child": do(child)}),
    Litmus(
        "fork vs pin, faultcount",
        COUNTED_FORKS,
        {"a": do(pin), "forker": do(forker), "child": do(child)},
        purges=2,
    ),
    Litmus(
        "fork vs pin, faultcount, no mlock",
        Config(tier=FAULTCOUNT, child_tier=FAULTCOUNT, mlock=False),
        {"a": do(pin), "forker": do(forker), "child": do(child)},
    ),
    Litmus("close vs peek", Config(ranges=2), {"a": do(peek), "b": do(close)}),
    Litmus(
        "close vs trap",
        Config(ranges=2),
        {"a": do(stray, page=0, raw=True), "b": do(close_and_reopen, r=1, version=2)},
        purges=2,
    ),
    Litmus(
        "close vs trap, same struct",
        Config(ranges=2),
        {"a": do(stray, page=0, raw=True), "b": do(close_and_reopen, r=0, version=2)},
        purges=2,
    ),
    Litmus(
        "close vs trap, large",
        Config(ranges=2, large=True),
        {"a": do(stray, page=0, raw=True), "b": do(close_and_reopen, r=1, version=2)},
        purges=2,
    ),
    Litmus("store", Config(ranges=2), {"a": do(close_and_store, r=1, version=2)}, purges=3),
    Litmus(
        "store, large", Config(ranges=2, large=True), {"a": do(close_and_store, r=1, version=2)}, purges=3
    ),
    Litmus(
        "store, no pagemap",
        Config(ranges=2, pagemap=False),
        {"a": do(close_and_store, r=1, version=2)},
        purges=3,
    ),
    Litmus(
        "store in fresh memory",
        Config(ranges=2),
        {"a": do(close_and_store, r=1, version=2, keep=False)},
        purges=2,
    ),
    Litmus("store vs peek", Config(ranges=2), {"a": do(peek), "b": do(close_and_store, r=1, version=2)}),
    Litmus(
        "store vs peek, large",
        Config(ranges=2, large=True),
        {"a": do(peek), "b": do(close_and_store, r=1, version=2)},
    ),
    Litmus(
        "store vs trap",
        Config(ranges=2),
        {"a": do(stray, page=0, raw=True), "b": do(close_and_store, r=1, version=2)},
    ),
    Litmus(
        "store vs trap, same struct",
        Config(ranges=2),
        {"a": do(stray, page=0, raw=True), "b": do(close_and_store, r=0, version=2)},
    ),
    Litmus("lingering", SMALL, {"a": do(use_again), "b": do(marker, r=0, rounds=2)}, purges=2),
    Litmus("lingering, large", LARGE, {"a": do(use_again), "b": do(marker, r=0, rounds=2)}, purges=2),
    Litmus(
        "lingering vs peek", SMALL, {"a": do(use_again), "b": do(marker, r=0), "c": do(peek)}, stress=True
    ),
    Litmus(
        "lingering, stored",
        Config(ranges=2),
        {"a": do(use_close_and_store, r=1, version=2), "b": do(marker, r=0)},
        purges=2,
    ),
    Litmus("two peeks and a pin", SMALL, {"a": do(peek), "b": do(peek), "c": do(pin)}, stress=True),
    Litmus(
        "peek, peek, rebuild", SMALL, {"a": do(peek), "b": do(peek), "c": do(pin, rebuild=2)}, stress=True
    ),
    Litmus(
        "read, read, write, large",
        LARGE,
        {"a": do(copy_out, pages=3), "b": do(peek), "c": do(write, pages=3, version=2)},
        stress=True,
    ),
]
