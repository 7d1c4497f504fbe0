"""Every error of resilient_requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
from requests.hooks import default_hooks
from urllib3.exceptions import ReadTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Cancelled",
    "ChatAPIError",
    "DeadlineExceeded",
    "StreamBroken",
    "StreamError",
    "StreamIdle",
    "StreamProtocolError",
    "StreamTruncated",
]


def _restore(
    cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]
) -> BaseException:
    """Rebuild a pickled error without its constructor, which takes keyword arguments only."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _reduce(error: BaseException) -> tuple[Callable[..., BaseException], tuple[Any, ...]]:
    # A response holds a socket, and a request may hold a generator: neither can cross to another
    # process.
    state = {
        name: None if name in ("response", "request") else value
        for name, value in vars(error).items()
    }
    return _restore, (type(error), error.args, state)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 byte" or "2 bytes"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


_PORTABLE = (type(None), str, bytes, bytearray)


class _Request(requests.PreparedRequest):
    """A request that pickles without its hooks and without a body that is no text or bytes."""

    def __reduce__(self) -> tuple[Any, ...]:
        body = self.body if isinstance(self.body, _PORTABLE) else None
        return _restore_request, ({**vars(self), "body": body, "hooks": default_hooks()},)


def _restore_request(state: dict[str, Any]) -> requests.PreparedRequest:
    request = requests.PreparedRequest()
    vars(request).update(state)
    return request


def portable(request: Any) -> Any:
    """Return ``request`` itself if it can be pickled whole, else a copy that can be pickled.

    A file, a generator and a hook cannot be pickled (requests installs a hook of its own for digest
    authentication). An error that refers to one could not be pickled either.
    """
    if not isinstance(request, requests.PreparedRequest):
        return request
    if isinstance(request.body, _PORTABLE) and not any((request.hooks or {}).values()):
        return request
    other = _Request()
    vars(other).update(vars(request))
    return other


