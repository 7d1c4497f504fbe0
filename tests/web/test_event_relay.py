"""The bytes of a relay, and its end: under WSGI and under ASGI, from real sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests
from chat_wires import ASK, USAGE, call, chunk, mounted, stall
from clients import Running, in_time, until
from sse_vectors import Vector, vectors

from resilient_requests import (
    CancelScope,
    Timeouts,
    iter_bytes,
    iter_events,
    stream_chat,
)
from resilient_requests.stream import SSEDecoder
from resilient_requests.testing import FaultServer, reset, sse, stream
from resilient_requests.web import EventRelay, _relay

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilient_requests.testing import Reply

    Read = Callable[[EventRelay], list[bytes]]

pytest_plugins = ["relayed_chats"]

COMMENT = b": keep-alive\n\n"
HALVES = '{"choices": [{"index": 0, "delta": {"content": "%s"}, "finish_reason": null}]}'


@pytest.fixture(params=["wsgi", "asgi"])
def read(request: pytest.FixtureRequest) -> Read:
    """All that a relay writes, read as the servers of one kind do."""

    async def gather(relay: EventRelay) -> list[bytes]:
        return [data async for data in relay]

    return list if request.param == "wsgi" else lambda relay: asyncio.run(gather(relay))


def events_of(written: list[bytes]) -> list[tuple[str, Any]]:
    """Return the name and the JSON of each event in the written bytes."""
    decoder = SSEDecoder()
    return [(each.event, each.json()) for data in written for each in decoder.feed(data)]


# -- the written bytes ---------------------------------------------------------------------------


def test_a_delta_becomes_json_without_what_is_empty(
    chat: Callable[..., EventRelay], read: Read
) -> None:
    """A chunk with a role only says nothing to a browser, and is left out."""
    answer = (
        chunk(role="assistant"),
        chunk("Hé"),
        chunk(reasoning_content="Hm"),
        chunk(tool_calls=[call(0, '{"a": 1}', call_id="c1", name="look")]),
        chunk(finish="stop"),
        {"choices": [], "usage": USAGE},
    )

    written = read(chat(sse(*answer)))

    assert written[0] == b'data: {"content": "H\\u00e9"}\n\n'
    assert events_of(written)[1:] == [
        ("message", {"reasoning": "Hm"}),
        ("message", {"tool_calls": [TOOL]}),
        ("message", {"finish_reason": "stop"}),
        ("message", {"usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}}),
        ("done", {"finish_reason": "stop"}),
    ]


TOOL = {"index": 0, "id": "c1", "name": "look", "arguments": '{"a": 1}', "kind": "function"}


def test_the_index_of_a_choice_is_written_where_it_is_not_the_first(
    chat: Callable[..., EventRelay], read: Read
) -> None:
    """A browser that shows two answers must know which one goes on; an index alone says nothing."""
    second = chunk("b")
    second["choices"][0]["index"] = 1
    empty = chunk(role="assistant")
    empty["choices"][0]["index"] = 1

    written = read(chat(sse(empty, chunk("a"), second)))

    assert events_of(written)[:-1] == [
        ("message", {"content": "a"}),
        ("message", {"content": "b", "index": 1}),
    ]


def test_a_truncated_answer_is_done_and_says_so(
    chat: Callable[..., EventRelay], read: Read
) -> None:
    """`accept_bare_eof` takes such an end for a good one; the browser may think otherwise."""
    written = read(chat(sse(chunk("a"), done=False), accept_bare_eof=True))

    assert events_of(written)[-1] == ("done", {"finish_reason": None, "truncated": True})


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector.name)
def test_an_event_is_written_as_it_came(vector: Vector, fault_server: FaultServer) -> None:
    """A browser gets the names, the data and the ids that it would have got from the upstream."""
    fault_server.script(stream([vector.data]))
    with requests.get(fault_server.url, stream=True, timeout=5) as response:
        came = list(iter_events(response))
    fault_server.script(stream([vector.data]))
    with requests.get(fault_server.url, stream=True, timeout=5) as response:
        written = list(EventRelay(iter_events(response)))
    decoder = SSEDecoder()

    assert written[-1] == b"event: done\ndata: {}\n\n"
    assert [each for data in written[:-1] for each in decoder.feed(data)] == came


def test_an_id_is_written_when_it_changes(fault_server: FaultServer, read: Read) -> None:
    """It holds until the next one, and an upstream may set it back to nothing."""
    fault_server.script(stream([b"id: 1\ndata: a\n\ndata: b\n\nid:\ndata: c\n\n"]))
    with requests.get(fault_server.url, stream=True, timeout=5) as response:
        written = read(EventRelay(iter_events(response)))

    assert written[:-1] == [b"id: 1\ndata: a\n\n", b"data: b\n\n", b"id: \ndata: c\n\n"]


def test_bytes_are_written_in_base64(fault_server: FaultServer, read: Read) -> None:
    """A piece may end within a character, and may hold line ends."""
    pieces = [b"\xe2\x82", b"\xac\n\n\x00\xff"]
    fault_server.script(stream(pieces, content_type="application/octet-stream"))
    with requests.get(fault_server.url, stream=True, timeout=5) as response:
        written = read(EventRelay(iter_bytes(response)))

    lines = [data.removeprefix(b"data: ").removesuffix(b"\n\n") for data in written[:-1]]
    assert b"".join(map(base64.b64decode, lines)) == b"".join(pieces)


@pytest.mark.slow
def test_each_heartbeat_is_a_comment(chat: Callable[..., EventRelay], read: Read) -> None:
    """Only a write shows that the browser has left. It is no item, so nobody renders it."""
    rendered: list[Any] = []

    def render(delta: Any) -> str:
        rendered.append(delta)
        return "data: x\n\n"

    answer = sse(chunk("a"), 0.25, chunk("b"))
    written = read(chat(answer, heartbeat=0.1, render=render))

    assert written[:-1] == [b"data: x\n\n", COMMENT, COMMENT, b"data: x\n\n"]
    assert [each.content for each in rendered] == ["a", "b"]


def test_an_item_is_written_when_it_comes(
    session: requests.Session, fault_server: FaultServer
) -> None:
    """The second is not sent before the first was written."""
    go_on = threading.Event()
    fault_server.script(sse(chunk("a"), go_on, chunk("b")))
    with contextlib.closing(EventRelay(stream_chat(session, fault_server.url, **ASK))) as relay:
        assert next(relay) == b'data: {"content": "a"}\n\n'
        go_on.set()
        assert next(relay) == b'data: {"content": "b"}\n\n'


def test_what_render_returns_is_written_as_it_is(
    chat: Callable[..., EventRelay], read: Read
) -> None:
    """Text in UTF-8, bytes untouched, and None and nothing leave the item out."""
    told = {"a": "data: é\n\n", "b": b"\xff", "c": None, "d": "", "e": b""}

    written = read(chat(sse(*map(chunk, told)), render=lambda delta: told[delta.content]))

    assert written[:-1] == ["data: é\n\n".encode(), b"\xff"]


def test_half_of_a_character_does_not_end_the_answer(
    chat: Callable[..., EventRelay], read: Read
) -> None:
    """Some providers cut an emoji in two: JSON carries the halves, UTF-8 cannot."""
    halves = [HALVES % r"\ud83d", HALVES % r"\ude00"]

    written = read(chat(sse(*halves)))
    plain = read(chat(sse(*halves), render=lambda delta: f"data: {delta.content}\n\n"))

    assert "".join(data["content"] for _, data in events_of(written)[:-1]) == "\ud83d\ude00"
    assert plain[:-1] == [b"data: ?\n\n"] * 2


def test_a_comment_is_written_where_render_leaves_out_all(
    chat: Callable[..., EventRelay], read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During minutes of thought a proxy would give up, and nothing would notice a lost browser."""
    seconds = iter([0.0, 14.9, 15.0, 15.0, 29.9, 30.0, 30.0, 31.0])  # made, then each item
    monkeypatch.setattr(_relay, "monotonic", lambda: next(seconds))

    answer = sse(*(chunk(reasoning_content=text) for text in "abcd"))
    written = read(chat(answer, render=lambda _: None))

    assert written[:-1] == [COMMENT, COMMENT]


