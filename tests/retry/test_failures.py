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
from resilient_requests.call import (
    Attempt,
    CancelToken,
    Instant,
    Limits,
    Phase,
    causes,
    describe,
    errno_of,
)
from resilient_requests.retry import RetryPolicy
from resilient_requests.retry._decision import Decision, Facts, decide
from resilient_requests.retry._failures import failure_of, is_stale
from resilient_requests.retry._rules import Failure, When, rule_of
from resilient_requests.testing import FaultServer, Reply, Send, fin, reset, respond, silence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NO_POOL: Any = None
NO_LIMITS = Limits(connect=None, write=None, response=None, idle=None)


def attempt_in(phase: Phase, *, now: float = 0.0, **facts: Any) -> Attempt:
    """An attempt that came so far, at this boot time."""
    token = CancelToken(clock=lambda: Instant(0.0, now, 0.0))
    attempt = Attempt(token, 1, NO_LIMITS)
    attempt.phase = phase
    for name, value in facts.items():
        setattr(attempt, name, value)
    return attempt


# The consequences of a failure

NEVER, ALWAYS, IDEMPOTENT = When.NEVER, When.ALWAYS, When.IDEMPOTENT
LISTED, CONFIGURED = When.LISTED, When.CONFIGURED
# row: failure, stale | when, cost, retires, at once, teaches
TABLE: dict[str, tuple[Failure, bool, tuple[When, int, bool, bool, bool]]] = {
    "1": (Failure.NO_CONNECTION, False, (ALWAYS, 1, False, False, False)),
    "2 name": (Failure.UNKNOWN_HOST, False, (NEVER, 0, False, False, False)),
    "2 certificate": (Failure.CERTIFICATE, False, (NEVER, 0, False, False, False)),
    "3": (Failure.HANDSHAKE_CUT, False, (ALWAYS, 1, True, False, False)),
    "3b busy": (Failure.PROXY_BUSY, False, (ALWAYS, 1, False, False, False)),
    "3b refusal": (Failure.PROXY_REFUSAL, False, (NEVER, 0, False, False, False)),
    "5, 6": (Failure.SEND_FAILED, True, (ALWAYS, 1, True, True, True)),
    "7": (Failure.SEND_FAILED, False, (ALWAYS, 1, True, False, False)),
    "8": (Failure.DIED, True, (ALWAYS, 1, True, True, True)),
    "9, 10": (Failure.DIED, False, (IDEMPOTENT, 1, True, False, False)),
    "11 fresh": (Failure.HEAD_CUT, False, (IDEMPOTENT, 1, True, False, False)),
    "11 reused": (Failure.HEAD_CUT, True, (IDEMPOTENT, 1, True, False, False)),
    "11b": (Failure.UNREADABLE, False, (NEVER, 0, False, False, False)),
    "12 fresh": (Failure.RESPONSE_TIMEOUT, False, (CONFIGURED, 2, True, False, False)),
    "12 reused": (Failure.RESPONSE_TIMEOUT, True, (CONFIGURED, 2, True, False, False)),
    "14": (Failure.BODY_CUT, False, (IDEMPOTENT, 2, True, False, False)),
    "15": (Failure.BODY_STALLED, False, (CONFIGURED, 2, True, False, False)),
    "17": (Failure.STATUS, False, (LISTED, 1, False, False, False)),
    "18": (Failure.POOL_CLOSED, False, (ALWAYS, 0, False, True, False)),
    "19": (Failure.OTHER, False, (NEVER, 0, False, False, False)),
}


@pytest.mark.parametrize("row", TABLE)
def test_a_rule_is_the_row_of_the_table(row: str) -> None:
    """The numbers are those of the table in the documentation."""
    failure, stale, expected = TABLE[row]
    rule = rule_of(failure, stale=stale)

    assert (rule.when, rule.cost, rule.retires, rule.at_once, rule.teaches) == expected
    assert rule.failure is failure


