"""complete_chat: a whole answer, replayed within one count, budget and deadline."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
from chat_wires import ASK, ROLE, USAGE, call, chunk, good, mounted, no_wait
from clients import in_time

from resilient_requests import (
    Cancelled,
    CancelScope,
    ChatAPIError,
    DeadlineExceeded,
    RetryBudget,
    RetryDenied,
    RetryPolicy,
    RetryScheduled,
    StreamBroken,
    StreamError,
    StreamIdle,
    StreamProtocolError,
    StreamTruncated,
    Timeouts,
    complete_chat,
    stream_chat,
)
from resilient_requests.call import CancelToken
from resilient_requests.testing import (
    FaultServer,
    Reply,
    Send,
    Silence,
    reset,
    respond,
    silence,
    sse,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def session(server: FaultServer) -> Iterator[requests.Session]:
    """A session over our adapter."""
    with mounted(server) as session:
        yield session


def keys(server: FaultServer) -> list[str | None]:
    """The Idempotency-Key of each request."""
    return [each.header("Idempotency-Key") for each in server.requests]


BAD_TOOL = sse(
    chunk(tool_calls=[call(0, '{"city": "Par', call_id="a", name="f")]), chunk(finish="tool_calls")
)
OVERLOADED = sse({"error": {"type": "overloaded_error", "message": "busy"}})
WORTH: dict[str, Reply] = {
    "dropped after the role": sse(ROLE, done=False, ending="reset"),
    "dropped after a delta": sse(ROLE, chunk("old"), done=False, ending="reset"),
    "FIN inside a chunk": sse(ROLE, chunk("old"), done=False, ending="fin"),
    "clean end": sse(ROLE, chunk("old"), done=False),
    "clean end, close-delimited": sse(ROLE, chunk("old"), done=False, framing="close"),
    "malformed framing": Reply(
        (
            Send(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
            ),
            Silence(),
        )
    ),
    "stall before the first part": sse(ROLE, threading.Event(), done=False),
    "stall after a part": sse(chunk("old"), threading.Event(), done=False),
    "transient error": sse(
        chunk("old"), {"error": {"type": "overloaded_error"}}, threading.Event(), done=False
    ),
    "transient error, then [DONE]": OVERLOADED,
    "truncated tool call": BAD_TOOL,
}


@pytest.mark.parametrize("name", WORTH)
def test_an_attempt_that_came_to_nothing_is_replayed(
    name: str, server: FaultServer, session: requests.Session
) -> None:
    """Nothing was shown to anybody, and nothing of the first attempt is in the result."""
    server.script(WORTH[name], good("new"))
    completion = complete_chat(session, server.url, idle_timeout=0.15, **ASK)

    assert (completion.content, completion.tool_calls, completion.finish_reason) == (
        "new",
        (),
        "stop",
    )
    assert len(server.requests) == server.accepted == 2
    assert [each.number for each in completion.attempts] == [1, 2]
    assert completion.attempts[0].error
    assert completion.attempts[1].error is None
    assert not completion.truncated


@pytest.mark.parametrize("name", WORTH)
def test_a_bad_answer_gets_a_new_key_and_a_break_keeps_the_old(
    name: str, server: FaultServer, session: requests.Session
) -> None:
    """A server that knows the key repeats a bad answer; after a break a good one may be ready."""
    server.script(WORTH[name], good())
    complete_chat(session, server.url, idle_timeout=0.15, **ASK)
    first, second = keys(server)

    assert first
    assert second
    assert (first == second) is (
        name not in ("transient error", "transient error, then [DONE]", "truncated tool call")
    )


def test_a_key_of_the_callers_is_kept(server: FaultServer, session: requests.Session) -> None:
    """It names the caller's operation through every replay."""
    server.script(OVERLOADED, sse(ROLE, done=False), good())
    complete_chat(session, server.url, headers={"Idempotency-Key": "mine"}, **ASK)

    assert keys(server) == ["mine"] * 3


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (sse({"error": {"type": "invalid_request_error", "message": "no"}}), ChatAPIError),
        (sse({"error": "no"}), ChatAPIError),
        (sse("no json"), StreamProtocolError),
        (sse(chunk(tool_calls=[call(10**9, "{}", name="f")])), StreamProtocolError),
        (respond("<html>", headers={"Content-Type": "text/html"}), StreamProtocolError),
        *(
            (respond(b"{}", status=status), requests.HTTPError)
            for status in (400, 401, 404, 408, 409, 429, 500, 503)
        ),
    ],
)
def test_what_is_permanent_passes_at_once(
    reply: Reply,
    kind: type[requests.RequestException],
    server: FaultServer,
    session: requests.Session,
) -> None:
    """One request, and the error as it is."""
    server.script(reply, good())
    with pytest.raises(kind) as caught:
        complete_chat(session, server.url, **ASK)

    assert len(server.requests) == 1
    assert len(caught.value.attempts) == 1  # type: ignore[attr-defined]
    if isinstance(caught.value, ChatAPIError):
        assert caught.value.attempts[0].stopped_by == "policy"


