"""ResilientAdapter: retry( observe( send ) ) over recycling connections."""

from __future__ import annotations

import os
import threading
import time
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from resilient_requests import _checks
from resilient_requests.call import _clock, _environment
from resilient_requests.call._attempt import Attempt, current
from resilient_requests.call._cancel import Call
from resilient_requests.call._events import Emitter, Observer
from resilient_requests.call._story import Story
from resilient_requests.call._timeouts import TCPKeepAlive, Timeouts
from resilient_requests.exceptions import portable
from resilient_requests.retry import _idempotency, _retry, _send
from resilient_requests.retry._budget import TokenBucket
from resilient_requests.retry._retry import RetryPolicy
from resilient_requests.stream._response import ResilientResponse
from resilient_requests.transport import _warm
from resilient_requests.transport._adapter import TransportAdapter, origin_of
from resilient_requests.transport._keepalive import KeepAlivePolicy
from resilient_requests.transport._register import Register, Rotation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resilient_requests.transport._stats import AdapterStats

__all__ = ["ResilientAdapter"]

# The environment counts only where the caller gave nothing: these very objects, as the signature shows them.
_DEFAULT_POLICY = RetryPolicy()
_DEFAULT_KEEPALIVE = KeepAlivePolicy()
_DEFAULT_TIMEOUTS = Timeouts()
# Who visits many hosts once must not remember them all.
_MOST_BUCKETS = 512


