"""One table: which failure, in which phase, of which request, is replayed."""

from __future__ import annotations

import enum
import errno
import http.client
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests
import urllib3.exceptions

from resilient_requests.call._attempt import Attempt, Phase
from resilient_requests.call._causes import causes, errno_in
from resilient_requests.exceptions import Cancelled, DeadlineExceeded, StreamBroken, StreamError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "IDEMPOTENT",
    "Failure",
    "Verdict",
    "ended_by",
    "failure_of",
    "is_transient",
    "judge",
]

# RFC 9110 9.2.2, and QUERY of draft-ietf-httpbis-safe-method-w-body.
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})

# A reused connection that dies later than this after the last byte was not stale: the server was at work.
_STALE_WITHIN = 5.0


class Failure(enum.Enum):
    """What went wrong, as the retry rules tell failures apart; values are for logs and events."""

    NO_CONNECTION = "no connection"  # DNS hiccup, refused, no route, connect timeout
    UNKNOWN_HOST = "unknown host"
    CERTIFICATE = "certificate or TLS protocol"
    HANDSHAKE_CUT = "handshake cut"  # TLS or CONNECT: reset, end or silence
    PROXY_BUSY = "proxy busy"
    PROXY_REFUSAL = "proxy refusal"
    SEND_FAILED = "send failed"
    DIED = "connection died"  # no byte of a response
    HEAD_CUT = "response head cut"
    UNREADABLE = "unreadable answer"  # it came, and is not HTTP
    RESPONSE_TIMEOUT = "response timeout"
    BODY_CUT = "body cut"
    BODY_STALLED = "body stalled"
    POOL_CLOSED = "pool closed"
    STATUS = "status"
    OTHER = "not a failure of the transport"


class _When(enum.Enum):
    """Whose request a failure replays."""

    NEVER = "never"
    ALWAYS = "always"
    IDEMPOTENT = "idempotent"
    LISTED = "listed"  # idempotent, or its status is one that is repeated for all
    CONFIGURED = "configured"  # retry_response_timeout, once, and idempotent


@dataclass(frozen=True)
class _Row:
    when: _When
    cost: int
    retires: bool
    at_once: bool = False
    teaches: bool = False


