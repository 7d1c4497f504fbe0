"""From the fault that the transport recorded to a kind of failure, by phase, errno and class, never by text."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
from typing import TYPE_CHECKING

import requests
import urllib3.exceptions

from resilient_requests.call import Attempt, Phase, causes, errno_in
from resilient_requests.exceptions import Cancelled, DeadlineExceeded, StreamBroken, StreamError
from resilient_requests.retry._rules import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilient_requests.retry._rules import Rule

__all__ = ["ended_by", "failure_of", "is_stale", "is_transient", "learn"]

# A reused connection that dies later than this after the last byte was not stale: the server was at
# work.
_STALE_WITHIN = 5.0

_BUSY_PROXY = (502, 503, 504)
# EAI_NODATA and EAI_MEMORY come and go on flapping resolvers; not every platform has them.
_HICCUPS = frozenset(
    getattr(socket, name)
    for name in ("EAI_AGAIN", "EAI_FAIL", "EAI_NODATA", "EAI_MEMORY")
    if hasattr(socket, name)
)
_TLS_ENDS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_UNREACHED = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.NameResolutionError,
)
# A body that cannot be decoded was not cut.
_CUTS = (StreamBroken, urllib3.exceptions.ProtocolError, ConnectionError, ssl.SSLError)


def is_stale(attempt: Attempt) -> bool:
    """Whether a failure of this attempt is to be blamed on the idleness of its reused connection."""
    if not attempt.reused or attempt.bytes_received:
        return False
    return attempt.sent_at is None or attempt.token.boot() - attempt.sent_at <= _STALE_WITHIN


_ENDED_BY: dict[type, str] = {
    Cancelled: "cancelled",
    DeadlineExceeded: "deadline",
    requests.ConnectionError: "shut down",
}


def ended_by(error: BaseException | None) -> str:
    """Return the ``stopped_by`` of an error that ended the call, whatever the rules would have allowed."""
    return _ENDED_BY.get(type(error), "policy")


def failure_of(error: BaseException, attempt: Attempt) -> Failure:
    """Return the kind of failure that ended an attempt."""
    if not isinstance(error, Exception) or attempt.foreign is not None:
        return Failure.OTHER
    chain = list(causes(error))
    if _has(chain, urllib3.exceptions.ClosedPoolError):
        return Failure.POOL_CLOSED
    status = attempt.proxy_status
    if status is not None and not 200 <= status < 300:
        return Failure.PROXY_BUSY if status in _BUSY_PROXY else Failure.PROXY_REFUSAL
    if attempt.phase is Phase.START:
        return _of_another_transport(error, chain)
    if attempt.phase is Phase.BODY:
        return _reading(chain)
    fault = attempt.fault  # None: the caller's own code raised, an auth hook or a tracer
    return (
        Failure.OTHER if fault is None else _BY_PHASE[attempt.phase](list(causes(fault)), attempt)
    )


def _of_another_transport(error: Exception, chain: list[BaseException]) -> Failure:
    """Judge the error of a pool that is not ours, or of a mock, by urllib3's classes.

    Only three of them say that nothing was sent.
    """
    name = next((each for each in chain if isinstance(each, socket.gaierror)), None)
    if name is not None:
        return _of_name(name)
    is_bare = type(error) is requests.ConnectionError and len(chain) == 1  # what a mock raises
    told = {
        Failure.UNKNOWN_HOST: _has(chain, urllib3.exceptions.LocationValueError),
        Failure.CERTIFICATE: any(map(_is_verdict, chain)),
        Failure.NO_CONNECTION: _has(chain, *_UNREACHED) or type(error) is requests.ConnectTimeout,
        Failure.RESPONSE_TIMEOUT: isinstance(error, requests.ReadTimeout) or _is_timeout(chain),
        Failure.UNREADABLE: any(map(_is_unreadable, chain)),
        Failure.DIED: is_bare or _has(chain, *_CUTS),
    }
    return next((failure for failure, is_it in told.items() if is_it), Failure.OTHER)


def _has(chain: list[BaseException], *kinds: type[BaseException]) -> bool:
    return any(isinstance(each, kinds) for each in chain)


def _of_name(error: socket.gaierror) -> Failure:
    return Failure.NO_CONNECTION if error.errno in _HICCUPS else Failure.UNKNOWN_HOST


def _is_timeout(chain: list[BaseException]) -> bool:
    # Since Python 3.10 socket.timeout is TimeoutError, which the kernel's ETIMEDOUT raises too:
    # that one is a death.
    return any(isinstance(each, TimeoutError) and each.errno != errno.ETIMEDOUT for each in chain)


def _is_verdict(error: BaseException) -> bool:
    """Whether TLS has said no: to a certificate, a name, a fingerprint, or the protocol."""
    if isinstance(error, urllib3.exceptions.SSLError):
        # It wraps the errors of the ssl module, which are judged themselves; else it is urllib3's
        # own.
        return not any(isinstance(each, BaseException) for each in error.args)
    if isinstance(error, (*_TLS_ENDS, TimeoutError)):
        return False
    return isinstance(error, (ssl.SSLError, ssl.CertificateError)) or _is_name_mismatch(error)


def _is_name_mismatch(error: BaseException) -> bool:
    # urllib3's own class of that name is no relation of the ssl module's.
    return type(error).__name__ == "CertificateError" and isinstance(error, ValueError)


def _is_alert(error: BaseException) -> bool:
    """Whether the peer's TLS has refused us: under TLS 1.3 that is told behind the handshake."""
    # Only the ssl module sets a reason: pyOpenSSL's stand-in makes the error without one.
    return isinstance(error, ssl.SSLError) and "ALERT" in (getattr(error, "reason", None) or "")


