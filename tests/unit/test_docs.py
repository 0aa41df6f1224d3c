"""The documents keep their word: each page's Python is run from top to bottom, commands are run, the rest is parsed."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import mvolatile
from support.api import PUBLIC
from support.documents import ROOT, Block, blocks, commands, pages, program
from support.processes import run_python
from support.servers import redis_server

README = ROOT / "README.md"
TOO_LONG = ("mvolatile demo", "mvolatile model races", "mvolatile top")
"""Commands that take a minute, or never end; tests of their own run them, here their arguments are parsed."""


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def need_imports(page: Path) -> None:
    """Pages are written for readers who have what they use; a test goes without a package that is not there."""
    for node in ast.walk(ast.parse(program(page))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                pytest.importorskip(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module:
            pytest.importorskip(node.module)


@pytest.mark.parametrize("page", [page for page in pages() if program(page)], ids=named)
def test_python(page: Path, tmp_path: Path) -> None:
    need_imports(page)
    written = tmp_path / page.with_suffix(".py").name
    written.write_text(program(page))
    run = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
    with ExitStack() as stack:
        env = {}
        if "REDIS_URL" in program(page):
            env["REDIS_URL"] = f"redis://127.0.0.1:{stack.enter_context(redis_server()).port}"
        said = run_python(run, written, env=env).check().stdout
    if page == README:
        lost = re.search(r"^tiles: (\d+) bytes purged", said, re.MULTILINE)
        assert lost, "the loss in the tutorial is real"
        if mvolatile.features().can_trap:
            assert int(lost[1]) == 4096


@pytest.mark.parametrize("page", [page for page in pages() if " as values:" in page.read_text()], ids=named)
def test_arrays_are_let_go_inside_their_block(page: Path) -> None:
    """Past the block an array, which the documents call `values`, keeps a pin, and makes one of a peek."""
    blocks = [node for node in ast.walk(ast.parse(program(page))) if isinstance(node, ast.With)]
    held = [block for block in blocks if ast.unparse(block.items[0]).endswith(" as values")]
    assert held
    for block in held:
        assert ast.unparse(block.body[-1]) == "del values", f"{named(page)}: {ast.unparse(block)}"


def run_mvolatile(words: list[str], page: Path, tmp_path: Path, env: dict[str, str]) -> None:
    if " ".join(["mvolatile", *words]).startswith(TOO_LONG):
        from mvolatile import cli

        assert cli.make_parser(cli.COMMANDS).parse_args(words).func
        return
    code = "import os, sys; os.chdir(sys.argv.pop(1)); from mvolatile.cli import main; sys.exit(main())"
    done = run_python(code, tmp_path, *words, env=env)
    if words[0] == "model" and done.returncode == 1 and not done.stderr:
        assert "VIOLATED" in done.stdout or "violated" in done.stdout, f"{done}"
    else:
        assert done.check().stdout


def know_extras(words: list[str], page: Path, tmp_path: Path, env: dict[str, str]) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert words[0] == "install"
    for extra in re.findall(r"\[(.+?)\]", " ".join(words)):
        assert set(extra.split(",")) <= set(known)


def know_target(words: list[str], page: Path, tmp_path: Path, env: dict[str, str]) -> None:
    for target in words:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


def know_paths(words: list[str], page: Path, tmp_path: Path, env: dict[str, str]) -> None:
    paths = [word for word in words if "/" in word]
    assert paths
    assert all((ROOT / path).exists() for path in paths), paths


def know_profile(words: list[str], page: Path, tmp_path: Path, env: dict[str, str]) -> None:
    """There is no container engine here: what the command relies on is shown on the same page."""
    assert words[0] == "run"
    assert "seccomp=profile.json" in words
    assert any(block.language == "json" for block in blocks(page))


def know_gunicorn(words: list[str], page: Path, tmp_path: Path, env: dict[str, str]) -> None:
    """Its own parser knows the options; tests/examples/test_gunicorn.py serves the page's program by them."""
    config = pytest.importorskip("gunicorn.config").Config()
    (application,) = config.parser().parse_args(words).args
    assert application == f"{page.stem}:app"


