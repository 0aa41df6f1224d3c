"""`NearCache`: a Redis server's values, in this process's memory, until the server says that they changed.

One connection asks the server to tell of every key that changes (``CLIENT TRACKING ON BCAST``, Redis 6), and a thread
that listens there deletes it here. A value that is being fetched meanwhile is returned and not kept, as whatever
`mvolatile.VolatileCache.get_or_set` makes while its key is deleted. So:

- The message comes before the fetch begins: the fetch sees the new value. It comes during the fetch, or after: what was
  fetched is not kept, or deleted.
- The connection is lost, so that messages may be: nothing is answered from memory until there is another, and then the
  memory is empty. A connection that is lost without a word is noticed within two heartbeats.
- A key expires, of which the server tells when it gets round to it: values are fetched with the time that they have
  left.
- This process writes by `set` or `delete`: the key is deleted here before that returns, whenever the message comes.
- A forked child has no such thread: it asks the server, and begins one of its own.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from redis.backoff import NoBackoff
from redis.retry import Retry

from ..cache import VolatileCache
from ..cache.statistics import CacheInfo

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["NearCache"]

CHANNEL = b"__redis__:invalidate"
_MISSING: Any = object()


class NearCache:
    """The strings of a Redis server, read from memory while the server says nothing else.

    Parameters
    ----------
    client: a `redis.Redis`, of whatever protocol and ``decode_responses``; reads and writes go through it. It must read
        where it writes: not from replicas, which lag behind the messages.
    prefixes: of keys that are kept; others are asked for each time. By default all are, and the server tells of all
        keys that change, in all its databases.
    max_bytes: a bound on the bytes of all values; by default there is none, and the kernel takes what it needs.
    name: shown in ``mvolatile status``.
    heartbeat: seconds of silence after which the server is asked whether it is there. Twice that is how long a value
        can be old if the connection is lost without a word.

    That a key is not there is kept, too. Threads: any; those that want the same value at once ask the server once. What
    the client raises, all of them get. Fork: the child has an empty one of its own.
    """

    def __init__(
        self,
        client: Redis,
        *,
        prefixes: Iterable[str | bytes] = (),
        max_bytes: int | None = None,
        name: str = "redis",
        heartbeat: float = 1.0,
    ) -> None:
        if not heartbeat > 0:
            raise ValueError(f"heartbeat must be seconds, more than 0, not {heartbeat!r}")
        if isinstance(prefixes, (str, bytes)):
            raise TypeError(f"prefixes must be several, not {prefixes!r}")
        self.client = client
        self.volatile: VolatileCache[bytes, Any] = VolatileCache(
            max_bytes, name=name, inherit=False, copy=True
        )
        self._prefixes = tuple(map(_encoded, prefixes))
        self._heartbeat = heartbeat
        self._starting: dict[
            int, threading.Lock
        ] = {}  # a process's; of a parent's another thread may have it
        self._listener: _Listener | None = None
        self._listen()

    # ---- reading

    def get(self, key: str | bytes, default: Any = None) -> Any:
        """The value, as the client gives it; `default` if the server has none."""
        encoded = key if type(key) is bytes else _encoded(key)
        listener = self._listener
        if listener is None or listener.hears_in != os.getpid() or not self._keeps(encoded):
            value = self._fetch_past(encoded)
        else:
            value = self.volatile.get(encoded, _MISSING)
            if value is _MISSING:
                value = self._fetch(encoded)
        return default if value is None else value

    def __getitem__(self, key: str | bytes) -> Any:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: str | bytes) -> bool:
        return self.get(key) is not None

    # ---- writing

    def set(self, key: str | bytes, value: Any, **options: Any) -> Any:
        """`Redis.set`, with its options; no read here that begins afterwards gets an older value."""
        encoded = _encoded(key)
        try:
            return self.client.set(encoded, value, **options)
        finally:
            self.volatile.delete_many((encoded,))

    def delete(self, *keys: str | bytes) -> int:
        """`Redis.delete`; no read here that begins afterwards gets an older value."""
        encoded = list(map(_encoded, keys))
        try:
            deleted: int = self.client.delete(*encoded)
            return deleted
        finally:
            self.volatile.delete_many(encoded)

    # ---- the whole

    @property
    def listening(self) -> bool:
        """Whether values are answered from memory: a connection is there on which the server tells what changed."""
        return self._listener is not None and self._listener.hears_in == os.getpid()

    @property
    def trouble(self) -> Exception | None:
        """Why the last connection on which the server tells was lost, or could not be had; None if that never was."""
        listener = self._listener
        return None if listener is None else listener.trouble

    def cache_info(self) -> CacheInfo:
        """Statistics of what is in memory."""
        return self.volatile.cache_info()

    def close(self) -> None:
        """Stop listening, and give the memory back; the client stays open. Reads ask the server from then on."""
        with self._start_lock():
            listener, self._listener = self._listener, None
            self.volatile.close()
        if listener is not None:
            listener.stop()

    def __enter__(self) -> NearCache:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def __repr__(self) -> str:
        trouble = self.trouble
        silent = "not listening" if trouble is None else f"not listening ({trouble!r})"
        state = "closed" if self.volatile.closed else "listening" if self.listening else silent
        return f"<{type(self).__name__} {self.volatile.name!r}: {state}, {len(self.volatile)} values>"

    # ---- inside

    def _keeps(self, key: bytes) -> bool:
        return not self._prefixes or key.startswith(self._prefixes)

    def _fetch(self, key: bytes) -> Any:
        left = math.inf

        def fetch() -> Any:
            nonlocal left
            asked = time.monotonic()
            both: Any = self.client.pipeline(transaction=True)
            with both:
                value, milliseconds = both.get(key).pttl(key).execute()
            if milliseconds >= 0:
                left = max(0.0, milliseconds / 1000 - (time.monotonic() - asked))
            return value

        return self.volatile.get_or_set(key, fetch, ttl=lambda _: left)

    def _fetch_past(self, key: bytes) -> Any:
        self._listen()
        return self.client.get(key)

    def _listen(self) -> None:
        """Have a listener in this process."""
        listener = self._listener
        if self.volatile.closed or (listener is not None and listener.process == os.getpid()):
            return
        with self._start_lock():
            if self._listener is listener and not self.volatile.closed:
                self._listener = _Listener(self.client, self.volatile, self._prefixes, self._heartbeat)
                weakref.finalize(self, self._listener.stopped.set)

    def _start_lock(self) -> threading.Lock:
        return self._starting.setdefault(os.getpid(), threading.Lock())


class _Listener:
    """A thread, and its connection."""

    def __init__(
        self, client: Redis, cache: VolatileCache[bytes, Any], prefixes: tuple[bytes, ...], heartbeat: float
    ) -> None:
        self._pool = client.connection_pool
        self._cache = cache
        self._prefixes = prefixes
        self._heartbeat = heartbeat
        self.stopped = threading.Event()
        self.process = os.getpid()
        self.hears_in: int | None = None  # this process, while messages come
        self.trouble: Exception | None = None  # the last
        self._thread = threading.Thread(target=self._run, name="mvolatile-near", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has ended; in a forked child at once."""
        self.stopped.set()
        self.hears_in = None
        if self.process == os.getpid():
            self._thread.join()

    def _run(self) -> None:
        while not self.stopped.is_set():
            connection = None
            try:
                connection = self._connection()
                self._ask_to_be_told(connection)
                self._cache.clear()
                self.hears_in = self.process
                self._hear(connection)
            except Exception as error:  # whatever it is: messages may be lost, and reads ask the server
                self.trouble = error
            finally:
                self.hears_in = None
                self._cache.clear()
                if connection is not None:
                    connection.disconnect()
            self.stopped.wait(self._heartbeat)

    def _connection(self) -> Any:
        """As the client's, but for RESP2 and a channel of its own: what comes is a list, and nobody else handles it."""
        given = self._pool.connection_kwargs.items()
        options = {
            name: value for name, value in given if "maint_notifications" not in name
        }  # they want RESP3
        options |= {"protocol": 2, "decode_responses": False, "socket_timeout": self._heartbeat}
        options["retry"] = Retry(NoBackoff(), 0)  # the next heartbeat tries again
        return self._pool.connection_class(**options)

    def _ask_to_be_told(self, connection: Any) -> None:
        connection.connect()
        connection.send_command("CLIENT", "ID")
        own = connection.read_response()
        prefixes = [word for prefix in self._prefixes for word in ("PREFIX", prefix)]
        connection.send_command("CLIENT", "TRACKING", "ON", "REDIRECT", own, "BCAST", *prefixes)
        connection.read_response()
        connection.send_command("SUBSCRIBE", CHANNEL)
        connection.read_response()

    def _hear(self, connection: Any) -> None:
        asked = False
        while not self.stopped.is_set():
            if not connection.can_read(timeout=self._heartbeat):
                if asked:
                    raise TimeoutError("the server does not answer")
                connection.send_command("PING", check_health=False)
                asked = True
                continue
            asked = False
            kind, *message = connection.read_response()
            if kind == b"message" and message[0] == CHANNEL:
                keys = message[1]
                if keys is None:  # FLUSHALL
                    self._cache.clear()
                else:
                    self._cache.delete_many(keys)


def _encoded(key: str | bytes) -> bytes:
    if isinstance(key, bytes):
        return bytes(key)
    if isinstance(key, str):
        return key.encode()
    raise TypeError(f"a key is str or bytes, not {key!r}")
