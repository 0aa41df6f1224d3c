"""The patch's rule, with the kernel deciding: a page that processes share copy-on-write goes only if every
sharer's mapping is volatile. Where one holds it, the stock kernel may still take it from the others' mappings, which
are told; the holder never loses it.
"""

from __future__ import annotations

import json

import pytest

from support.cgroups import run_limited

pytestmark = pytest.mark.usefixtures("needs_cgroup")

LIMIT = 128 << 20


def share(case: str, pages: int, huge: bool, raw: bool) -> None:
    import json
    import os
    import signal
    import sys

    import mvolatile as mv
    from support.eating import eat_all
    from support.libc import Anonymous, drain
    from support.losing import page_bytes, stamped

    class Raw:
        def __init__(self) -> None:
            self.memory = Anonymous(pages * 4096)
            for page in range(pages):
                self.memory.write(page, page_bytes(page))

        def mark(self) -> None:
            drain()
            mv.mvolatile(self.memory.address, self.memory.length, mv.MVOLATILE_VOLATILE)
            drain()

        def good(self) -> bool:
            return all(self.memory.read(page, 4096) == page_bytes(page) for page in range(pages))

        def hold(self) -> str:
            if mv.mvolatile(self.memory.address, self.memory.length, mv.MVOLATILE_NONVOLATILE)[1]:
                return "lost"
            return "whole" if self.good() else "WRONG"

    class Object:
        def __init__(self) -> None:
            self.memory = stamped(pages, huge=huge)
            self.pin = self.memory.pin().__enter__()

        def mark(self) -> None:
            drain()
            self.pin.release()
            drain()

        def good(self) -> bool:
            return all(bytes(self.pin[p * 4096 : (p + 1) * 4096]) == page_bytes(p) for p in range(pages))

        def hold(self) -> str:
            try:
                self.pin = self.memory.pin().__enter__()
            except mv.Purged:
                return "lost"
            return "whole" if self.good() else "WRONG"

    ours = Raw() if raw else Object()
    if case != "held at the fork":
        ours.mark()
    ready, go, answer = os.pipe(), os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(200)
        if case == "child holds after the fork":
            assert ours.hold() == "whole"
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        if case == "held at the fork":
            os.write(answer[1], b"whole" if ours.good() else b"WRONG")
        else:
            os.write(answer[1], ours.hold().encode())
        os._exit(0)
    os.read(ready[0], 1)
    if case == "held at the fork":
        ours.mark()
    if case == "parent holds after the fork":
        assert ours.hold() == "whole"
    eat_all(128 << 20)
    if case == "parent holds after the fork":
        ours.mark()
    found = {"parent": ours.hold()}
    os.write(go[1], b"x")
    found["child"] = os.read(answer[0], 100).decode()
    assert os.waitpid(pid, 0)[1] == 0
    if found["parent"] == "whole":  # nobody shares it now
        ours.mark()
        eat_all(128 << 20)
        found["alone"] = ours.hold()
    json.dump(found, sys.stdout)


@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
@pytest.mark.parametrize(
    ("pages", "huge", "raw"),
    [(16, False, False), (1024, False, False), (1024, True, False), (16, False, True)],
)
@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("volatile in both", {"parent": "lost", "child": "lost"}),
        ("child holds after the fork", {"child": "whole"}),
        ("parent holds after the fork", {"parent": "whole", "alone": "lost"}),
        ("held at the fork", {"child": "whole"}),
    ],
)
def test_who_shares_what(
    case: str, expected: dict[str, str], pages: int, huge: bool, raw: bool, tier: str
) -> None:
    done = run_limited(share, LIMIT, case, pages, huge, raw, env={"MVOLATILE_TIER": tier})
    assert done.returncode == 0, f"{done}"
    found = json.loads(done.stdout)
    assert "WRONG" not in found.values()
    assert found | expected == found
    if found.get("parent") == "whole":
        assert found["alone"] == "lost", "once nobody shares it, it goes"
