"""A requests.Response with prompt reading loops, which fail with the errors of a stream."""

from __future__ import annotations

import codecs
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

# In these a character may set the meaning of those behind it, in later lines too.
_STATEFUL = ("hz", "iso2022", "utf-7")
# Content types of event streams and of JSON lines: users wait for each item.
_PROMPT = NDJSON | {EVENT_STREAM}


class ResilientResponse(requests.Response):
    """The response of a `ResilientAdapter`: a requests.Response, read by one thread.

    ``attempts`` is a tuple of `AttemptRecord`. ``iter_lines()`` yields each line as soon as its end
    has arrived. ``iter_content(None)`` yields the bytes that have arrived; in a chunked body each
    item is one chunk, as in requests. ``iter_content(n)`` yields blocks of n bytes as in requests,
    but for event streams at once, with at most n bytes.

    The loops raise `StreamIdle` (here also a ``requests.ConnectionError``), `StreamBroken`,
    `DeadlineExceeded` and `Cancelled`. They may be used in turns, and before ``content``: each goes
    on where the last has stopped. ``raw`` is urllib3's, with urllib3's exceptions.
    """

    # The name and the form of requests.
    __attrs__ = [*requests.Response.__attrs__, "attempts"]  # noqa: RUF012
    attempts: tuple[AttemptRecord, ...] = ()
    # Kept by `body_of`, so that one loop can go on where another has stopped.
    _body: Body | None = None
    _has_looped = False

    def _begin_loop(self) -> bool:
        """A loop over the body begins; return True for the first one."""
        is_first, self._has_looped = not self._has_looped, True
        return is_first

    def _end_loops(self) -> None:
        """A loop has come to the end of the body, which counts as consumed from here on."""
        self._content_consumed = True

    def close(self) -> None:
        """Give the connection back, or close it if the body has not ended.

        A read of another thread ends with `Cancelled`.
        """
        if self._content_consumed or not hasattr(self.raw, "stream"):
            super().close()
        else:
            Reader(self).close()

    @property
    def content(self) -> Any:
        """The whole body, as bytes."""
        # requests' own property returns None without a status, and raises if a loop took the body.
        # Progress bars replace the method on the response that requests reads through.
        is_stock = "iter_content" not in vars(self)
        if self._content is False and self.status_code and is_stock and self._is_for_us:
            reader = Reader(self, legacy=True)
            reader.body.refuse_used_up(is_first=self._begin_loop())
            self._content = reader.read_all()
            self._content_consumed = True
        return self._content if self._content and self._content_consumed else super().content

    def iter_content(
        self, chunk_size: int | None = 1, decode_unicode: bool = False
    ) -> Iterator[Any]:
        """Iterate over the body, decoded; see the class."""
        is_ours = chunk_size is None or (type(chunk_size) is int and chunk_size > 0)
        if not is_ours or not self._is_for_us:
            return super().iter_content(  # type: ignore[call-overload,no-any-return]
                chunk_size, decode_unicode
            )
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
        """True if there is a body, and no other package wants requests' own code to read it."""
        if self._content_consumed or not hasattr(self.raw, "stream"):
            return False
        # A loop that has begun holds bytes, so the next one is ours, too.
        has_begun = self._body is not None and self._body.is_of(self.raw)
        return has_begun or not is_rewired(self.raw)

    def iter_lines(
        self,
        chunk_size: int | None = 512,
        decode_unicode: bool = False,
        delimiter: Any = None,
    ) -> Iterator[Any]:
        """Iterate over the lines of the body, each as soon as its end has arrived.

        ``chunk_size`` is ignored. With ``decode_unicode`` too, lines end at CR, LF and CRLF only:
        U+2028 and its like are data.
        """
        if "iter_content" in vars(self) or not self._is_for_us:
            return super().iter_lines(  # type: ignore[call-overload,no-any-return]
                chunk_size, decode_unicode, delimiter
            )
        is_prompt = media_type(self) in _PROMPT
        encoding = self.encoding if decode_unicode else None
        if _is_wide(encoding):
            text = TextLoop(Loop(self, parts, closes=is_prompt), cast("str", encoding))
            return TextLineLoop(text, delimiter)
        if isinstance(delimiter, str):
            delimiter = delimiter.encode(encoding or "utf-8")
        return Loop(self, lines(delimiter or None), closes=is_prompt, encoding=encoding)


def resilient(response: requests.Response) -> requests.Response:
    """Return the same response as one of our class; one of another class stays as it is."""
    if type(response) is requests.Response:
        # A new object would cost the copy of each attribute, and a second jar of cookies.
        response.__class__ = ResilientResponse
    return response


def _is_wide(encoding: str | None) -> bool:
    """True if lines cannot be found, or decoded one by one, before the text is decoded."""
    if encoding is None:
        return False
    is_stateful = codecs.lookup(encoding).name.startswith(_STATEFUL)
    return is_stateful or "\r\n".encode(encoding, "replace") != b"\r\n"
