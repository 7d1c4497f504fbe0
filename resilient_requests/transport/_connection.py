"""Connections that note what an attempt does, obey its limits and can be ended at any moment."""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
import sys
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import urllib3.connection
import urllib3.exceptions
from urllib3.util.wait import wait_for_read, wait_for_socket

from resilient_requests.call import _attempt
from resilient_requests.call._attempt import Attempt, Phase
from resilient_requests.transport._addresses import in_order, resolve
from resilient_requests.transport._dial import Dial
from resilient_requests.transport._exchange import Exchange, Tap
from resilient_requests.transport._forkgate import GATE
from resilient_requests.transport._handshake import (
    ON_HANDSHAKE,
    duplicate,
    has_only_tickets,
    tells_of_handshake,
)
from resilient_requests.transport._keepalive import parse_hint
from resilient_requests.transport._options import callers, set_own
from resilient_requests.transport._replaced import is_ours_to_dial

if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Hashable

    from resilient_requests.call._clock import Clock, Instant
    from resilient_requests.transport._addresses import AddressInfo
    from resilient_requests.transport._dial import Reached

__all__ = ["RecyclingConnection", "derive"]

_SLICE = 64 * 1024
# A body so short goes into one packet with its head, or into one TLS record: half the work, here and at the server.
_SHORT = 8 * 1024
# After a failed send an answer is either on its way already or will never come.
_LAST_LOOK = 1.0
_REFUSAL = re.compile(rb"(?:^|\r\n\r\n)HTTP/1\.[01] [45]\d\d")
_WHOLE_HEAD = re.compile(rb"(?:^|\r\n\r\n)HTTP/1\.[01] [2-5]\d\d.*?\n\r?\n", re.DOTALL)


class ConnectionKeeper(Protocol):
    """What a connection needs from those who keep it."""

    clock: Clock

    @property
    def generation(self) -> int: ...
    def share_context(self, conn: Any) -> None: ...
    def first_address(self, conn: RecyclingConnection) -> AddressInfo | None: ...
    def opened(self, conn: RecyclingConnection, attempt: Attempt) -> None: ...


