"""A stream as the body of a response: iterable under WSGI, async iterable under ASGI."""

from __future__ import annotations

import asyncio
import contextvars
import enum
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

import requests

from resilient_requests.exceptions import Cancelled
from resilient_requests.stream import HEARTBEAT
from resilient_requests.web._render import COMMENT, DefaultRender, done, failed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from typing_extensions import Self

    from resilient_requests.chat import ChatDelta, ChatStream
    from resilient_requests.stream import ByteStream, EventStream, ServerSentEvent

    Rendered = str | bytes | None

__all__ = ["EventRelay"]

# Seconds. nginx closes a silent upstream after 60 s (proxy_read_timeout), and 15 s is the usual
# heartbeat of event streams.
_MOST_SILENCE = 15.0

T = TypeVar("T")


class _Stream(Protocol):
    """The stream that a relay passes on. One thread iterates and closes it, any may cancel it."""

    def __next__(self) -> Any: ...
    def cancel(self) -> None: ...
    def close(self) -> None: ...


class _State(enum.Enum):
    OPEN = "open"  # between two steps
    STEPPING = "stepping"  # a thread waits for the stream, or renders
    ENDED = "ended"  # the last event was handed out, or the relay was closed


class EventRelay:
    """Iterates over a stream as server-sent events: the body of a response to a browser.

    ``stream``: a `ChatStream`, an `EventStream` or a `ByteStream`, best with ``heartbeat=15``. The
    relay owns it. ``for`` is for WSGI, ``async for`` for ASGI (asyncio only).

    The relay yields each item, a comment for each `HEARTBEAT`, and a last event. The event ``done``
    holds the finish reason of a chat. The event ``error`` holds the class of the error as ``type``;
    for a `StreamError` and a `ChatAPIError` it holds their text as ``reason``, which has no
    secrets. Errors of requests and `Cancelled` become that event; any other exception leaves as it
    is.

    ``render``: a callable that returns the bytes or the text to write for an item, or None to leave
    the item out. It is not called for heartbeats. After 15 s of left-out items a comment is
    written. The default writes a `ChatDelta` as JSON without its empty fields, a `ServerSentEvent`
    as it came, and bytes in base64, because a piece may end within a character.

    After the last event, an exception or a close, the relay is over for good. ``close`` may come
    from any thread. A cancelled task that leaves ``async for`` ends the upstream at once. Raises
    TypeError naming the parameter, and RuntimeError if a second thread iterates.

    State: a `_State`, guarded by a lock, and the thread in which ``async for`` waits.
    """

    @overload
    def __init__(
        self, stream: ChatStream, *, render: Callable[[ChatDelta], Rendered] | None = ...
    ) -> None: ...
    @overload
    def __init__(
        self, stream: EventStream, *, render: Callable[[ServerSentEvent], Rendered] | None = ...
    ) -> None: ...
    @overload
    def __init__(
        self, stream: ByteStream, *, render: Callable[[bytes], Rendered] | None = ...
    ) -> None: ...
    def __init__(self, stream: _Stream, *, render: Callable[[Any], Rendered] | None = None) -> None:
        if not all(hasattr(stream, name) for name in ("__next__", "cancel", "close")):
            kinds = "a ChatStream, an EventStream or a ByteStream"
            raise TypeError(f"stream must be {kinds}, not {type(stream).__name__}")
        if render is not None and not callable(render):
            raise TypeError(f"render must be callable, not {type(render).__name__}")
        self._stream = stream
        self._render: Callable[[Any], Rendered] = render or DefaultRender()
        self._written_at = monotonic()
        # Re-entrant: a signal handler may close the relay on the thread that holds it.
        self._lock = threading.RLock()
        self._state = _State.OPEN
        self._executor: ThreadPoolExecutor | None = None

    def __repr__(self) -> str:
        return f"<EventRelay {self._state.value}>"

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response: its type, no caching, and no buffering by proxies."""
        return {
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-cache, no-transform",
            # nginx buffers a response unless this header forbids it.
            "X-Accel-Buffering": "no",
        }

    def __iter__(self) -> Self:
        # A plain iteration would block the event loop. Django tries iter() first, and aiter() after
        # a TypeError.
        if _is_in_event_loop():
            raise TypeError("in an event loop use `async for`, or hand over aiter(relay)")
        return self

    def __next__(self) -> bytes:
        data = self._step()
        if data is None:
            raise StopIteration
        return data

    def close(self) -> None:
        """End the upstream, from any thread; harmless if repeated.

        Takes up to 0.1 s if an answer is whole but the rest of its body is unread.
        """
        if self._end():
            self._stream.close()
        self._dismiss()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _AsyncRelay(self)

    async def __anext__(self) -> bytes:
        data = None
        if self._state is not _State.ENDED:
            try:
                data = await self._in_thread(self._step)
            except BaseException:
                # Usually the task was cancelled, and a cancelled task cannot await the close.
                if self._end():
                    self._hire().submit(self._stream.close)
                self._dismiss()
                raise
        if data is None:
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        """End the upstream without blocking the event loop; harmless if repeated."""
        if self._end():
            await self._in_thread(self._stream.close)
        self._dismiss()

    def _step(self) -> bytes | None:
        """Return the next bytes to write, None at the end.

        Not StopIteration, which an asyncio Future refuses to carry.
        """
        with self._lock:
            if self._state is _State.STEPPING:
                raise RuntimeError("another thread iterates over this EventRelay")
            if self._state is _State.ENDED:
                return None
            self._state = _State.STEPPING
        data, is_last = b"", True
        try:
            data, is_last = self._read()
        finally:
            with self._lock:
                is_closed = self._state is _State.ENDED
                self._state = _State.ENDED if is_closed or is_last else _State.OPEN
            if is_closed or is_last:
                self._stream.close()
                self._dismiss()
        return None if is_closed else data

    def _read(self) -> tuple[bytes, bool]:
        """Return the next bytes to write, and True if they are the last."""
        while self._state is _State.STEPPING:
            try:
                item = next(self._stream)
            except StopIteration:
                return done(self._stream), True
            except (requests.RequestException, Cancelled) as error:
                return failed(error), True
            if data := COMMENT if item is HEARTBEAT else self._rendered(item):
                self._written_at = monotonic()
                return data, False
        return b"", True

    def _rendered(self, item: object) -> bytes:
        data = self._render(item)
        if isinstance(data, str):
            return data.encode(errors="replace")  # the text may end with half of a surrogate pair
        if data is not None and not isinstance(data, bytes):
            raise TypeError(f"render must return str, bytes or None, not {type(data).__name__}")
        if data:
            return data
        # A server notices that the browser left only when it writes.
        return COMMENT if monotonic() - self._written_at >= _MOST_SILENCE else b""

    def _end(self) -> bool:
        """End the relay; return True if the caller must close the stream.

        A thread that steps is woken, and closes the stream itself.
        """
        with self._lock:
            state, self._state = self._state, _State.ENDED
        if state is _State.STEPPING:
            self._stream.cancel()
        return state is _State.OPEN

    async def _in_thread(self, function: Callable[[], T]) -> T:
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        return await loop.run_in_executor(self._hire(), context.run, function)

    def _hire(self) -> ThreadPoolExecutor:
        # A thread for each relay. The event loop's own executor has six threads on two cores: six
        # stalled streams there would stop all others, and the resolver.
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="EventRelay")
        return self._executor

    def _dismiss(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=False)


class _AsyncRelay:
    """The result of aiter(). It has no iter(), which frameworks would run in the event loop."""

    def __init__(self, relay: EventRelay) -> None:
        self._relay = relay
        self.close, self.aclose = relay.close, relay.aclose

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return await self._relay.__anext__()


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
