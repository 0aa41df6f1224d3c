"""Which tier is chosen, and what is said about it. A tier is for life, so each test has a process of its own."""

from __future__ import annotations

import errno
import json

import pytest

from mvolatile import _core, features
from support.processes import run_python
from support.tiers import TIERS


def _tell() -> None:
    import json
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import mvolatile as mv
        from mvolatile import testing

        told = mv.features()
        with mv.VolatileMemory(40960) as memory:
            memory.write(bytes([7]) * 40960)
            gone = testing.purge(memory)
            extents = memory.purged()
            with memory.pin(on_purge="zero") as view:
                kept = view[0]
        for _ in range(3):
            mv.VolatileMemory(4096).close()
    print(
        json.dumps(
            {
                "tier": told.tier,
                "status": mv.status().tier,
                "forced": told.forced,
                "can_purge": told.can_purge,
                "can_trap": told.can_trap,
                "reason": told.reason,
                "gone": gone,
                "extents": extents,
                "kept": kept,
                "warnings": [[w.category.__name__, str(w.message), w.filename] for w in caught],
            }
        )
    )


def _told(tier: str | None, **options: object) -> dict[str, object]:
    env = {"MVOLATILE_TIER": tier or ""}
    return dict(json.loads(run_python(_tell, env=env, **options).check().stdout))  # type: ignore[arg-type]


@pytest.mark.parametrize("tier", TIERS)
def test_a_forced_tier(tier: str) -> None:
    if tier == "userfaultfd" and features().userfaultfd_errno:
        pytest.skip("userfaultfd is refused here")
    told = _told(tier)
    assert told["tier"] == told["status"] == tier
    assert told["forced"] is True
    assert told["can_purge"] is (tier != "unsupported")
    assert told["can_trap"] is (tier == "userfaultfd")
    assert f"MVOLATILE_TIER={tier}" in str(told["reason"])
    if tier == "unsupported":
        assert (told["gone"], told["extents"], told["kept"]) == (0, [], 7)
    else:
        assert (told["gone"], told["extents"], told["kept"]) == (40960, [[0, 40960]], 0)


def test_an_empty_variable_forces_nothing() -> None:
    told = _told(None)
    assert told["forced"] is False
    assert told["tier"] == ("faultcount" if features().userfaultfd_errno else "userfaultfd")


@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
def test_no_warning_where_memory_is_given_back(tier: str) -> None:
    if tier == "userfaultfd" and features().userfaultfd_errno:
        pytest.skip("userfaultfd is refused here")
    assert _told(tier)["warnings"] == []


def test_one_warning_where_nothing_is_purged() -> None:
    warnings = _told("unsupported")["warnings"]
    assert isinstance(warnings, list)
    ((category, message, filename),) = warnings
    assert category == "UnsupportedKernelWarning"
    assert "stays resident" in message
    assert "MVOLATILE_TIER=unsupported" in message
    assert filename == "<string>", "it points at the caller's line"


def test_the_raw_call_warns_too() -> None:
    def child() -> None:
        import mmap
        import warnings

        import mvolatile as mv

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                try:
                    mv.mvolatile(mmap.PAGESIZE, mmap.PAGESIZE, mv.MVOLATILE_VOLATILE)
                except OSError as error:
                    print(error.errno)
            mv.VolatileMemory(1)
        print([w.category.__name__ for w in caught])

    said = run_python(child, env={"MVOLATILE_TIER": "unsupported"}).check().stdout
    assert said.split("\n")[:3] == [str(errno.ENOMEM)] * 2 + ["['UnsupportedKernelWarning']"]


def test_a_warning_made_an_error_stops_nothing_later() -> None:
    """`-W error` raises it once, from the first memory; the next one works."""

    def child() -> None:
        import warnings

        import mvolatile as mv

        warnings.simplefilter("error")
        try:
            mv.VolatileMemory(1)
        except mv.UnsupportedKernelWarning:
            print("raised")
        mv.VolatileMemory(1).write(b"x")

    assert run_python(child, env={"MVOLATILE_TIER": "unsupported"}).check().stdout == "raised\n"


