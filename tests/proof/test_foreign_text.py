"""Every reader of a stranger's bytes takes linear time, for any bytes.

Each function of the table reads each text in two sizes, and may take three times as long for a byte
of the larger one. ``FOREIGN_BYTES`` sets that size. A long run sets ``FOREIGN_BYTES=4194304``.
"""

from __future__ import annotations

import contextlib
import io
import random
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3
from chat_wires import ASK, Canned, raw_of, response_of
from clients import Client
from growth import LARGE, MOST_SECONDS, Reader, Text, fault

from resilient_requests import StreamProtocolError, iter_events, stream_chat
from resilient_requests.call import Origin
from resilient_requests.chat._forms import Chunks, JSONDocument, JSONLines
from resilient_requests.chat._redact import Redactor
from resilient_requests.chat._refusal import http_error
from resilient_requests.cli._output import in_words
from resilient_requests.retry import retry_after
from resilient_requests.stream import (
    EventTooLarge,
    Form,
    ServerSentEvent,
    SSEDecoder,
    media_type,
    resilient,
)
from resilient_requests.stream._coding import ContentDecoder
from resilient_requests.stream._framing import ChunkFraming
from resilient_requests.stream.events._sniff import NoEventsError, SniffedEvents
from resilient_requests.testing import FaultServer, Fin, Reply, Send
from resilient_requests.transport import parse_hint
from resilient_requests.transport._head import is_chunked, parse_head

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(8 * MOST_SECONDS),
    # Python 3.12 warns of pytest-xdist's threads. The child uses none of them.
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]

# -- the texts -------------------------------------------------------------------------------------

UNITS = rb"""
    < <a <a> </ </a> <script <script> <style></style> <title <title> <title>x <!-- > &#9
    0 9 - " ' \ \u [ ] { {"a": [] , ; : = a // //a@ ?a abcdefghij data: sk- Bearer
    ,timeout ,timeout=1x chunked, HTTP/1.1
""".split()
UNITS += [
    *(b"<a ", b"<script></script ", b"timeout = ", b"sk-abcdefg ", b"Bearer x ", b"Jan ", b" "),
    *(b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"\t", b"\0", b"\xff", b"\xe2\x80\xa8"),
    *(b"data:\n", b"data: x\n\n", b"event: error\n", b"id: 1\n", b": c\n", b"error: e\n\n"),
    *(b"a: b\r\n", b"1\r\nx\r\n", b'1;a="b\r\n', b"HTTP/1.1 100 \r\n\r\n", b"\r\n\r\nHTTP/1.1 200"),
]
_mixed = random.Random(11)
UNITS += [b"".join(_mixed.choices(UNITS, k=count)) for count in (3, 17, 101)]


# -- the readers -----------------------------------------------------------------------------------


def of_text(read: Callable[[str], object], *errors: type[Exception]) -> Callable[[bytes], object]:
    """A reader of text that may raise errors."""

    def run(data: bytes) -> None:
        with contextlib.suppress(*errors):
            read(data.decode("latin-1"))

    return run


def fed(make: Callable[[], Any], size: int, data: bytes) -> None:
    """Feed a decoder with pieces of a size; nothing is read behind the last chunk."""
    decoder = make()
    with contextlib.suppress(EventTooLarge, NoEventsError):
        for piece in pieces_of(data, size):
            if not getattr(decoder, "is_over", False):
                decoder.feed(piece)
        getattr(decoder, "flush", list)()


