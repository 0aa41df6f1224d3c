"""One raw program on both sides, operation by operation, and the comparison of everything that a program can see."""

from __future__ import annotations

import errno
from functools import partial
from typing import Any

from conformance.differences import Divergence, Situation, Tally
from conformance.operations import (
    BadCall,
    Exit,
    Fork,
    Mark,
    MarkMany,
    Mmap,
    Munmap,
    Operation,
    Purge,
    Read,
    ReadAll,
    Touch,
    Unmark,
    UnmarkMany,
    Write,
)
from conformance.processes import Died, Nursery
from conformance.raw_commands import PAGES
from mvolatile.model.mvolatile import MVOLATILE_NONVOLATILE, MVOLATILE_VOLATILE
from mvolatile.model.sequential import Machine
from support.libc import PAGE

RAW = "conformance.raw_commands:RawCommands"
SLOTS = 3
PROBE = 3
"""The slot of the modelled machine for the short-lived child of a `Touch`."""


class Known:
    """What the differences are decided by: how the kernel and the library have treated each page of a process."""

    def __init__(self, of: Known | None = None) -> None:
        self.lazy: set[int] = set(of.lazy if of else ())
        self.marked_shared: set[int] = set(of.marked_shared if of else ())
        self.data: set[int] = set(of.data if of else ())
        self.remapped: set[int] = set(of.remapped if of else ())
        self.marked: set[int] = set(of.marked if of else ())

    def gone(self, pages: range, tier: str) -> None:
        """Other memory, or none, is there now. Where nothing is watched the library's record of data stays."""
        self.remapped |= self.marked & set(pages)
        if tier == "userfaultfd":
            self.data -= set(pages)
        self.lazy -= set(pages)
        self.marked_shared -= set(pages)


