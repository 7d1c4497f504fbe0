"""What a record means, in one line. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient_requests.call import Phase
from resilient_requests.diagnosis._path import Path, path_of
from resilient_requests.diagnosis._record import BACKOFF, POOL

if TYPE_CHECKING:
    from resilient_requests.diagnosis._record import InFlight
    from resilient_requests.diagnosis._tcp import TCPView

__all__ = ["judgement", "seconds"]

_MOVING = 1.0  # seconds without a byte in which nobody would call a call hanging
_ENDS = {
    "user_timeout": "the kernel (user_timeout)",
    "keepalive": "the kernel (keep-alive)",
    "scope": "the scope's limit",
}
_DEAD = frozenset({Path.DEAD, Path.SILENT, Path.STUCK})


def judgement(call: InFlight) -> str:
    """Return one line on a call: what it waits for, how the path looks, what will end it."""
    path = path_of(call.tcp)
    told = _phase(call, path)
    return told if call.ends_by is None or call.ends_in is None else f"{told}, {_end(call)}"


def seconds(value: float) -> str:
    """Return a duration for people."""
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


def _end(call: InFlight) -> str:
    ends_by = call.ends_by or ""
    who = _ENDS.get(ends_by, f"the {ends_by} limit")
    return f"{who} ends it in {seconds(call.ends_in or 0.0)}"


def _phase(call: InFlight, path: Path) -> str:
    if call.phase == BACKOFF:
        return f"waits {seconds(call.next_in or 0.0)} before attempt {call.attempt + 1} (backoff)"
    if call.phase == POOL:
        return "waits for a place in the pool: all its connections are in use"
    if call.phase == Phase.START:
        return "has not asked for a connection yet"
    if call.phase == Phase.CONNECT:
        return _dial(call.tcp)
    told = _step(call, path)
    if path is Path.UNSEEN or call.tcp is None:
        return told
    return f"{told}; {_path(path, call.tcp, call)}"


def _dial(tcp: TCPView | None) -> str:
    if tcp is None:
        return "looks up the name, or dials by code of others"
    if not tcp.retransmits:
        return "dials"
    packets = "packet" if tcp.retransmits == 1 else "packets"
    return f"dials: the address does not answer, {tcp.retransmits} {packets} sent again"


def _step(call: InFlight, path: Path) -> str:
    """What the call waits for."""
    idle = call.idle_for
    waited = "" if idle is None else f"{seconds(idle)} "
    if call.phase == Phase.HANDSHAKE:
        return f"waiting {waited}for the peer's part of the handshake"
    if call.phase == Phase.SEND:
        if path in _DEAD or path is Path.FULL or (idle is not None and idle >= _MOVING):
            return f"sending, and nothing has moved for {waited or 'some time '}".rstrip()
        return f"sending, {call.bytes_sent} bytes so far"
    if call.phase == Phase.WAIT:
        return f"waiting {waited}for the first byte"
    if call.phase == Phase.HEAD:
        return f"waiting {waited}for the rest of the head"
    return _body(call, waited)


def _body(call: InFlight, waited: str) -> str:
    if not call.is_held:
        if call.idle_for is not None and call.idle_for < _MOVING:
            return f"reading the body, {call.bytes_received} bytes so far"
        return f"waiting {waited}for more of the body"
    since = f", {waited}since a byte came" if waited else ""
    unread = call.tcp.unread if call.tcp is not None else None
    if unread:
        return f"the consumer holds the stream{since}, {unread} bytes wait to be read"
    return f"the consumer holds the stream{since}"


def _path(path: Path, tcp: TCPView, call: InFlight) -> str:
    """How the path looks."""
    silent = seconds(call.idle_for or 0.0)
    heard = seconds(min(tcp.last_acknowledged or 0.0, tcp.last_received or 0.0))
    if path is Path.DEAD:
        return f"{silent} unacknowledged: the path is dead"
    if path is Path.SILENT:
        return f"{tcp.probes} probes unanswered, {heard} since a sign of life: the path is dead"
    if path is Path.STUCK:
        return "nothing leaves this machine: no route, or no link"
    if path is Path.LOSSY:
        return f"{heard} since a sign of life: the path loses packets, or is dead"
    if path is Path.FULL:
        return "the peer does not read, its kernel answers window probes"
    if path is Path.ANSWERS:
        return f"the path answers keep-alive probes, {heard} ago"
    if path is Path.GONE:
        return "the connection is gone: the next read or write fails"
    if path is Path.LEFT:
        return "the peer has closed its side"
    return _unasked(tcp, heard)


def _unasked(tcp: TCPView, heard: str) -> str:
    if tcp.keepalive is None:
        return f"{heard} since a sign of life, and no keep-alive probe asks for one"
    last = min(tcp.last_acknowledged or 0.0, tcp.last_received or 0.0)
    left = tcp.keepalive.idle - last
    if left <= 0 or last < _MOVING:
        return f"{heard} since a sign of life"
    return f"{heard} since a sign of life, the next probe asks in {seconds(left)}"
