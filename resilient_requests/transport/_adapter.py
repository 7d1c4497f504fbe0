"""An HTTPAdapter over recycling pools: direct, proxied and SOCKS, with socket options and shared TLS contexts."""

from __future__ import annotations

import re
import weakref
from typing import TYPE_CHECKING, Any

import requests
import requests.adapters
import urllib3
from requests.utils import select_proxy
from urllib3.connection import HTTPConnection, port_by_scheme

from resilient_requests.transport._options import own
from resilient_requests.transport._pool import (
    RecyclingPool,
    RecyclingPoolManager,
    RecyclingProxyManager,
    adopt,
    recycling_manager,
)

if TYPE_CHECKING:
    from urllib3.connectionpool import HTTPConnectionPool

    from resilient_requests.call._timeouts import TCPKeepAlive
    from resilient_requests.transport._register import Register

__all__ = ["TransportAdapter", "origin_of"]

# A query or a fragment may stand right behind the host (RFC 3986 3.2), and requests adds no slash to a Location.
_UP_TO_AUTHORITY = re.compile("[^:/?#]*://[^/?#]*")


def origin_of(url: str) -> str:
    """Return the "scheme://host:port" part of a prepared URL, without credentials; for budgets, events and caches."""
    scheme, _, authority = _up_to_authority(url).partition("://")
    scheme, authority = scheme.lower(), authority.rpartition("@")[2]
    has_port = ":" in authority.rpartition("]")[2]
    return (
        f"{scheme}://{authority}"
        if has_port
        else f"{scheme}://{authority}:{port_by_scheme.get(scheme, 0)}"
    )


def _up_to_authority(url: str) -> str:
    match = _UP_TO_AUTHORITY.match(url)
    return url if match is None else match[0]


class TransportAdapter(requests.adapters.HTTPAdapter):
    """Makes pools, proxies' pools and responses; does not retry.

    ``_register``, ``_tcp_keepalive``, ``_is_disabled`` and ``_pools`` must be set before ``super().__init__``, which
    calls the hooks, and `_adopt_manager` called after it.
    """

    _register: Register
    _tcp_keepalive: TCPKeepAlive | None
    _is_disabled: bool  # behave as a plain HTTPAdapter
    # A second look-up beside requests' own, which takes 7 % of a keep-alive POST.
    _pools: weakref.WeakValueDictionary[tuple[object, ...], RecyclingPool]

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any
    ) -> None:
        """Make the pool manager; requests calls it, when unpickling too. Passes on what it does not know."""
        self._pools = weakref.WeakValueDictionary()
        if self._is_disabled:
            super().init_poolmanager(connections, maxsize, block, **pool_kwargs)
            return
        self._pool_connections, self._pool_maxsize, self._pool_block = connections, maxsize, block
        self.poolmanager = manager = RecyclingPoolManager(
            num_pools=connections, maxsize=maxsize, block=block, **self._with_options(pool_kwargs)
        )
        manager.enroll(self._register, connections)

    def _adopt_manager(self) -> None:
        """Recycle under a pool manager too that a subclass has made, as requests' own documentation shows it."""
        if not self._is_disabled and isinstance(self.poolmanager, urllib3.PoolManager):
            adopt(self.poolmanager, self._register, self._pool_connections, self._with_options({}))

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        """Return the pool manager for a proxy, with everything that direct connections have."""
        if self._is_disabled:
            return super().proxy_manager_for(proxy, **proxy_kwargs)
        manager = self.proxy_manager.get(proxy)
        if manager is None:
            made = self._make_proxy_manager(proxy, self._with_options(proxy_kwargs))
            # Before another thread can find it: a pool that it made earlier would be urllib3's own, for good.
            made.enroll(self._register, self._pool_connections)
            manager = self.proxy_manager.setdefault(proxy, made)
        return manager

    def _make_proxy_manager(self, proxy: str, kwargs: dict[str, Any]) -> Any:
        kwargs = {
            "num_pools": self._pool_connections,
            "maxsize": self._pool_maxsize,
            "block": self._pool_block,
            **kwargs,
        }
        if not proxy.lower().startswith("socks"):
            return RecyclingProxyManager(proxy, proxy_headers=self.proxy_headers(proxy), **kwargs)
        # Without PySocks it is a function that raises requests' own InvalidSchema.
        base: Any = vars(requests.adapters)["SOCKSProxyManager"]
        if not isinstance(base, type):
            return base(proxy)
        username, password = requests.utils.get_auth_from_url(proxy)
        return recycling_manager(base)(proxy, username=username, password=password, **kwargs)

    def _with_options(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        if self._tcp_keepalive is None:
            return kwargs
        stock = HTTPConnection.default_socket_options
        options = own(self._tcp_keepalive.socket_options(), stock)
        return {"socket_options": options, **kwargs}

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> HTTPConnectionPool:
        """Return the pool for a request, from a look-up by what decides it where that was seen before."""
        if self._is_disabled or not self._has_stock_keys:
            return super().get_connection_with_tls_context(
                request, verify, proxies=proxies, cert=cert
            )
        url = request.url or ""
        proxy = select_proxy(url, proxies) if proxies else None
        key = (_up_to_authority(url), proxy, verify, cert)
        known = self._pools.get(key)
        manager = None if proxy else self.poolmanager
        if known is not None and known.pool is not None and known.touch(manager):
            return known
        pool = super().get_connection_with_tls_context(request, verify, proxies=proxies, cert=cert)
        if isinstance(pool, RecyclingPool):
            self._pools[key] = pool
        return pool

    def _pool_of(
        self, request: requests.PreparedRequest, settings: dict[str, Any]
    ) -> RecyclingPool:
        """Return the pool of the calls with these settings; raises what requests raises of its URL."""
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
                f"the connections to {origin_of(request.url or '')} are pooled by somebody else",
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
        return getattr(type(self), hook, None) is getattr(requests.adapters.HTTPAdapter, hook, None)

    def close(self) -> None:
        """Close all idle connections; responses in flight finish, and the adapter can be used again.

        Unlike requests', which closes no socket while any response is alive.
        """
        self._pools = weakref.WeakValueDictionary()
        if not self._is_disabled:
            self._register.close()
        self.poolmanager.clear()
        # What requests does, over a copy: another thread's call may come to know a proxy meanwhile.
        for manager in list(self.proxy_manager.values()):
            manager.clear()
