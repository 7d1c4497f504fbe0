"""The meaning of the kernel's view, as a table; and the lines that people read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resilient_requests import InFlight, TCPView
from resilient_requests.diagnosis._judgement import judgement, seconds
from resilient_requests.diagnosis._path import Path, path_of

ESTABLISHED = TCPView(
    state="ESTABLISHED",
    unacknowledged=0,
    retransmits=0,
    unsent=0,
    window=65536,
    unread=0,
    probes=0,
    last_sent=40.0,
    last_received=41.0,
    last_acknowledged=40.0,
    rtt=0.02,
    keepalive=(15, 5, 3),
    user_timeout=30.0,
)
WAITING = InFlight(
    call_id="1",
    origin="http://host",
    attempt=1,
    phase="wait",
    since=41.0,
    idle_for=41.0,
    bytes_sent=200,
    bytes_received=0,
    limit="response",
    ends_in=559.0,
    next_in=None,
    is_held=False,
    thread="main",
    thread_id=1,
    tcp=replace(ESTABLISHED, last_acknowledged=3.2),
)
FULL = {"unsent": 9, "window": 0}


@pytest.mark.parametrize(
    ("facts", "path"),
    [
        ({"state": "SYN_SENT"}, Path.DIALLING),
        ({"state": "CLOSE"}, Path.GONE),
        ({"state": "CLOSE_WAIT"}, Path.LEFT),
        ({"state": "FIN_WAIT2"}, Path.LEFT),
        ({"unacknowledged": 1}, Path.UNASKED),
        ({"unacknowledged": 1, "retransmits": 1}, Path.LOSSY),
        ({"unacknowledged": 1, "retransmits": 2}, Path.LOSSY),
        ({"unacknowledged": 1, "retransmits": 3}, Path.DEAD),
        ({"unsent": 9, "probes": 1}, Path.UNASKED),
        ({"unsent": 9, "probes": 2}, Path.STUCK),
        ({"unsent": 9, "probes": 2, "window": None}, Path.STUCK),
        ({**FULL, "last_acknowledged": 0.4}, Path.FULL),
        ({**FULL, "last_acknowledged": 9.0, "probes": 2}, Path.FULL),
        ({**FULL, "last_acknowledged": 1.4, "probes": 3}, Path.FULL),
        ({**FULL, "last_acknowledged": 1.5, "probes": 3}, Path.SILENT),
        ({"last_acknowledged": 38.0}, Path.ANSWERS),
        ({"last_acknowledged": 39.0}, Path.UNASKED),
        ({"last_acknowledged": 38.0, "rtt": 1.0}, Path.UNASKED),
        ({"keepalive": None}, Path.UNPROBED),
        ({"last_acknowledged": 15.4, "probes": 1}, Path.ANSWERS),
        ({"last_acknowledged": 15.6, "probes": 1}, Path.LOSSY),
        ({"last_acknowledged": 15.6, "probes": 1, "rtt": 0.2}, Path.ANSWERS),
        ({"last_acknowledged": 20.0, "probes": 2}, Path.SILENT),
        ({"unsent": None, "window": None, "last_acknowledged": 3.0}, Path.ANSWERS),
    ],
)
def test_path_is_what_the_kernel_shows(facts: dict[str, Any], path: Path) -> None:
    """One loss is no death, and an acknowledgement of data is no answer to a probe."""
    assert path_of(replace(ESTABLISHED, **facts)) is path


def test_path_is_unseen_without_a_view() -> None:
    """There is no view on macOS and Windows, nor before a connection stands."""
    assert path_of(None) is Path.UNSEEN


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {},
            (
                "waiting 41 s for the first byte; the path answers keep-alive probes, 3.2 s ago,"
                " the response limit ends it in 559 s"
            ),
        ),
        (
            {
                "phase": "send",
                "idle_for": 37.0,
                "limit": "write",
                "ends_in": 3.0,
                "tcp": replace(ESTABLISHED, unacknowledged=4, retransmits=6),
            },
            (
                "sending, 200 bytes so far, nothing has moved for 37 s; 37 s unacknowledged:"
                " the path is dead, the write limit ends it in 3.0 s"
            ),
        ),
        (
            {
                "limit": "user_timeout",
                "ends_in": 4.5,
                "tcp": replace(ESTABLISHED, probes=3, last_acknowledged=25.5),
            },
            (
                "waiting 41 s for the first byte; 3 probes unanswered, 26 s since a sign of life:"
                " the path is dead, the kernel (user_timeout) ends it in 4.5 s"
            ),
        ),
        (
            {
                "phase": "body",
                "is_held": True,
                "limit": None,
                "tcp": replace(ESTABLISHED, unread=7),
            },
            (
                "the consumer holds the stream, 41 s since a byte came, 7 bytes wait to be read;"
                " 40 s since a sign of life"
            ),
        ),
        (
            {"phase": "connect", "limit": "connect", "ends_in": 8.0, "idle_for": None}
            | {"tcp": replace(ESTABLISHED, state="SYN_SENT", retransmits=1)},
            "dials, the first packet was sent again, the connect limit ends it in 8.0 s",
        ),
        (
            {"phase": "connect", "limit": None, "idle_for": None}
            | {"tcp": replace(ESTABLISHED, state="SYN_SENT", retransmits=2)},
            "dials: the address does not answer, 2 packets sent again",
        ),
        (
            {"phase": "wait", "limit": None, "idle_for": None}
            | {"tcp": replace(ESTABLISHED, unsent=9, probes=2, last_sent=1.5)},
            (
                "waiting for the first byte; nothing left this machine at the last try, 1.5 s ago:"
                " no route, or no link"
            ),
        ),
        ({"phase": "connect", "limit": None, "tcp": None}, "looks up the name, or dials"),
        ({"phase": "start", "limit": None, "tcp": None}, "has not asked for a connection yet"),
        # If the system does not report on the path, the time without progress is unknown.
        (
            {"phase": "body", "limit": "idle", "ends_in": None, "idle_for": None, "tcp": None},
            "waiting for more of the body, the idle limit ends it",
        ),
        (
            {"phase": "send", "limit": "write", "ends_in": None, "idle_for": None, "tcp": None},
            "sending, 200 bytes so far, the write limit ends it",
        ),
    ],
)
def test_judgement_is_one_line_that_says_what_and_who_and_when(
    changes: dict[str, Any], line: str
) -> None:
    """Somebody who looks at a worker at night reads this line first."""
    assert judgement(replace(WAITING, **changes)) == line


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.0 s"), (9.94, "9.9 s"), (10.0, "10 s"), (41.4, "41 s")]
)
def test_durations_are_short(value: float, text: str) -> None:
    """Tenths of a second matter below ten."""
    assert seconds(value) == text
