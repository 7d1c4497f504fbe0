"""An HTTPAdapter over recycling pools, for direct, proxied and SOCKS connections."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

import requests
import requests.adapters
import urllib3
from requests.utils import select_proxy
from urllib3.connection import HTTPConnection

from resilient_requests.call import Origin, current_attempt, up_to_authority
from resilient_requests.transport._pool import RecyclingPool, recycle
from resilient_requests.transport.dial import TCPKeepAlive, own, socket_options

if TYPE_CHECKING:
    from urllib3.connectionpool import HTTPConnectionPool

    from resilient_requests.transport._generations import PoolState

__all__ = ["TransportAdapter", "verification"]

_CHOOSERS = frozenset(
    {"connection_from_host", "connection_from_context", "connection_from_pool_key"}
)


def verification(verify: Any) -> Any:
    """Return ``verify=`` in the forms that requests' pools tell apart: True, False or a str path.

    With ``verify=0``, a ``Path`` or bytes, requests takes the pool of verified connections. The
    next call with ``verify=True`` could then reuse a connection that was not verified.
    """
    if verify is True or verify is False or (verify and isinstance(verify, str)):
        return verify
    is_path = isinstance(verify, (bytes, os.PathLike)) and bool(verify)
    return os.fsdecode(verify) if is_path else bool(verify)


class _Lookup:
    """The pool of an earlier request, and the key of that pool in its manager."""

    __slots__ = ("_key", "_manager", "_pool", "_settings")

    def __init__(self, pool: RecyclingPool, manager: urllib3.PoolManager, key: Any) -> None:
        # Weak, so that pools and their manager are freed by reference count alone.
        self._pool, self._manager = weakref.ref(pool), weakref.ref(manager)
        self._key, self._settings = key, manager.connection_pool_kw.copy()

    def pool(self, current: urllib3.PoolManager | None) -> RecyclingPool | None:
        """Return the pool if its manager would still choose it; None means: look it up again.

        ``current`` is the manager that the pool must belong to, or None for any. The settings are
        compared because callers put host names and fingerprints to verify into a manager.
        """
        pool, manager = self._pool(), self._manager()
        if pool is None or pool.pool is None or manager is None or pool.is_evicted:
            return None
        if manager.connection_pool_kw != self._settings or current not in (None, manager):
            return None
        return pool if manager.pools.get(self._key) is pool else None


def _key_of(manager: urllib3.PoolManager, pool: object) -> Any:
    """Return the key of a pool in its manager; None if the manager does not know the pool."""
    # Not through the container's own methods: they would mark the pool as the one used last.
    known = list(manager.pools._container.items())
    return next((key for key, each in known if each is pool), None)


class TransportAdapter(requests.adapters.HTTPAdapter):
    """Makes pools, direct and proxied; does not retry.

    A subclass sets ``_state``, ``_tcp_keepalive`` and ``_is_disabled`` and calls `_begin_lookups`
    before ``super().__init__``, which calls the hooks. It calls `_recycle_manager` afterwards.
    """

    _state: PoolState
    _tcp_keepalive: TCPKeepAlive | None
    _is_disabled: bool  # True: behave as a plain HTTPAdapter
    _proxy_lock: threading.RLock  # held only while the manager of a proxy is made
    # A shortcut past requests' own look-up, which takes 7 % of the CPU of a keep-alive POST.
    _lookups: dict[tuple[object, ...], _Lookup]

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any
    ) -> None:
        """Make the pool manager, also while unpickling; passes on unknown arguments."""
        self._lookups = {}
        if not self._is_disabled:
            pool_kwargs = self._with_options(pool_kwargs)
        super().init_poolmanager(connections, maxsize, block, **pool_kwargs)
        self._recycle_manager()

    def _begin_lookups(self) -> None:
        """Forget all pools, and make the lock anew: in a forked child it may be held for ever."""
        self._lookups = {}
        self._proxy_lock = threading.RLock()

    def _recycle_manager(self) -> None:
        """Make the pool manager recycle.

        That includes a manager that a subclass has made in ``init_poolmanager``, as requests' own
        documentation shows.
        """
        manager = getattr(self, "poolmanager", None)  # a subclass, or a mock of one, may have none
        if not self._is_disabled and isinstance(manager, urllib3.PoolManager):
            # In this order, so that the subclass's own options win.
            manager.connection_pool_kw = {**self._with_options({}), **manager.connection_pool_kw}
            recycle(manager, self._state, self._pool_connections)

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        """Return the pool manager for a proxy; it recycles as the direct one does."""
        if self._is_disabled:
            return super().proxy_manager_for(proxy, **proxy_kwargs)
        # Locked, so that no other thread gets the manager before it recycles and makes a plain
        # pool.
        with self._proxy_lock:
            manager = super().proxy_manager_for(proxy, **self._with_options(proxy_kwargs))
            if isinstance(manager, urllib3.PoolManager):
                recycle(manager, self._state, self._pool_connections)
        return manager

    def _with_options(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        if self._tcp_keepalive is None:
            return kwargs
        stock = HTTPConnection.default_socket_options
        return {"socket_options": own(socket_options(self._tcp_keepalive), stock), **kwargs}

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> HTTPConnectionPool:
        """Return the pool for a request, with TLS settings; requests >= 2.32.2 calls it."""
        if self._is_disabled or not self._chooses_as_requests:
            pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
        else:
            pool = self._look_up(request, verification(verify), proxies, cert)
        attempt = current_attempt.get()
        if attempt is not None and isinstance(pool, RecyclingPool):
            attempt.pooled()
        return pool

    def _look_up(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any, cert: Any
    ) -> HTTPConnectionPool:
        """Return the pool of an earlier request with the same origin, proxy, verify and cert."""
        url = request.url or ""
        proxy = select_proxy(url, proxies) if proxies else None
        key = (up_to_authority(url), proxy, verify, cert)
        known = self._lookups.get(key)
        pool = None if known is None else known.pool(None if proxy else self.poolmanager)
        if pool is not None:
            return pool
        made = super().get_connection_with_tls_context(request, verify, proxies, cert)
        self._remember(key, made, proxy)
        return made

    def _remember(self, key: tuple[object, ...], pool: Any, proxy: str | None) -> None:
        if not isinstance(pool, RecyclingPool):
            return
        if len(self._lookups) >= 2 * self._pool_connections:
            self._lookups = {}  # most of these pools are gone by now
        for manager in list(self.proxy_manager.values()) if proxy else [self.poolmanager]:
            if (its_key := _key_of(manager, pool)) is not None:
                self._lookups[key] = _Lookup(pool, manager, its_key)

    def _pool_of(
        self, request: requests.PreparedRequest, settings: dict[str, Any]
    ) -> RecyclingPool:
        """Return the pool of calls with these settings.

        Raises requests' errors for a URL without a usable scheme or host.
        """
        verify, cert = settings["verify"], settings["cert"]
        try:
            pool = self.get_connection_with_tls_context(
                request, verify, proxies=settings["proxies"], cert=cert
            )
        except urllib3.exceptions.URLSchemeUnknown as error:
            raise requests.exceptions.InvalidSchema(str(error), request=request) from error
        except urllib3.exceptions.LocationValueError as error:
            raise requests.exceptions.InvalidURL(error, request=request) from error
        if not isinstance(pool, RecyclingPool):
            raise requests.exceptions.InvalidSchema(
                f"the connections to {Origin.of(request.url or '')} are pooled by somebody else",
                request=request,
            )
        # requests calls this in send(): it puts the certificate files on the pool.
        self.cert_verify(pool, request.url or "", verify, cert)
        return pool

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        """Return the request target; a plain path is returned without parsing the URL."""
        path = "" if proxies else request.path_url
        # A path with two leading slashes: releases of requests differ, so their own code decides.
        return path if path[:1] == "/" != path[1:2] else super().request_url(request, proxies)

    @property
    def _chooses_as_requests(self) -> bool:
        """True if requests and urllib3 choose the pool; a subclass may do so for each request."""
        kind, own = type(self), vars(self)
        hook = "build_connection_pool_key_attributes"  # requests 2.32.2 lacks it
        return (
            getattr(kind, hook, None) is getattr(requests.adapters.HTTPAdapter, hook, None)
            and kind.proxy_manager_for is TransportAdapter.proxy_manager_for
            and hook not in own
            and "proxy_manager_for" not in own
            and _chooses_as_urllib3(getattr(self, "poolmanager", None))
        )

    def close(self) -> None:
        """Close all idle connections; responses in flight finish; the adapter can be used again.

        requests' own ``close()`` closes no socket of a pool while one of its responses is alive.
        """
        self._lookups = {}
        if not self._is_disabled:
            self._state.close()
        if hasattr(self, "poolmanager"):
            self.poolmanager.clear()
        # As in requests, but over a copy: another thread's call may add a manager at this moment.
        for manager in list(self.proxy_manager.values()):
            manager.clear()


def _chooses_as_urllib3(manager: object) -> bool:
    kind, stock = type(manager), urllib3.PoolManager
    if kind is not stock and any(
        getattr(kind, name, None) is not getattr(stock, name) for name in _CHOOSERS
    ):
        return False
    return _CHOOSERS.isdisjoint(vars(manager))
