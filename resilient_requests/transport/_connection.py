"""Connections that report to an attempt, obey its limits, and can be ended at any moment."""

from __future__ import annotations

import http.client
import socket
from typing import TYPE_CHECKING, Any, Protocol, cast

import urllib3.connection
import urllib3.exceptions
import urllib3.util.connection

from resilient_requests.call import Attempt, Phase
from resilient_requests.transport._head import is_plain_field
from resilient_requests.transport._keepalive import is_silent, parse_hint
from resilient_requests.transport._raw import RawResponse
from resilient_requests.transport._socket import SocketReader
from resilient_requests.transport._upload import Upload, are_stock
from resilient_requests.transport.dial import (
    dial_directly,
    duplicate,
    is_ours_to_dial,
    is_watched,
    leave_dial_to,
    timed,
)

if TYPE_CHECKING:
    import _socket

    from resilient_requests.call import Clock, Instant, Lease, Origin
    from resilient_requests.transport.dial import AddressInfo, Reached, TLSContexts

__all__ = ["ConnectionKeeper", "RecyclingConnection"]

# A body up to this size goes out in one packet, or one TLS record, with its head: half the work for
# both peers.
_SHORT = 8 * 1024
# Seconds to look for an answer after a failed send: it is under way already, or never comes.
_LAST_LOOK = 1.0


class ConnectionKeeper(Protocol):
    """The owner of an adapter's connections."""

    clock: Clock
    tls: TLSContexts

    @property
    def generation(self) -> int:
        """The current generation."""

    def lease(self, origin: Origin, generation: int) -> Lease:
        """Return the lease of a connection on its origin."""

    def first_address(self, conn: RecyclingConnection) -> AddressInfo | None:
        """Return the address that the last dial of the origin reached; None if there is none."""

    def opened(self, conn: RecyclingConnection, attempt: Attempt) -> None:
        """A connection was dialled."""


