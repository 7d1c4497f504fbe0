"""Connects to the first address of a name that answers, without threads (RFC 8305)."""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from resilient_requests.call import boot
from resilient_requests.transport.dial import _limits
from resilient_requests.transport.dial._options import set_one
from resilient_requests.transport.dial._replaced import can_wait_on_several, is_callers_own
from resilient_requests.transport.dial._tries import Outcome, Try

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resilient_requests.transport.dial._addresses import AddressInfo
    from resilient_requests.transport.dial._options import SocketOption

__all__ = ["Dial", "Reached", "Token"]

# RFC 8305, section 5: "Connection Attempt Delay", recommended 250 milliseconds.
_DELAY = 0.25

# A non-blocking connect() has begun: EINPROGRESS (connect(2)), or EWOULDBLOCK on Windows.
_UNDER_WAY = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN})


class Token(Protocol):
    """The part of a call's token that a dial uses.

    A call that has ended shuts down the socket that it watches; then all three raise its error.
    """

    def clip(self, limit: float | None) -> float | None:
        """Return the seconds for the next wait: ``limit`` or less; None is no limit."""

    def check(self) -> None:
        """Raise the error of the call if it has ended."""

    def watch(self, sock: socket.socket) -> None:
        """Set the socket whose shutdown wakes the dialling thread; then as `check`."""


Reached = tuple["AddressInfo", int]
"""The address that has connected, and the number of addresses tried until then."""


class _Pending(NamedTuple):
    """A socket that is connecting."""

    sock: socket.socket
    address: AddressInfo
    since: float


