"""Connections that tell an attempt what happens, obey its limits, and can be ended at any moment."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any, Protocol

import urllib3.connection
import urllib3.exceptions
import urllib3.util.connection
from urllib3.util.wait import wait_for_read

from resilient_requests.call import Attempt, Phase, foreign_in
from resilient_requests.transport._keepalive import parse_hint
from resilient_requests.transport._raw import RawResponse
from resilient_requests.transport._socket import SocketReader
from resilient_requests.transport._upload import Upload
from resilient_requests.transport.dial import (
    dial_directly,
    duplicate,
    has_only_records,
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

# A body so short goes into one packet with its head, or into one TLS record: half the work, here
# and at the server.
_SHORT = 8 * 1024
# After a failed send an answer is either on its way already or will never come.
_LAST_LOOK = 1.0
_TLS_ENDS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


class ConnectionKeeper(Protocol):
    """Who keeps the connections of an adapter."""

    clock: Clock
    tls: TLSContexts

    @property
    def generation(self) -> int:
        """The current one."""

    def lease(self, origin: Origin, generation: int) -> Lease:
        """Return the place of a connection among those of its origin."""

    def first_address(self, conn: RecyclingConnection) -> AddressInfo | None:
        """Return the address that the last dial of its origin reached; None: none is known."""

    def opened(self, conn: RecyclingConnection, attempt: Attempt) -> None:
        """A connection was dialled."""


class RecyclingConnection(urllib3.connection.HTTPConnection):
    """The part that is laid over whatever connection class a pool has.

    ``born`` and ``generation`` are those of the last dial; ``idle_since`` is None until it was pooled
    once. Owned by the thread that has checked it out.
    """

    # Set by `enroll`; class attributes, because the constructors of SOCKS connections differ.
    _keeper: ConnectionKeeper
    origin: Origin
    born: Instant | None = None
    dialled: Instant | None = None
    reached: Reached | None = None  # None where somebody else has dialled
    generation = -1
    hint: float | None = None
    idle_since: Instant | None = None
    _attempt: Attempt | None = None
    _response: RawResponse | None = None
    _upload: Upload | None = None
    _head: bytes | None = None  # held back until the body comes; empty before it was sent
    _twin: _socket.socket | None = None  # only while it shakes hands in a context of others

    def enroll(self, keeper: ConnectionKeeper, origin: Origin) -> None:
        """Belong to an adapter; called once, before it is dialled."""
        self._keeper, self.origin = keeper, origin

    # -- what the pool asks -----------------------------------------------------------------------

    def serve(self, attempt: Attempt | None, idle_for: float | None) -> None:
        """Work for an attempt from now on; for one that no adapter sends (None) as urllib3 has it."""
        self._attempt = attempt
        if attempt is not None and idle_for is not None:
            attempt.take(self._keeper.lease(self.origin, self.generation), idle_for)

    @property
    def is_connected(self) -> bool:
        """Whether the idle socket is silent.

        A readable one has a FIN, a reset, or bytes that nobody asked for.
        """
        sock = self.sock  # once: another thread may retire the connection at this moment
        if sock is None:
            return False
        try:
            return not wait_for_read(sock, timeout=0.0) or has_only_records(sock)
        except (OSError, ValueError) as error:
            if foreign_in(error) is not None:
                raise
            return False

    def pause(self, now: Instant) -> str | None:
        """Lie idle from now on; return why the connection must not serve another request, if so."""
        self.idle_since = now
        attempt, self._attempt = self._attempt, None
        response, self._response = self._response, None
        self._upload = self._head = None
        if attempt is not None and attempt.send_failed:
            return "request not sent whole"  # the server would read the next one as its rest
        if response is not None and not response.is_at_boundary:
            return "response not at its end, or bytes behind it"
        return "bytes behind the response" if getattr(self.sock, "pending", int)() else None

    # -- dialling ---------------------------------------------------------------------------------

    def connect(self) -> None:
        """Dial and shake hands within the connect limit; can be ended at any moment."""
        keeper, attempt = self._keeper, self._attempt
        # The generation in which the dial begins: one that is retired meanwhile may have dialled
        # into the old network.
        self.generation, self.born, self.dialled = keeper.generation, keeper.clock(), None
        # What is named here urllib3 would load into a context again on each dial.
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
                self._twin.close()
                self._twin = None
        attempt.trusts(type(self.sock))
        attempt.connected()
        keeper.opened(self, attempt)

    def _new_conn(self) -> socket.socket:
        attempt, dial = self._attempt, super()._new_conn
        if attempt is None:
            return leave_dial_to(self, dial)
        attempt.dials(Phase.CONNECT)
        is_ours = is_ours_to_dial(dial)
        # All of these are replaced: what another package raises there is an error of the dial.
        attempt.trusts(socket.socket, socket.socket.connect, socket.getaddrinfo)
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
            except BaseException:  # cancelled at this moment: nobody else knows the socket
                sock.close()
                raise
        attempt.dials(Phase.HANDSHAKE)
        self.dialled = self._keeper.clock()
        return sock

    # -- one request ------------------------------------------------------------------------------

    def request(self, method: str, url: str, body: Any = None, *args: Any, **kwargs: Any) -> None:
        """Send a request; its head goes out together with a short body."""
        is_short = isinstance(body, (bytes, str)) and 0 < len(body) <= _SHORT
        self._head = b"" if is_short else None
        try:
            super().request(method, url, body, *args, **kwargs)
        except Exception as error:
            if self._attempt is not None:
                self._attempt.raised(error)
            raise

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        """Begin a request: from here on the write limit counts."""
        if (attempt := self._attempt) is not None:
            attempt.begin(Phase.SEND)
            if self.sock is not None:
                self._begin_upload(attempt)
        super().putrequest(*args, **kwargs)

    def _begin_upload(self, attempt: Attempt) -> None:
        attempt.token.watch(self.sock)
        limit = attempt.token.clip(attempt.limits.write)
        if limit != self.sock.gettimeout():  # to set it is a system call
            self.sock.settimeout(limit)
        self._upload = Upload(self.sock, attempt)

    def send(self, data: Any) -> None:
        """Send a piece of the request, in slices that each have the whole write limit.

        Raises BrokenPipeError as soon as the server refuses the rest, and where it has answered and
        does not read that: urllib3 then reads its answer.
        """
        attempt = self._attempt
        if attempt is None or attempt.phase is not Phase.SEND:
            super().send(data)
            return
        if self.sock is None:
            # http.client would dial inside its send(): a failure must not count as one of sending.
            self.connect()
            attempt.begin(Phase.SEND)
            self._begin_upload(attempt)
        if self._head is not None:
            if not self._head:
                self._head = data
                return
            data, self._head = self._head + data, None
        assert self._upload is not None
        try:
            self._upload.send(data)
        except BaseException as error:
            attempt.send_broke(error)
            if isinstance(error, _TLS_ENDS):
                # Python 3.10 to 3.12.1 report a reset over TLS so; urllib3 looks for an early
                # answer after this only.
                raise BrokenPipeError("the TLS connection ended") from error
            is_timeout = isinstance(error, TimeoutError) and attempt.foreign is None
            if is_timeout and self._upload.has_whole_answer():
                message = "the server has answered, and does not read the rest"
                raise BrokenPipeError(message) from error
            raise

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as urllib3 itself
        """Wait for the response's head within the response limit, and note the server's keep-alive hint."""
        attempt = self._attempt
        if attempt is None:
            return super().getresponse()
        if attempt.foreign is not None:
            # urllib3 takes some errors of a body for those of a server that refuses the rest, and
            # reads its answer.
            raise attempt.foreign
        attempt.waiting()
        try:
            response = super().getresponse()
        except BaseException as error:
            if (
                not attempt.send_failed
            ):  # else this was a last look, and the failure remains that of the send
                attempt.failed(error)
            raise
        self.hint = (
            parse_hint(response.headers["Keep-Alive"]) if "Keep-Alive" in response.headers else None
        )
        return response

    def response_class(  # type: ignore[override]  # http.client only calls it
        self, sock: socket.socket, *args: Any, **kwargs: Any
    ) -> RawResponse:
        """Make the response that http.client reads a head with."""
        attempt = self._attempt or Attempt.unobserved(sock.gettimeout())
        limit = attempt.limits.response
        if attempt.phase is Phase.HANDSHAKE:
            return RawResponse(SocketReader(sock, attempt, attempt.limits.connect), *args, **kwargs)
        if attempt.send_failed:
            limit = _LAST_LOOK if limit is None else min(limit, _LAST_LOOK)
        self._response = RawResponse(SocketReader(sock, attempt, limit), *args, **kwargs)
        return self._response
