"""docs/howto/web.md, as a reader deploys it: its program, served by its gunicorn command."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.asking import ask
from support.documents import ROOT, commands, program
from support.processes import LONGEST

PAGE = ROOT / "docs" / "howto" / "web.md"


def test_what_was_cached_before_the_fork_is_there_in_every_worker(tmp_path: Path) -> None:
    pytest.importorskip("flask")
    pytest.importorskip("gunicorn")
    (tmp_path / "web.py").write_text(program(PAGE))
    (line,) = (command for command in commands(PAGE) if command.startswith("gunicorn"))
    listening = tmp_path / "socket"
    command = [sys.executable, "-m", *shlex.split(line), "--bind", f"unix:{listening}"]
    home = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path),
    }  # it has a control socket there
    server = subprocess.Popen(command, cwd=tmp_path, env=home, stderr=subprocess.PIPE, text=True)
    made: dict[int, set[int]] = {}
    deadline = time.monotonic() + LONGEST
    try:
        while len(made) < 4 or min(map(len, made.values())) == 0:
            assert server.poll() is None, server.stderr and server.stderr.read()
            assert time.monotonic() < deadline, made
            try:
                tiles = ask(listening, *(f"/4/{x}/0" for x in range(16)))
            except OSError:
                time.sleep(0.05)  # it is not up yet
                continue
            assert tiles == [b"4/%d/0" % x * 4096 for x in range(16)]
            for answer in map(json.loads, ask(listening, *["/stats"] * 8)):
                asked = answer["hits"] > 1  # the page itself asks twice, in the parent
                made.setdefault(answer["pid"], set()).update([answer["made"]] if asked else [])
    finally:
        server.send_signal(signal.SIGTERM)
        said = server.communicate(timeout=LONGEST)[1]
    assert made
    assert set().union(*made.values()) == {17}, "the page's one and the sixteen warmed; no worker made one"
    assert server.returncode == 0, said
    assert "Traceback" not in said
