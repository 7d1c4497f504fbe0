"""ResilientAdapter: retry( observe( send ) ) over recycling connections."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from resilient_requests import _checks
from resilient_requests.adapter._environment import is_on
from resilient_requests.adapter._settings import (
    DEFAULT_KEEPALIVE,
    DEFAULT_POLICY,
    DEFAULT_TCP,
    DEFAULT_TIMEOUTS,
    changed,
    keepalive_from,
    keyed_from,
    policy_from,
    tcp_from,
    timeouts_from,
)
from resilient_requests.call import (
    Attempt,
    CallTrace,
    CancelToken,
    Clock,
    Observer,
    Observers,
    Origin,
    Timeouts,
    as_urllib3,
    current_attempt,
    limits_of,
    now,
)
from resilient_requests.diagnosis import records
from resilient_requests.exceptions import portable
from resilient_requests.retry import (
    OriginBudgets,
    PolicyCarrier,
    RetryingCall,
    RetryPolicy,
    Sender,
    is_keyed,
    with_key,
)
from resilient_requests.stream import resilient
from resilient_requests.transport import (
    WARM_FAILURES,
    KeepAlivePolicy,
    PoolState,
    Rotation,
    TCPKeepAlive,
    TransportAdapter,
    as_requests,
    verification,
    warm,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resilient_requests.diagnosis import InFlight
    from resilient_requests.retry import KeyedRequests
    from resilient_requests.transport import AdapterStats

__all__ = ["ResilientAdapter"]


class ResilientAdapter(TransportAdapter):
    """Mount it on a ``requests.Session``: its calls survive networks that drop connections.

    ``pool_connections``, ``pool_maxsize`` and ``pool_block`` are requests' own. ``max_retries`` is
    a `RetryPolicy`, an int, or a urllib3 ``Retry``, which is translated. ``keepalive`` is a
    `KeepAlivePolicy`, or its expiry in seconds. ``timeouts`` are the limits of calls that give
    none. ``idempotency_keys`` selects the POSTs and PATCHes that get an ``Idempotency-Key``, which
    declares them safe to repeat: "streams" those with a streamed response, True all, False none.
    ``tcp_keepalive`` sets socket options; None leaves urllib3's. ``observers`` are callables that
    take one event.

    Thread-safe. Survives fork, pickle and copy; a copy starts with no connection. The environment
    variables ``RESILIENT_REQUESTS_KEEPALIVE``, ``_MAX_RETRIES``, ``_STREAM_IDLE`` and ``_DISABLE``
    are read here, once; arguments win. Raises TypeError or ValueError naming the parameter.
    """

    _is_disabled = True  # until the constructor runs, which a subclass may leave out
    _carrier: urllib3.Retry  # the value of ``max_retries``
    _written_over: RetryPolicy | urllib3.Retry | None = None  # by the last write of it

    # Tests replace the source of the time here.
    _clock: Clock = staticmethod(now)

    __attrs__ = [  # noqa: RUF012  # the name and form of requests
        *HTTPAdapter.__attrs__,
        "_retry_policy",
        "_keepalive",
        "_timeouts",
        "_idempotency_keys",
        "_tcp_keepalive",
        "_observers",
        "_is_disabled",
    ]

    def __init__(
        self,
        pool_connections: int = 10,
        pool_maxsize: int = 10,
        max_retries: RetryPolicy | int | urllib3.Retry = DEFAULT_POLICY,
        pool_block: bool = False,
        *,
        keepalive: KeepAlivePolicy | float = DEFAULT_KEEPALIVE,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        idempotency_keys: KeyedRequests = "streams",
        tcp_keepalive: TCPKeepAlive | None = DEFAULT_TCP,
        observers: Iterable[Observer] = (),
    ) -> None:
        _checks.count("pool_connections", pool_connections)
        _checks.flag("pool_block", pool_block)
        if _checks.count("pool_maxsize", pool_maxsize) == 0 and pool_block:
            # A blocking pool without a place would block each call for ever.
            raise ValueError("pool_maxsize must be at least 1 with pool_block=True, not 0")
        self._is_disabled = is_on("DISABLE")
        policy = policy_from(max_retries)
        self._set_policy(policy)
        self._keepalive = keepalive_from(keepalive)
        self._timeouts = timeouts_from(timeouts)
        self._idempotency_keys = keyed_from(idempotency_keys)
        self._tcp_keepalive = tcp_from(tcp_keepalive)
        self._observers = Observers(observers).all
        self._begin()
        plain = max_retries if not isinstance(max_retries, RetryPolicy) else 0
        super().__init__(pool_connections, pool_maxsize, plain, pool_block)
        if not self._is_disabled:
            self._set_policy(policy)  # again: HTTPAdapter has overwritten ``max_retries``
        self._recycle_manager()

    def __getstate__(self) -> dict[str, Any]:
        # Of all base classes: a mixed-in adapter of another package has attributes too.
        names = [name for kind in type(self).__mro__ for name in vars(kind).get("__attrs__", ())]
        return {name: getattr(self, name, None) for name in dict.fromkeys(names)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["_retry_policy"] is None:  # a subclass has left our constructor out
            super().__setstate__(state)
            return
        # requests restores them too, but then it makes the pools, which already need them.
        vars(self).update({name: each for name, each in state.items() if name != "max_retries"})
        self._begin()
        super().__setstate__(state)
        self._set_policy(state["_retry_policy"])
        self._recycle_manager()

    def _begin(self) -> None:
        self._observed = Observers(self._observers)
        self._state = PoolState(self._keepalive, self._observed, self._clock)
        self._forget()
        self._state.process.on_fork(self._forget)

    def _forget(self) -> None:
        """Forget budgets and pools; also the reset in a forked child."""
        self._budgets = OriginBudgets()
        self._begin_lookups()

    def __repr__(self) -> str:
        if self._is_disabled:
            return f"<{type(self).__name__} disabled by RESILIENT_REQUESTS_DISABLE>"
        return (
            f"<{type(self).__name__} generation={self.generation} "
            f"in_flight={len(self._state.in_flight.all())} "
            f"idle={self._state.idle()}{changed(self)}>"
        )

    # -- settings in force ------------------------------------------------------------------------

    @property
    def retry_policy(self) -> RetryPolicy:
        """The policy in force; an int or a ``Retry`` was translated."""
        return self._retry_policy

    @property
    def keepalive(self) -> KeepAlivePolicy:
        """The limits for the reuse of idle connections."""
        return self._keepalive

    @property
    def timeouts(self) -> Timeouts:
        """The limits of calls that give no ``timeout=``."""
        return self._timeouts

    @property
    def tcp_keepalive(self) -> TCPKeepAlive | None:
        """The socket options of the kernel's keep-alive; None: urllib3's options only."""
        return self._tcp_keepalive

    @property
    def idempotency_keys(self) -> KeyedRequests:
        """The POSTs and PATCHes that get a key: "streams", True (all) or False (none)."""
        return self._idempotency_keys

    @property
    def max_retries(self) -> urllib3.Retry:
        """A urllib3 ``Retry`` that carries the policy to other adapters, and never retries itself.

        Writing an int, a ``Retry`` or a `RetryPolicy` changes the policy of later calls. Other
        packages read it and write it. Raises TypeError for anything else.
        """
        return self._carrier

    @max_retries.setter
    def max_retries(self, value: RetryPolicy | int | urllib3.Retry) -> None:
        earlier = "_carrier" if self._is_disabled else "_retry_policy"
        self._written_over = getattr(self, earlier, None)  # requests' constructor writes it first
        if self._is_disabled:
            self._carrier = urllib3.Retry.from_int(0 if isinstance(value, RetryPolicy) else value)
        else:
            self._set_policy(policy_from(value))

    @max_retries.deleter
    def max_retries(self) -> None:
        """Take back the last write: ``mock.patch.object`` ends so."""
        if self._written_over is None:
            raise AttributeError("max_retries")
        self.max_retries = self._written_over

    def _set_policy(self, policy: RetryPolicy) -> None:
        self._retry_policy = policy
        if not self._is_disabled:
            self._carrier = PolicyCarrier.of(policy)

    @property
    def generation(self) -> int:
        """The number of retirements of connections, by failures, `rotate` or `close`."""
        return self._state.generation

    # -- calls of users ---------------------------------------------------------------------------

    def rotate(self, generation: int | None = None) -> Rotation:
        """Retire all pooled connections and TLS contexts; calls in flight finish.

        Connections in use close when they return to the pool. ``generation`` is the `generation` at
        which you saw a failure: if all connections were retired since then, by this or by `close`,
        nothing happens (``ALREADY_ROTATED``). None retires at once, but two calls within 1 s count
        as one (``COALESCED``). After `shutdown` the outcome is ``CLOSED``. A TLS context stays in
        use if its files cannot be loaded anew. Thread-safe. Raises TypeError or ValueError for a
        generation that never was.
        """
        if generation is not None:
            _checks.count("generation", generation)
            if generation > self.generation:
                raise ValueError(
                    "generation must be one that was seen: "
                    f"{generation} is ahead of {self.generation}"
                )
        self._state.process.ensure()
        return self._state.rotate(generation)

    def stats(self) -> AdapterStats:
        """Return the present figures of this adapter, in total and per origin. Thread-safe."""
        self._state.process.ensure()
        return self._state.stats()

    def in_flight(self) -> tuple[InFlight, ...]:
        """Return the calls under way, the oldest first.

        A call is under way from its beginning until its response has ended. Safe from any thread
        and in a signal handler: no lock is taken.
        """
        return records(self._state.in_flight.all())

    def warm(
        self,
        url: str,
        connections: int = 1,
        *,
        lasting: float = 0.0,
        proxies: Any = None,
        verify: Any = True,
        cert: Any = None,
    ) -> int:
        """Dial until ``connections`` idle connections to the origin of ``url`` are pooled.

        Returns the number of idle connections; 0 if the adapter is disabled. This thread dials,
        with TLS and proxies, and sends no request. The pool holds at most ``pool_maxsize``, less
        those in use; their windows start now. ``lasting``: seconds for which a connection must stay
        usable to count, for callers that come again. ``proxies``, ``verify`` and ``cert`` are those
        of the calls to come; by default the environment's, as in a ``Session``. Thread-safe.

        Raises TypeError or ValueError naming the parameter; requests' errors for an unusable URL or
        a failed dial (no retry follows, and earlier connections stay); `Cancelled`;
        `DeadlineExceeded`.
        """
        _checks.instance("url", url, str)
        _checks.count("connections", connections, least=1)
        lasting = _checks.number("lasting", lasting, least=0)
        if self._is_disabled:
            return 0
        self._state.process.ensure()
        request = requests.Request("GET", url).prepare()
        with requests.Session() as session:
            settings = session.merge_environment_settings(url, proxies or {}, None, verify, cert)
        return self._dial_ahead(request, settings, connections, lasting)

    def _dial_ahead(
        self, request: requests.PreparedRequest, settings: Any, connections: int, lasting: float
    ) -> int:
        pool = self._pool_of(request, settings)
        token = self._begin_call(request)
        trace = CallTrace(self._observed, Origin.of(request.url or ""))
        attempt = Attempt(token, 1, limits_of(self._timeouts, None), trace=trace)
        try:
            token.begin(attempt)
            with current_attempt(attempt):
                return warm(pool, connections, lasting, attempt)
        except WARM_FAILURES as error:
            token.check()
            is_of_proxy = pool.proxy is not None and attempt.proxy_status not in range(200, 300)
            raise as_requests(error, portable(request), is_of_proxy=is_of_proxy) from error
        finally:
            token.leave()

    def close(self) -> None:
        """Close all idle connections; responses in flight finish; the adapter can be used again.

        requests' own ``close()`` closes no socket of a pool while one of its responses is alive.
        Thread-safe.
        """
        if not self._is_disabled:
            self._state.process.ensure()
        super().close()

    def shutdown(self, grace: float = 0.0) -> None:
        """Close for good: refuse new calls, and end those in flight after ``grace`` seconds.

        Calls that are ended raise a ``requests.ConnectionError``. Safe from any thread and in a
        signal handler; harmless if repeated. Raises TypeError or ValueError for a wrong ``grace``.
        """
        grace = _checks.number("grace", grace, least=0)
        state = self._state
        state.process.ensure()
        state.shut_down()
        try:
            self.close()
            until = self._clock().boot + grace
            # Polled. A signal handler must not wait for a lock or a condition: it may have
            # interrupted the thread that holds it.
            while state.in_flight.all() and self._clock().boot < until:
                time.sleep(0.01)
        finally:
            for token in state.in_flight.all():
                token.abort()

    def send(  # noqa: PLR0917  # as requests
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send a request; retry it by the rules until there is a response.

        Raises requests' errors with ``attempts`` on them, `Cancelled` and `DeadlineExceeded`; with
        ``stream=False`` also `StreamBroken` for a cut body. Each attempt passes
        ``HTTPAdapter.send``. Thread-safe.
        """
        if self._is_disabled:
            return super().send(request, stream, timeout, verify, cert, proxies)
        self._state.process.ensure()
        limits = limits_of(self._timeouts, timeout)
        if is_keyed(self._idempotency_keys, stream=stream):
            request = with_key(request)
        token = self._begin_call(request)
        # Mocks get the timeout that the caller gave. Otherwise urllib3's "connect" is the write
        # limit: urllib3 sets it on a reused socket before it sends, and each change of a socket's
        # timeout is a system call.
        given = (limits.write, limits.response) if timeout is None else as_urllib3(timeout)
        sender = Sender(
            self._retry_policy, self._observed, self._budgets, self._send_once, self._sleep
        )
        return RetryingCall(
            sender,
            request,
            token,
            origin=Origin.of(request.url or ""),
            limits=limits,
            stream=stream,
            kwargs={
                "timeout": given,
                "verify": verification(verify),
                "cert": cert,
                "proxies": proxies,
            },
        ).run()

    def _begin_call(self, request: requests.PreparedRequest) -> CancelToken:
        """Return a call that is in flight from here on; raise if the adapter is shut down."""
        state = self._state
        token = CancelToken(
            clock=self._clock,
            total=self._timeouts.total,
            pid=state.process.pid,
            calls=state.in_flight,
        )
        if state.is_shut_down:
            # After joining: a shutdown at this moment either finds this call, or is found by it.
            token.leave()
            raise _refusal(request)
        return token

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Return a `ResilientResponse` around urllib3's response."""
        response = super().build_response(req, resp)
        return response if self._is_disabled else resilient(response)

    def _send_once(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Make one attempt through HTTPAdapter's attribute: mocks and tracers replace it."""
        return super().send(request, **kwargs)

    # Tests replace the wait before a retry here.
    @staticmethod
    def _sleep(token: CancelToken, seconds: float) -> None:
        """Wait before a retry; end with the call."""
        if seconds > 0:
            token.sleep(seconds)


def _refusal(request: requests.PreparedRequest) -> requests.ConnectionError:
    refused = requests.ConnectionError(
        "the adapter was shut down (ResilientAdapter.shutdown)", request=portable(request)
    )
    refused.attempts = ()  # type: ignore[attr-defined]
    return refused
