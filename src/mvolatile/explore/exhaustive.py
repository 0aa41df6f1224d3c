"""Every state, depth first, each once; with partial-order reduction, every state that can matter."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from .layers import search_layers
from .reduction import Learned
from .schedule import Move, located, move_at
from .system import Reducible, Step, System
from .tally import Tally

__all__ = ["Exhaustive"]


@dataclass(frozen=True, slots=True)
class Exhaustive:
    """Visit everything within the bounds; no bound means everything.

    `preemptions` bounds how often an actor that could go on is interrupted, `steps` the length of a schedule.
    A bounded search goes breadth first and is never reduced: the cheapest of several equivalent schedules may
    be just the one that a reduction leaves out. `reduce=False` visits every state in an unbounded search too.
    """

    preemptions: int | None = None
    steps: int | None = None
    reduce: bool = True

    @property
    def name(self) -> str:
        """One word."""
        return "exhaustive"

    @property
    def bound(self) -> str:
        """What is left out."""
        bounds = []
        if self.preemptions is not None:
            bounds.append(f"at most {self.preemptions} preemptions")
        if self.steps is not None:
            bounds.append(f"at most {self.steps} steps")
        return ", ".join(bounds) or "none"

    def search(self, system: System[Any], tally: Tally) -> None:
        """Look, and write down in `tally` what was seen."""
        if self.preemptions is not None or self.steps is not None:
            search_layers(system, tally, steps=self.steps, preemptions=self.preemptions)
        elif self.reduce and isinstance(system, Reducible):
            learned = Learned(system)
            while not _DepthFirst(system, tally, learned).run():
                pass
        else:
            _DepthFirst(system, tally, None).run()


def _nowhere(state: Any) -> Sequence[Hashable]:
    return ()


class _Frame:
    """A state on the search's stack."""

    __slots__ = ("at", "enabled", "positions", "state", "taken", "todo", "version")

    def __init__(self, state: Any, enabled: Sequence[Step], positions: Sequence[Hashable]) -> None:
        self.state = state
        self.enabled = enabled
        self.positions = positions
        self.taken = 0  # actors whose steps have been taken or are in `todo`, as a bit set
        self.todo: list[int] = []
        self.at = 0
        self.version = -1


class _DepthFirst:
    """One pass."""

    def __init__(self, system: System[Any], tally: Tally, learned: Learned | None) -> None:
        self.system = system
        self.tally = tally
        self.learned = learned
        self.bit = {actor: 1 << index for index, actor in enumerate(system.actors)}
        self.everyone = (1 << len(self.bit)) - 1
        self.visited: set[Any] = set()
        self.stack: list[_Frame] = []
        self.on_stack: set[Any] = set()
        self.decided: list[tuple[Any, Sequence[Hashable], int, int]] = []
        self.looped = False
        # Without a reduction positions do not matter.
        self.positions: Callable[[Any], Sequence[Hashable]] = getattr(system, "positions", _nowhere)

    def run(self) -> bool:
        """Search; False when a decision no longer stands and another pass is needed."""
        with located(self._path):
            return self._run()

    def _run(self) -> bool:
        tally, learned, stack = self.tally, self.learned, self.stack
        apply = self.system.apply
        visited, on_stack = self.visited, self.on_stack
        if self._enter(self.system.initial()):
            return True
        while stack:
            frame = stack[-1]
            if not frame.todo:
                if learned is None or not self._reconsider(frame, learned):
                    on_stack.discard(frame.state)
                    stack.pop()
                continue
            frame.at = frame.todo.pop()
            step = frame.enabled[frame.at]
            state = apply(frame.state, step)
            tally.steps += 1
            if learned is not None:
                learned.moved(step.actor, frame.positions, self.positions(state))
            if state not in visited:
                if self._enter(state) or tally.pause():
                    return True
            else:
                tally.executions += 1
                if state in on_stack:
                    self.looped = True
                    self._take(frame, self.everyone)
        return learned is None or not self.looped or self._stands(learned)

    def _enter(self, state: Any) -> bool:
        """Visit a new state; True when the search is to stop."""
        self.visited.add(state)
        enabled = self.system.enabled(state)
        positions = self.positions(state)
        decision = self.learned.decide(state, enabled, positions) if self.learned else self.everyone
        findings = self.tally.inspect(state, enabled)
        if findings and self.tally.note(findings, self._path):
            return True
        if not enabled:
            self.tally.executions += 1
            return False
        frame = _Frame(state, enabled, positions)
        if self.learned:
            frame.version = self.learned.version
        self.stack.append(frame)
        self.on_stack.add(state)
        self._take(frame, decision)
        return False

    def _take(self, frame: _Frame, actors: int) -> bool:
        """Add the steps of these actors to what is to be done; True when there are any new ones."""
        new = actors & ~frame.taken
        if not new:
            return False
        frame.taken |= new
        bit = self.bit
        frame.todo += [
            at for at in range(len(frame.enabled) - 1, -1, -1) if bit[frame.enabled[at].actor] & new
        ]
        return bool(frame.todo)

    def _reconsider(self, frame: _Frame, learned: Learned) -> bool:
        """With all below a state searched, does its decision still stand? If not, go on with it."""
        if frame.taken == self.everyone:
            return False
        if not learned.stands(frame.positions, frame.version):
            frame.version = learned.version
            decision = learned.decide(frame.state, frame.enabled, frame.positions)
            if self._take(frame, decision):
                return True
        self.decided.append((frame.state, frame.positions, frame.taken, frame.version))
        return False

    def _stands(self, learned: Learned) -> bool:
        """Do all decisions of this pass stand, by what is known now?

        Without a loop there is no need to ask: when a state was left, all that can follow it had been
        searched.
        """
        return all(
            learned.stands(positions, version)
            or not learned.decide(state, self.system.enabled(state), positions) & ~taken
            for state, positions, taken, version in self.decided
        )

    def _path(self) -> list[Move]:
        return [move_at(frame.enabled, frame.at) for frame in self.stack]
