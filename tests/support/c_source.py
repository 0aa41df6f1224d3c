"""Reading C sources roughly, but well enough to ask which function calls which."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

__all__ = ["calls_by_function", "reachable", "strip"]

_NOT_CALLS = frozenset({"if", "while", "for", "switch", "return", "sizeof", "alignof", "_Alignof", "defined"})
_NOISE = re.compile(
    r"""/\*.*?\*/ | //[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' | ^[ \t]*\#(?:\\\n|[^\n])*""",
    re.DOTALL | re.VERBOSE | re.MULTILINE,
)
_CALL = re.compile(r"\b([A-Za-z_]\w*)\s*\(")


def strip(source: str) -> str:
    """The source without comments, strings, characters and preprocessor lines."""
    return _NOISE.sub(lambda noise: '""' if noise[0][0] in "\"'" else " ", source)


def calls_by_function(source: str) -> dict[str, set[str]]:
    """Each function that the source defines, with all the names it calls (macros count as functions)."""
    code = strip(source)
    found: dict[str, set[str]] = {}
    depth, start = 0, 0
    for brace in re.finditer(r"[{}]", code):
        depth += 1 if brace[0] == "{" else -1
        if depth == 1 and brace[0] == "{":
            head = code[start : brace.start()].rpartition(";")[2]
            name = _CALL.search(head)
            body = brace.end()
        elif depth == 0:
            if name is not None and "=" not in head:
                found.setdefault(name[1], set()).update(
                    set(_CALL.findall(code[body : brace.start()])) - _NOT_CALLS
                )
            start = brace.end()
    return found


def reachable(entry: str, calls: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Every name called from `entry`, directly or not, with the function that was first seen to call it."""
    caller: dict[str, str] = {}
    waiting = [entry]
    while waiting:
        function = waiting.pop()
        for called in calls.get(function, ()):
            if called not in caller:
                caller[called] = function
                waiting.append(called)
    return caller
