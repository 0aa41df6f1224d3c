"""How `make kernels` finds what lies in Debian's packages, in the layout of before Linux 7.0 and of after."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.kernels import debian


def package(home: Path, release: str, *, beside_the_modules: bool) -> None:
    modules = (
        home / "package/usr/lib/modules" / release
        if beside_the_modules
        else home / "package/lib/modules" / release
    )
    modules.mkdir(parents=True)
    boot = home / "package/boot"
    boot.mkdir()
    for name in ("vmlinuz", "config"):
        (modules / name if beside_the_modules else boot / f"{name}-{release}").write_text(
            "CONFIG_MEMCG=y\nCONFIG_ZRAM=m\n"
        )


@pytest.mark.parametrize("beside_the_modules", [False, True])
def test_the_newest_that_was_downloaded_is_found(tmp_path: Path, beside_the_modules: bool) -> None:
    for version, release in (
        ("7.2.9-1", "7.2.9+deb13"),
        ("7.10.1-1", "7.10.1+deb13"),
        ("70.1-1", "70.1+deb13"),
    ):
        package(tmp_path / version, release, beside_the_modules=beside_the_modules)
    kernel = debian.fetch("7", tmp_path)
    assert kernel.release == "7.10.1+deb13"
    assert kernel.modules.name == kernel.release
    assert kernel.image.exists()
    assert [kernel.has(option) for option in ("MEMCG", "ZRAM", "MEMCG_V1")] == [True, True, False]
