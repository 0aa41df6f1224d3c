"""An explorer of interleavings, for any system of actors; it knows nothing about memory."""

from .engine import explore, shrink
from .exhaustive import Exhaustive
from .replay import replay
from .result import Result, Run, TraceStep, Violation
from .schedule import format_schedule, parse_schedule
from .system import Reducible, Repeatable, Step, System
from .tally import Progress, Strategy
from .threads import Operation, ThreadedSystem

__all__ = [
    "Exhaustive",
    "Operation",
    "Progress",
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
    "explore",
    "format_schedule",
    "parse_schedule",
    "replay",
    "shrink",
]
