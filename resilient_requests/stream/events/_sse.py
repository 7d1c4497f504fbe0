"""Server-sent events out of bytes, by the WHATWG rules; no I/O."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAX_EVENT_BYTES", "EventTooLarge", "SSEDecoder", "ServerSentEvent"]

# No honest event comes near to it, and each process can spare it.
MAX_EVENT_BYTES = 16 * 1024 * 1024
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # missing in typeshed
_CR = 0x0D  # a number: looking for bytes first raises, and drops, a TypeError inside
_SEPARATOR = "\n\ndata: "
_new = tuple.__new__
_MOST_DIGITS = 20  # int() raises for thousands of digits


class EventTooLarge(ValueError):
    """An event is larger than the limit; ``events`` are those completed before it."""

    def __init__(self, events: Sequence[ServerSentEvent] = ()) -> None:
        super().__init__()
        self.events = events


class ServerSentEvent(NamedTuple):
    """One event; immutable.

    ``event`` is "message" if the stream gave no name. ``id`` is the last id seen so far. ``retry``
    is the reconnection time in milliseconds that came with this event, else None. A tuple, because
    making a frozen dataclass takes as long as parsing the event.
    """

    event: str = "message"
    data: str = ""
    id: str = ""
    retry: int | None = None

    def json(self) -> Any:
        """Return ``data`` parsed as JSON. Raises ``json.JSONDecodeError`` (a ValueError)."""
        data = self.data
        try:
            # As json.loads does after its checks, in two thirds of the time. White space is left to
            # it.
            value, end = _scan(data, 0)
        except StopIteration:
            return json.loads(data)
        return value if end == len(data) else json.loads(data)


class SSEDecoder:
    """Decodes the event stream of WHATWG HTML 9.2.6, for any cuts between reads; for one thread.

    ``max_event_bytes`` limits a block, and so the memory. ``last_event_id`` and ``retry``
    (milliseconds or None) are the state of the stream so far. ``error_field``: True takes the
    non-standard field ``error`` of some servers for the data of an event named "error".
    """

    def __init__(
        self, max_event_bytes: int = MAX_EVENT_BYTES, *, error_field: bool = False
    ) -> None:
        self.last_event_id = ""
        self.retry: int | None = None
        self._max = max_event_bytes
        self._error_field = error_field
        self._line = bytearray()  # an unfinished line
        self._at_start = True
        self._swallow_lf = False
        self._reset()

    def _reset(self) -> None:
        self._event = ""
        self._data: list[str] = []
        self._id: str | None = None
        self._retry: int | None = None
        self._size = 0  # of the unfinished block, without its unfinished line

    @property
    def is_pending(self) -> bool:
        """True if an unfinished block is held."""
        return bool(self._line or self._data or self._event or self._id is not None)

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Return the events that ``data`` completes. Raises `EventTooLarge`."""
        if (
            data.startswith(b"data: ")
            and data.endswith(b"\n\n")
            and data.find(b"\n") == len(data) - 2
            and _CR not in data
            and not (self._size or self._line or self._swallow_lf)
            and len(data) <= self._max
        ):
            # One event with one line of data: most events arrive like that.
            self._at_start = False
            text = data[6:-2].decode("utf-8", "replace")
            # Without the constructor of the named tuple, which is Python code.
            return [_new(ServerSentEvent, ("message", text, self.last_event_id, None))]
        if self._swallow_lf and data:
            # A CR has ended the line at once; an LF right after it is the rest of that line end.
            data, self._swallow_lf = data.removeprefix(b"\n"), False
        if _CR in data:
            self._swallow_lf = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events: list[ServerSentEvent] = []
        if self._size or self._line:
            first = data.find(b"\n\n") + 2
            if first < 2:
                self._feed_lines(data, events)
                return events
            self._feed_lines(data[:first], events)
            data = data[first:]
        last = data.rfind(b"\n\n") + 2
        if last >= 2:
            if not self._feed_plain(data[:last], events):
                self._feed_lines(data[:last], events)
            data = data[last:]
        if data:
            self._feed_lines(data, events)
        return events

    def flush(self) -> list[ServerSentEvent]:
        """Return the event of an unfinished block, at a clean end of the stream."""
        events: list[ServerSentEvent] = []
        self._feed_lines(b"\n\n", events)
        return events

    def _feed_plain(self, blocks: bytes, events: list[ServerSentEvent]) -> bool:
        """Decode whole blocks at once if each is one "data: " line, as most are.

        Returns False if they are not.
        """
        count = blocks.count(b"\n\n")
        if (
            not blocks.startswith(b"data: ")
            or blocks.count(b"\n") != 2 * count
            or blocks.count(b"\n\ndata: ") != count - 1
            or len(blocks) > self._max
        ):
            return False
        self._at_start = False
        last_id = self.last_event_id
        events += [
            _new(ServerSentEvent, ("message", data, last_id, None))
            for data in blocks[6:-2].decode("utf-8", "replace").split(_SEPARATOR)
        ]
        return True

    def _feed_lines(self, data: bytes, events: list[ServerSentEvent]) -> None:
        at = 0
        while (end := data.find(b"\n", at)) >= 0:
            if self._line:
                self._line += data[at:end]
                with memoryview(self._line) as line:
                    self._take(line, events)
                self._line = bytearray()
            else:
                self._take(memoryview(data)[at:end], events)
            at = end + 1
        self._line += data[at:] if at else data
        if self._size + len(self._line) > self._max:
            raise EventTooLarge(events)

    def _take(self, line: memoryview, events: list[ServerSentEvent]) -> None:
        """Take one line.

        A view, since a line may be as large as the limit: it is copied once, in decoding.
        """
        if self._at_start:
            self._at_start = False
            # One byte order mark may begin the stream.
            if bytes(line[:3]) == b"\xef\xbb\xbf":
                line = line[3:]
        if not line:
            self._dispatch(events)
            return
        self._size += len(line) + 1
        if self._size > self._max:
            raise EventTooLarge(events)
        if bytes(line[:5]) == b"data:":
            self._data.append(_text(line[5:]))
            return
        name, _, value = bytes(line).partition(b":")
        self._set(name, value.removeprefix(b" "))

    def _set(self, name: bytes, value: bytes) -> None:
        if name == b"data":
            self._data.append("")
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id":
            # WHATWG HTML 9.2.6: an id with a NUL is ignored; so is a retry with anything but
            # digits.
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) < _MOST_DIGITS:
            self._retry = self.retry = int(value)
        elif name == b"error" and self._error_field:
            self._event = "error"
            self._data.append(value.decode("utf-8", "replace"))

    def _dispatch(self, events: list[ServerSentEvent]) -> None:
        if self._id is not None:
            self.last_event_id = self._id
        # A block without data gives no event, but its id counts.
        if self._data:
            data = self._data[0] if len(self._data) == 1 else "\n".join(self._data)
            events.append(
                ServerSentEvent(self._event or "message", data, self.last_event_id, self._retry)
            )
        self._reset()


def _text(value: memoryview) -> str:
    return str(value[1:] if bytes(value[:1]) == b" " else value, "utf-8", "replace")
