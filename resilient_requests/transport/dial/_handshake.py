"""TLS handshakes that a call can end, without a second descriptor of the connection."""

from __future__ import annotations

import _socket
import errno
import os
import ssl
from typing import TYPE_CHECKING, Any

from resilient_requests.call import current_attempt

if TYPE_CHECKING:
    import socket

__all__ = ["duplicate", "has_only_records", "is_watched", "timed", "watched"]

# Both hand the descriptor to an instance of the context's ``sslsocket_class``, and call its
# do_handshake(). truststore's and eventlet's contexts take no notice of that attribute.
_OBEDIENT = ("ssl", "gevent.ssl")


class _Watched:
    """The part that is laid over a TLS socket class."""

    def do_handshake(self, *args: Any, **kwargs: Any) -> None:
        """Shake hands where the current attempt can end it.

        ``ssl.SSLContext.wrap_socket()`` takes the descriptor away from the socket that it is given,
        and returns the new one after the handshake: in between nobody else could shut it down.
        """
        attempt = current_attempt.get()
        try:
            if attempt is not None:
                attempt.token.watch(self)  # type: ignore[arg-type]  # a socket as well
            super().do_handshake(*args, **kwargs)  # type: ignore[misc]
        except BaseException:  # wrap_socket() closes it after an OSError only
            self.close()  # type: ignore[attr-defined]
            raise


def watched(context: ssl.SSLContext) -> ssl.SSLContext:
    """Have attempts reach the handshakes of a context of ours; returns the context."""
    base = getattr(context, "sslsocket_class", None)
    if type(context).__module__ in _OBEDIENT and isinstance(base, type):
        context.sslsocket_class = type(
            base.__name__, (_Watched, base), {"__module__": base.__module__}
        )
    return context


def is_watched(conn: Any) -> bool:
    """Whether its attempt can end all handshakes of a connection that is about to dial."""
    contexts = [conn.ssl_context]
    if conn.proxy_config is not None:
        contexts.append(conn.proxy_config.ssl_context)
    return all(map(_is_watched, contexts))


def _is_watched(context: object) -> bool:
    kind = getattr(context, "sslsocket_class", None)
    return isinstance(kind, type) and issubclass(kind, _Watched)


def has_only_records(sock: object) -> bool:
    """Whether all that an idle connection has received is for TLS itself; takes that from it.

    TLS 1.3 sends session tickets and key updates after the handshake (RFC 8446, section 4.6): a
    connection on which nobody has said anything is readable then. Raises OSError where the
    connection is dead.
    """
    if not isinstance(sock, ssl.SSLSocket):
        return False
    limit = sock.gettimeout()
    sock.settimeout(0)
    try:
        sock.recv(1)
    except ssl.SSLWantReadError:
        return True
    finally:
        sock.settimeout(limit)
    return False  # an end, or a byte that nobody has asked for


def timed(sock: Any) -> Any:
    """Return a socket that tells its timeout: urllib3's over pyOpenSSL cannot without this."""
    if not hasattr(sock, "gettimeout"):
        sock.gettimeout = sock.socket.gettimeout
    return sock


def duplicate(sock: socket.socket) -> _socket.socket | None:
    """Return a second socket for the same connection, to be shut down and closed.

    For the contexts of others, which tell nothing. None where the process has no descriptor left:
    then the handshake ends at its limit.
    """
    try:
        return _socket.socket(fileno=os.dup(sock.fileno()))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return None
        raise
