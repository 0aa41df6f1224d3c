"""``mvolatile doctor``: what this kernel and container give, and what to change to get more."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import sys
from contextlib import suppress
from typing import Any

from ..errors import UnsupportedError
from ..kernel import psi
from ..kernel.features import Features, features
from ..residence import memory_usage, recyclers, told_limit
from ..shared.survey import way
from .advice import Advice, advise
from .surroundings import around, khugepaged, watchers
from .tables import mib, print_table

__all__ = ["add_parser"]

_UNKNOWN = "unknown"
_BEYOND = {
    "now": "beyond {} of RSS",
    "peak": "once its RSS has ever been beyond {}",
    "growth": "once its RSS has grown by {}",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "doctor",
        help="what this kernel and container give, and what to change to get more",
        description="Tells the tier that serves this process and why, what memory it lives in, and for each "
        "shortcoming what to change; who restarts processes for their RSS, and what keeps the peace. Exits with 0 "
        "whatever it finds, but see --check.",
    )
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="import that first, so that the settings of its Celery or Dask are known (more than once)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="for scripts: exit with 3 if something can be improved, with 4 if nothing is ever purged here",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--fix",
        action="store_true",
        help="print the lines of a systemd unit and of a pod that do what is advised",
    )
    form.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings and the advice; or only the lines that follow it."""
    _import(arguments.modules)
    found = features()
    advice = [*advise(found), *around(found)]
    code = 0 if not arguments.check else 4 if not found.can_purge else 3 if advice else 0
    if arguments.fix:
        _print_fixes(advice)
    elif arguments.json:
        print(json.dumps(_as_json(found, advice), indent=2))
    else:
        _print(found, advice)
    return code


def _import(modules: list[str]) -> None:
    """From where we are, too, as `python -m` does; nothing else is taken from there."""
    for module in modules:
        sys.path.insert(0, "")
        try:
            importlib.import_module(module)
        except Exception as error:
            raise UnsupportedError(f"importing {module} failed: {type(error).__name__}: {error}") from error
        finally:
            with suppress(ValueError):  # the module may have changed it itself
                sys.path.remove("")


def _print(found: Features, advice: list[Advice]) -> None:
    print_table("mvolatile doctor", ("", ""), _rows(found), left=2)
    for one in _watchers():
        whom = "" if one["pid"] is None else f", pid {one['pid']}"
        beyond = _BEYOND[one["of"]].format(mib(one["most"]))
        print(f"- {one['name']} ({one['setting']}{whom}) {one['does']} {beyond}.")
        print(f"  To keep the peace: {one['peace']}.")
    for each in advice:
        print(f"- {each.shortcoming}.\n  To get more: {each.remedy}.")
    if not advice:
        print("Nothing to improve: everything this library can use is there.")


def _print_fixes(advice: list[Advice]) -> None:
    for what, which in (("systemd unit", "unit"), ("pod", "pod")):
        lines = [(one.shortcoming, text) for one in advice if (text := getattr(one, which))]
        for shortcoming, text in lines:
            print(f"# {what}: {shortcoming}\n{text}\n")
    if not any(one.unit or one.pod for one in advice):
        print("# Nothing that lines of a unit or a pod would change.")


def _watchers() -> list[dict[str, Any]]:
    told, _ = told_limit()
    peace = "nothing is to be done: its workers find the limit"
    if told == "set":
        peace = (
            f"MVOLATILE_RESIDENT_LIMIT=auto; it is set to {os.environ.get('MVOLATILE_RESIDENT_LIMIT')} now"
        )
    elif os.environ.get("MVOLATILE_RESIDENT_LIMIT", "auto").lower() not in ("", "auto"):
        peace = "MVOLATILE_RESIDENT_LIMIT=auto; it puts the limit off now"
    return [{**dataclasses.asdict(one), "peace": peace} for one in watchers(recyclers(expected=True))]


def _limit() -> str:
    limit, (why, _) = memory_usage().limit, told_limit()
    says = "as MVOLATILE_RESIDENT_LIMIT says"
    if limit is None:
        return f"none, {says}" if os.environ.get("MVOLATILE_RESIDENT_LIMIT", "").lower() == "none" else "none"
    return f"{mib(limit)}, {says if why == 'set' else 'which is what recyclers leave'}"


def _as_json(found: Features, advice: list[Advice]) -> dict[str, Any]:
    plain = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    reading = psi.read_psi()
    return {
        **plain,
        "shared_read": dict(zip(("way", "reason"), way(), strict=True)),
        "mechanisms": dict(found.mechanisms),
        "memory_pressure": None if reading is None else dataclasses.asdict(reading),
        "khugepaged": khugepaged(found),
        "resident_limit": memory_usage().limit,
        "recyclers": _watchers(),
        "advice": [
            {"shortcoming": one.shortcoming, "remedy": one.remedy, "unit": one.unit, "pod": one.pod}
            for one in advice
        ],
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
        ("khugepaged", khugepaged(found)),
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
        ("limit on what adds to RSS", _limit()),
        ("shared values by", ": ".join(way())),
        ("memory pressure (PSI)", pressure),
        ("mappings allowed", _UNKNOWN if found.max_map_count is None else str(found.max_map_count)),
        ("lockable memory", f"{mib(found.memlock_limit)} (locked memory is never volatile)"),
    ]
