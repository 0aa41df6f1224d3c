"""Refusing system calls to this process for the rest of its life, as a container's seccomp profile does."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

__all__ = ["USERFAULTFD", "refuse"]

USERFAULTFD = {"x86_64": 323, "aarch64": 282}[platform.machine()]
"""The number of the system call."""

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def refuse(number: int, code: int = errno.EPERM) -> None:
    """Make the system call `number` fail with `code`, here and in all children to come. Only for child
    processes.

    Raises OSError where seccomp filters are not to be had.
    """
    instructions = [
        (_LOAD_WORD, 0, 0, 0),  # the call's number lies at offset 0 of seccomp_data
        (_JUMP_IF_EQUAL, 0, 1, number),
        (_RETURN, 0, 0, _ERRNO | code),
        (_RETURN, 0, 0, _ALLOW),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in instructions))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(instructions), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _MODE_FILTER, header, 0, 0)):
        if libc.prctl(*arguments):
            refusal = ctypes.get_errno()
            raise OSError(refusal, f"prctl({arguments[0]}): {os.strerror(refusal)}")