@pytest.mark.parametrize("retries", [0, 1, 2, 3])
def test_retries_are_counted_whoever_makes_them(retries: int, server: FaultServer) -> None:
    """Two retries are three requests, also when resets before the response and drops mix."""
    drops = [sse(chunk("a" * n), done=False, ending="reset") for n in (1, 5, 2)]
    server.script(drops[0], reset(), drops[1], drops[2], good())
    policy = RetryPolicy(max_retries=retries, wait=no_wait)
    with (
        mounted(server, max_retries=policy) as session,
        pytest.raises(requests.RequestException) as caught,
    ):
        complete_chat(session, server.url, **ASK)

    assert len(server.requests) == retries + 1
    attempts = caught.value.attempts  # type: ignore[attr-defined]
    assert [each.number for each in attempts] == list(range(1, retries + 2))
    assert attempts[-1].stopped_by == "exhausted"
    assert all(each.stopped_by is None for each in attempts[:-1])
    assert len(
        caught.value.partial.content  # type: ignore[attr-defined]
    ) == (1 if retries < 2 else 5)


def test_always_dropped_is_three_requests(server: FaultServer, session: requests.Session) -> None:
    """The default: two retries."""
    server.default = sse(ROLE, chunk("abc"), done=False, ending="reset")
    with pytest.raises(StreamBroken) as caught:
        complete_chat(session, server.url, **ASK)

    assert len(server.requests) == len(caught.value.attempts) == 3
    assert caught.value.partial.content == "abc"
    assert caught.value.partial.truncated


def test_the_best_partial_is_carried(server: FaultServer, session: requests.Session) -> None:
    """The best partial need not be the last one."""
    server.script(*[sse(chunk(text), done=False) for text in ("ab", "abcdef", "abc")])
    with pytest.raises(StreamTruncated) as caught:
        complete_chat(session, server.url, **ASK)

    assert caught.value.partial.content == "abcdef"
    assert caught.value.partial.attempts == caught.value.attempts


def test_arguments_that_stay_broken_are_handed_over(
    server: FaultServer, session: requests.Session
) -> None:
    """The caller may know how to mend the text, but the answer counts as truncated."""
    server.default = BAD_TOOL
    completion = complete_chat(session, server.url, **ASK)

    assert completion.tool_calls[0].arguments == '{"city": "Par'
    assert completion.truncated
    assert len(server.requests) == len(completion.attempts) == 3
    assert [each.error for each in completion.attempts] == ["StreamProtocolError"] * 3
    assert [each.stopped_by for each in completion.attempts] == [None, None, "exhausted"]


@pytest.mark.parametrize(("text", "kept"), [("abc", ""), ("a longer answer", "a longer answer")])
def test_a_call_with_broken_arguments_is_a_part_of_the_answer(
    text: str, kept: str, server: FaultServer, session: requests.Session
) -> None:
    """The error is that of the last attempt; the partial is the longest of all attempts."""
    server.script(BAD_TOOL, sse(chunk(text), done=False), sse(chunk("ab"), done=False))
    with pytest.raises(StreamTruncated) as caught:
        complete_chat(session, server.url, **ASK)

    assert [each.error for each in caught.value.attempts] == [
        "StreamProtocolError",
        *["StreamTruncated"] * 2,
    ]
    assert caught.value.partial.content == kept
    assert bool(caught.value.partial.tool_calls) is not bool(kept)


def test_one_choice_with_broken_arguments_is_enough(
    server: FaultServer, session: requests.Session
) -> None:
    """Each choice says for itself whether it is whole."""
    broken = chunk(finish="tool_calls", tool_calls=[call(0, '{"a', call_id="a", name="f")])
    broken["choices"][0]["index"] = 1
    server.default = sse(chunk("good", "stop"), broken)
    completion = complete_chat(session, server.url, n=2, **ASK)

    assert len(server.requests) == 3
    assert [each.truncated for each in (completion, *completion.alternatives)] == [False, True]


