"""Connections that are dialled before a request needs them."""

from __future__ import annotations

import http.client
import queue
import ssl
from typing import TYPE_CHECKING, Any

import requests
import urllib3.exceptions
from urllib3.util.proxy import connection_requires_http_tunnel

from resilient_requests.call import Instant
from resilient_requests.transport._connection import RecyclingConnection
from resilient_requests.transport._keepalive import window_of

if TYPE_CHECKING:
    from resilient_requests.call import Attempt
    from resilient_requests.transport._pool import RecyclingPool

__all__ = ["WARM_FAILURES", "as_requests", "warm"]

WARM_FAILURES = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)
"""Errors of a dial; the end of its call raises others."""


def warm(pool: RecyclingPool, connections: int, lasting: float, attempt: Attempt) -> int:
    """Dial until ``connections`` idle connections will last; return the number of idle ones.

    ``lasting``: seconds for which a connection must stay usable to count. Connections in use take
    their share of the pool's size. Raises the error of a dial that fails; connections dialled
    before it stay in the pool.
    """
    if window_of(pool.state.policy, None) <= lasting:
        return len(pool.idle)  # a new connection would expire at once
    places = _take_places(pool, connections, lasting)
    try:
        while places:
            conn = pool._new_conn()
            try:
                conn.serve(attempt, None)
                _connect(pool, conn)
            except BaseException:
                conn.close()
                raise
            places -= 1
            pool._put_conn(conn)
    finally:
        for _ in range(places):
            _queue(pool).put(None, block=False)
    return len(pool.idle)


def _connect(pool: RecyclingPool, conn: Any) -> None:
    """Prepare a connection as urllib3's ``urlopen`` does before it sends."""
    if pool.proxy is not None and connection_requires_http_tunnel(
        pool.proxy, pool.proxy_config, pool.scheme
    ):
        pool._prepare_proxy(conn)
    pool._validate_conn(conn)
    if conn.sock is None:
        conn.connect()


def _take_places(pool: RecyclingPool, connections: int, lasting: float) -> int:
    """Take a place from the queue for each missing connection; return their number."""
    waiting, now = _queue(pool), pool.state.clock()
    later = Instant(*(each + lasting for each in now))
    taken: list[Any] = []
    ageing: list[RecyclingConnection] = []
    places = 0
    while connections > places + len(taken) - len(ageing):
        try:
            conn = waiting.get(block=False)
        except queue.Empty:  # the pool is at its size, or its connections are in use
            break
        if not isinstance(conn, RecyclingConnection | None):
            taken.append(conn)  # another package's class, as vcrpy sets one
            continue
        if conn is None or not _is_usable(pool, conn, now):
            places += 1
            continue
        taken.append(conn)
        if pool.state.reason_to_close(conn, later) is not None:
            ageing.append(conn)
    while ageing and connections > places + len(taken) - len(ageing):
        oldest = ageing.pop()
        taken.remove(oldest)
        _discard(pool, oldest, "about to expire", now)
        places += 1
    for conn in reversed(taken):  # the queue is last in, first out
        waiting.put(conn, block=False)
    return places


def _is_usable(pool: RecyclingPool, conn: RecyclingConnection, now: Instant) -> bool:
    """Return True if an idle connection can be reused now; close it if not."""
    if conn not in pool.idle:
        return False
    reason = pool.state.reason_to_close(conn, now)
    if reason is None and not conn.is_connected:
        reason = "closed by the peer, or unread bytes"
    if reason is not None:
        _discard(pool, conn, reason, now)
    return reason is None


def _discard(pool: RecyclingPool, conn: RecyclingConnection, reason: str, now: Instant) -> None:
    if pool.idle.pop(conn, pool) is None:  # otherwise another thread has closed it
        pool.state.recycled(conn, reason, now, None)


def _queue(pool: RecyclingPool) -> queue.LifoQueue[Any]:
    if pool.pool is None:
        raise urllib3.exceptions.ClosedPoolError(pool, "Pool is closed.")
    return pool.pool


def as_requests(
    error: Exception, request: requests.PreparedRequest, *, is_of_proxy: bool
) -> requests.RequestException:
    """Return the error that requests raises for a call with this failed dial."""
    kind: type[requests.RequestException] = requests.ConnectionError
    # urllib3 derives a refused connection from ConnectTimeoutError; for requests it is no timeout.
    is_refused = isinstance(error, urllib3.exceptions.NewConnectionError)
    timeouts = (TimeoutError, urllib3.exceptions.ConnectTimeoutError)
    if isinstance(error, timeouts) and not is_refused:
        kind = requests.ConnectTimeout
    elif isinstance(error, (ssl.SSLError, ssl.CertificateError, urllib3.exceptions.SSLError)):
        kind = requests.exceptions.SSLError
    elif is_of_proxy:
        kind = requests.exceptions.ProxyError
    return kind(error, request=request)
