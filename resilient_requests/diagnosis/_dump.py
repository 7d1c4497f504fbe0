"""dump: the calls of all adapters of the process as text, at once or at a signal."""

from __future__ import annotations

import os
import signal as signals
import sys
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from resilient_requests import _checks
from resilient_requests.call import CallsInFlight
from resilient_requests.diagnosis._judgement import seconds
from resilient_requests.diagnosis._look import records

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from resilient_requests.diagnosis._record import InFlight
    from resilient_requests.diagnosis._tcp import TCPView

    Handler = Callable[[int, FrameType | None], Any] | int | None

__all__ = ["TextFile", "dump", "dump_on"]


class TextFile(Protocol):
    """A text file, as far as `dump` needs one; its descriptor is used if it has one."""

    def write(self, text: str, /) -> object:
        """Write text."""


def dump(file: TextFile | int | None = None) -> None:
    """Write for each call of the process its wait, the look of its path, and its coming end.

    ``file``: a descriptor; a text file; None: the present ``sys.stderr``. A text file with a
    descriptor is written to past its buffers, as `faulthandler` does. The calls of all adapters
    come, the oldest first, without query, headers and body. Safe from any thread and in a signal
    handler: no lock is taken, and a failure to write is ignored. Raises TypeError or ValueError
    naming the parameter, and nothing else.
    """
    write = _writer(file)
    with suppress(Exception):
        found = records(CallsInFlight.of_process())
        calls = "1 call" if len(found) == 1 else f"{len(found) or 'no'} calls"
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        unseen = "" if sys.platform == "linux" else f"; {sys.platform} does not tell of its paths"
        write(f"resilient_requests: {calls} in flight in process {os.getpid()}, {now}{unseen}\n")
        for each in found:
            write(_text(each))


def dump_on(signal: int, file: TextFile | int | None = None) -> Handler:
    """Have `dump` run at each signal; the earlier handler runs after it.

    ``signal``: as ``signal.SIGUSR2``. ``file``: as of `dump`; a file must stay open. Returns the
    earlier handler, for ``signal.signal`` to put back. If that is no Python function, such as the
    default that would end the process, it no longer runs. A second call for the same signal only
    changes the file. Python runs a handler in the main thread, between two of its steps and during
    its waits, but not while the thread runs in C without an end.

    Raises TypeError or ValueError naming the parameter, also if the signal cannot be caught, or if
    this is not the main thread.
    """
    number = _checks.count("signal", signal, least=1)
    _writer(file)
    try:
        earlier: Handler = signals.getsignal(number)
        if isinstance(earlier, _DumpHandler):
            earlier = earlier.earlier
        signals.signal(number, _DumpHandler(file, earlier))
    except (OSError, ValueError) as error:
        why = f"signal must be one that can be caught, in the main thread, not {signal!r}: {error}"
        raise ValueError(why) from error
    return earlier


class _DumpHandler:
    """Dumps, then calls the handler that it has replaced."""

    def __init__(self, file: TextFile | int | None, earlier: Handler) -> None:
        self.file, self.earlier = file, earlier

    def __call__(self, number: int, frame: FrameType | None) -> None:
        dump(self.file)
        if callable(self.earlier):
            self.earlier(number, frame)


def _writer(file: object) -> Callable[[str], object]:
    """Return the function that writes to ``file``. Raises TypeError or ValueError naming it."""
    file = sys.stderr if file is None else file
    if file is None:  # a program without a console has none
        return len
    if isinstance(file, int):
        return partial(_write, _checks.count("file", file))
    write: Callable[[str], object] | None = getattr(file, "write", None)
    if not callable(write):
        kind = type(file).__name__
        raise TypeError(f"file must be a text file, a descriptor or None, not {kind}")
    try:
        # A file's own buffer has a lock, and the interrupted thread may hold it.
        return partial(_write, file.fileno())  # type: ignore[union-attr]  # may be absent
    except (AttributeError, OSError, ValueError):
        return write


def _write(descriptor: int, text: str) -> None:
    rest = text.encode("utf-8", "backslashreplace")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _text(call: InFlight) -> str:
    """Return the text about one call."""
    idle = "" if call.idle_for is None else f", no byte for {seconds(call.idle_for)}"
    return (
        f"call {call.call_id} to {call.origin}: attempt {call.attempt}, {call.phase},"
        f" in {call.thread!r} ({call.thread_id:#x})\n"
        f"  for {seconds(call.since)}{idle}, {call.bytes_sent} bytes sent,"
        f" {call.bytes_received} received\n"
        f"{'' if call.tcp is None else _kernels(call.tcp)}"
        f"  {call.judgement}\n"
    )


def _kernels(tcp: TCPView) -> str:
    ages = (tcp.last_sent, tcp.last_received, tcp.last_acknowledged)
    sent, received, acknowledged = ("-" if age is None else seconds(age) for age in ages)
    return (
        f"  tcp {tcp.state}: unacknowledged {tcp.unacknowledged}, sent again {tcp.retransmits},"
        f" unsent {tcp.unsent}, window {tcp.window}, unread {tcp.unread}, probes {tcp.probes};"
        f" sent {sent} ago, received {received}, acknowledged {acknowledged}\n"
    )
