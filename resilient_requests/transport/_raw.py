"""RawResponse: http.client's response with interim answers, cut heads and proxies' statuses."""

from __future__ import annotations

import http.client
import threading
import types
from typing import TYPE_CHECKING, Any

from resilient_requests.call import Phase
from resilient_requests.transport._head import Head, is_chunked, parse_head

if TYPE_CHECKING:
    from resilient_requests.transport._socket import SocketReader

__all__ = ["RawResponse", "is_bodiless"]

# One read takes a whole head of ordinary size, often with the start of the body.
_HEAD_SIZE = 16 * 1024
_BODILESS = (http.client.NO_CONTENT, http.client.NOT_MODIFIED)


class RawResponse(http.client.HTTPResponse):
    """http.client's response over a `SocketReader`."""

    # Its finalizer looks at it, even where an exception has interrupted the constructor.
    fp: Any = None
    _method: str
    _outlives_connection = False
    closed_by: int | None = None  # id of the thread that closed it before its end

    def __init__(self, reader: SocketReader, *args: Any, **kwargs: Any) -> None:
        self.reader = reader
        # http.client uses nothing of a socket but its makefile().
        super().__init__(reader, *args, **kwargs)  # type: ignore[arg-type]

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        attempt = self.reader.attempt
        if attempt.phase is Phase.HANDSHAKE:
            attempt.tunnelled(status)
            # http.client accepts 200 only. RFC 9110 9.3.6: any 2xx to CONNECT opens the tunnel.
            return version, 200 if 200 <= status < 300 else status, reason
        if 102 <= status < 200:
            # http.client skips 100 only, and takes 102 and 103 for the final answer. RFC 9110 15.2:
            # any number of 1xx answers may precede it.
            # 101 stays: another protocol follows it (RFC 9110 15.2.2).
            status = http.client.CONTINUE
        if status == http.client.CONTINUE:
            attempt.interim()
        return version, status, reason

    def begin(self, *args: Any, **kwargs: Any) -> None:
        """Read the head. Raises IncompleteRead if the peer leaves inside it."""
        # With a debuglevel http.client prints each head that it reads.
        head = None if args or kwargs or self.debuglevel or _are_replaced() else self._short_head()
        if head is None:
            super().begin(*args, **kwargs)
            self._look_for_chunks()
        else:
            self._take(head)
        if self.chunked and self._method != "HEAD" and is_bodiless(self):
            # RFC 9112 6.3: it has no chunks. http.client and urllib3 would read some all the same,
            # but not behind HEAD.
            self.chunked, self.length, self._method = False, 0, "HEAD"
        reader = self.reader
        if reader.has_ended:
            # http.client takes the end of the stream for the end of the head: a cut answer would
            # become a 200 without a body.
            raise http.client.IncompleteRead(b"")
        attempt = reader.attempt
        attempt.headed(self.status, reader)
        ends_with_connection = self.length is None and not self.chunked
        reader.begin_body(attempt.limits.idle, ends_with_connection=ends_with_connection)

    def _short_head(self) -> Head | None:
        reader = self.reader
        data = reader.recv(_HEAD_SIZE)
        head = parse_head(data)
        reader.unread(data if head is None else data[head.size :])
        return head

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:
            raise ValueError("negative chunk size")  # http.client makes it an IncompleteRead
        return size

    @property
    def is_at_boundary(self) -> bool:
        """True if the body has ended, and every byte read from the socket belongs to it."""
        reader = self.reader
        if reader.has_ended or reader.has_surplus or reader.held:
            return False
        if self.status == http.client.SWITCHING_PROTOCOLS:
            return False  # another protocol follows (RFC 9110 15.2.2)
        return self.isclosed() or (self.length == 0 and not reader.peek(self.fp))

    def outlive_connection(self) -> None:
        """Stay open at the next close, which is that of the connection.

        Other code has given the connection back before the end of the body, and may read on.
        """
        self._outlives_connection = True

    def close(self) -> None:
        """Close the response, and end another thread's read of it.

        The file that is closed here has a lock, which a reading thread holds.
        """
        if self._outlives_connection:
            self._outlives_connection = False
            return
        if self.fp is not None:
            self.closed_by = threading.get_ident()
            self.reader.wake()
        try:
            super().close()
        # The lock is held by a greenlet of this thread, or by a read that a signal has interrupted.
        except RuntimeError:
            pass
        except (AttributeError, ValueError):
            pass  # another thread, or the collector, has closed the file first

    def _take(self, head: Head) -> None:
        """Copy a parsed head into the fields that http.client sets when it parses one itself."""
        self.code = self.status = head.status
        self.reason, self.version = head.reason, 11
        self.headers = self.msg = head.fields
        self.chunked, self.length = head.is_chunked, head.length
        if self.chunked:
            self.chunk_left = self.length = None
        if is_bodiless(self):
            self.length = 0
        self.will_close = head.closes or not (self.chunked or self.length is not None)

    def _look_for_chunks(self) -> None:
        """Find a chunked body that http.client has missed: it knows the bare word only."""
        fields: list[str] = self.headers.get_all("Transfer-Encoding", [])
        if not self.chunked and is_chunked(",".join(fields)):
            self.chunked = True
            self.chunk_left = None
            self.length = 0 if is_bodiless(self) else None
            self.will_close = self._check_close()  # type: ignore[attr-defined]
        if self.chunked and self.version < 11:
            self.will_close = True  # RFC 9112 6.1: the framing may be faulty


def is_bodiless(response: http.client.HTTPResponse) -> bool:
    """True if a response has no body, even if its head announces one (RFC 9112 6.3)."""
    status = response.status
    method = response._method  # type: ignore[attr-defined]
    return status in _BODILESS or status < 200 or method == "HEAD"


def _readers() -> tuple[Any, ...]:
    """Return the functions that read heads, as they are now."""
    kind: Any = http.client.HTTPResponse
    return kind.begin, kind._read_status, http.client.parse_headers


_READERS = _readers()
# A wrapper may look like the function itself.
_WERE_REPLACED = not all(
    type(each) is types.FunctionType and each.__globals__ is vars(http.client) for each in _READERS
)


def _are_replaced() -> bool:
    """True if another package replaced the functions that read heads, even before our import.

    It wants to see or mend each head, so http.client must read them.
    """
    return _WERE_REPLACED or _readers() != _READERS