def test_every_failure_has_a_rule() -> None:
    """Impossible stale reuses have a rule, too. A rule that teaches the window also retires."""
    rules = [rule_of(failure, stale=stale) for failure in Failure for stale in (False, True)]

    assert [rule.failure for rule in rules[::2]] == list(Failure)
    assert all(rule.retires for rule in rules if rule.teaches)


def decided(
    failure: Failure, *, policy: RetryPolicy | None = None, wait: float = 0.0, **facts: Any
) -> Decision:
    """Return the decision about a first failure on a fresh connection."""
    given = Facts(**{"retries": 0, "idempotent": True, **facts})
    return decide(rule_of(failure, stale=False), policy or RetryPolicy(), given, wait)


@pytest.mark.parametrize("failure", Failure)
@pytest.mark.parametrize("idempotent", [False, True])
def test_the_default_policy_repeats_by_the_table(failure: Failure, idempotent: bool) -> None:
    """A status is repeated where the policy lists it, which is asked elsewhere."""
    when = rule_of(failure, stale=False).when
    expected = when is ALWAYS or (idempotent and when in {IDEMPOTENT, LISTED})

    assert decided(failure, idempotent=idempotent).again is expected


@pytest.mark.parametrize("failure", [Failure.RESPONSE_TIMEOUT, Failure.BODY_STALLED])
@pytest.mark.parametrize(
    ("idempotent", "has_retried_timeout", "expected"),
    [(True, False, True), (False, False, False), (True, True, False)],
)
def test_silence_is_repeated_once_where_configured_and_idempotent(
    failure: Failure, idempotent: bool, has_retried_timeout: bool, expected: bool
) -> None:
    """Rows 12 and 15 with ``retry_response_timeout``."""
    policy = RetryPolicy(retry_response_timeout=True)
    facts = {"idempotent": idempotent, "has_retried_timeout": has_retried_timeout}

    assert decided(failure, policy=policy, **facts).again is expected


@pytest.mark.parametrize("status", [429, 503, 500])
@pytest.mark.parametrize("failure", [Failure.STATUS, Failure.DIED])
def test_a_status_of_a_server_that_did_nothing_is_repeated_for_all(
    failure: Failure, status: int
) -> None:
    """A server that answers 503 and is then cut off has acted no less than any other."""
    expected = failure is Failure.STATUS and status in {429, 503}

    assert decided(failure, idempotent=False, status=status).again is expected


@pytest.mark.parametrize(
    ("facts", "wait", "expected"),
    [
        ({"retries": 1}, 0.5, Decision(again=True, wait=0.5, cost=1)),
        ({"retries": 2}, 0.5, Decision(again=False, reason="exhausted")),
        ({"replayable": False}, 0.5, Decision(again=False, reason="not replayable")),
        ({"remaining": 0.501}, 0.5, Decision(again=True, wait=0.5, cost=1)),
        ({"remaining": 0.5}, 0.5, Decision(again=False, reason="deadline")),
    ],
)
def test_a_retry_that_is_due_is_bounded_by_count_body_and_deadline(
    facts: dict[str, Any], wait: float, expected: Decision
) -> None:
    """A wait that uses up the deadline leaves nothing for the attempt behind it."""
    assert decided(Failure.DIED, wait=wait, **facts) == expected


@pytest.mark.parametrize(
    ("has_retried_free", "expected"),
    [
        (False, Decision(again=True, wait=0.0, cost=0)),
        (True, Decision(again=True, wait=0.5, cost=1)),
    ],
)
def test_the_first_stale_reuse_is_free_and_does_not_wait(
    has_retried_free: bool, expected: Decision
) -> None:
    """Rows 5, 6 and 8, for a request that is not idempotent too."""
    facts = Facts(retries=0, idempotent=False, has_retried_free=has_retried_free)

    assert decide(rule_of(Failure.DIED, stale=True), RetryPolicy(), facts, 0.5) == expected


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
    """A balancer that cuts a long wait says nothing about idle connections: the server worked."""
    assert is_stale(attempt_in(Phase.WAIT, now=100.0, **facts)) == expected