def of_choice(index: int, item: Any) -> Any:
    """A chunk, of another choice."""
    return {**item, "choices": [{**item["choices"][0], "index": index}]}


def candidate(index: int, text: str) -> Any:
    """The whole of one candidate of Gemini's."""
    content = {"parts": [{"text": text}], "role": "model"}
    return {"candidates": [{"index": index, "content": content, "finishReason": "STOP"}]}


ANNOUNCED = [of_choice(index, ROLE) for index in (0, 1)]
OTHER = [of_choice(1, each) for each in (chunk("b"), chunk(finish="stop"))]
TWO: dict[str, tuple[list[Any], list[Any], dict[str, Any]]] = {
    "announced": ([*ANNOUNCED, chunk("a", "stop")], OTHER, {}),
    "begun": ([OTHER[0], chunk("a", "stop")], OTHER[1:], {}),
    "asked for": ([chunk("a", "stop")], OTHER, {"n": 2}),
    "announced and asked for": ([*ANNOUNCED, chunk("a", "stop")], OTHER, {"n": 2}),
    "candidates": (
        [candidate(0, "a")],
        [candidate(1, "b")],
        {"dialect": "gemini", "generationConfig": {"candidateCount": 2}},
    ),
}
ENDS: dict[str, tuple[Callable[[list[Any]], Reply], type[StreamError]]] = {
    "reset": (lambda items: sse(*items, done=False, ending="reset"), StreamBroken),
    "clean end": (lambda items: sse(*items, done=False), StreamTruncated),
    "FIN": (lambda items: sse(*items, done=False, framing="close"), StreamTruncated),
    "silence": (lambda items: sse(*items, threading.Event(), done=False), StreamIdle),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", TWO)
def test_an_answer_lacks_every_choice_that_has_not_finished(
    name: str, end: str, server: FaultServer, session: requests.Session
) -> None:
    """One choice of two is half an answer: the other was announced, begun, or only asked for."""
    half, rest, options = TWO[name]
    reply, kind = ENDS[end]
    server.script(reply(half), reply(half), sse(*half, 0.15, *rest, done=False))
    ask: dict[str, Any] = {**ASK, **options, "idle_timeout": 0.5}
    with stream_chat(session, server.url, **ask) as deltas, pytest.raises(kind) as caught:
        list(deltas)
    completion = complete_chat(session, server.url, **ask)

    assert (caught.value.partial.content, caught.value.partial.truncated) == ("a", True)
    assert [each.content for each in (completion, *completion.alternatives)] == ["a", "b"]
    assert not completion.truncated
    assert len(completion.attempts) == 2


def test_the_marker_ends_an_answer_with_fewer_choices(
    server: FaultServer, session: requests.Session
) -> None:
    """Servers that know of one choice only ignore how many were asked for."""
    server.script(sse(chunk("a", "stop")), good())

    assert complete_chat(session, server.url, n=2, **ASK).content == "a"
    assert len(server.requests) == 1


def test_a_choice_of_an_abandoned_attempt_is_in_no_answer(
    server: FaultServer, session: requests.Session
) -> None:
    """Its text, its broken call and its connection are gone."""
    broken = chunk(finish="tool_calls", tool_calls=[call(0, '{"a', call_id="a", name="f")])
    server.script(
        sse(
            chunk("old", "stop"),
            of_choice(1, broken),
            {"choices": [], "usage": USAGE},
            threading.Event(),
            done=False,
        ),
        sse(
            *ANNOUNCED, chunk("old", "stop"), of_choice(1, chunk("old")), done=False, ending="reset"
        ),
        sse(chunk("new", "stop"), of_choice(1, chunk("other", "stop"))),
    )
    completion = complete_chat(session, server.url, n=2, **ASK)

    choices = (completion, *completion.alternatives)
    assert [(each.content, each.tool_calls, each.usage) for each in choices] == [
        ("new", (), None),
        ("other", (), None),
    ]
    assert len(completion.attempts) == 3
    assert server.wait_for_disconnects(2)


def test_a_stream_says_of_broken_arguments_that_they_are(
    server: FaultServer, session: requests.Session
) -> None:
    """It has shown them already: they are handed over at once."""
    server.script(BAD_TOOL)
    with stream_chat(session, server.url, **ASK) as deltas:
        list(deltas)

    assert deltas.completion.tool_calls[0].arguments == '{"city": "Par'
    assert deltas.completion.truncated


@pytest.mark.parametrize(
    ("arguments", "finish"),
    [("", "tool_calls"), ("{}", "tool_calls"), ("5", "stop"), ('{"a', "length")],
)
def test_these_arguments_are_no_reason_to_ask_again(
    arguments: str, finish: str, server: FaultServer, session: requests.Session
) -> None:
    """No arguments are valid; the caller's own limit would cut them again, at the same price."""
    server.script(
        sse(chunk(tool_calls=[call(0, arguments, call_id="a", name="f")]), chunk(finish=finish)),
        good(),
    )
    completion = complete_chat(session, server.url, **ASK)

    assert completion.tool_calls[0].arguments == arguments
    assert completion.truncated is (finish == "length")
    assert len(server.requests) == 1


def test_an_accepted_bare_end_is_no_reason_to_ask_again(
    server: FaultServer, session: requests.Session
) -> None:
    """The caller has said that this server ends so."""
    server.script(sse(chunk("a"), done=False), good())
    completion = complete_chat(session, server.url, accept_bare_eof=True, **ASK)

    assert (completion.content, completion.truncated) == ("a", True)
    assert len(server.requests) == 1


def test_usage_is_that_of_the_answer(server: FaultServer, session: requests.Session) -> None:
    """The usage of an abandoned attempt does not count."""
    server.script(
        sse(
            chunk("a"),
            {"choices": [], "usage": {**USAGE, "total_tokens": 99}},
            done=False,
            ending="reset",
        ),
        good(),
    )

    assert complete_chat(session, server.url, **ASK).usage is None


def test_the_connection_of_a_whole_answer_is_reused(
    server: FaultServer, session: requests.Session
) -> None:
    """A stream that was read to its end gives its connection back, too."""
    for _ in range(5):
        server.script(good())
        complete_chat(session, server.url, **ASK)

    assert server.accepted == 1


# -- budget, waits, deadlines ----------------------------------------------------------------------


def test_a_replay_costs_two_tokens(fault_server: FaultServer) -> None:
    """The server has worked for the first attempt; the adapter's own retries have this budget."""
    events: list[Any] = []
    policy = RetryPolicy(
        max_retries=9, wait=no_wait, budget=RetryBudget(capacity=5, deposit=0, trickle=0)
    )
    fault_server.default = sse(chunk("a"), done=False)
    with (
        mounted(max_retries=policy, observers=[events.append]) as session,
        pytest.raises(StreamTruncated) as caught,
    ):
        complete_chat(session, fault_server.url, **ASK)

    assert len(fault_server.requests) == 3  # 5 tokens: two replays, and one left
    assert caught.value.attempts[-1].stopped_by == "budget"
    assert [type(each) for each in events if isinstance(each, (RetryScheduled, RetryDenied))] == [
        RetryScheduled,
        RetryScheduled,
        RetryDenied,
    ]
    assert {each.call_id for each in events if isinstance(each, (RetryScheduled, RetryDenied))} == {
        events[0].call_id
    }


def test_replays_wait_as_retries_do(fault_server: FaultServer) -> None:
    """The policy's own strategy sets the wait."""
    waits: list[int] = []

    def wait(state: Any) -> float:
        waits.append(state.attempt_number)
        return 0.05

    fault_server.script(sse(ROLE, done=False), sse(ROLE, done=False), good())
    with mounted(max_retries=RetryPolicy(wait=wait)) as session:
        began = time.monotonic()
        complete_chat(session, fault_server.url, **ASK)

    assert waits == [1, 2]
    assert in_time(time.monotonic() - began, 1.0) >= 0.1


@pytest.mark.slow
def test_one_deadline_covers_all_attempts(fault_server: FaultServer) -> None:
    """Timeouts.total bounds the operation, not each of its sends."""
    fault_server.script(sse(ROLE, 0.2, done=False), sse(ROLE, 0.2, done=False), silence())
    with mounted(timeouts=Timeouts(total=0.8)) as session:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded) as caught:
            complete_chat(session, fault_server.url, **ASK)

    in_time(time.monotonic() - began, 1.2)
    assert len(caught.value.attempts) == len(fault_server.requests) == 3


