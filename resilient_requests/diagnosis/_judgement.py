"""The meaning of a record, in one line. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient_requests.call import Phase
from resilient_requests.diagnosis._path import path_of
from resilient_requests.diagnosis._record import BACKOFF, POOL

if TYPE_CHECKING:
    from resilient_requests.diagnosis._record import InFlight

__all__ = ["judgement", "seconds"]

_MOVING = 1.0  # seconds without a byte; up to that nobody says that a call hangs
_LOST = 2  # packets of a dial: a bad path loses one now and then
_AWAITED: dict[str, str] = {
    Phase.HANDSHAKE: "the peer's part of the handshake",
    Phase.WAIT: "the first byte",
    Phase.HEAD: "the rest of the head",
    Phase.BODY: "more of the body",
}
_ENDS = {
    "user_timeout": "the kernel (user_timeout)",
    "keepalive": "the kernel (keep-alive)",
    "scope": "the scope's limit",
}


def judgement(call: InFlight) -> str:
    """Return one line on a call: its wait, the look of its path, its coming end."""
    if call.phase == BACKOFF:
        told = f"waits {seconds(call.next_in or 0.0)} before attempt {call.attempt + 1} (backoff)"
    elif call.phase == POOL:
        told = "waits for a place in the pool: all its connections are in use"
    elif call.phase == Phase.START:
        told = "has not asked for a connection yet"
    elif call.phase == Phase.CONNECT:
        told = _dial(call)
    else:
        told = _step(call) + _path(call)
    if call.limit is None:
        return told
    who = _ENDS.get(call.limit, f"the {call.limit} limit")
    when = "" if call.ends_in is None else f" in {seconds(call.ends_in)}"
    return f"{told}, {who} ends it{when}"


def seconds(value: float) -> str:
    """Return a duration for people."""
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


def _dial(call: InFlight) -> str:
    if call.tcp is None:
        return "looks up the name, or dials"
    again = call.tcp.retransmits
    if again >= _LOST:
        return f"dials: the address does not answer, {again} packets sent again"
    return "dials, the first packet was sent again" if again else "dials"


def _step(call: InFlight) -> str:
    """Return the wait of a call with a connection."""
    idle = call.idle_for
    waited = "" if idle is None or idle < _MOVING else f" {seconds(idle)}"
    if call.phase == Phase.SEND:
        has_stopped = waited or path_of(call.tcp).is_stopped
        stop = f", nothing has moved for{waited or ' a moment'}" if has_stopped else ""
        return f"sending, {call.bytes_sent} bytes so far{stop}"
    if call.phase == Phase.BODY and call.is_held:
        unread = 0 if call.tcp is None else call.tcp.unread
        since = f",{waited} since a byte came" if waited else ""
        return f"the consumer holds the stream{since}" + (
            f", {unread} bytes wait to be read" if unread else ""
        )
    if call.phase == Phase.BODY and idle is not None and not waited:
        return f"reading the body, {call.bytes_received} bytes so far"
    return f"waiting{waited} for {_AWAITED[call.phase]}"


def _path(call: InFlight) -> str:
    """Return the look of the path; nothing if the system does not tell."""
    if call.tcp is None:
        return ""
    facts = {"idle": call.idle_for, "heard": call.tcp.heard, "sent": call.tcp.last_sent}
    words = {name: seconds(age or 0.0) for name, age in facts.items()}
    return "; " + path_of(call.tcp).value.format(probes=call.tcp.probes, **words)
