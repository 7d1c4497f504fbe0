"""Certificates for TLS on loopback, made once per process: one key takes longer than a test."""

from __future__ import annotations

import functools
import ssl
from typing import NamedTuple


class ServerTLS(NamedTuple):
    """A server's context for 127.0.0.1 and localhost, and its CA's certificate as PEM text."""

    context: ssl.SSLContext
    ca: bytes


@functools.lru_cache(maxsize=1)
def loopback_tls() -> ServerTLS:
    """Return the context and the CA of a TLS server. Raises ImportError if trustme is missing."""
    try:
        import trustme  # optional: the extra `test`
    except ImportError as exc:
        msg = "FaultServer(tls=True) needs trustme: pip install trustme"
        raise ImportError(msg) from exc
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return ServerTLS(context, ca.cert_pem.bytes())
