"""Keepers, seen by who wants to know: which there are, and how values come from them here."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from typing import Any

from .._core import read_refusal
from ..kernel import files
from .connection import Line
from .place import Place, runtime_directory
from .wire import PROTOCOL, Op, Request, Status

__all__ = ["keepers", "way"]


def keepers() -> list[dict[str, Any]]:
    """What each keeper of this user tells of itself, by name. Those that do not answer are left out."""
    found = []
    for path in sorted(runtime_directory().glob(f"*.{PROTOCOL}.sock")):
        with suppress(OSError, ValueError):
            channel = Place(path.name.removesuffix(f".{PROTOCOL}.sock"), path.parent).connect()
            if channel is None:
                continue
            line = Line(channel)
            reply = None if line.hello() is None else line.ask(Request(Op.INFO))
            channel.close()
            if reply is not None and reply.status == Status.OK:
                found.append(json.loads(reply.body))
    return found


def way() -> tuple[str, str]:
    """How this process gets a shared cache's values: ``readv`` or ``message``; and why, or what to change."""
    if os.environ.get("MVOLATILE_SHARED_READ") == "message":
        return "message", "MVOLATILE_SHARED_READ asks for it"
    code = _refusal()
    if not code:
        return "readv", "process_vm_readv works here"
    scope = files.read_int("/proc/sys/kernel/yama/ptrace_scope") or 0
    refused = f"process_vm_readv is refused: {errno.errorcode.get(code, code)}"
    if scope >= 2:
        return "message", f"{refused}, by Yama; set kernel.yama.ptrace_scope to 1 or 0"
    return "message", f"{refused}; allow it in the seccomp profile (Docker's has since 2020)"


def _refusal() -> int:
    """Asked of a child, which lives until it was."""
    ends, lives = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(lives)
        os.read(ends, 1)
        os._exit(0)
    code = read_refusal(pid)
    os.close(lives)
    os.close(ends)
    os.waitpid(pid, 0)
    return code
