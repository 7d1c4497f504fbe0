"""Each provider's wire, read as it is documented, however it is cut."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import requests
from chat_wires import (
    ASK,
    DATA,
    EXPECTED,
    USAGE,
    Canned,
    call,
    chunk,
    cut,
    deltas_of,
    events,
    mounted,
    read,
    summary,
)

from resilient_requests import (
    ChatAPIError,
    StreamProtocolError,
    StreamTruncated,
    ToolCall,
    complete_chat,
    stream_chat,
)
from resilient_requests.chat._forms import JSONDocument
from resilient_requests.testing import FaultServer, stream

each_wire = pytest.mark.parametrize("name", sorted(EXPECTED))


def wanted(name: str) -> dict[str, Any]:
    """Return the members that the completion of a recorded wire must have."""
    return {
        key: value
        for key, value in EXPECTED[name].items()
        if key not in ("dialect", "content_type")
    }


@each_wire
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_recorded_wire_gives_the_documented_answer(
    name: str, tls: bool, fault_server_factory: Any
) -> None:
    """The same completion for every provider, over a real connection."""
    body = (DATA / name).read_bytes()
    server: FaultServer = fault_server_factory(
        stream([body], content_type=EXPECTED[name]["content_type"]), tls=tls
    )
    with mounted(server) as session:
        completion = complete_chat(session, server.url, dialect=EXPECTED[name]["dialect"], **ASK)

    assert summary(completion) == wanted(name)
    assert not completion.truncated


@each_wire
def test_deltas_add_up_to_the_completion(name: str) -> None:
    """A consumer that only adds up deltas must get the text of the completion."""
    expected = EXPECTED[name]
    session = Canned([(DATA / name).read_bytes()], expected["content_type"])
    with stream_chat(session, "http://chat.invalid/", dialect=expected["dialect"], **ASK) as deltas:
        found = deltas_of(deltas)

        assert (
            "".join(each.content for each in found)
            == deltas.completion.content
            == expected["content"]
        )
        assert "".join(each.reasoning for each in found) == expected["reasoning"]
        assert [each.finish_reason for each in found if each.finish_reason][-1] == expected[
            "finish_reason"
        ]
        assert all(isinstance(each.raw, dict) and each.raw for each in found)
    for index, _, _, arguments in expected["tool_calls"]:
        fragments = [each for delta in found for each in delta.tool_calls if each.index == index]
        assert "".join(each.arguments for each in fragments) == arguments


@each_wire
@pytest.mark.slow
def test_cuts_between_reads_change_nothing(name: str) -> None:
    """A chunk has no relation to a packet: any cut, even inside a character, is legal."""
    body = (DATA / name).read_bytes()
    expected = EXPECTED[name]
    for size in range(1, len(body) + 1):
        found = read(cut(body, size), expected["dialect"], expected["content_type"])

        assert summary(found) == wanted(name), size


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        ({"type": "overloaded_error", "message": "busy"}, True),
        ({"type": "server_error", "message": "busy"}, True),
        ({"type": "internal_error", "message": "busy"}, True),
        ({"type": "api_error", "message": "busy"}, True),
        ({"type": "rate_limit_error", "message": "busy"}, True),
        ({"type": "invalid_request_error", "message": "busy", "code": 500}, False),
        ({"type": "something_new", "message": "busy"}, False),
        ({"code": 502, "message": "busy", "metadata": {}}, True),
        ({"code": "502", "message": "busy"}, True),
        ({"code": 408, "message": "busy"}, True),
        ({"code": 409, "message": "busy"}, True),
        ({"code": 429, "message": "busy"}, True),
        ({"code": 400, "message": "busy"}, False),
        ({"code": 600, "message": "busy"}, False),
        ({"code": "server_error", "message": "busy"}, True),
        ({"code": True, "message": "busy"}, False),
        ({"message": "busy"}, False),
        ("busy", False),
    ],
)
def test_an_error_inside_the_stream_is_the_providers(error: Any, transient: bool) -> None:
    """Its type, else its code, says whether to repeat; an unknown error is permanent."""
    with pytest.raises(ChatAPIError) as caught:
        read(events(chunk("par"), {"error": error}), "openai")

    assert caught.value.transient is transient
    assert caught.value.message == "busy"
    assert caught.value.partial.content == "par"


def test_an_error_without_a_message_has_none() -> None:
    """The text of the exception must say something all the same."""
    with pytest.raises(ChatAPIError, match="without a message") as caught:
        read(events({"error": {"type": "server_error", "code": "x"}}), "openai")

    assert caught.value.message is None
    assert (caught.value.type, caught.value.code) == ("server_error", "x")


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(
            events({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}),
            id="finish",
        ),
        pytest.param(
            events({"choices": [{"index": 0, "finish_reason": "error", "error": {"code": 502}}]}),
            id="choice",
        ),
        pytest.param(
            events(
                {
                    "error": {"code": 502},
                    "choices": [{"index": 0, "delta": {}, "finish_reason": "error"}],
                }
            ),
            id="both",
        ),
        pytest.param(
            [b'error: {"code":500,"message":"x"}\n\n', b"data: [DONE]\n\n"],
            id="llama.cpp, error line",
        ),
        pytest.param([b"error: out of memory\n\n"], id="llama.cpp, error line of text"),
        pytest.param([b'event: error\ndata: {"message":"x"}\n\n'], id="event"),
        pytest.param([b"event: error\ndata: busy\n\n"], id="event with text"),
        pytest.param([b'event: error\ndata: "busy"\n\n'], id="event with a string"),
    ],
)
def test_an_error_in_any_place_is_one(pieces: list[bytes]) -> None:
    """Gateways put it beside or into a choice, into the finish reason, or on a line of its own."""
    with pytest.raises(ChatAPIError):
        read(pieces, "openai")


@pytest.mark.parametrize(
    "cut",
    [
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","mess',
        b"event: error\ndata: Over",
        b"error: {",
        b'{"error": {"message": "no mo',
    ],
)
def test_an_error_that_was_cut_is_truncated(cut: bytes) -> None:
    """The full error is not known, and may have been a transient one."""
    with pytest.raises(StreamTruncated):
        read([*events(chunk("a"))[:-1], cut], "openai")
    with pytest.raises(StreamTruncated):
        read([cut], "openai")


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("before", [b"", b"\n\n \r\n"])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_error_that_is_called_an_event_stream_is_read(
    size: int, before: bytes, indent: int | None
) -> None:
    """Gateways declare a stream first, and then write the error body as they would without one."""
    error = {"error": {"message": "no quota", "type": "insufficient_quota", "code": "x"}}
    body = before + json.dumps(error, indent=indent).encode()
    with pytest.raises(ChatAPIError, match="no quota") as caught:
        read(cut(body, size), "openai")

    assert (caught.value.type, caught.value.code) == ("insufficient_quota", "x")


def test_an_answer_that_is_called_an_event_stream_is_read() -> None:
    """The same servers do that to answers that were not to be streamed."""
    answer = {"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}

    assert read([json.dumps(answer).encode()], "openai").content == "a"


@pytest.mark.parametrize("junk", [b'{"status": "ok"}\n\n', b"[]\n", b"hello\n", b": {\n\n"])
def test_events_after_something_else_are_read(junk: bytes) -> None:
    """A line that is no field is ignored in an event stream, even if it looks like JSON."""
    found = read([junk, *events(chunk("a", "stop"))], "openai")

    assert found.content == "a"


@pytest.mark.parametrize(
    ("dialect", "content_type", "pieces", "transient"),
    [
        (
            "anthropic",
            "text/event-stream",
            events({"type": "error", "error": {"type": "overloaded_error"}}),
            True,
        ),
        (
            "anthropic",
            "text/event-stream",
            events({"type": "error", "error": {"type": "invalid_request_error"}}, name="error"),
            False,
        ),
        (
            "anthropic",
            "application/json",
            [b'{"type":"error","error":{"type":"api_error","message":"x"}}'],
            True,
        ),
        (
            "openai-responses",
            "text/event-stream",
            events({"type": "error", "code": "server_error", "message": "x"}),
            True,
        ),
        (
            "openai-responses",
            "text/event-stream",
            events({"type": "error", "code": "bad", "message": "x"}),
            False,
        ),
        (
            "openai-responses",
            "text/event-stream",
            events(
                {
                    "type": "response.failed",
                    "response": {"status": "failed", "error": {"code": "server_error"}},
                }
            ),
            True,
        ),
        (
            "openai-responses",
            "text/event-stream",
            events({"type": "response.failed", "response": None}),
            False,
        ),
        (
            "gemini",
            "text/event-stream",
            events({"error": {"code": 503, "status": "UNAVAILABLE"}}),
            True,
        ),
        (
            "gemini",
            "application/json",
            [b'[{"error": {"code": 400, "status": "INVALID_ARGUMENT"}}]'],
            False,
        ),
        ("ollama", "application/x-ndjson", [b'{"error":"model not found"}\n'], False),
        (
            "ollama",
            "application/x-ndjson",
            [b'{"message":{"content":"a"},"done":false}\n{"error":"oom"}'],
            False,
        ),
        (
            "openai",
            "application/json",
            [b'\n\n {"error":{"type":"server_error","message":"x"}}'],
            True,
        ),
    ],
)
def test_each_dialect_has_its_own_form_of_error(
    dialect: str, content_type: str, pieces: list[bytes], transient: bool
) -> None:
    """NDJSON has no event names, Gemini an HTTP code, responses a code on the event itself."""
    with pytest.raises(ChatAPIError) as caught:
        read(pieces, dialect, content_type)

    assert caught.value.transient is transient


@pytest.mark.parametrize("index", [10**9, -1, 1024, "x", "-1", 1.5, True])
@pytest.mark.parametrize("what", ["tool call", "choice"])
def test_an_index_is_bounded(what: str, index: Any) -> None:
    """An answer must not choose how much memory we allocate."""
    tool = {"index": index, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    found: dict[str, Any] = chunk(tool_calls=[tool]) if what == "tool call" else chunk("x")
    if what == "choice":
        found["choices"][0]["index"] = index
    with pytest.raises(StreamProtocolError, match=f"{what} index"):
        read(events(found), "openai")


def test_calls_without_index_and_id_are_counted_and_bounded() -> None:
    """Each fragment with a name is a new call: a server could send them for ever."""
    fragments = [call(None, "{}", name="f") for _ in range(1025)]
    with pytest.raises(StreamProtocolError, match="tool call index"):
        read(events(chunk(tool_calls=fragments)), "openai")


def test_calls_without_index_are_told_apart_by_id_and_name() -> None:
    """Some gateways leave the index out."""
    found = read(
        events(
            chunk(tool_calls=[call(None, '{"a"', call_id="x", name="f")]),
            chunk(tool_calls=[call(None, ":1}")]),
            chunk(tool_calls=[call(None, '{"b"', call_id="y", name="g")]),
            chunk(tool_calls=[call(None, ":2}", call_id="y")]),
            chunk(finish="tool_calls"),
        ),
        "openai",
    )

    assert [each.arguments for each in found.tool_calls] == ['{"a":1}', '{"b":2}']


@pytest.mark.parametrize(
    ("fragments", "calls"),
    [
        (
            [call(1, "{1}", call_id="b", name="g"), call(0, "{0}", call_id="a", name="f")],
            [(0, "a", "{0}"), (1, "b", "{1}")],
        ),
        ([call(5, "{", call_id="a", name="f"), call(5, "}")], [(5, "a", "{}")]),
        ([call(1023, "{}", name="f")], [(1023, None, "{}")]),
        (
            [
                call(0, "{0}", call_id="a", name="f"),
                call(0, "{1", call_id="b", name="g"),
                call(0, "}"),
            ],
            [(0, "a", "{0}"), (1, "b", "{1}")],
        ),
        (
            [
                call(2, "{2}", call_id="a", name="f"),
                call(2, "{3}", call_id="b", name="g"),
                call(3, "{4}", name="h"),
            ],
            [(2, "a", "{2}"), (3, "b", "{3}"), (4, None, "{4}")],
        ),
        (
            [
                call(3, "{", call_id="a", name="f"),
                call(None, "}"),
                call(None, "{4}", call_id="b", name="g"),
            ],
            [(3, "a", "{}"), (4, "b", "{4}")],
        ),
        ([call(2, "{", call_id="a", name="f"), call(None, "}", call_id="a")], [(2, "a", "{}")]),
    ],
    ids=[
        "swapped",
        "alone",
        "the last",
        "repeated",
        "repeated, then taken",
        "left out",
        "left out once",
    ],
)
def test_a_call_keeps_the_index_of_its_provider(
    fragments: list[Any], calls: list[tuple[Any, ...]]
) -> None:
    """The index is the call's place in the answer, in any order of arrival.

    A second call of an index gets the next one.
    """
    wire = events(*(chunk(tool_calls=[each]) for each in fragments), chunk(finish="tool_calls"))
    with stream_chat(Canned(wire), "http://chat.invalid/", **ASK) as deltas:
        shown = {each.index for delta in deltas for each in delta.tool_calls}
        found = deltas.completion.tool_calls

    assert [(each.index, each.id, each.arguments) for each in found] == calls
    assert shown == {index for index, _, _ in calls}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"city": "Paris"}, '{"city": "Paris"}'),
        ({}, "{}"),
        ([1], "[1]"),
        (None, ""),
        ("", ""),
        ('{"a', '{"a'),
    ],
)
@pytest.mark.parametrize("is_whole", [False, True])
def test_arguments_that_are_an_object_are_kept(arguments: Any, said: str, is_whole: bool) -> None:
    """Gateways forget to make text of it; a call without its arguments would look whole."""
    calls = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": arguments}}]
    if is_whole:
        message = {
            "choices": [
                {"index": 0, "message": {"tool_calls": calls}, "finish_reason": "tool_calls"}
            ]
        }
        found = read([json.dumps(message).encode()], "openai", "application/json")
    else:
        found = read(events(chunk(tool_calls=calls), chunk(finish="tool_calls")), "openai")

    assert found.tool_calls == (ToolCall(0, "a", "f", said),)


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"choices": None},
        {"choices": []},
        {"choices": "x"},
        {"choices": [None]},
        {"choices": [{}]},
        {"choices": [{"index": 0, "delta": None}]},
        {"choices": [{"index": 0, "delta": {"content": None, "tool_calls": None}}]},
        {"choices": [{"index": 0, "delta": {"content": 5, "tool_calls": [None, 1]}}]},
        {"choices": [{"index": None, "delta": {}}]},
        {"object": "something.new", "error": None},
        {"usage": {}, "choices": []},
        {"id": 5, "model": None, "choices": []},
    ],
)
def test_an_odd_chunk_is_no_error(odd: dict[str, Any]) -> None:
    """Every provider has sent some such chunk, and none may end an answer."""
    found = read(events(chunk("a"), odd, chunk("b", "stop")), "openai")

    assert (found.content, found.id, found.model) == ("ab", "c1", "m-1")


def test_an_id_is_not_lost_to_a_later_chunk() -> None:
    """Azure sends chunks with empty ones, before and after."""
    empty = {"id": "", "model": "", "choices": []}
    found = read(events(empty, chunk("a", "stop"), empty), "openai")

    assert (found.id, found.model) == ("c1", "m-1")


@pytest.mark.parametrize("data", ["5", '"text"', "[]", "null", "[1]"])
def test_json_that_is_no_object_is_a_protocol_error(data: str) -> None:
    """It cannot be a chunk in any dialect."""
    with pytest.raises(StreamProtocolError, match="event 1: a JSON object is expected"):
        read([f"data: {data}\n\n".encode()], "openai")


@pytest.mark.parametrize("data", ["{'a': 1}", '{"a": }', "nonsense", "x" * 100_000])
def test_what_is_no_json_is_a_protocol_error_that_says_where(data: str) -> None:
    """The error has the position and an excerpt, so that the sender can be found."""
    with pytest.raises(
        StreamProtocolError, match=r"event 2 is not JSON at position \d+: "
    ) as caught:
        read(
            [b'data: {"choices":[]}\n\n', f"data: {data}\n\n".encode(), b"data: [DONE]\n\n"],
            "openai",
        )

    assert len(str(caught.value)) <= 300
    assert caught.value.events_received == 2


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "openai-responses", "gemini"])
@pytest.mark.parametrize("content_type", ["text/html", "text/plain", "", "application/x-ndjson"])
def test_a_wrong_content_type_is_a_protocol_error(dialect: str, content_type: str) -> None:
    """A captive portal answers 200 to everything."""
    with pytest.raises(StreamProtocolError, match="the body begins '<html> hello"):
        stream_chat(
            Canned([b"<html>\nhello"], content_type), "http://chat.invalid/", dialect=dialect, **ASK
        )


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "openai-responses", "gemini", "ollama"])
@pytest.mark.parametrize("body", ["{}", '{"a": 1}', "5", "not json", '"x"'])
def test_json_that_is_no_answer_is_a_protocol_error(dialect: str, body: str) -> None:
    """Only an error, or a whole answer, may come as one document."""
    with pytest.raises(StreamProtocolError):
        read([body.encode()], dialect, "application/json")


def test_a_document_that_was_cut_is_truncated() -> None:
    """A close-delimited body gives no other sign."""
    body = (DATA / "deepseek-blank-lines.json").read_bytes()
    with pytest.raises(StreamTruncated):
        read([body[:-9]], "openai", "application/json")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openai", "anthropic", "openai-responses", "ollama", "gemini"])
def test_every_beginning_of_an_answer_is_truncated(name: str) -> None:
    """A clean end proves nothing: only the terminal marker does, wherever the cut falls."""
    path = next(DATA.glob(f"{name}.*"))
    body, expected = path.read_bytes(), EXPECTED[path.name]
    ends = {
        "openai": b'"finish_reason":"stop"',
        "anthropic": b'"stop_reason":"tool_use"',
        "gemini": b'"finishReason":"STOP"',
    }
    # From here on the finish reason has come, in a block that may still lack its end.
    last = body.find(ends[name]) if name in ends else len(body.rstrip()) - 1
    for size in range(0, last, 3):
        with pytest.raises(StreamTruncated) as caught:
            read([body[:size]], expected["dialect"], expected["content_type"])
        assert expected["content"].startswith(caught.value.partial.content), size
        assert caught.value.partial.tool_calls == ()


@pytest.mark.parametrize("name", ["anthropic.sse", "openai-responses.sse"])
def test_the_name_of_an_event_will_do_where_its_data_have_no_type(name: str) -> None:
    """Both say the same; gateways that rewrite the data may drop one of them."""
    body = re.sub(
        rb'^data: \{"type":"[\w.]+",?', b"data: {", (DATA / name).read_bytes(), flags=re.MULTILINE
    )

    assert summary(read([body], EXPECTED[name]["dialect"])) == wanted(name)


@pytest.mark.parametrize(
    ("done", "item_done"), [('{"a":1}', ""), ("", '{"a":1}'), ('{"a":1}', '{"a":1}')]
)
def test_arguments_that_come_at_once_are_not_lost(done: str, item_done: str) -> None:
    """A response may give the arguments only when they are done, in one place or in two."""
    place = {"output_index": 0}
    item = {"type": "function_call", "call_id": "a", "name": "f", "arguments": ""}
    found = read(
        events(
            {"type": "response.output_item.added", "item": item, **place},
            {"type": "response.function_call_arguments.done", "arguments": done, **place},
            {
                "type": "response.output_item.done",
                "item": {**item, "arguments": item_done},
                **place,
            },
            {"type": "response.completed", "response": {"status": "completed"}},
        ),
        "openai-responses",
    )

    assert found.tool_calls == (ToolCall(0, "a", "f", '{"a":1}'),)


def output_text(text: str) -> dict[str, Any]:
    """An item of a response's output."""
    return {"type": "message", "content": [{"type": "output_text", "text": text}]}


