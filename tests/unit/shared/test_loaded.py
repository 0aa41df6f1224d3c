"""What a client loads, and a keeper: each of many workers has it in memory, and what a keeper has, values have not."""

from __future__ import annotations

import pytest

from support.processes import run_python

NAMES = "from sys import modules; print(*modules)"


def loaded_by(program: str) -> set[str]:
    done = run_python(f"{program}\n{NAMES}")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "program",
    [
        "import mvolatile\nmvolatile.SharedCache('values').close()",
        "import mvolatile\nmvolatile.volatile_cache(shared='values')(len)",
    ],
    ids=["cache", "decorator"],
)
def test_a_client_has_no_private_cache_and_no_keeper(program: str) -> None:
    loaded = loaded_by(program)
    assert "mvolatile.shared.client" in loaded
    for other in (
        "cache.behind",
        "cache.cache",
        "cache.engine",
        "cache.store",
        "cache.eviction",
        "cache.pressure",
    ):
        assert f"mvolatile.{other}" not in loaded
    assert not {"mvolatile.shared.storage", "mvolatile.shared.second"} & loaded


def test_a_keeper_has_no_client() -> None:
    loaded = loaded_by("import mvolatile.shared.start")
    assert {"mvolatile.shared.storage", "mvolatile.cache.eviction"} <= loaded
    for other in ("shared.client", "shared.connection", "shared.values", "cache.cache", "cache.store"):
        assert f"mvolatile.{other}" not in loaded
    assert "_hashlib" not in loaded, "OpenSSL"
