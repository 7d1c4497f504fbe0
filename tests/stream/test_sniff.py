"""The first bytes of a body say whether it is events; its Content-Type is only a hint."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from coded_bodies import EVENT_STREAM, events, opened

from resilient_requests import (
    StreamBroken,
    StreamIdle,
    StreamProtocolError,
    iter_bytes,
    iter_events,
)
from resilient_requests.stream.events import _stream
from resilient_requests.stream.events._sniff import Form, NoEventsError, SniffedEvents, form_of
from resilient_requests.testing import FaultServer, respond, stream

if TYPE_CHECKING:
    from clients import Client

    from resilient_requests.testing import Reply

EVENTS = events(0, 1, 2)
KINDS = ["text/plain", "application/json", "application/octet-stream", "text/html", "x bogus", None]


def typed(body: bytes, kind: str | None) -> Reply:
    """A response of a type, or of none."""
    return respond(body, headers={"Content-Type": kind} if kind else {})


@pytest.mark.parametrize(
    ("start", "form"),
    [
        (b"", None),
        (b" \r\n\t", None),
        (b"\xef\xbb", None),
        (b"\xef\xbb\xbf", None),
        (b"da", None),
        (b"even", None),
        (b"data:", Form.EVENTS),
        (b"\xef\xbb\xbfdata: x", Form.EVENTS),
        (b": ping", Form.EVENTS),
        (b":", Form.EVENTS),
        (b"event: x", Form.EVENTS),
        (b"id:1", Form.EVENTS),
        (b"retry: 5", Form.EVENTS),
        (b"error: x", Form.EVENTS),
        (b"data\n", Form.EVENTS),
        (b" {", Form.JSON),
        (b"\xef\xbb\xbf[", Form.JSON),
        (b"<", Form.MARKUP),
        (b"\n<!doctype", Form.MARKUP),
        (b"datum: x", Form.TEXT),
        (b"upstream", Form.TEXT),
        (b"5", Form.TEXT),
        (b'"x"', Form.TEXT),
        (b"\xff\xfe", Form.TEXT),
    ],
)
def test_the_first_bytes_tell_the_form(start: bytes, form: Form | None) -> None:
    """The verdict comes with the first byte that allows one."""
    assert form_of(start) is form


@pytest.mark.parametrize("before", [b"", b"\n \r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
@pytest.mark.parametrize("is_hinted", [True, False])
def test_events_are_found_at_every_cut(before: bytes, is_hinted: bool) -> None:
    """The bytes that showed the form are a part of the body."""
    body = before + b"".join(EVENTS)
    for size in range(1, len(body)):
        decoder = SniffedEvents(1 << 20, is_hinted=is_hinted)
        pieces = [body[at : at + size] for at in range(0, len(body), size)]

        assert [event.data for piece in pieces for event in decoder.feed(piece)] == ["0", "1", "2"]
        assert decoder.is_told
        assert not decoder.is_pending


@pytest.mark.parametrize("start", [b"datum: x\n\n", b"dat", b"5\n\n", b""])
def test_a_text_is_taken_for_events_where_its_type_says_so(start: bytes) -> None:
    """HTML, 9.2.6, has lines that nobody understands skipped."""
    decoder = SniffedEvents(1 << 20, is_hinted=True)

    assert [*decoder.feed(start), *decoder.flush()] == []


@pytest.mark.parametrize("start", [b"datum: x\n\n", b"dat", b"5"])
def test_a_text_of_another_type_is_no_event(start: bytes) -> None:
    """It may be anything."""
    decoder = SniffedEvents(1 << 20, is_hinted=False)
    with pytest.raises(NoEventsError) as caught:
        _ = [*decoder.feed(start), *decoder.flush()]

    assert (caught.value.start, caught.value.form) == (start, Form.TEXT)


@pytest.mark.parametrize("kind", KINDS)
def test_events_of_any_type_are_read(client: Client, server: FaultServer, kind: str | None) -> None:
    """Gateways set the header wrongly, or forget it."""
    response = opened(client, server, typed(b"\n" + b"".join(EVENTS), kind))

    assert [event.data for event in iter_events(response)] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("body", "what"), [(b'{"error": 1}', "JSON"), (b"<!doctype html>", "HTML"), (b"[1]", "JSON")]
)
def test_what_is_labelled_as_events_and_is_none_is_an_error(
    body: bytes, what: str, client: Client, server: FaultServer
) -> None:
    """Without the error a refusal would look like a stream without events."""
    stream_ = iter_events(opened(client, server, typed(body, EVENT_STREAM)))
    for _ in range(2):
        with pytest.raises(
            StreamProtocolError, match=f"but the body is {what}; the body begins"
        ) as caught:
            next(stream_)

    assert body.decode() in str(caught.value)
    assert client.adapter.stats().in_flight == 0


@pytest.mark.parametrize("kind", ["text/plain", None])
def test_what_the_refusal_advises_works(
    client: Client, server: FaultServer, kind: str | None
) -> None:
    """Some events begin with a field that nobody knows."""
    whole = b"datum: x\n" + b"".join(EVENTS)
    body = typed(whole, kind)
    with pytest.raises(
        StreamProtocolError, match=r"iter_bytes reads any body.*set response\.headers"
    ):
        iter_events(opened(client, server, body))
    assert b"".join(iter_bytes(opened(client, server, body))) == whole
    response = opened(client, server, body)
    response.headers["Content-Type"] = EVENT_STREAM

    assert [event.data for event in iter_events(response)] == ["0", "1", "2"]


@pytest.mark.parametrize("body", [b"", b" \n"])
def test_an_empty_body_of_another_type_is_an_error(
    client: Client, server: FaultServer, body: bytes
) -> None:
    """It has said nothing, and its type that it is no stream of events."""
    with pytest.raises(StreamProtocolError, match=r"not 'text/event-stream'; the body begins b''"):
        iter_events(opened(client, server, typed(body, "text/plain")))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first bytes are awaited for a moment only."""
    monkeypatch.setattr(_stream, "_FIRST_BYTES", 0.05)