class Dial:
    """One dial of the addresses of a name; used once, by one thread.

    ``addresses`` are in the order of the tries. ``options`` apply to each socket,
    ``source_address`` binds it. ``limit`` is in seconds, for the whole dial, and becomes the
    timeout of the returned socket; None is no limit. ``token`` ends the dial.

    The next address starts 250 ms after the one before, or as soon as that fails; sooner if the
    limit is short. The first that connects wins, and the others are closed.
    """

    def __init__(
        self,
        addresses: Sequence[AddressInfo],
        *,
        options: Sequence[SocketOption] | None,
        source_address: tuple[str, int] | None,
        limit: float | None,
        token: Token,
    ) -> None:
        self._addresses = addresses
        self._options = options or ()
        self._source_address = source_address
        self._limit = limit
        self._token = token
        self._pending: list[_Pending] = []
        self._due = -math.inf  # boot time at which the next address starts
        # Plain tuples: `tries` makes objects of them, and few callers ask.
        self._over: list[tuple[AddressInfo, Outcome, float, str | None]] = []
        # Emptied before the dial returns or raises: the frames of the errors refer to this object.
        self._errors: list[OSError] = []

    def __repr__(self) -> str:
        return f"<Dial {', '.join(map(str, self.tries))}>"

    @property
    def tries(self) -> list[Try]:
        """The outcome of each address so far: finished ones first, then those not begun."""
        untried = self._addresses[self.begun :]
        return [*(Try(*each) for each in self._over), *(Try(e, Outcome.UNTRIED) for e in untried)]

    @property
    def begun(self) -> int:
        """The number of addresses tried so far."""
        return len(self._over) + len(self._pending)

    def connect(self) -> tuple[socket.socket, Reached]:
        """Return the first socket that connects, its timeout set to the limit, and its address.

        Raises the OSError of the last address, with a text about all of them; TimeoutError after
        the limit; the error of the call if that has ended. On an error no socket is left open. The
        token watches the returned socket.
        """
        limit, until = self._limit, None
        if len(self._addresses) > 1:
            if can_wait_on_several(socket.socket):
                return self._race()
            until = _until(limit)
        for address in self._addresses:
            since, sock = time.monotonic(), None
            try:
                sock = self._open(address)
                sock.settimeout(self._token.clip(limit))
                self._token.watch(sock)
                sock.connect(address[4])
                if limit != self._limit:
                    sock.settimeout(self._token.clip(self._limit))
            except OSError as error:
                _close(sock)
                self._token.check()
                self._failed(address, since, error)
                limit = _left(until)
                if limit == 0:
                    break
            except BaseException:
                _close(sock)
                raise
            else:
                self._over.append((address, Outcome.CONNECTED, time.monotonic() - since, None))
                self._errors.clear()
                return sock, (address, len(self._over))
        raise self._failure()

    def _open(self, address: AddressInfo) -> socket.socket:
        sock = socket.socket(*address[:3])
        try:
            for option in self._options:
                set_one(sock, option)
            if self._source_address:
                sock.bind(self._source_address)
        except BaseException:
            sock.close()
            raise
        return sock

    def _failed(self, address: AddressInfo, since: float, error: OSError) -> None:
        if is_callers_own(error):
            self._errors.clear()
            raise error  # no other address is tried
        error = _limits.explained(error, self._source_address)
        self._errors.append(error)
        self._due = -math.inf
        self._end_of(address, Outcome.FAILED, since, error)

    def _end_of(
        self, address: AddressInfo, outcome: Outcome, since: float, error: OSError | None = None
    ) -> None:
        text = None if error is None else error.strerror or str(error)
        self._over.append((address, outcome, time.monotonic() - since, text))

    # -- several at once --------------------------------------------------------------------------

    def _race(self) -> tuple[socket.socket, Reached]:
        waiting = list(reversed(self._addresses))
        until, delay = _until(self._limit), self._delay()
        try:
            while waiting or self._pending:
                left = self._token.clip(_left(until))
                if left == 0:
                    self._end(TimeoutError("timed out"))
                    break
                now = boot()
                if waiting and (now >= self._due or not self._pending):
                    self._due = now + delay
                    self._begin(waiting.pop())
                    continue
                # At most the delay: the poll's clock stops while the machine sleeps, and except on
                # Linux the shutdown of a connecting socket wakes no poll.
                pause = min(self._due - now, delay) if waiting else _DELAY
                won = self._wait(pause if left is None else min(pause, left))
                if won is not None:
                    self._errors.clear()
                    return won.sock, (won.address, self.begun)
        finally:
            self._end()
        # A socket that a cancel shuts down fails with a reset: the end of the call comes first.
        self._token.check()
        raise self._failure()

    def _delay(self) -> float:
        # Within a short limit all addresses start; RFC 8305, section 5: at least 10 ms apart.
        most = math.inf if self._limit is None else self._limit / len(self._addresses)
        return min(_DELAY, max(most, 0.01))

    def _begin(self, address: AddressInfo) -> None:
        """Start to connect to one more address; it may fail at once."""
        since = time.monotonic()
        try:
            sock = self._open(address)
        except OSError as error:
            self._failed(address, since, error)
            return
        each = _Pending(sock, address, since)
        self._pending.append(each)
        sock.settimeout(0)
        # The latest is enough: the shutdown of one socket wakes the poll of all of them.
        self._token.watch(sock)
        try:
            sock.connect(address[4])
        except OSError as error:
            if error.errno not in _UNDER_WAY:
                self._drop(each, error)

    def _wait(self, seconds: float) -> _Pending | None:
        """Wait for the connecting sockets; return one that has connected, None if none has."""
        ready = _ready([each.sock for each in self._pending], seconds)
        for each in [each for each in self._pending if each.sock in ready]:
            # The outcome of a non-blocking connect() (connect(2)).
            number = each.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                self._drop(each, OSError(number, os.strerror(number)))
                continue
            self._token.watch(each.sock)
            each.sock.settimeout(self._token.clip(self._limit))
            self._pending.remove(each)
            self._end_of(each.address, Outcome.CONNECTED, each.since)
            return each
        return None

    def _drop(self, each: _Pending, error: OSError) -> None:
        self._pending.remove(each)
        each.sock.close()
        self._failed(each.address, each.since, error)
        if self._pending:
            self._token.watch(self._pending[-1].sock)

    def _end(self, error: OSError | None = None) -> None:
        """Close sockets that still connect: failed with ``error``, or overtaken without one."""
        while self._pending:
            each = self._pending.pop(0)
            each.sock.close()
            if error is None:
                self._end_of(each.address, Outcome.OVERTAKEN, each.since)
            else:
                self._failed(each.address, each.since, error)

    def _failure(self) -> OSError:
        """Return the error of the dial; its text tells the outcome of each of several addresses."""
        errors, self._errors = self._errors or [TimeoutError("timed out")], []
        # A timeout goes first: with more time the dial might have succeeded.
        error = next((each for each in errors if isinstance(each, TimeoutError)), errors[-1])
        if len(self._addresses) == 1:
            return error
        told = f"{error.strerror or error} ({'; '.join(map(str, self.tries))})"
        return type(error)(told) if error.errno is None else type(error)(error.errno, told)


def _ready(socks: Sequence[socket.socket], seconds: float) -> list[socket.socket]:
    """Return the sockets that have connected or failed, after at most ``seconds``."""
    if hasattr(select, "poll"):  # eventlet removes it
        poll = select.poll()
        for sock in socks:
            poll.register(sock.fileno(), select.POLLOUT)
        # Rounded up: poll() takes whole milliseconds, and 0 would spin.
        found = {fd for fd, _ in poll.poll(math.ceil(seconds * 1000))}
        return [sock for sock in socks if sock.fileno() in found]
    # Windows reports a failed connect in the third list.
    _, writable, failed = select.select([], socks, socks, seconds)
    return [sock for sock in socks if sock in writable or sock in failed]


def _until(limit: float | None) -> float | None:
    """Return the boot time in ``limit`` seconds; None if there is no limit."""
    return None if limit is None else boot() + limit


def _left(until: float | None) -> float | None:
    return None if until is None else max(until - boot(), 0.0)


def _close(sock: socket.socket | None) -> None:
    if sock is not None:
        sock.close()