class ResilientAdapter(TransportAdapter):
    """Mount it on a ``requests.Session``: calls then survive networks that quietly kill connections.

    ``pool_connections``, ``pool_maxsize``, ``pool_block``: as in requests. ``max_retries``: a `RetryPolicy`, an int,
    or a urllib3 ``Retry``, which is translated. ``keepalive``: a `KeepAlivePolicy`, or its expiry in seconds.
    ``timeouts``: the limits of calls that give none. ``idempotency_keys``: add an ``Idempotency-Key`` to POST and
    PATCH, which declares them safe to repeat; False where your server ignores the header. ``tcp_keepalive``: socket
    options; None: those of urllib3. ``observers``: callables that take one event.

    Thread-safe; survives fork, pickle and copy (in a copy nothing is pooled). The environment variables
    ``RESILIENT_REQUESTS_KEEPALIVE``, ``_MAX_RETRIES``, ``_STREAM_IDLE`` and ``_DISABLE`` are read here, once;
    arguments win. Raises TypeError or ValueError naming the parameter.
    """

    retry_policy: RetryPolicy
    """The policy in force, whatever ``max_retries`` was given as."""

    # A seam for tests: what tells the time.
    _clock: _clock.Clock = staticmethod(_clock.now)

    __attrs__ = [  # noqa: RUF012  # requests' own name and form
        *HTTPAdapter.__attrs__,
        "retry_policy",
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
        max_retries: RetryPolicy | int | urllib3.Retry = _DEFAULT_POLICY,
        pool_block: bool = False,
        *,
        keepalive: KeepAlivePolicy | float = _DEFAULT_KEEPALIVE,
        timeouts: Timeouts = _DEFAULT_TIMEOUTS,
        idempotency_keys: bool = True,
        tcp_keepalive: TCPKeepAlive | None = TCPKeepAlive(),  # noqa: B008  # frozen
        observers: Iterable[Observer] = (),
    ) -> None:
        _checks.count("pool_connections", pool_connections)
        _checks.flag("pool_block", pool_block)
        if _checks.count("pool_maxsize", pool_maxsize) == 0 and pool_block:
            # Nobody would ever get a connection.
            raise ValueError("pool_maxsize must be at least 1 with pool_block=True, not 0")
        self._is_disabled = _environment.is_on("DISABLE")
        self.retry_policy = _retry_policy(max_retries)
        self._keepalive = _keepalive_policy(keepalive)
        self._timeouts = _timeouts_of(timeouts)
        self._idempotency_keys = _checks.flag("idempotency_keys", idempotency_keys)
        _checks.instance("tcp_keepalive", tcp_keepalive, TCPKeepAlive, optional=True)
        self._tcp_keepalive = tcp_keepalive
        self._observers = tuple(Emitter(observers).observers)
        # Other packages call ``adapter.max_retries``, and urllib3 must never retry on its own beneath ours.
        plain_retries = (
            max_retries if self._is_disabled and not isinstance(max_retries, RetryPolicy) else 0
        )
        self._begin()
        super().__init__(pool_connections, pool_maxsize, plain_retries, pool_block)
        self._adopt_manager()

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)  # requests' own does so too, and then makes the pools
        self._begin()
        super().__setstate__(state)
        self._adopt_manager()

    def _begin(self) -> None:
        self.emitter = Emitter(self._observers)
        self.register = self._register = Register(self._keepalive, self.emitter, self._clock)
        self._buckets: dict[str, TokenBucket] = {}
        self._keys = _idempotency.Keys()
        self._pid = os.getpid()
        self._forked = threading.RLock()
        self._pools = weakref.WeakValueDictionary()
        _ADAPTERS.add(self)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} generation={self.generation} "
            f"in_flight={len(self.register.calls())} idle={self.register.idle()}>"
        )

    @property
    def generation(self) -> int:
        """How often connections were retired, by failures or by `rotate`; grows by 1 each time."""
        return self.register.generation

    def rotate(self, generation: int | None = None) -> Rotation:
        """Retire all pooled connections and TLS contexts; what is in flight finishes, and is then not pooled.

        ``generation``: what `generation` was when you saw the failure; where all connections were retired since, by
        this or `close`, nothing happens (``ALREADY_ROTATED``). None: at once, but two calls within 1 s count as one
        (``COALESCED``). ``CLOSED`` after `shutdown`. Certificates that cannot be loaded anew stay as they were.
        Thread-safe. Raises TypeError or ValueError for a generation that never was.
        """
        if generation is not None:
            _checks.count("generation", generation)
            if generation > self.generation:
                raise ValueError(
                    f"generation must be one that was seen: {generation} is ahead of {self.generation}"
                )
        self._ensure_process()
        return self.register.rotate(generation)

    def stats(self) -> AdapterStats:
        """Return what this adapter has done so far, in total and per origin. Thread-safe."""
        self._ensure_process()
        return self.register.stats()

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
        """Dial until so many idle connections to the origin of ``url`` are pooled; return how many are.

        TLS and proxies included, in this thread, and without a request. At most ``pool_maxsize``, of which
        connections in use take their part; windows count from now. ``lasting``: seconds for which a connection must
        still be usable to count, for callers that come again. ``proxies``, ``verify``, ``cert``: as of the calls to
        come; by default those of the environment, as in a ``Session``. 0 where the adapter is disabled. Thread-safe.

        Raises TypeError or ValueError naming the parameter; what requests raises of a URL that is none, and where a
        dial fails (no retry follows; what was dialled stays); `Cancelled`; `DeadlineExceeded`.
        """
        _checks.instance("url", url, str)
        _checks.count("connections", connections, least=1)
        lasting = _checks.number("lasting", lasting, least=0)
        if self._is_disabled:
            return 0
        self._ensure_process()
        request = requests.Request("GET", url).prepare()
        with requests.Session() as session:
            settings = session.merge_environment_settings(url, proxies or {}, None, verify, cert)
        pool = self._pool_of(request, settings)
        call = self._begin_call(request)
        call.story = Story(self.emitter, origin_of(request.url or ""))
        limits = self._timeouts.limits(None)
        attempt = Attempt(call, 1, limits, fresh=True, since=call.boot())
        try:
            with current(attempt):
                return _warm.warm(pool, connections, lasting)
        except _warm.FAILURES as error:
            call.check()
            is_of_proxy = pool.proxy is not None and attempt.proxy_status not in range(200, 300)
            raise _warm.as_requests(error, portable(request), is_of_proxy=is_of_proxy) from error
        finally:
            call.leave()

    def close(self) -> None:
        """Close all idle connections; responses in flight finish, and the adapter can be used again.

        Unlike requests', which closes no socket while any response is alive.
        """
        self._ensure_process()
        super().close()

    def shutdown(self, grace: float = 0.0) -> None:
        """Close for good: refuse new calls, end those in flight after ``grace`` seconds, with clear errors there.

        Safe from any thread and in a signal handler; harmless when repeated.
        """
        grace = _checks.number("grace", grace, least=0)
        self._ensure_process()
        register = self.register
        register.is_shut_down = True
        try:
            self.close()
            until = self._clock().boot + grace
            # Polled: no lock or condition may be waited for in a signal handler, which may have interrupted its holder.
            while register.calls() and self._clock().boot < until:
                time.sleep(0.01)
        finally:
            for call in register.calls():
                call.abort()

    def send(  # noqa: PLR0917  # as requests
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send a request; repeat it by the rules until there is a response.

        Raises what requests raises, with ``attempts`` on it; `Cancelled`; `DeadlineExceeded`; with ``stream=False``
        also `StreamBroken`, for a body that was cut. Each attempt goes through ``HTTPAdapter.send``.
        """
        if self._is_disabled:
            return super().send(request, stream, timeout, verify, cert, proxies)
        self._ensure_process()
        limits = self._timeouts.limits(timeout)
        if self._idempotency_keys:
            request = _idempotency.with_key(request, self._keys)
        call = self._begin_call(request)
        # Mocks see what the caller gave. Else the write limit, though urllib3 calls it connect: it sets that on a
        # reused socket before it sends, and each change of a socket's timeout is a system call.
        sent_timeout = (limits.write, limits.response) if timeout is None else timeout
        kwargs = {"timeout": sent_timeout, "verify": verify, "cert": cert, "proxies": proxies}
        return _send.Send(
            self,
            request,
            call,
            origin=origin_of(request.url or ""),
            limits=limits,
            stream=stream,
            kwargs=kwargs,
        ).run()

    def _begin_call(self, request: requests.PreparedRequest) -> Call:
        """Return a new call that is in flight from now on; raises where the adapter is shut down."""
        call = Call(clock=self._clock, total=self._timeouts.total, pid=self._pid)
        call.join(self.register.in_flight)
        if self.register.is_shut_down:
            # After joining: a shutdown that is under way either sees this call or is seen by it.
            call.leave()
            refused = requests.ConnectionError(
                "the adapter was shut down (ResilientAdapter.shutdown)", request=portable(request)
            )
            refused.attempts = ()  # type: ignore[attr-defined]
            raise refused
        return call

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Return a `ResilientResponse` of what came."""
        response = super().build_response(req, resp)
        return response if self._is_disabled else ResilientResponse.of(response)

    # What a Send asks of its adapter.

    def send_once(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Make one attempt, through the attribute of HTTPAdapter that mocks and tracers replace."""
        return super().send(request, **kwargs)

    def bucket(self, origin: str, *, create: bool) -> TokenBucket | None:
        """Return the tokens of an origin; None where no retry has drawn on them yet, or retries are free."""
        budget = self.retry_policy.budget
        if budget is None or not create:
            return self._buckets.get(origin)
        now = self._clock().boot
        if len(self._buckets) >= _MOST_BUCKETS and origin not in self._buckets:
            self._forget_buckets(now)
        return self._buckets.setdefault(origin, TokenBucket(budget, now))

    def _forget_buckets(self, now: float) -> None:
        """Make room: for full buckets none has to be kept, and else the oldest goes."""
        for origin, bucket in list(self._buckets.items()):
            if bucket.is_full(now):
                self._buckets.pop(origin, None)
        for origin in list(self._buckets)[: len(self._buckets) + 1 - _MOST_BUCKETS]:
            self._buckets.pop(origin, None)

    def sleep(self, call: Call, seconds: float) -> None:
        """Wait before a retry; ends when the call does."""
        if seconds > 0:
            call.sleep(seconds)

    def _ensure_process(self) -> None:
        """Forget what is the parent's in a child that ran no at-fork hook (uWSGI runs none)."""
        if self._pid != os.getpid():
            with self._forked:  # held nowhere else; several threads of the child may come first
                if self._pid != os.getpid():
                    self.register.ensure_process()  # a stream of the parent's may have come to it first
                    self._forget()

    def _after_fork(self) -> None:
        self.register.after_fork()
        self._forget()

    def _forget(self) -> None:
        self._buckets = {}
        self._keys = _idempotency.Keys()
        self._pools = weakref.WeakValueDictionary()
        self._pid = os.getpid()  # last: from now on other threads pass


def _retry_policy(given: object) -> RetryPolicy:
    if given is _DEFAULT_POLICY:
        most = _environment.count_of("MAX_RETRIES", _DEFAULT_POLICY.max_retries)
        return replace(_DEFAULT_POLICY, max_retries=most)
    if isinstance(given, RetryPolicy):
        return given
    if isinstance(given, urllib3.Retry):
        return _retry.from_urllib3(given)
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(
            f"max_retries must be a RetryPolicy, an int or a urllib3 Retry, not {type(given).__name__}"
        )
    return RetryPolicy(max_retries=given)


def _keepalive_policy(given: object) -> KeepAlivePolicy:
    if given is _DEFAULT_KEEPALIVE:
        expiry = _environment.seconds_of("KEEPALIVE", _DEFAULT_KEEPALIVE.expiry)
        return replace(_DEFAULT_KEEPALIVE, expiry=expiry)
    if isinstance(given, KeepAlivePolicy):
        return given
    return KeepAlivePolicy(expiry=_checks.number("keepalive", given, least=0))


def _timeouts_of(given: Timeouts) -> Timeouts:
    _checks.instance("timeouts", given, Timeouts)
    if given is not _DEFAULT_TIMEOUTS or given.idle is None:
        return given
    return replace(given, idle=_environment.seconds_of("STREAM_IDLE", given.idle))


# An at-fork hook cannot be unregistered: one for all adapters that are alive.
_ADAPTERS: weakref.WeakSet[ResilientAdapter] = weakref.WeakSet()


def _forget_in_child() -> None:
    for adapter in list(_ADAPTERS):
        adapter._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
