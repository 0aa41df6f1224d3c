"""A system of threads, each a generator that yields its operations on a shared immutable world."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from .continuations import Node, Program, Thread
from .system import Answer, Step, findings_of

__all__ = ["Operation", "ThreadedSystem"]

W = TypeVar("W", bound=Hashable)

State = tuple[int, ...]
"""The number of the world, then for each thread the number of its node."""


class Operation(Protocol[W]):
    """One atomic action on the world, yielded by a program; the program is sent its result.

    An operation whose locations depend on the world (it follows a pointer) has ``footprint(world)``, giving
    ``(reads, writes)``, instead of `reads` and `writes`; what it depends on belongs to the reads, as does
    what `ready` looks at. Results must be hashable. An `AssertionError` from `perform` ends the thread, as
    in a program.
    """

    @property
    def label(self) -> str:
        """What it does, for people."""
        ...

    @property
    def reads(self) -> frozenset[Hashable]:
        """Locations it depends on."""
        ...

    @property
    def writes(self) -> frozenset[Hashable]:
        """Locations it may change."""
        ...

    def ready(self, world: W) -> bool:
        """Whether it can be performed now; a thread whose operation is not ready is blocked."""
        ...

    def perform(self, world: W) -> tuple[W, Hashable]:
        """The world after it, and the result that the program gets."""
        ...


class _ThreadStep:
    """A thread's operation in one world; where it leads is worked out when it is first taken."""

    __slots__ = ("actor", "label", "node", "reads", "ready", "slot", "target", "world", "writes")

    actor: str
    label: str
    reads: frozenset[Hashable]
    writes: frozenset[Hashable]
    ready: bool
    slot: int
    node: Node
    target: int
    world: int


class _Steps(dict[int, _ThreadStep | None]):
    """For one node: the step it offers in each world; None once the thread has ended."""

    __slots__ = ("_actor", "_follow", "_label", "_node", "_reads", "_slot", "_worlds", "_writes")

    def __init__(self, worlds: list[Any], actor: str, slot: int, node: Node) -> None:
        self._worlds = worlds
        self._actor = actor
        self._slot = slot
        self._node = node
        operation = node.operation
        if operation is not None:
            self._label = operation.label
            self._follow = getattr(operation, "footprint", None)
            if self._follow is None:
                self._reads, self._writes = operation.reads, operation.writes

    def __missing__(self, number: int) -> _ThreadStep | None:
        step = None
        operation = self._node.operation
        if operation is not None:
            world = self._worlds[number]
            step = _ThreadStep()
            step.actor = self._actor
            step.label = self._label
            if self._follow is None:
                step.reads, step.writes = self._reads, self._writes
            else:
                step.reads, step.writes = self._follow(world)
            step.ready = operation.ready(world)
            step.slot = self._slot
            step.node = self._node
            step.target = -1
        self[number] = step
        return step


