"""Limits, usage and counts, from captured files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mvolatile.kernel.cgroup import MemoryCgroup, memory_state
from mvolatile.kernel.cgroup.state import unclaimed_of

NO_LIMIT = str((1 << 63) - 4096)


def lay_out(directory: Path, **contents: str | int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (directory / name.replace("__", ".")).write_text(f"{content}\n")


def test_v1_takes_the_smallest_limit_of_the_lineage(tmp_path: Path) -> None:
    lay_out(tmp_path, memory__limit_in_bytes=NO_LIMIT)
    lay_out(tmp_path / "pod", memory__limit_in_bytes=100 << 20, memory__memsw__limit_in_bytes=150 << 20)
    lay_out(
        tmp_path / "pod/container",
        memory__limit_in_bytes=200 << 20,
        memory__memsw__limit_in_bytes=NO_LIMIT,
        memory__usage_in_bytes=60 << 20,
        memory__failcnt=3,
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 2",
        memory__stat=f"inactive_file 5\ntotal_inactive_file {20 << 20}\n"
        f"total_swap 8192\nhierarchical_memory_limit {NO_LIMIT}",
    )
    state = memory_state(MemoryCgroup(1, tmp_path / "pod/container", tmp_path))
    assert (state.limit, state.high, state.usage) == (100 << 20, None, 60 << 20)
    assert state.working_set == 40 << 20
    assert (state.swap_limit, state.swap_usage) == (50 << 20, 8192)
    assert (state.limit_hits, state.oom_kills) == (3, 2)


def test_v1_knows_a_limit_above_the_mount(tmp_path: Path) -> None:
    lay_out(tmp_path, memory__limit_in_bytes=NO_LIMIT, memory__stat=f"hierarchical_memory_limit {64 << 20}")
    state = memory_state(MemoryCgroup(1, tmp_path, tmp_path))
    assert (state.limit, state.swap_limit) == (64 << 20, None)


def test_v2_takes_the_smallest_limit_of_the_lineage(tmp_path: Path) -> None:
    lay_out(tmp_path / "pod", memory__max=1 << 30, memory__high="max", memory__swap__max=0)
    lay_out(
        tmp_path / "pod/container",
        memory__max="max",
        memory__high=900 << 20,
        memory__swap__max="max",
        memory__current=50 << 20,
        memory__swap__current=0,
        memory__stat=f"anon 1234\nfile 99\ninactive_file {60 << 20}",
        memory__events="low 0\nhigh 17\nmax 4\noom 1\noom_kill 1\noom_group_kill 0",
    )
    state = memory_state(MemoryCgroup(2, tmp_path / "pod/container", tmp_path))
    assert (state.limit, state.high, state.swap_limit, state.swap_usage) == (1 << 30, 900 << 20, 0, 0)
    assert state.working_set == 0, "never negative: the two files are not read at one moment"
    assert (state.limit_hits, state.oom_kills) == (4, 1)


@pytest.mark.parametrize("version", [1, 2])
def test_a_directory_without_files_knows_nothing(tmp_path: Path, version: int) -> None:
    state = memory_state(MemoryCgroup(1 if version == 1 else 2, tmp_path, tmp_path))
    assert (state.limit, state.usage, state.working_set, state.swap_limit, state.oom_kills) == (None,) * 4 + (
        0,
    )


def test_v1_what_is_nobodys(tmp_path: Path) -> None:
    """Below each limit; page cache is, shared memory and what is volatile are not."""
    lay_out(tmp_path, memory__limit_in_bytes=NO_LIMIT, memory__usage_in_bytes=1 << 40)
    lay_out(tmp_path / "pod", memory__limit_in_bytes=100 << 20, memory__usage_in_bytes=90 << 20)
    lay_out(
        tmp_path / "pod/container",
        memory__limit_in_bytes=64 << 20,
        memory__usage_in_bytes=60 << 20,
        memory__kmem__usage_in_bytes=3 << 20,
        memory__stat=f"cache 1\ntotal_cache {9 << 20}\ntotal_shmem {2 << 20}\ntotal_inactive_file {50 << 20}",
    )
    cgroup = MemoryCgroup(1, tmp_path / "pod/container", tmp_path)
    assert unclaimed_of(cgroup) == [(4 + 9 - 2 + 3 - 1) << 20, 10 << 20]


def test_v2_what_is_nobodys(tmp_path: Path) -> None:
    lay_out(tmp_path, memory__current=90 << 20)
    lay_out(
        tmp_path / "container",
        memory__max=200 << 20,
        memory__high=64 << 20,
        memory__current=60 << 20,
        memory__stat=f"anon 5\nfile {9 << 20}\nshmem {2 << 20}\nslab_reclaimable {1 << 20}\ninactive_file {50 << 20}",
    )
    assert unclaimed_of(MemoryCgroup(2, tmp_path / "container", tmp_path)) == [12 << 20]