def summed_up(text: str) -> dict[str, Any]:
    """An item of a response's output that holds reasoning."""
    return {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}


REASONING = {"type": "response.reasoning_summary_text.delta", "delta": "Hm"}
SAID = {"type": "response.output_text.delta", "delta": "Hi"}
LOOK = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}


@pytest.mark.parametrize(
    ("told", "output", "content", "reasoning", "calls"),
    [
        ([REASONING], [summed_up("Hm"), output_text("Hi")], "Hi", "Hm", 0),
        ([SAID], [summed_up("Hm"), output_text("Hi")], "Hi", "Hm", 0),
        ([SAID], [output_text("Hi"), LOOK], "Hi", "", 1),
        (
            [SAID, {"type": "response.output_item.added", "output_index": 1, "item": LOOK}],
            [LOOK],
            "Hi",
            "",
            1,
        ),
        ([{"type": "response.output_text.done", "text": "Hi"}], [], "Hi", "", 0),
        ([{"type": "response.output_text.done", "text": "Hi"}], [output_text("Hi")], "Hi", "", 0),
        (
            [SAID, {"type": "response.output_text.done", "text": "Hi"}],
            [output_text("Hi")],
            "Hi",
            "",
            0,
        ),
        (
            [SAID, {"type": "response.output_text.done", "text": "!", "output_index": 1}],
            [output_text("Hi"), output_text("!")],
            "Hi!",
            "",
            0,
        ),
        ([{"type": "response.refusal.done", "refusal": "No"}], [], "No", "", 0),
        (
            [REASONING, {"type": "response.reasoning_summary_text.done", "text": "Hm"}, SAID],
            [],
            "Hi",
            "Hm",
            0,
        ),
        (
            [{"type": "response.reasoning_text.done", "text": "Hm", "content_index": 0}],
            [
                {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm"}]},
                output_text("Hi"),
            ],
            "Hi",
            "Hm",
            0,
        ),
    ],
)
def test_what_comes_without_deltas_is_not_lost(
    told: list[Any], output: list[Any], content: str, reasoning: str, calls: int
) -> None:
    """Text, reasoning or calls may come only when done, or with the end; none comes twice."""
    end = {"type": "response.completed", "response": {"status": "completed", "output": output}}
    found = read(events(*told, end), "openai-responses")

    assert (found.content, found.reasoning, len(found.tool_calls)) == (content, reasoning, calls)
    assert found.finish_reason == "completed"


@pytest.mark.parametrize("status", ["in_progress", "queued"])
def test_a_response_that_has_not_ended_is_no_answer(status: str) -> None:
    """A server that works in the background answers at once, with nothing or with a beginning."""
    body = {"id": "r", "status": status, "output": [output_text("Hi")]}
    with pytest.raises(StreamTruncated) as caught:
        read([json.dumps(body).encode()], "openai-responses", "application/json")

    assert (caught.value.partial.content, caught.value.partial.finish_reason) == ("Hi", None)


@pytest.mark.parametrize(
    ("finish", "calls"), [("SAFETY", 0), ("PROHIBITED_CONTENT", 0), ("STOP", 1)]
)
def test_an_answer_that_gemini_blocks_has_no_calls(finish: str, calls: int) -> None:
    """Its finish reason is all that tells of a refusal."""
    part = {"functionCall": {"name": "f", "args": {"a": 1}}}
    found = read(
        events({"candidates": [{"content": {"parts": [part]}, "finishReason": finish}]}), "gemini"
    )

    assert len(found.tool_calls) == calls
    assert found.finish_reason == finish


@pytest.mark.parametrize(
    ("dialect", "member", "accept"),
    [
        ("openai", "messages", "text/event-stream"),
        ("openai-responses", "input", "text/event-stream"),
        ("anthropic", "messages", "text/event-stream"),
        ("gemini", "contents", "text/event-stream"),
        ("ollama", "messages", "application/x-ndjson"),
    ],
)
def test_the_body_is_the_callers_plus_stream(dialect: str, member: str, accept: str) -> None:
    """Model and messages go out as given, and nothing is added but ``stream``."""
    session = Canned([b""], "text/event-stream" if dialect != "ollama" else "application/x-ndjson")
    stream_chat(session, "http://chat.invalid/v1", dialect=dialect, temperature=0.5, **ASK).close()
    body = {"temperature": 0.5, member: ASK["messages"]}
    if dialect != "gemini":  # its URL names the model, and chooses the form of the answer
        body |= {"model": "m", "stream": True}

    assert session.sent["json"] == body
    assert session.sent["json"][member] is ASK["messages"]
    assert session.sent["headers"]["Accept"] == accept


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        (
            "http://x/v1/models/{model}:streamGenerateContent",
            "http://x/v1/models/m:streamGenerateContent?alt=sse",
        ),
        ("http://x/a?alt=sse&key=k", "http://x/a?alt=sse&key=k"),
        ("http://x/a?key=k", "http://x/a?key=k&alt=sse"),
    ],
)
def test_gemini_is_asked_for_events(url: str, sent: str) -> None:
    """Without ``alt=sse`` it answers with one JSON array."""
    session = Canned([b""])
    stream_chat(session, url, dialect="gemini", **ASK).close()

    assert session.sent["url"] == sent