class ThreadedSystem(Generic[W]):
    """Threads over a world; a `Reducible`, `Repeatable` system.

    `world` is hashable and immutable; equal worlds are one, so do not mix False and 0. `programs` maps
    names to generator functions without arguments (bind those with `functools.partial`); each is called
    anew whenever a fresh copy of the thread is needed. A program touches the world through the operations
    it yields and nothing else: no globals, no mutable object shared between threads, no randomness, and no
    `yield` inside `finally`, since abandoned copies are closed. What it returns is its outcome (hashable).

    `check(world)` and `check_final(world, outcomes)` give ``"property: message"``, several of these, or
    None; `watches` are the locations that `check` looks at, and telling them makes the reduction much
    better (None: it may look at any). A failed assertion in a program is a violation too: of the property
    it names (``assert ok, "name: message"``) or of 'assertion'. Threads that wait for ever violate
    'deadlock', except for the `daemons`.

    Not for use by several OS threads at once.

    Two threads that add one to a counter, each by a read and a write, and the schedule that loses one:

    >>> from dataclasses import dataclass
    >>> from mvolatile.explore import explore, replay
    >>> @dataclass(frozen=True)
    ... class Get:
    ...     label = "get"
    ...     reads, writes = frozenset({"n"}), frozenset()
    ...     ready = staticmethod(lambda world: True)
    ...     perform = staticmethod(lambda world: (world, world))
    >>> @dataclass(frozen=True)
    ... class Put:
    ...     n: int
    ...     label = "put"
    ...     reads, writes = frozenset(), frozenset({"n"})
    ...     ready = staticmethod(lambda world: True)
    ...     def perform(self, world):
    ...         return self.n, None
    >>> def add():
    ...     n = yield Get()
    ...     yield Put(n + 1)
    >>> def both(world, outcomes):
    ...     return None if world == 2 else f"nothing lost: the counter is {world}"
    >>> system = ThreadedSystem(0, {"a": add, "b": add}, check_final=both)
    >>> found = explore(system, shortest=True).violation
    >>> found.violated, found.message
    ('nothing lost', 'the counter is 1')
    >>> replay(system, found.schedule).finding
    'nothing lost: the counter is 1'
    """

    def __init__(
        self,
        world: W,
        programs: Mapping[str, Program],
        *,
        check: Callable[[W], Answer] | None = None,
        check_final: Callable[[W, Mapping[str, Any]], Answer] | None = None,
        watches: frozenset[Hashable] | None = None,
        daemons: Sequence[str] = (),
        merge: bool = True,
    ) -> None:
        if unknown := set(daemons) - set(programs):
            raise ValueError(f"daemons name no thread: {', '.join(sorted(unknown))}")
        if bad := [name for name in programs if not name or set(name) & set(" .*\t\n")]:
            raise ValueError(f"a thread's name has no blank, '.' or '*' in it: {bad[0]!r}")
        self.actors: tuple[str, ...] = tuple(programs)
        self.watches: frozenset[Hashable] | None = watches if check else frozenset()
        self._first_world = world
        self._programs = dict(programs)
        self._check = check
        self._check_final = check_final
        self._daemons = frozenset(daemons)
        self._merge = merge
        self._worlds: list[W] = [world]
        self._world_numbers: dict[W, int] = {world: 0}
        self._verdicts: dict[int, tuple[str, ...]] = {}
        self._nodes: list[Node] = []
        self._steps: list[_Steps] = []
        self._failures: dict[int, str] = {}
        self._threads: list[Thread] = []
        for slot, (name, program) in enumerate(programs.items(), 1):
            self._threads.append(Thread(name, program, self._numbering(name, slot), merge))

    def _numbering(self, actor: str, slot: int) -> Callable[[Node], int]:
        def number(node: Node) -> int:
            self._nodes.append(node)
            self._steps.append(_Steps(self._worlds, actor, slot, node))
            if node.failure is not None:
                self._failures[len(self._nodes) - 1] = node.failure
            return len(self._nodes) - 1

        return number

    # What the engine asks

    def initial(self) -> State:
        """Every thread before its first operation."""
        return (0, *(thread.root.number for thread in self._threads))

    def enabled(self, state: State) -> list[Step]:
        """For each thread whose operation is ready, that operation."""
        steps = self._steps
        world = state[0]
        found: list[Step] = []
        for node in state[1:]:
            step = steps[node][world]
            if step is not None and step.ready:
                found.append(step)
        return found

    def blocked(self, state: State) -> list[Step]:
        """For each thread whose operation is not ready, that operation."""
        steps = self._steps
        world = state[0]
        found: list[Step] = []
        for node in state[1:]:
            step = steps[node][world]
            if step is not None and not step.ready:
                found.append(step)
        return found

    def positions(self, state: State) -> State:
        """The numbers of the threads' nodes."""
        return state[1:]

    def apply(self, state: State, step: Any) -> State:
        """Perform a step."""
        if step.target < 0:
            self._perform(state, step)
        after = list(state)
        after[0] = step.world
        after[step.slot] = step.target
        return tuple(after)

    def _perform(self, state: State, step: _ThreadStep) -> None:
        thread = self._threads[step.slot - 1]
        try:
            world, result = step.node.operation.perform(self._worlds[state[0]])
        except AssertionError as failure:
            step.world, step.target = state[0], thread.failed(step.node, failure).number
            return
        except Exception as error:
            error.add_note(f"while thread {step.actor!r} performed {step.label!r}")
            raise
        number = self._world_numbers.setdefault(world, len(self._worlds))
        if number == len(self._worlds):
            self._worlds.append(world)
        step.world, step.target = number, thread.child(step.node, result).number

    def check(self, state: State) -> tuple[str, ...]:
        """The failed assertions, and what `check` says of the world.

        Neither may hide the other: a thread's failing step need not be visible, so a reduced search may
        meet the world's violation only together with a failure, or the failure only together with that.
        """
        findings: tuple[str, ...] = ()
        if self._failures:
            findings = tuple(self._failures[node] for node in state[1:] if node in self._failures)
        if self._check is not None:
            world = state[0]
            if world not in self._verdicts:
                self._verdicts[world] = findings_of(self._check(self._worlds[world]))
            findings += self._verdicts[world]
        return findings

    def check_final(self, state: State) -> Answer:
        """A deadlock, or what `check_final` says of the world and the outcomes."""
        waiting = [step for step in self.blocked(state) if step.actor not in self._daemons]
        if waiting:
            return "deadlock: " + ", ".join(f"{step.actor} waits at {step.label}" for step in waiting)
        return self._check_final(self.world(state), self.outcomes(state)) if self._check_final else None

    # What people ask

    def world(self, state: State) -> W:
        """The world in a state."""
        return self._worlds[state[0]]

    def outcomes(self, state: State) -> dict[str, Any]:
        """What the threads that have ended by then returned, by name."""
        nodes = [self._nodes[number] for number in state[1:]]
        return {
            name: node.outcome
            for name, node in zip(self.actors, nodes, strict=True)
            if node.operation is None
        }

    def view(self, state: State) -> Hashable:
        """World and outcomes: equal for the same state of a fresh copy."""
        return (self.world(state), tuple(self.outcomes(state).items()))

    def fresh(self, *, merge: bool | None = None) -> ThreadedSystem[W]:
        """The same system, nothing remembered."""
        return type(self)(
            self._first_world,
            self._programs,
            check=self._check,
            check_final=self._check_final,
            watches=self.watches,
            daemons=tuple(self._daemons),
            merge=self._merge if merge is None else merge,
        )
