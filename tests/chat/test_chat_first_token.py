"""first_token_timeout, and the replay that nobody sees while nothing of an answer was shown."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
from chat_wires import ASK, ROLE, USAGE, Canned, chunk, events, good, mounted, no_wait
from clients import in_time

from resilient_requests import (
    HEARTBEAT,
    ChatAPIError,
    ChatDelta,
    DeadlineExceeded,
    RetryPolicy,
    StreamBroken,
    StreamIdle,
    StreamTruncated,
    Timeouts,
    complete_chat,
    stream_chat,
)
from resilient_requests.testing import (
    FaultServer,
    Pause,
    Reply,
    reset,
    respond,
    silence,
    sse,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def session(server: FaultServer) -> Iterator[requests.Session]:
    """A session over our adapter."""
    with mounted(server) as session:
        yield session


OVERLOADED = {"error": {"type": "overloaded_error", "message": "busy"}}
USAGE_ALONE = {"choices": [], "usage": USAGE}


def dripping(item: Any) -> Reply:
    """An endless reply without any part of an answer."""
    return sse(*[each for _ in range(200) for each in (item, 0.02)], done=False)


STALLS: dict[str, tuple[Reply, dict[str, Any]]] = {
    "nothing": (sse(threading.Event(), done=False), {"first_token_timeout": 0.2}),
    "a role": (sse(ROLE, threading.Event(), done=False), {"first_token_timeout": 0.2}),
    "comments": (dripping(b": keep-alive\n\n"), {"first_token_timeout": 0.2}),
    "pings": (dripping({"choices": []}), {"first_token_timeout": 0.2}),
    "usage": (dripping(USAGE_ALONE), {"first_token_timeout": 0.2}),
    "no head": (silence(), {"first_token_timeout": 0.2}),
    "blank lines": (
        stream([b"\n", 0.05] * 50, content_type="application/json"),
        {"first_token_timeout": 0.2},
    ),
    "no byte": (sse(ROLE, threading.Event(), done=False), {"idle_timeout": 0.2}),
}


@pytest.mark.parametrize("name", STALLS)
def test_a_stall_before_the_first_part_is_replayed_unseen(
    name: str, server: FaultServer, session: requests.Session
) -> None:
    """The replay happens once, and no part of the first attempt is in the answer."""
    reply, limit = STALLS[name]
    server.script(reply, good("new"))
    began = time.monotonic()
    with stream_chat(session, server.url, **limit, **ASK) as deltas:
        found = [each for each in deltas if isinstance(each, ChatDelta)]

    in_time(time.monotonic() - began, 2.0)
    assert "".join(each.content for each in found) == deltas.completion.content == "new"
    assert deltas.completion.usage is None
    assert server.accepted == 2
    assert [each.number for each in deltas.completion.attempts] == [1, 2]
    assert deltas.completion.attempts[0].error


@pytest.mark.parametrize("name", [each for each in STALLS if each != "no head"])
def test_a_stall_is_replayed_once_only(
    name: str, server: FaultServer, session: requests.Session
) -> None:
    """The second is the caller's, and says which limit it was."""
    reply, limit = STALLS[name]
    server.default = reply
    with (
        stream_chat(session, server.url, **limit, **ASK) as deltas,
        pytest.raises(StreamIdle) as caught,
    ):
        list(deltas)

    (knob,) = limit
    assert knob in str(caught.value)
    assert caught.value.idle_timeout == 0.2
    assert caught.value.clock == ("bytes" if knob == "idle_timeout" else "events")
    assert caught.value.partial.content == ""
    assert len(caught.value.attempts) == server.accepted == 2


def test_silence_before_the_head_ends_in_time(
    server: FaultServer, session: requests.Session
) -> None:
    """It is a read timeout, as requests raises it; the first part was due before it."""
    server.default = silence()
    began = time.monotonic()
    with pytest.raises(requests.ReadTimeout) as caught:
        stream_chat(session, server.url, first_token_timeout=0.2, **ASK)

    assert in_time(time.monotonic() - began, 2.0) >= 0.4
    assert len(caught.value.attempts) == server.accepted == 2  # type: ignore[attr-defined]


def test_the_head_and_the_body_share_the_time(
    server: FaultServer, session: requests.Session
) -> None:
    """The time that the head took is not given to the body again."""
    late = sse(ROLE, threading.Event(), done=False)
    server.default = Reply((Pause(0.3), *late.steps))
    began = time.monotonic()
    with (
        mounted(server, max_retries=0) as other,
        stream_chat(other, server.url, first_token_timeout=0.5, **ASK) as deltas,
        pytest.raises(StreamIdle, match="first_token_timeout"),
    ):
        list(deltas)

    assert in_time(time.monotonic() - began, 0.75) >= 0.45


