"""The table of the retry rules row by row, and how exceptions are told apart."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3.exceptions
from clients import refusing
from stalls import BIG, congested

from resilient_requests import (
    Cancelled,
    ChatAPIError,
    DeadlineExceeded,
    StreamBroken,
    StreamIdle,
    StreamProtocolError,
    StreamTruncated,
    is_transient,
)
from resilient_requests.call import Attempt, CancelToken, Limits, Phase, causes, describe, errno_of
from resilient_requests.retry._failures import (
    Failure,
    failure_of,
    is_stale,
    judge,
)
from resilient_requests.stream._framing import ChunkedError
from resilient_requests.testing import FaultServer, Reply, Send, fin, reset, respond, silence

if TYPE_CHECKING:
    from collections.abc import Callable

NO_POOL: Any = None


def attempt_in(phase: Phase, **facts: Any) -> Attempt:
    """An attempt that came so far."""
    limits = Limits(connect=None, write=None, response=None, idle=None)
    attempt = Attempt(CancelToken(), 1, limits, fresh=False, since=0.0)
    attempt.phase = phase
    attempt.fault = OSError()
    for name, value in facts.items():
        setattr(attempt, name, value)
    return attempt


# Rows: failure, stale reuse | replayed by default if not idempotent, if idempotent | cost, at once, retires, teaches


@pytest.mark.parametrize(
    ("failure", "stale", "bare", "idempotent", "cost", "at_once", "retires", "teaches"),
    [
        pytest.param(Failure.NO_CONNECTION, False, True, True, 1, False, False, False, id="1"),
        pytest.param(
            Failure.UNKNOWN_HOST, False, False, False, 0, False, False, False, id="2 name"
        ),
        pytest.param(
            Failure.CERTIFICATE, False, False, False, 0, False, False, False, id="2 certificate"
        ),
        pytest.param(Failure.HANDSHAKE_CUT, False, True, True, 1, False, True, False, id="3"),
        pytest.param(Failure.PROXY_BUSY, False, True, True, 1, False, False, False, id="3b busy"),
        pytest.param(
            Failure.PROXY_REFUSAL, False, False, False, 0, False, False, False, id="3b refusal"
        ),
        pytest.param(Failure.SEND_FAILED, True, True, True, 1, True, True, True, id="5, 6"),
        pytest.param(Failure.SEND_FAILED, False, True, True, 1, False, True, False, id="7"),
        pytest.param(Failure.DIED, True, True, True, 1, True, True, True, id="8"),
        pytest.param(Failure.DIED, False, False, True, 1, False, True, False, id="9, 10"),
        pytest.param(Failure.HEAD_CUT, False, False, True, 1, False, True, False, id="11 fresh"),
        pytest.param(Failure.HEAD_CUT, True, False, True, 1, False, True, False, id="11 reused"),
        pytest.param(Failure.UNREADABLE, False, False, False, 0, False, False, False, id="11b"),
        pytest.param(
            Failure.RESPONSE_TIMEOUT, False, False, False, 2, False, True, False, id="12 fresh"
        ),
        pytest.param(
            Failure.RESPONSE_TIMEOUT, True, False, False, 2, False, True, False, id="12 reused"
        ),
        pytest.param(Failure.BODY_CUT, False, False, True, 2, False, True, False, id="14"),
        pytest.param(Failure.BODY_STALLED, False, False, False, 2, False, True, False, id="15"),
        pytest.param(Failure.STATUS, False, False, True, 1, False, False, False, id="17"),
        pytest.param(Failure.POOL_CLOSED, False, True, True, 0, True, False, False, id="18"),
        pytest.param(Failure.OTHER, False, False, False, 0, False, False, False, id="19"),
    ],
)
def test_a_row_says_what_follows(  # noqa: PLR0917  # the columns of the table
    failure: Failure,
    stale: bool,
    bare: bool,
    idempotent: bool,
    cost: int,
    at_once: bool,
    retires: bool,
    teaches: bool,
) -> None:
    """The numbers are those of the table."""
    verdict = judge(failure, stale=stale, idempotent=True)

    assert judge(failure, stale=stale, idempotent=False).replay == bare
    assert verdict.replay == idempotent
    assert (verdict.cost, verdict.at_once, verdict.retires, verdict.teaches) == (
        cost,
        at_once,
        retires,
        teaches,
    )
    assert verdict.failure is failure


@pytest.mark.parametrize("failure", Failure)
@pytest.mark.parametrize("stale", [False, True])
def test_every_failure_has_a_row(failure: Failure, stale: bool) -> None:
    """Also the combinations that cannot come about; what teaches the window retires the connections too."""
    verdict = judge(failure, stale=stale, idempotent=False)

    assert verdict.retires or not verdict.teaches
    assert not verdict.replay or judge(failure, stale=stale, idempotent=True).replay


@pytest.mark.parametrize("failure", [Failure.RESPONSE_TIMEOUT, Failure.BODY_STALLED])
@pytest.mark.parametrize("idempotent", [False, True])
def test_silence_is_repeated_only_where_asked_for_and_idempotent(
    failure: Failure, idempotent: bool
) -> None:
    """Rows 12 and 15 with ``retry_response_timeout``."""
    assert (
        judge(failure, stale=False, idempotent=idempotent, response_timeouts=True).replay
        == idempotent
    )


def test_a_status_of_a_server_that_did_nothing_is_repeated_for_all() -> None:
    """Row 17 with 429 or 503."""
    assert judge(Failure.STATUS, stale=False, idempotent=False, for_all=True).replay


@pytest.mark.parametrize(
    "failure", [failure for failure in Failure if failure is not Failure.STATUS]
)
def test_only_a_status_is_repeated_because_of_its_status(failure: Failure) -> None:
    """A server that answers 503 and is then cut off has acted no less than any other."""
    assert judge(failure, stale=False, idempotent=False, for_all=True) == judge(
        failure, stale=False, idempotent=False
    )


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"reused": False, "sent_at": 0.0}, False),
        ({"reused": True, "sent_at": None}, True),
        ({"reused": True, "sent_at": 100.0}, True),
        ({"reused": True, "sent_at": 95.0}, True),
        ({"reused": True, "sent_at": 94.999}, False),
        ({"reused": True, "sent_at": 100.0, "bytes_received": 1}, False),
    ],
)
def test_idleness_is_blamed_only_for_five_seconds_and_before_any_byte(
    facts: dict[str, Any], expected: bool
) -> None:
    """A balancer that cuts a long wait says nothing about idle connections: the server was at work."""
    assert is_stale(attempt_in(Phase.WAIT, **facts), 100.0) == expected


# What went wrong: phase, facts, exception


def caused(outer: Exception, *inner: BaseException) -> Exception:
    """Chain exceptions by ``__cause__``."""
    at: BaseException = outer
    for each in inner:
        at.__cause__ = each
        at = each
    return outer


RESET = ConnectionResetError(errno.ECONNRESET, "reset")
ETIMEDOUT = TimeoutError(errno.ETIMEDOUT, "timed out")
CASES: list[tuple[Phase, dict[str, Any], BaseException, Failure]] = [
    (
        Phase.CONNECT,
        {},
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        Failure.NO_CONNECTION,
    ),
    (Phase.CONNECT, {}, OSError(errno.ENETUNREACH, "no route"), Failure.NO_CONNECTION),
    (Phase.CONNECT, {}, OSError(errno.EHOSTUNREACH, "no route"), Failure.NO_CONNECTION),
    (Phase.CONNECT, {}, TimeoutError("timed out"), Failure.NO_CONNECTION),
    (Phase.CONNECT, {}, socket.gaierror(socket.EAI_AGAIN, "again"), Failure.NO_CONNECTION),
    (Phase.CONNECT, {}, socket.gaierror(socket.EAI_FAIL, "fail"), Failure.NO_CONNECTION),
    (Phase.CONNECT, {}, socket.gaierror(socket.EAI_NONAME, "none"), Failure.UNKNOWN_HOST),
    (Phase.CONNECT, {}, socket.gaierror(socket.EAI_NODATA, "none"), Failure.NO_CONNECTION),
    (Phase.CONNECT, {}, socket.gaierror(socket.EAI_MEMORY, "memory"), Failure.NO_CONNECTION),
    (Phase.CONNECT, {}, socket.gaierror(socket.EAI_FAMILY, "family"), Failure.UNKNOWN_HOST),
    (Phase.CONNECT, {}, urllib3.exceptions.LocationParseError("a..b"), Failure.UNKNOWN_HOST),
    (Phase.HANDSHAKE, {}, RESET, Failure.HANDSHAKE_CUT),
    (Phase.HANDSHAKE, {}, ssl.SSLEOFError(8, "eof"), Failure.HANDSHAKE_CUT),
    (Phase.HANDSHAKE, {}, ssl.SSLZeroReturnError(6, "zero"), Failure.HANDSHAKE_CUT),
    (Phase.HANDSHAKE, {}, TimeoutError("timed out"), Failure.HANDSHAKE_CUT),
    (Phase.HANDSHAKE, {}, ssl.SSLCertVerificationError(1, "expired"), Failure.CERTIFICATE),
    (Phase.HANDSHAKE, {}, ssl.SSLError(1, "wrong version number"), Failure.CERTIFICATE),
    (Phase.HANDSHAKE, {}, http.client.RemoteDisconnected("end"), Failure.HANDSHAKE_CUT),
    (Phase.HANDSHAKE, {}, http.client.BadStatusLine("SSH-2.0-OpenSSH\r\n"), Failure.UNREADABLE),
    (Phase.HANDSHAKE, {"proxy_status": 502}, OSError("tunnel"), Failure.PROXY_BUSY),
    (Phase.HANDSHAKE, {"proxy_status": 503}, OSError("tunnel"), Failure.PROXY_BUSY),
    (Phase.HANDSHAKE, {"proxy_status": 504}, OSError("tunnel"), Failure.PROXY_BUSY),
    (Phase.HANDSHAKE, {"proxy_status": 407}, OSError("tunnel"), Failure.PROXY_REFUSAL),
    (Phase.HANDSHAKE, {"proxy_status": 500}, OSError("tunnel"), Failure.PROXY_REFUSAL),
    (Phase.HANDSHAKE, {"proxy_status": 200}, RESET, Failure.HANDSHAKE_CUT),
    (Phase.SEND, {"send_failed": True}, RESET, Failure.SEND_FAILED),
    (
        Phase.SEND,
        {"send_failed": True, "bytes_sent": 9},
        BrokenPipeError(errno.EPIPE, "pipe"),
        Failure.SEND_FAILED,
    ),
    (
        Phase.SEND,
        {"send_failed": True, "bytes_sent": 9},
        TimeoutError("timed out"),
        Failure.SEND_FAILED,
    ),
    (
        Phase.SEND,
        {"send_failed": True, "bytes_sent": 9},
        http.client.RemoteDisconnected("end"),
        Failure.SEND_FAILED,
    ),
    (Phase.HEAD, {"send_failed": True, "bytes_received": 9}, RESET, Failure.SEND_FAILED),
    # A signal's or gevent's exception may come after the last byte was handed over.
    (Phase.SEND, {"sends": 1, "fault": None}, ValueError("from outside"), Failure.OTHER),
    (Phase.WAIT, {}, RESET, Failure.DIED),
    (Phase.WAIT, {}, http.client.RemoteDisconnected("end"), Failure.DIED),
    (Phase.WAIT, {}, BrokenPipeError(errno.EPIPE, "pipe"), Failure.DIED),
    (Phase.WAIT, {}, ETIMEDOUT, Failure.DIED),
    (Phase.WAIT, {}, ssl.SSLEOFError(8, "eof"), Failure.DIED),
    (Phase.WAIT, {}, ssl.SSLZeroReturnError(6, "zero"), Failure.DIED),
    (Phase.WAIT, {}, TimeoutError("timed out"), Failure.RESPONSE_TIMEOUT),
    (Phase.HEAD, {"bytes_received": 9}, TimeoutError("timed out"), Failure.RESPONSE_TIMEOUT),
    (Phase.HEAD, {"bytes_received": 9}, RESET, Failure.HEAD_CUT),
    (Phase.HEAD, {"bytes_received": 9}, ETIMEDOUT, Failure.HEAD_CUT),
    (Phase.HEAD, {"bytes_received": 9}, http.client.BadStatusLine("HTT"), Failure.HEAD_CUT),
    (Phase.HEAD, {"bytes_received": 9}, http.client.IncompleteRead(b""), Failure.HEAD_CUT),
    (
        Phase.HEAD,
        {"bytes_received": 9},
        http.client.RemoteDisconnected("end"),
        Failure.HEAD_CUT,
    ),  # behind a 103
    (
        Phase.HEAD,
        {"bytes_received": 9},
        http.client.BadStatusLine("ICY 200 OK\r\n"),
        Failure.UNREADABLE,
    ),
    (Phase.HEAD, {"bytes_received": 9}, http.client.LineTooLong("header line"), Failure.UNREADABLE),
    (
        Phase.HEAD,
        {"bytes_received": 9},
        http.client.HTTPException("got more than 100 headers"),
        Failure.UNREADABLE,
    ),
    (
        Phase.HEAD,
        {"bytes_received": 9},
        http.client.UnknownProtocol("HTTP/2.0"),
        Failure.UNREADABLE,
    ),
    (Phase.BODY, {}, StreamBroken("cut"), Failure.BODY_CUT),
    (Phase.BODY, {}, caused(StreamIdle(), TimeoutError("timed out")), Failure.BODY_STALLED),
    (Phase.BODY, {}, caused(StreamBroken("cut"), ETIMEDOUT), Failure.BODY_CUT),
    (
        Phase.BODY,
        {},
        caused(StreamBroken("cut"), ChunkedError("a chunk has no size")),
        Failure.UNREADABLE,
    ),
    (Phase.BODY, {}, requests.exceptions.ContentDecodingError(), Failure.OTHER),
    (Phase.BODY, {"fault": None}, ValueError("a hook's"), Failure.OTHER),
    (Phase.START, {}, urllib3.exceptions.ClosedPoolError(NO_POOL, "closed"), Failure.POOL_CLOSED),
    (Phase.START, {"fault": None}, requests.exceptions.InvalidSchema("x"), Failure.OTHER),
    (Phase.START, {"fault": None}, requests.ConnectionError("a mock's"), Failure.NO_CONNECTION),
    (Phase.WAIT, {}, KeyboardInterrupt(), Failure.OTHER),
    (Phase.WAIT, {}, GeneratorExit(), Failure.OTHER),
]


def in_args(error: Exception) -> Exception:
    """Behind ``args``, as requests does."""
    return requests.ConnectionError(urllib3.exceptions.ProtocolError("aborted", error))


def in_reason(error: Exception) -> Exception:
    """Behind ``reason``, as urllib3 does."""
    return requests.ConnectionError(urllib3.exceptions.MaxRetryError(NO_POOL, "/", error))


def in_context(error: Exception) -> Exception:
    """Behind ``__context__``."""
    outer = requests.ConnectionError("text that says nothing")
    outer.__context__ = error
    return outer


WRAPS = {"bare": None, "args": in_args, "reason": in_reason, "context": in_context}


def wrapped() -> list[Any]:
    """Each failure bare, and behind each kind of link where it is wrapped in practice."""
    found = []
    for phase, facts, error, expected in CASES:
        for name, wrap in WRAPS.items():
            if wrap is None:
                found.append(
                    pytest.param(phase, facts, error, expected, id=f"{phase}-{error!r}-{name}")
                )
            elif isinstance(error, Exception) and phase not in (Phase.START, Phase.BODY):
                found.append(
                    pytest.param(
                        phase, facts, wrap(error), expected, id=f"{phase}-{error!r}-{name}"
                    )
                )
    return found


@pytest.mark.parametrize(("phase", "facts", "error", "expected"), wrapped())
def test_a_failure_is_told_by_phase_errno_and_class_wherever_it_stands(
    phase: Phase, facts: dict[str, Any], error: BaseException, expected: Failure
) -> None:
    """Requests and urllib3 spread the links over four places."""
    assert failure_of(error, attempt_in(phase, **facts)) is expected


def test_text_never_decides() -> None:
    """No status and no timeout stands in "read tcp …:443: timed out"."""
    error = requests.ConnectionError("Read timed out. certificate verify failed: 443, [Errno 104]")

    assert failure_of(error, attempt_in(Phase.WAIT)) is Failure.DIED
    assert errno_of(error) is None


def test_a_chain_that_bites_its_tail_ends() -> None:
    """``__context__`` may point back."""
    one, two = ValueError("1"), ValueError("2")
    one.__context__, two.__cause__ = two, one
    one.args = (two, one, "text")

    assert list(causes(one)) == [one, two]
    assert errno_of(one) is None


@pytest.mark.parametrize(
    ("error", "number", "text"),
    [
        (in_args(RESET), errno.ECONNRESET, "ConnectionError(ECONNRESET)"),
        (ETIMEDOUT, errno.ETIMEDOUT, "TimeoutError(ETIMEDOUT)"),
        (TimeoutError("timed out"), None, "TimeoutError"),
        (in_reason(socket.gaierror(socket.EAI_AGAIN, "secret.example")), None, "ConnectionError"),
        (ssl.SSLEOFError(8, "eof"), None, "SSLEOFError"),
        (OSError(99999, "unheard of"), 99999, "OSError(99999)"),
        (requests.ConnectionError("https://u:secret@h/?key=secret"), None, "ConnectionError"),
    ],
)
def test_a_description_names_class_and_errno_and_no_message(
    error: Exception, number: int | None, text: str
) -> None:
    """Numbers of the resolver and of OpenSSL are none of the system's; a message may hold a URL."""
    assert errno_of(error) == number
    assert describe(error) == text


