"""Who uses whom, as a graph of names: of modules of the package, and of the core's files."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

__all__ = ["cycle", "imported_names", "module_graph"]


def cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """A way round, or nothing where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def imported_names(root: Path, path: Path, source: str, *, types: bool = True) -> Iterator[tuple[str, str]]:
    """What a module of the package in `root` imports of the package, wherever in it: (module, name in it or "").

    Without `types`, not what it imports for annotations alone (``if TYPE_CHECKING:``).
    """
    package = (root.name, *path.relative_to(root).parent.parts)
    for node in _nodes(ast.parse(source), types):
        if isinstance(node, ast.Import):
            found = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            found = [(module, alias.name) for alias in node.names]
        else:
            continue
        yield from ((module, name) for module, name in found if module.split(".")[0] == root.name)


def _nodes(node: ast.AST, types: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if types or not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield child
            yield from _nodes(child, types)


def module_graph(root: Path) -> dict[str, set[str]]:
    """Each module with those that it imports when it runs; packages stand for what their ``__init__`` is."""
    files = {_dotted(root, path): path for path in [*root.rglob("*.py"), *root.glob("*.pyi")]}
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        found = imported_names(root, path, path.read_text(), types=False)
        used = {f"{base}.{name}" if f"{base}.{name}" in files else base for base, name in found}
        graph[module] = used & files.keys() - {module}
    return graph


def _dotted(root: Path, path: Path) -> str:
    return ".".join((root.name, *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
