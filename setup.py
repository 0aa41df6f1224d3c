"""Builds the one C extension, `mvolatile._core`, against the limited API; the rest is in pyproject.toml.

MVOLATILE_SANITIZE=address,undefined (or thread) builds it with those sanitizers.
"""

import os
import pathlib
import re
import shlex
import shutil
import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, CompileError, ExecError, PlatformError

NO_COMPILER = (
    "mvolatile is installed from source here and needs a C compiler and Python's headers: "
    "install gcc (Debian, Ubuntu: apt-get install gcc python3-dev; Fedora: dnf install gcc python3-devel; "
    "Alpine: apk add gcc musl-dev linux-headers python3-dev) and run the same command again."
)


def long_description() -> str:
    """README.md for an index, where its pictures and its links to files of the source would lead nowhere."""
    text = pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    text = re.sub(r"!\[([^\]]*)\]\((?!https?://)[^)]*\)", r"*Picture: \1.*", text)
    text = re.sub(r"\[([^\]]*)\]\((?!https?://)[^)]*\)", r"\1", text)
    return f"{text}\nThe pages and pictures named here are files of the source distribution, in `docs/`.\n"


class BuildCore(build_ext):
    """Turns a missing compiler into one sentence."""

    def run(self) -> None:
        try:
            super().run()
        except (CCompilerError, CompileError, ExecError, PlatformError, FileNotFoundError):
            compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
            headers = os.path.join(sysconfig.get_path("include"), "Python.h")
            if shutil.which(compiler) and os.path.exists(headers):
                raise
            raise SystemExit(f"error: {NO_COMPILER}") from None


if sys.platform != "linux":
    raise SystemExit("error: mvolatile works on Linux alone: it is made of the kernel's own calls.")
if sys.maxsize < 2**32:
    raise SystemExit("error: mvolatile needs a 64-bit Python: it reserves address space by the gigabyte.")

# Free-threaded Pythons have no limited API yet: what is built there is for that one version.
limited = not sysconfig.get_config_var("Py_GIL_DISABLED")
macros = [("_GNU_SOURCE", "1"), *([("Py_LIMITED_API", "0x030B0000")] if limited else [])]

sanitize = os.environ.get("MVOLATILE_SANITIZE")
sanitizer_flags = [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer", "-g"] if sanitize else []

setup(
    long_description=long_description(),
    long_description_content_type="text/markdown",
    ext_modules=[
        Extension(
            "mvolatile._core",
            sources=sorted(glob("src/mvolatile/_core/**/*.c", recursive=True)),
            depends=sorted(glob("src/mvolatile/_core/*/*.h")),
            include_dirs=["src/mvolatile/_core"],
            define_macros=macros,
            extra_compile_args=[
                "-std=c11",
                "-O2",
                "-Wall",
                "-Wextra",
                "-fvisibility=hidden",
                *sanitizer_flags,
            ],
            extra_link_args=["-pthread", *sanitizer_flags],
            py_limited_api=limited,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if limited else {},
    cmdclass={"build_ext": BuildCore},
)
