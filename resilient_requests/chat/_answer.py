"""The answer of one attempt: its chunks, and whether its end is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import requests

from resilient_requests.call import boot
from resilient_requests.chat._assembly import Assembly
from resilient_requests.chat._faults import BadChunkError, ProviderError, error_of, is_transient
from resilient_requests.chat._wire import ChunkStream
from resilient_requests.exceptions import ChatAPIError, StreamProtocolError, StreamTruncated
from resilient_requests.stream import Heartbeat, Reader

if TYPE_CHECKING:
    from resilient_requests.call import Attempt
    from resilient_requests.chat._redact import Redactor
    from resilient_requests.chat._request import ChatRequest
    from resilient_requests.chat._types import ChatCompletion, ChatDelta
    from resilient_requests.stream import ServerSentEvent

__all__ = ["Answer"]

_DONE = "[DONE]"
_MOST_AFTER = 64 * 1024
_DRAIN = 0.1
_USAGE_WAIT = 2.0


class Answer:
    """Reads one response; belongs to the thread that reads, but for ``cancel``."""

    def __init__(self, request: ChatRequest, response: requests.Response) -> None:
        self._request = request
        self._dialect = request.dialect
        self._parser = request.dialect.parser()
        self._assembly = Assembly()
        self._asked = request.choices
        self._has_marker = False
        self._is_accepted = False
        self._until: float | None = None  # boot time at which nothing more is awaited
        self._bytes_at_finish = 0
        self.reader = Reader(
            response,
            idle_timeout=request.idle_timeout,
            event_timeout=request.event_timeout,
            heartbeat=request.heartbeat,
        )
        self.events = ChunkStream(self.reader, request)

    @property
    def is_complete(self) -> bool:
        """Whether the answer has the sign of its end, or an end without one was accepted."""
        return self._has_marker or self._parser.is_done or self._is_finished or self._is_accepted

    @property
    def _is_finished(self) -> bool:
        """Whether every choice that was asked for, or announced, has its finish reason."""
        return self._assembly.is_finished(max(self._asked, len(self._parser.choices)))

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that brought the response; None where no adapter of ours did."""
        return self.reader.attempt

    @property
    def has_payload(self) -> bool:
        """Whether a part of the answer has come."""
        return self._assembly.has_payload

    def completion(self, *, attempts: tuple[Any, ...], is_over: bool) -> ChatCompletion:
        """Return the answer so far."""
        return self._assembly.completion(
            is_final=self.is_complete,
            refused=self._parser.refused,
            model=self._parser.model,
            id=self._parser.id,
            truncated=self._is_accepted or (is_over and not self.is_complete),
            attempts=attempts,
        )

    def read(self) -> list[ChatDelta] | Heartbeat | None:
        """Return what the next chunk adds, or None at a good end. Raises the stream's errors and ChatAPIError."""
        if self._has_marker or self._parser.is_done:
            self.close()
            return None
        try:
            event = self._next()
        except StopIteration:
            self._end()
            return None
        except requests.RequestException:
            if not self.is_complete:
                raise
            return None  # what was awaited after the end is lost, the answer is not
        if event is None:
            self.events.close()  # this server keeps the response open: waiting longer would not end it
            return None
        return event if isinstance(event, Heartbeat) else self._deltas(event)

    def close(self) -> None:
        """Give the connection back where the answer is complete, else close it."""
        if self.is_complete:
            self.reader.drain(_MOST_AFTER, _DRAIN)
        else:
            self.events.close()

    def _next(self) -> ServerSentEvent | Heartbeat | None:
        """Return the next event; None where the answer is finished and nothing follows in time."""
        if not self._is_finished:
            return next(self.events)
        left = self._left()
        if self.reader.bytes_received - self._bytes_at_finish > _MOST_AFTER:
            return None
        wait = min(left, self._request.heartbeat or left)
        event = self.events.next_within(max(wait, 0.001))
        return None if isinstance(event, Heartbeat) and wait >= left else event

    def _left(self) -> float:
        """Return the seconds for which more is awaited after the finish reason."""
        now, has_usage = boot(), self._assembly.usage is not None
        if self._until is None:
            asked = self._dialect.asks_usage(self._request.body) and not has_usage
            self._until = now + (_USAGE_WAIT if asked else self._parser.linger)
            self._bytes_at_finish = self.reader.bytes_received
        elif has_usage:
            self._until = min(self._until, now + self._parser.linger)
        return self._until - now

    def _end(self) -> None:
        """The body has ended."""
        if self.is_complete:
            return
        if self._request.accept_bare_eof and self.has_payload:
            self._is_accepted = True
            return
        marker = "accept_bare_eof=True takes such an end for a good one"
        message = (
            f"the stream ended cleanly, but without the sign that the answer is complete ({marker})"
        )
        raise StreamTruncated(message, **self.reader.facts())

    # -- one event ------------------------------------------------------------------------------------------------

    # What fails here is raised when the handlers have ended: the errors that they caught hold the provider's words
    # uncensored, and as the context of ours would be in every traceback.

    def _deltas(self, event: ServerSentEvent) -> list[ChatDelta] | None:
        try:
            chunk = event.json()
        except (ValueError, RecursionError) as error:
            at: int = getattr(error, "pos", 0)
        else:
            return self._read_chunk(event.event, chunk)
        return self._without_json(event, at)

    def _read_chunk(self, name: str, chunk: Any) -> list[ChatDelta]:
        fault: BadChunkError | ProviderError | None = None
        try:
            deltas = self._parsed(name, chunk)
        except (BadChunkError, ProviderError) as error:
            fault = error
        if isinstance(fault, ProviderError):
            self._fail_api(fault)
        if fault is not None:
            self._fail(f"event {self.reader.events_received}: {fault}")
        return self._added(deltas)

    def _added(self, deltas: list[ChatDelta]) -> list[ChatDelta]:
        is_progress = False
        for delta in deltas:
            is_progress |= self._assembly.add(delta)
        if not is_progress:
            self.events.disregard()
        elif self._until is not None:
            self._until = None  # there was more to come after all
        return deltas

    def _parsed(self, name: str, chunk: Any) -> list[ChatDelta]:
        if isinstance(chunk, dict):
            # Before all else: an error may come with choices.
            if (error := chunk.get("error")) or name == "error" or chunk.get("type") == "error":
                raise error_of(error or chunk)
            return (
                self._parser.whole(chunk)
                if self.events.is_document
                else self._parser.chunk(name, chunk)
            )
        if self.events.is_document and isinstance(chunk, list):
            return [delta for each in chunk for delta in self._parsed(name, each)]
        if name == "error":
            raise ProviderError(message=str(chunk))
        raise BadChunkError(f"a JSON object is expected, not {type(chunk).__name__}")

    def _without_json(self, event: ServerSentEvent, at: int) -> list[ChatDelta] | None:
        """Read what is no JSON: the terminal marker, which may stick to a chunk, and nothing at all."""
        text = event.data.strip()
        if text == _DONE:
            self._has_marker = True
            self.close()
            return None
        if not text:
            self.events.disregard()
            return []
        if self.events.is_flushed and not (self.events.is_document and text[0] not in "[{"):
            self._end()
            return None
        if event.event == "error":
            self._fail_api(ProviderError(message=text))
        *lines, last = text.split("\n")
        if not lines or last.strip() != _DONE:
            excerpt = self._censor.around(event.data, at)
            self._fail(
                f"event {self.reader.events_received} is not JSON at position {at}: {excerpt!r}"
            )
        self._has_marker = True
        return self._deltas(event._replace(data="\n".join(lines)))

    @property
    def _censor(self) -> Redactor:
        return self._request.censor(self.reader.response)

    def _fail(self, message: str) -> NoReturn:
        self.reader.fail(StreamProtocolError(self._censor.line(message), **self.reader.facts()))

    def _fail_api(self, fault: ProviderError) -> NoReturn:
        message = self._censor.line(str(fault))
        error = ChatAPIError(
            message,
            type=fault.type,
            code=fault.code,
            transient=is_transient(fault.type, fault.code),
            response=self.reader.response,
        )
        if fault.message is None:
            error.message = None
        self.reader.fail(error)