def test_no_replay_is_begun_that_the_deadline_would_end(fault_server: FaultServer) -> None:
    """The wait alone would reach it: the answer's own error is the better one."""
    fault_server.default = sse(chunk("a"), done=False)
    with mounted(
        max_retries=RetryPolicy(wait=lambda _: 5.0), timeouts=Timeouts(total=2.0)
    ) as session:
        began = time.monotonic()
        with pytest.raises(StreamTruncated) as caught:
            complete_chat(session, fault_server.url, **ASK)

    in_time(time.monotonic() - began, 1.0)
    assert caught.value.attempts[0].stopped_by == "deadline"


@pytest.mark.parametrize("where", ["wait", "stream"])
def test_a_scope_cancels_all_of_it(where: str, fault_server: FaultServer) -> None:
    """The wait before a replay too."""
    fault_server.script(sse(ROLE, done=False), sse(chunk("a"), threading.Event(), done=False))
    policy = RetryPolicy(wait=(lambda _: 30.0) if where == "wait" else no_wait)
    with mounted(max_retries=policy) as session, CancelScope() as scope:
        timer = threading.Timer(0.15, scope.cancel)
        timer.start()
        began = time.monotonic()
        with pytest.raises(Cancelled) as caught:
            complete_chat(session, fault_server.url, **ASK)
        timer.join()

    in_time(time.monotonic() - began, 2.0)
    assert len(caught.value.attempts) == len(fault_server.requests) == (1 if where == "wait" else 2)
    assert caught.value.partial.content == ("" if where == "wait" else "a")
    assert where == "stream" or caught.value.attempts[-1].stopped_by == "cancelled"