def pieces_of(data: bytes, size: int = 1 << 16) -> list[bytes]:
    """Data as reads bring it."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def loops_of(
    read: Callable[[requests.Response], Any], size: int = 1 << 16
) -> Callable[[bytes], object]:
    """One of the loops that users write over a response."""

    def run(data: bytes) -> None:
        made = response_of([], "text/plain")
        made.raw, made.encoding = raw_of(pieces_of(data, size)), "utf-8"
        for _ in read(resilient(made)):
            pass

    return run


def uncoded(coding: str, data: bytes) -> None:
    """Undo a content coding."""
    raw = urllib3.HTTPResponse(
        io.BytesIO(), headers={"Content-Encoding": coding}, preload_content=False
    )
    decoder = ContentDecoder(raw)
    with contextlib.suppress(urllib3.exceptions.DecodeError):
        for piece in pieces_of(data):
            decoder.decode(piece)
            while decoder.has_more:
                decoder.decode(b"")


def chatted(dialect: str, kind: str, data: bytes, size: int = 1 << 16) -> None:
    """Read an answer; its outcome has no part in this test."""
    session = Canned(pieces_of(data, size), kind)
    with (
        contextlib.suppress(requests.RequestException),
        stream_chat(session, "http://chat.invalid/{model}", dialect=dialect, **ASK) as stream,
    ):
        for _ in stream:
            pass


def refused(data: bytes) -> None:
    """Read a page that refuses."""
    response = response_of(pieces_of(data), "text/html")
    response.status_code = 502
    http_error(response, Redactor([], [], {}))


def redacted(data: bytes) -> None:
    """Redact a text of the prompt it repeats."""
    text = data.decode("latin-1")
    redactor = Redactor([], [], {"messages": [{"content": text}]})
    redactor.line(text)
    redactor.around(text, len(text) // 2)


def refused_events(data: bytes) -> None:
    """Refuse a response for its type."""
    with contextlib.suppress(StreamProtocolError):
        iter_events(response_of([data], data.decode("latin-1")))


def kind_of(data: bytes) -> None:
    """Look at the type of a response."""
    media_type(response_of([], data.decode("latin-1")))


def answered(data: bytes) -> None:
    """Read a response from its first byte to its last, with its cookies and over a socket."""
    with FaultServer() as server, Client(server, policy={"max_retries": 0}) as client:
        server.default = Reply((Send(data), Fin()))
        with contextlib.suppress(requests.RequestException):
            client.get(allow_redirects=False)


def event(data: str) -> bytes:
    """A server-sent event."""
    return f"data: {data}\n\n".encode()


EVENTS, JSON, LINES = "text/event-stream", "application/json", "application/x-ndjson"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
DIALECTS: dict[str, tuple[Text, ...]] = {
    "openai": (
        Text(b"", event('{"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}')),
        Text(b'data: {"choices":[', b'{"index":1,"delta":{"content":"x"}},', b"{}]}\n\n"),
        Text(
            b'data: {"choices":[{"delta":{"tool_calls":[',
            b'{"index":7,"id":"a","function":{"arguments":"x"}},',
            b"{}]}}]}\n\n",
        ),
        Text(b'data: {"error":{"message":"', b"\\u0000x", b'"}}\n\n'),
        Text(b"", event('{"choices":[{"message":{"content":"x"}}]}')),
        Text(
            event('{"choices":[{"delta":{"content":[{}]}}]}'),
            event('{"choices":[{"delta":{"content":"x"}}]}'),
        ),
        Text(b"", event('{"choices":[{"delta":{"x":"y"}}],"usage":{"%d":1}}')),
        Text(b"", event('{"x%d":1}')),
        Text(b"", b"data: [DONE]\n", b"\n"),
        Text(b'data: {"choices":[]}\n', b"data: [DONE]\ndata:\n", b"\n"),
        Text(
            b'data: {"choices":[',
            b'{"delta":{"content":"x"}},{"message":{"content":"y"}},',
            b"{}]}\n\n",
        ),
    ),
    "anthropic": (
        Text(b"", event('{"type":"content_block_start","content_block":{"type":"tool_use"}}')),
        Text(b"", event('{"type":"content_block_start"}') + event('{"type":"content_block_stop"}')),
        Text(b"", event('{"type":"message_delta","usage":{"%d":1}}')),
        Text(b"", event('{"type":"content_block_start","index":0}') * 2),
        Text(b"", event('{"type":"content_block_delta","delta":{"partial_json":"x"}}')),
        Text(b"", event('{"type":"content_block_delta","delta":{"citation":1}}')),
    ),
    "cohere": (
        Text(b"", event('{"type":"content-delta","delta":{"message":{"content":{"text":"x"}}}}')),
        Text(b"", event('{"type":"citation-start","delta":{"message":{"citations":{"a":1}}}}')),
    ),
    "gemini": (
        Text(b'data: {"candidates":[{"content":{"parts":[', b'{"text":"xy"},', b"{}]}}]}\n\n"),
        Text(
            (
                b'data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":"f",'
                b'"partialArgs":['
            ),
            b'{"jsonPath":"$.a","stringValue":"x"},',
            b"{}]}}]}}]}\n\n",
        ),
        Text(
            (
                b'data: {"candidates":[{"content":{"parts":[{"functionCall":{'
                b'"partialArgs":[{"jsonPath":"'
            ),
            b"[9].a",
            b'","stringValue":"x"}]}}]}}]}\n\n',
        ),
    ),
    "openai-responses": (
        Text(b"", event('{"type":"response.output_text.delta","delta":"x"}')),
        Text(
            b'data: {"type":"response.completed","response":{"output":[',
            b'{"type":"message","content":[{"text":"x"}]},',
            b"{}]}}\n\n",
        ),
        Text(b"", event('{"type":"response.output_text.delta","item_id":"%d","delta":"x"}')),
        Text(b"", event('{"type":"response.output_text.done","content_index":%d,"text":"x"}')),
        Text(
            b"", event('{"type":"response.output_item.done","item":{"type":"message","id":"%d"}}')
        ),
        Text(
            event('{"type":"response.output_text.delta","delta":"x"}') * 600,
            event('{"type":"response.content_part.done","part":{"text":"x"}}'),
        ),
    ),
}

READERS: dict[str, Reader] = {
    # transport/_connection.py searches all bytes that a server sends during a body anew with each
    # byte: feed `attempt.early` byte by byte to the search for a refusal.
    "head": Reader(parse_head, (b"", OK, b"HTTP/1.1 200 ", OK + b"A:")),
    "transfer coding": Reader(of_text(is_chunked)),
    "keep-alive hint": Reader(of_text(parse_hint), (b"", b"timeout=1"), most=1 << 16),
    "Retry-After": Reader(of_text(retry_after), (b"", b"Wed, 21 Oct 2015 07:28:00 ")),
    "content type": Reader(kind_of),
    "other content type": Reader(refused_events),
    "origin": Reader(of_text(Origin.of), (b"", b"http://")),
    "error in words": Reader(
        of_text(lambda text: in_words(requests.ConnectionError(text))), (b"", b"//")
    ),
    "JSON": Reader(
        of_text(lambda text: ServerSentEvent(data=text).json(), ValueError, RecursionError),
        (b"", b"[", b'"', b"0."),
    ),
    "redactor": Reader(redacted),
    "refusal": Reader(refused, (b"", b"data: ", b'{"error":"'), most=1 << 16),
    **{
        name + rhythm: Reader(loops_of(loop, size), most=most)
        for name, loop, most in (
            ("lines", lambda response: response.iter_lines(), LARGE),
            ("split", lambda response: response.iter_lines(delimiter=b"\r\n\r\n"), LARGE),
            (
                "a loop per line",
                lambda response: iter(lambda: next(response.iter_lines(), None), None),
                LARGE // 8,
            ),
        )
        for rhythm, size in (("", 1 << 16), (" in drips", 64))
    },
    "loop over text": Reader(loops_of(lambda response: response.iter_lines(decode_unicode=True))),
    "loop over blocks": Reader(
        loops_of(lambda response: response.iter_content(80, decode_unicode=True))
    ),
    **{
        name + rhythm: Reader(partial(fed, decoder, size), begins, most=LARGE // 2)
        for name, decoder, begins in (
            ("chunks", ChunkFraming, (b"", b"0\r\n", b"1;", b"0")),
            ("events", partial(SSEDecoder, 1 << 24, error_field=True), (b"", b"data: ")),
            ("documents", JSONLines, (b"",)),
            ("document", JSONDocument, (b"{",)),
            ("chunks of any form", partial(Chunks, 1 << 24, None, is_lines=False), (b"", b"{")),
            ("lines of any form", partial(Chunks, 1 << 24, None, is_lines=True), (b"", b"{")),
            ("events of any type", partial(SniffedEvents, 1 << 24, is_hinted=True), (b"",)),
        )
        for rhythm, size in (("", 1 << 16), (" in drips", 64))
    },
    "bare lines": Reader(
        partial(fed, partial(Chunks, 1 << 24, Form.EVENTS, is_lines=False), 1 << 16),
        (b"data:\n{\n",),
        (Text(b'data:\n{"a":\n', b"}\n"),),
    ),
    **{
        f"{coding}": Reader(partial(uncoded, coding), (b"",), (Text(b"", member),))
        for coding, member in (
            ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\xff\3\0\0\0\0\0\0\0\0\0"),
            ("deflate", b"\0\0\0\xff\xff"),
            ("br", b"\x06"),
        )
    },
    **{
        f"{dialect}": Reader(
            partial(chatted, dialect, EVENTS), (b"data: ",) if dialect == "openai" else (), texts
        )
        for dialect, texts in DIALECTS.items()
    },
    "openai's document": Reader(partial(chatted, "openai", JSON), (b"", b'{"error":')),
    "ollama": Reader(
        partial(chatted, "ollama", LINES),
        (b"", b'{"error":'),
        (Text(b"", b'{"message":{"content":"x"}}\n'),),
    ),
    "whole response": Reader(
        answered, (b"", OK, OK + b"Set-Cookie: a=", CHUNKED, CHUNKED + b"0\r\n"), most=1 << 16
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_takes_linear_time(name: str) -> None:
    """Any bytes will do; and no error leaves the reader but its own."""
    assert fault(READERS[name], UNITS) == ""


def test_the_measure_sees_quadratic_time() -> None:
    """A measure that never complains proves nothing."""
    tags = Reader(re.compile(rb"<[^>]*>").findall, most=1 << 13)

    assert fault(tags, [b"a"]) == ""
    assert "times as long per byte" in fault(tags, [b"a", b"<"])


def test_the_measure_ends_what_does_not_end() -> None:
    """A regression must not hold up all other tests."""
    endless = Reader(re.compile(rb"(a+)+b").match)

    assert fault(endless, [b"a"], most_seconds=1).endswith("more than 1 s")


def test_the_measure_tells_errors() -> None:
    """One that is not expected is a fault, too."""
    assert "ValueError" in fault(Reader(int), [b"<"])
