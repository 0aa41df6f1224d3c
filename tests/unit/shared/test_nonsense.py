"""A client that sends nonsense harms nobody but itself."""

from __future__ import annotations

import fcntl
import math
import os
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mvolatile import SharedCache
from mvolatile._core import HINTS_HEADER, SharedFile
from mvolatile.shared import runtime_directory
from mvolatile.shared.place import Place, checked_name
from mvolatile.shared.wire import ANY, PROTOCOL, Flag, Op, Reply, Request, Status
from support.keepers import keeper_pid, until
from support.strangers import Stranger

Cache = SharedCache[Any, Any]


@pytest.fixture
def stranger(cache: Cache) -> Any:
    """Beside a client that has a value, which is there in the end, from the same keeper."""
    cache["a"] = b"value"
    pid = keeper_pid("test")
    made: list[Stranger] = []

    def make() -> Stranger:
        made.append(Stranger())
        return made[-1]

    yield make
    for one in made:
        one.close()
    assert cache["a"] == b"value"
    cache["b"] = 1
    assert cache["b"] == 1
    assert keeper_pid("test") == pid
    until(lambda: cache.keeper_info()["clients"] == 1 and cache.keeper_info()["connections"] <= 2)


def random_request(random: Random) -> bytes:
    def number() -> int:
        return random.choice([0, 1, 7, 100, 1 << 20, 1 << 40, ANY, random.getrandbits(64)])

    seconds = random.choice([0.0, -1.0, math.inf, -math.inf, math.nan, 1e300, 5.0])
    request = Request(
        random.choice([*Op, 0, 99, 255]),
        random.choice([b"", b"sa", b"sx", random.randbytes(50), b"k" * 0xFFFF]),
        random.choice([b"", bytes(8), random.randbytes(random.randrange(600)), bytes(40_000)]),
        random.randrange(256),
        random.choice([0, 1, 2, 4, random.getrandbits(32)]),
        number(),
        seconds,
        number(),
        number(),
    )
    if request.op in (Op.CLEAR, Op.RESIZE, Op.PURGE, Op.DELETE) or request.key == b"sa":
        request = request._replace(
            op=Op.STORE, key=b"sx"
        )  # what may harm others is what any client may ask for
    data = bytearray(request.packed())
    if random.random() < 0.2:
        data[random.randrange(1, 8)] ^= 1 << random.randrange(8)
    if random.random() < 0.1:
        del data[random.randrange(len(data)) :]
    return bytes(data)


@pytest.mark.parametrize("seed", range(5))
def test_random_requests(stranger: Callable[[], Stranger], cache: Cache, seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    pid = keeper_pid("test")
    before = len(os.listdir(f"/proc/{pid}/fd"))
    file, ends = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT), os.pipe()
    memory = SharedFile(1 << 16)
    one = stranger()
    for _ in range(600):
        if random.random() < 0.1:
            one.close()
            one = stranger()
        if random.random() < 0.8:
            one.send(Request(Op.HELLO, length=PROTOCOL).packed())
        passed = random.choices(
            [file, ends[0], ends[1], memory.fileno()], k=random.choice([0, 0, 0, 1, 1, 2, 5])
        )
        if not one.send(random_request(random) or b"x", *passed):
            one.close()
            one = stranger()
    one.close()
    for end in (*ends, file):
        os.close(end)
    until(lambda: cache.keeper_info()["connections"] <= 3)
    until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= before + 4)
    assert cache.keeper_info()["making"] == 0


@pytest.mark.parametrize(
    "request_",
    [
        b"x",
        b"\0" * 40,
        Request(Op.STORE, b"sx", b"abc", length=4).packed(),
        Request(Op.STORE, b"sx", b"abc", length=ANY).packed(),
        Request(Op.STORE, b"", b"abc", length=3).packed(),
        Request(Op.STORE, b"sx", flags=1, length=1 << 40).packed(),
        Request(Op.STORE, b"sx", b"abc", length=3, seconds=math.nan).packed(),
        Request(Op.LEASE, b"sx", b"odd").packed(),
        Request(Op.LEASE, b"sx", bytes(8 * 65)).packed(),
        Request(Op.MAILBOX).packed(),
        Request(99).packed(),
        Request(Op.HELLO, length=PROTOCOL + 1).packed(),
    ],
)
def test_who_sends_nonsense_is_dropped(stranger: Callable[[], Stranger], request_: bytes) -> None:
    one = stranger().hello()
    one.send(request_)
    assert one.hear() is None


def test_nothing_before_a_greeting(stranger: Callable[[], Stranger]) -> None:
    assert stranger().ask(Request(Op.FETCH, b"sa")) is None


def test_files_that_make_one_wait_are_no_mailbox(stranger: Callable[[], Stranger], tmp_path: Path) -> None:
    ends = os.pipe()
    with open(tmp_path / "file", "w+b") as file:
        for one in (*ends, file.fileno()):
            assert stranger().hello().ask(Request(Op.MAILBOX), one) is None
    for one in ends:
        os.close(one)


