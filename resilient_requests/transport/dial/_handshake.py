"""TLS handshakes that a call can end, without a second descriptor of the connection."""

from __future__ import annotations

import _socket
import errno
import os
from typing import TYPE_CHECKING, Any

from resilient_requests.call import current_attempt

if TYPE_CHECKING:
    import socket
    import ssl

__all__ = ["duplicate", "is_watched", "timed", "watched"]

# The contexts of these modules pass the descriptor to an instance of ``sslsocket_class``, and call
# its do_handshake(). Contexts of truststore and eventlet ignore the attribute.
_OBEDIENT = ("ssl", "gevent.ssl")


class _Watched:
    """The mixin over a TLS socket class."""

    def do_handshake(self, *args: Any, **kwargs: Any) -> None:
        """Shake hands on a socket that the current attempt can shut down.

        ``ssl.SSLContext.wrap_socket()`` detaches the descriptor from the socket that it is given,
        and returns the new socket after the handshake. Meanwhile only this method knows the new
        socket.
        """
        attempt = current_attempt.get()
        try:
            if attempt is not None:
                attempt.token.watch(self)  # type: ignore[arg-type]  # a socket as well
            super().do_handshake(*args, **kwargs)  # type: ignore[misc]
        except BaseException:  # wrap_socket() closes the socket after an OSError only
            self.close()  # type: ignore[attr-defined]
            raise


def watched(context: ssl.SSLContext) -> ssl.SSLContext:
    """Let attempts end the handshakes of a context of ours; returns the context."""
    base = getattr(context, "sslsocket_class", None)
    if type(context).__module__ in _OBEDIENT and isinstance(base, type):
        context.sslsocket_class = type(
            base.__name__, (_Watched, base), {"__module__": base.__module__}
        )
    return context


def is_watched(conn: Any) -> bool:
    """Return True if the attempt can end all handshakes of a connection about to dial."""
    contexts = [conn.ssl_context]
    if conn.proxy_config is not None:
        contexts.append(conn.proxy_config.ssl_context)
    return all(map(_is_watched, contexts))


def _is_watched(context: object) -> bool:
    kind = getattr(context, "sslsocket_class", None)
    return isinstance(kind, type) and issubclass(kind, _Watched)


def timed(sock: Any) -> Any:
    """Return the socket with a ``gettimeout``, which urllib3's socket over pyOpenSSL lacks."""
    if not hasattr(sock, "gettimeout"):
        sock.gettimeout = sock.socket.gettimeout
    return sock


def duplicate(sock: socket.socket) -> _socket.socket | None:
    """Return a second socket for the same connection, to shut it down during a handshake.

    It serves contexts of other packages: their sockets are out of reach until the handshake ends.
    None if the process has no descriptor left: the handshake then ends at its limit only.
    """
    try:
        return _socket.socket(fileno=os.dup(sock.fileno()))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return None
        raise
