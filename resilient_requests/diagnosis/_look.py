"""Makes records of the calls under way, without a lock."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from operator import itemgetter
from typing import TYPE_CHECKING

from resilient_requests.call import Attempt, Phase
from resilient_requests.diagnosis._judgement import judgement
from resilient_requests.diagnosis._limits import first_limit
from resilient_requests.diagnosis._record import BACKOFF, POOL, InFlight
from resilient_requests.diagnosis._tcp import look

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resilient_requests.call import CancelToken
    from resilient_requests.diagnosis._tcp import TCPView

__all__ = ["records"]

_WITHOUT_SOCKET = (Phase.START, POOL, BACKOFF)  # the socket belongs to an earlier attempt


def records(calls: Iterable[CancelToken]) -> tuple[InFlight, ...]:
    """Return a record of each call of this process, the oldest first.

    Safe from any thread and in a signal handler. Each value is read once: a call that goes on
    meanwhile may show some values from before and some from after.
    """
    found = []
    for call in calls:
        attempt = None if call.attempt is None else call.attempt()
        # A forked child inherits the parent's calls, even if no at-fork hook has run.
        if call.pid == os.getpid() and isinstance(attempt, Attempt):
            found.append((_begin(call, attempt), call, attempt))
    # Not by the age in the record: the thread may be interrupted between two looks at the clock.
    found.sort(key=itemgetter(0))
    return tuple(_record(call, attempt) for _, call, attempt in found)


def _begin(call: CancelToken, attempt: Attempt) -> float:
    """Return the boot time at which a call began."""
    return attempt.since if call.since is None else call.since


def _record(call: CancelToken, attempt: Attempt) -> InFlight:
    now, wakes_at = call.boot(), call.wakes_at
    next_in = None if wakes_at is None else max(wakes_at - now, 0.0)
    phase = _phase(attempt) if next_in is None else BACKOFF
    tcp = None if phase in _WITHOUT_SOCKET else look(call.sock)
    silence = _silence(attempt, phase, tcp)
    reader = attempt.reader
    is_read = call.is_sending or (reader is not None and reader.is_reading)
    is_held = phase == Phase.BODY and not is_read
    limit, ends_in = first_limit(attempt, phase, silence, tcp, is_held=is_held)
    record = InFlight(
        call_id=call.id,
        origin=attempt.trace.origin,
        attempt=attempt.number,
        phase=phase,
        since=now - _begin(call, attempt),
        idle_for=silence,
        bytes_sent=attempt.bytes_sent,
        bytes_received=attempt.bytes_received,
        limit=limit,
        ends_in=ends_in,
        next_in=next_in,
        is_held=is_held,
        thread=_name_of(attempt.thread),
        thread_id=attempt.thread,
        tcp=tcp,
    )
    return replace(record, judgement=judgement(record))


def _phase(attempt: Attempt) -> str:
    if attempt.phase is Phase.START and not attempt.may_return_place():
        return POOL
    return attempt.phase.value


def _silence(attempt: Attempt, phase: str, tcp: TCPView | None) -> float | None:
    """Return the seconds since a byte of this attempt moved; None if unknown."""
    if tcp is not None and tcp.silence is not None:
        return min(tcp.silence, attempt.age)  # a reused connection may have been silent before
    if phase == Phase.WAIT and attempt.sent_at is not None:
        return attempt.token.boot() - attempt.sent_at
    return None


def _name_of(ident: int) -> str:
    # threading.enumerate() takes a lock, and the thread that a signal interrupted may hold it.
    thread = getattr(threading, "_active", {}).get(ident)
    return f"thread {ident}" if thread is None else str(thread.name)
