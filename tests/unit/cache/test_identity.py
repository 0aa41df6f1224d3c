"""What tells a function from all others, in every process."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mvolatile.cache.identity import identity


def plain(x: object, more: int = 2) -> Any:
    """A function of a module, with constants whose order follows the seed of hashes."""
    return x in {"one", "two", "three"}, more, ("x", frozenset("y"))


def made(table: Any) -> Callable[[int], Any]:
    def fetch(n: int) -> Any:
        return table, n

    return fetch


def redefined() -> list[Any]:
    """As `functools.singledispatch`'s are written: all are called `_`."""
    found = []
    for text in ("return n", "return n + 1"):
        names: dict[str, Any] = {"__name__": "somewhere"}
        exec(f"def _(n):\n    {text}\n", names)
        found.append(names["_"])
    return found


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class Class:
    def method(self) -> None: ...

    @classmethod
    def of_class(cls) -> None: ...


class Below(Class):
    pass


def test_functions_that_only_their_making_tells_apart() -> None:
    assert identity(made("a")) == identity(made("a")) != identity(made("b"))
    assert identity(made(1)) != identity(made(True))
    one, other = redefined()
    assert identity(one) != identity(other)
    assert identity(wrapped(one)) != identity(wrapped(other))
    assert identity(lambda x: x + 1) != identity(lambda x: x + 2)
    assert identity(lambda x, n=1: x + n) != identity(lambda x, n=2: x + n)
    assert identity(Class.of_class) != identity(Below.of_class)
    assert identity(len) == "builtins.len@" + identity(len).partition("@")[2]


def test_it_is_a_default_of_a_function_of_a_module() -> None:
    before = identity(plain)
    assert before.startswith(f"{__name__}.plain@")
    kept, plain.__defaults__ = plain.__defaults__, ([],)
    try:
        assert identity(plain) != before
    finally:
        plain.__defaults__ = kept


@pytest.mark.parametrize(
    "function",
    [made([]), made(object()), made(made), functools.partial(plain, 1), Class().method],
    ids=["a list", "an object", "a function", "a partial", "a bound method"],
)
def test_what_nothing_tells_apart_is_refused(function: Any) -> None:
    with pytest.raises(TypeError, match="give name="):
        identity(function)


def test_a_variable_that_is_not_set_yet() -> None:
    def again(n: int) -> Any:
        return later, n

    with pytest.raises(TypeError, match="not set yet"):
        identity(again)
    later = 1
    assert identity(again)


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
from mvolatile.cache.identity import identity
from unit.cache.test_identity import plain, made
def here(n): return n
print(identity(plain), identity(made("a")), identity(here), sep="\\n")
if __name__ == "__main__" and {spawns}:
    import multiprocessing
    child = multiprocessing.get_context("spawn").Process(target=print)
    child.start(); child.join(); assert not child.exitcode
"""


def told_by(where: Path | str, seed: str, spawns: bool = False) -> list[str]:
    text = PROGRAM.format(tests=str(Path(__file__).parents[2]), spawns=spawns)
    command = ["-c", text]
    if isinstance(where, Path):
        where.write_text(text)
        command = [str(where)]
    environment = {"PYTHONHASHSEED": seed, "PATH": ""}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_every_process_tells_it_alike(tmp_path: Path) -> None:
    one, other = told_by(tmp_path / "a.py", "1", spawns=True), told_by(tmp_path / "b.py", "2")
    assert one[:3] == one[3:], "a spawned child"
    assert one[:2] == other[:2], "the seed of hashes"
    assert one[2] != other[2], "two programs have a function of one name"
    assert told_by("-c", "1")[2] != told_by("-c", "1")[2], "programs without a file"
