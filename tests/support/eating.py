"""Memory pressure inside a cgroup, made by a process that eats until the kernel ends it."""

from __future__ import annotations

import ctypes
import os
import signal

__all__ = ["eat_all"]


def eat_all(limit: int) -> int:
    """Fork a child that takes memory until the kernel kills it, which it only does when nothing can be reclaimed.

    Answers its status as subprocess gives it: ``-SIGKILL``. To be called below a limit of `limit` bytes.
    """
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *([ctypes.c_int] * 3), ctypes.c_long]
    pid = os.fork()
    if pid == 0:
        try:
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write("1000")
            address = libc.mmap(None, 4 * limit, 3, 0x4022, -1, 0)
            for at in range(0, 4 * limit, 1 << 20):
                ctypes.memset(address + at, 1, 1 << 20)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == -signal.SIGKILL, f"the eater was not killed but ended with {status}"
    return status
