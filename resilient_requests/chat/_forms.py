"""The forms in which the chunks of an answer come, recognized by their first bytes; no I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from resilient_requests.chat.kinds import is_json
from resilient_requests.stream import (
    MAX_EVENT_BYTES,
    EventTooLarge,
    Form,
    ServerSentEvent,
    SSEDecoder,
    form_of,
    significant,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BARE", "DOCUMENT", "PAGE", "Chunks", "JSONDocument", "JSONLines"]

# These names mark chunks that are no events. No event can have them: a line feed ends a name.
DOCUMENT = "\ndocument"
"""A JSON document: the whole body, or all of it up to events that follow."""
BARE = "\nbare"
"""A JSON object between events, on lines that have no field name."""
PAGE = "\npage"
"""The beginning of a body that is no answer: a page of HTML, or a text."""

_FIELD = re.compile(rb"^(?:data|event):", re.MULTILINE)
_OVERLAP = len(b"\nevent:")
_EXCERPT = 1000
_MOST_TRIES = 8  # each try parses all lines so far: one for each line would be quadratic


class _Form(Protocol):
    """Bytes in, chunks out; raises `EventTooLarge`. ``next``: the form that follows, its bytes."""

    next: tuple[_Form, bytes] | None

    @property
    def is_pending(self) -> bool: ...
    def feed(self, data: bytes) -> list[ServerSentEvent]: ...
    def flush(self) -> list[ServerSentEvent]: ...


class Events(SSEDecoder):
    """Server-sent events, and the bare JSON that some gateways write between them."""

    next: tuple[_Form, bytes] | None = None

    def __init__(self, most: int) -> None:
        super().__init__(most, error_field=True)
        self._bare: list[bytes] = []
        self._bare_size = self._tries = 0

    @property
    def is_pending(self) -> bool:
        """True if an unfinished event, or object, is held."""
        return bool(self._bare) or super().is_pending

    def _take(self, line: memoryview, events: list[ServerSentEvent]) -> None:
        if not self._bare and bytes(line[:1]) != b"{":
            super()._take(line, events)
            return
        text = bytes(line)
        if not text or _FIELD.match(text):
            self._end_bare(events)
            super()._take(line, events)
            return
        self._bare.append(text)
        self._bare_size += len(text) + 1
        if self._bare_size > self._max:
            raise EventTooLarge(events)
        # Parse a line that may be the last at once: the server may keep the connection open, and
        # then no further line ends the object.
        may_end = len(self._bare) == 1 or text.startswith(b"}")
        if may_end and self._tries < _MOST_TRIES:
            self._tries += 1
            if is_json(_text(b"\n".join(self._bare))):
                self._end_bare(events)

    def _end_bare(self, events: list[ServerSentEvent]) -> None:
        events.append(ServerSentEvent(BARE, _text(b"\n".join(self._bare))))
        self._bare, self._bare_size, self._tries = [], 0, 0


class JSONLines:
    """JSON documents, one per line; blank lines are skipped."""

    def __init__(self, most: int = MAX_EVENT_BYTES) -> None:
        self.next: tuple[_Form, bytes] | None = None
        self._held = bytearray()
        self._most = most

    @property
    def is_pending(self) -> bool:
        """True if an unfinished line is held."""
        return bool(self._held.strip())

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Return the lines that ``data`` completes. Raises `EventTooLarge`."""
        first, *lines = data.split(b"\n")
        self._held += first
        if len(self._held) > self._most:
            raise EventTooLarge
        if not lines:
            return []
        found = [bytes(self._held), *lines[:-1]]
        self._held = bytearray(lines[-1])
        return [_chunk(line) for line in found if line.strip()]

    def flush(self) -> list[ServerSentEvent]:
        """Return the unfinished line."""
        return self.feed(b"\n")


