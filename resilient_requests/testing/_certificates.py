"""Certificates for TLS on loopback, made once per process: a key costs more than a test."""

from __future__ import annotations

import functools
import ssl


@functools.lru_cache(maxsize=1)
def loopback_tls() -> tuple[ssl.SSLContext, bytes]:
    """A server's context for 127.0.0.1 and localhost, and the PEM text of the CA that signed it."""
    try:
        import trustme  # optional: the extra `test`
    except ImportError as exc:
        msg = "FaultServer(tls=True) needs trustme: pip install trustme"
        raise ImportError(msg) from exc
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context, ca.cert_pem.bytes()
