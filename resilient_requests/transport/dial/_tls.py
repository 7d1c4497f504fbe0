"""TLS contexts shared by the connections of all adapters of a process."""

from __future__ import annotations

import errno
import os
import ssl
import threading
from typing import Any, NamedTuple

import requests.adapters
from urllib3.util import ssl_
from urllib3.util.ssl_ import ALPN_PROTOCOLS, create_urllib3_context, resolve_cert_reqs

from resilient_requests.call import Process, foreign_in, warn_certificates
from resilient_requests.transport.dial._handshake import watched

__all__ = ["SHARED_CONTEXTS", "TLSContexts", "TLSFiles"]

# A bound, because some callers write a CA bundle or certificate to a new file for each call.
_MOST_CONTEXTS = 64
# OpenSSL, and urllib3's factory, read them while they make a context.
_VARIABLES = ("SSLKEYLOGFILE", "SSL_CERT_FILE", "SSL_CERT_DIR")


class TLSFiles(NamedTuple):
    """The files from which a context is made; None for a file that is not used."""

    ca_certs: str | None
    ca_cert_dir: str | None
    cert_file: str | None
    key_file: str | None


class TLSContexts:
    """One TLS context per verification mode, files and surroundings, loaded again on a change.

    The mtime and size of a file tell its change. The surroundings are the class that contexts are
    made from, which truststore replaces, and OpenSSL's variables in the environment. Loading a CA
    bundle takes 33 ms of CPU and 0.66 MB, a handshake 1.1 ms; urllib3 loads the bundle for each
    connection that requests makes. Mutable state: the contexts by key, with the stamps of their
    files, guarded by one lock. A context is built outside the lock. The 64 contexts made last are
    kept. Thread-safe. A forked child keeps the contexts, which hold no connection: making one takes
    locks of OpenSSL, and a handshake of the parent may hold them.
    """

    def __init__(self) -> None:
        self._contexts: dict[tuple[object, ...], tuple[ssl.SSLContext, object]] = {}
        self._free_lock()
        self._process = Process()
        self._process.on_fork(self._free_lock)

    def _free_lock(self) -> None:
        self._lock = threading.Lock()

    def expire(self) -> None:
        """Load each context anew before its next use; existing connections keep theirs."""
        self._process.ensure()
        with self._lock:
            for key, (context, _) in self._contexts.items():
                self._contexts[key] = context, None

    def get(self, mode: ssl.VerifyMode, files: TLSFiles) -> ssl.SSLContext:
        """Return the context. Raises ssl.SSLError if its files cannot be loaded and never were."""
        self._process.ensure()
        key = (mode, *files, ssl_.SSLContext, *map(os.environ.get, _VARIABLES))
        known, stamps = self._contexts.get(key, (None, None))
        try:
            current = tuple(map(_stamp, files))
            if known is not None and stamps == current:
                return known
            made = _build(mode, files)
        except OSError as error:  # ssl.SSLError is one
            if foreign_in(error, _loaders()) is not None:
                raise
            if known is None:
                message = f"the CA bundle or client certificate cannot be loaded: {error}"
                raise ssl.SSLError(message) from error
            # Certificates are replaced file by file. While the files do not fit together, calls go
            # on with the context made before.
            warn_certificates(error)
            # Not tried again until a file changes: the fault is in the files.
            if isinstance(error, ssl.SSLError):
                self._keep(key, known, current)
            return known
        self._keep(key, made, current)
        return made

    def settings(self, conn: Any) -> dict[str, Any]:
        """Return attributes with which a connection dials in a shared context, {} if it must not.

        Left alone are plain connections, a context of the caller's own, and host name or
        fingerprint checks, for which urllib3 changes the context. Raises as `get`.
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
            # The proxy's TLS has the same settings, which are cleared on the connection here.
            # urllib3 shows no client certificate to a proxy.
            proxys = self.get(mode, files._replace(cert_file=None, key_file=None))
            found["proxy_config"] = config._replace(ssl_context=proxys)
        return found

    def _keep(self, key: tuple[object, ...], context: ssl.SSLContext, stamps: object) -> None:
        with self._lock:
            self._contexts.pop(key, None)
            self._contexts[key] = context, stamps
            while len(self._contexts) > _MOST_CONTEXTS:
                del self._contexts[next(iter(self._contexts))]


SHARED_CONTEXTS = TLSContexts()
"""Those of all adapters of a process. ``requests.get`` makes its adapters for one call."""


def _stamp(name: str | None) -> tuple[int, int] | None:
    """Return the facts that show a replaced file: certificates change under running processes."""
    if name is None:
        return None
    facts = os.stat(name)  # noqa: PTH116  # a Path per dial only for this
    return facts.st_mtime_ns, facts.st_size


def _loaders() -> frozenset[str]:
    """Return the packages that load the files: another one may have replaced ssl's."""
    kind: Any = ssl_.SSLContext
    loaders = (kind, kind.load_verify_locations)
    modules = (getattr(each, "__module__", None) or "ssl" for each in loaders)
    return frozenset(name.partition(".")[0] for name in modules)


def _build(mode: ssl.VerifyMode, files: TLSFiles) -> ssl.SSLContext:
    # One per mode: a context that checks host names refuses CERT_NONE with a ValueError.
    # urllib3's factory, because truststore replaces the class that it instantiates.
    context = create_urllib3_context(cert_reqs=mode)
    if files.ca_certs or files.ca_cert_dir:
        context.load_verify_locations(files.ca_certs, files.ca_cert_dir)
    elif mode != ssl.CERT_NONE:
        context.load_default_certs()
    if files.cert_file:
        # Without a password callback OpenSSL asks for one on the terminal.
        context.load_cert_chain(files.cert_file, files.key_file, _no_password)
    context.set_alpn_protocols(ALPN_PROTOCOLS)
    # urllib3 sets them again at each dial. OpenSSL then frees the list while another thread's
    # handshake copies it.
    context.set_alpn_protocols = _already_set  # type: ignore[assignment,method-assign]
    return watched(context)


def _has_own_context(conn: Any, config: Any) -> bool:
    """True if a connection has TLS settings of its own, so that its context cannot be shared."""
    # requests 2.32.2 passes this global to pools with verify=True: it is nobody's own setting, and
    # truststore replaces it.
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