# Which failure it was: phase, facts, the fault that the transport met


def caused(outer: Exception, *inner: BaseException) -> Exception:
    """Chain exceptions by ``__cause__``."""
    at: BaseException = outer
    for each in inner:
        at.__cause__ = each
        at = each
    return outer


RESET = ConnectionResetError(errno.ECONNRESET, "reset")
EPIPE = BrokenPipeError(errno.EPIPE, "pipe")
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
ETIMEDOUT = TimeoutError(errno.ETIMEDOUT, "timed out")
SILENCE = TimeoutError("timed out")
TLS_EOF = ssl.SSLEOFError(8, "eof")
TLS_ZERO = ssl.SSLZeroReturnError(6, "zero")
EXPIRED = ssl.SSLCertVerificationError(1, "expired")
BAD_PROTOCOL = ssl.SSLError(1, "wrong version number")
GONE = http.client.RemoteDisconnected("end")
HALF_LINE = http.client.BadStatusLine("HTT")
SSH = http.client.BadStatusLine("SSH-2.0-OpenSSH\r\n")
MANY_FIELDS = http.client.HTTPException("got more than 100 headers")


def refused_by_alert(reason: str = "TLSV13_ALERT_CERTIFICATE_REQUIRED") -> ssl.SSLError:
    """The error of a read after the peer's TLS has refused a client behind the handshake."""
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


def names(*names: str) -> list[BaseException]:
    """The resolver's errors, as far as this platform knows those numbers."""
    numbers = [getattr(socket, name) for name in names if hasattr(socket, name)]
    return [socket.gaierror(number, "a name") for number in numbers]


HICCUPS = names("EAI_AGAIN", "EAI_FAIL", "EAI_NODATA", "EAI_MEMORY")
BROKEN: dict[str, Any] = {"send_failed": True}
HALF_SENT: dict[str, Any] = {"send_failed": True, "bytes_sent": 9}
BEGUN: dict[str, Any] = {"bytes_received": 9}

