"""A client's connections to its keeper: found, started, lost, and found again.

Each request has a *line* of its own while it lasts, from a pool; so one that waits for a lease keeps no other. One
more connection, the *anchor*, tells the client that the keeper is there, and the keeper which hints are the client's.
A line in the middle of a request that is interrupted is closed, and never used again.

Lines and anchors belong to a process: a forked child makes its own, and closes its copies of the parent's.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

from .._core import HINTS_HEADER, Channel, SharedFile, SlotIndex, Table, forks
from . import keys
from .place import LOOK_AGAIN, Place
from .values import Encoded, allocate, post
from .wire import INLINE, PROTOCOL, Flag, Op, Reply, Request, Status

__all__ = ["Connections", "Line"]

PATIENCE = 30_000
"""Milliseconds after which a keeper that does not answer is killed: its values could be read, and not be changed."""
ENDING = 20.0
"""Seconds that one which does not listen any more may take to end."""
AGAIN = 0.5
"""Seconds until a keeper that could not be started is asked for again."""
TRIES = 4
MOST_IDLE = 8
MAILBOX = 1 << 20
KEPT = 16 << 20
"""Bytes: a mailbox's pages beyond that are given back after each use."""


Counted: TypeAlias = tuple[int, int, float]


class Line:
    """A connection that makes one request after the other, and its mailbox."""

    __slots__ = ("channel", "mailbox", "nbytes", "waits")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.mailbox: SharedFile | None = None
        self.nbytes = 0
        self.waits = False  # for what the keeper will say by itself

    def hello(self, grace: float = 0.0) -> Reply | None:
        """What the keeper tells of itself; None if it is none of ours. It keeps what expired for `grace` seconds."""
        reply = self.ask(Request(Op.HELLO, length=PROTOCOL, seconds=grace))
        return reply if reply is not None and reply.status == Status.OK else None

    def ask(self, request: Request, descriptor: int = -1) -> Reply | None:
        """The answer; None if the keeper is gone. `OSError` where the message could not be sent for another reason."""
        answered = self.ask_for_descriptor(request, descriptor)
        if answered is None:
            return None
        reply, passed = answered
        if passed >= 0:
            os.close(passed)
        return reply

    def ask_for_descriptor(self, request: Request, descriptor: int = -1) -> tuple[Reply, int] | None:
        """As `ask`, and the descriptor that came along, or -1."""
        try:
            came = self.channel.ask(request.packed(), PATIENCE, descriptor)
        except BaseException:
            self.channel.close()  # the answer to this request must not be taken for the next one's
            raise
        if came is False:
            end_hung(self.channel)
        if not isinstance(came, tuple):
            self.channel.close()
            return None
        reply = Reply.unpacked(came[0])
        self.waits = reply.status == Status.WAIT
        return reply, came[1]

    def wait(self) -> Reply | None:
        """The answer after `WAIT`, whenever it comes."""
        try:
            came = self.channel.receive(-1)
        except BaseException:
            self.channel.close()
            raise
        self.waits = False
        return Reply.unpacked(came[0]) if isinstance(came, tuple) else None

    def with_mailbox(self, nbytes: int) -> SharedFile | None:
        """A mailbox of at least so many bytes, which the keeper knows; None if the keeper is gone."""
        if self.mailbox is None or self.nbytes < nbytes:
            self.nbytes = max(MAILBOX, -(-nbytes // MAILBOX) * MAILBOX)
            self.mailbox = SharedFile(self.nbytes)
            try:
                reply = self.ask(Request(Op.MAILBOX), self.mailbox.fileno())
            finally:
                self.mailbox.close()
            if reply is None:
                return None
        return self.mailbox

    def post(self, request: Request, encoded: Encoded) -> Reply | None:
        """As `ask`, of a store: a small value is in the request, a large one goes by the mailbox."""
        if encoded.nbytes <= INLINE:
            return self.ask(request)
        mailbox = self.with_mailbox(encoded.nbytes)
        if mailbox is None:
            return None
        post(encoded, mailbox)
        try:
            return self.ask(request._replace(flags=request.flags | Flag.IN_MAILBOX))
        finally:
            self.used_mailbox()

    def used_mailbox(self) -> None:
        """What was in it is where it was to go."""
        if self.mailbox is not None and self.nbytes > KEPT:
            self.mailbox.empty()


def end_hung(channel: Channel) -> None:
    """Kill a keeper that does not answer. Whoever listens is alive while the connection is open, so its number is its
    own.
    """
    with suppress(OSError):
        if channel.pid > 0 and channel.open:
            process = os.pidfd_open(channel.pid)
            try:
                if channel.open:
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            finally:
                os.close(process)


class Attachment(NamedTuple):
    """A keeper, as a client sees it."""

    anchor: Line
    table: Table
    hints: SharedFile
    ahead: float
    by_message: bool
    forks: int


class Connections:
    """Those of one client. Threads: any."""

    def __init__(self, name: str, max_bytes: int | None, linger: float, grace: float = 0.0) -> None:
        self.place = Place(name)
        self.max_bytes = max_bytes
        self.linger = linger
        self.grace = grace
        self.by_message = os.environ.get("MVOLATILE_SHARED_READ") == "message"
        self.attachment: Attachment | None = None
        self.closed = False
        self._counted: Counted = (0, 0, 0.0)  # by tables that were
        self._idle: dict[int, list[Line]] = {}
        self._locks: dict[int, Any] = {}
        self._refused_until = 0.0

    def _lock(self) -> Any:
        """This process's: a thread of the parent's that does not exist here may hold the other."""
        return self._locks.setdefault(forks(), threading.RLock())

    # ---- lines

    def _open_line(self, start: bool) -> tuple[Line, Reply] | None:
        """A new line, and what the keeper told of itself."""
        for _ in range(TRIES):
            channel = self.place.connect_patiently(time.monotonic() + PATIENCE / 1000)
            if channel is None and not start:
                return None
            if channel is None:
                if time.monotonic() < self._refused_until:
                    return None
                channel = self.place.start(self.max_bytes, self.linger)
                if channel is None:
                    self._refused_until = time.monotonic() + AGAIN
                    return None
            line = Line(channel)
            if (hello := line.hello(self.grace)) is not None:
                self.place.trouble = None
                return line, hello
        self.place.trouble = ConnectionResetError(
            errno.ECONNRESET, "it turns this process away; perhaps it has no descriptor left (ulimit -n)"
        )
        return None

    def line(self, start: bool) -> Line | None:
        """One that nobody uses; None if there is no keeper, or, with `start`, none to be had, or after `close`."""
        if self.closed:
            return None
        idle = self._idle.setdefault(forks(), [])
        while True:
            try:
                return idle.pop()
            except IndexError:
                break
        self._leave_parents()
        opened = self._open_line(start)
        return None if opened is None else opened[0]

    def give_back(self, line: Line) -> None:
        """Of a request that is over."""
        idle = self._idle.setdefault(forks(), [])
        if len(idle) < MOST_IDLE and not self.closed:
            idle.append(line)
        else:
            line.channel.close()

    def put_away(self, line: Line) -> None:
        """For the next request; a line that waits still is of no use."""
        if line.channel.fileno() >= 0 and not line.waits:
            self.give_back(line)
        else:
            line.channel.close()

    def lose(self, line: Line) -> None:
        """Its keeper is gone; those that nobody uses are the same one's."""
        line.channel.close()
        self._idle[forks()] = []

    def _leave_parents(self) -> None:
        for count in [count for count in self._idle if count != forks()]:
            for line in self._idle.pop(count, []):
                line.channel.close()

    def request(self, request: Request, start: bool = True) -> Reply | None:
        """The answer of the keeper there is by then; None if there is none, or, with `start`, none is to be had."""
        return self.with_line(lambda line: line.ask(request), start)

    def change(self, use: Callable[[Line], Reply | None], start: bool) -> Reply | None:
        """As `with_line`, for what takes values away, be it for newer ones. None: there is no keeper, and no value.

        `TimeoutError` where one lives and cannot be told. The bad schedules: a keeper that ends does not listen any
        more, or one that has no descriptor left turns us away, and both can be read still; one is stopped, and we may
        not kill it.
        """
        until = time.monotonic() + PATIENCE / 1000 + ENDING
        while (reply := self.with_line(use, start)) is None and not self.closed and self.place.is_kept():
            if time.monotonic() > until:
                raise TimeoutError(
                    errno.ETIMEDOUT, "a keeper lives and does not answer", str(self.place.path("lock"))
                )
            time.sleep(LOOK_AGAIN)
        return reply

    def tell(self, request: Request) -> Reply | None:
        """`change` by one request, to the keeper there is."""
        return self.change(lambda line: line.ask(request), start=False)

    def with_line(self, use: Callable[[Line], Reply | None], start: bool = True) -> Reply | None:
        """What `use` answers, given a line; with another if the keeper has died meanwhile."""
        for _ in range(TRIES):
            line = self.line(start)
            if line is None:
                return None
            try:
                reply = use(line)
            except BaseException:
                line.channel.close()
                raise
            if reply is not None:
                self.give_back(line)
                return reply
            self.lose(line)
        return None

    # ---- the table

    def counts(self) -> Counted:
        """Hits and misses of this process, and the seconds of making that the hits saved."""
        with self._lock():
            have = self.attachment
            hits, misses, saved = self._counted
            if have is not None and have.forks == forks():
                more = have.table.counts
                hits, misses, saved = hits + more[0], misses + more[1], saved + have.table.saved
            return hits, misses, saved

    def _leave(self) -> None:
        """That table is not looked at any more."""
        self._counted = self.counts()
        self.attachment = None

    def after_fork(self) -> None:
        """What the parent counted is the parent's, and its hints."""
        self._counted = 0, 0, 0.0

    def attach(self, start: bool) -> Attachment | None:
        """The keeper there is, and its table as it is now."""
        with self._lock():
            have = self.attachment
            if have is not None and have.forks == forks() and have.anchor.channel.open:
                if not have.table.moved:
                    return have
                self._leave()
                self.attachment = self._attached(have.anchor, have.ahead)
                if self.attachment is not None:
                    return self.attachment
            if have is not None:
                self._leave()
                have.anchor.channel.close()
            for _ in range(TRIES):
                opened = self._open_line(start)
                if opened is None:
                    return None
                line, hello = opened
                ahead = hello.expires - _now()
                self.attachment = self._attached(line, ahead if abs(ahead) > 60 else 0.0)
                if self.attachment is not None:
                    return self.attachment
            return None

    def _attached(self, anchor: Line, ahead: float) -> Attachment | None:
        answered = anchor.ask_for_descriptor(Request(Op.TABLE))
        if answered is None:
            return None
        reply, descriptor = answered
        if descriptor < 0:
            return None
        capacity = reply.version
        hints = SharedFile(HINTS_HEADER + capacity)
        pid = anchor.channel.pid
        try:
            table = Table(
                descriptor, SlotIndex.nbytes(capacity), pid, hints.fileno(), ahead, keys.encode, allocate
            )
        finally:
            os.close(descriptor)
        anchor.ask(Request(Op.HINTS), hints.fileno())
        hints.close()
        return Attachment(anchor, table, hints, ahead, self.by_message or pid == 0, forks())

    def reads_by_message(self) -> None:
        """The kernel refuses `process_vm_readv`: from now on the keeper is asked."""
        self.by_message = True
        have = self.attachment
        if have is not None:
            self.attachment = have._replace(by_message=True)

    def close(self) -> None:
        """Let go of the keeper."""
        with self._lock():
            self.closed = True
            have = self.attachment
            if have is not None:
                self._leave()
                have.anchor.channel.close()
            for lines in list(self._idle.values()):
                while lines:
                    lines.pop().channel.close()


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
