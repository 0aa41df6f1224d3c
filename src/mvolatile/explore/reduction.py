"""Partial-order reduction: persistent sets that are learned while searching.

The search may leave out an actor q in a state s when running the others first loses nothing. A set C of
actors is *closed* in s when no actor outside C can, in any future, take a step that depends on the next
step of an actor in C. Then only the steps of C need to be taken in s. (If a member of C is blocked, the
step it waits for counts as its next step; whoever may unblock it writes what it reads, so is drawn into
C.)

**The futures are learned.** Nobody tells us what a program will do. For each (actor, position) we keep the
union of the footprints of the steps *seen* to be next there, blocked ones too, and of all that was seen to
follow. A decision is tried again against what is known when everything below its state has been searched,
and extended if it no longer stands. If the search met a loop, that was perhaps too early; then every
decision is tried once more at the end of the pass, and if one does not stand, the search is run again,
knowing more. Knowledge only grows, so this ends, and when it ends nothing was missed:

    Let R be the graph the last pass explored. All that can follow a state in R was known when its
    decision was last tried. Suppose some decision in R is wrong: in state s the closed set C was taken, a
    path a1 ... an leads away from s by steps outside C, and an (of actor q) is the first that depends on
    the next step of a member of C. Choose s and the path so that n is the least of all. Let t be a step of
    C enabled in s. Then a1 ... a(n-1) can be taken after t as well, with the same effects, and q gets to
    the same position. Shorter paths are covered by R (below), this one too: R contains a path from s.t
    that takes a1 ... a(n-1) and brings q from its position in s to that of an, where q's next step is
    seen. Either it is an, or t has written something that an's footprint depends on and so reads. Both
    ways a conflict with the next step of a member of C was learned for q's position in s, and the decision
    would not have stood.

    Covering: for each path w from a state s of R, R has a path from s that is w and perhaps further steps
    independent of w, up to the order of independent steps. If some step of w belongs to the set taken in
    s, all steps before the first such x are independent of x: take x first, and w is one shorter. If none
    does, any step of the set is independent of all of w: take it, and w is still ahead. That cannot go on
    for ever, since on each cycle of R one state is fully expanded (a search that meets a state of its own
    stack expands fully; without that, w could be put off for ever: the ignoring problem).

**Properties.** Final states are all kept: nothing independent of w is left to add to a w that ends in one.
For `check`, which is asked of every state, all *visible* steps (those that write a watched location) are
made to depend on each other, by a location of their own. For a path w that ends with the visible step that
makes a property false, R has a path with the same visible steps in the same order; after the last of them
the watched locations have the same values. So R violates the same properties. What `check` says must hang
on those locations alone: an invisible step that changed its answer could hide a violation.

Rejected: sleep sets. In a search that remembers states they save steps to states already known, but no
states, and are unsound there unless the sets are kept with the states. Also rejected: stateless DPOR;
retry loops never end.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from .system import Reducible, Step

__all__ = ["Learned"]

VISIBLE = 1
"""The mask bit of the location that every visible step writes."""

Mask = tuple[int, int]
"""Footprint as bit sets: what is written, what is touched (read or written)."""


class Learned:
    """What is known of the actors' futures, and the decisions that follow from it."""

    def __init__(self, system: Reducible[Any]) -> None:
        self.version = 0
        self._system = system
        self._watches = system.watches
        self._actors = {actor: index for index, actor in enumerate(system.actors)}
        self._bits: dict[Hashable, int] = {}
        self._masks: dict[tuple[frozenset[Hashable], frozenset[Hashable]], Mask] = {}
        self._future: list[dict[Hashable, Mask]] = [{} for _ in self._actors]
        self._grown: list[dict[Hashable, int]] = [{} for _ in self._actors]
        self._edges: list[set[tuple[Hashable, Hashable]]] = [set() for _ in self._actors]
        self._before: list[dict[Hashable, list[Hashable]]] = [{} for _ in self._actors]

    def _mask(self, step: Step) -> Mask:
        key = (step.reads, step.writes)
        found = self._masks.get(key)
        if found is None:
            written = self._set(step.writes)
            visible = step.writes if self._watches is None else step.writes & self._watches
            if visible:
                written |= VISIBLE
            found = self._masks[key] = (written, written | self._set(step.reads))
        return found

    def _set(self, locations: frozenset[Hashable]) -> int:
        bits = 0
        for location in locations:
            bits |= 2 << self._bits.setdefault(location, len(self._bits))
        return bits

    def moved(self, actor: str, before: Sequence[Hashable], after: Sequence[Hashable]) -> None:
        """A step of `actor` was taken, and led from these positions to those."""
        index = self._actors[actor]
        edge = (before[index], after[index])
        if edge not in self._edges[index]:
            self._edges[index].add(edge)
            source, target = edge
            self._before[index].setdefault(target, []).append(source)
            self._grow(index, source, self._future[index].get(target, (0, 0)))

    def _grow(self, index: int, position: Hashable, more: Mask) -> None:
        future, before = self._future[index], self._before[index]
        todo = [(position, more)]
        while todo:
            position, (written, touched) = todo.pop()
            known = future.get(position, (0, 0))
            grown = (known[0] | written, known[1] | touched)
            if grown != known:
                future[position] = grown
                self.version += 1
                self._grown[index][position] = self.version
                todo += [(source, grown) for source in before.get(position, ())]

    def stands(self, positions: Sequence[Hashable], version: int) -> bool:
        """Is nothing new known, since `version`, of these positions' futures?"""
        if version != self.version:
            for grown, position in zip(self._grown, positions, strict=True):
                if grown.get(position, 0) > version:
                    return False
        return True

    def decide(self, state: Any, enabled: Sequence[Step], positions: Sequence[Hashable]) -> int:
        """The actors whose steps suffice in this state, as a bit set: the closed set with the fewest steps.

        The next step of every actor, blocked or not, is learned on the way: to be called for each state
        visited.
        """
        actors, masks = self._actors, self._masks
        pending: dict[int, Mask] = {}
        count: dict[int, int] = {}
        everyone = 0
        for step in enabled:
            index = actors[step.actor]
            mask = masks.get((step.reads, step.writes)) or self._mask(step)
            if index in pending:
                other = pending[index]
                mask = (mask[0] | other[0], mask[1] | other[1])
                count[index] += 1
            else:
                count[index] = 1
                everyone |= 1 << index
            pending[index] = mask
        for step in self._system.blocked(state):
            pending[actors[step.actor]] = self._mask(step)

        futures = []
        for index, mask in pending.items():
            position = positions[index]
            known = self._future[index].get(position, (0, 0))
            if known[0] | mask[0] != known[0] or known[1] | mask[1] != known[1]:
                self._grow(index, position, mask)
                known = self._future[index][position]
            futures.append((index, known[0], known[1]))

        best, fewest = everyone, len(enabled)
        one_each = fewest == len(count)
        for seed in count:
            if fewest <= 1:
                break
            closed = 1 << seed
            todo = [seed]
            while todo and closed & everyone != everyone:
                written, touched = pending[todo.pop()]
                for index, later_written, later_touched in futures:
                    if not closed >> index & 1 and (written & later_touched or touched & later_written):
                        closed |= 1 << index
                        todo.append(index)
            closed &= everyone
            if closed != everyone:
                size = closed.bit_count() if one_each else sum(count[i] for i in count if closed >> i & 1)
                if size < fewest:
                    best, fewest = closed, size
        return best