def test_a_replay_of_a_shut_down_adapter_is_refused(fault_server: FaultServer) -> None:
    """It is over."""
    with mounted() as session:
        fault_server.script(sse(ROLE, done=False))
        adapter: Any = session.get_adapter(fault_server.url)
        adapter._sleep = lambda token, seconds: adapter.shutdown()
        with pytest.raises(requests.ConnectionError, match="shut down") as caught:
            complete_chat(session, fault_server.url, **ASK)

    assert len(fault_server.requests) == 1
    assert caught.value.attempts[-1].stopped_by == "shut down"  # type: ignore[attr-defined]


def test_a_cancel_between_two_attempts_is_seen_by_the_next() -> None:
    """The earlier call may be ended while the later one takes its place."""
    earlier, later = CancelToken(), CancelToken()
    earlier.cancel()
    later.succeed(earlier)
    with pytest.raises(Cancelled):
        later.check()


def test_calls_are_independent(fault_server: FaultServer) -> None:
    """A call uses up no retries of the next one, nor of calls in other threads."""
    fault_server.default = sse(ROLE, done=False)
    counts = []
    with mounted(max_retries=RetryPolicy(wait=no_wait, budget=None)) as session:
        for _ in range(3):
            with pytest.raises(StreamError) as caught:
                complete_chat(session, fault_server.url, **ASK)
            counts.append(len(caught.value.attempts))
        assert session.get(fault_server.url).status_code == 200

    assert counts == [3, 3, 3]


def test_a_redirect_costs_no_retry(fault_server: FaultServer) -> None:
    """A redirect is an answer, so the retries are left for failures."""
    fault_server.script(
        respond(status=307, headers={"Location": "/moved"}),
        sse(ROLE, done=False, ending="reset"),
        respond(status=307, headers={"Location": "/moved"}),
        reset(),
        good(),
    )
    with mounted() as session:
        completion = complete_chat(session, fault_server.url, **ASK)

    assert completion.content == "good"
    assert [each.status for each in completion.attempts] == [307, 200, 307, None, 200]


def test_a_stall_before_the_response_is_not_replayed(fault_server: FaultServer) -> None:
    """That is the adapter's own rule: the server may be at work, and nothing has come yet."""
    fault_server.script(silence(), good())
    with mounted(timeouts=Timeouts(response=0.1)) as session, pytest.raises(requests.ReadTimeout):
        complete_chat(session, fault_server.url, **ASK)

    assert fault_server.accepted == 1  # a replay dials


def test_a_broken_stream_retires_the_other_connections(fault_server: FaultServer) -> None:
    """A replay that took a sibling of the dead connection would meet the same end."""
    with mounted() as session:
        adapter: Any = session.get_adapter(fault_server.url)
        fault_server.script(sse(ROLE, done=False, ending="reset"), good())
        complete_chat(session, fault_server.url, **ASK)

        assert adapter.generation == 1


def test_idle_is_the_error_where_all_attempts_stall(fault_server: FaultServer) -> None:
    """The error names the clock that noticed the silence."""
    fault_server.default = sse(ROLE, threading.Event(), done=False)
    with mounted(max_retries=1) as session, pytest.raises(StreamIdle) as caught:
        complete_chat(session, fault_server.url, event_timeout=0.1, **ASK)

    assert caught.value.clock == "events"
    assert len(caught.value.attempts) == 2
