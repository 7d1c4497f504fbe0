"""Reads the answer of one attempt, and decides if its end is a good one."""

from __future__ import annotations

import enum
import logging
from typing import TYPE_CHECKING, Any, NoReturn

import requests

from resilient_requests.call import boot
from resilient_requests.chat._chunks import ChunkStream, no_answer
from resilient_requests.chat._completion import CompletionBuilder, Finish
from resilient_requests.chat._reading import ChunkReader, NoJSONError, Sign
from resilient_requests.chat.kinds import (
    BadChunkError,
    ProviderError,
    gave_up,
    has_given_up,
    is_transient,
)
from resilient_requests.exceptions import (
    ChatAPIError,
    StreamIdle,
    StreamProtocolError,
    StreamTruncated,
)
from resilient_requests.stream import Heartbeat, Reader, ServerSentEvent

if TYPE_CHECKING:
    from resilient_requests.call import Attempt
    from resilient_requests.chat._redact import Redactor
    from resilient_requests.chat._request import ChatRequest
    from resilient_requests.chat._types import ChatCompletion, ChatDelta

__all__ = ["ChatResponse"]

_log = logging.getLogger("resilient_requests.chat")

_MOST_AFTER = 64 * 1024  # bytes that are read behind the answer
_DRAIN = 0.1  # seconds for these
_LINGER = 0.1  # seconds for which more is awaited behind the last word
_LONG_LINGER = 2.0  # where usage was asked for, and where a finish reason may not be the last word


class _Phase(enum.Enum):
    OPEN = "open"  # more is to come
    FINISHED = "finished"  # every choice has a finish reason; usage may follow, or more after all
    ENDED = "ended"  # nothing follows
    ACCEPTED = "accepted"  # the body ended without a sign, which the caller takes for an end
    FAILED = "failed"  # no answer: it only looked like one


# Up to Python 3.11, looking up a member on its class takes as long as a call.
_OPEN = _Phase.OPEN


