"""docs/patch-executed.md: every function in its tables exists, every test too, and the races are as told."""

import importlib
import re
from pathlib import Path

import pytest

from mvolatile.explore import parse_schedule
from mvolatile.model.generate import generated
from mvolatile.model.races import LITMUS
from mvolatile.model.trace import follow
from mvolatile.model.variants import VARIANTS
from support.seed import changed_lines, listed, names

ROOT = Path(__file__).parents[3]
MODEL = ROOT / "src" / "mvolatile" / "model"
TEXT = (ROOT / "docs" / "patch-executed.md").read_text(encoding="utf-8")
TESTS = {
    path.name: path.read_text(encoding="utf-8")
    for room in ("unit/model", "litmus")
    for path in (ROOT / "tests" / room).glob("test_*.py")
}

SEED = listed((Path(__file__).parent / "seed.txt").read_text(encoding="utf-8"))
"""The mail's files, with how many lines change in each and the names in them."""

NO_FUNCTION_OR_HOOK = frozenset(
    [
        "void",
        "page",
        "vm_area_struct",
        "vma",
        "mm_struct",
        "mm",
        "vma->vm_mm",
        "pte_t",
        "pte",
        "pteval",
        "spinlock_t",
        "ptl",
        "addr",
        "anon_vma",
        "anon_vma_chain",
        "avc",
        "avc->vma",
        "pgoff_t",
        "pgoff",
        "ret",
        "swp_entry_t",
        "entry",
    ]
)
"""Types, and variables that only hold something."""

OTHER_MAILS = [
    "handle_pte_fault",
    "page_referenced_one",
    "page_check_references",
    "shrink_page_list",
    "sys_mvolatile",
    "do_mvolatile",
    "mvolatile_check_purged",
    "mvolatile_check_purged_pte",
    "madvise_volatile",
    "MVOLATILE_VALID_FLAGS",
    "SWP_MVOLATILE_PURGED",
]
"""Functions that the mail hooks into, and what the mails before it bring."""


def rows(heading: str) -> list[list[str]]:
    section = TEXT.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


LINES = rows("The patch, line by line")


def test_the_list_is_of_the_whole_mail() -> None:
    """As the mail's own count says: 147 insertions, 2 deletions."""
    assert {file: count for file, (count, _) in SEED.items()} == {
        "include/linux/mvolatile.h": 2,
        "mm/internal.h": 2,
        "mm/memory.c": 8,
        "mm/mvolatile.c": 120,
        "mm/rmap.c": 5,
        "mm/vmscan.c": 12,
    }


@pytest.mark.parametrize(
    "name",
    dict.fromkeys([name for _, names in SEED.values() for name in names if name not in NO_FUNCTION_OR_HOOK])
    | dict.fromkeys(OTHER_MAILS),
)
def test_nothing_of_the_patch_is_without_a_row(name: str) -> None:
    whole = re.compile(rf"(?<![\w>]){re.escape(name)}(?!\w)")
    assert any(whole.search(row[0]) or whole.search(row[1]) for row in LINES)


def test_names_are_taken_from_a_mail() -> None:
    mail = "\n".join(
        [
            "> --- a/mm/x.c",
            "> +++ b/mm/x.c",
            "> @@ -1,2 +3,4 @@ static int hooked(int a)",
            "> a line that stays();",
            "> -#ifdef CONFIG_OLD",
            "> +#include <linux/new.h>",
            "> + /* not_a_name, and",
            "> + * not_this() either */",
            "> + if (unlikely(called(a->b)))",
            "+ what_the_reviewer_writes()",
            "> --",
        ]
    )
    lines = changed_lines(mail)
    assert {file: len(changed) for file, changed in lines.items()} == {"mm/x.c": 5}
    assert names(lines["mm/x.c"]) == ["<linux/new.h>", "CONFIG_OLD", "called", "a->b"]


def test_the_code_beside_the_mail_is_the_models() -> None:
    section = TEXT.split("## The mail, hunk by hunk\n", 1)[1].split("\n## ", 1)[0]
    model = {line.strip() for path in MODEL.glob("*.py") for line in path.read_text("utf-8").splitlines()}
    shown = [
        line for block in re.findall(r"```text\n(.*?)```", section, re.DOTALL) for line in block.splitlines()
    ]
    assert len(shown) > 50
    assert {line.strip() for line in shown} - model == {"..."}


def test_there_is_a_schedule_for_each_violation() -> None:
    from litmus.test_races import POSTED

    told = rows("The schedules")
    assert {(race, violated) for race, violated, _ in told} == {
        (race, violated) for race, found in POSTED.items() for violated in found
    }
    for race, violated, schedule in told:
        head, _, moves = schedule.strip("`").partition(": ")
        assert head == f"posted/{race}"
        events = follow(LITMUS[race], "posted", [cpu for cpu, _ in parse_schedule(moves)])
        assert any(wrong.startswith(f"{violated}: ") for wrong in (events[-1].wrong or "").split("; "))


def test_the_sizes_are_as_told() -> None:
    sizes = [race.config for race in (*LITMUS.values(), *map(generated, range(8)))]
    assert {size.processes for size in sizes} == {2}
    assert {size.addresses for size in sizes} == {2, 3}
    assert {size.frames for size in sizes} == {3, 4}
    assert {size.slots for size in sizes} == {0, 2}
    assert {(size.vmas, size.anon_vmas) for size in sizes} == {(6, 3)}
    assert {len(race.threads) for race in LITMUS.values()} == {1, 2, 3}
    assert sum(len(race.threads) == 1 for race in LITMUS.values()) == 7


@pytest.mark.parametrize("row", LINES, ids=[row[0] for row in LINES])
def test_rows_lead_somewhere(row: list[str]) -> None:
    _, _, model, test = row
    if model.startswith("nothing"):
        return
    played = re.findall(r"`(\w+)\.(\w+)`", model)
    assert played
    for module, name in played:
        assert hasattr(importlib.import_module(f"mvolatile.model.{module}"), name)
    ((file, name),) = re.findall(r"^`(test_\w+\.py)::(test_\w+)`$", test)
    assert f"def {name}(" in TESTS[file]


def test_the_races_are_as_told() -> None:
    from litmus.test_races import CURED_BY_V14, POSTED

    told = rows("What was found")
    assert [row[0] for row in told] == list(POSTED) == list(dict.fromkeys(POSTED))
    assert set(POSTED) == set(LITMUS)
    for race, posted, v14, fixed in told:
        assert posted == (", ".join(sorted(POSTED[race])) or "nothing")
        assert v14 == ("nothing" if race in CURED_BY_V14 or not POSTED[race] else "as v13")
        assert fixed == "nothing"


def test_the_changes_are_as_told() -> None:
    from litmus.test_cures import CURES

    mixtures = {"parent_and_child_and_kswapd", "two_threads_and_kswapd"}
    for change, cures in rows("Each change alone"):
        if change == "notify_before_clear":
            continue
        told = cures.replace("both mixtures", ", ".join(sorted(mixtures)))
        assert f"posted+{change}" in VARIANTS
        assert (set(told.split(", ")) if told != "nothing" else set()) == CURES[change]
