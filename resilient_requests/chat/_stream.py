"""A chat answer as it arrives."""

from __future__ import annotations

import warnings
from collections import deque
from typing import TYPE_CHECKING, Generic

from resilient_requests.chat._assembly import is_payload
from resilient_requests.chat._text import TextStream
from resilient_requests.exceptions import StreamBroken
from resilient_requests.stream import Heartbeat

if TYPE_CHECKING:
    from types import TracebackType

    import requests
    from typing_extensions import Self, TypeVar

    from resilient_requests.chat._answer import Answer
    from resilient_requests.chat._opener import Opener
    from resilient_requests.chat._types import ChatCompletion, ChatDelta

    # With a default, so that a plain ``ChatStream`` in an annotation is one of either kind.
    Item_co = TypeVar(
        "Item_co", bound=ChatDelta | Heartbeat, default=ChatDelta | Heartbeat, covariant=True
    )
else:
    from typing import TypeVar

    Item_co = TypeVar("Item_co", covariant=True)

__all__ = ["ChatStream"]

_MOST_HELD = 64


class ChatStream(Generic[Item_co]):
    """Iterates over the `ChatDelta` objects of an answer; see `stream_chat`.

    To type checkers a ``ChatStream[ChatDelta]`` is one without heartbeats, a ``ChatStream`` any.
    One thread iterates and closes; ``cancel()`` may come from any. Once it has failed, every further step raises
    the same error, which carries the answer so far as ``partial``.
    """

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._answer: Answer = opener.open()
        self._ready: deque[ChatDelta] = deque()
        self._held: (
            list[ChatDelta] | None
        ) = []  # what says nothing yet; None once something was shown
        self._has_replayed = False
        self._error: BaseException | None = None
        self._is_over = False

    def __repr__(self) -> str:
        state = "failed" if self._error is not None else "over" if self._is_over else "open"
        return f"<ChatStream {state} dialect={self._opener.request.dialect.name}>"

    @property
    def response(self) -> requests.Response:
        """The response that is read: after a replay, that of the last attempt."""
        return self._answer.reader.response

    @property
    def completion(self) -> ChatCompletion:
        """The answer so far; whole once the stream has ended."""
        attempts = tuple(self._opener.operation.records)
        return self._answer.completion(
            attempts=attempts, is_over=self._is_over or self._error is not None
        )

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item_co:
        while not self._ready:
            if self._error is not None:
                raise self._error
            if self._is_over:
                raise StopIteration
            found = self._read()
            if isinstance(found, Heartbeat):
                return found  # type: ignore[return-value]  # `stream_chat` promises it to no one else
            self._take(found)
        return self._ready.popleft()  # type: ignore[return-value]

    def iter_text(self) -> TextStream:
        """Iterate over the texts of the first choice, as they arrive; heartbeats are left out.

        Half of a character waits for its other half. Closing the iterator closes the stream.
        """
        return TextStream(self)

    def cancel(self) -> None:
        """End the stream from any thread: its reader raises `Cancelled` at once. Never blocks."""
        self._opener.operation.cancel()
        self._answer.events.cancel()

    def close(self) -> None:
        """Give the connection back, or close it where the answer is not complete; harmless when repeated."""
        if not self._is_over and self._error is None:
            self._is_over = True
            self._ready.clear()
            self._answer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        answer = getattr(self, "_answer", None)  # absent where the constructor has failed
        if answer is not None and not self._is_over and self._error is None:
            answer.reader.drop()
            warnings.warn("ChatStream was dropped without close()", ResourceWarning, stacklevel=2)

    def _read(self) -> list[ChatDelta] | Heartbeat | None:
        try:
            return self._answer.read()
        except BaseException as error:  # noqa: BLE001  # raised again, unless it is replayed
            self._opener.lost(self._answer, error)
            failure = error
        # Outside the handlers: an error of the replay is no consequence of the first.
        if isinstance(failure, StreamBroken) and self._held is not None and not self._has_replayed:
            self._has_replayed = True
            try:
                self._answer = self._opener.reopen(failure)
            except BaseException as error:  # noqa: BLE001  # raised again
                failure = error
            else:
                self._held.clear()
                return []
        self._error = failure
        raise failure

    def _take(self, deltas: list[ChatDelta] | None) -> None:
        if deltas is None:
            self._is_over = True
        if self._held is None:
            self._ready.extend(deltas or ())
            return
        # Until a part of the answer comes nothing is shown: then a broken attempt can be replayed unseen.
        self._held.extend(deltas or ())
        if deltas is None or len(self._held) > _MOST_HELD or any(map(is_payload, deltas)):
            self._ready.extend(self._held)
            self._held = None