class ChatResponse:
    """Reads one response; belongs to the thread that reads, except for ``cancel``.

    ``waited``: seconds that the head of the response took. ``has_output``: a part of the answer
    has come.
    """

    def __init__(
        self, request: ChatRequest, response: requests.Response, *, waited: float = 0.0
    ) -> None:
        self._request = request
        self._parser = request.dialect.parser()
        self._chunks = ChunkReader(self._parser)
        self._builder = CompletionBuilder()
        self._phase = _Phase.OPEN
        self._until: float | None = None  # boot time at which nothing more is awaited
        self._bytes_at_finish = 0
        self._others = 0  # pieces of output that no delta holds
        self._logged = 0  # names that nobody understood
        self.has_output = False
        first = request.first_token_timeout
        self._first_left = None if first is None else max(first - waited, 0.001)
        self.reader = Reader(
            response,
            idle_timeout=request.idle_timeout,
            event_timeout=_least(request.event_timeout, self._first_left),
            heartbeat=request.heartbeat,
        )
        self.events = ChunkStream(self.reader, request)

    @property
    def is_complete(self) -> bool:
        """True if the answer has the sign of its end, or an end without one was accepted."""
        if self._phase in (_Phase.OPEN, _Phase.FINISHED):
            return self._finish is Finish.LAST
        return self._phase is not _Phase.FAILED

    @property
    def contradiction(self) -> str | None:
        """The reason why a complete body cannot be the whole answer; None where there is none."""
        return self._parser.contradiction

    @property
    def _finish(self) -> Finish:
        """The progress of the slowest choice, of all that were asked for or announced."""
        return self._builder.finish(max(self._request.choices, len(self._parser.choices)))

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that brought the response; None where no adapter of ours did."""
        return self.reader.attempt

    def completion(self, *, attempts: tuple[Any, ...], is_over: bool) -> ChatCompletion:
        """Return the answer so far."""
        is_complete = self.is_complete
        is_cut = self._phase is _Phase.ACCEPTED or (is_over and not is_complete)
        return self._builder.completion(
            self._parser, is_final=is_complete, truncated=is_cut, attempts=attempts
        )

    def read(self) -> list[ChatDelta] | Heartbeat | None:
        """Return the deltas of the next chunk, None at a good end.

        Raises the stream's errors and ChatAPIError.
        """
        try:
            event = next(self.events) if self._phase is _OPEN else self._next()
        except StopIteration:
            return self._end(is_cut=False)
        except requests.RequestException as error:
            if self._finish is Finish.LAST:
                return None  # only the wait after the end has failed: the answer is whole
            raise self._named(error)  # noqa: B904  # the same, or one in its place
        if not isinstance(event, ServerSentEvent):
            return event
        why: Sign | BadChunkError | ProviderError | RecursionError
        try:
            found = self._chunks.read(event, is_flushed=self.events.is_flushed)
        except (BadChunkError, ProviderError, RecursionError) as error:
            why = error
        else:
            if isinstance(found, list):
                self._add(found)
                return found
            why = found
        # Outside of the handler: inside, Python would make the caught error the context of ours,
        # and its unredacted text would be in every traceback.
        return self._stop(why, event)

    def close(self) -> None:
        """Give the connection back where the answer is complete, else close it."""
        self._log_unknown()
        if self.is_complete:
            self.reader.drain(_MOST_AFTER, _DRAIN)
        else:
            self.events.close()

    # -- one chunk ------------------------------------------------------------------------------

    def _add(self, deltas: list[ChatDelta]) -> None:
        is_part, has_end = self._parser.other_output != self._others, self._parser.is_done
        for delta in deltas:
            if self._builder.add(delta):
                is_part = True
            if delta.finish_reason is not None:
                has_end = True
        if has_end or not is_part or not self.has_output or self._phase is not _OPEN:
            self._follow(deltas, is_part=is_part, has_end=has_end)

    def _follow(self, deltas: list[ChatDelta], *, is_part: bool, has_end: bool) -> None:
        """Handle a chunk that does more than add one part."""
        self._log_unknown()
        self._others = self._parser.other_output
        for delta in deltas:
            if delta.finish_reason is not None and has_given_up(delta.finish_reason):
                self._fail_by(gave_up(delta.finish_reason))
        if is_part:
            self._until = None
            if not self.has_output:
                self.has_output = True
                self.events.expect(self._request.event_timeout)
        elif not has_end:
            self.events.disregard()
            if any(delta.usage for delta in deltas):
                self._builder.settle()  # usage alone follows the last word
        self._phase = _Phase.OPEN if self._finish is Finish.OPEN else _Phase.FINISHED
        if self._parser.is_done:
            self._phase = _Phase.ENDED

    def _stop(
        self, why: Sign | BadChunkError | ProviderError | RecursionError, event: ServerSentEvent
    ) -> list[ChatDelta] | None:
        """End the answer at a chunk that adds nothing, with or without an error."""
        if isinstance(why, RecursionError):
            why = BadChunkError("the JSON is nested too deeply")
        if why is Sign.CUT:
            return self._end(is_cut=True)
        if why is Sign.PAGE:
            self.reader.fail(no_answer(self.reader, self._request, event.data))
        if isinstance(why, ProviderError):
            self._fail_by(why)
        if why is Sign.MARKER and not self._chunks.has_understood:
            what = "the end is marked, but nothing before it was understood"
            self._fail(f"{what}: does this server speak dialect={self._request.dialect.name!r}?")
        if isinstance(why, BadChunkError) and self._finish < Finish.AT_ONCE:
            number = self.reader.events_received
            if isinstance(why, NoJSONError):
                excerpt = self._redactor.around(event.data, why.at)
                self._fail(f"event {number} is not JSON at position {why.at}: {excerpt!r}")
            self._fail(f"event {number}: {why}")
        self._phase = _Phase.ENDED  # behind a finished answer an unreadable chunk is only an end
        self.close()
        return None

    # -- the end --------------------------------------------------------------------------------

    def _next(self) -> ServerSentEvent | Heartbeat | None:
        """Return the next event; None where the answer is finished and nothing follows in time."""
        if self._phase is _Phase.ENDED:
            self.close()
            return None
        left = self._left()
        if self.reader.bytes_received - self._bytes_at_finish <= _MOST_AFTER:
            wait = min(left, self._request.heartbeat or left)
            event = self.events.next_within(max(wait, 0.001))
            if not isinstance(event, Heartbeat) or wait < left:
                return event
        # Some servers keep the response open after the answer: a longer wait would not end it.
        self._phase = _Phase.ENDED
        self.events.close()
        return None

    def _left(self) -> float:
        """Return the seconds to wait for more after the finish reason."""
        now, has_usage = boot(), self._builder.usage is not None
        is_last = self._finish is Finish.LAST
        if self._until is None:
            asks = self._request.dialect.asks_usage(self._request.body) and not has_usage
            self._until = now + (_LONG_LINGER if asks or not is_last else _LINGER)
            self._bytes_at_finish = self.reader.bytes_received
        elif has_usage and is_last:
            self._until = min(self._until, now + _LINGER)
        return self._until - now

    def _end(self, *, is_cut: bool) -> list[ChatDelta] | None:
        """Judge the end of the body; ``is_cut``: it came in the middle of a chunk."""
        self._log_unknown()
        if self.is_complete:
            return None
        if self._phase is _Phase.FINISHED and not is_cut:
            self._phase = _Phase.ENDED
        elif self._request.accept_bare_eof and self.has_output:
            self._phase = _Phase.ACCEPTED
        else:
            knob = "accept_bare_eof=True takes such an end for a good one"
            what = "the stream ended cleanly, but without the sign that the answer is complete"
            raise StreamTruncated(f"{what} ({knob})", **self.reader.facts())
        return None

    # -- failures -------------------------------------------------------------------------------

    def _named(self, error: requests.RequestException) -> requests.RequestException:
        """Return the error; for silence before the first part, one that names its own limit."""
        first = self._request.first_token_timeout
        if first is None or self.has_output or not isinstance(error, StreamIdle):
            return error
        if error.clock != "events" or error.idle_timeout != self._first_left:
            return error
        what = f"no part of the answer for {first:g} s (first_token_timeout= sets the limit)"
        return StreamIdle(what, idle_timeout=first, clock="events", **self.reader.facts())

    def _log_unknown(self) -> None:
        names = [*self._parser.unknown][self._logged :]
        self._logged += len(names)
        for name in names:
            _log.debug("%s: not understood: %s", self._request.dialect.name, name)

    @property
    def _redactor(self) -> Redactor:
        return self._request.redactor(self.reader.response)

    def _fail(self, message: str) -> NoReturn:
        self._log_unknown()
        self._phase = _Phase.FAILED
        self.reader.fail(StreamProtocolError(self._redactor.line(message), **self.reader.facts()))

    def _fail_by(self, fault: ProviderError) -> NoReturn:
        error = ChatAPIError(
            self._redactor.line(str(fault)),
            type=fault.type,
            code=fault.code,
            transient=is_transient(fault.type, fault.code),
            response=self.reader.response,
        )
        if fault.message is None:
            error.message = None
        self._phase = _Phase.FAILED
        self.reader.fail(error)


def _least(one: float | None, other: float | None) -> float | None:
    return min((each for each in (one, other) if each is not None), default=None)
