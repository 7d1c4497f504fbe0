"""dump_on: a dump whenever a signal comes."""

from __future__ import annotations

import signal as signals
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from resilient_requests import _checks
from resilient_requests.diagnosis._dump import Destination, checked, dump

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    Handler = Callable[[int, FrameType | None], Any] | int | None

__all__ = ["dump_on"]


class _DumpHandler:
    """Dumps, and goes on to the handler that it stands before."""

    def __init__(self, file: Destination, earlier: Handler) -> None:
        self.file = file
        self.earlier = earlier

    def __call__(self, number: int, frame: FrameType | None) -> None:
        # Whatever is wrong with the file, the program that is looked at goes on.
        with suppress(Exception):
            dump(self.file)
        if callable(self.earlier):
            self.earlier(number, frame)


def dump_on(signal: int, file: Destination = None) -> Handler:
    """Have `dump` run whenever a signal comes; the handler that was there runs after it.

    ``signal``: as ``signal.SIGUSR2``. ``file``: as of `dump`; a file must stay open, None is what
    ``sys.stderr`` is then. Returns the earlier handler: ``signal.signal`` puts that back. One that is
    no function of Python, such as a default that would end the process, does not run any more. Once
    more for the same signal: with another file. Python runs a handler between two steps of the main
    thread, and in the middle of its waits; not while that runs in C without an end.

    Raises TypeError or ValueError naming the parameter, where the signal cannot be caught and
    outside of the main thread too.
    """
    number = _checks.count("signal", signal, least=1)
    checked(file)
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("signal must be asked for in the main thread: Python allows it only there")
    try:
        earlier: Handler = signals.getsignal(number)
        if isinstance(earlier, _DumpHandler):
            earlier = earlier.earlier
        signals.signal(number, _DumpHandler(file, earlier))
    except (OSError, ValueError) as error:
        raise ValueError(f"signal must be one that can be caught, not {signal!r}") from error
    return earlier