def test_a_mailbox_that_is_cut(stranger: Callable[[], Stranger]) -> None:
    """27."""
    mailbox = os.memfd_create("mine", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(mailbox, 1 << 20)
    one = stranger().hello()
    assert one.ask(Request(Op.MAILBOX), mailbox).status == Status.OK
    os.ftruncate(mailbox, 5000)
    assert one.ask(Request(Op.STORE, b"sx", flags=1, length=1 << 20)) is None
    os.close(mailbox)


def test_a_mailbox_that_is_emptied(stranger: Callable[[], Stranger], cache: Cache) -> None:
    """39: the keeper has mapped it."""
    mailbox = SharedFile(1 << 20)
    with memoryview(mailbox) as view:
        view[:] = bytes([7]) * (1 << 20)
    one = stranger().hello()
    assert one.ask(Request(Op.MAILBOX), mailbox.fileno()).status == Status.OK
    store = Request(Op.STORE, b"sx", flags=Flag.IN_MAILBOX, length=1 << 20, seconds=math.inf)
    assert one.ask(store).status == Status.OK
    assert cache["x"] == bytes([7]) * (1 << 20)
    mailbox.empty()
    assert one.ask(store).status == Status.OK
    assert cache["x"] == bytes(1 << 20)
    with pytest.raises(PermissionError):
        os.ftruncate(mailbox.fileno(), 0)
    mailbox.close()


def test_mailboxes_larger_than_all_addresses(stranger: Callable[[], Stranger], cache: Cache) -> None:
    """39: the keeper maps no such one."""
    some = [stranger().hello() for _ in range(64)]
    for one in some:
        mailbox = os.memfd_create("mine", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(mailbox, 1 << 42)
        fcntl.fcntl(mailbox, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        assert one.ask(Request(Op.MAILBOX), mailbox).status == Status.OK
        os.close(mailbox)
    store = Request(Op.STORE, b"sx", flags=Flag.IN_MAILBOX, length=1 << 16, seconds=math.inf)
    assert some[0].ask(store).status == Status.OK
    assert cache["x"] == bytes(1 << 16)


def test_hints_that_could_be_cut_are_refused(stranger: Callable[[], Stranger], cache: Cache) -> None:
    hints = os.memfd_create("mine", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(hints, HINTS_HEADER + (1 << 16))
    one = stranger().hello()
    assert one.ask(Request(Op.HINTS), hints).status == Status.OK
    os.ftruncate(hints, 0)
    cache.resize(1000)
    for i in range(300):
        cache[i] = bytes(100)
    cache.resize(None)
    cache["a"] = b"value"
    os.close(hints)


def test_who_does_not_take_answers_is_dropped(stranger: Callable[[], Stranger]) -> None:
    """26."""
    one = stranger().hello()
    one.socket.settimeout(0.5)
    for _ in range(100_000):
        if not one.send(Request(Op.INFO).packed()):
            break
    assert until(lambda: not one.send(Request(Op.INFO).packed()))


def test_who_waits_and_speaks_is_dropped(stranger: Callable[[], Stranger]) -> None:
    maker, waiter = stranger().hello(), stranger().hello()
    assert maker.ask(Request(Op.LEASE, b"sx")).status == Status.OK
    assert waiter.ask(Request(Op.LEASE, b"sx")).status == Status.WAIT
    assert waiter.ask(Request(Op.FETCH, b"sa")) is None


def test_the_table_cannot_be_written(stranger: Callable[[], Stranger]) -> None:
    import mmap

    one = stranger().hello()
    one.send(Request(Op.TABLE).packed())
    _, (table,), _, _ = socket.recv_fds(one.socket, 1000, 1)
    with pytest.raises(PermissionError):
        mmap.mmap(table, 0)
    with pytest.raises(PermissionError):
        os.pwrite(table, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(table, 0)
    mmap.mmap(table, 0, prot=mmap.PROT_READ).close()
    os.close(table)


def test_the_directory_is_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "run"
    monkeypatch.setenv("MVOLATILE_RUNTIME_DIR", str(directory))
    assert runtime_directory() == directory
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    directory.chmod(0o750)
    with pytest.raises(PermissionError, match="others may enter"):
        SharedCache("test")
    directory.chmod(0o700)
    link = tmp_path / "link"
    link.symlink_to(directory)
    monkeypatch.setenv("MVOLATILE_RUNTIME_DIR", str(link))
    with pytest.raises(PermissionError, match="not a directory"):
        SharedCache("test")
    monkeypatch.setenv("MVOLATILE_RUNTIME_DIR", str(tmp_path / "run" / "deep"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("MVOLATILE_RUNTIME_DIR")
    assert runtime_directory() == tmp_path / "mvolatile"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert runtime_directory() == tmp_path / f"mvolatile-{os.geteuid()}"


def test_a_long_directory(make: Any, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = runtime / ("d" * 120)
    monkeypatch.setenv("MVOLATILE_RUNTIME_DIR", str(deep))
    cache = make(linger=0)
    cache["a"] = 1
    assert cache["a"] == 1
    cache.close()
    until(lambda: not Place("test").is_kept())


@pytest.mark.parametrize("name", ["", "a/b", ".", "..", "-a", "a b", "x" * 65, "é", "a\0"])
def test_names(name: str) -> None:
    with pytest.raises(ValueError, match="name must be"):
        checked_name(name)
    assert checked_name("tiles-2.x_Y") == "tiles-2.x_Y"


def test_messages_come_back() -> None:
    request = Request(Op.STORE, b"key", b"body", 3, 1, 4, 2.5, 6, 7)
    assert Request.unpacked(request.packed()) == request
    reply = Reply(Status.OK, b"body", 1, 2, 3.5, 4)
    assert Reply.unpacked(reply.packed()) == reply
    for data in (b"", b"x", struct.pack("<BBHIQdQQ", 1, 0, 5, 0, 0, 0, 0, 0)):
        with pytest.raises(ValueError, match=r"short|longer"):
            Request.unpacked(data)