COMMANDS: dict[str, Callable[[list[str], Path, Path, dict[str, str]], None]] = {
    "mvolatile": run_mvolatile,
    "pip": know_extras,
    "make": know_target,
    "pytest": know_paths,
    "python": know_paths,
    "docker": know_profile,
    "gunicorn": know_gunicorn,
}


@pytest.mark.parametrize("page", [page for page in pages() if commands(page)], ids=named)
def test_commands(page: Path, tmp_path: Path) -> None:
    for line in commands(page):
        words = shlex.split(line)
        env = {}
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            env[name] = value
        assert words[0] in COMMANDS, f"{named(page)}: nothing checks {line!r}"
        COMMANDS[words[0]](words[1:], page, tmp_path, env)


def test_every_benchmark_is_in_the_table() -> None:
    here = ROOT / "benchmarks"
    listed = set(
        re.findall(r"`python benchmarks/(\w+\.py)`\|$", (here / "README.md").read_text(), re.MULTILINE)
    )
    scripts = {path.name for path in here.glob("*.py") if "__main__" in path.read_text()}
    assert listed == scripts - {"report.py"}


def check_json(block: Block) -> None:
    rule = json.loads(block.code)
    assert rule["names"] == ["userfaultfd"]
    assert rule["action"] == "SCMP_ACT_ALLOW"


def check_yaml(block: Block) -> None:
    yaml = pytest.importorskip("yaml")
    pod = yaml.safe_load(block.code)
    assert (pod["apiVersion"], pod["kind"]) == ("v1", "Pod")
    assert pod["metadata"]["name"]
    units = {"Mi": 1 << 20, "Gi": 1 << 30}
    profiles = []
    for container in pod["spec"]["containers"]:
        request, limit = (
            int(amount[:-2]) * units[amount[-2:]]
            for amount in (container["resources"][kind]["memory"] for kind in ("requests", "limits"))
        )
        assert request < limit
        profiles += [container["securityContext"]["seccompProfile"]] if "securityContext" in container else []
    assert profiles
    for profile in profiles:
        assert profile["type"] == "Localhost"
        assert profile["localhostProfile"].endswith(".json")


CHECKED = {"json": check_json, "yaml": check_yaml}
RUN_ABOVE = ("python", "shell")
SHOWN = ("", "text")
"""Diagrams and output, which nobody takes for code."""


@pytest.mark.parametrize("page", pages(), ids=named)
def test_every_block_is_run_or_checked(page: Path) -> None:
    for block in blocks(page):
        if block.language in CHECKED:
            CHECKED[block.language](block)
        else:
            directive = block.language.startswith("{")
            assert directive or block.language in (*RUN_ABOVE, *SHOWN), (
                f"{named(page)}:{block.line}: {block.language}"
            )
        if block.language in SHOWN:
            assert not re.search(
                r"^(import |from \w+ import|\$ |mvolatile |pip )", block.code, re.MULTILINE
            ), f"{named(page)}:{block.line}: code that nothing runs"


