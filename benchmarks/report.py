"""Write the results that lie beside the scripts into README.md.

python benchmarks/report.py
"""

from __future__ import annotations

import json
from typing import Any

from harness import HERE

SCRIPTS = (
    "mark_unmark",
    "peek_read",
    "pin_overhead",
    "many_ranges",
    "patch_program",
    "explore_speed",
    "model_races",
    "workers",
    "operators",
)
BEGIN, END = "<!-- results: written by report.py -->", "<!-- end of results -->"


def section(name: str) -> str:
    result: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text())
    rows, machine = result["rows"], result["machine"]
    columns = list(rows[0])
    lines = [
        f"### {result['question']}",
        "",
        f"`{result['command']}`",
        "",
        "|" + "|".join(columns) + "|",
        "|" + "|".join("-" if i == 0 else "-:" for i in range(len(columns))) + "|",
        *("|" + "|".join(_text(row[column]) for column in columns) + "|" for row in rows),
        "",
        "|goal|limit|measured|met|",
        "|-|-:|-:|-|",
        *(
            f"|{goal['what']}|{'≥' if goal['at_least'] else '≤'} {goal['limit']:g} {goal['unit']}"
            f"|{_text(goal['value'])} {goal['unit']}|{'yes' if goal['met'] else '**no**'}|"
            for goal in result["goals"]
        ),
        "",
        *_ratios(result.get("ratios", {})),
        f"{machine['date']}, Linux {machine['kernel']}, {machine['cpu']}, {machine['cpus']} CPUs, "
        f"{machine['memory_mib']:,} MiB, Python {machine['python']}, tier `{machine['tier']}`, "
        f"huge pages {machine['thp']}, load {machine['load']} when it ended.",
        "",
    ]
    return "\n".join(lines)


def _ratios(ratios: dict[str, float]) -> list[str]:
    """Those of the patch's program, which are figures and no goals, some of them not ours."""
    if not ratios:
        return []
    rows = (f"|{what}|{_text(ratio)} x|" for what, ratio in ratios.items())
    return ["|elapsed, MADV_DONTNEED to volatile|ratio|", "|-|-:|", *rows, ""]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if 1000 <= value < 1e12 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> None:
    readme = HERE / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    results = "\n".join(section(name) for name in SCRIPTS if (HERE / f"{name}.json").exists())
    readme.write_text(f"{before}{BEGIN}\n\n{results}\n{END}{after}")


if __name__ == "__main__":
    main()
