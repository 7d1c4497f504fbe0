"""Failures that look like answers: an error in any form, and finish reasons that mean "gave up"."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from chat_wires import ASK, chunk, events, good, mounted, read

from resilient_requests import ChatAPIError, StreamProtocolError, complete_chat, stream_chat
from resilient_requests.chat.kinds import has_given_up, is_transient
from resilient_requests.testing import sse

if TYPE_CHECKING:
    from resilient_requests.testing import FaultServer

# Each form: the chunk, and message, type, code and whether it may pass.
FORMS: dict[str, tuple[dict[str, Any], tuple[str | None, str | None, Any, bool]]] = {
    "empty": ({"error": {}}, (None, None, None, False)),
    "empty, beside choices": ({"error": {}, "choices": []}, (None, None, None, False)),
    "an empty text": ({"error": ""}, (None, None, None, False)),
    "text": ({"error": "out of memory"}, ("out of memory", None, None, False)),
    "true": ({"error": True, "message": "no"}, ("no", None, None, False)),
    "a word and a message": (
        {"error": "Unauthorized", "message": "token expired", "statusCode": 401},
        ("token expired", "Unauthorized", None, False),
    ),
    "object": (
        {"object": "error", "message": "too long", "type": "BadRequestError", "code": 400},
        ("too long", "BadRequestError", 400, False),
    ),
    "type": ({"type": "error", "message": "no"}, ("no", None, None, False)),
    "code and msg": (
        {"code": 1302, "msg": "rate limited", "success": False},
        ("rate limited", None, 1302, False),
    ),
    "code and message": (
        {"code": "Throttling", "message": "slow down", "request_id": "x"},
        ("slow down", None, "Throttling", True),
    ),
    "detail": ({"detail": "Not authenticated"}, ("Not authenticated", None, None, False)),
    "details": (
        {"detail": [{"loc": ["body"], "msg": "field required", "type": "missing"}]},
        ("field required", None, None, False),
    ),
    "errors": (
        {"errors": [{"message": "no", "code": 10000}], "success": False, "result": None},
        ("no", None, 10000, False),
    ),
    "base_resp": (
        {"base_resp": {"status_code": 1008, "status_msg": "no balance"}, "choices": None},
        ("no balance", None, 1008, False),
    ),
    "x_groq": (
        {"id": "x", "x_groq": {"error": "over capacity"}, "choices": []},
        ("over capacity", None, None, False),
    ),
    "status": (
        {"error": {"code": 503, "message": "engine died", "status": "UNAVAILABLE"}},
        ("engine died", "UNAVAILABLE", 503, True),
    ),
    "code beside": ({"error": {"message": "no"}, "code": 502}, ("no", None, 502, True)),
    "hidden in details": (
        {"error": {"message": "", "details": [{"@type": "x"}, {"reason": "KEY_INVALID"}]}},
        ("KEY_INVALID", None, None, False),
    ),
    "JSON in the message": (
        {
            "error": {
                "message": json.dumps({"error": {"message": "inner", "type": "server_error"}}),
                "code": 400,
            }
        },
        ("inner", "server_error", 400, True),
    ),
    "JSON as the error": (
        {"error": json.dumps({"message": "inner", "code": 503})},
        ("inner", None, 503, True),
    ),
}
DIALECTS = ["openai", "openai-responses", "anthropic", "gemini", "ollama", "cohere"]


def facts(error: ChatAPIError) -> tuple[str | None, str | None, Any, bool]:
    """Return the attributes of an error."""
    return error.message, error.type, error.code, error.transient


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("after", [True, False], ids=["with [DONE]", "alone"])
def test_an_error_in_any_form_is_told_with_its_reason(name: str, after: bool) -> None:
    """The form may be events or lines of every dialect; events behind it change nothing."""
    told, wanted = FORMS[name]
    for dialect in DIALECTS:
        with pytest.raises(ChatAPIError) as caught:
            read(events(told, done=after), dialect)
        with pytest.raises(ChatAPIError) as of_line:
            read([json.dumps(told).encode() + b"\n"], dialect, "application/x-ndjson")

        assert facts(caught.value) == facts(of_line.value) == wanted, dialect


@pytest.mark.parametrize("name", FORMS)
def test_a_refusal_as_a_document_is_told(name: str) -> None:
    """The document may have status 200, and any content type."""
    told, wanted = FORMS[name]
    for kind in ("application/json", "text/event-stream", "text/plain"):
        for indent in (None, 2):
            with pytest.raises(ChatAPIError) as caught:
                read([json.dumps(told, indent=indent).encode()], "openai", kind)

            assert facts(caught.value) == wanted, (kind, indent)


@pytest.mark.parametrize("body", [{"message": "Forbidden"}, {"msg": "no", "data": None}])
def test_a_document_that_says_only_why_is_a_refusal(body: dict[str, Any]) -> None:
    """It was to be the answer."""
    with pytest.raises(ChatAPIError, match=r"Forbidden|no"):
        read([json.dumps(body).encode()], "openai", "application/json")


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("end", [[], [b"data: [DONE]\n\n"]])
@pytest.mark.parametrize("size", [1, 1000])
def test_a_bare_error_between_events_is_told(
    indent: int | None, end: list[bytes], size: int
) -> None:
    """A gateway writes it as it would without a stream; to a decoder of events it is nothing."""
    error = {"error": {"code": 503, "message": "engine died", "status": "UNAVAILABLE"}}
    bare = json.dumps(error, indent=indent).encode() + b"\n"
    body = b"".join([*events(chunk("a"), done=False), bare, *end])
    with pytest.raises(ChatAPIError, match="engine died") as caught:
        read([body[at : at + size] for at in range(0, len(body), size)], "openai")

    assert caught.value.transient
    assert caught.value.partial.content == "a"


def test_a_bare_error_is_told_at_once(fault_server: FaultServer) -> None:
    """It needs neither a blank line nor an end behind it."""
    fault_server.script(
        sse(chunk("a"), b'{"error":"engine died"}\n', threading.Event(), done=False)
    )
    with mounted() as session, pytest.raises(ChatAPIError, match="engine died"):
        list(stream_chat(session, fault_server.url, **ASK))


@pytest.mark.parametrize("bare", [b'{"status": "ok"}\n\n', b"{nonsense\n\n", b"{\n\n", b"{}\n"])
def test_bare_json_that_is_no_error_changes_nothing(bare: bytes) -> None:
    """The rules of events take it for a field without a meaning."""
    found = read([*events(chunk("a"), done=False), bare, *events(chunk("b", "stop"))], "openai")

    assert (found.content, found.truncated) == ("ab", False)


def test_a_bare_chunk_is_a_part_of_the_answer() -> None:
    """Otherwise a piece of text would be missing in an answer that looks whole."""
    bare = json.dumps(chunk("b")).encode() + b"\n\n"
    found = read([*events(chunk("a"), done=False), bare, *events(chunk("c", "stop"))], "openai")

    assert found.content == "abc"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_event_of_that_name_is_an_error(dialect: str) -> None:
    """Its data may have any form."""
    for name in ("error", "exception"):
        for data in ('{"message":"boom"}', '"boom"', "boom"):
            with pytest.raises(ChatAPIError, match="boom"):
                read([f"event: {name}\ndata: {data}\n\n".encode()], dialect)


GOOD: list[dict[str, Any]] = [
    {**chunk("a"), "error": None},
    {**chunk("a"), "error": False},
    {**chunk("a"), "error": ""},
    {**chunk("a"), "errors": []},
    {**chunk("a"), "base_resp": {"status_code": 0, "status_msg": ""}},
    {**chunk("a"), "x_groq": {"id": "req"}},
    {**chunk("a"), "code": 0, "msg": "ok"},
    {**chunk("a"), "code": 200, "message": "success", "success": True},
    {**chunk("a"), "detail": "low"},
]


@pytest.mark.parametrize("told", GOOD)
def test_a_chunk_that_says_that_all_is_well_is_no_error(told: dict[str, Any]) -> None:
    """Some providers put a status into each."""
    assert read(events(told, chunk(finish="stop")), "openai").content == "a"


# -- finish reasons --------------------------------------------------------------------------------

GAVE_UP = [
    "abort",
    "error",
    "network_error",
    "timeout",
    "cancelled",
    "engine_overloaded",
    "insufficient_system_resource",
    "MALFORMED_FUNCTION_CALL",
    "malformed_function_call",
    "UNEXPECTED_TOOL_CALL",
    "OTHER",
    "ERROR",
    "TIMEOUT",
    "load",
]
SPEAKS: dict[str, Any] = {
    "openai": lambda reason: [chunk("a"), chunk(finish=reason)],
    "openai-responses": lambda reason: [
        {"type": "response.output_text.delta", "item_id": "m", "delta": "a"},
        {"type": "response.completed", "response": {"status": reason}},
    ],
    "anthropic": lambda reason: [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "a"}},
        {"type": "message_delta", "delta": {"stop_reason": reason}},
        {"type": "message_stop"},
    ],
    "gemini": lambda reason: [
        {"candidates": [{"content": {"parts": [{"text": "a"}]}}]},
        {"candidates": [{"finishReason": reason}]},
    ],
    "ollama": lambda reason: [
        {"message": {"content": "a"}, "done": False},
        {"message": {"content": ""}, "done": True, "done_reason": reason},
    ],
    "cohere": lambda reason: [
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "a"}}}},
        {"type": "message-end", "delta": {"finish_reason": reason}},
    ],
}


@pytest.mark.parametrize("reason", GAVE_UP)
def test_a_finish_reason_that_means_gave_up_is_no_answer(reason: str) -> None:
    """One table serves every dialect, and the error carries the partial answer."""
    for dialect, wire in SPEAKS.items():
        with pytest.raises(ChatAPIError, match=reason) as caught:
            read(events(*wire(reason)), dialect)

        assert caught.value.type == reason
        assert caught.value.partial.content == "a"
        assert caught.value.partial.truncated


@pytest.mark.parametrize("reason", ["stop", "length", "STOP", "COMPLETE", "end_turn", "终止"])
def test_other_finish_reasons_end_an_answer(reason: str) -> None:
    """Those that nobody knows too."""
    for dialect, wire in SPEAKS.items():
        found = read(events(*wire(reason)), dialect)

        assert (found.content, found.finish_reason, found.truncated) == ("a", reason, False)


def test_a_cancelled_response_is_no_answer() -> None:
    """The news may be an event of its own, or a document."""
    event = {"type": "response.cancelled", "response": {"status": "cancelled"}}
    document = {"status": "cancelled", "output": []}
    for wire, kind in (
        (events(event), "text/event-stream"),
        ([json.dumps(document).encode()], "application/json"),
    ):
        with pytest.raises(ChatAPIError, match="cancelled"):
            read(wire, "openai-responses", kind)


@pytest.mark.parametrize("reason", ["network_error", "engine_overloaded", "timeout", "abort"])
def test_an_answer_that_was_given_up_for_a_passing_reason_is_asked_for_again(
    reason: str, fault_server: FaultServer
) -> None:
    """complete_chat asks again, as after any transient error."""
    fault_server.script(sse(chunk("a"), chunk(finish=reason)), good("new"))
    with mounted() as session:
        assert complete_chat(session, fault_server.url, **ASK).content == "new"


# -- spellings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    """server_error internal_error overloaded_error api_error rate_limit_error rate_limit_exceeded
    RateLimitError server_is_overloaded timeout_error InternalServerError ServiceUnavailableError
    UNAVAILABLE RESOURCE_EXHAUSTED ThrottlingException engine_overloaded too_many_requests
    internal_server_error service_unavailable overloaded request_timeout""".split(),  # noqa: SIM905
)
def test_a_transient_error_is_known_in_each_spelling(kind: str) -> None:
    """The spelling may be its type or its code, beside any other member."""
    assert is_transient(kind, None)
    assert is_transient(kind, 400)
    assert is_transient(None, kind)
    assert is_transient("requests", kind)


@pytest.mark.parametrize(
    "kind",
    """invalid_request_error insufficient_quota authentication_error context_length_exceeded
    BadRequestError NOT_FOUND PermissionDeniedError content_filter""".split(),  # noqa: SIM905
)
def test_a_permanent_error_stays_one_with_any_code(kind: str) -> None:
    """The word says more than a number that gateways make up."""
    assert not is_transient(kind, None)
    assert not is_transient(kind, 500)
    assert not is_transient(None, kind)


@pytest.mark.parametrize(
    ("code", "passes"),
    [
        *((each, 1) for each in (408, 409, 429, 500, 529, "503")),
        *((each, 0) for each in (400, 404, 600, 1302, "1302", None, "x", -500, "")),
    ],
)
def test_the_code_decides_where_the_type_is_unknown(code: Any, passes: int) -> None:
    """The code decides as far as it is a status of HTTP."""
    assert is_transient("something_new", code) is bool(passes)
    assert is_transient(None, code) is bool(passes)


@pytest.mark.parametrize(
    "reason", ["stop", "errors_found", "no_error", "function_call", "终止", "-"]
)
def test_a_finish_reason_is_matched_as_a_whole(reason: str) -> None:
    """A word within another is none."""
    assert not has_given_up(reason)


# -- the limits of JSON ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["event", "line", "document"])
def test_a_number_of_5000_digits_is_read(form: str) -> None:
    """Python's int() refuses one, with a ValueError that says nothing of a stream."""
    number = '"created": %s, ' % ("9" * 5000)
    whole = {"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}
    part, all_of_it = (
        json.dumps(each).replace("{", f"{{{number}", 1).encode() for each in (chunk("a"), whole)
    )
    wire, kind = {
        "event": (b"data: %b\n\ndata: [DONE]\n\n" % part, "text/event-stream"),
        "line": (b"%b\n%b\n" % (part, json.dumps(chunk(finish="stop")).encode()), "x/ndjson"),
        "document": (all_of_it, "application/json"),
    }[form]

    assert read([wire], "openai", kind).content == "a"


@pytest.mark.parametrize("data", ["[" * 100_000, '{"choices": ' + "[" * 100_000, '{"a":' * 100_000])
def test_what_is_nested_too_deeply_is_a_protocol_error(data: str) -> None:
    """No answer is, and Python gives up with a RecursionError."""
    with pytest.raises(StreamProtocolError, match="event 2: the JSON is nested too deeply"):
        read([*events(chunk("a"), done=False), f"data: {data}\n\n".encode()], "openai")


@pytest.mark.parametrize("depth", [2, 63, 64, 65, 1_000])
def test_arguments_come_to_any_depth(depth: int) -> None:
    """A path of more than 64 steps is no argument, and would cost more than it says."""
    pieces = [{"jsonPath": "$" + ".a" * depth, "stringValue": "x"}]
    part = {"functionCall": {"name": "f", "partialArgs": pieces}}
    wire = events(
        {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}, done=False
    )
    if depth > 64:
        with pytest.raises(StreamProtocolError, match="a path of arguments is too long"):
            read(wire, "gemini")
    else:
        arguments = read(wire, "gemini").tool_calls[0].arguments

        assert arguments == '{"a": ' * depth + '"x"' + "}" * depth


@pytest.mark.parametrize("markers", ["[DONE]", "[DONE]\n[DONE]", "[DONE]\n\n DONE\n" * 5_000])
@pytest.mark.parametrize("before", [True, False])
def test_markers_that_stick_to_a_chunk_are_markers(markers: str, before: bool) -> None:
    """Any number of them counts: a proxy has lost the blank lines between the events."""
    lines = ([json.dumps(chunk("a"))] if before else []) + markers.split("\n")
    stuck = "".join(f"data: {line}\n" for line in lines) + "\n"
    found = read([*events(chunk("b"), done=False), stuck.encode()], "openai")

    assert (found.content, found.truncated) == ("ba" if before else "b", False)


def test_arguments_with_a_number_of_5000_digits_are_json() -> None:
    """Only the caller has to parse them."""
    arguments = '{"n": %s}' % ("9" * 5000)
    told = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": arguments}}]
    found = read(events(chunk(tool_calls=told), chunk(finish="tool_calls")), "openai")

    assert found.tool_calls[0].arguments == arguments
    assert not found.truncated