@pytest.mark.parametrize("page", pages(), ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    """Sphinx looks at those of the site; these are followed by people who read the files."""
    for target in re.findall(r"\]\(([^)#:\s]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{named(page)}: {target}"


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    pytest.importorskip("numpy")
    reference = "".join(path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md"))
    if re.search(rf"automodule:: {re.escape(module)}\n +:members:", reference):
        return
    names = importlib.import_module(module).__all__
    entries = re.findall(r":: (?:mvolatile[\w.]*\.)?(\w+)", reference)
    errors = importlib.import_module("mvolatile.errors").__all__
    missing = set(names) - set(entries) - set(errors)
    assert not missing


def test_the_pictures_show_the_results(tmp_path: Path) -> None:
    """`make pictures` after a benchmark: each picture carries the digest of what it shows."""
    pytest.importorskip("matplotlib")
    done = subprocess.run(
        [sys.executable, "-m", "tools.pictures", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    images = ROOT / "docs" / "images"
    for drawn in tmp_path.iterdir():
        kept = (images / drawn.name).read_text()
        if drawn.suffix == ".md" or drawn.stem == "architecture":
            assert kept == drawn.read_text(), f"{drawn.name}: run make pictures"
        else:
            digest = re.search(r"results sha256 \w{64}", drawn.read_text())
            assert digest
            assert digest[0] in kept, f"{drawn.name}: run make pictures"
    shown = {name for page in pages() for name in re.findall(r"images/(\w+\.\w+)\)", page.read_text())}
    assert {path.name for path in images.iterdir() if path.suffix != ".md"} == shown


def results(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / f"{name}.json").read_text())


def test_the_first_page_has_the_figures_that_were_measured() -> None:
    """Whoever measures again writes them there again."""
    speed, limited = results("cache_speed"), results("cache_under_limit")["rows"]
    calls, hits, array = speed["calls"], speed["small_hits"], speed["arrays"]["8"]
    kept = {(row["cache"], row["cap_mib"], row["neighbour"]): row for row in limited}
    best = max(row["hits"] or 0 for row in limited if row["cache"] == "cachetools" and not row["neighbour"])
    diskcache, ours = (
        [kept[name, 0, beside] for beside in (False, True)] for name in ("diskcache", "volatile_cache")
    )
    made = [row["values made"] for row in results("workers")["rows"]]
    shared = results("shared_speed")["seconds"]["hit of 100 B"]
    slab, chunks = results("zarr_slab")["seconds"]["slab"], results("zarr_slab")["under_limit"]
    fetched = {
        which: min(row["fetched"] for row in chunks if row["cache"] == which and not row["killed"])
        for which in ("VolatileStore", "VolatileStore, decoded=False", "CacheStore")
    }
    said = {
        ROOT / "docs" / "howto" / "zarr.md": [
            f"{slab['no cache'] / slab['VolatileStore']:.1f} times as fast as without a cache, and "
            f"{slab['CacheStore'] / slab['VolatileStore']:.1f} times as fast as through zarr's own",
            "fetched {} of them anew, with `decoded=False` {}. `CacheStore` fetched {} with".format(
                *fetched.values()
            ),
        ],
        README: [
            f"{calls['volatile_cache'] * 1e6:.2f} µs through the decorator",
            f"`lru_cache` takes {calls['lru_cache'] * 1e6:.2f} µs",
            f"with a lock {calls['cachetools.cached, lock'] * 1e6:.2f} µs",
            f"| {array['hit'] * 1e6:.0f} µs, nothing is copied; to unpickle it takes {array['unpickle'] * 1e6:.0f} µs",
            f"| {array['set'] * 1e3:.2f} ms; a bare copy into fresh memory takes {array['memcpy_fresh'] * 1e3:.2f} ms",
            f"{ours[0]['hits']:,} hits where the best of ten caps had {best:,}, "
            f"in {results('cache_under_limit')['ratios']['alone'] - 1:.0%} more time".replace("%", " %"),
            f"| {hits['ours, volatile'] * 1e6:.2f} |",
            f"| {shared['SharedCache'] * 1e6:.1f} |",
            f"| {hits['cachebox.LRUCache'] * 1e6:.2f}, {hits['cachetools.LRUCache, lock'] * 1e6:.2f} |",
            f"| {hits['diskcache.Cache'] * 1e6:.1f} |",
            f"| {hits['memcached'] * 1e6:.0f}, {hits['Redis'] * 1e6:.0f} |",
            f"({diskcache[0]['hits']:,} of 100,000 beside {ours[0]['hits']:,}, and beside {ours[1]['hits']:,} with",
            f"It took {diskcache[0]['seconds']:.1f} s beside {ours[0]['seconds']:.1f} s for the whole stream, "
            f"{diskcache[1]['seconds']:.1f} s beside {ours[1]['seconds']:.1f} s",
            f"made {made[1]:,} values where one process with four threads made {made[0]:,}",
        ],
        ROOT / "docs" / "howto" / "web.md": [f"| {number:,}" for number in made],
        ROOT / "docs" / "peers.md": [
            f"diskcache answered {diskcache[0]['hits']:,} of 100,000 requests from what it had, "
            f"this library {ours[0]['hits']:,}, and {ours[1]['hits']:,} when",
        ],
    }
    for page, figures in said.items():
        text = " ".join(page.read_text().split())
        for figure in figures:
            assert figure in text, f"{named(page)}: {figure}"