@pytest.mark.parametrize(
    "part",
    [
        chunk("a"),
        chunk(reasoning="a"),
        chunk(images=[{"type": "image_url"}]),
        chunk(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f"}}]),
    ],
    ids=["text", "reasoning", "image", "call"],
)
def test_the_first_part_ends_the_limit(
    part: Any, server: FaultServer, session: requests.Session
) -> None:
    """A part of any kind ends it: only the other clocks count then, and no call is replayed."""
    server.script(sse(part, 0.5, chunk("b", "stop")), good())
    with stream_chat(session, server.url, first_token_timeout=0.3, **ASK) as deltas:
        list(deltas)

    assert deltas.completion.content.endswith("b")
    assert len(server.requests) == 1


def test_the_event_clock_holds_behind_the_first_part(
    server: FaultServer, session: requests.Session
) -> None:
    """That clock has a limit of its own, longer or shorter than that of the first part."""
    for first, event in ((0.5, 0.2), (0.2, 0.5)):
        server.script(sse(chunk("a"), threading.Event(), done=False))
        with (
            stream_chat(
                session, server.url, first_token_timeout=first, event_timeout=event, **ASK
            ) as deltas,
            pytest.raises(StreamIdle, match="event_timeout") as caught,
        ):
            list(deltas)

        assert caught.value.idle_timeout == event


def test_a_shorter_event_timeout_is_named_before_the_first_part(
    server: FaultServer, session: requests.Session
) -> None:
    """Only a limit for the first part is a reason to ask again."""
    server.default = sse(ROLE, threading.Event(), done=False)
    with (
        stream_chat(
            session, server.url, first_token_timeout=5.0, event_timeout=0.15, **ASK
        ) as deltas,
        pytest.raises(StreamIdle, match="event_timeout"),
    ):
        list(deltas)

    assert len(server.requests) == 1


def test_a_transient_error_before_the_first_part_is_replayed_with_a_new_key(
    server: FaultServer, session: requests.Session
) -> None:
    """A server that knows the key would repeat the error."""
    server.script(sse(ROLE, OVERLOADED, threading.Event(), done=False), good("new"))
    with stream_chat(session, server.url, **ASK) as deltas:
        assert "".join(deltas.iter_text()) == "new"

    first, second = [each.header("Idempotency-Key") for each in server.requests]
    assert first
    assert second
    assert first != second
    assert [each.error for each in deltas.completion.attempts] == ["ChatAPIError", None]


@pytest.mark.parametrize(
    ("items", "kind"),
    [
        ([{"error": {"type": "invalid_request_error"}}], ChatAPIError),
        ([chunk("a"), OVERLOADED], ChatAPIError),
        ([ROLE], StreamTruncated),
    ],
    ids=["permanent", "behind a part", "a clean end"],
)
def test_other_failures_are_the_callers_at_once(
    items: list[Any], kind: type[Exception], server: FaultServer, session: requests.Session
) -> None:
    """They would come again, or somebody has seen half of it."""
    server.script(sse(*items, done=False), good())
    with stream_chat(session, server.url, **ASK) as deltas, pytest.raises(kind):
        list(deltas)

    assert len(server.requests) == 1


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_the_replay_is_one_of_the_retries(retries: int, server: FaultServer) -> None:
    """Two resets before the response, and a stall in it: three requests are all there are."""
    server.script(reset(), sse(ROLE, threading.Event(), done=False), good("new"))
    policy = RetryPolicy(max_retries=retries, wait=no_wait)
    with mounted(server, max_retries=policy) as session:
        if retries == 2:
            with stream_chat(session, server.url, first_token_timeout=0.2, **ASK) as deltas:
                assert "".join(deltas.iter_text()) == "new"
            return
        with pytest.raises(requests.RequestException) as caught:
            list(stream_chat(session, server.url, first_token_timeout=0.2, **ASK))

    assert len(server.requests) == retries + 1
    assert caught.value.attempts[-1].stopped_by in (  # type: ignore[attr-defined]
        "exhausted",
        "policy",
    )


def test_complete_chat_asks_again_as_often_as_it_may(
    server: FaultServer, session: requests.Session
) -> None:
    """It does so for a stall in the head and in the body alike."""
    stall = sse(ROLE, threading.Event(), done=False)
    server.script(silence(), stall, good("new"))
    found = complete_chat(session, server.url, first_token_timeout=0.2, **ASK)

    assert found.content == "new"
    assert len(found.attempts) == server.accepted == 3


def test_the_total_time_bounds_all_of_it(server: FaultServer) -> None:
    """The adapter's own limits hold as before."""
    server.default = sse(ROLE, threading.Event(), done=False)
    began = time.monotonic()
    with (
        mounted(server, timeouts=Timeouts(total=0.5)) as session,
        stream_chat(session, server.url, first_token_timeout=0.3, **ASK) as deltas,
        pytest.raises(DeadlineExceeded),
    ):
        list(deltas)

    in_time(time.monotonic() - began, 1.0)


def test_the_idle_limit_of_the_call_stays_that_of_the_body(server: FaultServer) -> None:
    """It is the wait for the head that ends sooner."""
    server.script(sse(chunk("a"), 0.5, chunk("b"), threading.Event(), done=False))
    with (
        mounted(server, timeouts=Timeouts(idle=0.8)) as session,
        stream_chat(session, server.url, first_token_timeout=0.2, **ASK) as deltas,
        pytest.raises(StreamIdle) as caught,
    ):
        list(deltas)

    assert (caught.value.clock, caught.value.idle_timeout) == ("bytes", 0.8)
    assert caught.value.partial.content == "ab"


def test_heartbeats_come_before_the_first_part(
    server: FaultServer, session: requests.Session
) -> None:
    """They show nothing of the answer: a stall behind them is replayed all the same."""
    server.script(sse(ROLE, threading.Event(), done=False), good("new"))
    with stream_chat(session, server.url, first_token_timeout=0.35, heartbeat=0.1, **ASK) as deltas:
        found = list(deltas)

    assert found[0] is HEARTBEAT
    assert deltas.completion.content == "new"


def test_a_plain_adapter_has_the_limit_in_the_body(server: FaultServer) -> None:
    """There is no replay."""
    server.default = sse(ROLE, threading.Event(), done=False)
    with requests.Session() as session:
        session.verify = server.ca_path or True
        with (
            stream_chat(session, server.url, first_token_timeout=0.2, **ASK) as deltas,
            pytest.raises(StreamIdle, match="first_token_timeout"),
        ):
            list(deltas)

    assert len(server.requests) == 1


def test_a_session_that_completes_urls_itself_is_used_as_it_is() -> None:
    """Its adapter is not known before it sends."""
    with stream_chat(Canned(events(chunk("a", "stop"))), "/v1", first_token_timeout=1, **ASK) as it:
        assert "".join(it.iter_text()) == "a"


def test_a_break_before_an_early_finish_reason_is_replayed(
    server: FaultServer, session: requests.Session
) -> None:
    """It is no part of an answer either."""
    server.script(sse(chunk("", "stop"), done=False, ending="reset"), good("new"))
    with stream_chat(session, server.url, **ASK) as deltas:
        assert "".join(deltas.iter_text()) == "new"


@pytest.mark.parametrize("status", [429, 503, 529])
def test_a_busy_provider_is_asked_again_where_the_policy_lists_its_status(
    status: int, server: FaultServer
) -> None:
    """The wait is the one that the provider names; a chat's key makes the request idempotent."""
    busy = respond(status=status, headers={"Retry-After": "0"})
    server.script(busy, good("new"), busy, good("new"))
    policy = RetryPolicy(statuses=frozenset({429, 503, 529}), wait=no_wait)
    with mounted(server, max_retries=policy) as session:
        assert complete_chat(session, server.url, **ASK).content == "new"
        with stream_chat(session, server.url, **ASK) as deltas:
            assert "".join(deltas.iter_text()) == "new"

    assert len(server.requests) == 4


def test_a_break_is_still_replayed_where_nothing_was_said(
    server: FaultServer, session: requests.Session
) -> None:
    """A limit for the first part makes no difference."""
    server.script(sse(ROLE, done=False, ending="reset"), good("new"))
    with stream_chat(session, server.url, first_token_timeout=5, **ASK) as deltas:
        assert "".join(deltas.iter_text()) == "new"
    server.script(sse(chunk("a"), done=False, ending="reset"))
    with (
        stream_chat(session, server.url, first_token_timeout=5, **ASK) as deltas,
        pytest.raises(StreamBroken),
    ):
        list(deltas)
