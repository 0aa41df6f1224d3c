"""The public names and signatures, written out: `make api` records them in tests/unit/api.txt, and a test compares.

Read from the running modules, so that names made lazily, inherited from C or by a dataclass are there too.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["PUBLIC", "RECORD", "written"]

PUBLIC = (
    "mvolatile",
    "mvolatile.arrays",
    "mvolatile.behind",
    "mvolatile.cache",
    "mvolatile.errors",
    "mvolatile.explore",
    "mvolatile.kernel.cgroup",
    "mvolatile.kernel.features",
    "mvolatile.kernel.pressure",
    "mvolatile.kernel.smaps",
    "mvolatile.memory",
    "mvolatile.syscall",
    "mvolatile.testing",
)
"""The modules whose `__all__` is a promise."""

RECORD = Path(__file__).parents[1] / "unit" / "api.txt"

_PROTOCOLS = frozenset(
    f"__{name}__"
    for name in (
        *("enter", "exit", "len", "contains", "iter", "getitem", "setitem", "delitem"),
        *("call", "get", "array", "reduce", "copy", "deepcopy"),
    )
)
_FROM_OUTSIDE = (BaseException, tuple)


def written() -> str:
    """All of it, a name a line."""
    return "\n".join(line for module in PUBLIC for line in _module(module)) + "\n"


def _module(name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    yield name
    for one in sorted(module.__all__):
        value = getattr(module, one)
        home = next((other for other in PUBLIC[1:] if _exports(other, one, value)), name)
        if home != name:
            yield f"  {one} = {home}.{one}"
        else:
            yield from (f"  {line}" for line in _named(one, value))
    yield ""


def _exports(module: str, name: str, value: Any) -> bool:
    imported = importlib.import_module(module)
    return name in imported.__all__ and getattr(imported, name) is value


def _named(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield from _class(name, value)
    elif inspect.isroutine(value):
        yield f"def {name}{_signature(value)}"
    elif isinstance(value, int | str):
        yield f"{name} = {value!r}"
    else:
        yield f"{name}: a type alias"


def _class(name: str, cls: type) -> Iterator[str]:
    bases = [base.__name__ for base in cls.__bases__ if base is not object]
    yield f"class {name}({', '.join(bases)})" if bases else f"class {name}"
    fields = {field.name for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    members: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        ours = base.__module__.startswith("mvolatile") or not issubclass(base, _FROM_OUTSIDE)
        if ours and base is not object and base.__module__ not in ("typing", "collections.abc", "_typing"):
            members.update(vars(base))
    if "__init__" in members and not getattr(cls, "_is_protocol", False):
        yield f"  def __init__{_signature(members['__init__'])}"
    for member, value in sorted(members.items()):
        if member in _PROTOCOLS and value is not None:
            yield f"  {member}"
        elif not member.startswith("_") and member not in fields:
            yield f"  {_member(member, value)}"


def _member(name: str, value: Any) -> str:
    if inspect.isdatadescriptor(value):
        return name
    kind = {staticmethod: "static ", classmethod: "class "}.get(type(value), "")
    function = getattr(value, "__func__", value)
    if inspect.iscoroutinefunction(function):
        kind = "async "
    return f"{kind}def {name}{_signature(function)}" if callable(function) else name


def _signature(function: Any) -> str:
    """As it is written: annotations without quotes, defaults that are objects by their names."""
    signature = inspect.signature(function)
    return str(
        signature.replace(
            parameters=[
                parameter.replace(
                    annotation=_plain(parameter.annotation), default=_default(parameter.default)
                )
                for parameter in signature.parameters.values()
            ],
            return_annotation=_plain(signature.return_annotation),
        )
    )


class _Word:
    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _plain(annotation: Any) -> Any:
    return _Word(annotation) if isinstance(annotation, str) else annotation


def _default(value: Any) -> Any:
    if value is inspect.Parameter.empty or value is None or isinstance(value, int | float | str | tuple):
        return value
    return _Word(value.__qualname__ if isinstance(value, type) else "...")


if __name__ == "__main__":
    RECORD.write_text(written())
    print(f"recorded in {RECORD}")
