"""The modelled machine: a stock kernel's pages below, the library's shared memory above, both in one flat tuple.

A *cell* is an index into that tuple, and cells are what operations name as their reads and writes. `Machine` knows
where everything is; it never changes. Nothing here is an action.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Final, NamedTuple

from ...errors import MvolatileError

World = tuple[Any, ...]

USERFAULTFD: Final = "userfaultfd"
FAULTCOUNT: Final = "faultcount"

PARENT: Final = 0
CHILD: Final = 1


class Pte(NamedTuple):
    """A page-table entry with what it maps; None where nothing is mapped.

    `lazy`: MADV_FREE has been here and nobody has written since, so reclaim may take it. `shared`: write-protected
    since a fork, so that the next write faults. The zero page is never lazy.
    """

    value: int
    lazy: bool = False
    shared: bool = False
    zero_page: bool = False


ZERO_PAGE: Final = Pte(0, zero_page=True)


class Guarded(NamedTuple):
    """What of `struct range` its lock guards. `data` and `lost` are sets of pages, as bits; C keeps byte extents."""

    marked: bool = False
    watched: bool = False
    pins: int = 0
    writers: int = 0
    data: int = 0
    lost: int = 0
    fork_count: int = 0
    lingers: bool = False


@dataclass(frozen=True, slots=True)
class Broken:
    """The protocol with one thing done wrong. Every switch off is the library as it is."""

    check_then_pin: bool = False
    """Unmark scans for missing pages and populates afterwards, and does not care how that ends."""

    forget_repair: bool = False
    """The trap fills a page and keeps no note of it."""

    validate_first: bool = False
    """A peek is validated before its bytes are read."""

    map_before_count: bool = False
    """The trap counts `traps` up after it has mapped the zero page."""

    note_before_zero: bool = False
    """The trap notes the page first, so that the note stands also where the page turns out to be there."""

    fold_bits_first: bool = False
    """A fold takes the bits and then clears `notes`; a trap that comes in between has its count wiped out."""

    fold_announces_late: bool = False
    """A fold takes the notes before it counts `changes`."""

    changes_before_notes: bool = False
    """The end of a peek looks at `changes` first, and at `notes` then."""

    watch_before_filling: bool = False
    """Mark registers a range with userfaultfd before it has given its holes the zero page."""

    unwatch_part: bool = False
    """A read or write that covers all of a large range ends its watch, and marks it again unwatched."""

    settle_forgets_notes: bool = False
    """A hold does not fold again what traps note between its scan and the settling of the lost pages: the note is
    folded after the rebuild, and whole data is called lost."""

    probe_announces_late: bool = False
    """Where there is no pagemap, a missing page is filled to find out, and the loss announced only then: a peek that
    reads the zeros in between ends well."""

    touch_believed_early: bool = False
    """A hold by touching does not wait for traps before it believes what it touched."""

    settle_leaves_repaired: bool = False
    """A lost page that a trap has filled is not held when it is settled."""

    fill_before_holding: bool = False
    """Settling fills what is missing of the lost pages first, and then holds what a scan finds to be real."""

    never_written_unfilled: bool = False
    """The child does not fill the holes that the fork made of pages never written."""

    fork_lets_traps_in: bool = False
    """A fork does not wait for traps."""

    fork_without_gate: bool = False
    """A fork does not wait for operations under way."""

    child_unwatched: bool = False
    """The child does not register its memory again."""

    child_keeps_traps: bool = False
    """The child keeps the count of traps that found the gate shut in threads it does not have."""

    fallback_unannounced: bool = False
    """A child that cannot watch does not end the peeks it was forked in."""

    plain_pin_peek: bool = False
    """Where nothing traps, a peek is a pin and does not look at writers."""

    blocked_reads_unheld: bool = False
    """A thread that has the signal blocked reads and peeks like any other."""

    count_faults_late: bool = False
    """The faultcount tier ignores the faults of a populate that failed half way."""

    close_before_looking: bool = False
    """close() stops repairs before it looks whether it may close."""

    close_ignores_traps: bool = False
    """close() does not wait for traps."""

    announce_after_settling: bool = False
    """A loss is announced to peeks when its pages are zero already."""

    ended_unseen: bool = False
    """The end of a peek does not look whether a trap has ended the watch."""

    ended_seen_last: bool = False
    """The end of a peek looks at `changes` first, and whether a trap has ended the watch then."""

    ended_late: bool = False
    """A trap says that it ends the watch when it has done so."""

    ended_taken_back: bool = False
    """That a trap has ended the watch is taken back before it is known what was lost since."""

    begun_unwatched: bool = False
    """The beginning of a peek does not look whether the tier has fallen since its caller looked."""

    writers_unannounced: bool = False
    """Writers do not count `changes`."""

    identities_reused: bool = False
    """A thread is known by something that another has after it, or in a forked child."""

    repair_interrupted: bool = False
    """A signal's handler may jump out of a repair, and `traps` stays counted."""

    own_gate_waited_for: bool = False
    """A trap of the thread that forks waits for the fork, too: in a signal's handler that comes meanwhile."""

    kept_in_use: bool = False
    """Memory is handed on without a look whether anybody uses it."""

    store_unrepaired: bool = False
    """A store counts as no peek: a page that goes meanwhile is not repaired."""

    store_keeps_notes: bool = False
    """What a store's traps note is not thrown away."""

    store_keeps_losses: bool = False
    """What was missing when a store began stays lost."""

    store_forgives_late: bool = False
    """A store throws its notes away after it has marked."""

    linger_under_pin: bool = False
    """The marker does not look whether somebody has pinned what it marks."""

    linger_stale: bool = False
    """The marker does not look again, under the lock, whether what it found on the list lingers still."""


