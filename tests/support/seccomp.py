"""Refusing system calls to this process for the rest of its life, as a container's seccomp profile does."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

__all__ = [
    "IOCTL",
    "MADVISE",
    "USERFAULTFD",
    "apply_container_rules",
    "kill_on",
    "refuse",
    "refuse_advice",
    "refuse_ioctl",
]

USERFAULTFD = {"x86_64": 323, "aarch64": 282}[platform.machine()]
"""The number of the system call."""

_REFUSED = {
    "syslog": 103, "uselib": 134, "ustat": 136, "sysfs": 139, "vhangup": 153, "pivot_root": 155, "_sysctl": 156,
    "chroot": 161, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168,
    "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "create_module": 174,
    "init_module": 175, "delete_module": 176, "get_kernel_syms": 177, "query_module": 178, "quotactl": 179,
    "nfsservctl": 180, "getpmsg": 181, "putpmsg": 182, "afs_syscall": 183, "tuxcall": 184, "security": 185,
    "lookup_dcookie": 212, "clock_settime": 227, "vserver": 236, "mbind": 237, "set_mempolicy": 238,
    "get_mempolicy": 239, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "migrate_pages": 256,
    "unshare": 272, "move_pages": 279, "perf_event_open": 298, "fanotify_init": 300, "open_by_handle_at": 304,
    "setns": 308, "kcmp": 312, "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438, "process_madvise": 440,
    "mount_setattr": 442, "quotactl_fd": 443, "set_mempolicy_home_node": 450, "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460, "lsm_list_modules": 461,
}  # fmt: skip
"""What the default profiles refuse on x86-64 to a process without capabilities: the calls that exist and are not in
the list of what is allowed. Docker: seccomp/default.json of github.com/moby/profiles at cd3bed8 (June 2026).
containerd: contrib/seccomp/seccomp_default.go at 301026e58 (August 2026), which differs in allowing the lsm_ calls.
"""

_LAST_KNOWN = 466
"""removexattrat; what came later is refused."""

_CLONE, _CLONE3, _SOCKET, _PERSONALITY = 56, 435, 41, 135
MADVISE, IOCTL = {"x86_64": (28, 16), "aarch64": (233, 29)}[platform.machine()]
_NEW_BY_DEVICE = 0xAA00
"""USERFAULTFD_IOC_NEW of ``/dev/userfaultfd``."""
_NEW_NAMESPACES = 0x7E020000
_SOCKET_FAMILIES = (38, 40)  # AF_ALG, AF_VSOCK
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
_LOAD_WORD, _JUMP_IF_EQUAL, _JUMP_IF_ABOVE, _JUMP_IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARGUMENT = 0, 16
"""Where in seccomp_data the call's number and its first argument lie."""

_Instruction = tuple[int, int, int, int]


def refuse(number: int, code: int = errno.EPERM, *, device: bool = False) -> None:
    """Make the system call `number` fail with `code`, here and in all children to come. Only for child
    processes. With userfaultfd(2) goes its ``/dev/userfaultfd``, which containers do not have, unless `device`.

    Raises OSError where seccomp filters are not to be had.
    """
    if number == USERFAULTFD and not device:
        refuse_ioctl(_NEW_BY_DEVICE)
    _install([(_LOAD_WORD, 0, 0, _NUMBER), *_returning(_JUMP_IF_EQUAL, number, _ERRNO | code), _allowed()])


def kill_on(number: int) -> None:
    """Kill the process that makes the system call `number`, as systemd's ``SystemCallFilter=`` does."""
    _install([(_LOAD_WORD, 0, 0, _NUMBER), *_returning(_JUMP_IF_EQUAL, number, _KILL), _allowed()])


def refuse_advice(advice: int, code: int = errno.EINVAL) -> None:
    """Make madvise(2) with this advice fail; otherwise as `refuse`."""
    _refuse_argument(MADVISE, 2, advice, code)


def refuse_ioctl(request: int, code: int = errno.ENOTTY) -> None:
    """Make ioctl(2) with this request fail, as kernels do that do not know it; otherwise as `refuse`."""
    _refuse_argument(IOCTL, 1, request, code)


def _refuse_argument(number: int, argument: int, value: int, code: int) -> None:
    answer = _returning(_JUMP_IF_EQUAL, value, _ERRNO | code)
    body = [(_LOAD_WORD, 0, 0, _ARGUMENT + argument * 8), *answer, _allowed()]
    _install([(_LOAD_WORD, 0, 0, _NUMBER), (_JUMP_IF_EQUAL, 0, len(body), number), *body, _allowed()])


def apply_container_rules() -> None:
    """Docker's and containerd's default rules, as they are for a container without added capabilities.

    Only x86-64's own calls are told apart: a 32-bit call of the same number meets the same rule. ``/dev/userfaultfd``,
    which these containers do not have, does nothing. Raises OSError where seccomp filters are not to be had.
    """
    refuse_ioctl(_NEW_BY_DEVICE)
    refused = _ERRNO | errno.EPERM
    rules: list[_Instruction] = [(_LOAD_WORD, 0, 0, _NUMBER)]
    for number in _REFUSED.values():
        rules += _returning(_JUMP_IF_EQUAL, number, refused)
    rules += _returning(_JUMP_IF_ABOVE, _LAST_KNOWN, refused)
    rules += _returning(_JUMP_IF_EQUAL, _CLONE3, _ERRNO | errno.ENOSYS)
    rules += _on_argument(_CLONE, _returning(_JUMP_IF_ANY_BIT, _NEW_NAMESPACES, refused))
    families = [one for family in _SOCKET_FAMILIES for one in _returning(_JUMP_IF_EQUAL, family, refused)]
    rules += _on_argument(_SOCKET, families)
    known = [one for value in _PERSONALITIES for one in _returning(_JUMP_IF_EQUAL, value, _ALLOW)]
    rules += _on_argument(_PERSONALITY, [*known, (_RETURN, 0, 0, refused)])
    _install([*rules, _allowed()])


def _returning(test: int, value: int, answer: int) -> list[_Instruction]:
    return [(test, 0, 1, value), (_RETURN, 0, 0, answer)]


def _on_argument(number: int, rules: list[_Instruction]) -> list[_Instruction]:
    """`rules` for the first argument of one call; whatever they do not answer is allowed."""
    body = [(_LOAD_WORD, 0, 0, _ARGUMENT), *rules, _allowed()]
    return [(_JUMP_IF_EQUAL, 0, len(body), number), *body]


def _allowed() -> _Instruction:
    return (_RETURN, 0, 0, _ALLOW)


def _install(instructions: list[_Instruction]) -> None:
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in instructions))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(instructions), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _MODE_FILTER, header, 0, 0)):
        if libc.prctl(*arguments):
            refusal = ctypes.get_errno()
            raise OSError(refusal, f"prctl({arguments[0]}): {os.strerror(refusal)}")
