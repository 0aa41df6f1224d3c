"""One program over a `VolatileMemory`, on both sides: pins and peeks are calls of the patch in the model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from conformance.differences import Divergence, Situation, Tally
from conformance.processes import Died, Nursery
from mvolatile.model.mvolatile import MVOLATILE_NONVOLATILE, MVOLATILE_VOLATILE
from mvolatile.model.sequential import Machine
from support.libc import PAGE
from support.losing import extents_of

MEMORY = "conformance.memory_commands:MemoryCommands"
SLOTS = 3


class Mirror:
    """What the patch's user would have to keep for one process to get what `VolatileMemory` promises."""

    def __init__(self, of: Mirror | None = None) -> None:
        self.pins: list[bool] = list(of.pins) if of else []
        self.marked: bool = of.marked if of else False
        self.lost: set[int] = set(of.lost if of else ())
        self.zeros: set[int] = set(of.zeros if of else ())
        self.found = False
        self.zeros_gone: bool = of.zeros_gone if of else False
        self.data: set[int] = set(of.data if of else ())
        self.lazy: set[int] = set(of.lazy if of else ())
        self.marked_shared: set[int] = set(of.marked_shared if of else ())

    def loses(self, pages: frozenset[int]) -> None:
        """A loss is detected; one that is known already is nothing new."""
        self.found = self.found or not pages <= self.lost
        self.lost |= pages
        self.zeros |= pages


