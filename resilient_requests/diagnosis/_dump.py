"""dump: the calls of all adapters of the process as text, also from a signal handler."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from resilient_requests import _checks
from resilient_requests.call import CallsInFlight
from resilient_requests.diagnosis._judgement import seconds
from resilient_requests.diagnosis._look import records

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilient_requests.diagnosis._record import InFlight
    from resilient_requests.diagnosis._tcp import TCPView

__all__ = ["Destination", "TextFile", "checked", "dump"]


class TextFile(Protocol):
    """A text file, as far as it is needed: with a descriptor, that is written to."""

    def write(self, text: str, /) -> object:
        """Write text."""


Destination = TextFile | int | None


def dump(file: Destination = None) -> None:
    """Write what each call of the process waits for, how its path looks, and what will end it.

    ``file``: a descriptor; a text file, which is written to past its buffers where it has a
    descriptor, as `faulthandler` does; None: what ``sys.stderr`` is now. All adapters' calls, the
    oldest first; no query, header or body of any. From any thread, and in a signal handler: no lock
    is taken, and what goes wrong in writing is left out. Raises TypeError or ValueError naming the
    parameter, and nothing else.
    """
    write = _writer(checked(file))
    with suppress(Exception):
        found = records(CallsInFlight.of_process())
        write(_heading(len(found)))
        for each in found:
            write(_text(each))


def checked(file: object) -> Destination:
    """Return a destination. Raises TypeError or ValueError naming the parameter."""
    if isinstance(file, int):
        return _checks.count("file", file)
    if file is not None and not callable(getattr(file, "write", None)):
        kind = type(file).__name__
        raise TypeError(f"file must be a text file, a descriptor or None, not {kind}")
    return file  # type: ignore[return-value]  # has been looked at


def _writer(file: Destination) -> Callable[[str], object]:
    """Return what writes to a destination."""
    if file is None:
        file = sys.stderr
        if file is None:  # of a program without a console
            return len
    if not isinstance(file, int):
        try:
            # A file's own buffer has a lock, which the interrupted thread may hold.
            descriptor = file.fileno()  # type: ignore[attr-defined]  # absent, or there is none
        except (AttributeError, OSError, ValueError):
            return file.write
    else:
        descriptor = file
    return lambda text: _write(descriptor, text)


def _write(descriptor: int, text: str) -> None:
    rest = text.encode("utf-8", "backslashreplace")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _heading(count: int) -> str:
    calls = "1 call" if count == 1 else f"{count or 'no'} calls"
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return f"resilient_requests: {calls} in flight in process {os.getpid()}, {now}\n"


def _text(call: InFlight) -> str:
    """Return what is told of one call."""
    idle = "" if call.idle_for is None else f", no byte for {seconds(call.idle_for)}"
    lines = (
        f"call {call.call_id} to {call.origin}: attempt {call.attempt}, {call.phase},"
        f" in {call.thread!r} ({call.thread_id:#x})",
        f"  for {seconds(call.since)}{idle}, {call.bytes_sent} bytes sent,"
        f" {call.bytes_received} received",
        *([] if call.tcp is None else [_kernels(call.tcp)]),
        f"  {call.judgement}",
    )
    return "\n".join(lines) + "\n"


def _kernels(tcp: TCPView) -> str:
    ages = (tcp.last_sent, tcp.last_received, tcp.last_acknowledged)
    sent, received, acknowledged = ("-" if age is None else seconds(age) for age in ages)
    return (
        f"  tcp {tcp.state}: unacknowledged {tcp.unacknowledged}, sent again {tcp.retransmits},"
        f" unsent {tcp.unsent}, window {tcp.window}, unread {tcp.unread}, probes {tcp.probes};"
        f" sent {sent} ago, received {received}, acknowledged {acknowledged}"
    )
