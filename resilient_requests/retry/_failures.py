"""The kind of a failure, from the recorded fault: by phase, errno and class, never by text."""

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

# Seconds after the last byte sent. A reused connection that dies later was not stale: the server
# was at work, or a balancer cut a long wait.
_STALE_WITHIN = 5.0

# Answers of a proxy to CONNECT that may be different next time.
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
# Errors that mean a cut body; a body that cannot be decoded was not cut.
_CUTS = (StreamBroken, urllib3.exceptions.ProtocolError, ConnectionError, ssl.SSLError)


def is_stale(attempt: Attempt) -> bool:
    """Return True if the idleness of a reused connection explains the failure."""
    if not attempt.reused or attempt.bytes_received:
        return False
    return attempt.sent_at is None or attempt.token.boot() - attempt.sent_at <= _STALE_WITHIN


_ENDED_BY: dict[type, str] = {
    Cancelled: "cancelled",
    DeadlineExceeded: "deadline",
    requests.ConnectionError: "shut down",
}


def ended_by(error: BaseException | None) -> str:
    """Return the ``stopped_by`` for an error that ended the call; "policy" for any other."""
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
    fault = attempt.fault  # None: the caller's code raised, such as an auth hook or a tracer
    return (
        Failure.OTHER if fault is None else _BY_PHASE[attempt.phase](list(causes(fault)), attempt)
    )


def _of_another_transport(error: Exception, chain: list[BaseException]) -> Failure:
    """Classify the error of a mock, or of a pool that is not ours, by urllib3's classes.

    Only three of these classes say that nothing was sent.
    """
    name = next((each for each in chain if isinstance(each, socket.gaierror)), None)
    if name is not None:
        return _of_name(name)
    is_bare = type(error) is requests.ConnectionError and len(chain) == 1  # raised by a mock
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
    # socket.timeout is TimeoutError since Python 3.10, and the kernel's ETIMEDOUT raises that class
    # too. ETIMEDOUT is a death of the connection.
    return any(isinstance(each, TimeoutError) and each.errno != errno.ETIMEDOUT for each in chain)


def _is_verdict(error: BaseException) -> bool:
    """Return True if TLS refused a certificate, a name, a fingerprint or the protocol."""
    if isinstance(error, urllib3.exceptions.SSLError):
        # urllib3's class wraps errors of the ssl module, which the chain has as well. Without one
        # inside, the verdict is urllib3's own.
        return not any(isinstance(each, BaseException) for each in error.args)
    if isinstance(error, (*_TLS_ENDS, TimeoutError)):
        return False
    return isinstance(error, (ssl.SSLError, ssl.CertificateError)) or _is_name_mismatch(error)


def _is_name_mismatch(error: BaseException) -> bool:
    # urllib3's class of that name does not derive from the ssl module's.
    return type(error).__name__ == "CertificateError" and isinstance(error, ValueError)


def _is_alert(error: BaseException) -> bool:
    """Return True if the peer's TLS refused us; TLS 1.3 tells that after the handshake."""
    # Only the ssl module sets a reason: urllib3 makes pyOpenSSL's errors without one.
    return isinstance(error, ssl.SSLError) and "ALERT" in (getattr(error, "reason", None) or "")


def _connecting(chain: list[BaseException], attempt: Attempt) -> Failure:  # noqa: ARG001
    name = next((each for each in chain if isinstance(each, socket.gaierror)), None)
    if name is not None:
        return _of_name(name)
    # A malformed name never reaches a resolver.
    if _has(chain, urllib3.exceptions.LocationValueError):
        return Failure.UNKNOWN_HOST
    if any(map(_is_refusal_of_socks, chain)):
        return Failure.PROXY_REFUSAL
    # Any other error of a dial comes before the first byte of the request. An example is a SOCKS
    # server that cannot reach the host.
    return Failure.CERTIFICATE if any(map(_is_verdict, chain)) else Failure.NO_CONNECTION


# RFC 1928, section 6: not allowed by the ruleset, command or address type not supported.
_FINAL_REPLIES = frozenset({0x02, 0x07, 0x08})


def _is_refusal_of_socks(error: BaseException) -> bool:
    """Return True if a SOCKS 5 server will answer the same next time.

    By the name of the class, since PySocks is an optional dependency.
    """
    kind = type(error).__name__
    if kind != "SOCKS5Error":
        return kind == "SOCKS5AuthError"
    # The code of a reply has no attribute: the message is "0x02: Connection not allowed by ...".
    code = str(getattr(error, "msg", "")).partition(":")[0]
    return code.startswith("0x") and int(code, 16) in _FINAL_REPLIES


def _handshaking(chain: list[BaseException], attempt: Attempt) -> Failure:  # noqa: ARG001
    if any(map(_is_unreadable, chain)):
        return Failure.UNREADABLE
    return Failure.CERTIFICATE if any(map(_is_verdict, chain)) else Failure.HANDSHAKE_CUT