@pytest.mark.parametrize("value", ["best", "USERFAULTFD", "0", " faultcount"])
def test_an_unknown_tier(value: str) -> None:
    def child() -> None:
        import mvolatile as mv

        for use in (mv.features, mv.status, lambda: mv.VolatileMemory(1), lambda: mv.mvolatile(0, 0, 1)):
            try:
                use()
            except ValueError as error:
                print(error)

    said = run_python(child, env={"MVOLATILE_TIER": value}).check().stdout
    assert said == f"MVOLATILE_TIER={value}: must be userfaultfd, faultcount or unsupported\n" * 4


def _refused_userfaultfd(code: int) -> None:
    from support import seccomp

    seccomp.refuse(seccomp.USERFAULTFD, code)
    import json

    import mvolatile as mv
    from mvolatile import testing

    told = mv.features()
    memory = mv.VolatileMemory(40960)
    memory.write(bytes([7]) * 40960)
    testing.purge(memory, [(4096, 4096)])
    try:
        memory.read(0)
        extents = None
    except mv.Purged as lost:
        extents = lost.extents
    print(
        json.dumps([told.tier, told.can_purge, told.can_trap, told.userfaultfd_errno, told.reason, extents])
    )


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS])
def test_a_filter_that_refuses_userfaultfd(code: int) -> None:
    """As the seccomp profiles of containers do: the second tier is chosen, says why, and tells losses."""
    done = run_python(_refused_userfaultfd, code, env={"MVOLATILE_TIER": ""}).check()
    tier, can_purge, can_trap, refusal, reason, extents = json.loads(done.stdout)
    assert (tier, can_purge, can_trap, refusal) == ("faultcount", True, False, code)
    assert errno.errorcode[code] in reason
    assert extents == [[4096, 4096]]


def test_the_filter_against_a_forced_first_tier() -> None:
    """What was asked for cannot be had: an error, no quiet second choice."""

    def child() -> None:
        from support import seccomp

        seccomp.refuse(seccomp.USERFAULTFD)
        import mvolatile as mv

        for use in (mv.features, lambda: mv.VolatileMemory(1)):
            try:
                use()
            except mv.UnsupportedError as error:
                print(error)

    said = run_python(child, env={"MVOLATILE_TIER": "userfaultfd"}).check().stdout
    assert said == "MVOLATILE_TIER=userfaultfd cannot be had here: userfaultfd: Operation not permitted\n" * 2


def _refused_userfaultfd_call(number: int) -> None:
    from support import seccomp

    seccomp.refuse(number)
    import warnings

    warnings.simplefilter("error")
    import mvolatile as mv

    try:
        mv.VolatileMemory(1)
    except mv.UnsupportedKernelWarning as warning:
        print(mv.features().tier, warning)


def test_a_filter_that_refuses_madvise() -> None:
    """No MADV_FREE at all: the third tier, found by probing, with its reason."""
    import platform

    number = {"x86_64": 28, "aarch64": 233}[platform.machine()]
    said = run_python(_refused_userfaultfd_call, number, env={"MVOLATILE_TIER": ""}).check().stdout
    assert said.startswith("unsupported volatile memory stays resident here")
    assert "MADV_FREE (Linux 4.5) is refused: EPERM" in said


def test_this_process_has_one_of_them() -> None:
    assert _core.tier() in TIERS


@pytest.mark.parametrize("room", [0, 1, 2])
def test_no_descriptor_left_at_the_first_use_is_an_error_and_passes(room: int) -> None:
    """A lower tier would stay for life. `room`: for so many; three are opened."""
    program = f"""
import errno, os, resource
import mvolatile as mv
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
taken = []
try:
    while True: taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError: pass
for _ in range({room}): os.close(taken.pop())
for use in (mv.features, mv.status, lambda: mv.VolatileMemory(8192), lambda: mv.mvolatile(0, 4096, 1)):
    try: use()
    except OSError as error: assert error.errno == errno.EMFILE, error
    else: raise SystemExit("no error")
taken += [os.open("/dev/null", os.O_RDONLY) for _ in range({room})]     # nothing was left open
for one in taken: os.close(one)
print(mv.features().tier)
"""
    assert run_python(program).check().stdout.strip() == features().tier