@pytest.mark.usefixtures("impatient")
def test_a_page_does_not_have_to_begin(client: Client, server: FaultServer) -> None:
    """The type is wrong already: the first bytes would only have said more."""
    response = opened(client, server, stream([], content_type="text/html", ending="silence"))
    with pytest.raises(StreamProtocolError, match="text/html"):
        iter_events(response)

    assert client.adapter.stats().in_flight == 0


@pytest.mark.usefixtures("impatient")
def test_events_of_another_type_may_come_late(client: Client, server: FaultServer) -> None:
    """A model thinks before it speaks."""
    late = threading.Event()
    reply = stream([late, *EVENTS], content_type="text/plain")
    stream_ = iter_events(opened(client, server, reply))
    late.set()

    assert [event.data for event in stream_] == ["0", "1", "2"]


@pytest.mark.usefixtures("impatient")
def test_a_late_body_that_is_no_stream_of_events_is_an_error(
    client: Client, server: FaultServer
) -> None:
    """The error comes at the first step, and at each further one."""
    late = threading.Event()
    reply = stream([late, b"sorry"], content_type="text/plain")
    stream_ = iter_events(opened(client, server, reply))
    late.set()
    for _ in range(2):
        with pytest.raises(StreamProtocolError, match="sorry"):
            next(stream_)


@pytest.mark.parametrize("kind", ["text/plain", "text/html"])
def test_a_break_before_the_first_byte_is_told_as_one(
    client: Client, server: FaultServer, kind: str
) -> None:
    """The network is to blame, for any type."""
    stream_ = iter_events(opened(client, server, stream([], content_type=kind, ending="reset")))
    for _ in range(2):
        with pytest.raises(StreamBroken):
            next(stream_)


@pytest.mark.usefixtures("impatient")
def test_silence_before_the_first_byte_is_told_by_the_clocks(
    client: Client, server: FaultServer
) -> None:
    """Those of the caller, when the look at the first bytes has found none."""
    reply = stream([], content_type="text/plain", ending="silence")
    with pytest.raises(StreamIdle) as caught:
        next(iter_events(opened(client, server, reply), idle_timeout=0.1))

    assert caught.value.idle_timeout == 0.1


def test_an_event_that_is_too_large_is_told_after_those_before_it(
    client: Client, server: FaultServer
) -> None:
    """That holds even if it comes with the bytes that show the form of the body."""
    body = EVENTS[0] + b"data: " + b"x" * 200 + b"\n\n"
    stream_ = iter_events(opened(client, server, typed(body, "text/plain")), max_event_bytes=100)

    assert next(stream_).data == "0"
    with pytest.raises(StreamProtocolError, match="exceeds max_event_bytes=100"):
        next(stream_)


def test_blanks_are_not_held_for_ever() -> None:
    """A server may send spaces to keep a connection alive, and the sniffer would hold them all."""
    decoder = SniffedEvents(1 << 20, is_hinted=True)
    for _ in range(2000):
        decoder.feed(b" ")

    assert decoder.is_told
    assert len(decoder._start) == 0
