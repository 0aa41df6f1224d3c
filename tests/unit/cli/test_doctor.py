"""`mvolatile doctor` on this machine, and its advice for others."""

from __future__ import annotations

import dataclasses
import errno
import json
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mvolatile import cli
from mvolatile.cli import doctor, surroundings
from mvolatile.cli.advice import ADVICE, advise
from mvolatile.kernel.features import Features, features
from mvolatile.shared import runtime_directory
from support.processes import run_on_terminal, run_python

PERFECT = Features(
    tier="userfaultfd",
    can_purge=True,
    can_trap=True,
    reason="userfaultfd with SIGBUS works here",
    forced=False,
    mechanisms=dict.fromkeys(
        [
            "userfaultfd",
            "userfaultfd_device",
            "uffd_sigbus",
            "madv_free",
            "populate_write",
            "pageout",
            "pagemap",
            "pagemap_scan",
            "procmap_query",
            "anon_name",
        ],
        0,
    ),
    kernel="6.12.0",
    machine="x86_64",
    page_size=4096,
    huge_page_size=2 << 20,
    thp="madvise",
    thp_defrag="madvise",
    thp_disabled=False,
    mglru=True,
    max_map_count=65530,
    memlock_limit=8 << 20,
    overcommit_memory=0,
    seccomp=False,
    ram_total=8 << 30,
    ram_available=4 << 30,
    swap_total=0,
    swap_free=0,
    cgroup_version=2,
    cgroup_path="/sys/fs/cgroup/user.slice",
    cgroup_writable=True,
    cgroup_limit=None,
    cgroup_usage=1 << 30,
    cgroup_working_set=1 << 29,
    cgroup_swap_limit=None,
    cgroup_oom_kills=0,
    psi=True,
)


def worse(*, refused: dict[str, int] | None = None, **changes: Any) -> Features:
    mechanisms = {**PERFECT.mechanisms, **(refused or {})}
    return dataclasses.replace(PERFECT, mechanisms=mechanisms, **changes)


