"""Recognizes the form of a body by its first bytes; its Content-Type is only a hint; no I/O."""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING

from resilient_requests.stream.events._sse import ServerSentEvent, SSEDecoder

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Form", "NoEventsError", "SniffedEvents", "form_of", "significant"]

_BOM = b"\xef\xbb\xbf"
# HTML, 9.2.6: a line is a comment, or begins with the name of a field.
_FIELD = re.compile(rb"(?:data|event|id|retry|error)?:|(?:data|event|id|retry)\r?\n")
_LONGEST = len(b"event\r\n")
_MOST_BLANKS = 1024  # bytes that are held while nothing tells; no document begins so late


class Form(enum.Enum):
    """The form of a body."""

    EVENTS = "events"
    JSON = "json"
    MARKUP = "markup"
    TEXT = "text"


class NoEventsError(ValueError):
    """A body is no stream of events: ``start`` is its beginning, ``form`` its form."""

    def __init__(self, start: bytes, form: Form) -> None:
        super().__init__()
        self.start, self.form = start, form


class SniffedEvents:
    """Decodes the events of a body that proves to be a stream of them; one stream, one thread.

    ``is_hinted``: the Content-Type says events, so unknown text counts as events too. ``feed``
    raises `NoEventsError` and `EventTooLarge`.
    """

    feed: Callable[[bytes], list[ServerSentEvent]]

    def __init__(self, max_event_bytes: int, *, is_hinted: bool) -> None:
        self._events = SSEDecoder(max_event_bytes)
        self._is_hinted = is_hinted
        self._start = b""
        self.feed = self._sniff

    @property
    def is_told(self) -> bool:
        """True if the body has proven to be events."""
        return self.feed != self._sniff

    @property
    def is_pending(self) -> bool:
        """True if an unfinished block is held."""
        return bool(self._start) or self._events.is_pending

    def flush(self) -> list[ServerSentEvent]:
        """Return the event of an unfinished block, at a clean end of the stream."""
        return [*(self._begin(Form.TEXT) if self._start else ()), *self._events.flush()]

    def _sniff(self, data: bytes) -> list[ServerSentEvent]:
        # A space begins the name of a field. Empty lines mean nothing, but a byte order mark behind
        # one is no mark: one line is kept for all.
        start = self._start + data
        rest = start.lstrip(b"\r\n")
        self._start = start if rest is start else b"\n" + rest
        form = form_of(self._start)
        if form is None and len(self._start) > _MOST_BLANKS:
            form = Form.TEXT
        return [] if form is None else self._begin(form)

    def _begin(self, form: Form) -> list[ServerSentEvent]:
        start, self._start = self._start, b""
        if form is not Form.EVENTS and not (self._is_hinted and form is Form.TEXT):
            raise NoEventsError(significant(start), form)
        self.feed = self._events.feed  # without a step between
        return self.feed(start)


def significant(start: bytes) -> bytes:
    """Return a body from where it begins to tell what it is."""
    return start.lstrip().removeprefix(_BOM).lstrip()


def form_of(start: bytes) -> Form | None:
    """Return the form of a body that begins so; None where these bytes do not tell yet.

    White space and a byte order mark before the body tell nothing.
    """
    start = significant(start)
    if not start or _BOM.startswith(start):
        return None
    if start[:1] in (b"{", b"["):
        return Form.JSON
    if start[:1] == b"<":
        return Form.MARKUP
    if _FIELD.match(start):
        return Form.EVENTS
    if len(start) < _LONGEST and start.isalpha():
        return None
    return Form.TEXT
