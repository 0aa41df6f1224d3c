# mypy: ignore-errors
"""dogpile's generic suites with our backends, as its own tests have them for each of its backends."""

import os

from dogpile.testing.fixtures import (
    _GenericBackendTestSuite,
    _GenericMutexTestSuite,
    _GenericSerializerTestSuite,
)

SHARED = {"arguments": {"name": f"dogpile-{os.getpid()}"}}


class TestMemory(_GenericBackendTestSuite):
    """Each region its own."""

    backend = "mvolatile.memory"
    backend_argument_names = ("name",)


class TestMemorySerialized(_GenericSerializerTestSuite, TestMemory):
    """The same, of bytes."""


class TestShared(_GenericBackendTestSuite):
    """One of the host."""

    backend = "mvolatile.shared"
    backend_argument_names = ("name",)
    config_args = SHARED


class TestSharedSerialized(_GenericSerializerTestSuite, TestShared):
    """The same, of bytes."""


class TestSharedMutex(_GenericMutexTestSuite):
    """Its lock."""

    backend = "mvolatile.shared"
    config_args = SHARED
