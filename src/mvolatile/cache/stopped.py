"""Exceptions that are not about what was being done: a signal's handler raised them, to stop the program there.

A soft time limit (Celery's, or `signal.alarm` with a handler that raises `TimeoutError`) may come while a value is
stored or decoded. Whoever takes it for a value that cannot be stored has swallowed the limit.
"""

from __future__ import annotations

import signal

__all__ = ["raise_if_stopped"]


def raise_if_stopped(error: BaseException) -> None:
    """Raise `error` on if the handler of a signal raised it."""
    handlers = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    at = error.__traceback__ if handlers else None
    while at is not None:
        if at.tb_frame.f_code in handlers:
            raise error
        at = at.tb_next


def _code_of(handler: object) -> object:
    """Of a function, a method, or an object that can be called; None for what is not Python's."""
    if not callable(handler):
        return None
    return getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