FAILURES: list[tuple[Failure, Phase, dict[str, Any], Sequence[BaseException]]] = [
    (
        Failure.NO_CONNECTION,
        Phase.CONNECT,
        {},
        [
            REFUSED,
            OSError(errno.ENETUNREACH, "no route"),
            OSError(errno.EHOSTUNREACH, "no route"),
            SILENCE,
            *HICCUPS,
        ],
    ),
    (
        Failure.UNKNOWN_HOST,
        Phase.CONNECT,
        {},
        [*names("EAI_NONAME"), urllib3.exceptions.LocationParseError("a..b")],
    ),
    (Failure.HANDSHAKE_CUT, Phase.HANDSHAKE, {}, [RESET, TLS_EOF, TLS_ZERO, SILENCE, GONE]),
    (Failure.CERTIFICATE, Phase.HANDSHAKE, {}, [EXPIRED, BAD_PROTOCOL, refused_by_alert()]),
    (Failure.UNREADABLE, Phase.HANDSHAKE, {}, [SSH]),
    *(
        (Failure.PROXY_BUSY, Phase.HANDSHAKE, {"proxy_status": status}, [OSError("tunnel")])
        for status in (502, 503, 504)
    ),
    *(
        (Failure.PROXY_REFUSAL, Phase.HANDSHAKE, {"proxy_status": status}, [OSError("tunnel")])
        for status in (407, 500, 501, 505)
    ),
    (Failure.HANDSHAKE_CUT, Phase.HANDSHAKE, {"proxy_status": 200}, [RESET]),
    (Failure.SEND_FAILED, Phase.SEND, BROKEN, [RESET]),
    (Failure.SEND_FAILED, Phase.SEND, HALF_SENT, [EPIPE, SILENCE, GONE]),
    (Failure.SEND_FAILED, Phase.HEAD, {**BROKEN, **BEGUN}, [RESET]),
    (Failure.CERTIFICATE, Phase.SEND, BROKEN, [refused_by_alert()]),
    (Failure.SEND_FAILED, Phase.SEND, {**BROKEN, "reused": True}, [refused_by_alert()]),
    (Failure.DIED, Phase.WAIT, {}, [RESET, GONE, EPIPE, ETIMEDOUT, TLS_EOF, TLS_ZERO]),
    (Failure.CERTIFICATE, Phase.WAIT, {}, [refused_by_alert()]),
    (Failure.DIED, Phase.WAIT, {"reused": True}, [refused_by_alert()]),
    (Failure.RESPONSE_TIMEOUT, Phase.WAIT, {}, [SILENCE]),
    (Failure.RESPONSE_TIMEOUT, Phase.HEAD, BEGUN, [SILENCE]),
    (
        Failure.HEAD_CUT,
        Phase.HEAD,
        BEGUN,
        # A peer that leaves behind an interim answer says nothing.
        [RESET, ETIMEDOUT, HALF_LINE, http.client.IncompleteRead(b""), GONE],
    ),
    (
        Failure.UNREADABLE,
        Phase.HEAD,
        BEGUN,
        [
            http.client.BadStatusLine("ICY 200 OK\r\n"),
            http.client.LineTooLong("header line"),
            http.client.UnknownProtocol("HTTP/2.0"),
            MANY_FIELDS,
        ],
    ),
    (
        Failure.BODY_CUT,
        Phase.BODY,
        {},
        [
            StreamBroken("cut"),
            caused(StreamBroken("cut"), ETIMEDOUT),
            caused(StreamBroken("cut"), urllib3.exceptions.ProtocolError("a chunk has no size")),
            caused(StreamBroken("cut"), http.client.LineTooLong("chunk size")),
        ],
    ),
    (Failure.BODY_STALLED, Phase.BODY, {}, [caused(StreamIdle(), SILENCE)]),
    (Failure.OTHER, Phase.BODY, {}, [requests.exceptions.ContentDecodingError()]),
    (Failure.OTHER, Phase.WAIT, {}, [KeyboardInterrupt(), GeneratorExit()]),
]


@pytest.mark.parametrize(
    ("phase", "facts", "fault", "expected"),
    [
        pytest.param(phase, facts, fault, expected, id=f"{phase}-{fault!r}-{expected.name}")
        for expected, phase, facts, faults in FAILURES
        for fault in faults
    ],
)
def test_a_failure_is_told_by_phase_errno_and_class(
    phase: Phase, facts: dict[str, Any], fault: BaseException, expected: Failure
) -> None:
    """The fault is the one that the transport has noted."""
    attempt = attempt_in(phase, fault=fault, **facts)

    assert failure_of(fault, attempt) is expected


def in_args(error: BaseException) -> Exception:
    """Behind ``args``, as requests does."""
    return requests.ConnectionError(urllib3.exceptions.ProtocolError("aborted", error))


def in_reason(error: Exception) -> Exception:
    """Behind ``reason``, as urllib3 does."""
    return requests.ConnectionError(urllib3.exceptions.MaxRetryError(NO_POOL, "/", error))


def in_cause(error: BaseException) -> Exception:
    """Behind ``__cause__``."""
    return caused(requests.ConnectionError("text that says nothing"), error)


@pytest.mark.parametrize("link", [in_args, in_reason, in_cause])
@pytest.mark.parametrize(
    ("phase", "fault", "expected"),
    [
        (Phase.CONNECT, names("EAI_NONAME")[0], Failure.UNKNOWN_HOST),
        (Phase.HANDSHAKE, EXPIRED, Failure.CERTIFICATE),
        (Phase.WAIT, SILENCE, Failure.RESPONSE_TIMEOUT),
        (Phase.WAIT, RESET, Failure.DIED),
    ],
    ids=["name", "certificate", "silence", "reset"],
)
def test_a_fault_is_found_behind_each_link(
    link: Callable[[BaseException], Exception], phase: Phase, fault: Exception, expected: Failure
) -> None:
    """Requests and urllib3 spread the links over three places."""
    wrapped = link(fault)

    assert failure_of(wrapped, attempt_in(phase, fault=wrapped)) is expected


