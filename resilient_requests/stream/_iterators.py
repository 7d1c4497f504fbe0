"""Streams over one response: the parts common to all, and the one over its bytes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Generic, overload

import requests

from resilient_requests import _checks
from resilient_requests.stream._reader import Reader
from resilient_requests.stream._socket_body import is_used

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, TypeVar

    from resilient_requests.stream._clocks import Heartbeat

    # The default makes a plain ``ByteStream`` in an annotation a stream of either kind.
    Data_co = TypeVar("Data_co", bound=bytes | Heartbeat, default=bytes | Heartbeat, covariant=True)
else:
    from typing import TypeVar

    Data_co = TypeVar("Data_co", covariant=True)

__all__ = [
    "EVENT_STREAM",
    "NDJSON",
    "ByteStream",
    "Stream",
    "check_arguments",
    "iter_bytes",
    "media_type",
]

EVENT_STREAM = "text/event-stream"
NDJSON = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)


def media_type(response: requests.Response) -> str:
    """Return the media type of a response, in lower case and without parameters.

    "" if the response has none.
    """
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


class Stream:
    """The parts common to both kinds of stream.

    An object and no generator, so that each exit gives the connection back.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @property
    def response(self) -> requests.Response:
        """The response that is read."""
        return self._reader.response

    def cancel(self) -> None:
        """End the stream from any thread: its reader raises `Cancelled` at once. Never blocks."""
        self._reader.cancel()

    def close(self) -> None:
        """Give the connection back, or close it if the body has not ended; harmless if repeated."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __del__(self) -> None:
        reader = getattr(self, "_reader", None)  # absent if the constructor failed
        if reader is not None and reader.drop():
            warnings.warn(
                f"{type(self).__name__} was dropped without close()", ResourceWarning, stacklevel=2
            )


class ByteStream(Stream, Generic[Data_co]):
    """Iterates over the bytes of a body as they arrive, in any framing; see `iter_bytes`.

    For type checkers, a ``ByteStream[bytes]`` has no heartbeats, a ``ByteStream`` may have some.
    """

    def __next__(self) -> Data_co:
        data = self._reader.read()
        if data == b"":
            raise StopIteration
        self._reader.clocks.yielded()
        # A heartbeat comes only if `iter_bytes` was given ``heartbeat``, as its overloads say.
        return data  # type: ignore[return-value]


@overload
def iter_bytes(
    response: requests.Response, *, idle_timeout: float | None = ..., heartbeat: None = ...
) -> ByteStream[bytes]: ...
@overload
def iter_bytes(
    response: requests.Response, *, idle_timeout: float | None = ..., heartbeat: float | None
) -> ByteStream[bytes | Heartbeat]: ...
def iter_bytes(
    response: requests.Response,
    *,
    idle_timeout: float | None = None,
    heartbeat: float | None = None,
) -> ByteStream[Any]:
    """Return a stream of the bytes of a ``stream=True`` response as they arrive, decoded.

    ``idle_timeout``: seconds without a byte until `StreamIdle`; None is the limit of the call that
    made the response. ``heartbeat``: seconds of silence after which `HEARTBEAT` is yielded; None is
    never. Iterating raises `StreamIdle`, `StreamBroken`, `StreamProtocolError`, `DeadlineExceeded`
    and `Cancelled`, and the same error at each further step. One thread iterates; ``cancel()`` may
    come from any.

    Raises TypeError or ValueError naming the parameter; ValueError if the body has been read.
    """
    check_arguments(response, idle_timeout, heartbeat)
    return ByteStream(Reader(response, idle_timeout=idle_timeout, heartbeat=heartbeat))


def check_arguments(response: requests.Response, idle_timeout: object, heartbeat: object) -> None:
    """Raise TypeError or ValueError naming the parameter that is none."""
    _checks.instance("response", response, requests.Response)
    _checks.duration("idle_timeout", idle_timeout)
    _checks.duration("heartbeat", heartbeat)
    if is_used(response):
        raise ValueError(
            "response has been read or closed already: "
            "use response.content, or send with stream=True"
        )