def test_anthropic_is_told_the_version_of_its_api() -> None:
    """It refuses requests that name none; a caller's own wins, in any case of letters."""
    session = Canned([b""])
    stream_chat(session, "http://x/", dialect="anthropic", **ASK).close()
    assert session.sent["headers"]["anthropic-version"] == "2023-06-01"
    stream_chat(
        session,
        "http://x/",
        dialect="anthropic",
        headers={"Anthropic-Version": "2030-01-01"},
        **ASK,
    ).close()

    assert session.sent["headers"] == {
        "Accept": "text/event-stream",
        "Anthropic-Version": "2030-01-01",
    }


@pytest.mark.parametrize(
    ("chunks", "total"),
    [
        ([{"choices": [], "usage": USAGE}], 7),
        (
            [
                {"choices": [], "usage": USAGE},
                {"choices": [], "usage": {**USAGE, "total_tokens": 9}},
            ],
            9,
        ),
        ([{"choices": None, "usage": USAGE}], 7),
        ([{"usage": USAGE}], 7),
        ([{"choices": [], "usage": {"total_tokens": True}}], None),
    ],
)
def test_the_last_usage_counts(chunks: list[dict[str, Any]], total: int | None) -> None:
    """It comes behind the finish reason, sometimes twice, once with every chunk."""
    found = read(events(chunk("a", "stop"), *chunks), "openai")

    assert found.usage is not None
    assert found.usage.total_tokens == total
    assert found.usage.raw == chunks[-1]["usage"]