class MemoryProgram:
    """A model and a tree of processes that must agree. Steps are ``(process, name, *arguments)``."""

    def __init__(self, nursery: Nursery, tier: str, tally: Tally, pages: int, short: int) -> None:
        self.nursery, self.tier, self.tally = nursery, tier, tally
        self.pages, self.short = pages, short
        self.machine = Machine()
        self.machine.mmap(0, 0, pages)
        self.paths: dict[int, tuple[int, ...]] = {0: (nursery.begin(tier),)}
        self.mirrors = {0: Mirror()}
        self.done: list[tuple[Any, ...]] = []
        self._real(0, "open", pages, short)
        tally.programs[tier] += 1

    # ---- running

    def do(self, number: int, name: str, *args: Any) -> None:
        """One step on both sides; `Divergence` shows the program up to here."""
        alive = sorted(self.paths)
        process = alive[number % len(alive)]
        self.done.append((number, name, *args))
        self.tally.operations[self.tier, name] += 1
        try:
            self.mirrors[process].found = False
            generation = self._real(process, "generation")
            getattr(self, f"_{name}")(process, *args)
            if process in self.paths:
                moved = self._real(process, "generation") > generation
                mirror = self.mirrors[process]
                if moved and not mirror.found and mirror.zeros_gone:
                    situation = Situation(self.tier, lost=True)
                    self.tally.require("generation", situation, "the generation moved, and nothing was lost")
                else:
                    self._same("generation moved", mirror.found, moved)
                if moved:
                    mirror.zeros_gone = False
        except (Divergence, Died, AssertionError, TimeoutError) as error:
            raise Divergence(f"{error}\n{self}") from error

    def __str__(self) -> str:
        lines = "".join(f"        {step},\n" for step in self.done)
        return f"    agree_on_memory(\n        {self.tier!r}, {self.pages}, {self.short},\n{lines}    )"

    def end(self) -> None:
        """Both sides end."""
        self.nursery.end(self.paths[0][0])

    def finish(self) -> None:
        """What every process has at the end."""
        for number, process in reversed(list(enumerate(sorted(self.paths)))):
            self.do(number, "purged")
            while self.mirrors[process].pins:
                self.do(number, "close")
                self.do(number, "unpin")
            self.do(number, "pin", False, "zero", 0)
            self.do(number, "unpin")
            self.do(number, "peek", 0, self.pages)
            self.do(number, "close")
        wrong = self.machine.wrong()
        if wrong:
            raise Divergence(f"the model itself: {wrong}\n{self}")

    def _real(self, process: int, name: str, *args: Any) -> Any:
        return self.nursery.call(self.paths[process], name, *args)

    def _same(self, what: str, model: Any, real: Any) -> None:
        if model != real:
            raise Divergence(f"{what}: the model says {model!r}, the kernel {real!r}")

    def _outcome(self, what: str, model: tuple[str, Any], real: tuple[str, Any]) -> None:
        self._same(what, model, real)
        self.tally.met[self.tier, f"{what}: {real[0]}"] += 1

    # ---- the patch's calls that stand for the protocol

    def _hold(self, process: int, pages: range) -> None:
        """Unmark; what is lost is remembered."""
        mirror = self.mirrors[process]
        lost = self.machine.lost(process) & set(pages)
        done = self.machine.mvolatile(process, pages.start, len(pages), MVOLATILE_NONVOLATILE)
        self._same("the model's own report", (len(pages), int(bool(lost))), done)
        mirror.loses(lost)
        mirror.data -= lost
        mirror.lazy -= set(pages)
        for page in sorted(mirror.data & set(pages)):
            if self.machine.sharers(process, page) > 1:
                self.tally.require("unmarked", self._situation(process, page), f"page {page} is unshared")
            self.machine.populate(process, page)

    def _release(self, process: int, pages: range) -> None:
        """Mark."""
        mirror = self.mirrors[process]
        self.machine.mvolatile(process, pages.start, len(pages), MVOLATILE_VOLATILE)
        mirror.marked = True
        mirror.lazy |= set(pages)
        mirror.data |= {page for page in pages if self.machine.frame(process, page)}
        shared = {page for page in pages if self.machine.sharers(process, page) > 1}
        mirror.marked_shared = (mirror.marked_shared - set(pages)) | shared

    def _survey(self, process: int) -> None:
        self.mirrors[process].loses(self.machine.lost(process))

    @property
    def _all(self) -> range:
        return range(self.pages)

    def _situation(self, process: int, page: int) -> Situation:
        mirror = self.mirrors[process]
        return Situation(
            self.tier,
            lazy=page in mirror.lazy,
            sharers=self.machine.sharers(process, page),
            marked_shared=page in mirror.marked_shared,
            lost=page in mirror.zeros,
        )

    def _values(self, process: int, pages: range) -> tuple[int | str, ...]:
        return tuple(self.machine.load(process, page) for page in pages)

    def _extents(self, process: int) -> tuple[tuple[int, int], ...]:
        found = list(extents_of(self.mirrors[process].lost))
        if self.mirrors[process].lost and self.pages - 1 in self.mirrors[process].lost:
            found[-1] = (found[-1][0], found[-1][1] - self.short)
        return tuple(found)

    # ---- steps

    def _pin(self, process: int, write: bool, on_purge: str, value: int) -> None:
        mirror = self.mirrors[process]
        if mirror.marked and not mirror.pins:
            self._hold(process, self._all)
        model: tuple[str, Any]
        if mirror.lost and on_purge == "raise":
            model = "purged", self._extents(process)
            if not mirror.pins:
                self._release(process, self._all)
        else:
            if mirror.lost and on_purge == "rebuild":
                for page in mirror.lost:
                    self.machine.store(process, page, value)
            mirror.lost.clear()
            mirror.pins.append(write)
            model = "whole", self._values(process, self._all)
        self._outcome("pin", model, self._real(process, "pin", write, on_purge, value))

    def _unpin(self, process: int) -> None:
        mirror = self.mirrors[process]
        if mirror.pins:
            mirror.pins.pop()
            self._real(process, "unpin")
            if not mirror.pins:
                self._release(process, self._all)

    def _store(self, process: int, page: int, value: int) -> None:
        if self.mirrors[process].pins[-1:] == [True]:
            self.machine.store(process, page % self.pages, value)
            self._real(process, "store", page % self.pages, value)

    def _window(self, page: int, length: int) -> range:
        return range(page % self.pages, min(page % self.pages + length, self.pages))

    def _read(self, process: int, page: int, length: int) -> None:
        pages, mirror = self._window(page, length), self.mirrors[process]
        lossy = mirror.lost or self.machine.lost(process) & set(pages)
        # Where memory traps, a read is a peek first, and holds pages only if that fails, or a loss is known anywhere.
        again = mirror.marked and not mirror.pins and (lossy or self.tier == "faultcount")
        if again:
            self._hold(process, pages)
        model: tuple[str, Any] = "whole", ()
        if not mirror.lost & set(pages):
            model = "whole", self._values(process, pages)
        if again:
            self._release(process, pages)
        if mirror.lost & set(pages):
            self._survey(process)
            model = "purged", self._extents(process)
        self._outcome("read", model, self._real(process, "read", pages.start, len(pages)))

    def _peek(self, process: int, page: int, length: int) -> None:
        pages, mirror = self._window(page, length), self.mirrors[process]
        real = self._real(process, "peek", pages.start, len(pages))
        # Where nothing traps, a peek is a pin.
        pinned = self.tier == "faultcount" and not mirror.pins
        if pinned and mirror.marked:
            self._hold(process, self._all)
        model: tuple[str, Any]
        if (mirror.lost | self.machine.lost(process)) & set(pages):
            self._survey(process)
            model = "purged", self._extents(process)
        else:
            model = "whole", self._values(process, pages)
        if pinned:
            self._release(process, self._all)
        self._outcome("peek", model, real)

    def _write(self, process: int, page: int, length: int, value: int) -> None:
        pages, mirror = self._window(page, length), self.mirrors[process]
        again = mirror.marked and not mirror.pins
        if again:
            self._hold(process, pages)
        for at in pages:
            self.machine.store(process, at, value)
        mirror.lost -= set(pages)
        if again:
            self._release(process, pages)
        elif not mirror.pins:
            self._release(process, self._all)
        nbytes = len(pages) * PAGE - (self.short if pages.stop == self.pages else 0)
        self._outcome(
            "write", ("whole", nbytes), self._real(process, "write", pages.start, len(pages), value)
        )

    def _pageout(self, process: int, pages: tuple[int, ...]) -> None:
        pages = tuple(page for page in pages if page < self.pages)
        self._gone(process, pages, self._real(process, "pageout", pages))

    def _gone(self, process: int, pages: Iterable[int], gone: tuple[int, ...]) -> None:
        for page in pages:
            may = self.machine.may_purge(process, page)
            if page in gone:
                if not may:
                    self._zeros_gone(process, page)
                self._same(f"sharers of page {page}, purged", 1, self.machine.sharers(process, page))
                self.machine.purge(process, page)
                self.tally.met[self.tier, "purged"] += 1
            elif may:
                message = f"the model may purge page {page}, and the kernel did not"
                self.tally.require("not purged", self._situation(process, page), message)

    def _zeros_gone(self, process: int, page: int) -> None:
        message = f"the kernel has purged page {page}, which the model holds"
        self.tally.require("zeros purged", self._situation(process, page), message)
        self.mirrors[process].zeros_gone = True
        self.machine.populate(process, page)
        if not self.machine.may_purge(process, page):
            raise Divergence(message)

    def _purge(self, process: int) -> None:
        mirror = self.mirrors[process]
        outcome, gone = self._real(process, "purge")
        if mirror.pins:
            self._outcome("purge", ("refused", "BufferError"), outcome)
            return
        if not mirror.marked:
            self._release(process, self._all)
        self._gone(process, self._all, gone)
        self._outcome("purge", ("whole", len(gone) * PAGE), outcome)

    def _purged(self, process: int) -> None:
        if self.mirrors[process].marked:
            self._survey(process)
        self._same("purged()", self._extents(process), self._real(process, "purged"))

    def _close(self, process: int) -> None:
        if self.mirrors[process].pins:
            self._outcome("close", ("refused", "BufferError"), self._real(process, "close"))

    def _fork(self, process: int) -> None:
        free = [slot for slot in range(SLOTS) if slot not in self.paths]
        if free:
            self.machine.fork(process, free[0])
            self._real(process, "fork", free[0])
            self.paths[free[0]] = (*self.paths[process], free[0])
            self.mirrors[free[0]] = Mirror(self.mirrors[process])

    def _exit(self, process: int) -> None:
        path = self.paths[process]
        if process and not any(other[:-1] == path for other in self.paths.values()):
            self.machine.exit(process)
            self._same("exit status", 0, self.nursery.call(path[:-1], "exit", path[-1]))
            del self.paths[process], self.mirrors[process]


def agree_on_memory(
    nursery: Nursery, tier: str, pages: int, short: int, *steps: tuple[Any, ...], tally: Tally | None = None
) -> Tally:
    """Run one program to its end on both sides; `Divergence` if they differ."""
    tally = tally or Tally()
    program = MemoryProgram(nursery, tier, tally, pages, short)
    try:
        for step in steps:
            program.do(*step)
        program.finish()
    finally:
        program.end()
    return tally