def test_the_headers_keep_proxies_from_collecting(chat: Callable[..., EventRelay]) -> None:
    """Each caller has a dict of its own, to add to."""
    relay = chat(sse())
    relay.headers["X-Other"] = "1"
    relay.close()

    assert relay.headers == {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
    }


# -- how it ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "kind", "reason"),
    [
        (sse(chunk("a"), done=False, ending="reset"), "StreamBroken", "the connection was lost"),
        (stall(), "StreamIdle", "no byte for 0.2 s"),
        (sse(chunk("a"), done=False), "StreamTruncated", "the stream ended cleanly"),
        (sse(chunk("a"), "{", done=False), "StreamProtocolError", "event 2 is not JSON"),
        (
            sse(chunk("a"), {"error": {"message": "too busy", "type": "overloaded_error"}}),
            "ChatAPIError",
            "too busy",
        ),
    ],
    ids=["broken", "idle", "truncated", "protocol", "provider"],
)
def test_a_failure_is_a_last_event(
    chat: Callable[..., EventRelay], read: Read, reply: Reply, kind: str, reason: str
) -> None:
    """The status has gone out long ago: a stream that just ends would look finished."""
    relay = chat(reply, idle_timeout=0.2)
    first, (name, data) = events_of(read(relay))

    assert first == ("message", {"content": "a" if kind != "StreamIdle" else "Hi"})
    assert name == "error"
    assert data["type"] == kind
    assert reason in data["reason"]
    assert read(relay) == []


