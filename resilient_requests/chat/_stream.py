"""A chat answer as it arrives."""

from __future__ import annotations

import enum
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any, Generic

import requests

from resilient_requests.chat._types import ChatDelta
from resilient_requests.chat.kinds import joined
from resilient_requests.stream import Heartbeat

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, TypeVar

    from resilient_requests.chat._answer import ChatResponse
    from resilient_requests.chat._call import ChatCall
    from resilient_requests.chat._types import ChatCompletion

    # The default lets a plain ``ChatStream`` in an annotation stand for either kind.
    Item_co = TypeVar(
        "Item_co", bound=ChatDelta | Heartbeat, default=ChatDelta | Heartbeat, covariant=True
    )
else:
    from typing import TypeVar

    Item_co = TypeVar("Item_co", covariant=True)

__all__ = ["ChatStream", "TextStream"]

_MOST_HELD = 64


class _State(enum.Enum):
    """How far a stream has come; the values appear in its ``repr``."""

    UNSEEN = "unseen"  # nothing was shown: a failed attempt can be replayed
    REPLAYED = "replayed"  # nothing was shown, and the one replay is used up
    SHOWN = "shown"
    OVER = "over"
    FAILED = "failed"

    @property
    def is_open(self) -> bool:
        return self not in (_State.OVER, _State.FAILED)


# Up to Python 3.11, looking up a member on its class takes as long as a call.
_SHOWN = _State.SHOWN


class ChatStream(Generic[Item_co]):
    """Iterates over the `ChatDelta` objects of an answer; see `stream_chat`.

    For type checkers a ``ChatStream[ChatDelta]`` has no heartbeats, a ``ChatStream`` may have them.
    One thread iterates and closes; any thread may call ``cancel()``. After a failure every further
    step raises the same error, which carries the answer so far as ``partial``.
    """

    def __init__(self, call: ChatCall) -> None:
        self._call = call
        self._state = _State.UNSEEN
        self._ready: deque[ChatDelta] = deque()
        self._held: list[ChatDelta] = []  # deltas before the first part of the answer
        self._error: BaseException | None = None
        self._answer: ChatResponse = self._open()

    def __repr__(self) -> str:
        state = "open" if self._state.is_open else self._state.value
        return f"<ChatStream {state} dialect={self._call.request.dialect.name}>"

    @property
    def response(self) -> requests.Response:
        """The response in use: after a replay, that of the last attempt."""
        return self._answer.reader.response

    @property
    def completion(self) -> ChatCompletion:
        """The answer so far; whole once the stream has ended."""
        attempts = tuple(self._call.operation.records)
        return self._answer.completion(attempts=attempts, is_over=not self._state.is_open)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item_co:
        ready = self._ready
        while not ready:
            if self._state is not _SHOWN and not self._state.is_open:
                raise self._error or StopIteration
            try:
                found = self._answer.read()
            except BaseException as error:  # noqa: BLE001  # raised again, unless it is replayed
                failure = error
            else:
                if isinstance(found, list) and self._state is _SHOWN:
                    ready.extend(found)  # nearly always: a chunk has one delta
                elif isinstance(found, Heartbeat):
                    return found  # type: ignore[return-value]  # nobody else gets one
                else:
                    self._hold(found)
                continue
            # Outside of the handlers: inside, the first failure would be the context of the next.
            self._replay(failure)
        return ready.popleft()  # type: ignore[return-value]

    def iter_text(self) -> TextStream:
        """Iterate over the texts of the first choice as they arrive; heartbeats are skipped.

        Half of a surrogate pair waits for its other half. Closing the iterator closes the stream.
        """
        return TextStream(self)

    def cancel(self) -> None:
        """End the stream from any thread; its reader raises `Cancelled` at once. Never blocks."""
        self._call.operation.cancel()
        self._answer.events.cancel()

    def close(self) -> None:
        """Give the connection back, or close it where the answer is not complete.

        Harmless when repeated.
        """
        if self._state.is_open:
            self._state = _State.OVER
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
        answer = getattr(self, "_answer", None)  # absent if the constructor has failed
        if answer is not None and self._state.is_open:
            answer.reader.drop()
            warnings.warn("ChatStream was dropped without close()", ResourceWarning, stacklevel=2)

    def _open(self) -> ChatResponse:
        try:
            return self._call.open()
        except requests.ReadTimeout as error:
            failure = error
        self._state = _State.REPLAYED
        return self._call.reopen(failure)

    def _replay(self, failure: BaseException) -> None:
        """Go on with another attempt if nothing was shown yet; else raise the failure."""
        self._call.lost(self._answer, failure)
        if self._state is _State.UNSEEN and isinstance(failure, requests.RequestException):
            self._state = _State.REPLAYED
            try:
                self._answer = self._call.reopen(failure)
            except BaseException as error:  # noqa: BLE001  # raised below
                failure = error
            else:
                self._held.clear()
                return
        self._state, self._error = _State.FAILED, failure
        raise failure

    def _hold(self, deltas: list[ChatDelta] | None) -> None:
        """Hold deltas until a part of the answer comes: until then a replay goes unseen."""
        self._held.extend(deltas or ())
        if deltas is None or len(self._held) > _MOST_HELD or self._answer.has_output:
            self._ready.extend(self._held)
            self._held.clear()
            self._state = _State.OVER if deltas is None else _State.SHOWN


class TextStream:
    """Iterates over the texts of the first choice; see `ChatStream.iter_text`.

    It is no generator, because a generator ends after an error; here every further step raises the
    error again. ``close()`` closes the stream.
    """

    def __init__(self, stream: ChatStream[Any]) -> None:
        self._stream = stream
        self._half = ""  # the first half of a surrogate pair

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        for delta in self._stream:
            if isinstance(delta, ChatDelta) and delta.content and delta.index == 0:
                text = joined((self._half, delta.content)) if self._half else delta.content
                self._half = text[-1] if "\ud800" <= text[-1] < "\udc00" else ""
                if text := text.removesuffix(self._half):
                    return text
        last, self._half = self._half, ""
        if last:
            return last
        raise StopIteration

    def close(self) -> None:
        """Close the stream; harmless when repeated."""
        self._half = ""
        self._stream.close()
