"""Order after disorder: a change was cut short by `KeyboardInterrupt`, or left behind in its thread by a fork."""

from __future__ import annotations

from contextlib import suppress

from .log import Log
from .segment import NUMBER_SHIFT, Segment

__all__ = ["mend"]


def mend(log: Log) -> None:
    """A change was interrupted, or its thread left behind by a fork: recount, and put every shelf in order."""
    if log.newest is not None and (log.newest.view is None or log.newest.number not in log.by_number):
        log.newest = None
    if log.survivors is not None and (
        log.survivors.view is None or log.survivors.number not in log.by_number
    ):
        log.survivors = None
    for order in (log.ahead, log.behind):
        for number in [number for number in order if number not in log.by_number]:
            del order[number]
    open_ones = [shelf for shelf in (log.newest, log.survivors) if shelf is not None]
    ordered = {*(shelf.number for shelf in open_ones), *log.ahead, *log.behind}
    for number, shelf in list(log.by_number.items()):
        if isinstance(shelf, Segment):
            shelf.mend()
            if shelf not in open_ones:
                shelf.seal()
        log.register(shelf)
        if number not in ordered:
            log.ahead[number] = shelf
    for number in set(log.shelves) - set(log.by_number):
        del log.shelves[number]
    dangling = {locator >> NUMBER_SHIFT for locator in log.index.values()} - set(log.by_number)
    known = {job[0].number for job in log.dropped}
    if dangling - known:
        for key, locator in list(log.index.items()):
            if locator >> NUMBER_SHIFT in dangling - known:
                with suppress(Exception):  # a key that its owner has changed, or broken
                    log.evict(key)
    log.nbytes = sum(shelf.used - shelf.emptied for shelf in log.by_number.values())
    log.beside = sum(shelf.beside - shelf.emptied_beside for shelf in log.by_number.values())
