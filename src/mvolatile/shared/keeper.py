"""The keeper: one process, one thread, one request after the other. It owns the values and alone changes anything.

It waits for no client: who does not take an answer, or sends what is no request, is dropped.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from .answers import Answers
from .clients import Clients
from .duties import Duties
from .leases import Told
from .ledger import Ledger
from .peer import Client, descriptors
from .storage import Storage
from .wire import LONGEST, NonsenseError, Reply, Request, Status

__all__ = ["Keeper"]

TICK = 1.0
# Without ONESHOT who was heard keeps a place in the queue, and is heard again before who came earlier (schedule 33).
ONCE = select.EPOLLIN | select.EPOLLONESHOT
CUT = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)  # as enums they cost 2 us a request


class Keeper:
    """Serves `listener` until `stop`, or until nobody has been connected for `linger` seconds."""

    def __init__(
        self,
        listener: socket.socket,
        name: str,
        max_bytes: int | None,
        linger: float,
        ledger: Path | None = None,
    ) -> None:
        self.listener = listener
        self.linger = linger
        self.clients = Clients()
        self.storage = Storage(name, max_bytes, self.clients)
        self.duties = Duties(Ledger(ledger))
        self.answers = Answers(name, self.storage, self.clients, linger, self._tell, self.duties)
        self._epoll = select.epoll()
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._message = bytearray(LONGEST)  # taken once: there may be no memory later
        self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def serve(self, still_ours: Any = lambda: True) -> None:
        """Until it is time to end. `still_ours()` says whether the name is still this keeper's."""
        alone_since, ticked = time.monotonic(), time.monotonic()
        while True:
            for descriptor, _ in self._epoll.poll(TICK, 64):
                if descriptor == self.listener.fileno():
                    self._accept()
                elif (client := self.clients.get(descriptor)) is not None:
                    self._hear(client, descriptor)
            now = time.monotonic()
            if self.clients:
                alone_since = now
            elif now - alone_since >= self.linger:
                return
            if now - ticked >= TICK:
                ticked = now
                if not still_ours():
                    return
                self.answers.tick()

    def _accept(self) -> None:
        for _ in range(16):
            try:
                connection, _ = self.listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._turn_away()
                return
            connection.setblocking(False)
            try:
                client = Client(connection)
            except OSError:
                connection.close()
                continue
            self.clients[connection.fileno()] = client
            self._epoll.register(connection.fileno(), ONCE)
            if client.pidfd >= 0:
                self.clients[client.pidfd] = client
                self._epoll.register(client.pidfd, select.EPOLLIN)

    def _turn_away(self) -> None:
        """No descriptor is left: who connects is told so by an end of file, and does not wait."""
        os.close(self._spare)
        with suppress(OSError):
            self.listener.accept()[0].close()
        self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def _hear(self, client: Client, descriptor: int) -> None:
        if descriptor == client.pidfd:
            self._drop(client)
            return
        passed: list[int] = []
        try:
            nbytes, ancillary, flags, _ = client.socket.recvmsg_into(
                [self._message], socket.CMSG_SPACE(16), socket.MSG_CMSG_CLOEXEC
            )
            passed = descriptors(ancillary)
            self._epoll.modify(descriptor, ONCE)  # before the answer, after which the next may come
            if not nbytes or flags & CUT or client.waits or len(passed) > 1:
                raise NonsenseError
            request = Request.unpacked(bytes(memoryview(self._message)[:nbytes]))
            answer, reply_fd = self.answers.answer(client, request, passed)
            self._send(client, answer, reply_fd)
        except BlockingIOError:
            self._epoll.modify(descriptor, ONCE)
        except (NonsenseError, ValueError, OSError):
            self._drop(client)
        finally:
            for one in passed:
                os.close(one)

    def _send(self, client: Client, reply: Reply, descriptor: int = -1) -> None:
        client.waits = reply.status == Status.WAIT
        data = reply.packed()
        try:
            if descriptor < 0:
                client.socket.send(data, socket.MSG_NOSIGNAL)
            else:
                socket.send_fds(client.socket, [data], [descriptor], socket.MSG_NOSIGNAL)
        except BlockingIOError:
            raise NonsenseError from None  # it does not take its answers

    def _tell(self, told: Told) -> None:
        for who, status, lease in told:
            client = self.clients.get(who)  # type: ignore[call-overload]
            if client is not None:
                try:
                    self._send(client, self.answers.of_lease(who, status, lease))
                except (NonsenseError, OSError):
                    self._drop(client)

    def _drop(self, client: Client) -> None:
        number = client.socket.fileno()
        if number < 0:
            return
        del self.clients[number]
        self._epoll.unregister(number)
        if client.pidfd >= 0:
            del self.clients[client.pidfd]
            self._epoll.unregister(client.pidfd)
        self.clients.forget_hints(client)
        told = self.answers.left(client)
        client.close()
        self._tell(told)