def _sending(chain: list[BaseException], attempt: Attempt) -> Failure:
    is_refused = not attempt.reused and any(map(_is_alert, chain))
    return Failure.CERTIFICATE if is_refused else Failure.SEND_FAILED


def _waiting(chain: list[BaseException], attempt: Attempt) -> Failure:
    if not attempt.reused and not attempt.bytes_received and any(map(_is_alert, chain)):
        return Failure.CERTIFICATE
    if attempt.send_failed:  # not sent whole, hence not applied, with any answer
        return Failure.SEND_FAILED
    if _is_timeout(chain):
        return Failure.RESPONSE_TIMEOUT
    if any(map(_is_unreadable, chain)):
        return Failure.UNREADABLE
    return Failure.HEAD_CUT if attempt.bytes_received else Failure.DIED


def _is_unreadable(error: BaseException) -> bool:
    if isinstance(error, http.client.BadStatusLine):
        # Without a line end, the connection ended inside the line or before it.
        return str(getattr(error, "line", "")).endswith("\n")
    is_http = isinstance(error, http.client.HTTPException)
    return is_http and not isinstance(error, http.client.IncompleteRead)


def _reading(chain: list[BaseException]) -> Failure:
    if _is_timeout(chain):
        return Failure.BODY_STALLED
    return Failure.BODY_CUT if _has(chain, *_CUTS) else Failure.OTHER


_BY_PHASE: dict[Phase, Callable[[list[BaseException], Attempt], Failure]] = {
    Phase.CONNECT: _connecting,
    Phase.HANDSHAKE: _handshaking,
    Phase.SEND: _sending,
    Phase.WAIT: _waiting,
    Phase.HEAD: _waiting,
}


def is_transient(exc: BaseException) -> bool:
    """Return True if the call might succeed when repeated, by the rules for retries.

    For your own loops around a call (Celery, tenacity). True if only the count, the budget or the
    deadline has stopped the retries, which is so for refused connections and DNS hiccups, and for
    resets if the request is safe to repeat. False for a response timeout, a certificate error, an
    unknown host, an answer that is not HTTP, a status that the policy does not list, each
    `StreamError`, `Cancelled` and `DeadlineExceeded`. An error without ``attempts`` is judged by
    its class alone. Takes any exception, raises nothing; thread-safe.
    """
    # RetryError stands for a status.
    answers = (StreamError, DeadlineExceeded, requests.exceptions.RetryError)
    if not isinstance(exc, requests.RequestException) or isinstance(exc, answers):
        return False
    attempts = getattr(exc, "attempts", None)
    if attempts is None:
        return _is_transient_unrecorded(exc)
    # No attempt at all: the adapter was shut down before the first.
    return bool(attempts) and attempts[-1].stopped_by in ("exhausted", "budget", "deadline")


def _is_transient_unrecorded(error: requests.RequestException) -> bool:
    chain = list(causes(error))
    # urllib3's ReadTimeoutError means a stalled response, under each class of requests. A dial or a
    # send that timed out has other classes.
    ends = (
        Cancelled,
        urllib3.exceptions.ReadTimeoutError,
        requests.exceptions.ChunkedEncodingError,
    )
    if any(isinstance(each, ends) or _is_unreadable(each) for each in chain):
        return False
    if not isinstance(error, requests.ConnectionError):
        return False  # statuses, URLs, ReadTimeout; but a ConnectTimeout is a ConnectionError
    failure = _of_another_transport(error, chain)
    if failure in (Failure.UNKNOWN_HOST, Failure.CERTIFICATE):
        return False
    ended = (http.client.RemoteDisconnected, http.client.BadStatusLine, *_TLS_ENDS[:2])
    is_bare = type(error) in (requests.ConnectionError, requests.ConnectTimeout) and len(chain) == 1
    is_death = errno_in(chain) is not None or any(isinstance(each, ended) for each in chain)
    return failure is Failure.NO_CONNECTION or is_bare or is_death or _is_timeout(chain)


def learn(attempt: Attempt, rule: Rule | None, ended: BaseException | None) -> None:
    """Retire the origin's connections and narrow its window, if the failure implicates them.

    ``ended`` is the error of the call's end, None if the call did not end.
    """
    lease = attempt.lease
    if lease is None:
        return
    # A deadline in silence on a reused connection is the only sign of a path that drops packets
    # without a word.
    in_silence = attempt.reused and attempt.phase is Phase.WAIT
    if isinstance(ended, DeadlineExceeded) and in_silence:
        lease.retire("deadline in silence", attempt.token.id)
    elif rule is not None and rule.retires:
        lease.retire(rule.failure.value, attempt.token.id)
    if rule is not None and rule.teaches and attempt.idle_for is not None:
        lease.was_stale(attempt.idle_for)