# The numbers are the rows of the rules' table in the documentation ("What is retried").
_TABLE: dict[tuple[Failure, bool], _Row] = {}  # (failure, stale reuse)
for _failure, _fresh, _stale in (
    (Failure.NO_CONNECTION, _Row(_When.ALWAYS, 1, retires=False), None),  # 1
    (Failure.UNKNOWN_HOST, _Row(_When.NEVER, 0, retires=False), None),  # 2
    (Failure.CERTIFICATE, _Row(_When.NEVER, 0, retires=False), None),  # 2
    (Failure.HANDSHAKE_CUT, _Row(_When.ALWAYS, 1, retires=True), None),  # 3
    (Failure.PROXY_BUSY, _Row(_When.ALWAYS, 1, retires=False), None),  # 3b
    (Failure.PROXY_REFUSAL, _Row(_When.NEVER, 0, retires=False), None),  # 3b
    (
        Failure.SEND_FAILED,
        _Row(_When.ALWAYS, 1, retires=True),  # 7
        _Row(_When.ALWAYS, 1, retires=True, at_once=True, teaches=True),  # 5, 6
    ),
    (
        Failure.DIED,
        _Row(_When.IDEMPOTENT, 1, retires=True),  # 9, 10
        _Row(_When.ALWAYS, 1, retires=True, at_once=True, teaches=True),  # 8
    ),
    (Failure.HEAD_CUT, _Row(_When.IDEMPOTENT, 1, retires=True), None),  # 11
    (Failure.UNREADABLE, _Row(_When.NEVER, 0, retires=False), None),  # 11b
    (Failure.RESPONSE_TIMEOUT, _Row(_When.CONFIGURED, 2, retires=True), None),  # 12
    (Failure.BODY_CUT, _Row(_When.IDEMPOTENT, 2, retires=True), None),  # 14
    (Failure.BODY_STALLED, _Row(_When.CONFIGURED, 2, retires=True), None),  # 15
    (Failure.STATUS, _Row(_When.LISTED, 1, retires=False), None),  # 17
    (Failure.POOL_CLOSED, _Row(_When.ALWAYS, 0, retires=False, at_once=True), None),  # 18
    (Failure.OTHER, _Row(_When.NEVER, 0, retires=False), None),  # 19
):
    _TABLE[_failure, False] = _fresh
    _TABLE[_failure, True] = _stale or _fresh


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What follows from a failure.

    ``replay``: may the request be sent again; ``cost`` in tokens of the budget; ``at_once``: the first such retry
    of a call neither waits nor costs; ``retires`` the origin's connections; ``teaches`` the adaptive window.
    """

    failure: Failure
    replay: bool
    cost: int
    at_once: bool
    retires: bool
    teaches: bool


def judge(
    failure: Failure,
    *,
    stale: bool,
    idempotent: bool,
    response_timeouts: bool = False,
    for_all: bool = False,
) -> Verdict:
    """Return what the rules say.

    ``stale``: the connection was reused and died in time to be blamed on its idleness; ``idempotent``: by method
    or by declaration; ``response_timeouts``: the caller has opted in to one replay, not yet used; ``for_all``: a
    status that is replayed whatever the method.
    """
    row = _TABLE[failure, stale]
    replay = (
        row.when is _When.ALWAYS
        or (row.when is _When.IDEMPOTENT and idempotent)
        or (row.when is _When.LISTED and (idempotent or for_all))
        or (row.when is _When.CONFIGURED and response_timeouts and idempotent)
    )
    return Verdict(
        failure=failure,
        replay=replay,
        cost=row.cost,
        at_once=row.at_once,
        retires=row.retires,
        teaches=row.teaches,
    )


def is_stale(attempt: Attempt, now: float) -> bool:
    """Whether a failure of this attempt is to be blamed on the idleness of its reused connection."""
    if not attempt.reused or attempt.bytes_received:
        return False
    return attempt.sent_at is None or now - attempt.sent_at <= _STALE_WITHIN


_ENDED_BY: dict[type, str] = {
    Cancelled: "cancelled",
    DeadlineExceeded: "deadline",
    requests.ConnectionError: "shut down",
}


def ended_by(error: BaseException | None) -> str:
    """Return what ``stopped_by`` says where an error ended the call, whatever the rules would have allowed."""
    return _ENDED_BY.get(type(error), "policy")


def failure_of(  # noqa: PLR0911  # one per rule
    error: BaseException, attempt: Attempt, handled: BaseException | None = None
) -> Failure:
    """Classify what ended an attempt, by phase, errno and class along the whole chain, never by text."""
    if not isinstance(error, Exception):
        return Failure.OTHER
    chain = list(causes(error, handled))
    if any(isinstance(each, urllib3.exceptions.ClosedPoolError) for each in chain):
        return Failure.POOL_CLOSED
    if attempt.proxy_status is not None and not 200 <= attempt.proxy_status < 300:
        return (
            Failure.PROXY_BUSY if attempt.proxy_status in (502, 503, 504) else Failure.PROXY_REFUSAL
        )
    if attempt.phase is Phase.START:
        return _of_connecting(chain) or (
            Failure.NO_CONNECTION if _is_bare(error) else Failure.OTHER
        )
    if attempt.fault is None and attempt.phase is not Phase.BODY:
        return Failure.OTHER  # the caller's own code raised: its body iterator, an auth hook
    if attempt.phase in (Phase.WAIT, Phase.HEAD):
        return _waiting(chain, attempt)
    return _BY_PHASE[attempt.phase](chain)


def _is_bare(error: BaseException) -> bool:
    # What a mock raises in place of the transport: ConnectionError itself and no subclass that says more.
    return type(error) in (requests.ConnectionError, requests.ConnectTimeout)


def _is_timeout(chain: list[BaseException]) -> bool:
    # Since Python 3.10 socket.timeout is TimeoutError, which the kernel's ETIMEDOUT raises too: that one is a death.
    return any(isinstance(each, TimeoutError) and each.errno != errno.ETIMEDOUT for each in chain)


# Resolvers that flap say all of these of names that exist; no platform has all of them.
_HICCUPS = frozenset(
    getattr(socket, name)
    for name in ("EAI_AGAIN", "EAI_FAIL", "EAI_NODATA", "EAI_MEMORY")
    if hasattr(socket, name)
)


def _of_connecting(chain: list[BaseException]) -> Failure | None:
    for each in chain:
        if isinstance(each, socket.gaierror):
            return Failure.NO_CONNECTION if each.errno in _HICCUPS else Failure.UNKNOWN_HOST
        if isinstance(
            each, urllib3.exceptions.LocationValueError
        ):  # no resolver is asked for a name that is none
            return Failure.UNKNOWN_HOST
    if any(_is_certificate(each) for each in chain):
        return Failure.CERTIFICATE
    if _is_timeout(chain) or errno_in(chain) is not None:
        return Failure.NO_CONNECTION
    return None


def _is_certificate(error: BaseException) -> bool:
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)):
        return False
    return isinstance(error, (ssl.SSLError, ssl.CertificateError)) and not isinstance(
        error, TimeoutError
    )


def _connecting(chain: list[BaseException]) -> Failure:
    if any(_is_refusal_of_socks(each) for each in chain):
        return Failure.PROXY_REFUSAL
    # Any other error of a dial (a SOCKS server that cannot reach the host) comes before a byte of the request.
    return _of_connecting(chain) or Failure.NO_CONNECTION


# RFC 1928, section 6: not allowed by the ruleset, command or address type not supported.
_FINAL_REPLIES = frozenset({0x02, 0x07, 0x08})


def _is_refusal_of_socks(error: BaseException) -> bool:
    """Whether a SOCKS 5 server will say the same next time; by class name: PySocks is an extra."""
    kind = type(error).__name__
    if kind != "SOCKS5Error":
        return kind == "SOCKS5AuthError"
    # The reply's code has no attribute of its own: "0x02: Connection not allowed by ruleset".
    code = str(getattr(error, "msg", "")).partition(":")[0]
    return code.startswith("0x") and int(code, 16) in _FINAL_REPLIES


def _handshaking(chain: list[BaseException]) -> Failure:
    if any(_is_unreadable(each) for each in chain):
        return Failure.UNREADABLE
    return (
        Failure.CERTIFICATE
        if any(_is_certificate(each) for each in chain)
        else Failure.HANDSHAKE_CUT
    )


def _sending(_: list[BaseException]) -> Failure:
    return Failure.SEND_FAILED


def _waiting(chain: list[BaseException], attempt: Attempt) -> Failure:
    if attempt.send_failed:  # whatever was answered: the request has not been applied
        return Failure.SEND_FAILED
    if _is_timeout(chain):
        return Failure.RESPONSE_TIMEOUT
    if any(_is_unreadable(each) for each in chain):
        return Failure.UNREADABLE
    return Failure.HEAD_CUT if attempt.bytes_received else Failure.DIED


def _is_unreadable(error: BaseException) -> bool:
    if isinstance(error, http.client.BadStatusLine):
        return str(getattr(error, "line", "")).endswith(
            "\n"
        )  # else the connection ended inside the line, or before it
    return isinstance(error, http.client.HTTPException) and not isinstance(
        error, http.client.IncompleteRead
    )


# A body that cannot be decoded was not cut.
_CUTS = (StreamBroken, urllib3.exceptions.ProtocolError, ConnectionError, ssl.SSLError)


def _reading(chain: list[BaseException]) -> Failure:
    if _is_timeout(chain):
        return Failure.BODY_STALLED
    if any(_is_unreadable(each) for each in chain):
        return Failure.UNREADABLE
    cut = any(isinstance(each, _CUTS) for each in chain)
    return Failure.BODY_CUT if cut else Failure.OTHER


_BY_PHASE: dict[Phase, Callable[[list[BaseException]], Failure]] = {
    Phase.CONNECT: _connecting,
    Phase.HANDSHAKE: _handshaking,
    Phase.SEND: _sending,
    Phase.BODY: _reading,
}


def is_transient(exc: BaseException) -> bool:
    """Return whether a repetition of the call might succeed and would have been made before the response.

    For loops of your own (Celery, tenacity) around a call: True for refused, reset and timed-out connections and
    DNS hiccups, also when the retries or the budget were used up; False for a response timeout, a certificate
    error, an unknown host, an answer that is not HTTP, any status, every `StreamError`, `Cancelled` and
    `DeadlineExceeded`. Where the error carries ``attempts``, the last of them decides. Takes any exception; raises
    nothing.
    """
    answers = (
        StreamError,
        DeadlineExceeded,
        requests.exceptions.RetryError,
    )  # the last is a status
    if not isinstance(exc, requests.RequestException) or isinstance(exc, answers):
        return False
    attempts = getattr(exc, "attempts", None)
    if attempts is None:
        return _is_transient_unrecorded(exc)
    # None at all: the adapter was shut down before the first.
    return bool(attempts) and attempts[-1].stopped_by in ("exhausted", "budget", "deadline")


def _is_transient_unrecorded(error: requests.RequestException) -> bool:
    chain = list(causes(error))
    # A stalled response, whatever requests calls it; a dial or a send that timed out is another matter.
    ends = (
        Cancelled,
        urllib3.exceptions.ReadTimeoutError,
        requests.exceptions.ChunkedEncodingError,
    )
    if any(isinstance(each, ends) or _is_unreadable(each) for each in chain):
        return False
    if not isinstance(error, requests.ConnectionError):
        return False  # statuses, URLs, ReadTimeout; ConnectTimeout is a ConnectionError
    failure = _of_connecting(chain)
    if failure is Failure.NO_CONNECTION:
        return True
    ended = (
        http.client.RemoteDisconnected,
        http.client.BadStatusLine,
        ssl.SSLEOFError,
        ssl.SSLZeroReturnError,
    )
    return failure is None and (_is_bare(error) or any(isinstance(each, ended) for each in chain))