def test_several_choices_are_told_apart() -> None:
    """The first is the completion, the others are its alternatives."""
    chunks = [
        {
            "choices": [
                {"index": 1, "delta": {"content": "b"}},
                {"index": 0, "delta": {"content": "a"}},
            ]
        },
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {
            "choices": [{"index": 1, "delta": {"content": "B"}, "finish_reason": "length"}],
            "usage": USAGE,
        },
    ]
    session = Canned(events(*chunks))
    with stream_chat(session, "http://chat.invalid/", n=2, **ASK) as deltas:
        found = [(each.index, each.content) for each in deltas_of(deltas)]
        completion = deltas.completion

    assert found == [(1, "b"), (0, "a"), (0, ""), (1, "B")]
    assert (completion.content, completion.finish_reason) == ("a", "stop")
    assert [(each.content, each.finish_reason) for each in completion.alternatives] == [
        ("bB", "length")
    ]


def test_iter_text_is_the_first_choice() -> None:
    """Two answers in one text would be none."""
    chunks = [
        {"choices": [{"index": n, "delta": {"content": text}}]} for n, text in enumerate(["a", "b"])
    ]
    with stream_chat(Canned(events(*chunks)), "http://chat.invalid/", **ASK) as deltas:
        assert list(deltas.iter_text()) == ["a"]


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["a\ud83d", "\ude00b"], ["a", "\U0001f600b"]),
        (["\ud83d", "\ude00"], ["\U0001f600"]),
        (["\ud83d", "\ud83d", "\ude00"], ["\ud83d", "\U0001f600"]),
        (["\ud83d", "x"], ["\ud83dx"]),
        (["\ude00", "\ud83d"], ["\ude00", "\ud83d"]),
        (["\ufeffé\ud83d"], ["\ufeffé", "\ud83d"]),
    ],
)
def test_a_character_that_was_cut_is_joined(pieces: list[str], shown: list[str]) -> None:
    """JSON writes some characters in two halves, and providers cut there; a lone half is kept."""
    wire = [*events(*map(chunk, pieces))[:-1], *events(chunk(finish="stop"))]
    with stream_chat(Canned(wire), "http://chat.invalid/", **ASK) as deltas:
        found = list(deltas.iter_text())

    assert found == shown
    assert deltas.completion.content == "".join(shown)


