"""Bytes in, server-sent events out; no I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

__all__ = ["EventTooLarge", "SSEDecoder", "ServerSentEvent"]


class EventTooLarge(ValueError):
    """An event is larger than the limit."""


@dataclass(frozen=True)
class ServerSentEvent:
    """One event; immutable. ``event`` is "message" where the stream named none, ``id`` the last id seen so far.

    ``retry``: the reconnection time in ms that came with this event, or None.
    """

    event: str = "message"
    data: str = ""
    id: str = ""
    retry: int | None = None

    def json(self) -> Any:
        """Return ``data`` parsed as JSON. Raises ``json.JSONDecodeError`` (a ValueError)."""
        return json.loads(self.data)


class SSEDecoder:
    """Decodes by the rules of the WHATWG (HTML, 9.2.6), whatever the cuts between reads; one stream, one thread.

    ``max_event_bytes`` limits a block, and so the memory held. ``last_event_id`` and ``retry`` are the stream's state.
    """

    def __init__(self, max_event_bytes: int = 16 * 1024 * 1024) -> None:
        self.last_event_id = ""
        self.retry: int | None = None
        self._max = max_event_bytes
        self._line = bytearray()  # an unfinished line
        self._size = 0  # of the unfinished block, without that line
        self._at_start = True
        self._swallow_lf = False
        self._reset()

    def _reset(self) -> None:
        self._event = ""
        self._data: list[bytes] = []
        self._id: str | None = None
        self._retry: int | None = None
        self._size = 0

    @property
    def is_pending(self) -> bool:
        """Whether an unfinished block is held."""
        return bool(self._line or self._data or self._event or self._id is not None)

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Return the events that ``data`` completes. Raises `EventTooLarge`."""
        if self._swallow_lf and data:
            # A CR has ended the line at once; an LF right behind it belongs to it.
            data, self._swallow_lf = data.removeprefix(b"\n"), False
        if not data:
            return []
        self._swallow_lf = data.endswith(b"\r")
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = data.split(b"\n")
        events: list[ServerSentEvent] = []
        for line in lines:
            if self._line:
                line = bytes(self._line + line)
                self._line.clear()
            self._take(line, events)
        self._line += rest
        if self._size + len(self._line) > self._max:
            raise EventTooLarge
        return events

    def flush(self) -> list[ServerSentEvent]:
        """Return the event of an unfinished block, at a clean end of the stream."""
        events: list[ServerSentEvent] = []
        if self._line:
            line = bytes(self._line)
            self._line.clear()
            self._take(line, events)
        self._take(b"", events)
        return events

    def _take(self, line: bytes, events: list[ServerSentEvent]) -> None:
        if self._at_start:
            line, self._at_start = line.removeprefix(b"\xef\xbb\xbf"), False
        if not line:
            self._dispatch(events)
            return
        self._size += len(line)
        if self._size > self._max:
            raise EventTooLarge
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and value.isascii():
            self._retry = self.retry = int(value)

    def _dispatch(self, events: list[ServerSentEvent]) -> None:
        if self._id is not None:
            self.last_event_id = self._id
        if self._data:
            data = b"\n".join(self._data).decode("utf-8", "replace")
            events.append(ServerSentEvent(self._event or "message", data, self.last_event_id, self._retry))
        self._reset()