def switches() -> tuple[str, ...]:
    """The names of all deliberate faults."""
    return tuple(field.name for field in fields(Broken))


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes and options; each is a bound of what a search proves.

    `pages` of one range; `ranges`: how many `struct range` there are to live there, one after the other. `large`: the
    range has a mapping of its own, unwatched after a loss; else it is a slot of an arena that is watched for ever.
    `pagemap`: /proc/self/pagemap can be read. `signals`: a signal may interrupt a populate. `mlock`: RLIMIT_MEMLOCK
    allows it. `touch`: ranges are of a size that is held by touching its pages. `child_tier`: what a forked child gets;
    None: there is no fork, and the gate, which only forks shut, is left out. `sandboxed`: the kernel refuses ioctl(2)
    to the process, since a moment ago.
    """

    pages: int = 2
    ranges: int = 1
    tier: str = USERFAULTFD
    large: bool = False
    pagemap: bool = True
    signals: bool = False
    mlock: bool = True
    touch: bool = False
    child_tier: str | None = None
    sandboxed: bool = False
    broken: Broken = Broken()


ATOMICS: Final = (
    ("live", False),
    ("changes", 0),
    ("writing", 0),
    ("writer", None),
    ("lossy", False),
    ("peeks", 0),
    ("traps", 0),
    ("notes", 0),
    ("noted", 0),
    ("users", 0),
)
"""The atomics of `struct range`."""


class ModelError(MvolatileError):
    """The model was used wrongly: an operation where the library never does it."""


class Machine:
    """The layout of one machine. Compared by its configuration; made once, see `machine`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.all_pages = (1 << config.pages) - 1
        self.names: list[str] = []
        self.boot: list[Any] = []
        self._at: dict[tuple[Any, ...], int] = {}
        self._hash = hash(config)
        for mm in range(1 if config.child_tier is None else 2):
            self._lay_out(mm)
        self._add(("born",), None)

    def _lay_out(self, mm: int) -> None:
        config = self.config
        for page in range(config.pages):
            self._add((mm, "pte", page), None if config.large else ZERO_PAGE)
            self._add((mm, "gone", page), False)
        self._add((mm, "mapped"), True)
        self._add((mm, "registered"), not config.large and config.tier == USERFAULTFD)
        self._add((mm, "mlocked"), False)
        self._add((mm, "signal"), False)
        self._add((mm, "closed"), False)
        self._add((mm, "watch_ended"), False)
        self._add((mm, "fallen"), False)
        self._add((mm, "gil"), False)
        self._add((mm, "owner"), 0)
        self._add((mm, "forking"), False)
        self._add((mm, "gate"), 0)
        self._add((mm, "gate_shut"), False)
        self._add((mm, "trap_gate"), False)
        self._add((mm, "shards"), False)
        self._add((mm, "forks"), 0)
        self._add((mm, "open_peeks"), ())
        for r in range(config.ranges):
            watched = not config.large and config.tier == USERFAULTFD
            self._add((mm, r, "guarded"), Guarded(watched=watched) if r == 0 else Guarded())
            self._add((mm, r, "lock"), 0)
            for name, value in ATOMICS:
                self._add((mm, r, name), r == 0 if name == "live" else value)

    def _add(self, key: tuple[Any, ...], value: Any) -> None:
        self._at[key] = len(self.boot)
        self.names.append(".".join(map(str, key)))
        self.boot.append(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Machine) and self.config == other.config

    def __hash__(self) -> int:
        return self._hash

    def initial(self) -> World:
        """One open range that was never written or marked."""
        return tuple(self.boot)

    def cell(self, *key: Any) -> int:
        """The cell of a thing: ``(mm, "pte", page)``, ``(mm, range, "changes")``."""
        return self._at[key]

    def ptes(self, mm: int) -> list[int]:
        """The cells of all ptes of a process."""
        return [self._at[mm, "pte", page] for page in range(self.config.pages)]

    def of_library(self, mm: int) -> list[tuple[Any, ...]]:
        """The keys, less the process, of all that the library keeps in a process' memory."""
        kernel = ("pte", "gone", "mapped", "registered", "mlocked", "signal", "forking")
        return [key[1:] for key in self._at if key[0] == mm and key[1] not in kernel]

    def pages_in(self, pages: int) -> tuple[int, ...]:
        """The pages in a bit set, in order."""
        return tuple(page for page in range(self.config.pages) if pages >> page & 1)


@cache
def machine(config: Config) -> Machine:
    """The machine of a configuration."""
    return Machine(config)


@dataclass(frozen=True, slots=True)
class Task:
    """A thread of a process: who makes a call. `name` stands for the thread's id."""

    m: Machine
    name: str
    mm: int = PARENT
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.m, self.name, self.mm)))

    def __hash__(self) -> int:
        return self._hash

    @property
    def tier(self) -> str:
        """`range_tier` in this process."""
        config = self.m.config
        return config.tier if self.mm == PARENT else (config.child_tier or config.tier)

    @property
    def id(self) -> str:
        """`os_thread_id()`."""
        return "here" if self.broken.identities_reused else self.name

    @property
    def broken(self) -> Broken:
        """What is done wrong on purpose."""
        return self.m.config.broken

    def cell(self, *key: Any) -> int:
        """A cell of this process."""
        return self.m.cell(self.mm, *key)
