"""The scenario of the patch author's own test: 26 chunks filled A to Z, every other one marked, a child that eats
all memory, then unmark: each chunk is whole or reported purged.
"""

from __future__ import annotations

import signal

import pytest

from support.cgroups import run_limited

pytestmark = pytest.mark.usefixtures("needs_cgroup")

LIMIT = 96 << 20


def letters(touch: bool) -> None:
    import string

    import mvolatile as mv
    from support.areas import one_cpu
    from support.eating import eat_all
    from support.libc import Anonymous

    chunk = 64 << 10
    memory = Anonymous(26 * chunk)

    def data(number: int) -> bytes:
        return memory.read(number * chunk // 4096, chunk)

    def fill(number: int) -> None:
        memory.write(number * chunk // 4096, string.ascii_uppercase[number].encode() * chunk)

    def call(number: int, mode: int) -> int:
        nbytes, purged = mv.mvolatile(memory.address + number * chunk, chunk, mode)
        assert nbytes == chunk
        return purged

    with one_cpu():  # on others' lists pages would be out of reach
        for number in range(26):
            fill(number)
        for number in range(0, 26, 2):
            call(number, mv.MVOLATILE_VOLATILE)
        eat_all(96 << 20)
    if touch:
        print("touching", flush=True)
        print([data(number)[:1] for number in range(26)])
    answers = [call(number, mv.MVOLATILE_NONVOLATILE) for number in range(26)]
    for number, purged in enumerate(answers):
        whole = data(number) == string.ascii_uppercase[number].encode() * chunk
        assert whole or purged, f"{number} changed, and nobody said so"
        if number % 2:
            assert whole
            assert not purged
    print("purged", sum(answers))
    # Again with what was lost filled anew: an old report must not come back.
    for number in range(26):
        fill(number)
        call(number, mv.MVOLATILE_VOLATILE)
        assert call(number, mv.MVOLATILE_NONVOLATILE) == 0


@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
def test_each_chunk_is_whole_or_reported(tier: str) -> None:
    done = run_limited(letters, LIMIT, False, env={"MVOLATILE_TIER": tier})
    assert done.returncode == 0, f"{done}"
    # The program itself checks that what is not reported is whole, and that nothing else is reported.
    said, count = done.stdout.split()
    assert said == "purged"
    assert int(count) > 0, "the eater was killed, so nothing that could go was left"
    assert done.oom_kills == 1, "the eater alone"


def test_touching_the_chunks_instead_is_death_by_sigbus() -> None:
    done = run_limited(letters, LIMIT, True)
    assert (done.returncode, done.stdout) == (-signal.SIGBUS, "touching\n"), f"{done}"
