"""A requests.Response whose legacy reading loops are prompt, and fail with the errors of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import requests

from resilient_requests.stream._body import is_rewired
from resilient_requests.stream._loops import Arriving, Loop, Text, blocks, lines, split
from resilient_requests.stream._reader import Reader
from resilient_requests.stream._stream import EVENT_STREAM, NDJSON, media_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resilient_requests.call._attempt import AttemptRecord
    from resilient_requests.stream._body import Source

__all__ = ["ResilientResponse"]

_PROMPT = NDJSON | {EVENT_STREAM}


class ResilientResponse(requests.Response):
    """What a `ResilientAdapter` returns: a requests.Response, to be read by one thread.

    ``attempts`` tells what it took. ``iter_lines()`` and ``iter_content(None)`` yield what has arrived, at once;
    ``iter_content(n)`` too for event streams, at most n bytes at a time; else blocks of n bytes as in requests. They
    raise `StreamIdle`, `StreamBroken`, `DeadlineExceeded` and `Cancelled`. They may be used in turns, and before
    ``content``: each goes on where the last has stopped. ``raw`` is urllib3's, with urllib3's exceptions.
    """

    __attrs__ = [*requests.Response.__attrs__, "attempts"]  # noqa: RUF012  # requests' own name and form
    attempts: tuple[AttemptRecord, ...] = ()
    _source: Source | None = (
        None  # kept by `body_of`, so that one loop can go on where another has stopped
    )
    _is_begun = False  # by a loop: the next one finds what is left, and be it nothing

    @classmethod
    def of(cls, response: requests.Response) -> ResilientResponse:
        """Return the same response as one of ours."""
        response.__class__ = (
            cls  # a second object would be filled for nothing, and make a second jar of cookies
        )
        return cast("ResilientResponse", response)

    def close(self) -> None:
        """Give the connection back, or close it where the body has not ended; ends another thread's read, too."""
        if self._content_consumed or not hasattr(self.raw, "stream"):
            super().close()
        else:
            Reader(self).close()

    @property
    def content(self) -> Any:
        """The whole body, as bytes."""
        # requests says None where there is no status, and that no body has been read before.
        if self._content is False and self.status_code and self._is_for_us:
            # Not through blocks of some size, which would only be joined again.
            self._content = b"".join(Arriving(self))
            self._content_consumed = True
        return self._content if self._content and self._content_consumed else super().content

    def iter_content(
        self, chunk_size: int | None = 1, decode_unicode: bool = False
    ) -> Iterator[Any]:
        """Iterate over the body, decoded; see the class."""
        is_ours = chunk_size is None or (type(chunk_size) is int and chunk_size > 0)
        if not is_ours or not self._is_for_us:
            return super().iter_content(chunk_size, decode_unicode)  # type: ignore[call-overload,no-any-return]
        is_prompt = media_type(self) in _PROMPT
        loop = Loop(arriving := Arriving(self, closes=is_prompt))
        if chunk_size is not None:
            loop.over(lambda _chunks, _below: blocks(arriving, chunk_size, is_prompt=is_prompt))
        return loop.over(Text(self)) if decode_unicode else loop

    @property
    def _is_for_us(self) -> bool:
        """Whether there is a body, and nobody wants requests to read it."""
        return (
            not self._content_consumed and hasattr(self.raw, "stream") and not is_rewired(self.raw)
        )

    def iter_lines(
        self,
        chunk_size: int | None = 512,  # noqa: ARG002  # requests' own; lines come when they come
        decode_unicode: bool = False,
        delimiter: Any = None,
    ) -> Iterator[Any]:
        """Iterate over the lines of the body, each as soon as its end has arrived; ``chunk_size`` is ignored.

        With ``decode_unicode`` too, lines end at CR, LF and CRLF only: U+2028 and its kin are data.
        """
        encoding = self.encoding if decode_unicode else None
        # In UTF-16 and its kin a line end is not found before decoding.
        is_decoded = decode_unicode if delimiter else _is_wide(encoding)
        chunks = self.iter_content(None, is_decoded)
        loop = chunks if isinstance(chunks, Loop) else Loop(chunks)
        loop.over((lambda chunks, below: split(chunks, delimiter, below)) if delimiter else lines)
        if encoding is not None and not is_decoded:
            loop.over(lambda lines, _below: (line.decode(encoding, "replace") for line in lines))
        return loop


def _is_wide(encoding: str | None) -> bool:
    return encoding is not None and "\r\n".encode(encoding, "replace") != b"\r\n"
