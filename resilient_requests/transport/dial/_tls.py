"""TLS contexts shared by the connections of one adapter."""

from __future__ import annotations

import errno
import os
import ssl
import threading
from typing import Any, NamedTuple

import requests.adapters
from urllib3.util.ssl_ import ALPN_PROTOCOLS, create_urllib3_context, resolve_cert_reqs

from resilient_requests.call import warn_certificates
from resilient_requests.transport.dial._handshake import watched

__all__ = ["TLSContexts", "TLSFiles"]

# Some callers have a CA bundle or certificate in a file of its own for each call: 0.66 MB each.
_MOST_CONTEXTS = 64


class TLSFiles(NamedTuple):
    """The files that a context is made of; None where there is none."""

    ca_certs: str | None
    ca_cert_dir: str | None
    cert_file: str | None
    key_file: str | None


class TLSContexts:
    """One context per verification mode and files, loaded again when the mtime or size of a file has changed.

    Loading the CA bundle takes 33 ms of CPU and 0.66 MB, the handshake itself 1.1 ms, and urllib3
    loads it for each connection that requests makes. Mutable state: the contexts by key, with the
    stamps of their files, guarded by one lock; built outside it. The 64 made last are kept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contexts: dict[tuple[object, ...], tuple[ssl.SSLContext, object]] = {}

    def after_fork(self) -> None:
        """In the child: keep the contexts, which hold no connection.

        Making one takes locks of OpenSSL that another thread's handshake may have held at the fork.
        """
        self._lock = threading.Lock()

    def expire(self) -> None:
        """Have each context loaded anew before its next use; connections that have one keep it."""
        with self._lock:
            for key, (context, _) in self._contexts.items():
                self._contexts[key] = context, None

    def get(self, mode: ssl.VerifyMode, files: TLSFiles) -> ssl.SSLContext:
        """Return the context. Raises ssl.SSLError when a file cannot be loaded, and never could."""
        key = (mode, *files)
        known, stamps = self._contexts.get(key, (None, None))
        try:
            current = tuple(map(_stamp, files))
            if known is not None and stamps == current:
                return known
            made = _build(mode, files)
        except OSError as error:  # ssl.SSLError is one
            if known is None:
                message = f"the CA bundle or client certificate cannot be loaded: {error}"
                raise ssl.SSLError(message) from error
            # Files are replaced one after the other, and not always at once: calls go on as long as they do not fit.
            warn_certificates(error)
            if isinstance(
                error, ssl.SSLError
            ):  # it is in the files: they will not be better until they change
                self._keep(key, known, current)
            return known
        self._keep(key, made, current)
        return made

    def settings(self, conn: Any) -> dict[str, Any]:
        """Return the attributes that a connection needs to dial with a shared context; none where it must not.

        Left alone: plain connections, a context of the caller's own, and host name or fingerprint
        checks, for which urllib3 changes the context. Raises as `get`.
        """
        config = getattr(conn, "proxy_config", None)
        if not hasattr(conn, "cert_reqs") or _has_own_context(conn, config):
            return {}
        mode = resolve_cert_reqs(conn.cert_reqs)
        files = TLSFiles(*(getattr(conn, name) for name in TLSFiles._fields))
        context = self.get(mode, files)
        cleared = dict.fromkeys(TLSFiles._fields)
        found = {"ssl_context": context, "cert_reqs": context.verify_mode, **cleared}
        if config is not None and config.ssl_context is None:
            # The proxy's own TLS is verified with the same settings, which are cleared here.
            proxys = self.get(mode, files._replace(cert_file=None, key_file=None))
            found["proxy_config"] = config._replace(ssl_context=proxys)
        return found

    def _keep(self, key: tuple[object, ...], context: ssl.SSLContext, stamps: object) -> None:
        with self._lock:
            self._contexts.pop(key, None)
            self._contexts[key] = context, stamps
            while len(self._contexts) > _MOST_CONTEXTS:
                del self._contexts[next(iter(self._contexts))]


def _stamp(name: str | None) -> tuple[int, int] | None:
    """Return the facts that change when a file is replaced: certificates are rotated under a running process."""
    if name is None:
        return None
    facts = os.stat(name)  # noqa: PTH116  # a Path per dial only for this
    return facts.st_mtime_ns, facts.st_size


def _build(mode: ssl.VerifyMode, files: TLSFiles) -> ssl.SSLContext:
    # urllib3's factory, looked up now: truststore replaces the class that it instantiates.
    context = create_urllib3_context(cert_reqs=mode)
    if files.ca_certs or files.ca_cert_dir:
        context.load_verify_locations(files.ca_certs, files.ca_cert_dir)
    elif mode != ssl.CERT_NONE:
        context.load_default_certs()
    if files.cert_file:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(files.cert_file, files.key_file, _no_password)
    context.set_alpn_protocols(ALPN_PROTOCOLS)
    # urllib3 sets them again on each dial: OpenSSL frees the list while another thread's handshake copies it.
    context.set_alpn_protocols = _already_set  # type: ignore[assignment,method-assign]
    return watched(context)


def _has_own_context(conn: Any, config: Any) -> bool:
    """Whether a connection's settings are not of those that contexts are shared by."""
    # requests 2.32.2 hands this global to pools with verify=True: nobody's own wish; truststore replaces it.
    preloaded = getattr(requests.adapters, "_preloaded_ssl_context", None)
    own = (
        conn.ssl_context not in (None, preloaded),
        conn.assert_hostname is not None,
        conn.assert_fingerprint,
        conn.ca_cert_data,
        conn.key_password,
        conn.ssl_version is not None,
        conn.ssl_minimum_version,
        conn.ssl_maximum_version,
        config is not None and config.assert_hostname is not None,
        config is not None and config.assert_fingerprint,
    )
    return any(own)


def _no_password() -> str:
    message = "the client's private key is encrypted, and requests can hand over no password"
    raise ssl.SSLError(errno.EACCES, message)


def _already_set(protocols: object) -> None:
    pass
