"""The site: `make docs`. Pages are Markdown (MyST), the reference is made from docstrings."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive

HERE = Path(__file__).parent
ROOT = HERE.parent

project = "mvolatile"
author = "the mvolatile authors"
version = release = importlib.metadata.version("mvolatile")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"mvolatile {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["wide.css"]
highlight_language = "none"
html_show_copyright = False
default_role = "literal"  # docstrings quote names with single backquotes
exclude_patterns = ["_build", "images"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # a default such as os.environ is not to be written out
autodoc_typehints_format = "short"
autodoc_mock_imports = ["torch"]  # too large for what builds the docs

if not (ROOT / "SECURITY.md").exists():
    exclude_patterns.append("security.md")

_RULE = re.compile(r"-{3,}")
_FIELD = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*): ")


def parameters_as_fields(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Our docstrings list parameters as ``name: text`` below an underlined word, which is a heading to Sphinx."""
    for at, line in enumerate(lines):
        if line.strip() == "Parameters" and at + 1 < len(lines) and _RULE.fullmatch(lines[at + 1].strip()):
            lines[at : at + 2] = ["", ""]
            for below in range(at + 2, len(lines)):
                if not lines[below].strip():
                    break
                if found := _FIELD.match(lines[below]):
                    lines[below] = f":param {found[1]}: {lines[below][found.end() :]}"
            return


class CommandHelp(Directive):
    """What a command says about itself."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:  # noqa: D102
        command = [sys.executable, "-m", "mvolatile", *self.arguments[0].split(), "--help"]
        plain = {**os.environ, "COLUMNS": "90", "NO_COLOR": "1"}
        said = subprocess.run(command, env=plain, capture_output=True, text=True, check=True).stdout
        block = nodes.literal_block(said, said)
        block["language"] = "text"
        return [block]


def setup(app: Any) -> None:  # noqa: D103
    app.add_directive("command-help", CommandHelp)
    app.connect("autodoc-process-docstring", parameters_as_fields)
