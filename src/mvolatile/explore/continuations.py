"""Threads written as generators, made into automata that can be branched.

A generator cannot be copied, so it cannot be resumed twice from one `yield`. What can be done: a *node*
stands for a thread's local state at a yield, and ``children[result]`` is the node it comes to when the
yielded operation gives that result. The child is found once: by the live generator kept at the node if
there still is one, else by a new generator fed with the results recorded on the way. That has no effect on
the world, because a program touches the world by yielded operations alone.

Nodes with equal local state are one node, which is what makes a loop a cycle and not an endless chain. The
local state is, for each frame on the chain of `yield from`: its code, the instruction, the named locals,
and the *evaluation stack*, where a `for` keeps its iterator and ``x + (yield op)`` keeps x. Python shows
no frame's stack; the garbage collector does (`gc.get_referents`). What cannot be compared by value (an
object with identity, an iterator that does not reduce to values) makes the node unmergeable: slower, never
wrong. Equal values must behave equally; `check_merging` explores with merging off and on and compares.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Generator, Hashable
from dataclasses import fields, is_dataclass
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    EllipsisType,
    FunctionType,
    GeneratorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    NoneType,
)
from typing import Any

from ..errors import NondeterminismError

__all__ = ["Node", "Program", "Thread"]

Program = Callable[[], Generator[Any, Any, Any]]

BY_IDENTITY = (BuiltinFunctionType, type, ModuleType, CodeType, NoneType, EllipsisType)
BOUND = (BuiltinFunctionType, MethodWrapperType)
IDENTITY_HASH: Any = object.__hash__
TUPLE_HASH: Any = tuple.__hash__

UNMERGED_AT_MOST = 1000


class _Opaque(Exception):  # noqa: N818 - control flow, never seen outside
    """A value of this type cannot be compared."""


class _Snapshot:
    """Turns values into something that is equal for values that behave equally: `True` and `1` do not.

    Lists, dicts, sets and functions count by their contents, and by which of them are one and the same
    object. A function's contents are its closure and its attributes; a bound method's, what it is bound to.
    Classes and modules count by identity: what they hold is global, and no program may change it. A class
    that is made inside a function may be the program's own, so nothing is told of it.
    """

    __slots__ = ("_met",)

    def __init__(self) -> None:
        # The values are kept: what `__reduce__` made for us would go, and the next would have its id.
        self._met: dict[int, tuple[int, Any]] = {}

    def take(self, value: Any) -> Hashable:
        kind = type(value)
        if kind is tuple or kind is frozenset:
            return (kind, kind(map(self.take, value)))
        if kind in (list, dict, set, FunctionType):
            if id(value) in self._met:
                return (kind, self._met[id(value)][0])
            number = len(self._met)
            self._met[id(value)] = number, value
            return (kind, number, self._contents(value))
        if kind in BOUND and not isinstance(value.__self__, (ModuleType, type, NoneType)):
            return (kind, value.__name__, self.take(value.__self__))
        made: type[Any] = value if isinstance(value, type) else kind
        if "<locals>" in made.__qualname__:
            raise _Opaque(made.__name__)
        if isinstance(value, BY_IDENTITY):
            return (kind, value)
        if kind is MethodType:
            return (kind, self.take(value.__func__), self.take(value.__self__))
        if kind is float:
            return (kind, value.hex())
        if kind.__hash__ is TUPLE_HASH:
            return (kind, tuple(map(self.take, value)), self.take(getattr(value, "__dict__", None)))
        if kind.__hash__ is IDENTITY_HASH:
            # Equal only to itself, and so says nothing of its contents; but a builtin iterator can tell them.
            if kind.__module__ == "builtins" and hasattr(kind, "__next__") and kind is not GeneratorType:
                return (kind, self.take(value.__reduce__()))
            raise _Opaque(kind.__name__)
        try:
            hash(value)
        except TypeError:
            raise _Opaque(kind.__name__) from None
        if is_dataclass(kind):
            return (kind, *(self.take(getattr(value, field.name, None)) for field in fields(kind)))
        return (kind, value)

    def _contents(self, value: Any) -> Hashable:
        match value:
            case list():
                return tuple(map(self.take, value))
            case dict():
                return tuple(map(self.take, value.items()))
            case set():
                return frozenset(map(self.take, value))
        # A function made anew for each copy of a generator behaves as the others do if its closure is equal.
        try:
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
        except ValueError:
            raise _Opaque("function with a free variable that is not bound") from None
        held = (value.__defaults__, value.__kwdefaults__, value.__dict__, *cells)
        return (value.__code__, *map(self.take, held))


def local_state(generator: Generator[Any, Any, Any]) -> Hashable:
    """A value that is equal for generators which will behave equally; `_Opaque` if there is no telling."""
    parts: list[Hashable] = []
    take = _Snapshot().take
    inner: Any = generator
    while inner is not None:
        if type(inner) is not GeneratorType:
            raise _Opaque(type(inner).__name__)
        frame, further = inner.gi_frame, inner.gi_yieldfrom
        if frame is None:
            raise _Opaque("a generator that has ended")
        named = frame.f_locals
        parts.append((inner.gi_code, frame.f_lasti))
        # Their order tells when somebody first looked at the frame, and nothing else.
        parts.extend((name, take(named[name])) for name in sorted(named))
        for held in gc.get_referents(inner):
            # The locals once more, and what lies on the stack. A cell's contents are among the locals.
            if held is not frame and held is not named and held is not further and type(held) is not CellType:
                parts.append(take(held))
        inner = further
    return tuple(parts)


class Node:
    """A thread's local state: at a yield (`operation` is what it wants to do next) or at its end.

    `number` is unique within one system; `unmerged` nodes in a row led here. At the end `operation` is
    None and either `outcome` is what the program returned or `failure` tells which assertion failed.
    """

    __slots__ = (
        "children",
        "failure",
        "number",
        "operation",
        "outcome",
        "parent",
        "spare",
        "unmerged",
        "via",
    )

    def __init__(self, parent: Node | None, via: Any) -> None:
        self.number = -1
        self.unmerged = 0
        self.parent = parent
        self.via = via
        self.operation: Any = None
        self.outcome: Any = None
        self.failure: str | None = None
        self.children: dict[tuple[type, Hashable], Node] = {}
        self.spare: Generator[Any, Any, Any] | None = None


class Thread:
    """One program as an automaton that grows as it is explored. Not for use by several OS threads."""

    def __init__(self, name: str, program: Program, number: Callable[[Node], int], merge: bool) -> None:
        self.name = name
        self._program = program
        self._number = number
        self._merge = merge
        self._known: dict[Hashable, Node] = {}
        self.root = self._arrive(None, None, program())

    def child(self, node: Node, result: Any) -> Node:
        """Where the thread is once `node.operation` has given `result` (hashable)."""
        key = (type(result), result)
        found = node.children.get(key)
        if found is None:
            generator, node.spare = node.spare, None
            found = node.children[key] = self._arrive(node, result, generator or self._again(node))
        return found

    def _again(self, node: Node) -> Generator[Any, Any, Any]:
        """A new generator, brought to `node` by the results recorded on the way."""
        path: list[Node] = []
        at: Node | None = node
        while at is not None:
            path.append(at)
            at = at.parent
        generator = self._program()
        for step in reversed(path):
            try:
                operation = next(generator) if step.parent is None else generator.send(step.via)
            except StopIteration:
                operation = None
            if operation is None or operation.label != step.operation.label:
                now = "ended" if operation is None else f"wants {operation.label!r}"
                was = f"it wanted {step.operation.label!r}"
                raise NondeterminismError(f"thread {self.name!r}: {was}; with the same results it now {now}")
        return generator

    def _arrive(self, parent: Node | None, result: Any, generator: Generator[Any, Any, Any]) -> Node:
        """Send the result (or start), and see where the generator gets to."""
        node = Node(parent, result)
        state: Hashable | None = None
        try:
            try:
                node.operation = next(generator) if parent is None else generator.send(result)
                if self._merge:
                    state = local_state(generator)
            except StopIteration as end:
                node.outcome = end.value
                if self._merge:
                    state = ("ended", _Snapshot().take(end.value))
            except AssertionError as failure:
                return self.failed(node, failure)
        except _Opaque as opaque:
            node.unmerged = parent.unmerged + 1 if parent else 1
            if node.unmerged > UNMERGED_AT_MOST:
                raise ValueError(
                    f"thread {self.name!r} goes on and on with a local value of type {opaque}, which cannot"
                    " be compared, so that a loop would never end: keep plain values in locals"
                ) from None
        except Exception as error:
            error.add_note(f"in thread {self.name!r}")
            raise
        if state is not None:
            known = self._known.setdefault(state, node)
            if known is not node:
                if known.spare is None and known.operation is not None:
                    known.spare = generator
                return known
        if node.operation is not None:
            node.spare = generator
        node.number = self._number(node)
        return node

    def failed(self, node: Node, failure: AssertionError) -> Node:
        """The thread's end when its operation at `node` failed an assertion."""
        text = describe(self.name, failure)
        end = Node(node, None)
        end.failure = text
        known = self._known.setdefault(("failed", text), end)
        if known is end:
            end.number = self._number(end)
        return known


def describe(name: str, failure: AssertionError) -> str:
    """The finding for a failed assertion: its own ``"property: message"``, or the property 'assertion'."""
    text = str(failure).partition("\n")[0]
    return text if re.match(r"[\w-]+: ", text) else f"assertion: {name}: {text or 'an assertion failed'}"
