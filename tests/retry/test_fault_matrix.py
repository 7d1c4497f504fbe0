"""Every fault in every phase of every kind of request, judged by the table of the retry rules."""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pytest
import requests
from clients import PATIENT, Client, attempts_of, refusing
from requests.structures import CaseInsensitiveDict

import resilient_requests
from resilient_requests import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    ConnectionRecycled,
    PoolRotated,
    RetryBudget,
    RetryDenied,
    RetryScheduled,
    StreamBroken,
    StreamIdle,
    Timeouts,
)
from resilient_requests.testing import (
    FaultServer,
    Fin,
    FinThenReset,
    Reply,
    Reset,
    Send,
    Silence,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Headers = CaseInsensitiveDict[Any]
else:
    Headers = CaseInsensitiveDict

Fault = Literal["reset", "fin", "silence", "fin then reset"]

LIMIT = 0.2  # the one limit of a cell that silence runs into
AGAIN = 0.5  # the same, where a second attempt must keep it on a busy machine
BIG = b"x" * (6 << 20)  # more than the kernel takes from a client whose peer does not read
READ = 100_000  # the part that the server reads
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n"
# While a body still goes out only a refusal ends the sending; any other answer waits for its end.
REFUSAL = HEAD.replace(b"200 OK", b"413 Content Too Large")

STEPS: dict[Fault, Any] = {
    "reset": Reset(),
    "fin": Fin(),
    "silence": Silence(),
    "fin then reset": FinThenReset(),
}
RECEIVED: dict[str, int | None] = {
    "nothing": 0,
    "part of the head": 20,
    "the head": None,
    "part of the body": -4,
}


@dataclass(frozen=True)
class Case:
    """One cell: the connection, the sent and the received part, the fault, and the request."""

    tls: bool
    conn: Literal["fresh", "reused"]
    sent: Literal["none", "part", "all"]
    received: str
    fault: Fault
    request: Literal["GET", "POST", "bare POST", "generator"]
    stream: bool

    def __str__(self) -> str:
        words = [
            "tls" if self.tls else "plain",
            self.conn,
            f"{self.sent} sent",
            f"{self.received} received",
            self.fault,
            self.request,
            "streamed" if self.stream else "read",
        ]
        return "-".join(word.replace(" ", "_") for word in words)

    @property
    def answered(self) -> bool:
        """True if the whole head came: then there is a response."""
        return self.received in ("the head", "part of the body")


class Row(NamedTuple):
    """A row of the table.

    ``replays`` are the requests that are repeated. ``waits`` means that the retry is not free and
    immediate.
    """

    number: str
    replays: Literal["all", "id", "none"]
    waits: bool
    cost: int
    retires: bool
    teaches: bool
    phase: str
    errors: tuple[type[Exception], ...]


# A reset, an end or a stall, as requests names them at each place; SSLError is a ConnectionError.
CUT = (requests.ConnectionError,)
STALL = (requests.ReadTimeout,)

#             row    replays waits  cost retires teaches phase        error
ROWS = {
    "refused": Row("1", "all", True, 1, False, False, "connect", CUT),
    "handshake": Row("3", "all", True, 1, True, False, "handshake", (*CUT, *STALL)),
    "at checkout": Row("4", "none", False, 0, False, False, "", ()),
    "write error, nothing sent": Row("5", "all", False, 1, True, True, "send", CUT),
    "write error, reused": Row("6", "all", False, 1, True, True, "send", CUT),
    "write error, fresh": Row("7", "all", True, 1, True, False, "send", CUT),
    "refused halfway": Row("7", "all", True, 1, True, False, "head", CUT),
    "died, reused": Row("8", "all", False, 1, True, True, "wait", CUT),
    "died, fresh": Row("9, 10", "id", True, 1, True, False, "wait", CUT),
    "cut in the head": Row("11", "id", True, 1, True, False, "head", CUT),
    "silent": Row("12", "none", False, 0, True, False, "wait", STALL),
    "silent in the head": Row("12", "none", False, 0, True, False, "head", STALL),
    "stream cut": Row("13", "none", False, 0, True, False, "body", (StreamBroken,)),
    "stream stalled": Row("13", "none", False, 0, True, False, "body", (StreamIdle,)),
    "body cut": Row("14", "id", True, 2, True, False, "body", (StreamBroken,)),
    "body stalled": Row("15", "none", False, 0, True, False, "body", CUT),
}


def row_of(case: Case) -> Row:  # noqa: PLR0911  # the table, from the top
    """Return the row of the table for a cell, written from the table's words, not from the code."""
    is_silent = case.fault == "silence"
    if case.sent == "none":
        if case.conn == "fresh":
            return ROWS["handshake"]
        return ROWS["at checkout"]
    if case.answered and case.stream:
        return ROWS["stream stalled" if is_silent else "stream cut"]
    if case.answered:
        return ROWS["body stalled" if is_silent else "body cut"]
    if case.sent == "part":
        # A send call that failed before its end proves that the request was not applied, for any
        # answer. Once a byte of an answer came, idleness is not to blame. The send call meets a
        # silence before anything is read.
        if case.received == "nothing":
            return ROWS["write error, reused" if case.conn == "reused" else "write error, fresh"]
        return ROWS["write error, fresh" if is_silent else "refused halfway"]
    if case.received == "part of the head":
        return ROWS["silent in the head" if is_silent else "cut in the head"]
    if is_silent:
        return ROWS["silent"]
    return ROWS["died, reused" if case.conn == "reused" else "died, fresh"]


def is_replayed(case: Case, row: Row) -> bool:
    """True if a second request follows: the row, the declared idempotence and the body decide."""
    if case.request == "generator" and case.sent != "none":
        return False  # touched, and it cannot be rewound
    return row.replays == "all" or (row.replays == "id" and case.request != "bare POST")


def impossible(case: Case) -> str | None:
    """Return why a cell cannot exist, or cannot be told from another one; None where it can."""
    is_reused = case.conn == "reused"
    reasons = (
        (case.stream and not case.answered, "without a response there is nothing to stream"),
        (
            case.sent == "part" and case.request == "GET",
            "a request without a body goes out in one write",
        ),
        (
            case.sent == "none" and case.received != "nothing",
            "an answer to no request is an unsolicited one",
        ),
        # Once the kernel has accepted, it takes the request; a refused port is row 1, and has a
        # test of its own.
        (case.sent == "none" and not is_reused and not case.tls, "cannot be told from 'all sent'"),
        (
            case.sent == "none" and is_reused and case.fault == "silence",
            "cannot be told from 'all sent'",
        ),
        (
            case.sent == "none" and is_reused and case.fault == "fin then reset",
            "at checkout the same as 'reset'",
        ),
    )
    return next((reason for applies, reason in reasons if applies), None)


def cases() -> Iterator[Any]:
    """Every possible cell; one in eight, always the same ones, runs in a quick run too."""
    axes: tuple[Any, ...] = (
        (False, True),
        ("fresh", "reused"),
        ("none", "part", "all"),
        tuple(RECEIVED),
        tuple(STEPS),
        ("GET", "POST", "bare POST", "generator"),
        (False, True),
    )
    for axis in itertools.product(*axes):
        case = Case(*axis)
        if impossible(case) is None:
            is_quick = zlib.crc32(str(case).encode()) % 8 == 0
            yield pytest.param(case, id=str(case), marks=[] if is_quick else pytest.mark.slow)


def faulty(case: Case) -> Reply:
    """The reply that brings the fault about, once a request is there."""
    head = REFUSAL if case.sent == "part" and case.answered else HEAD
    answer = (
        (head + b"0123456789")[: RECEIVED[case.received]]
        if RECEIVED[case.received] is not None
        else head
    )
    steps = (Send(answer), STEPS[case.fault]) if answer else (STEPS[case.fault],)
    return Reply(steps, read=READ if case.sent == "part" else "all")


def limits(case: Case) -> Timeouts:
    """Only the limit that must end this cell's silence is short."""
    if case.fault != "silence":
        return PATIENT
    if case.sent == "none":
        return replace(PATIENT, connect=AGAIN)
    if case.answered:
        return replace(PATIENT, idle=LIMIT)
    return (
        replace(PATIENT, write=AGAIN) if case.sent == "part" else replace(PATIENT, response=LIMIT)
    )


def prepare(client: Client, case: Case) -> requests.PreparedRequest:
    """The request of a cell."""
    big = BIG if case.sent == "part" else b"question"
    body: Any = None if case.request == "GET" else big
    if case.request == "generator":
        body = (big[at : at + 65536] for at in range(0, len(big), 65536))
    method = "GET" if case.request == "GET" else "POST"
    return client.session.prepare_request(requests.Request(method, client.url, data=body))


def bring_about(case: Case, server: FaultServer) -> None:
    """Have the server fail once; afterwards it answers."""
    if case.sent != "none":
        server.script(faulty(case))
    elif case.conn == "fresh":
        server.on_handshake(Reply((STEPS[case.fault],)))  # before it the dial might fail instead
    else:
        assert server.kill_idle("reset" if case.fault == "reset" else "fin") == 1


def send(
    client: Client, case: Case, request: requests.PreparedRequest
) -> requests.Response | Exception:
    """Send it and read the body; return the response, or the error."""
    try:
        with client.session.send(
            request, stream=case.stream, verify=client.session.verify
        ) as response:
            assert response.content
            return response
    except requests.RequestException as error:
        return error


def kind_of(text: str | None) -> type[Exception]:
    """The class that an attempt's ``error`` names."""
    name = (text or "").partition("(")[0]
    kind: type[Exception] = getattr(resilient_requests, name, None) or getattr(
        requests.exceptions, name
    )
    assert issubclass(kind, Exception)
    return kind


@pytest.mark.parametrize("case", list(cases()))
def test_a_fault_has_the_consequence_that_the_table_says(
    case: Case, fault_server_factory: Callable[..., FaultServer]
) -> None:
    """The oracle is the table of the retry rules; the counts are those of the server."""
    row = row_of(case)
    replayed = is_replayed(case, row)
    with fault_server_factory(tls=case.tls) as server, client_for(case, server) as client:
        if case.conn == "reused":
            client.warm()
        server.reset_counts()
        bring_about(case, server)
        outcome = send(client, case, prepare(client, case))
        tokens = client.tokens()
        stats = client.adapter.stats()

    second = int(replayed or row.number == "4")
    assert server.accepted == (case.conn == "fresh") + second
    assert len(server.requests) == (case.sent != "none") + second
    assert server.applied == (case.sent == "all") + second
    assert len(client.told(PoolRotated)) == row.retires
    assert stats.stale == row.teaches
    assert tokens == 10 - (row.cost if replayed and row.waits else 0)
    assert client.waited_after == ([1] if replayed and row.waits else [])
    check_outcome(case, row, outcome, client, replayed=replayed)


def check_outcome(
    case: Case, row: Row, outcome: requests.Response | Exception, client: Client, *, replayed: bool
) -> None:
    """Check the outcome of the call, and the events on the way."""
    told = client.names(
        AttemptStarted, AttemptFailed, AttemptSucceeded, RetryScheduled, RetryDenied
    )
    facts: Any = outcome
    attempts = getattr(outcome, "attempts", ()) or facts.response.attempts
    succeeds = ["AttemptStarted", "AttemptSucceeded"]
    if row.number == "4":
        assert told == succeeds
        assert client.names(ConnectionRecycled) == ["ConnectionRecycled"]
        assert isinstance(outcome, requests.Response)
        return
    first = attempts[0]
    assert (first.phase, first.reused) == (row.phase, case.conn == "reused")
    if replayed:
        assert isinstance(outcome, requests.Response)
        assert (outcome.status_code, len(attempts)) == (200, 2)
        assert issubclass(kind_of(first.error), row.errors)
        assert told == ["AttemptStarted", "AttemptFailed", "RetryScheduled", *succeeds]
        return
    assert isinstance(outcome, row.errors)
    assert len(attempts) == 1
    assert told == (succeeds if case.stream else ["AttemptStarted", "AttemptFailed", "RetryDenied"])


def client_for(case: Case, server: FaultServer | str) -> Client:
    """A client whose budget gains nothing, so that every missing token was spent."""
    budget = RetryBudget(capacity=10, deposit=0, trickle=0)
    return Client(
        server,
        policy={"budget": budget},
        timeouts=limits(case),
        idempotency_keys=case.request != "bare POST",
    )


@pytest.mark.parametrize("kind", ["GET", "POST", "bare POST", "generator"])
def test_a_refused_port_is_tried_three_times(kind: Any) -> None:
    """Row 1: nobody has seen the request, so every kind is repeated, after a wait."""
    case = Case(False, "fresh", "none", "nothing", "reset", kind, False)
    with refusing() as url, client_for(case, url) as client:
        outcome = send(client, case, prepare(client, case))
        tokens = client.tokens()

    assert isinstance(outcome, requests.ConnectionError)
    assert [each.phase for each in attempts_of(outcome)] == ["connect"] * 3
    assert client.waited_after == [1, 2]
    assert tokens == 8
    assert client.told(PoolRotated) == []


class KilledWhileSending(Headers):
    """Headers whose writing ends the connection: after the checkout, before the first byte."""

    def __init__(self, headers: Any, kill: Iterator[object]) -> None:
        super().__init__(headers)
        self._kill = kill

    def copy(self) -> Any:
        """The same, since both urllib3 and the adapter copy the headers on their way."""
        return KilledWhileSending(dict(self), self._kill)

    def items(self) -> Any:
        """The headers, after the fault."""
        next(self._kill, None)
        return super().items()


@pytest.mark.parametrize("kind", ["GET", "POST", "bare POST", "generator"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_connection_that_dies_between_checkout_and_sending_is_replaced_at_once(
    kind: Any, tls: bool, fault_server_factory: Callable[..., FaultServer]
) -> None:
    """Row 5: a write error before any byte; the generator has not been touched."""
    case = Case(tls, "reused", "none", "nothing", "reset", kind, False)
    with fault_server_factory(tls=tls) as server, client_for(case, server) as client:
        client.warm()
        server.reset_counts()
        request = prepare(client, case)
        request.headers = KilledWhileSending(
            request.headers, (server.kill_idle() for _ in range(1))
        )
        outcome = send(client, case, request)
        tokens, stale = client.tokens(), client.adapter.stats().stale

    assert isinstance(outcome, requests.Response)
    assert [(each.phase, each.reused, each.bytes_sent) for each in attempts_of(outcome)[:1]] == [
        (ROWS["write error, nothing sent"].phase, True, 0)
    ]
    assert (server.accepted, len(server.requests), server.applied) == (1, 1, 1)
    assert (client.waited_after, tokens, stale) == ([], 10, 1)
    assert len(client.told(PoolRotated)) == 1