# is_transient


@pytest.mark.parametrize(
    "error",
    [
        Cancelled(),
        DeadlineExceeded(),
        StreamIdle(),
        StreamBroken("cut"),
        StreamTruncated("short"),
        StreamProtocolError("bad"),
        ChatAPIError("overloaded", transient=True),
        requests.HTTPError("503"),
        requests.exceptions.RetryError("503"),
        requests.exceptions.InvalidURL("x"),
        requests.exceptions.TooManyRedirects("x"),
        requests.ReadTimeout("x"),
        requests.exceptions.ChunkedEncodingError("x"),
        requests.exceptions.ContentDecodingError("x"),
        requests.exceptions.SSLError(
            urllib3.exceptions.SSLError(ssl.SSLCertVerificationError(1, "expired"))
        ),
        requests.ConnectionError(
            urllib3.exceptions.ReadTimeoutError(NO_POOL, "/", "Read timed out.")
        ),
        in_args(http.client.BadStatusLine("ICY 200 OK\r\n")),
        in_args(http.client.LineTooLong("header line")),
        in_reason(socket.gaierror(socket.EAI_NONAME, "none")),
        in_args(Cancelled()),
        ValueError("x"),
        KeyboardInterrupt(),
        OSError(errno.ECONNRESET, "not of requests"),
    ],
    ids=repr,
)
def test_what_would_not_have_been_repeated_is_not_transient(error: BaseException) -> None:
    """Never a stream, a status, a wrong argument, a slow answer, or what the caller did."""
    assert is_transient(error) is False