class StreamError(requests.RequestException):
    """A response failed after its head had arrived.

    The request is not sent again. Two exceptions: `complete_chat` may repeat it at any time,
    `stream_chat` before the first part of the answer.

    ``bytes_received`` and ``events_received`` count up to the failure. ``elapsed`` is in seconds,
    since the reader began. ``response`` is the response, or None. ``partial`` is the completion so
    far where a chat helper raises the error, else None. ``attempts`` is a tuple of `AttemptRecord`,
    one per attempt of the call. Errors pickle; ``response`` is None in the copy.
    """

    def __init__(
        self,
        message: str | Exception,
        *,
        bytes_received: int = 0,
        events_received: int = 0,
        elapsed: float = 0.0,
        response: requests.Response | None = None,
        partial: Any = None,
    ) -> None:
        super().__init__(message, response=response)
        self.bytes_received = bytes_received
        self.events_received = events_received
        self.elapsed = elapsed
        self.partial = partial
        self.attempts: tuple[Any, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reduce(self)


class StreamIdle(StreamError):
    """The peer went silent: no byte for ``idle_timeout`` seconds, or no event for its own limit.

    ``clock`` names the limit that was reached ("bytes" or "events"), ``idle_timeout`` is its length
    in seconds. The class is neither a ``requests.ConnectionError`` nor a ``requests.Timeout``: code
    that retries on those would replay a stream of which the user has already seen a part.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        idle_timeout: float | None = None,
        clock: str = "bytes",
        bytes_received: int = 0,
        events_received: int = 0,
        **facts: Any,
    ) -> None:
        if message is None:
            knob = (
                "idle_timeout=, the call's timeout= or Timeouts.idle"
                if clock == "bytes"
                else "event_timeout="
            )
            what = "byte" if clock == "bytes" else "event"
            received = counted(bytes_received, "byte")
            message = (
                f"no {what} for {idle_timeout:g} s, after {received} "
                f"and {counted(events_received, 'event')} "
                f"({knob} sets the limit)"
                if idle_timeout is not None
                else f"the stream went silent after {received}"
            )
        super().__init__(
            message, bytes_received=bytes_received, events_received=events_received, **facts
        )
        self.idle_timeout = idle_timeout
        self.clock = clock


class LoopIdle(StreamIdle, requests.ConnectionError):
    """`StreamIdle` from one of requests' own loops, where plain requests raises a ConnectionError.

    Code that resumes downloads catches ``requests.ConnectionError``, and looks for urllib3's
    ``ReadTimeoutError`` in ``args[0]``. The class shows itself to users as `StreamIdle`.
    """

    def __init__(self, reason: Exception, **facts: Any) -> None:
        super().__init__(**facts)
        knobs = str(self)
        self.args = (reason,)
        if hasattr(self, "add_note"):  # Python 3.11
            self.add_note(knobs)

    def __reduce__(self) -> tuple[Any, ...]:
        _, (_, args, state) = _reduce(self)
        # An error of an older urllib3 forgets its text when it is pickled.
        return _restore_loop_idle, (str(args[0]).partition(": ")[2], state)


# Texts show the public name. Pickle finds no class under it: hence `_restore_loop_idle`.
LoopIdle.__name__ = LoopIdle.__qualname__ = StreamIdle.__name__


def _restore_loop_idle(text: str, state: dict[str, Any]) -> BaseException:
    pool: Any = None
    return _restore(LoopIdle, (ReadTimeoutError(pool, "", text),), state)


class StreamBroken(StreamError, requests.exceptions.ChunkedEncodingError):
    """A body was cut: its connection was lost, its framing is malformed, or it is too short.

    ``ResilientAdapter.shutdown`` ends streams with this error, too.

    The class is also requests' own for a cut body, so that existing handlers catch it.
    """


class StreamTruncated(StreamError):
    """The stream ended cleanly, but without the terminal marker that a complete answer has."""


class StreamProtocolError(StreamError):
    """The body is not what it claims or was asked for.

    It is no stream of events, or does not match its Content-Encoding. It has bad JSON, or an event
    over the limit. Or its chat answer ends without a part that the dialect knows.
    """


class ChatAPIError(requests.RequestException):
    """The provider reported an error inside a stream that began with status 200.

    A finish reason that means that the provider gave up is such an error: it is the ``type`` then.
    ``type``, ``code`` and ``message`` are the provider's own (None if it gave none). ``transient``
    is True if the same request may succeed later. ``partial`` is the completion so far.
    ``attempts`` is a tuple of `AttemptRecord`. Errors pickle; ``response`` is None in the copy.
    """

    def __init__(
        self,
        message: str,
        *,
        type: str | None = None,  # noqa: A002  # the provider's word
        code: str | int | None = None,
        transient: bool = False,
        response: requests.Response | None = None,
        partial: Any = None,
    ) -> None:
        super().__init__(message, response=response)
        self.message: str | None = message
        self.type = type
        self.code = code
        self.transient = transient
        self.partial = partial
        self.attempts: tuple[Any, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reduce(self)


class DeadlineExceeded(requests.Timeout):
    """The total time of one send (``Timeouts.total``), or of a ``CancelScope``, is up.

    ``partial`` is the completion so far where a chat stream was ended, else None. ``attempts`` is a
    tuple of `AttemptRecord`. Errors pickle; ``response`` is None in the copy.
    """

    def __init__(self, message: str = "the deadline was reached", **facts: Any) -> None:
        super().__init__(message, **facts)
        self.partial: Any = None
        self.attempts: tuple[Any, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reduce(self)


class Cancelled(Exception):
    """You called ``cancel()``.

    The class is no ``requests.RequestException``: a retry loop for requests' errors must not replay
    a call that you ended. ``partial`` is the completion so far where a chat stream was cancelled,
    else None. ``attempts`` is a tuple of `AttemptRecord`. Errors pickle.
    """

    def __init__(self, message: str = "cancelled", *, partial: Any = None) -> None:
        super().__init__(message)
        self.partial = partial
        self.attempts: tuple[Any, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reduce(self)
