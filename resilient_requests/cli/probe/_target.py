"""What is probed, and how to get there: as requests would, through the same proxies and with the same trust."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy

from resilient_requests.transport import TLSContexts

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Target"]

# Up to the last "@": a password may hold one too.
_USERINFO = re.compile(r"^([\w+.-]+://)?.*@")


class Target:
    """A URL with a method, and the way to it; immutable after construction, used from any thread.

    Connections belong to whoever asks for them; nothing is pooled. Raises requests.RequestException for what is no
    HTTP URL, and for a proxy that cannot be used.
    """

    def __init__(self, url: str, method: str = "GET") -> None:
        self.request = requests.Request(
            method, url, headers={"User-Agent": "resilient-requests-probe"}
        ).prepare()
        url = self.request.url or ""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise requests.exceptions.InvalidSchema("the URL must begin with http:// or https://")
        self.method = method
        self.is_tls = parts.scheme == "https"
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if self.is_tls else 80)
        proxies = get_environ_proxies(url)
        with requests.Session() as session:
            settings = session.merge_environment_settings(url, {}, None, None, None)
        self.verify = settings["verify"]
        self._proxy = select_proxy(url, proxies)
        self._adapter = HTTPAdapter()
        self._pool: Any = self._adapter.get_connection_with_tls_context(
            self.request, self.verify, proxies=proxies
        )
        self._path = self._adapter.request_url(self.request, proxies)
        self._contexts = TLSContexts()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._adapter.close()

    @property
    def proxy(self) -> str | None:
        """The proxy in use, without its credentials; None where there is none."""
        return None if self._proxy is None else _USERINFO.sub(r"\1", self._proxy)

    @property
    def trust(self) -> str:
        """Where the trusted certificates come from."""
        return "certifi" if self.verify is True else str(self.verify)

    def dial(self, timeout: float, socket_options: Any = None) -> Any:
        """Return a new connection of urllib3's, open; ``socket_options`` instead of urllib3's own."""
        conn = self._pool._new_conn()
        conn.timeout = timeout
        if socket_options is not None:
            conn.socket_options = socket_options
        vars(conn).update(self._contexts.settings(conn))
        if self.is_tls and self._pool.proxy is not None:
            self._pool._prepare_proxy(conn)
        else:
            conn.connect()
        return conn

    def ask(self, conn: Any) -> None:
        """Send the request on an open connection, in one piece."""
        headers = dict(self.request.headers)
        if self._pool.proxy is not None and not self.is_tls:
            headers.update(self._pool.proxy_headers)
        conn.request(
            self.method, self._path, headers=headers, preload_content=False, decode_content=False
        )
