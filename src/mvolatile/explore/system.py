"""What the engine asks of a system: the protocols, and nothing about any particular system.

A system is a transition graph that is given by functions, not by data: an initial state, the steps enabled
in a state, the state after a step, and what is wrong with a state. All of them must be pure and
deterministic: the same argument gives an equal answer every time. The engine checks this where it can (see
`replay`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

__all__ = ["Answer", "Reducible", "Repeatable", "Step", "System", "findings_of", "property_of"]

S = TypeVar("S", bound=Hashable)

Answer = str | Sequence[str] | None
"""What is wrong: ``"property: message"``, or several of these, or nothing."""


class Step(Protocol):
    """One atomic action of one actor, as offered in one state.

    `reads` and `writes` name the *locations* (any hashable) whose values the step depends on and changes. Two
    steps are independent when their actors differ and neither writes what the other touches; then either
    order gives the same state. Whatever decides whether an actor has a step at all, which one, and what
    that step's footprint is, belongs to the reads: a lock that is waited for, a pointer that is followed.
    """

    @property
    def actor(self) -> str:
        """Who takes the step."""
        ...

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


@runtime_checkable
class System(Protocol[S]):
    """A system of actors. States are hashable, and equal states have equal futures."""

    @property
    def actors(self) -> Sequence[str]:
        """Every actor there can ever be, in a fixed order."""
        ...

    def initial(self) -> S:
        """The state in which every schedule begins."""
        ...

    def enabled(self, state: S) -> Sequence[Step]:
        """The steps that can be taken now, in a fixed order; normally one for each actor that can run."""
        ...

    def apply(self, state: S, step: Step) -> S:
        """The state after `step`, which `enabled(state)` has offered."""
        ...

    def check(self, state: S) -> Answer:
        """What is wrong with this state; asked of every state."""

    def check_final(self, state: S) -> Answer:
        """What else is wrong with a state that enables nothing: a wrong outcome, or a deadlock."""


@runtime_checkable
class Reducible(System[S], Protocol[S]):
    """A system that tells enough about its actors for partial-order reduction; any other is searched plainly.

    An actor that has neither an enabled nor a blocked step has ended for good.
    """

    @property
    def watches(self) -> frozenset[Hashable] | None:
        """The locations `check` looks at; None: any, so that the order of all writes matters."""

    def positions(self, state: S) -> Sequence[Hashable]:
        """For each of `actors`, its local state: what decides its next step, but for the locations it reads.

        One position for all is correct as well; an actor's future is then taken to be all it ever does.
        """
        ...

    def blocked(self, state: S) -> Sequence[Step]:
        """The next steps of the actors that have not ended and cannot run now."""
        ...


@runtime_checkable
class Repeatable(System[S], Protocol[S]):
    """A system with caches, which can be had once more without them, so that a second run is a real one."""

    def fresh(self) -> System[S]:
        """The same system, nothing remembered."""
        ...

    def view(self, state: S) -> Hashable:
        """The meaning of a state, equal between this system and a fresh one."""


def findings_of(*answers: Answer) -> tuple[str, ...]:
    """All that is wrong, by several answers."""
    found: list[str] = []
    for answer in answers:
        if answer:
            found += [answer] if isinstance(answer, str) else answer
    return tuple(found)


def property_of(finding: str) -> str:
    """The property's name in what `check` returned."""
    return finding.partition(": ")[0]