CASES = [
    (worse(forced=True), "unset MVOLATILE_TIER"),
    (worse(refused={"populate_write": errno.EINVAL}), "Linux 5.14"),
    (worse(refused={"madv_free": errno.EPERM}), "allow madvise"),
    (worse(refused={"userfaultfd": errno.EPERM}, seccomp=True), "--security-opt seccomp="),
    (worse(refused={"userfaultfd": errno.EPERM}), "SELinux"),
    (worse(refused={"userfaultfd": errno.ENOSYS}), "CONFIG_USERFAULTFD"),
    (worse(thp="never"), "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
    (worse(thp_disabled=True), "PR_SET_THP_DISABLE"),
    (worse(thp_defrag="never"), "transparent_hugepage/defrag"),
    (worse(refused={"pagemap_scan": errno.ENOTTY}), "Linux 6.7"),
    (worse(refused={"pageout": errno.EINVAL}), "Linux 5.4"),
    (worse(refused={"anon_name": errno.EINVAL}), "CONFIG_ANON_VMA_NAME"),
    (worse(psi=False), "psi=1"),
    (worse(ram_total=None, ram_available=None, psi=False), "subset=pid"),
    (worse(max_map_count=1000), "sysctl vm.max_map_count"),
    (worse(overcommit_memory=2), "vm.overcommit_memory=0"),
    (worse(cgroup_version=None), "mount cgroupfs"),
    (worse(cgroup_writable=False), "systemd-run"),
]


@pytest.mark.parametrize(("found", "remedy"), CASES, ids=[remedy for _, remedy in CASES])
def test_each_shortcoming_has_its_remedy(found: Features, remedy: str) -> None:
    assert [one for one in advise(found) if remedy in one.remedy], advise(found)
    assert len(advise(found)) == 1


def test_a_perfect_machine_needs_nothing_and_every_advice_has_a_case() -> None:
    assert advise(PERFECT) == []
    assert {one for found, _ in CASES for one in advise(found)} == set(ADVICE)


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert platform.release() in said
    assert features().tier in said
    for one in advise(features()):
        assert one.remedy[:40] in said


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    found = features()
    assert (said["tier"], said["kernel"], said["ram_total"]) == (found.tier, found.kernel, found.ram_total)
    assert said["mechanisms"] == dict(found.mechanisms)
    remedies = [one["remedy"] for one in said["advice"]]
    assert remedies[: len(advise(found))] == [one.remedy for one in advise(found)]
    assert (said["memory_pressure"] is None) == (not found.psi)


@pytest.mark.parametrize("rich", [True, False], ids=["rich", "no rich"])
def test_on_a_terminal(rich: bool) -> None:
    """What is told is the same, and the second column begins in one place."""
    if rich:
        pytest.importorskip("rich")

    def child(rich: bool) -> None:
        import sys

        from mvolatile.cli import main

        if not rich:
            sys.modules["rich"] = None  # type: ignore[assignment]
        main(["doctor"])
        assert ("rich.table" in sys.modules) == rich

    lines = run_on_terminal(child, rich).splitlines()
    assert lines[0].strip() == "mvolatile doctor"
    kernel = next(line for line in lines if "Linux " in line)
    tier = next(line for line in lines if "tier " in line)
    assert kernel.index("Linux ") == tier.index(f"{features().tier}:")


# ---- what is around


@pytest.mark.parametrize(
    ("kernel", "defrag", "thp", "said"),
    [
        ("6.12.0", "1", "always", "on, and kept away"),
        ("7.1.0-rc1", "1", "always", "on, and leaves"),
        ("6.12.0", "0", "always", "off"),
        ("6.12.0", "1", "never", "off"),
    ],
)
def test_khugepaged(
    kernel: str, defrag: str, thp: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "defrag").write_text(f"{defrag}\n")
    monkeypatch.setattr(surroundings, "KHUGEPAGED", str(tmp_path / "defrag"))
    found = worse(kernel=kernel, thp=thp)
    assert surroundings.khugepaged(found).startswith(said)
    remedies = [one.remedy for one in surroundings.around(found)]
    assert any("Linux 7.1" in remedy for remedy in remedies) == said.startswith("on, and kept")


def test_a_cgroup_that_is_mounted_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    read_only = next(
        (
            line.split()[4]
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if line.split()[5].startswith("ro")
        ),
        None,
    )
    if read_only is None:
        pytest.skip("nothing is mounted read-only here")
    assert [
        one for one in surroundings.around(worse(cgroup_path=read_only)) if "read-only" in one.shortcoming
    ]
    assert not [
        one for one in surroundings.around(worse(cgroup_path="/tmp")) if "read-only" in one.shortcoming
    ]


def test_who_may_read_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = "process_vm_readv is refused: EPERM, by Yama; set kernel.yama.ptrace_scope to 1 or 0"
    monkeypatch.setattr(surroundings, "way", lambda: ("message", refused))
    (one,) = [one for one in surroundings.around(PERFECT) if "shared cache" in one.shortcoming]
    assert "by Yama" in one.shortcoming
    assert one.remedy == "set kernel.yama.ptrace_scope to 1 or 0"
    assert one.unit


def test_caches_that_multiply_are_told_to_be_shared() -> None:
    def child() -> None:
        import os

        import mvolatile as mv
        from mvolatile.cli.surroundings import many_caches

        begins, ends = os.pipe(), os.pipe()
        for _ in range(3):
            if not os.fork():
                memory = mv.VolatileMemory(8 << 20)
                memory.write(b"x" * (8 << 20))
                os.write(begins[1], b"1")
                os.close(ends[1])
                os.read(ends[0], 1)
                os._exit(0)
        for _ in range(3):
            os.read(begins[0], 1)
        ((_, command, count, nbytes),) = [one for one in many_caches() if one[0] == os.getpid()]
        assert "-c" in command, command
        assert count == 3
        assert nbytes > 20 << 20

    run_python(child).check()


def test_the_lines_give_keepers_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As systemd and a kubelet make it. It must be the user's alone."""
    monkeypatch.setattr(surroundings, "many_caches", lambda: [(7, "gunicorn", 4, 1 << 30)])
    (advice,) = [one for one in surroundings.around(PERFECT) if "gunicorn" in one.shortcoming]
    lines = dict(line.split("=", 1) for line in advice.unit.splitlines() if "=" in line)
    made = tmp_path / lines["RuntimeDirectory"]
    made.mkdir()
    made.chmod(int(lines.get("RuntimeDirectoryMode", "0755"), 8))
    name, place = lines["Environment"].split("=")
    monkeypatch.setenv(name, place.replace("%t", str(tmp_path)))
    assert runtime_directory() == made

    pod = pytest.importorskip("yaml").safe_load(advice.pod)["spec"]
    (container,) = pod["containers"]
    (mount,), (variable,) = container["volumeMounts"], container["env"]
    assert mount["name"] == pod["volumes"][0]["name"]
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    monkeypatch.setenv(variable["name"], variable["value"].replace(mount["mountPath"], str(volume)))
    assert runtime_directory().parent == volume


@pytest.mark.parametrize(
    ("environment", "peace"), [("", "nothing is to be done"), ("none", "puts the limit off")]
)
def test_recyclers_are_named_with_what_keeps_the_peace(environment: str, peace: str) -> None:
    """The command line is that of a real one; who runs it is not. Its children have it, too, and it is told once."""
    wait = (
        "import os, sys; pid = os.fork(); pid and print(pid, flush=True); sys.stdin.read(); pid and os.wait()"
    )
    line = ["-c", wait, "celery", "worker", "--quiet", "--max-memory-per-child=150000"]
    with subprocess.Popen([sys.executable, *line], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pids = {process.pid, int(process.stdout.readline())}
        env = {"MVOLATILE_RESIDENT_LIMIT": environment}
        said = json.loads(
            run_python("from mvolatile.cli import main; main(['doctor', '--json'])", env=env).stdout
        )
        text = run_python("from mvolatile.cli import main; main(['doctor'])", env=env).stdout
        process.communicate(b"\n")
    (one,) = [one for one in said["recyclers"] if one["pid"] in pids]
    assert one["setting"] == "--max-memory-per-child=150000"
    assert (one["name"], one["most"], one["pid"]) == ("Celery", 150_000 << 10, process.pid)
    assert peace in one["peace"]
    assert "Celery (--max-memory-per-child=150000, pid" in text
    assert "once its RSS has ever been beyond 146.5 MiB" in text


@pytest.mark.parametrize(
    ("environment", "nbytes", "said"),
    [
        ("64MiB", 64 << 20, "64.0 MiB, as MVOLATILE"),
        ("none", None, "none, as MVOLATILE"),
        ("", None, "none\n"),
    ],
)
def test_the_limit_that_is_in_force_is_told(environment: str, nbytes: int | None, said: str) -> None:
    env = {"MVOLATILE_RESIDENT_LIMIT": environment}
    json_of = "from mvolatile.cli import main; main(['doctor', '--json'])"
    assert json.loads(run_python(json_of, env=env).check().stdout)["resident_limit"] == nbytes
    text = run_python("from mvolatile.cli import main; main(['doctor'])", env=env).check().stdout
    assert re.search(f"limit on what adds to RSS +{said}", text), text


def test_a_limit_that_is_none_is_one_line() -> None:
    code = "from mvolatile.cli import main; raise SystemExit(main(['doctor']))"
    done = run_python(code, env={"MVOLATILE_RESIDENT_LIMIT": "a lot"})
    assert done.returncode == 2
    assert done.stderr.startswith("mvolatile: MVOLATILE_RESIDENT_LIMIT must be a size")
    assert done.stderr.count("\n") == 1


def test_an_exit_status_for_scripts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "around", lambda found: [])
    for found, code in (
        (PERFECT, 0),
        (worse(psi=False), 3),
        (worse(can_purge=False, tier="unsupported"), 4),
    ):
        monkeypatch.setattr(doctor, "features", lambda found=found: found)
        assert cli.main(["doctor", "--check"]) == code
        assert cli.main(["doctor"]) == 0
    capsys.readouterr()


def test_what_it_is_to_import_comes_from_here_and_its_failure_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loaded_by_doctor.py").write_text("raise ValueError('not set up')")
    Path("rich.py").write_text("raise SystemExit('nothing else is taken from here')")
    assert cli.main(["doctor", "--import", "loaded_by_doctor"]) == 1
    said = "mvolatile: importing loaded_by_doctor failed: ValueError: not set up\n"
    assert capsys.readouterr().err == said
    assert cli.main(["doctor", "--import", "no_such_module"]) == 1
    assert "ModuleNotFoundError" in capsys.readouterr().err
    assert "" not in sys.path
    run_python("import sys; sys.path.remove(''); from mvolatile.cli import main; main(['doctor'])").check()


def test_the_lines_of_a_unit_and_a_pod(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "around", lambda found: [])
    monkeypatch.setattr(doctor, "features", lambda: worse(refused={"userfaultfd": errno.EPERM}, seccomp=True))
    assert cli.main(["doctor", "--fix"]) == 0
    said = capsys.readouterr().out
    assert "SystemCallFilter=userfaultfd" in said
    pod = said.split("# pod: ")[1].split("\n", 1)[1]
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(pod)["spec"]["securityContext"]["seccompProfile"]["type"] == "Localhost"
    monkeypatch.setattr(doctor, "features", lambda: PERFECT)
    assert cli.main(["doctor", "--fix"]) == 0
    assert capsys.readouterr().out.startswith("# Nothing")
