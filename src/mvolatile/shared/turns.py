"""What a keeper answers about the second tier of its clients; `duties.py` says why it is asked."""

from __future__ import annotations

from .duties import Duties
from .peer import Client
from .storage import Storage
from .wire import DIGEST, Flag, NonsenseError, Op, Reply, Request, Status, digest_of, packed_duties

__all__ = ["answer"]

MOST_ORPHANS = 1000


def answer(duties: Duties, storage: Storage, client: Client, request: Request) -> Reply:
    """`NonsenseError` for what is no request."""
    op, who = request.op, client.socket.fileno()
    if op == Op.BEGIN:
        return _begin(duties, storage, who, request)
    if op == Op.END:
        stood = duties.stands(who, request.lease, digest_of(request.key))
        useless = stood and request.flags & Flag.FAILED and storage.whole_slot(request.key) < 0
        return Reply(Status.OK, length=duties.note(digest_of(request.key), client.pid) if useless else 0)
    if op == Op.ORPHANS:
        adopted = duties.adopt(client.pid, MOST_ORPHANS)
        return Reply(Status.OK, packed_duties(adopted))
    if len(request.key) != DIGEST:
        raise NonsenseError
    if op == Op.TURN:
        status = duties.take(request.key, request.version, client.pid)
        return Reply(status, kind=duties.has_orphans)
    if op == Op.DONE:
        duties.done(request.key, request.version, not request.flags & Flag.FAILED)
        return Reply(Status.OK, kind=duties.has_orphans)
    raise NonsenseError


def _begin(duties: Duties, storage: Storage, who: int, request: Request) -> Reply:
    """`LOOK`: there is a value; `NO`: what is behind is not to be believed."""
    if storage.whole_slot(request.key) >= 0:
        return Reply(Status.LOOK)
    digest = digest_of(request.key)
    duties.used = True
    due = duties.due(digest)
    if due is not None:
        return Reply(Status.NO, length=due, kind=duties.has_orphans)
    return Reply(Status.OK, version=duties.begin(who, digest))