def test_reasoning_and_arguments_that_were_cut_are_joined() -> None:
    """They are texts as well."""
    found = read(
        events(
            chunk(reasoning="\ud83d", tool_calls=[call(0, '"\ud83d', name="f")]),
            chunk(reasoning="\ude00", tool_calls=[call(0, '\ude00"')]),
            chunk(finish="stop"),
        ),
        "openai",
    )

    assert (found.reasoning, found.tool_calls[0].arguments) == ("\U0001f600", '"\U0001f600"')


def test_one_choice_without_a_finish_reason_is_not_the_end() -> None:
    """The other choice may be cut: all that were seen must have finished."""
    pieces = events(
        {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]},
        {"choices": [{"index": 1, "delta": {"content": "b"}}]},
    )[:-1]
    with pytest.raises(StreamTruncated):
        read(pieces, "openai")


def test_an_oversized_event_is_a_protocol_error() -> None:
    """Memory is bounded in every form of body."""
    for dialect, kind, start in (
        ("openai", "text/event-stream", b"data: "),
        ("openai", "text/event-stream", b"data: {}\n\n{"),
        ("openai", "text/plain", b"data: "),
        ("openai", "application/json", b"{"),
        ("openai", "application/json", b"{\n"),
        ("ollama", "application/x-ndjson", b"{}\n{"),
    ):
        with pytest.raises(StreamProtocolError, match="exceeds max_event_bytes=4096"):
            read([start + b"x" * 4100], dialect, kind, max_event_bytes=4096)