@pytest.mark.parametrize(
    "error",
    [
        in_args(RESET),
        in_args(ETIMEDOUT),
        in_args(http.client.RemoteDisconnected("end")),
        in_args(http.client.BadStatusLine("HTT")),
        in_args(BrokenPipeError(errno.EPIPE, "pipe")),
        in_args(TimeoutError("timed out")),  # so urllib3 raises a send that timed out
        in_reason(ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
        in_reason(socket.gaierror(socket.EAI_AGAIN, "again")),
        requests.exceptions.SSLError(urllib3.exceptions.SSLError(ssl.SSLEOFError(8, "eof"))),
        requests.ConnectTimeout("x"),
        requests.ConnectionError("a mock's"),
    ],
    ids=repr,
)
def test_what_a_bad_network_does_is_transient(error: BaseException) -> None:
    """Without attempts on it the exception itself has to tell."""
    assert is_transient(error) is True


FAULTS: list[tuple[str, Callable[[], Reply], bytes, bool]] = [
    ("reset", reset, b"question", True),
    ("end", fin, b"question", True),
    ("silence", silence, b"question", False),
    (
        "reset in the status line",
        lambda: Reply((Send(b"HTTP/1.1 2"), *reset().steps)),
        b"question",
        True,
    ),
    ("end in the status line", lambda: Reply((Send(b"HTT"), *fin().steps)), b"question", True),
    (
        "silence in the head",
        lambda: Reply((Send(b"HTTP/1.1 200 OK\r\nX"), *silence().steps)),
        b"question",
        False,
    ),
    ("reset while sending", lambda: reset(read=1000), BIG, True),
    ("silence while sending", lambda: silence(read="head"), BIG, True),
    ("reset in the body", lambda: respond(b"0123456789", cut=5), b"question", False),
    ("end in the body", lambda: respond(b"0123456789", cut=5, ending="fin"), b"question", False),
    (
        "silence in the body",
        lambda: respond(b"0123456789", cut=5, ending="silence"),
        b"question",
        False,
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    ("make", "body", "expected"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS]
)
def test_what_plain_requests_raises_is_told_apart(
    fault_server_factory: Callable[..., FaultServer],
    make: Callable[[], Reply],
    body: bytes,
    expected: bool,
    tls: bool,
) -> None:
    """Real sockets, no adapter of ours: the classes differ by Python and by urllib3."""
    server = fault_server_factory(tls=tls)
    server.default = make()
    with requests.Session() as session, pytest.raises(requests.RequestException) as caught:
        session.post(server.url, data=body, verify=server.ca_path or True, timeout=(0.4, 0.4))

    assert is_transient(caught.value) is expected


@pytest.mark.parametrize(("fault", "expected"), [(reset, True), (fin, True)])
def test_a_handshake_that_is_cut_is_transient_for_plain_requests(
    fault_server_tls: FaultServer, fault: Callable[[], Reply], expected: bool
) -> None:
    """A FIN there is an SSLError, as a bad certificate is."""
    fault_server_tls.on_handshake(fault())
    with requests.Session() as session, pytest.raises(requests.ConnectionError) as caught:
        session.get(fault_server_tls.url, verify=fault_server_tls.ca_path, timeout=2)

    assert is_transient(caught.value) is expected


def test_dials_of_plain_requests_are_told_apart(fault_server_tls: FaultServer) -> None:
    """Refused, timed out, not trusted."""
    found = []
    with requests.Session() as session, refusing() as refused, congested() as full:
        for url in (refused, full, fault_server_tls.url):
            with pytest.raises(requests.ConnectionError) as caught:
                session.get(url, timeout=0.1 if url == full else 10)
            found.append(is_transient(caught.value))

    assert found == [True, True, False]
