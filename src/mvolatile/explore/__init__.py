"""An explorer of interleavings, for any system of actors; it knows nothing about memory.

The words

- **actor**: whoever acts: a thread, a CPU, a device. **step**: one atomic action of one actor.
- **state**: everything that decides what can happen next. **location**: a part of it that steps can share.
- **footprint**: the locations that a step reads and writes. Steps of different actors, neither of which
  writes what the other touches, are **independent**: their order makes no difference.
- **schedule**: who takes the next step, step after step; written as a string. **run**: what it leads to.
- **interleaving**: a schedule that leads to a **final** state, in which nobody has a step.
- **preemption**: a step of another actor while the one that ran last could go on.
- **property**: what must hold in each state. **finding**: how a state violates one, as ``"property: message"``.
  **violation**: a finding with its schedule, replayed twice.
- **deadlock**: a final state in which somebody still waits.
- **position**: where an actor stands in its program, with its local values: its own part of the state.
- **strategy**: how to choose schedules: `Exhaustive`, `Random`, `PCT`. A schedule is repeated by `replay`.

The files, the lower ones resting on the upper ones

- ``system``: what the engine asks of a system. ``schedule``: the strings. ``result``: what is handed back.
- ``tally``: what each strategy counts, and the one interface behind which strategies are siblings.
- ``reduction``: which steps may be left out, and why nothing is missed.
- ``layers``: search breadth first, for bounds and for shortest schedules. ``exhaustive``: search depth first.
- ``walks``: random and PCT. ``repeat``: running a schedule again.
- ``engine``: `explore` and `shrink`. ``counting``: how many interleavings there are.
- ``continuations``: generators as automata. ``threads``: `ThreadedSystem`, made of them.
- ``selfcheck``: does a system keep to the rules that all this relies on?

Limits: sequential consistency (a weaker memory needs its buffers written out as actors of their own), no
time, and safety only: that something happens at last is not a property here, though a deadlock is.
"""

from .counting import count_interleavings
from .engine import explore, shrink
from .exhaustive import Exhaustive
from .repeat import replay
from .result import Result, Run, TraceStep, Violation
from .schedule import format_schedule, parse_schedule
from .selfcheck import check_merging, check_reduction
from .system import Reducible, Repeatable, Step, System
from .tally import Progress, Strategy
from .threads import Operation, ThreadedSystem
from .walks import PCT, Random

__all__ = [
    "PCT",
    "Exhaustive",
    "Operation",
    "Progress",
    "Random",
    "Reducible",
    "Repeatable",
    "Result",
    "Run",
    "Step",
    "Strategy",
    "System",
    "ThreadedSystem",
    "TraceStep",
    "Violation",
    "check_merging",
    "check_reduction",
    "count_interleavings",
    "explore",
    "format_schedule",
    "parse_schedule",
    "replay",
    "shrink",
]
