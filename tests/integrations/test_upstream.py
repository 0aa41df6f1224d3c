"""The frameworks' own suites on our backends: the short form, of those that come with the packages; and what the page
says of all of them.
"""

from __future__ import annotations

import json
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import pytest

from support.servers import free_port
from tools.upstream.fetch import UnavailableError, fetched
from tools.upstream.page import page
from tools.upstream.run import run
from tools.upstream.suites import SUITES, Source, Suite

DOCS = Path(__file__).resolve().parents[2] / "docs"
RESULTS = json.loads((DOCS / "upstream.json").read_text())


def test_the_page_is_what_was_found() -> None:
    assert (DOCS / "upstream.md").read_text() == page(RESULTS), "make upstream writes it"
    assert [one["suite"] for one in RESULTS] == [suite.name for suite in SUITES]
    assert [one["failed"] for one in RESULTS] == [[]] * len(SUITES)
    assert all(one["passed"] >= suite.least for one, suite in zip(RESULTS, SUITES, strict=True))


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_the_table_is_of_the_versions_that_are_locked(suite: Suite) -> None:
    try:
        installed = version(suite.source.project)
    except ModuleNotFoundError:
        pytest.skip("make integrations installs it")
    assert suite.source.version == installed, "fetch the suite of that version"
    (found,) = (one for one in RESULTS if one["suite"] == suite.name)
    assert found["version"] == installed, "run make upstream"


@pytest.mark.parametrize(
    "suite",
    [one for one in SUITES if one.source.is_installed and not one.needs],
    ids=lambda suite: suite.name,
)
def test_the_short_form(suite: Suite, tmp_path: Path) -> None:
    try:
        version(suite.source.project)
    except ModuleNotFoundError:
        pytest.skip("make integrations installs it")
    result = run(suite, tmp_path, quick=True)
    assert result.failed == []
    assert result.passed >= suite.least


def test_a_file_that_is_there_is_not_fetched_and_another_is_not_taken(tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}/test_caches.py"  # nobody answers there
    source = Source("some", "1", sha256(b"right").hexdigest(), url=address)
    file = tmp_path / "some-1" / "test_caches.py"
    file.parent.mkdir()
    for there in (None, b"wrong"):
        if there is not None:
            file.write_bytes(there)
        with pytest.raises(UnavailableError, match="cannot be had"):
            fetched(source, tmp_path)
    file.write_bytes(b"right")
    assert fetched(source, tmp_path) == file.parent