class RecyclingConnection(urllib3.connection.HTTPConnection):
    """The mixin over the connection class that a pool has.

    ``born`` and ``generation`` belong to the last dial. ``idle_since`` is None until the first
    return to the pool. Owned by the thread that has checked it out.
    """

    # `enroll` sets these. Class attributes, because constructors of SOCKS connections differ.
    _keeper: ConnectionKeeper
    origin: Origin
    born: Instant | None = None
    dialled: Instant | None = None
    reached: Reached | None = None  # None if other code dialled
    generation = -1
    hint: float | None = None
    idle_since: Instant | None = None
    _attempt: Attempt | None = None
    _response: RawResponse | None = None
    _upload: Upload | None = None
    _head: bytes | None = None  # held back until the body comes; empty until it is known
    _writes_fields = False  # True if nobody else wants to see each field of the last head
    _twin: _socket.socket | None = None  # only during a handshake in another package's context

    def enroll(self, keeper: ConnectionKeeper, origin: Origin) -> None:
        """Belong to an adapter; called once, before the first dial."""
        self._keeper, self.origin = keeper, origin

    # -- called by the pool -----------------------------------------------------------------------

    def serve(self, attempt: Attempt | None, idle_for: float | None) -> None:
        """Work for an attempt from now on; None: behave as urllib3's own connection."""
        self._attempt = attempt
        if attempt is not None and idle_for is not None:
            attempt.take(self._keeper.lease(self.origin, self.generation), idle_for)

    @property
    def is_connected(self) -> bool:
        """True if the idle socket is silent."""
        sock = self.sock  # read once: another thread may retire the connection at this moment
        return sock is not None and is_silent(sock)

    def pause(self, now: Instant) -> str | None:
        """Be idle from ``now`` on; return the reason against another request, None without one."""
        self.idle_since = now
        attempt, self._attempt = self._attempt, None
        response, self._response = self._response, None
        self._upload = self._head = None
        if attempt is not None and attempt.send_failed:
            return "request not sent whole"  # the server would take the next request for its rest
        if response is not None and not response.is_at_boundary:
            if self.sock is not None:
                response.outlive_connection()
            return "response not at its end, or bytes behind it"
        # TLS may hold decrypted bytes that no poll of the descriptor shows.
        return "bytes behind the response" if getattr(self.sock, "pending", int)() else None

    # -- dialling ---------------------------------------------------------------------------------

    def connect(self) -> None:
        """Dial and shake hands within the connect limit; a cancel ends it at any moment."""
        keeper, attempt = self._keeper, self._attempt
        # The generation at the start of the dial: a rotation during it may mean that this dial
        # still went into the old network.
        self.generation, self.born, self.dialled = keeper.generation, keeper.clock(), None
        # It clears file names, which urllib3 would load into the context at each dial.
        vars(self).update(keeper.tls.settings(self))
        if attempt is None:
            super().connect()
            return
        attempt.take(keeper.lease(self.origin, self.generation))
        try:
            self.timeout = attempt.token.clip(attempt.limits.connect)
            super().connect()
            timed(self.sock)
            if self._twin is not None:
                attempt.token.watch(self.sock)
            attempt.token.check()
        except BaseException as error:
            attempt.failed(error)
            raise
        finally:
            if self._twin is not None:
                # Closed at once: as long as a duplicate is open, close() sends no FIN.
                self._twin.close()
                self._twin = None
        attempt.trusts(type(self.sock))  # another package's perhaps, such as pyOpenSSL's
        attempt.connected()
        keeper.opened(self, attempt)

    def _new_conn(self) -> socket.socket:
        attempt, dial = self._attempt, super()._new_conn
        if attempt is None:
            return leave_dial_to(self, dial)
        attempt.dials(Phase.CONNECT)
        is_ours = is_ours_to_dial(dial)
        # Any of these may have been replaced; errors raised there are still errors of the dial.
        attempt.trusts(socket.socket, getattr(socket.socket, "connect", None), socket.getaddrinfo)
        if is_ours:
            first = self._keeper.first_address(self)
            sock, self.reached = dial_directly(self, attempt, first)
        else:
            attempt.trusts(urllib3.util.connection.create_connection, type(self))
            sock = leave_dial_to(self, dial)
        is_hidden = hasattr(self, "ssl_context") and not is_watched(self)
        if is_hidden or not is_ours:
            try:
                self._twin = duplicate(sock) if is_hidden else None
                attempt.token.watch(self._twin or sock)
            except BaseException:  # cancelled at this moment, and nothing else refers to the socket
                sock.close()
                raise
        attempt.dials(Phase.HANDSHAKE)
        self.dialled = self._keeper.clock()
        return sock

    # -- one request ------------------------------------------------------------------------------

    def request(self, method: str, url: str, body: Any = None, *args: Any, **kwargs: Any) -> None:
        """Send a request; the head goes out together with a short body."""
        is_short = isinstance(body, (bytes, str)) and 0 < len(body) <= _SHORT
        below: Any = super()
        # Other code may wait for an answer to the head, or send a request of its own first.
        is_stock = are_stock(below.request, below.endheaders, below.send)
        self._head = b"" if is_short and is_stock and not self.debuglevel else None
        beneath: Any = super(urllib3.connection.HTTPConnection, self)
        self._writes_fields = is_stock and are_stock(below.putheader, beneath.putheader)
        try:
            super().request(method, url, body, *args, **kwargs)
        except Exception as error:
            if (attempt := self._attempt) is not None and is_stock:
                attempt.raised(error)
            elif attempt is not None:
                attempt.failed_in(type(self), error)
            raise

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        """Begin a request; the write limit applies from here on."""
        if (attempt := self._attempt) is not None:
            attempt.begin(Phase.SEND)
            # Without a socket http.client dials in send(), and the upload begins there.
            if self.sock is not None:
                self._begin_upload(attempt)
        super().putrequest(*args, **kwargs)

    def putheader(self, header: Any, *values: Any) -> None:
        """Add a field to the head; a plain one in one step, which saves 2 % of a POST."""
        if self._writes_fields and len(values) == 1 and is_plain_field(header, values[0]):
            self._output(f"{header}: {values[0]}".encode("latin-1"))  # type: ignore[attr-defined]
        else:
            super().putheader(header, *values)

    def _begin_upload(self, attempt: Attempt) -> None:
        attempt.token.watch(self.sock)
        # urllib3 leaves the connect limit on the socket, and sendall() takes it for the whole body:
        # 8 MB at 3 MB/s fail under a limit of 0.5 s (measured).
        limit = attempt.token.clip(attempt.limits.write)
        if limit != self.sock.gettimeout():  # settimeout() is a system call
            self.sock.settimeout(limit)
        send: Any = super().send
        if are_stock(send):
            # Another class of responses would not get the bytes that were read meanwhile.
            listens = super().response_class is http.client.HTTPResponse
            self._upload = Upload(self.sock, attempt, listens=listens)
        else:
            attempt.trusts(send, type(self))
            self._upload = Upload(self.sock, attempt, send)

    def send(self, data: Any) -> None:
        """Send a piece of the request, in slices that each have the whole write limit.

        Raises BrokenPipeError as soon as the server refuses the rest, or if the server has answered
        and stops reading: on that error urllib3 reads the answer.
        """
        attempt = self._attempt
        if attempt is None or attempt.phase is not Phase.SEND:
            super().send(data)
            return
        if self.sock is None:
            # http.client would dial inside its send(), and a failed dial would count as a failed
            # send.
            self.connect()
            attempt.begin(Phase.SEND)
            self._begin_upload(attempt)
        if self._head is not None:
            if not self._head:
                self._head = data
                return
            data, self._head = self._head + data, None
        assert self._upload is not None
        if self.debuglevel and are_stock(super().send):
            print("send:", repr(data))  # noqa: T201  # as http.client's own, not called here
        self._upload.send(data)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as urllib3 itself
        """Wait for the response's head within the response limit; keep the server's hint.

        The hint is the seconds of ``Keep-Alive: timeout=``, None without one.
        """
        attempt = self._attempt
        if attempt is None:
            return super().getresponse()
        if attempt.foreign is not None:
            # urllib3 takes some errors of the caller's body for a server's refusal, and goes on to
            # read an answer.
            raise attempt.foreign
        attempt.waiting()
        try:
            response = super().getresponse()
        except BaseException as error:
            # After a failed send this was only a last look: the fault remains that of the send.
            if not attempt.send_failed:
                attempt.failed(error)
            raise
        self.hint = (
            parse_hint(response.headers["Keep-Alive"]) if "Keep-Alive" in response.headers else None
        )
        return response

    def response_class(  # type: ignore[override]  # http.client only calls it
        self, sock: socket.socket, *args: Any, **kwargs: Any
    ) -> http.client.HTTPResponse:
        """Make the response object with which http.client reads a head."""
        attempt = self._attempt or Attempt.unobserved(sock.gettimeout())
        kind: Any = super().response_class
        if kind is not http.client.HTTPResponse:  # other code reads odd heads
            return cast("http.client.HTTPResponse", kind(sock, *args, **kwargs))
        limit = attempt.limits.response
        if attempt.phase is Phase.HANDSHAKE:
            # The answer to CONNECT is a response to http.client, but a part of the dial.
            return RawResponse(SocketReader(sock, attempt, attempt.limits.connect), *args, **kwargs)
        if attempt.send_failed:
            limit = _LAST_LOOK if limit is None else min(limit, _LAST_LOOK)
        self._response = RawResponse(SocketReader(sock, attempt, limit), *args, **kwargs)
        return self._response