class RawProgram:
    """A model and a tree of processes that must agree."""

    def __init__(self, nursery: Nursery, tier: str, tally: Tally, variant: str = "fixed") -> None:
        self.nursery, self.tier, self.tally = nursery, tier, tally
        self.machine = Machine(variant)
        self.paths: dict[int, tuple[int, ...]] = {0: (nursery.begin(tier),)}
        self.known = {0: Known()}
        self.done: list[Operation] = []
        tally.programs[tier] += 1

    # ---- running

    def do(self, operation: Operation) -> None:
        """The operation on both sides; `Divergence` shows the program up to here."""
        process = self.slot(operation.process)
        self.done.append(operation)
        self.tally.operations[self.tier, type(operation).__name__] += 1
        try:
            getattr(self, f"_{type(operation).__name__.lower()}")(process, operation)
        except (Divergence, Died, AssertionError, TimeoutError) as error:
            raise Divergence(f"{error}\n{self}") from error

    def slot(self, process: int) -> int:
        """Which of the processes that are alive is meant."""
        alive = sorted(self.paths)
        return alive[process % len(alive)]

    def __str__(self) -> str:
        lines = "".join(f"        {operation},\n" for operation in self.done)
        return f"    agree(\n        {self.tier!r},\n{lines}    )"

    def end(self) -> None:
        """Both sides end; nothing of the processes stays behind."""
        self.nursery.end(self.paths[0][0])

    def finish(self) -> None:
        """What every process has at the end: all bytes, all reports, all bytes again; and exact books in the model."""
        for process in sorted(self.paths, reverse=True):
            number = sorted(self.paths).index(process)
            self.do(ReadAll(number))
            for start, end in self.machine.mapped(process):
                self.do(Unmark(number, start, end - start))
            self.do(ReadAll(number))
        wrong = self.machine.wrong()
        if wrong:
            raise Divergence(f"the model itself: {wrong}\n{self}")

    def _real(self, process: int, name: str, *args: Any) -> Any:
        return self.nursery.call(self.paths[process], name, *args)

    def _situation(self, process: int, page: int) -> Situation:
        known = self.known[process]
        return Situation(
            self.tier,
            lazy=page in known.lazy,
            sharers=self.machine.sharers(process, page),
            marked_shared=page in known.marked_shared,
            lost=page in self.machine.lost(process),
            remapped=page in known.remapped,
        )

    def _same(self, what: str, model: Any, real: Any) -> None:
        if model != real:
            raise Divergence(f"{what}: the model says {model!r}, the kernel {real!r}")

    def _meet(self, what: str, times: int = 1) -> None:
        self.tally.met[self.tier, what] += times

    # ---- mapping

    def _mmap(self, process: int, op: Mmap) -> None:
        self.machine.mmap(process, op.start, op.length)
        self._real(process, "mmap", op.start, op.length)
        self.known[process].gone(range(op.start, op.start + op.length), self.tier)

    def _munmap(self, process: int, op: Munmap) -> None:
        self.machine.munmap(process, op.start, op.length)
        self._real(process, "munmap", op.start, op.length)
        self.known[process].gone(range(op.start, op.start + op.length), self.tier)

    # ---- the call

    def _real_call(self, process: int, start: int, length: int, mode: int, flags: int = 0) -> tuple[int, int]:
        try:
            nbytes, purged = self._real(process, "mvolatile", start, length, mode, flags)
        except OSError as error:
            return -(error.errno or 0), 0
        self._same("bytes done", length, nbytes)
        return nbytes // PAGE, purged

    def _call(self, process: int, start: int, length: int, mode: int) -> None:
        pages = range(start, start + length)
        volatile = self.machine.volatile(process) & set(pages)
        model = self.machine.mvolatile(process, start, length, mode)
        real = self._real_call(process, start * PAGE, length * PAGE, mode)
        what = f"mvolatile([{start}, {start + length}), {mode})"
        self._same(what, model[0], real[0])
        if real[0] < 0:
            self._meet(errno.errorcode[-real[0]])
            return
        if model[1] != real[1]:
            self._same_report(process, pages, what, model[1], real[1])
        known = self.known[process]
        if mode == MVOLATILE_VOLATILE:
            known.marked |= set(pages)
            known.lazy |= set(pages)
            known.data |= {page for page in pages if self.machine.frame(process, page)}
            shared = {page for page in pages if self.machine.sharers(process, page) > 1}
            known.marked_shared = (known.marked_shared - set(pages)) | shared
            return
        self._meet("purge reported" if real[1] else "nothing lost reported")
        self._unmarked(process, pages, volatile)

    def _same_report(self, process: int, pages: range, what: str, model: int, real: int) -> None:
        message = f"{what}: the model says purged={model}, the kernel {real}"
        if model:
            raise Divergence(message)
        remapped = any(page in self.known[process].remapped for page in pages)
        self.tally.require("reported", Situation(self.tier, remapped=remapped), message)

    def _unmarked(self, process: int, pages: range, volatile: frozenset[int]) -> None:
        known = self.known[process]
        for page in sorted(known.data & set(pages)):
            if self.machine.sharers(process, page) > 1 and page in volatile:
                self.tally.require("unmarked", self._situation(process, page), f"page {page} is unshared")
            if self.machine.frame(process, page):
                self.machine.populate(process, page)
        for kept in (known.lazy, known.marked_shared, known.data, known.remapped, known.marked):
            kept -= set(pages)

    def _mark(self, process: int, op: Mark) -> None:
        self._call(process, op.start, op.length, MVOLATILE_VOLATILE)

    def _unmark(self, process: int, op: Unmark) -> None:
        self._call(process, op.start, op.length, MVOLATILE_NONVOLATILE)

    def _markmany(self, process: int, op: MarkMany) -> None:
        for page in op.pages:
            self._call(process, page, 1, MVOLATILE_VOLATILE)

    def _unmarkmany(self, process: int, op: UnmarkMany) -> None:
        for page in op.pages:
            self._call(process, page, 1, MVOLATILE_NONVOLATILE)

    def _badcall(self, process: int, op: BadCall) -> None:
        real = self._real_call(process, op.start, op.length, op.mode, op.flags)
        if op.start % PAGE or op.length % PAGE:
            model = -errno.EINVAL, 0  # the model counts in pages
        else:
            model = self.machine.mvolatile(process, op.start // PAGE, op.length // PAGE, op.mode, op.flags)
        self._same(f"{op}", model, real)
        self._meet(errno.errorcode[-real[0]])

    # ---- touching

    def _access(self, process: int, name: str, page: int, *value: int) -> int | str:
        try:
            return int(self._real(process, name, page, *value))
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def _write(self, process: int, op: Write) -> None:
        situation = self._situation(process, op.page)
        model = self.machine.write(process, op.page, op.value)
        real = self._access(process, "write", op.page, op.value)
        if model != real:
            message = f"{op}: the model says {model}, the kernel {real}"
            self.tally.require("written", situation, message)
            self.machine.dontneed(process, op.page, 1)
            self._same(f"{op}", self.machine.write(process, op.page, op.value), real)
        self._meet("write refused" if real == "EFAULT" else "write")
        if real != "EFAULT":
            self.known[process].lazy.discard(op.page)

    def _read(self, process: int, op: Read) -> None:
        situation = self._situation(process, op.page)
        model = self.machine.read(process, op.page)
        real = self._access(process, "read", op.page)
        self._same_read(f"{op}", situation, model, real)
        self._meet("read refused" if real == "EFAULT" else "read")

    def _same_read(self, what: str, situation: Situation, model: int | str, real: int | str) -> None:
        if model == real:
            return
        message = f"{what}: the model says {model}, the kernel {real}"
        self.tally.require("read", situation, message)
        self._same(f"{what}, allowed to be zeros", 0, real)

    def _readall(self, process: int, op: ReadAll) -> None:
        situations = [self._situation(process, page) for page in range(PAGES)]
        seen = self._real(process, "read_all")
        for page, (situation, real) in enumerate(zip(situations, seen, strict=True)):
            model = self.machine.read(process, page)
            self._same_read(f"page {page} of {op}", situation, model, real)
            self._meet("read refused" if real == "EFAULT" else "read")

    def _touch(self, process: int, op: Touch) -> None:
        situation = self._situation(process, op.page)
        self.machine.fork(process, PROBE)
        touch = partial(self.machine.store, value=op.value) if op.value else self.machine.load
        model = touch(PROBE, op.page)
        self.machine.exit(PROBE)
        status = self._real(process, "touch", op.page, op.value)
        real = {-7: "SIGBUS", -11: "SIGSEGV"}.get(status, status)
        if op.value is None:
            self._same_read(f"{op}", situation, model, real)
        elif model != real:
            message = f"{op}: the model says {model}, the kernel {real}"
            self.tally.require("written", situation, message)
            self._same(f"{op}", op.value, real)
        self._meet(f"touch: {real}" if isinstance(real, str) else "touch")

    # ---- reclaim

    def _purge(self, process: int, op: Purge) -> None:
        gone = self._real(process, "pageout", op.pages)
        for page in op.pages:
            may = self.machine.may_purge(process, page)
            if page in gone:
                if not may:
                    raise Divergence(f"the kernel has purged page {page}, which the model holds")
                self._same(f"sharers of page {page}, purged", 1, self.machine.sharers(process, page))
                self.machine.purge(process, page)
                self._meet("purged")
            elif may:
                message = f"the model may purge page {page}, and the kernel did not"
                self.tally.require("not purged", self._situation(process, page), message)
            else:
                self._meet("held")
        self._same_losses(process)

    def _same_losses(self, process: int) -> None:
        if self.tier != "userfaultfd":
            return
        states = self._real(process, "states")
        missing = {page for page, state in enumerate(states) if state == "missing"}
        volatile = self.machine.volatile(process)
        self._same("pages that are lost", self.machine.lost(process), frozenset(missing & volatile))

    # ---- processes

    def _fork(self, process: int, op: Fork) -> None:
        free = [slot for slot in range(SLOTS) if slot not in self.paths]
        if not free:
            return
        self.machine.fork(process, free[0])
        self._real(process, "fork", free[0])
        self.paths[free[0]] = (*self.paths[process], free[0])
        self.known[free[0]] = Known(self.known[process])

    def _exit(self, process: int, op: Exit) -> None:
        path = self.paths[process]
        has_children = any(other[:-1] == path for other in self.paths.values())
        if not process or has_children:
            return
        self.machine.exit(process)
        status = self.nursery.call(path[:-1], "exit", path[-1])
        self._same("exit status", 0, status)
        del self.paths[process], self.known[process]


def agree(nursery: Nursery, tier: str, *operations: Operation, tally: Tally | None = None) -> Tally:
    """Run one program to its end on both sides; `Divergence` if they differ."""
    tally = tally or Tally()
    program = RawProgram(nursery, tier, tally)
    try:
        for operation in operations:
            program.do(operation)
        program.finish()
    finally:
        program.end()
    return tally
