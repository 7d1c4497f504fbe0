"""A requests.Response whose own reading loops are prompt, and fail with the errors of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import requests

from resilient_requests.stream._iterators import EVENT_STREAM, NDJSON, media_type
from resilient_requests.stream._lines import (
    Loop,
    TextLineLoop,
    TextLoop,
    blocks,
    chunks,
    lines,
    parts,
)
from resilient_requests.stream._reader import Reader
from resilient_requests.stream._socket_body import is_rewired

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resilient_requests.call import AttemptRecord
    from resilient_requests.stream._body import Body

__all__ = ["ResilientResponse", "resilient"]

_PROMPT = NDJSON | {EVENT_STREAM}


class ResilientResponse(requests.Response):
    """The response of a `ResilientAdapter`: a requests.Response, to be read by one thread.

    ``attempts`` tells what it took. ``iter_lines()`` yields what has arrived, at once, and so does
    ``iter_content(None)``, but that a chunk of a chunked body is one item, as in requests;
    ``iter_content(n)`` too for event streams, at most n bytes at a time; else blocks of n bytes as in
    requests. They raise `StreamIdle` (here also a ``requests.ConnectionError``), `StreamBroken`,
    `DeadlineExceeded` and `Cancelled`. They may be used in turns, and before ``content``: each goes on
    where the last has stopped. ``raw`` is urllib3's, with urllib3's exceptions.
    """

    __attrs__ = [*requests.Response.__attrs__, "attempts"]  # noqa: RUF012  # requests' own name and form
    attempts: tuple[AttemptRecord, ...] = ()
    _body: Body | None = (
        None  # kept by `body_of`, so that one loop can go on where another has stopped
    )
    _has_looped = False

    def _begin_loop(self) -> bool:
        """A loop over the body begins; return whether it is the first one."""
        is_first, self._has_looped = not self._has_looped, True
        return is_first

    def _end_loops(self) -> None:
        """A loop has come to the end of the body, which is consumed then."""
        self._content_consumed = True

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
            self._content = b"".join(self._pieces())
            self._content_consumed = True
        return self._content if self._content and self._content_consumed else super().content

    def _pieces(self) -> Iterator[bytes]:
        """Yield the rest of the body, not in blocks of some size, which would only be joined again."""
        reader = Reader(self, legacy=True)
        reader.body.refuse_used_up(is_first=self._begin_loop())
        while data := reader.read():
            assert isinstance(data, bytes)  # no heartbeat was asked for
            yield data

    def iter_content(
        self, chunk_size: int | None = 1, decode_unicode: bool = False
    ) -> Iterator[Any]:
        """Iterate over the body, decoded; see the class."""
        is_ours = chunk_size is None or (type(chunk_size) is int and chunk_size > 0)
        if not is_ours or not self._is_for_us:
            return super().iter_content(chunk_size, decode_unicode)  # type: ignore[call-overload,no-any-return]
        is_prompt = media_type(self) in _PROMPT
        if chunk_size is not None:
            take = blocks(chunk_size, is_prompt=is_prompt)
        else:
            take = chunks if getattr(self.raw, "chunked", False) else parts
        loop = Loop(self, take, closes=is_prompt, whole_chunks=True)
        is_text = decode_unicode and self.encoding is not None
        return TextLoop(loop, cast("str", self.encoding)) if is_text else loop

    @property
    def _is_for_us(self) -> bool:
        """Whether there is a body, and nobody wants requests to read it."""
        return (
            not self._content_consumed and hasattr(self.raw, "stream") and not is_rewired(self.raw)
        )

    def iter_lines(
        self,
        chunk_size: int | None = 512,
        decode_unicode: bool = False,
        delimiter: Any = None,
    ) -> Iterator[Any]:
        """Iterate over the lines of the body, each as soon as its end has arrived; ``chunk_size`` is ignored.

        With ``decode_unicode`` too, lines end at CR, LF and CRLF only: U+2028 and its kin are data.
        """
        if not self._is_for_us:
            return super().iter_lines(chunk_size, decode_unicode, delimiter)  # type: ignore[call-overload,no-any-return]
        is_prompt = media_type(self) in _PROMPT
        encoding = self.encoding if decode_unicode else None
        if _is_wide(encoding):
            # In UTF-16 and its kin a line end is not found before decoding.
            text = TextLoop(Loop(self, parts, closes=is_prompt), cast("str", encoding))
            return TextLineLoop(text, delimiter)
        if isinstance(delimiter, str):
            delimiter = delimiter.encode(encoding or "utf-8")
        return Loop(self, lines(delimiter or None), closes=is_prompt, encoding=encoding)


def resilient(response: requests.Response) -> ResilientResponse:
    """Return the same response as one of ours."""
    # A second object would be filled for nothing, and make a second jar of cookies.
    response.__class__ = ResilientResponse
    return cast("ResilientResponse", response)


def _is_wide(encoding: str | None) -> bool:
    return encoding is not None and "\r\n".encode(encoding, "replace") != b"\r\n"
