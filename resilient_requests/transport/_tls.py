"""TLS contexts shared by the connections of one adapter."""

from __future__ import annotations

import errno
import itertools
import os
import ssl
import threading
from typing import Any

import requests.adapters
from urllib3.util.ssl_ import ALPN_PROTOCOLS, create_urllib3_context, resolve_cert_reqs

from resilient_requests.call import _events
from resilient_requests.transport._forkgate import GATE, gated
from resilient_requests.transport._handshake import watched

__all__ = ["TLSContexts"]

_FILES = ("ca_certs", "ca_cert_dir", "cert_file", "key_file")


# Who has a CA bundle or certificate in a file of its own for each call must not keep them all: 0.66 MB each.
_MOST_CONTEXTS = 64


class _Loaded:
    __slots__ = ("context", "refused", "stamps", "used")

    def __init__(self, context: ssl.SSLContext, stamps: tuple[object, ...], used: int) -> None:
        self.context = context
        self.stamps: tuple[object, ...] | None = (
            stamps  # of its files when they were loaded; None: to be loaded again
        )
        self.refused: tuple[object, ...] | None = (
            None  # of files that came later and cannot be loaded
        )
        self.used = used  # the larger, the later


class TLSContexts:
    """One context per (verification mode, files named), loaded again when the mtime or size of a file has changed.

    Loading the CA bundle takes 33 ms of CPU and 0.66 MB, the handshake itself 1.1 ms, and urllib3 loads it for
    each connection that requests makes. Mutable state: the contexts by key, guarded by one lock; built outside it.
    The 64 used last are kept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uses = itertools.count()
        self._contexts: dict[tuple[object, ...], _Loaded] = {}

    def after_fork(self) -> None:
        """In the child: keep the contexts, which hold no connection.

        Making one takes locks of OpenSSL that a handshake of somebody else's may have held at the fork.
        """
        self._lock = threading.Lock()

    def expire(self) -> None:
        """Have each context loaded anew before its next use; connections that have one keep it."""
        for loaded in self._contexts.copy().values():
            loaded.stamps = loaded.refused = None

    def share(self, conn: Any) -> None:
        """Give a connection that is about to dial the shared context for its settings.

        Left alone: plain connections, a context of the caller's own, and host name or fingerprint checks, for
        which urllib3 changes the context. Raises ssl.SSLError when a file cannot be loaded, and never could.
        """
        # requests 2.32.2 hands this global to pools with verify=True: nobody's own wish; truststore replaces it.
        preloaded = getattr(requests.adapters, "_preloaded_ssl_context", None)
        if not hasattr(conn, "cert_reqs") or conn.ssl_context not in (None, preloaded):
            return
        if (
            conn.assert_hostname is not None
            or conn.assert_fingerprint
            or conn.ca_cert_data
            or conn.key_password
        ):
            return
        if conn.ssl_version is not None or conn.ssl_minimum_version or conn.ssl_maximum_version:
            return
        config = getattr(conn, "proxy_config", None)
        if config is not None and (config.assert_hostname is not None or config.assert_fingerprint):
            return
        try:
            conn.ssl_context = context = self._context_for(conn)
        except OSError as error:  # ssl.SSLError is one
            raise ssl.SSLError(
                f"the CA bundle or client certificate cannot be loaded: {error}"
            ) from error
        if config is not None and config.ssl_context is None:
            # The proxy's own TLS is verified with the same settings, which are about to be cleared.
            conn.proxy_config = config._replace(ssl_context=self._for_proxy(conn))
        conn.cert_reqs = context.verify_mode
        # Whatever is left here urllib3 loads into the context again on each dial.
        for name in _FILES:
            setattr(conn, name, None)

    def _for_proxy(self, conn: Any) -> ssl.SSLContext:
        return self._get(
            resolve_cert_reqs(conn.cert_reqs), (conn.ca_certs, conn.ca_cert_dir, None, None)
        )

    def _context_for(self, conn: Any) -> ssl.SSLContext:
        return self._get(
            resolve_cert_reqs(conn.cert_reqs), tuple(getattr(conn, name) for name in _FILES)
        )

    def _get(self, mode: ssl.VerifyMode, files: tuple[str | None, ...]) -> ssl.SSLContext:
        key = (mode, *files)
        known = self._contexts.get(key)
        try:
            stamps = tuple(_stamp(name) for name in files)
            if known is not None and stamps in (known.stamps, known.refused):
                known.used = next(self._uses)
                return known.context
            with GATE:
                made = _Loaded(_build(mode, *files), stamps, next(self._uses))
        except OSError as error:  # ssl.SSLError is one
            if known is None:
                raise
            # Files are replaced one after the other, and not always at once: calls go on as long as they do not fit.
            _events.warn_certificates(error)
            if isinstance(
                error, ssl.SSLError
            ):  # it is what is in them; else they may be opened yet as they are
                known.refused = stamps
            return known.context
        with self._lock:
            known = self._contexts.get(key)
            if known is None or known.stamps != stamps:  # else another thread was faster
                self._contexts[key] = known = made
            while len(self._contexts) > _MOST_CONTEXTS:
                del self._contexts[min(self._contexts, key=self._last_use)]
        return known.context

    def _last_use(self, key: tuple[object, ...]) -> int:
        return self._contexts[key].used


def _stamp(name: str | None) -> tuple[int, int] | None:
    """Return what changes when a file is replaced: certificates are rotated under a running process."""
    if name is None:
        return None
    facts = os.stat(name)  # noqa: PTH116  # a Path per dial only for this
    return facts.st_mtime_ns, facts.st_size


def _build(
    mode: ssl.VerifyMode,
    ca_certs: str | None,
    ca_cert_dir: str | None,
    cert_file: str | None,
    key_file: str | None,
) -> ssl.SSLContext:
    # urllib3's factory, looked up now: truststore replaces the class that it instantiates.
    context = create_urllib3_context(cert_reqs=mode)
    if ca_certs or ca_cert_dir:
        context.load_verify_locations(ca_certs, ca_cert_dir)
    elif mode != ssl.CERT_NONE:
        context.load_default_certs()
    if cert_file:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(cert_file, key_file, _no_password)
    context.set_alpn_protocols(ALPN_PROTOCOLS)
    # urllib3 sets them again on each dial: OpenSSL frees the list while another thread's handshake copies it.
    context.set_alpn_protocols = _already_set  # type: ignore[assignment,method-assign]
    return watched(gated(context))


def _no_password() -> str:
    message = "the client's private key is encrypted, and requests can hand over no password"
    raise ssl.SSLError(errno.EACCES, message)


def _already_set(protocols: object) -> None:
    pass
