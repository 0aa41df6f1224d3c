"""Reading C sources roughly, but well enough to ask which function calls which."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

__all__ = ["calls_by_function", "exported", "reachable", "strip"]

_NOT_CALLS = frozenset({"if", "while", "for", "switch", "return", "sizeof", "alignof", "_Alignof", "defined"})
_NOISE = re.compile(
    r"""/\*.*?\*/ | //[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' | ^[ \t]*\#(?:\\\n|[^\n])*""",
    re.DOTALL | re.VERBOSE | re.MULTILINE,
)
_CALL = re.compile(r"\b([A-Za-z_]\w*)\s*\(")
_VARIABLES = re.compile(
    r"^(?![ \t]*(?:static|typedef|extern)\b)([\w \t*,]+(?:\[\w*\])?)\s*(?:=[^;(]*)?;", re.MULTILINE
)


def strip(source: str) -> str:
    """The source without comments, strings, characters and preprocessor lines."""
    return _NOISE.sub(lambda noise: '""' if noise[0][0] in "\"'" else " ", source)


def _functions(code: str) -> Iterator[tuple[str, str, str]]:
    """Of stripped code, each definition: what stands before its name, the name, and the body."""
    depth, start = 0, 0
    for brace in re.finditer(r"[{}]", code):
        depth += 1 if brace[0] == "{" else -1
        if depth == 1 and brace[0] == "{":
            head = code[start : brace.start()].rpartition(";")[2]
            name = _CALL.search(head)
            body = brace.end()
        elif depth == 0:
            if name is not None and "=" not in head:
                yield head[: name.start()], name[1], code[body : brace.start()]
            start = brace.end()


def calls_by_function(source: str) -> dict[str, set[str]]:
    """Each function that the source defines, with all the names it calls (macros count as functions)."""
    found: dict[str, set[str]] = {}
    for _, name, body in _functions(strip(source)):
        found.setdefault(name, set()).update(set(_CALL.findall(body)) - _NOT_CALLS)
    return found


def exported(source: str) -> set[str]:
    """The functions that the source defines for others, and the variables."""
    code = strip(source)
    outside, depth = "", 0
    for part in re.split(r"([{}])", code):
        depth += (part == "{") - (part == "}")
        outside += part if depth == 0 else ""
    functions = {name for before, name, _ in _functions(code) if "static" not in before.split()}
    return functions | {name for one in _VARIABLES.findall(outside) for name in _declared(one)}


def _declared(text: str) -> list[str]:
    """The names that ``int one, *two[3]`` declares; none of ``struct one``."""
    words = [re.findall(r"\w+", part.partition("[")[0]) for part in text.split(",")]
    type_alone = len(words[0]) < (3 if words[0][:1] in (["struct"], ["enum"]) else 2)
    return [] if type_alone else [part[-1] for part in words if part]


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
