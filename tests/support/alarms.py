"""Exceptions of the caller that come out of a signal handler while a call of ours waits."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from clients import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def ringing(error: BaseException, when: Callable[[], object]) -> Iterator[None]:
    """Have a real signal's handler raise on this, the main, thread as soon as ``when`` says so."""

    def ring(*_: object) -> None:
        raise error

    def watch() -> None:
        until(when)
        # A moment later, the call waits in the system for its next bytes.
        signal.setitimer(signal.ITIMER_REAL, 0.02)

    before = signal.signal(signal.SIGALRM, ring)
    watcher = threading.Thread(target=watch, name="alarm")
    watcher.start()
    try:
        yield
    finally:
        watcher.join()
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
