"""``mvolatile doctor``: what this kernel and container give, and what to change to get more."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from ..kernel import psi
from ..kernel.features import Features, features
from ..shared.survey import way
from .advice import advise
from .tables import mib, print_table

__all__ = ["add_parser"]

_UNKNOWN = "unknown"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "doctor",
        help="what this kernel and container give, and what to change to get more",
        description="Tells the tier that serves this process and why, what memory it lives in, and for each "
        "shortcoming what to change. Exits with 0 whatever it finds.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings and the advice."""
    found = features()
    if arguments.json:
        print(json.dumps(_as_json(found), indent=2))
        return 0
    print_table("mvolatile doctor", ("", ""), _rows(found), left=2)
    advice = advise(found)
    for one in advice:
        print(f"- {one.shortcoming}.\n  To get more: {one.remedy}.")
    if not advice:
        print("Nothing to improve: everything this library can use is there.")
    return 0


def _as_json(found: Features) -> dict[str, Any]:
    plain = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    reading = psi.read_psi()
    return {
        **plain,
        "shared_read": dict(zip(("way", "reason"), way(), strict=True)),
        "mechanisms": dict(found.mechanisms),
        "memory_pressure": None if reading is None else dataclasses.asdict(reading),
        "advice": [{"shortcoming": one.shortcoming, "remedy": one.remedy} for one in advise(found)],
    }


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _rows(found: Features) -> list[tuple[str, str]]:
    refused = [name for name, code in found.mechanisms.items() if code]
    reading = psi.read_psi()
    pressure = "not available" if reading is None else f"some {reading.some.avg10:.2f} % of the last 10 s"
    swap = f"{mib(found.swap_free, _UNKNOWN)} free of {mib(found.swap_total)}"
    if not found.swap_total:
        swap = _UNKNOWN if found.swap_total is None else "none"
    memory = f"{mib(found.ram_available)} available of {mib(found.ram_total)}"
    huge = f"{mib(found.huge_page_size, 'none')}, enabled {found.thp}, defrag {found.thp_defrag}"
    rows = [
        ("kernel", f"Linux {found.kernel} on {found.machine}"),
        ("tier", f"{found.tier}: {found.reason}"),
        ("purges under pressure", _yes(found.can_purge)),
        ("traps raw touches", _yes(found.can_trap)),
        ("refused mechanisms", ", ".join(refused) or "none"),
        ("pages", f"{mib(found.page_size)}; huge pages {huge}"),
        ("reclaim", "multi-generational LRU" if found.mglru else "classic LRU"),
        ("memory", _UNKNOWN if found.ram_available is None else memory),
        ("swap", swap),
    ]
    if found.cgroup_version is None:
        rows.append(("memory cgroup", "none can be seen"))
    else:
        working = mib(found.cgroup_working_set, _UNKNOWN)
        rows += [
            ("memory cgroup", f"version {found.cgroup_version}, {found.cgroup_path}"),
            ("its limit", f"{mib(found.cgroup_limit)}; swap {mib(found.cgroup_swap_limit)}"),
            ("its usage", f"{mib(found.cgroup_usage, 'unknown')}, working set {working}"),
            ("its OOM kills", str(found.cgroup_oom_kills)),
        ]
    return [
        *rows,
        ("shared values by", ": ".join(way())),
        ("memory pressure (PSI)", pressure),
        ("mappings allowed", _UNKNOWN if found.max_map_count is None else str(found.max_map_count)),
        ("lockable memory", f"{mib(found.memlock_limit)} (locked memory is never volatile)"),
    ]
