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
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    EllipsisType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
    NoneType,
)
from typing import Any

from ..errors import NondeterminismError

__all__ = ["Node", "Program", "Thread"]

Program = Callable[[], Generator[Any, Any, Any]]

BY_IDENTITY = (FunctionType, BuiltinFunctionType, type, ModuleType, CodeType, NoneType, EllipsisType)
IDENTITY_HASH: Any = object.__hash__


class _Opaque(Exception):  # noqa: N818 - control flow, never seen outside
    """This value cannot be compared."""


class _Snapshot:
    """Turns values into something that is equal for values that behave equally: `True` and `1` do not.

    Lists, dicts and sets count by their contents, and by which of them are one and the same object.
    """

    __slots__ = ("_met",)

    def __init__(self) -> None:
        self._met: dict[int, int] = {}

    def take(self, value: Any) -> Hashable:
        kind = type(value)
        if kind is tuple:
            return (kind, *map(self.take, value))
        if kind in (list, dict, set):
            if id(value) in self._met:
                return (kind, self._met[id(value)])
            self._met[id(value)] = number = len(self._met)
            if kind is set:
                return (kind, number, frozenset(map(self.take, value)))
            items = value.items() if kind is dict else value
            return (kind, number, *map(self.take, items))
        if isinstance(value, BY_IDENTITY):
            return (kind, id(value))
        if kind is MethodType:
            return (kind, id(value.__func__), self.take(value.__self__))
        if kind.__hash__ is IDENTITY_HASH:
            # Equal only to itself, and so says nothing of its contents; but a builtin iterator can tell them.
            if kind.__module__ == "builtins" and hasattr(kind, "__next__") and kind is not GeneratorType:
                return (kind, self.take(value.__reduce__()))
            raise _Opaque
        try:
            hash(value)
        except TypeError:
            raise _Opaque from None
        return (kind, value)


def local_state(generator: Generator[Any, Any, Any]) -> Hashable | None:
    """A value that is equal for generators which will behave equally; None if there is no telling."""
    parts: list[Hashable] = []
    take = _Snapshot().take
    inner: Any = generator
    try:
        while inner is not None:
            if type(inner) is not GeneratorType:
                return None
            frame, further = inner.gi_frame, inner.gi_yieldfrom
            if frame is None:
                return None
            named = frame.f_locals
            parts.append((id(inner.gi_code), frame.f_lasti))
            parts.extend((name, take(value)) for name, value in named.items())
            for held in gc.get_referents(inner):
                # The locals once more, and what lies on the stack. A cell's contents are among the locals.
                if (
                    held is not frame
                    and held is not named
                    and held is not further
                    and type(held) is not CellType
                ):
                    parts.append(take(held))
            inner = further
    except _Opaque:
        return None
    return tuple(parts)


class Node:
    """A thread's local state: at a yield (`operation` is what it wants to do next) or at its end.

    `number` is unique within one system. At the end `operation` is None and either `outcome` is what the
    program returned or `failure` tells which assertion failed.
    """

    __slots__ = ("_spare", "children", "failure", "number", "operation", "outcome", "parent", "via")

    def __init__(self, number: int, parent: Node | None, via: Any) -> None:
        self.number = number
        self.parent = parent
        self.via = via
        self.operation: Any = None
        self.outcome: Any = None
        self.failure: str | None = None
        self.children: dict[tuple[type, Hashable], Node] = {}
        self._spare: Generator[Any, Any, Any] | None = None


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
            generator, node._spare = node._spare, None
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
        node = Node(-1, parent, result)
        try:
            node.operation = next(generator) if parent is None else generator.send(result)
            state = local_state(generator) if self._merge else None
        except StopIteration as end:
            node.outcome = end.value
            state = self._ended(end.value)
        except AssertionError as failure:
            node.failure = describe(self.name, failure)
            state = ("failed", node.failure)
        if state is not None:
            known = self._known.setdefault(state, node)
            if known is not node:
                if known._spare is None and known.operation is not None:
                    known._spare = generator
                return known
        if node.operation is not None:
            node._spare = generator
        node.number = self._number(node)
        return node

    def _ended(self, outcome: Any) -> Hashable | None:
        try:
            return ("ended", _Snapshot().take(outcome)) if self._merge else None
        except _Opaque:
            return None

    def failed(self, node: Node, failure: AssertionError) -> Node:
        """The thread's end when its operation at `node` failed an assertion."""
        text = describe(self.name, failure)
        end = Node(-1, node, None)
        end.failure = text
        known = self._known.setdefault(("failed", text), end)
        if known is end:
            end.number = self._number(end)
        return known


def describe(name: str, failure: AssertionError) -> str:
    """The finding for a failed assertion: its own ``"property: message"``, or the property 'assertion'."""
    text = str(failure)
    return text if re.match(r"[\w-]+: ", text) else f"assertion: {name}: {text or 'an assertion failed'}"
