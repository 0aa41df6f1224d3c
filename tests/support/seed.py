"""The names in a patch that was mailed: what docs/patch-executed.md must have a row for.

    python -m support.seed MAIL > unit/model/seed.txt       (from tests/)

The patch itself is GPL-2.0 and this project is MIT, so no line of it is kept here: only which file each changed line is
in, how many there are, and which names they use, in the order in which they come.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

__all__ = ["changed_lines", "listed", "names"]

QUOTED = re.compile(r"^> ?")
KEYWORDS = frozenset(
    [
        "break",
        "case",
        "do",
        "else",
        "endif",
        "extern",
        "for",
        "goto",
        "ifdef",
        "if",
        "include",
        "int",
        "long",
        "return",
        "static",
        "struct",
        "unlikely",
        "unsigned",
    ]
)


def changed_lines(mail: str) -> dict[str, list[str]]:
    """By file: the lines that the patch adds or takes away, without their sign."""
    files: dict[str, list[str]] = {}
    file = ""
    for line in mail.splitlines():
        if not QUOTED.match(line):
            continue
        text = QUOTED.sub("", line)
        if header := re.match(r"\+\+\+ b/(\S+)", text):
            file = header[1]
            files[file] = []
        elif file and re.match(r"[+-](?!--|\+\+)", text) and text != "--":
            files[file].append(text[1:])
    return files


def names(lines: list[str]) -> list[str]:
    """Every name in the code of some lines, once; comments and what is no name are left out."""
    code = re.sub(r"/\*.*?\*/", " ", "\n".join(lines), flags=re.DOTALL)
    headers = re.findall(r"<[\w/.]+>", code)
    words = re.findall(r"(?:\w+->)?\b[A-Za-z_]\w*", re.sub(r"<[\w/.]+>", " ", code))
    return [name for name in dict.fromkeys([*headers, *words]) if name not in KEYWORDS]


def listed(text: str) -> dict[str, tuple[int, list[str]]]:
    """What the list says: by file, how many lines change and the names in them."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            file, count, *rest = line.split()
            found[file] = int(count), rest
    return found


def main() -> None:
    print("# Written by support/seed.py from the mail: file, changed lines, names.")
    for file, lines in changed_lines(Path(sys.argv[1]).read_text(encoding="utf-8")).items():
        print(file, len(lines), *names(lines))


if __name__ == "__main__":
    main()