def test_only_our_own_errors_give_a_reason(fault_server: FaultServer, read: Read) -> None:
    """The text of others may hold a URL and its query, as that of a replay that was reset."""
    fault_server.script(sse(chunk(role="assistant"), done=False, ending="reset"), reset(), reset())
    with mounted(max_retries=1) as session:
        answer = stream_chat(session, f"{fault_server.url}/?key=secret", **ASK)
        written = read(EventRelay(answer))

    assert written == [b'event: error\ndata: {"type": "ConnectionError"}\n\n']


@pytest.mark.slow
def test_a_deadline_is_a_last_event(fault_server: FaultServer, read: Read) -> None:
    """It is no StreamError."""
    fault_server.script(stall())
    with mounted(timeouts=Timeouts(total=0.3)) as session:
        written = read(EventRelay(stream_chat(session, fault_server.url, **ASK)))

    assert written[1:] == [b'event: error\ndata: {"type": "DeadlineExceeded"}\n\n']


def test_a_cancelled_scope_is_a_last_event(chat: Callable[..., EventRelay], read: Read) -> None:
    """Somebody else has ended the stream, and the browser is still there."""
    with CancelScope() as scope:
        relay = chat(stall())
    first = next(relay)
    scope.cancel()

    assert first == b'data: {"content": "Hi"}\n\n'
    assert read(relay) == [b'event: error\ndata: {"type": "Cancelled"}\n\n']


def test_what_render_raises_leaves_as_it_is(
    chat: Callable[..., EventRelay], fault_server: FaultServer, read: Read
) -> None:
    """It is no failure of the network. The server tells it; the upstream has ended."""

    def render(delta: object) -> str:
        raise KeyError("content")

    relay = chat(stall(), render=render)
    with pytest.raises(KeyError):
        read(relay)

    assert fault_server.wait_for_disconnects(1)
    assert read(relay) == []


def test_render_that_returns_something_else_is_told(
    chat: Callable[..., EventRelay], read: Read
) -> None:
    """A dict is no event."""
    with pytest.raises(TypeError, match=r"^render must return str, bytes or None, not dict$"):
        read(chat(sse(chunk("a")), render=lambda delta: {"text": delta.content}))