def test_an_exception_that_the_caller_was_handling_is_another_story() -> None:
    """``__context__`` may lead to it: a certificate that was refused before is another call's."""
    error = requests.ConnectionError("text that says nothing")
    error.__context__ = EXPIRED

    assert list(causes(error)) == [error]
    assert failure_of(error, attempt_in(Phase.WAIT, fault=error)) is Failure.DIED


@pytest.mark.parametrize("phase", [Phase.CONNECT, Phase.HANDSHAKE, Phase.SEND, Phase.WAIT])
def test_an_error_without_a_fault_of_the_transport_is_none_of_it(phase: Phase) -> None:
    """A hook of the caller, its body, a tracer; a signal's may come behind the last byte."""
    error = ValueError("from outside")

    assert failure_of(error, attempt_in(phase, sends=1)) is Failure.OTHER


@pytest.mark.parametrize("phase", list(Phase)[1:-1])
@pytest.mark.parametrize("error", [LookupError("mine"), TimeoutError("mine")], ids=repr)
def test_an_exception_of_the_caller_is_none_of_the_transport(
    phase: Phase, error: Exception
) -> None:
    """It was raised in the caller's code, here this test, while the transport waited."""
    attempt = attempt_in(phase)
    with pytest.raises(type(error)):
        raise error
    attempt.failed(error)

    assert attempt.foreign is error
    assert failure_of(error, attempt) is Failure.OTHER


# An adapter with a pool of its own, and a mock: no phase is known


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (in_reason(urllib3.exceptions.NewConnectionError(NO_POOL, "x")), Failure.NO_CONNECTION),
        (in_reason(urllib3.exceptions.ConnectTimeoutError(NO_POOL, "x")), Failure.NO_CONNECTION),
        (requests.ConnectTimeout("a mock's"), Failure.NO_CONNECTION),
        (in_reason(HICCUPS[0]), Failure.NO_CONNECTION),  # type: ignore[arg-type]
        (in_reason(names("EAI_NONAME")[0]), Failure.UNKNOWN_HOST),  # type: ignore[arg-type]
        (in_args(REFUSED), Failure.DIED),
        (in_args(RESET), Failure.DIED),
        (in_args(GONE), Failure.DIED),
        (requests.ConnectionError("a mock's"), Failure.DIED),
        (in_args(EXPIRED), Failure.CERTIFICATE),
        (requests.ReadTimeout("a mock's"), Failure.RESPONSE_TIMEOUT),
        (in_args(SILENCE), Failure.RESPONSE_TIMEOUT),
        (in_args(SSH), Failure.UNREADABLE),
        (urllib3.exceptions.ClosedPoolError(NO_POOL, "closed"), Failure.POOL_CLOSED),
        (requests.exceptions.InvalidSchema("x"), Failure.OTHER),
        (requests.exceptions.ChunkedEncodingError("a mock's"), Failure.OTHER),
    ],
    ids=repr,
)
def test_a_connection_that_is_not_ours_is_judged_by_urllib3s_classes(
    error: Exception, expected: Failure
) -> None:
    """Only three of them say that nothing was sent: a reset may come after the server acted."""
    assert failure_of(error, attempt_in(Phase.START)) is expected


def test_text_never_decides() -> None:
    """No status and no timeout stands in "read tcp …:443: timed out"."""
    error = requests.ConnectionError("Read timed out. certificate verify failed: 443, [Errno 104]")

    assert failure_of(error, attempt_in(Phase.WAIT, fault=error)) is Failure.DIED
    assert errno_of(error) is None


def test_a_chain_that_bites_its_tail_ends() -> None:
    """An exception may be its own cause's argument."""
    one, two = ValueError("1"), ValueError("2")
    one.__cause__, two.__cause__ = two, one
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
    """A stream, a status, a wrong argument, a slow answer and the caller's own acts never are."""
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
    """If the exception has no attempts, its class has to tell."""
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