class RecyclingConnection(urllib3.connection.HTTPConnection):
    """The part that is laid over whatever connection class a pool has; see `derive`.

    ``idle_since`` is None until it was pooled once. Owned by the thread that has checked it out.
    """

    # Set by the pool on each connection that it makes.
    keeper: ConnectionKeeper
    place: Hashable = None
    loan: Any = None  # of a blocking pool, while it is in use
    # Set when it is dialled.
    born: Instant | None = None
    generation = -1
    pid = -1
    dialled: Instant | None = None
    reached: Reached | None = None  # None where somebody else has dialled
    _twin: _socket.socket | None = None  # only while it shakes hands in a context of others

    hint: float | None = None
    idle_since: Instant | None = None
    _head: bytes | None = None  # held back until the body comes; empty before it was sent
    is_spoilt = (
        False  # a request was not sent whole: the server would read the next one as its rest
    )

    @property
    def is_connected(self) -> bool:
        """Whether nothing can be read: a FIN, a reset, an unsolicited answer make it readable."""
        try:
            return super().is_connected or has_only_tickets(self.sock)
        except (OSError, ValueError):  # another thread retires it at this moment
            return False

    def connect(self) -> None:
        """Dial and shake hands within the connect limit; can be ended at any moment."""
        # The generation in which the dial begins: one that is retired meanwhile may have dialled into the old network.
        self.pid, self.generation, self.born = (
            os.getpid(),
            self.keeper.generation,
            self.keeper.clock(),
        )
        self.keeper.share_context(self)
        attempt = _attempt.current.get()
        if attempt is None:
            super().connect()
            return
        attempt.generation = self.generation
        token = ON_HANDSHAKE.set(attempt.call.watch)
        try:
            self.timeout = attempt.call.clip(attempt.limits.connect)
            super().connect()
            if self._twin is None:
                attempt.call.check()
            else:
                attempt.call.watch(self.sock)
        except BaseException as error:
            attempt.fault = error
            raise
        finally:
            ON_HANDSHAKE.reset(token)
            if self._twin is not None:
                self._twin.close()
                self._twin = None
        # A proxy's answer to CONNECT is no part of the response.
        attempt.bytes_sent = attempt.bytes_received = 0
        attempt.early = b""
        self.keeper.opened(self, attempt)

    def _new_conn(self) -> socket.socket:
        attempt = _attempt.current.get()
        dial = super()._new_conn
        if attempt is None:
            return self._leave_dial_to(dial)
        attempt.phase = Phase.CONNECT
        is_ours = is_ours_to_dial(dial)
        sock = self._dial(attempt) if is_ours else self._leave_dial_to(dial)
        is_hidden = hasattr(self, "ssl_context") and not tells_of_handshake(self)
        if is_hidden or not is_ours:
            try:
                self._twin = duplicate(sock) if is_hidden else None
                attempt.call.watch(self._twin or sock)
            except BaseException:  # cancelled at this moment: nobody else knows the socket
                sock.close()
                raise
        attempt.phase, self.dialled = Phase.HANDSHAKE, self.keeper.clock()
        return sock

    def _leave_dial_to(self, dial: Callable[[], socket.socket]) -> socket.socket:
        """Have PySocks dial, or what replaces urllib3's function; its socket gets our options too."""
        options = self.socket_options
        self.socket_options = callers(options)
        try:
            sock = dial()
        finally:
            self.socket_options = options
        set_own(sock, options)
        return sock

    def _dial(self, attempt: Attempt) -> socket.socket:
        """Do what urllib3 does here, but try several addresses, within reach of a cancel."""
        try:
            with GATE:
                addresses = resolve(self._dns_host, self.port)
            if len(addresses) > 1:
                addresses = in_order(addresses, self.keeper.first_address(self))
        except socket.gaierror as error:
            raise urllib3.exceptions.NameResolutionError(self.host, self, error) from error
        except OSError as error:
            message = f"Failed to establish a new connection: {error}"
            raise urllib3.exceptions.NewConnectionError(self, message) from error
        dial = Dial(
            addresses,
            options=self.socket_options,
            source_address=self.source_address,
            limit=attempt.limits.connect,
            token=attempt.call,
        )
        try:
            sock, self.reached = dial.connect()
        except TimeoutError as error:
            message = f"Connection to {self.host} timed out. (connect timeout={self.timeout})"
            raise urllib3.exceptions.ConnectTimeoutError(self, message) from error
        except OSError as error:
            message = f"Failed to establish a new connection: {error}"
            raise urllib3.exceptions.NewConnectionError(self, message) from error
        sys.audit("http.client.connect", self, self.host, self.port)
        return sock

    def request(self, method: str, url: str, body: Any = None, *args: Any, **kwargs: Any) -> None:
        """Send a request; its head goes out together with a short body."""
        is_short = isinstance(body, (bytes, str)) and 0 < len(body) <= _SHORT
        self._head = b"" if is_short else None
        try:
            super().request(method, url, body, *args, **kwargs)
        except Exception as error:
            attempt = _attempt.current.get()
            if attempt is not None and attempt.phase is Phase.SEND and attempt.fault is None:
                attempt.own = error
            raise

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        """Begin a request: from here on the write limit counts."""
        attempt = _attempt.current.get()
        if attempt is not None:
            if self.sock is not None:
                self._arm_writing(attempt)
            attempt.phase = Phase.SEND
        super().putrequest(*args, **kwargs)

    def _arm_writing(self, attempt: Attempt) -> None:
        attempt.call.watch(self.sock)
        limit = attempt.call.clip(attempt.limits.write)
        if limit != self.sock.gettimeout():  # to set it is a system call
            self.sock.settimeout(limit)

    def send(self, data: Any) -> None:
        """Send a piece of the request, in slices that each have the whole write limit.

        Raises BrokenPipeError as soon as the server refuses the rest, and where it has answered and does not read that:
        urllib3 then reads its answer.
        """
        attempt = _attempt.current.get()
        if attempt is None or attempt.phase is not Phase.SEND:
            super().send(data)
            return
        if self.sock is None:
            # http.client would dial inside its send(): a failure must not count as one of sending.
            self.connect()
            attempt.phase = Phase.SEND
            self._arm_writing(attempt)
        if self._head is not None:
            if not self._head:
                self._head = data
                return
            data, self._head = self._head + data, None
        attempt.sends += 1
        try:
            if len(data) <= _SLICE:
                super().send(data)
                attempt.bytes_sent += len(data)
            elif isinstance(self.sock, socket.socket):
                self._send_sliced(memoryview(data).cast("B"), attempt)
            else:  # TLS inside TLS cannot send without blocking
                super().send(data)
                attempt.bytes_sent += len(data)
        except OSError as error:
            attempt.fault, attempt.send_failed, self.is_spoilt = error, True, True
            if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)):
                # Python 3.10 to 3.12.1 report a reset over TLS so; urllib3 looks for an early answer after this only.
                raise BrokenPipeError("the TLS connection ended") from error
            if isinstance(error, TimeoutError) and self._is_answered(attempt):
                raise BrokenPipeError(
                    "the server has answered, and does not read the rest"
                ) from error
            raise

    def _is_answered(self, attempt: Attempt) -> bool:
        """Look once, without waiting, whether the head of a final answer has come: it stands then."""
        if isinstance(self.sock, socket.socket):
            self.sock.settimeout(0)
            with suppress(OSError):
                self._listen(self.sock, attempt)
        return _WHOLE_HEAD.search(attempt.early) is not None

    def _send_sliced(self, view: memoryview, attempt: Attempt) -> None:
        sock, limits = self.sock, attempt.limits
        sock.settimeout(0)
        listens = True
        try:
            while view:
                try:
                    n = sock.send(view[:_SLICE])
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    n = 0
                    if not wait_for_socket(
                        sock, read=listens, write=True, timeout=attempt.call.clip(limits.write)
                    ):
                        raise TimeoutError("timed out") from None
                view = view[n:]
                attempt.bytes_sent += n
                attempt.call.check()
                if listens and view:
                    listens = self._listen(sock, attempt)
        finally:
            sock.settimeout(limits.write)

    def _listen(self, sock: socket.socket, attempt: Attempt) -> bool:
        """Read what the server says while the body goes out; return whether to go on listening.

        An error status ends the sending (RFC 9112 9.5); any other answer is kept for the reader of the response.
        """
        if not wait_for_read(sock, timeout=0):
            return True
        try:
            data = sock.recv(_SLICE) or b""  # 0 is said by urllib3's TLS inside TLS
        except (BlockingIOError, ssl.SSLWantReadError):
            return True  # a TLS record without application data, such as a session ticket
        attempt.early += data
        attempt.bytes_received += len(data)
        if not data or _REFUSAL.search(attempt.early):
            raise BrokenPipeError("the server has ended the request")
        return len(attempt.early) < _SLICE

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as urllib3 itself
        """Wait for the response's head within the response limit, and note the server's keep-alive hint."""
        attempt = _attempt.current.get()
        if attempt is None:
            return super().getresponse()
        if attempt.own is not None:
            # urllib3 takes some errors of a body for those of a server that refuses the rest, and reads its answer.
            raise attempt.own
        attempt.sent_at = attempt.call.boot()
        if (
            not attempt.send_failed
        ):  # else this is a last look, and the failure remains one of sending
            attempt.phase = Phase.WAIT
        try:
            response = super().getresponse()
        except BaseException as error:
            if attempt.send_failed and error.__context__ is None and error is not attempt.fault:
                # urllib3 has dropped what the send raised, and the end that follows it has no errno.
                error.__context__ = attempt.fault
            attempt.fault = error
            raise
        self.hint = (
            parse_hint(response.headers["Keep-Alive"]) if "Keep-Alive" in response.headers else None
        )
        return response

    def response_class(  # type: ignore[override]  # http.client only calls it
        self, sock: socket.socket, *args: Any, **kwargs: Any
    ) -> http.client.HTTPResponse:
        """Make the response that http.client reads a head with."""
        attempt = _attempt.current.get()
        if attempt is None:
            return http.client.HTTPResponse(sock, *args, **kwargs)
        limit = attempt.limits.response
        if attempt.phase is Phase.HANDSHAKE:
            limit = attempt.limits.connect
        elif attempt.send_failed:
            limit = _LAST_LOOK if limit is None else min(limit, _LAST_LOOK)
        return Exchange(Tap(sock, attempt, limit), *args, **kwargs)


# Weak on both sides: vcrpy makes a class for each cassette, and what is derived from a class refers to it.
_DERIVED: weakref.WeakKeyDictionary[type, weakref.ref[type]] = weakref.WeakKeyDictionary()


def derive(base: type) -> type:
    """Return ``base`` with `RecyclingConnection` over it; ``base`` itself where it is no urllib3 connection.

    From whatever class the pool has now, since vcrpy replaces it and SOCKS has its own. The same one as long as it,
    or a connection of it, is in use.
    """
    known = _DERIVED.get(base)
    derived = None if known is None else known()
    if derived is None:
        derived = _derive(base)
        _DERIVED[base] = weakref.ref(derived)
    return derived


def _derive(base: type) -> type:
    if not issubclass(base, urllib3.connection.HTTPConnection) or issubclass(
        base, RecyclingConnection
    ):
        return base
    return type(base.__name__, (RecyclingConnection, base), {"__module__": base.__module__})
