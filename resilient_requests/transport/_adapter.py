"""An HTTPAdapter over recycling pools: direct, proxied and SOCKS, with socket options and shared TLS contexts."""

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


def verification(verify: Any) -> Any:
    """Return ``verify=`` in the forms that requests' pools tell apart: True, False or the path as str.

    By ``verify=0`` or a ``Path`` requests keeps connections with those that were verified as usual:
    the next call with ``verify=True`` would use one that was not.
    """
    if verify is True or verify is False or (verify and isinstance(verify, str)):
        return verify
    return os.fspath(verify) if isinstance(verify, os.PathLike) else bool(verify)


class _Lookup:
    """The pool that a request was given before, and the key by which its manager knows it."""

    __slots__ = ("_key", "_manager", "_pool", "_settings")

    def __init__(self, pool: RecyclingPool, manager: urllib3.PoolManager, key: Any) -> None:
        # Weak: pools and their manager are freed without the collector.
        self._pool, self._manager = weakref.ref(pool), weakref.ref(manager)
        self._key, self._settings = key, manager.connection_pool_kw.copy()

    def pool(self, current: urllib3.PoolManager | None) -> RecyclingPool | None:
        """Return the pool where its manager would give it again, and have that forget other pools first.

        ``current``: the manager that must be it; None: any. Some set host names and fingerprints to
        check on it.
        """
        pool, manager = self._pool(), self._manager()
        if pool is None or pool.pool is None or manager is None or pool.is_evicted:
            return None
        if manager.connection_pool_kw != self._settings or current not in (None, manager):
            return None
        return pool if manager.pools.get(self._key) is pool else None


def _key_of(manager: urllib3.PoolManager, pool: object) -> Any:
    """Return the key by which a manager knows a pool; None where it does not."""
    # Past the container's own methods, for which the pool that is looked at is the one used last.
    known = list(manager.pools._container.items())
    return next((key for key, each in known if each is pool), None)


class TransportAdapter(requests.adapters.HTTPAdapter):
    """Makes pools and proxies' pools; does not retry.

    ``_state``, ``_tcp_keepalive`` and ``_is_disabled`` must be set, and `_begin_lookups` called, before
    ``super().__init__``, which calls the hooks; `_recycle_manager` after it.
    """

    _state: PoolState
    _tcp_keepalive: TCPKeepAlive | None
    _is_disabled: bool  # behave as a plain HTTPAdapter
    _proxy_lock: threading.RLock  # held only while a proxy's manager is made
    # A second look-up beside requests' own, which takes 7 % of a keep-alive POST.
    _lookups: dict[tuple[object, ...], _Lookup]

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any
    ) -> None:
        """Make the pool manager; requests calls it, when unpickling too. Passes on what it does not know."""
        self._lookups = {}
        if not self._is_disabled:
            pool_kwargs = self._with_options(pool_kwargs)
        super().init_poolmanager(connections, maxsize, block, **pool_kwargs)
        self._recycle_manager()

    def _begin_lookups(self) -> None:
        """Know no pool, as at first and in a forked child, where another thread may have held the lock."""
        self._lookups = {}
        self._proxy_lock = threading.RLock()

    def _recycle_manager(self) -> None:
        """Recycle under the pool manager, also under one that a subclass has made, as requests' documentation shows."""
        manager = getattr(self, "poolmanager", None)  # a subclass, or a mock of one, may make none
        if not self._is_disabled and isinstance(manager, urllib3.PoolManager):
            manager.connection_pool_kw = {**self._with_options({}), **manager.connection_pool_kw}
            recycle(manager, self._state, self._pool_connections)

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        """Return the pool manager for a proxy, with everything that direct connections have."""
        if self._is_disabled:
            return super().proxy_manager_for(proxy, **proxy_kwargs)
        # Another thread must not find it before it recycles: a pool that it made would be urllib3's own.
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
        """Return the pool for a request."""
        if self._is_disabled or not self._has_stock_keys:
            pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
        else:
            pool = self._look_up(request, verification(verify), proxies, cert)
        attempt = current_attempt.get()
        if attempt is not None and isinstance(pool, RecyclingPool):
            attempt.has_pool()
        return pool

    def _look_up(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any, cert: Any
    ) -> HTTPConnectionPool:
        """Return the pool by the facts that decide it, where they were seen before."""
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
            self._lookups = {}  # of pools that are gone, mostly
        for manager in list(self.proxy_manager.values()) if proxy else [self.poolmanager]:
            if (its_key := _key_of(manager, pool)) is not None:
                self._lookups[key] = _Lookup(pool, manager, its_key)

    def _pool_of(
        self, request: requests.PreparedRequest, settings: dict[str, Any]
    ) -> RecyclingPool:
        """Return the pool of the calls with these settings.

        Raises what requests raises of a URL that is none.
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
        self.cert_verify(pool, request.url or "", verify, cert)
        return pool

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        """Return what to ask for: without proxies that is the path, and the URL need not be taken apart for it."""
        path = "" if proxies else request.path_url
        # Of two slashes each release of requests makes something else.
        return path if path[:1] == "/" != path[1:2] else super().request_url(request, proxies)

    @property
    def _has_stock_keys(self) -> bool:
        """Whether only the look-up's own arguments decide: a subclass may choose pools by anything in a request."""
        hook = "build_connection_pool_key_attributes"  # requests 2.32.2 has none
        stock = getattr(requests.adapters.HTTPAdapter, hook, None)
        return getattr(type(self), hook, None) is stock

    def close(self) -> None:
        """Close all idle connections; responses in flight finish, and the adapter can be used again.

        Unlike requests', which closes no socket while any response is alive.
        """
        self._lookups = {}
        if not self._is_disabled:
            self._state.close()
        if hasattr(self, "poolmanager"):
            self.poolmanager.clear()
        # What requests does, over a copy: another thread's call may come to know a proxy meanwhile.
        for manager in list(self.proxy_manager.values()):
            manager.clear()