class JSONDocument:
    """One JSON document, with any white space that kept it alive; events may follow it."""

    def __init__(self, most: int = MAX_EVENT_BYTES) -> None:
        self.next: tuple[_Form, bytes] | None = None
        self._held = bytearray()
        self._most = most

    @property
    def is_pending(self) -> bool:
        """True if more than white space is held."""
        return bool(self._held)

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Return the document once the first event follows it. Raises `EventTooLarge`."""
        start = max(len(self._held) - _OVERLAP, 0)
        self._held += data if self._held else data.lstrip()
        if len(self._held) > self._most:
            raise EventTooLarge
        field = _FIELD.search(self._held, start)
        if field is None:
            return []
        # RFC 8259 7: a text writes a line feed as \n. So no line of JSON begins like a field.
        self.next = Events(self._most), bytes(self._held[field.start() :])
        del self._held[field.start() :]
        return self.flush()

    def flush(self) -> list[ServerSentEvent]:
        """Return the document."""
        held, self._held = self._held, bytearray()
        return [_chunk(held, DOCUMENT)]


class _FirstLine:
    """The first line of JSON: a whole document, the first of many, or the start of a long one."""

    def __init__(self, most: int, *, is_lines: bool) -> None:
        self.next: tuple[_Form, bytes] | None = None
        self._held = bytearray()
        self._most = most
        self._is_lines = is_lines

    @property
    def is_pending(self) -> bool:
        return bool(self._held)

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        start = len(self._held)
        self._held += data
        if len(self._held) > self._most:
            raise EventTooLarge
        end = self._held.find(b"\n", start) + 1
        if not end:
            return []
        line, rest = bytes(self._held[:end]), bytes(self._held[end:])
        if not is_json(_text(line)):
            self.next = JSONDocument(self._most), bytes(self._held)
        elif self._is_lines:
            self.next = JSONLines(self._most), rest
            return [_chunk(line)]
        else:
            self.next = _SecondLine(self._most, line), rest
        return []

    def flush(self) -> list[ServerSentEvent]:
        held, self._held = self._held, bytearray()
        return [_chunk(held, DOCUMENT)]


class _SecondLine:
    """The line after the first: it shows if that was one chunk or the whole answer."""

    def __init__(self, most: int, line: bytes) -> None:
        self.next: tuple[_Form, bytes] | None = None
        self.is_pending = True
        self._most = most
        self._line = line
        self._held = b""

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        self._held = (self._held + data).lstrip()
        form = form_of(self._held)
        if form is None:
            return []
        if form is Form.EVENTS:
            self.next = Events(self._most), self._held
            return [_chunk(self._line, DOCUMENT)]
        self.next = JSONLines(self._most), self._held
        return [_chunk(self._line)]

    def flush(self) -> list[ServerSentEvent]:
        self.is_pending = False
        return [_chunk(self._line, DOCUMENT)]


class _Nothing:
    """A body that is no answer: nothing of it is a chunk."""

    next: tuple[_Form, bytes] | None = None
    is_pending = False

    def feed(self, data: bytes) -> list[ServerSentEvent]:  # noqa: ARG002
        return []

    def flush(self) -> list[ServerSentEvent]:
        return []


class Chunks:
    """Decodes a body of any form; one stream, one thread.

    ``most``: bytes of a chunk. ``hint``: the form that the Content-Type names. ``is_lines``: this
    dialect sends JSON line by line, so that a first line is a chunk and never waits for the second.
    """

    feed: Callable[[bytes], list[ServerSentEvent]]
    """Takes bytes, and returns the chunks that they complete; raises `EventTooLarge`."""

    def __init__(self, most: int, hint: Form | None, *, is_lines: bool) -> None:
        self._most = most
        self._hint = hint
        self._is_lines = is_lines
        self._start = b""
        self._form: _Form = _Nothing()
        self.feed = self._sniff

    @property
    def is_told(self) -> bool:
        """True if the form of the body is known."""
        return self.feed != self._sniff

    @property
    def is_pending(self) -> bool:
        """True if an unfinished chunk is held."""
        return bool(self._start) or self._form.is_pending

    def flush(self) -> list[ServerSentEvent]:
        """Return the unfinished chunk, at the end of the body."""
        found = self._begin(Form.TEXT) if self._start else []
        return [*found, *self._form.flush()]

    def _sniff(self, data: bytes) -> list[ServerSentEvent]:
        self._start = significant(self._start + data)
        form = form_of(self._start)
        return [] if form is None else self._begin(form)

    def _begin(self, form: Form) -> list[ServerSentEvent]:
        start, self._start = self._start, b""
        if form is Form.TEXT and self._hint is not None:
            form = self._hint
        if form is Form.EVENTS:
            self._form = Events(self._most)
            self.feed = self._form.feed  # one call less for each piece: most bodies keep their form
        elif form is Form.JSON:
            self._form = _FirstLine(self._most, is_lines=self._is_lines)
            self.feed = self._feed_json
        else:
            self._form = _Nothing()
            self.feed = self._form.feed
            return [_chunk(start[:_EXCERPT], PAGE)]
        return self.feed(start)

    def _feed_json(self, data: bytes) -> list[ServerSentEvent]:
        found = self._form.feed(data)
        while self._form.next is not None:
            self._form, rest = self._form.next
            found += self._form.feed(rest)
        if isinstance(self._form, Events):
            self.feed = self._form.feed
        return found


def _chunk(data: bytes | bytearray, name: str = "message") -> ServerSentEvent:
    return ServerSentEvent(name, _text(data))


def _text(data: bytes | bytearray) -> str:
    return data.decode("utf-8", "replace").removeprefix("\ufeff")