def test_a_relay_that_is_over_stays_so(chat: Callable[..., EventRelay], read: Read) -> None:
    """A stream that has failed raises at each step; the browser has been told, once."""
    relay = chat(sse(chunk("a"), done=False))
    states = [repr(relay)]
    next(relay)
    states.append(repr(relay))
    read(relay)
    states.append(repr(relay))

    assert states == ["<EventRelay open>", "<EventRelay open>", "<EventRelay ended>"]
    assert [next(relay, None), read(relay)] == [None, []]


def test_close_ends_the_upstream(
    chat: Callable[..., EventRelay], fault_server: FaultServer
) -> None:
    """That holds even for a relay that nobody has read from, as after HEAD."""
    relay = chat(stall())
    relay.close()
    relay.close()

    assert fault_server.wait_for_disconnects(1)
    assert list(relay) == []


def test_close_from_another_thread_ends_the_step(
    chat: Callable[..., EventRelay], fault_server: FaultServer
) -> None:
    """The server's threads have better things to do than to wait for the idle limit."""
    relay = chat(stall())
    next(relay)
    reader = Running(lambda: list(relay))
    until(lambda: repr(relay) == "<EventRelay stepping>")
    relay.close()

    in_time(reader.seconds_to_end(), 0.5)
    assert (reader.value, reader.error) == ([], None)
    assert fault_server.wait_for_disconnects(1)


def test_close_while_render_is_at_work_ends_the_upstream(
    chat: Callable[..., EventRelay], fault_server: FaultServer
) -> None:
    """No thread waits for the stream then, so nobody would notice a cancel."""
    begun, go_on = threading.Event(), threading.Event()

    def render(delta: object) -> str:
        begun.set()
        assert go_on.wait(5)
        return "data: x\n\n"

    relay = chat(stall(), render=render)
    reader = Running(lambda: list(relay))
    assert begun.wait(5)
    relay.close()
    go_on.set()
    reader.seconds_to_end()

    assert (reader.value, reader.error) == ([], None)
    assert fault_server.wait_for_disconnects(1)


def test_a_second_thread_is_refused(chat: Callable[..., EventRelay]) -> None:
    """Each would get half of the events."""
    relay = chat(stall())
    next(relay)
    reader = Running(lambda: list(relay))
    until(lambda: repr(relay) == "<EventRelay stepping>")
    with pytest.raises(RuntimeError, match="another thread"):
        next(relay)
    relay.close()
    reader.seconds_to_end()


def test_a_connection_is_reused_after_a_whole_answer(
    chat: Callable[..., EventRelay], fault_server: FaultServer, read: Read
) -> None:
    """The relay reads to the end, as the stream does."""
    for _ in range(3):
        read(chat(sse(chunk("a"), chunk(finish="stop"))))

    assert fault_server.accepted == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((b"", None), "stream must be a ChatStream, an EventStream or a ByteStream, not bytes"),
        ((iter([]), None), "stream must be a ChatStream, .*, not list_iterator"),
        ((None, "text"), "render must be callable, not str"),
    ],
)
def test_a_wrong_argument_is_named(
    chat: Callable[..., EventRelay],
    fault_server: FaultServer,
    session: requests.Session,
    arguments: tuple[Any, Any],
    message: str,
) -> None:
    """Found in the view, and not when the head has been sent."""
    given, render = arguments
    fault_server.script(sse())
    with (
        stream_chat(session, fault_server.url, **ASK)
        if given is None
        else (contextlib.nullcontext(given)) as found,
        pytest.raises(TypeError, match=f"^{message}$"),
    ):
        EventRelay(found, render=render)


def test_items_of_other_types_need_render(read: Read) -> None:
    """A wrapper of a stream may yield any items, and must then say how to write them."""

    class Numbers:
        def __init__(self) -> None:
            self.left = [1]

        def __next__(self) -> int:
            if not self.left:
                raise StopIteration
            return self.left.pop()

        def cancel(self) -> None: ...
        def close(self) -> None: ...

    wrapped: Any = Numbers
    with pytest.raises(TypeError, match=r"^render is needed for items of the type int$"):
        read(EventRelay(wrapped()))
    assert read(EventRelay(wrapped(), render=str)) == [b"1", b"event: done\ndata: {}\n\n"]