def _connecting(chain: list[BaseException], attempt: Attempt) -> Failure:  # noqa: ARG001  # one signature
    name = next((each for each in chain if isinstance(each, socket.gaierror)), None)
    if name is not None:
        return _of_name(name)
    # No resolver is asked for a name that is none.
    if _has(chain, urllib3.exceptions.LocationValueError):
        return Failure.UNKNOWN_HOST
    if any(map(_is_refusal_of_socks, chain)):
        return Failure.PROXY_REFUSAL
    # Any other error of a dial (a SOCKS server that cannot reach the host) comes before a byte of
    # the request.
    return Failure.CERTIFICATE if any(map(_is_verdict, chain)) else Failure.NO_CONNECTION


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


def _handshaking(chain: list[BaseException], attempt: Attempt) -> Failure:  # noqa: ARG001  # one signature
    if any(map(_is_unreadable, chain)):
        return Failure.UNREADABLE
    return Failure.CERTIFICATE if any(map(_is_verdict, chain)) else Failure.HANDSHAKE_CUT


def _sending(chain: list[BaseException], attempt: Attempt) -> Failure:
    is_refused = not attempt.reused and any(map(_is_alert, chain))
    return Failure.CERTIFICATE if is_refused else Failure.SEND_FAILED


def _waiting(chain: list[BaseException], attempt: Attempt) -> Failure:
    if not attempt.reused and not attempt.bytes_received and any(map(_is_alert, chain)):
        return Failure.CERTIFICATE
    if attempt.send_failed:  # whatever was answered: the request has not been applied
        return Failure.SEND_FAILED
    if _is_timeout(chain):
        return Failure.RESPONSE_TIMEOUT
    if any(map(_is_unreadable, chain)):
        return Failure.UNREADABLE
    return Failure.HEAD_CUT if attempt.bytes_received else Failure.DIED


def _is_unreadable(error: BaseException) -> bool:
    if isinstance(error, http.client.BadStatusLine):
        # Else the connection ended inside the line, or before it.
        return str(getattr(error, "line", "")).endswith("\n")
    is_http = isinstance(error, http.client.HTTPException)
    return is_http and not isinstance(error, http.client.IncompleteRead)


def _reading(chain: list[BaseException]) -> Failure:
    if _is_timeout(chain):
        return Failure.BODY_STALLED
    if any(map(_is_unreadable, chain)):
        return Failure.UNREADABLE
    return Failure.BODY_CUT if _has(chain, *_CUTS) else Failure.OTHER


_BY_PHASE: dict[Phase, Callable[[list[BaseException], Attempt], Failure]] = {
    Phase.CONNECT: _connecting,
    Phase.HANDSHAKE: _handshaking,
    Phase.SEND: _sending,
    Phase.WAIT: _waiting,
    Phase.HEAD: _waiting,
}


def is_transient(exc: BaseException) -> bool:
    """Return whether a repetition of the call might succeed and would have been made before the response.

    For loops of your own (Celery, tenacity) around a call: True for refused, reset and timed-out
    connections and DNS hiccups, also when the retries or the budget were used up; False for a response
    timeout, a certificate error, an unknown host, an answer that is not HTTP, any status, every
    `StreamError`, `Cancelled` and `DeadlineExceeded`. Where the error carries ``attempts``, the last of
    them decides. Takes any exception; raises nothing.
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
    # A stalled response, whatever requests calls it; a dial or a send that timed out is another
    # matter.
    ends = (
        Cancelled,
        urllib3.exceptions.ReadTimeoutError,
        requests.exceptions.ChunkedEncodingError,
    )
    if any(isinstance(each, ends) or _is_unreadable(each) for each in chain):
        return False
    if not isinstance(error, requests.ConnectionError):
        return False  # statuses, URLs, ReadTimeout; ConnectTimeout is a ConnectionError
    failure = _of_another_transport(error, chain)
    if failure in (Failure.UNKNOWN_HOST, Failure.CERTIFICATE):
        return False
    ended = (http.client.RemoteDisconnected, http.client.BadStatusLine, *_TLS_ENDS[:2])
    is_bare = type(error) in (requests.ConnectionError, requests.ConnectTimeout) and len(chain) == 1
    is_death = errno_in(chain) is not None or any(isinstance(each, ended) for each in chain)
    return failure is Failure.NO_CONNECTION or is_bare or is_death or _is_timeout(chain)


def learn(attempt: Attempt, rule: Rule | None, ended: BaseException | None) -> None:
    """Retire the origin's connections, and narrow its window, where a failure implicates them.

    ``ended``: what has ended the call, where that is not the failure.
    """
    lease = attempt.lease
    if lease is None:
        return
    # Silence on a reused connection that a deadline ended is the only sign that a path drops silently.
    in_silence = attempt.reused and attempt.phase is Phase.WAIT
    if isinstance(ended, DeadlineExceeded) and in_silence:
        lease.retire("deadline in silence", attempt.token.id)
    elif rule is not None and rule.retires:
        lease.retire(rule.failure.value, attempt.token.id)
    if rule is not None and rule.teaches and attempt.idle_for is not None:
        lease.was_stale(attempt.idle_for)
