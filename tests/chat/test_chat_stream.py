"""stream_chat over real connections: its end, errors and clocks, and its leftovers."""

from __future__ import annotations

import json
import logging
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
from chat_wires import ASK, ROLE, USAGE, call, chunk, deltas_of, good, mounted, refusal
from clients import in_time

from resilient_requests import (
    HEARTBEAT,
    Cancelled,
    CancelScope,
    ChatAPIError,
    ChatDelta,
    ChatStream,
    DeadlineExceeded,
    RetryPolicy,
    StreamBroken,
    StreamEnded,
    StreamIdle,
    StreamProtocolError,
    StreamTruncated,
    Timeouts,
    ToolCall,
    Usage,
    complete_chat,
    stream_chat,
)
from resilient_requests.chat.dialects import DIALECTS
from resilient_requests.chat.dialects._dialect import Dialect, Parser
from resilient_requests.stream import Reader
from resilient_requests.testing import (
    FaultServer,
    Reply,
    Reset,
    Send,
    fin,
    reset,
    respond,
    silence,
    sse,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def session(server: FaultServer) -> Iterator[requests.Session]:
    """A session over our adapter."""
    with mounted(server) as session:
        yield session


def texts(deltas: ChatStream) -> list[str]:
    """The texts of a stream that is read to its end."""
    return [each.content for each in deltas_of(deltas) if each.content]


# -- complete or not -------------------------------------------------------------------------------


def test_done_without_a_finish_reason_is_complete(
    server: FaultServer, session: requests.Session
) -> None:
    """Some servers never send a finish reason."""
    server.script(sse(chunk("a"), chunk("b")))
    with stream_chat(session, server.url, **ASK) as deltas:
        found = texts(deltas)

    assert found == ["a", "b"]
    assert (deltas.completion.content, deltas.completion.finish_reason) == ("ab", None)
    assert not deltas.completion.truncated


def test_a_marker_alone_is_no_answer(server: FaultServer, session: requests.Session) -> None:
    """Nothing was understood: an empty answer would be invented."""
    server.script(sse())
    with (
        stream_chat(session, server.url, **ASK) as deltas,
        pytest.raises(StreamProtocolError, match="dialect='openai'"),
    ):
        list(deltas)

    assert len(server.requests) == 1


def test_an_empty_answer_is_an_answer(server: FaultServer, session: requests.Session) -> None:
    """A role is all that some models say."""
    server.script(sse(ROLE))
    with stream_chat(session, server.url, **ASK) as deltas:
        assert [each.content for each in deltas_of(deltas)] == [""]

    assert (deltas.completion.content, deltas.completion.truncated) == ("", False)


def test_a_finish_reason_without_done_ends_soon(
    server: FaultServer, session: requests.Session
) -> None:
    """Forks of llama.cpp hold the connection open: the answer is complete all the same."""
    elapsed = []
    for _ in range(3):  # a machine that is busy with other things may be late once
        server.script(sse(chunk("a"), chunk(finish="stop"), threading.Event(), done=False))
        with stream_chat(session, server.url, **ASK) as deltas:
            began = time.monotonic()
            assert texts(deltas) == ["a"]
            elapsed.append(time.monotonic() - began)
        assert not deltas.completion.truncated

    assert in_time(min(elapsed), 0.18) >= 0.09
    assert server.wait_for_disconnects(3)


def of_gemini(text: str, **more: Any) -> dict[str, Any]:
    """A chunk of the gemini dialect."""
    counts = {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7}
    return {
        "candidates": [{"content": {"parts": [{"text": text}]}, "index": 0, **more}],
        "usageMetadata": counts,
    }


@pytest.mark.slow
def test_a_finish_reason_may_come_with_every_chunk(
    server: FaultServer, session: requests.Session
) -> None:
    """Older Gemini models do that, and send usage with each: further parts are awaited anew."""
    parts = [of_gemini(text, finishReason="STOP") for text in "abc"]
    server.script(sse(parts[0], 0.4, parts[1], 0.4, parts[2], done=False))

    assert complete_chat(session, server.url, dialect="gemini", **ASK).content == "abc"


def test_a_finish_reason_that_comes_last_ends_gemini_soon(
    server: FaultServer, session: requests.Session
) -> None:
    """A chunk without one has come before: so the one that has it is the last."""
    elapsed = []
    for _ in range(3):  # a machine that is busy with other things may be late once
        server.script(
            sse(of_gemini("a"), of_gemini("b", finishReason="STOP"), threading.Event(), done=False)
        )
        began = time.monotonic()
        assert complete_chat(session, server.url, dialect="gemini", **ASK).content == "ab"
        elapsed.append(time.monotonic() - began)

    assert min(elapsed) < 0.3


@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
def test_a_finish_reason_and_the_end_are_complete(
    framing: Any, server: FaultServer, session: requests.Session
) -> None:
    """The terminal marker may be the finish reason alone."""
    server.script(sse(chunk("a"), chunk(finish="stop"), done=False, framing=framing))
    with stream_chat(session, server.url, **ASK) as deltas:
        assert texts(deltas) == ["a"]

    assert deltas.completion.finish_reason == "stop"


def test_what_breaks_behind_the_finish_reason_breaks_nothing(
    server: FaultServer, session: requests.Session
) -> None:
    """The answer is complete: to lose usage is no reason to lose it."""
    server.script(sse(chunk("a"), chunk(finish="stop"), done=False, ending="reset"))
    with stream_chat(session, server.url, **ASK) as deltas:
        assert texts(deltas) == ["a"]

    assert not deltas.completion.truncated


@pytest.mark.slow
def test_usage_behind_the_finish_reason_is_awaited_where_it_was_asked_for(
    server: FaultServer, session: requests.Session
) -> None:
    """Up to 2 s: it takes the provider longer than a token."""
    usage = {"choices": [], "usage": USAGE}
    server.script(sse(chunk("a", "stop"), 0.25, usage, threading.Event(), done=False))
    with stream_chat(session, server.url, stream_options={"include_usage": True}, **ASK) as deltas:
        began = time.monotonic()
        list(deltas)
        elapsed = time.monotonic() - began

    assert deltas.completion.usage == Usage(3, 4, 7, USAGE)
    assert in_time(elapsed, 0.6) >= 0.34  # and 100 ms more for [DONE], not 2 s


def test_usage_that_nobody_asked_for_is_awaited_briefly(
    server: FaultServer, session: requests.Session
) -> None:
    """It is kept where it comes in time, as one of three does on a busy machine too."""
    found = []
    for _ in range(3):
        server.script(
            sse(
                chunk("a", "stop"),
                0.02,
                {"choices": [], "usage": USAGE},
                threading.Event(),
                done=False,
            )
        )
        with stream_chat(session, server.url, **ASK) as deltas:
            list(deltas)
        found.append(deltas.completion.usage)

    assert Usage(3, 4, 7, USAGE) in found


@pytest.mark.slow
def test_heartbeats_come_while_usage_is_awaited(
    server: FaultServer, session: requests.Session
) -> None:
    """The browser may leave at that time, too; a beat loses no part of the usage."""
    usage = {"choices": [], "usage": USAGE}
    server.script(sse(chunk("a", "stop"), 0.35, usage, threading.Event(), done=False))
    with stream_chat(
        session, server.url, heartbeat=0.1, stream_options={"include_usage": True}, **ASK
    ) as deltas:
        began = time.monotonic()
        found = list(deltas)
        elapsed = time.monotonic() - began

    assert 2 <= found.count(HEARTBEAT) <= 5
    assert deltas.completion.usage == Usage(3, 4, 7, USAGE)
    assert elapsed < 1.0


@pytest.mark.slow
def test_usage_that_never_comes_is_awaited_for_two_seconds(
    server: FaultServer, session: requests.Session
) -> None:
    """No longer: the answer is there."""
    server.script(sse(chunk("a", "stop"), threading.Event(), done=False))
    with stream_chat(session, server.url, stream_options={"include_usage": True}, **ASK) as deltas:
        began = time.monotonic()
        list(deltas)

    assert in_time(time.monotonic() - began, 2.3) >= 1.9
    assert deltas.completion.usage is None


def test_what_follows_the_finish_reason_is_bounded(
    server: FaultServer, session: requests.Session
) -> None:
    """A server that goes on for ever must not hold the caller."""
    noise = json.dumps({"choices": [], "noise": "x" * 4000})
    server.script(sse(chunk("a", "stop"), *[noise] * 200, threading.Event(), done=False))
    with stream_chat(session, server.url, stream_options={"include_usage": True}, **ASK) as deltas:
        began = time.monotonic()
        list(deltas)

    in_time(time.monotonic() - began, 1.0)


HALF = b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"mo'
CUT: dict[str, Reply] = {
    "FIN after a delta, close-delimited": sse(chunk("a"), framing="close", done=False),
    "FIN in mid-event, close-delimited": sse(chunk("a"), HALF, framing="close", done=False),
    "clean chunked end": sse(chunk("a"), done=False),
    "half a line, clean chunked end": sse(chunk("a"), HALF, done=False),
    "half a line, clean end by length": sse(chunk("a"), HALF, framing="length", done=False),
    "half a field name": sse(chunk("a"), b"dat", done=False),
    "comments, then the end": sse(chunk("a"), b": keep-alive\n\n", b"\n\n", done=False),
}


@pytest.mark.parametrize("reply", CUT.values(), ids=CUT)
def test_a_clean_end_without_a_marker_is_truncated(
    reply: Reply, server: FaultServer, session: requests.Session
) -> None:
    """Plain requests, and every SDK, take this for a whole answer."""
    server.script(reply)
    with stream_chat(session, server.url, **ASK) as deltas:
        with pytest.raises(StreamTruncated, match="accept_bare_eof") as caught:
            list(deltas)
        with pytest.raises(StreamTruncated) as again:
            next(deltas)

    assert again.value is caught.value
    assert caught.value.partial.content == "a"
    assert caught.value.partial.truncated
    assert deltas.completion.truncated
    assert caught.value.events_received >= 1
    assert caught.value.response is deltas.response
    assert len(server.requests) == 1


@pytest.mark.parametrize("reply", CUT.values(), ids=CUT)
def test_a_bare_end_can_be_accepted(
    reply: Reply, server: FaultServer, session: requests.Session
) -> None:
    """Some servers never send a marker; the completion says so."""
    server.script(reply)
    with stream_chat(session, server.url, accept_bare_eof=True, **ASK) as deltas:
        assert texts(deltas) == ["a"]

    assert (deltas.completion.content, deltas.completion.truncated) == ("a", True)


def test_half_a_header_line_is_no_answer(server: FaultServer) -> None:
    """To http.client a FIN inside the head is a response with an empty body."""
    server.default = Reply(
        (Send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-st"), fin().steps[0])
    )
    with (
        mounted(server, max_retries=0) as session,
        pytest.raises(requests.RequestException) as caught,
    ):
        list(stream_chat(session, server.url, **ASK))

    assert isinstance(caught.value, (requests.ConnectionError, StreamTruncated))


# -- the text alone --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "kind"),
    [
        ([chunk("a")], StreamTruncated),
        ([chunk("a"), {"error": "no"}], ChatAPIError),
        ([chunk("a"), threading.Event()], StreamIdle),
    ],
    ids=["truncated", "error", "silence"],
)
def test_the_text_fails_as_often_as_it_is_asked(
    items: list[Any], kind: type[Exception], server: FaultServer, session: requests.Session
) -> None:
    """A clean-looking end after an error would make half an answer a whole one."""
    server.script(sse(*items, done=False))
    with stream_chat(session, server.url, idle_timeout=0.1, **ASK) as deltas:
        found = deltas.iter_text()
        assert next(found) == "a"
        errors = []
        for _ in range(3):
            with pytest.raises(kind) as caught:
                next(found)
            errors.append(caught.value)

    assert errors[0] is errors[1] is errors[2]


def test_closing_the_text_closes_the_stream(server: FaultServer, session: requests.Session) -> None:
    """A web server closes its iterator, and knows nothing of the stream behind it."""
    server.script(sse(chunk("a"), threading.Event(), done=False))
    found = stream_chat(session, server.url, **ASK).iter_text()
    assert next(found) == "a"
    found.close()
    found.close()

    assert server.wait_for_disconnects(1)
    assert list(found) == []


def test_the_text_is_whole_where_the_stream_is(
    server: FaultServer, session: requests.Session
) -> None:
    """Its end is the stream's, and comes as often as it is asked for."""
    server.script(good("abc"))
    with stream_chat(session, server.url, **ASK) as deltas:
        found = deltas.iter_text()

        assert [*found, *found] == ["abc"]


# -- tool calls ------------------------------------------------------------------------------------


def test_parallel_calls_interleave_and_are_final_only_at_the_end(
    server: FaultServer, session: requests.Session
) -> None:
    """The JSON so far may be a prefix of the arguments, even where it is valid."""
    server.script(
        sse(
            chunk(tool_calls=[call(0, call_id="a", name="f")]),
            chunk(tool_calls=[call(1, call_id="b", name="g")]),
            chunk(tool_calls=[call(0, '{"a":1}')]),
            chunk(tool_calls=[call(1, '{"b":2}')]),
            chunk(tool_calls=[call(0, " ")]),
            chunk(finish="tool_calls"),
        )
    )
    with stream_chat(session, server.url, **ASK) as deltas:
        for delta in deltas:
            assert isinstance(delta, ChatDelta)
            assert bool(deltas.completion.tool_calls) is bool(delta.finish_reason)

    expected = (ToolCall(0, "a", "f", '{"a":1} '), ToolCall(1, "b", "g", '{"b":2}'))
    assert deltas.completion.tool_calls == expected


def test_a_call_beside_the_finish_reason_is_kept(
    server: FaultServer, session: requests.Session
) -> None:
    """Some gateways send the whole call, and "stop", in one chunk."""
    server.script(sse(chunk(finish="stop", tool_calls=[call(0, "{}", call_id="a", name="f")])))
    with stream_chat(session, server.url, **ASK) as deltas:
        list(deltas)

    assert deltas.completion.tool_calls == (ToolCall(0, "a", "f", "{}"),)


@pytest.mark.parametrize(
    "last",
    [chunk(finish="stop", refusal="No."), chunk("No.", "content_filter")],
    ids=["refusal", "content filter"],
)
def test_a_refusal_voids_partial_calls(
    last: Any, server: FaultServer, session: requests.Session
) -> None:
    """Half a call must not be made."""
    server.script(sse(chunk(tool_calls=[call(0, '{"a', call_id="a", name="f")]), last))
    with stream_chat(session, server.url, **ASK) as deltas:
        list(deltas)

    assert deltas.completion.tool_calls == ()
    assert deltas.completion.content == "No."


# -- errors of the provider ------------------------------------------------------------------------


@pytest.mark.parametrize("after", [[], [chunk("a")]], ids=["at once", "after a delta"])
def test_an_error_inside_the_stream_ends_it_at_once(
    after: list[Any], server: FaultServer, session: requests.Session
) -> None:
    """The socket may stay open: no idle timeout replaces the provider's own words."""
    error = {"error": {"type": "overloaded_error", "code": "x1", "message": "try later"}}
    server.default = sse(*after, error, threading.Event(), done=False)
    with stream_chat(session, server.url, **ASK) as deltas:
        began = time.monotonic()
        with pytest.raises(ChatAPIError, match="try later") as caught:
            list(deltas)

    in_time(time.monotonic() - began, 1.0)
    assert (caught.value.type, caught.value.code, caught.value.transient) == (
        "overloaded_error",
        "x1",
        True,
    )
    assert caught.value.partial.content == ("a" if after else "")
    assert len(server.requests) == (1 if after else 2)
    assert server.wait_for_disconnects(1)


@pytest.mark.parametrize(
    ("item", "name"),
    [({"error": "busy"}, "ChatAPIError"), (b"data: {nonsense\n\n", "StreamProtocolError")],
)
def test_observers_are_told_what_a_stream_came_to(
    item: Any, name: str, fault_server: FaultServer
) -> None:
    """Its status was 200, and nothing was wrong with the connection."""
    events: list[Any] = []
    fault_server.script(sse(chunk("a"), item))
    with mounted(observers=[events.append]) as session, pytest.raises(requests.RequestException):
        list(stream_chat(session, fault_server.url, **ASK))

    assert [(each.error, each.complete) for each in events if isinstance(each, StreamEnded)] == [
        (name, False)
    ]


def test_done_after_an_error_changes_nothing(
    server: FaultServer, session: requests.Session
) -> None:
    """Both come from vLLM, the error first."""
    server.script(sse({"error": "out of memory"}))
    with stream_chat(session, server.url, **ASK) as deltas:
        for _ in range(2):
            with pytest.raises(ChatAPIError, match="out of memory"):
                next(deltas)


# -- clocks ----------------------------------------------------------------------------------------


def test_a_stall_after_the_first_part_is_never_replayed(
    server: FaultServer, session: requests.Session
) -> None:
    """Somebody has seen half of it."""
    server.script(sse(chunk("a"), threading.Event(), done=False))
    with (
        stream_chat(session, server.url, idle_timeout=0.1, **ASK) as deltas,
        pytest.raises(StreamIdle) as caught,
    ):
        list(deltas)

    assert (caught.value.clock, caught.value.idle_timeout) == ("bytes", 0.1)
    assert caught.value.partial.content == "a"
    assert len(caught.value.attempts) == len(server.requests) == 1
    assert caught.value.attempts[0].error == "StreamIdle"


def test_the_limits_hold_again_where_more_follows_a_finish_reason(
    server: FaultServer, session: requests.Session
) -> None:
    """A choice that nobody expected may begin behind the end of another, and stall."""
    other = chunk("b")
    other["choices"][0]["index"] = 1
    server.script(sse(chunk("a", "stop"), other, threading.Event(), done=False))
    with (
        stream_chat(session, server.url, idle_timeout=0.3, **ASK) as deltas,
        pytest.raises(StreamIdle) as caught,
    ):
        list(deltas)

    assert (caught.value.clock, caught.value.idle_timeout) == ("bytes", 0.3)


NO_PROGRESS: dict[str, Any] = {
    "comments": b": OPENROUTER PROCESSING\n\n",
    "blank lines": b"\n\n",
    "empty data": b"data:\n\n",
    "roles": ROLE,
    "usage": {"choices": [], "usage": USAGE},
    "null choices": {"choices": None},
    "empty choices": {"choices": []},
    "unknown": {"object": "something.new"},
}


@pytest.mark.slow
@pytest.mark.parametrize("item", NO_PROGRESS.values(), ids=NO_PROGRESS)
@pytest.mark.parametrize("heartbeat", [None, 0.04])
def test_what_is_no_part_of_the_answer_does_not_feed_the_event_clock(
    item: Any, heartbeat: float | None, server: FaultServer, session: requests.Session
) -> None:
    """A gateway can keep a dead stream alive with such things for ever."""
    server.script(sse(chunk("a"), *[0.03, item] * 40, done=False))
    options: dict[str, Any] = {"event_timeout": 0.2, "idle_timeout": 5.0, "heartbeat": heartbeat}
    with stream_chat(session, server.url, **options, **ASK) as deltas:
        began = time.monotonic()
        with pytest.raises(StreamIdle) as caught:
            list(deltas)

    assert caught.value.clock == "events"
    assert in_time(time.monotonic() - began, 0.9) >= 0.15


@pytest.mark.slow
def test_a_part_of_the_answer_feeds_the_event_clock(
    server: FaultServer, session: requests.Session
) -> None:
    """A slow model is alive as long as it speaks."""
    parts: list[Any] = [
        chunk("a"),
        chunk(reasoning="b"),
        chunk(tool_calls=[call(0, "{}", name="f")]),
    ]
    items: list[Any] = [each for part in parts * 2 for each in (0.06, part)]
    server.script(sse(*items, chunk(finish="stop")))
    with stream_chat(session, server.url, event_timeout=0.15, **ASK) as deltas:
        assert texts(deltas) == ["a", "a"]


@pytest.mark.slow
def test_comments_keep_the_byte_clock_alive(server: FaultServer, session: requests.Session) -> None:
    """They come from a provider that is at work."""
    items: list[Any] = [0.04, b": keep-alive\n\n"] * 6
    server.script(sse(*items, chunk("a", "stop")))
    with stream_chat(session, server.url, idle_timeout=0.12, **ASK) as deltas:
        assert texts(deltas) == ["a"]


@pytest.mark.slow
def test_heartbeats_come_through(server: FaultServer, session: requests.Session) -> None:
    """A web view can then notice that its browser has left. Empty deltas count as silence."""
    server.script(sse(ROLE, 0.12, ROLE, 0.12, chunk("a", "stop")))
    with stream_chat(session, server.url, heartbeat=0.08, **ASK) as deltas:
        found = list(deltas)

    assert found.count(HEARTBEAT) >= 2
    assert [each.content for each in found if isinstance(each, ChatDelta) and each.content] == ["a"]


def test_the_time_of_the_consumer_counts_for_no_clock(
    server: FaultServer, session: requests.Session
) -> None:
    """A slow consumer is no silent provider."""
    release = threading.Event()
    server.script(sse(chunk("a"), release, chunk("b", "stop")))
    with stream_chat(session, server.url, idle_timeout=0.1, event_timeout=0.1, **ASK) as deltas:
        next(deltas)
        time.sleep(0.15)
        release.set()

        assert texts(deltas) == ["b"]


# -- replay before the first part ------------------------------------------------------------------


@pytest.mark.parametrize("before", [[], [ROLE], [{"choices": [], "prompt_filter_results": []}]])
def test_a_break_before_the_first_part_is_replayed_unseen(
    before: list[Any], server: FaultServer, session: requests.Session
) -> None:
    """Nothing was shown: not even the raw chunks of the attempt that was given up."""
    server.script(sse(*before, ending="reset", done=False), good())
    with stream_chat(session, server.url, **ASK) as deltas:
        found = list(deltas)

    assert [each.raw for each in found if isinstance(each, ChatDelta)] == [
        ROLE,
        chunk("good"),
        chunk(finish="stop"),
    ]
    assert len(server.requests) == server.accepted == 2
    assert [each.number for each in deltas.completion.attempts] == [1, 2]
    assert "StreamBroken" in str(deltas.completion.attempts[0].error)
    assert deltas.completion.attempts[1].error is None
    assert deltas.response.raw.closed or deltas.response is not None


def test_the_replay_is_the_same_operation_to_the_server(
    server: FaultServer, session: requests.Session
) -> None:
    """One key: a server that honours it does not do the work twice."""
    server.script(sse(ROLE, ending="reset", done=False), good())
    with stream_chat(session, server.url, **ASK) as deltas:
        list(deltas)

    keys = [each.header("Idempotency-Key") for each in server.requests]
    assert keys[0] is not None
    assert keys[0] == keys[1]
    assert server.requests[0].body == server.requests[1].body


@pytest.mark.parametrize(
    "part", [chunk("a"), chunk(reasoning="a"), chunk(tool_calls=[call(0, "", name="f")])]
)
def test_a_break_after_the_first_part_is_never_replayed(
    part: Any, server: FaultServer, session: requests.Session
) -> None:
    """Somebody has seen half of it."""
    server.script(sse(ROLE, part, ending="reset", done=False), good())
    with stream_chat(session, server.url, **ASK) as deltas, pytest.raises(StreamBroken) as caught:
        list(deltas)

    assert caught.value.partial.content == (part["choices"][0]["delta"].get("content") or "")
    assert caught.value.partial.tool_calls == ()
    assert len(server.requests) == 1
    assert isinstance(caught.value, requests.exceptions.ChunkedEncodingError)


def test_a_stream_is_replayed_once_only(server: FaultServer, session: requests.Session) -> None:
    """The second break is the caller's."""
    broken = sse(ROLE, ending="reset", done=False)
    server.script(broken, broken, good())
    with stream_chat(session, server.url, **ASK) as deltas:
        with pytest.raises(StreamBroken) as caught:
            list(deltas)
        with pytest.raises(StreamBroken):
            next(deltas)

    assert len(server.requests) == len(caught.value.attempts) == 2


def test_many_empty_chunks_are_handed_out_and_then_not_replayed(
    server: FaultServer, session: requests.Session
) -> None:
    """The number of chunks that are held back is bounded."""
    server.script(sse(*[ROLE] * 100, ending="reset", done=False), good())
    found: list[Any] = []
    with stream_chat(session, server.url, **ASK) as deltas, pytest.raises(StreamBroken):
        found.extend(iter(lambda: found.append(next(deltas)), 0))

    assert len(found) >= 65
    assert len(server.requests) == 1


def test_replays_and_retries_share_one_count(server: FaultServer) -> None:
    """Two retries are three requests, for both kinds of retry together."""
    server.script(reset(), sse(ROLE, ending="reset", done=False), reset(), good())
    with (
        mounted(server) as session,
        stream_chat(session, server.url, **ASK) as deltas,
        pytest.raises(requests.ConnectionError) as caught,
    ):
        list(deltas)

    assert len(server.requests) == 3
    assert len(caught.value.attempts) == 3  # type: ignore[attr-defined]


def test_no_replay_without_retries(server: FaultServer) -> None:
    """max_retries=0 means one request."""
    server.script(sse(ROLE, ending="reset", done=False), good())
    with (
        mounted(server, max_retries=0) as session,
        stream_chat(session, server.url, **ASK) as deltas,
        pytest.raises(StreamBroken) as caught,
    ):
        list(deltas)

    assert caught.value.attempts[0].stopped_by == "exhausted"
    assert caught.value.partial.attempts == caught.value.attempts
    assert len(server.requests) == 1


def test_a_cancel_ends_the_wait_before_a_replay(fault_server: FaultServer) -> None:
    """The stream's own cancel(), from another thread, while no connection is open."""
    fault_server.script(sse(ROLE, ending="reset", done=False), good())
    waiting = threading.Event()

    def wait(state: object) -> float:
        waiting.set()
        return 30.0

    def cancel(deltas: ChatStream) -> None:
        waiting.wait(5)
        deltas.cancel()

    with (
        mounted(max_retries=RetryPolicy(wait=wait)) as session,
        stream_chat(session, fault_server.url, **ASK) as deltas,
    ):
        thread = threading.Thread(target=cancel, args=(deltas,))
        thread.start()
        began = time.monotonic()
        with pytest.raises(Cancelled):
            list(deltas)
        thread.join()

    in_time(time.monotonic() - began, 2.0)
    assert len(fault_server.requests) == 1


@pytest.mark.slow
def test_a_replay_keeps_the_scope_in_which_its_stream_began(fault_server: FaultServer) -> None:
    """The scope's deadline covers the stream and its replay, even after the scope was left."""
    fault_server.script(sse(ROLE, 0.05, ending="reset", done=False), silence())
    with mounted() as session:
        with CancelScope(timeout=0.4):
            deltas = stream_chat(session, fault_server.url, **ASK)
        with deltas, pytest.raises(DeadlineExceeded) as caught:
            list(deltas)

    assert len(caught.value.attempts) == len(fault_server.requests) == 2


def test_a_scope_that_was_left_can_still_cancel_a_replay(fault_server: FaultServer) -> None:
    """It is the stream's, and the replay is a part of the stream."""
    fault_server.script(sse(ROLE, ending="reset", done=False), silence())
    with mounted() as session:
        with CancelScope() as scope:
            deltas = stream_chat(session, fault_server.url, **ASK)

        def cancel() -> None:
            fault_server.wait_for_requests(2)
            scope.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        with deltas, pytest.raises(Cancelled):
            list(deltas)
        thread.join()

    assert len(fault_server.requests) == 2


# -- cancelling, deadlines, closing ----------------------------------------------------------------


def test_a_cancelled_stream_carries_what_it_has(
    server: FaultServer, session: requests.Session
) -> None:
    """Cancelled is no requests error, and yet it tells."""
    server.script(sse(chunk("a"), threading.Event(), done=False))
    with stream_chat(session, server.url, **ASK) as deltas:
        next(deltas)
        threading.Timer(0.05, deltas.cancel).start()
        with pytest.raises(Cancelled) as caught:
            list(deltas)

    assert caught.value.partial.content == "a"
    assert len(caught.value.attempts) == 1


def test_a_deadline_carries_what_there_is(server: FaultServer) -> None:
    """Timeouts.total bounds the stream too."""
    server.script(sse(chunk("a"), threading.Event(), done=False))
    with (
        mounted(server, timeouts=Timeouts(total=0.2)) as session,
        stream_chat(session, server.url, **ASK) as deltas,
        pytest.raises(DeadlineExceeded) as caught,
    ):
        list(deltas)

    assert caught.value.partial.content == "a"


def test_an_early_break_closes_the_connection(
    server: FaultServer, session: requests.Session
) -> None:
    """Unread bytes are poison for the next request."""
    server.script(sse(chunk("a"), threading.Event(), done=False))
    with stream_chat(session, server.url, **ASK) as deltas:
        for _ in deltas:
            break

    assert server.wait_for_disconnects(1)
    assert list(deltas) == []
    assert deltas.completion.truncated


def test_a_break_at_the_finish_reason_keeps_the_connection(
    server: FaultServer, session: requests.Session
) -> None:
    """The rest is there already: reading it costs less than a handshake."""
    for _ in range(3):
        server.script(good())
        with stream_chat(session, server.url, **ASK) as deltas:
            for delta in deltas:
                if isinstance(delta, ChatDelta) and delta.finish_reason:
                    break
        assert not deltas.completion.truncated

    assert server.accepted == 1


def test_streams_that_end_in_done_leave_their_connection(
    server: FaultServer, session: requests.Session
) -> None:
    """With TLS a new one costs two round trips and 35 ms of CPU; most code throws it away."""
    for number in range(20):
        server.script(good(str(number)))
        with stream_chat(session, server.url, **ASK) as deltas:
            assert texts(deltas) == [str(number)]

    assert server.accepted == 1
    assert len(server.requests) == 20


def test_the_end_is_not_waited_for_where_it_is_there(
    server: FaultServer, session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the terminator came with the marker, the socket is not asked again."""
    whole = b"".join(
        f"data: {data}\n\n".encode() for data in (json.dumps(chunk("a", "stop")), "[DONE]")
    )
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    server.script(Reply((Send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(whole), whole)),)), good())
    with stream_chat(session, server.url, **ASK) as deltas:
        tap: Any = deltas._answer.reader.body.socket
        recv, reads = tap.recv, []

        def counted(size: int) -> bytes:
            reads.append(size)
            data: bytes = recv(size)
            return data

        monkeypatch.setattr(tap, "recv", counted)
        assert texts(deltas) == ["a"]
    with stream_chat(session, server.url, **ASK) as deltas:
        list(deltas)

    assert len(reads) <= 1
    assert server.accepted == 1


def test_a_body_that_never_ends_after_done_is_closed(
    server: FaultServer, session: requests.Session
) -> None:
    """An upstream that keeps the stream open must not hold the caller."""
    elapsed = []
    for _ in range(3):  # a machine that is busy with other things may be late once
        server.script(sse(chunk("a"), "[DONE]", threading.Event(), done=False))
        with stream_chat(session, server.url, **ASK) as deltas:
            began = time.monotonic()
            assert texts(deltas) == ["a"]
            elapsed.append(time.monotonic() - began)

    in_time(min(elapsed), 0.3)
    assert server.wait_for_disconnects(3)


def test_a_wait_before_the_end_costs_no_connection(
    server: FaultServer, session: requests.Session
) -> None:
    """The time for the rest of a body begins with the draining.

    A silence before it does not count.
    """
    server.script(stream([b"a", 0.02, b"b"]), good())
    reader = Reader(session.get(server.url, stream=True))
    reader.clocks.unyielded = 60.0
    reader.drain(1024, 5.0)
    session.get(server.url)

    assert server.accepted == 1


def test_the_last_delta_comes_before_the_rest_is_drained(
    server: FaultServer, session: requests.Session
) -> None:
    """No delta is held back for the sake of the connection."""
    server.script(sse(chunk("a", "stop"), "[DONE]", threading.Event(), done=False))
    with stream_chat(session, server.url, **ASK) as deltas:
        began = time.monotonic()
        next(deltas)

        in_time(time.monotonic() - began, 0.09)


def test_a_dropped_stream_warns_and_closes(fault_server: FaultServer) -> None:
    """The finalizer is the last net, and its warning reaches the programmer."""
    fault_server.script(sse(chunk("a"), threading.Event(), done=False))
    with mounted() as session:
        deltas = stream_chat(session, fault_server.url, **ASK)
        held = [deltas]
        del deltas
        with pytest.warns(ResourceWarning, match="ChatStream was dropped"):
            held.clear()

        assert fault_server.wait_for_disconnects(1)


def test_a_stream_that_was_never_started_can_be_closed(
    server: FaultServer, session: requests.Session
) -> None:
    """Views that fail before their first byte do so."""
    server.script(sse(threading.Event(), done=False))
    deltas = stream_chat(session, server.url, **ASK)
    deltas.close()
    deltas.close()

    assert list(deltas) == []
    assert server.wait_for_disconnects(1)


# -- before the stream -----------------------------------------------------------------------------


def test_a_status_is_raised_before_anything_is_streamed(
    server: FaultServer, session: requests.Session
) -> None:
    """A view can still answer 502."""
    body = json.dumps({"error": {"message": "Rate limit\nreached", "type": "rate_limit_error"}})
    server.script(respond(body, status=429, headers={"Content-Type": "application/json"}), good())
    with pytest.raises(
        requests.HTTPError, match=r"^429 Too Many Requests: Rate limit reached$"
    ) as caught:
        stream_chat(session, server.url, **ASK)

    assert refusal(caught.value).json()["error"]["type"] == "rate_limit_error"
    assert len(server.requests) == 1
    assert len(caught.value.attempts) == 1  # type: ignore[attr-defined]
    with stream_chat(session, server.url, **ASK) as deltas:
        list(deltas)
    assert server.accepted == 1


@pytest.mark.slow
def test_a_page_that_does_not_come_is_not_awaited(
    server: FaultServer, session: requests.Session
) -> None:
    """Its type is wrong: all that its body could bring is a word more for the message."""
    server.script(stream([threading.Event()], content_type="text/html"))
    began = time.monotonic()
    with pytest.raises(
        StreamProtocolError, match="Content-Type is 'text/html', which is no answer"
    ):
        stream_chat(session, server.url, **ASK)

    assert time.monotonic() - began < 3.0
    assert server.wait_for_disconnects(1)


@pytest.mark.parametrize("dialect", ["openai", "ollama"])
def test_a_document_that_never_came_is_truncated(
    dialect: str, server: FaultServer, session: requests.Session
) -> None:
    """DeepSeek closes after minutes of empty lines; a bare end accepted would invent an answer."""
    server.script(stream([b"\n"] * 5, content_type="application/json", framing="close"))
    with pytest.raises(StreamTruncated):
        list(stream_chat(session, server.url, dialect=dialect, accept_bare_eof=True, **ASK))


@pytest.mark.parametrize("dialect", ["openai", "ollama"])
def test_heartbeats_and_clocks_hold_for_whole_documents(
    dialect: str, server: FaultServer, session: requests.Session
) -> None:
    """DeepSeek sends empty lines for minutes before the JSON of a buffered answer."""
    server.script(stream([b"\n", 0.1, b"\n", threading.Event()], content_type="application/json"))
    options: dict[str, Any] = {"heartbeat": 0.05, "event_timeout": 0.3, "dialect": dialect}
    with stream_chat(session, server.url, **options, **ASK) as deltas:
        assert next(deltas) is HEARTBEAT
        with pytest.raises(StreamIdle):
            list(deltas)


@pytest.mark.parametrize("run", [lambda *args, **kw: list(stream_chat(*args, **kw)), complete_chat])
def test_a_bug_in_a_dialect_leaves_no_connection_behind(
    run: Callable[..., Any],
    server: FaultServer,
    session: requests.Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After any end of an answer, the response is in the middle of its body."""

    class Buggy(Parser):
        def chunk(self, event: str, data: dict[str, Any]) -> list[ChatDelta]:
            raise ZeroDivisionError

    monkeypatch.setitem(DIALECTS, "buggy", Dialect(name="buggy", parser=Buggy))
    server.script(sse(chunk("a"), threading.Event(), done=False))
    with pytest.raises(ZeroDivisionError):
        run(session, server.url, dialect="buggy", **ASK)

    assert server.wait_for_disconnects(1)


# -- the view of type checkers ---------------------------------------------------------------------


def test_only_who_asks_for_heartbeats_must_tell_them_apart(
    server: FaultServer, session: requests.Session
) -> None:
    """Type checkers see the same, and read this as strictly as any user's code."""
    messages = [{"role": "user", "content": "hi"}]
    server.default = good("a")
    with stream_chat(
        session, server.url, model="m", messages=messages, stream_options={}
    ) as deltas:
        without: ChatStream[ChatDelta] = deltas
        text = "".join(delta.content for delta in without)
    with stream_chat(session, server.url, model="m", messages=messages, heartbeat=9.0) as either:
        of_any_kind: ChatStream = either
        again = "".join(each.content for each in of_any_kind if each is not HEARTBEAT)

    assert text == again == "a"


# -- on other adapters, pickling, secrets ----------------------------------------------------------


def test_a_plain_adapter_will_do(server: FaultServer) -> None:
    """The answers and the errors are the same, without replay and recycling."""
    server.script(
        good(),
        sse(ROLE, ending="reset", done=False),
        sse(ROLE, chunk("a"), done=False),
        good("again"),
    )
    with requests.Session() as session:
        session.verify = server.ca_path or True
        with stream_chat(session, server.url, **ASK) as deltas:
            assert texts(deltas) == ["good"]
        with (
            stream_chat(session, server.url, **ASK) as deltas,
            pytest.raises(StreamBroken) as broken,
        ):
            list(deltas)
        with pytest.raises(StreamTruncated) as truncated:
            complete_chat(session, server.url, **ASK)
        completion = complete_chat(session, server.url, **ASK)

    assert broken.value.attempts == truncated.value.attempts == completion.attempts == ()
    assert truncated.value.partial.content == "a"
    assert completion.content == "again"
    assert len(server.requests) == 4


def test_errors_survive_pickle_with_what_they_carry(
    server: FaultServer, session: requests.Session
) -> None:
    """Celery and multiprocessing hand them on."""
    server.script(sse(chunk("a"), done=False))
    with (
        stream_chat(session, server.url, **ASK) as deltas,
        pytest.raises(StreamTruncated) as caught,
    ):
        list(deltas)
    copy = pickle.loads(pickle.dumps(caught.value))

    assert copy.partial == caught.value.partial
    assert copy.attempts == caught.value.attempts
    assert str(copy) == str(caught.value)


SECRET = "sk-live-abcdef0123456789"
PROMPT = "the patient Jane Roe has a rash"


@pytest.mark.parametrize(
    "reply",
    [
        good(),
        sse(chunk("a"), done=False),
        sse({"error": {"message": f"bad key {SECRET} for '{PROMPT}'", "type": "x"}}),
        sse(f"not json {SECRET} {PROMPT}"),
        respond(json.dumps({"error": f"Incorrect key: {SECRET}; {PROMPT}"}), status=401),
        respond(f"<html>{SECRET} {PROMPT}</html>", headers={"Content-Type": "text/html"}),
        Reply((Reset(),)),
    ],
    ids=["good", "truncated", "in-band error", "bad JSON", "status", "page", "reset"],
)
def test_key_and_prompt_stay_private(
    reply: Reply, server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    """They are never in logs, events, reprs or messages, even if the provider repeats them."""
    events: list[Any] = []
    server.default = reply
    caplog.set_level(logging.DEBUG, "resilient_requests")
    found: list[str] = []
    headers = {"Authorization": f"Bearer {SECRET}", "x-api-key": SECRET}
    ask: dict[str, Any] = {
        "model": "m",
        "messages": [{"role": "user", "content": PROMPT}],
        "headers": headers,
    }
    with mounted(server, observers=[events.append]) as session:
        for run in (stream_chat, complete_chat):
            try:
                result: Any = run(session, f"{server.url}?key={SECRET}", **ask)
                if run is stream_chat:
                    found.append(repr(result))
                    with result:
                        found += [repr(each) for each in result]
                found += [repr(result), str(result)]
            except (requests.RequestException, Cancelled) as error:
                found += [
                    repr(error),
                    str(error),
                    repr(getattr(error, "attempts", None)),
                    repr(error.__dict__.get("partial")),
                ]
    text = "\n".join(
        [*found, *map(repr, events), caplog.text, *(repr(each.__dict__) for each in caplog.records)]
    )

    assert events
    assert SECRET not in text
    assert PROMPT not in text


def linked(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that can be reached from it, as by tools that report errors."""
    if error is not None:
        yield error
        yield from linked(error.__cause__)
        yield from linked(error.__context__)


@pytest.mark.parametrize("run", [lambda *args, **kw: list(stream_chat(*args, **kw)), complete_chat])
@pytest.mark.parametrize(
    "item",
    [
        {"error": {"message": f"bad key {SECRET} for '{PROMPT}'", "type": "x"}},
        {"error": f"{SECRET} {PROMPT}"},
        f"not json {SECRET} {PROMPT}",
        b"event: error\ndata: %b %b\n\n" % (SECRET.encode(), PROMPT.encode()),
        {"choices": [{"index": f"{SECRET} {PROMPT}"}]},
        {"choices": [{"index": 0, "error": f"{SECRET} {PROMPT}"}]},
    ],
    ids=["object", "text", "bad JSON", "event", "index", "choice"],
)
def test_key_and_prompt_are_not_behind_an_error_either(
    run: Callable[..., Any], item: Any, server: FaultServer, session: requests.Session
) -> None:
    """A traceback shows the errors before it, in their own words, and so do error collectors."""
    server.default = sse(chunk("a"), item)
    ask: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
    with pytest.raises((ChatAPIError, StreamProtocolError)) as caught:
        run(session, server.url, headers={"Authorization": f"Bearer {SECRET}"}, **ask)
    text = "".join(f"{each!r} {vars(each)}" for each in linked(caught.value))

    assert SECRET not in text
    assert PROMPT not in text