def test_white_space_before_a_document_takes_no_memory() -> None:
    """DeepSeek sends it for as long as a buffered call takes."""
    document = JSONDocument(most=4)
    for _ in range(9):
        assert document.feed(b"\n \n") == []
    document.feed(b" [ ]")

    assert document.is_pending
    assert [each.data for each in document.flush()] == ["[ ]"]


def test_the_marker_may_stick_to_the_last_chunk() -> None:
    """llama.cpp has sent them without the blank line between."""
    data = json.dumps(chunk("a"))
    found = read([f"data: {data}\ndata: [DONE]\n\n".encode()], "openai")

    assert (found.content, found.truncated) == ("a", False)


@pytest.mark.parametrize(
    "blank",
    [b"data:\n\n", b"data: \n\n", b"data:  \n\n", b": ping\n\n", b"event: ping\n\n", b"\n\n"],
)
def test_blank_events_are_skipped(blank: bytes) -> None:
    """They keep connections alive."""
    found = read([blank, *events(chunk("a")), blank], "openai")

    assert found.content == "a"


@pytest.mark.parametrize("dialect", ["openai", "openai-responses", "anthropic", "gemini", "ollama"])
def test_an_empty_body_is_truncated(dialect: str) -> None:
    """An empty body is no answer, even where a bare end is accepted."""
    kind = "application/x-ndjson" if dialect == "ollama" else "text/event-stream"
    with pytest.raises(StreamTruncated):
        read([], dialect, kind, accept_bare_eof=True)


def test_a_custom_session_is_used_as_it_is() -> None:
    """Sessions are subclassed to add a base URL, or to trace."""
    session = Canned(events(chunk("a")))
    assert isinstance(session, requests.Session)
    complete_chat(session, "http://chat.invalid/", timeout=(1, 2), headers={"X-A": "b"}, **ASK)

    assert session.sent["timeout"] == (1, 2)
    assert session.sent["headers"]["X-A"] == "b"
    assert session.sent["stream"] is True
