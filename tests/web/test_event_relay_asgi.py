"""A relay under ASGI: a client that leaves ends the upstream at once, and the loop never waits."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from chat_wires import ASK, chunk, mounted, stall
from clients import in_time, until

from resilient_requests import stream_chat
from resilient_requests.testing import FaultServer, sse
from resilient_requests.web import EventRelay

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Chat = Callable[..., EventRelay]

pytest_plugins = ["relayed_chats"]

COMMENT = b": keep-alive\n\n"
FIRST = b'data: {"content": "Hi"}\n\n'


async def no_thread_of_a_relay() -> None:
    """Wait until there is none."""
    until = time.monotonic() + 1.0
    while any(thread.name.startswith("EventRelay") for thread in threading.enumerate()):
        assert time.monotonic() < until, "a thread is left behind"
        await asyncio.sleep(0.002)


async def longest_pause(work: Coroutine[Any, Any, object]) -> float:
    """The longest time in seconds for which the event loop did nothing else during some work."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            since = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - since)

    ticking = asyncio.create_task(tick())
    await work
    await asyncio.sleep(0.01)  # shows a block that has just ended
    ticking.cancel()
    return longest


async def read_on(relay: EventRelay) -> list[bytes]:
    """All that is left."""
    return [data async for data in relay]


@pytest.mark.parametrize("heartbeat", [None, 0.05])
def test_a_cancelled_task_ends_the_upstream_at_once(
    chat: Chat, fault_server: FaultServer, heartbeat: float | None
) -> None:
    """So do uvicorn's frameworks tell that the browser has left. It must not wait for a beat."""

    async def leave() -> float:
        relay = chat(stall(), heartbeat=heartbeat)
        assert await anext(aiter(relay)) == FIRST
        reader = asyncio.create_task(read_on(relay))
        await asyncio.sleep(0.1)
        since = time.monotonic()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        left = time.monotonic() - since
        ended = await asyncio.to_thread(fault_server.wait_for_disconnects, 1)
        assert ended
        in_time(time.monotonic() - since, 0.5)
        await no_thread_of_a_relay()
        assert await read_on(relay) == []
        return left

    in_time(asyncio.run(leave()), 0.05)


def test_a_closed_coroutine_ends_the_upstream(chat: Chat, fault_server: FaultServer) -> None:
    """GeneratorExit, where another event loop drops a task: nothing can be awaited."""

    async def leave() -> None:
        relay = chat(stall())
        await anext(relay)
        step = anext(relay)
        step.send(None)
        step.close()
        assert await asyncio.to_thread(fault_server.wait_for_disconnects, 1)
        await no_thread_of_a_relay()

    asyncio.run(leave())


def test_a_step_that_was_cancelled_when_it_was_over_closes_the_stream(
    chat: Chat, fault_server: FaultServer
) -> None:
    """The event is lost, and no thread is left that would notice the cancel."""

    async def leave() -> None:
        relay = chat(stall())
        step = asyncio.ensure_future(anext(relay))
        await asyncio.sleep(0)
        until(lambda: repr(relay) == "<EventRelay open>")  # blocks the loop: the task cannot resume
        step.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await step
        assert await asyncio.to_thread(fault_server.wait_for_disconnects, 1)
        await no_thread_of_a_relay()
        assert repr(relay) == "<EventRelay ended>"

    asyncio.run(leave())


@pytest.mark.parametrize("steps", [0, 1])
def test_aclose_ends_the_upstream(chat: Chat, fault_server: FaultServer, steps: int) -> None:
    """The call may come between two steps, before the first, twice, and through `aiter`."""

    async def leave() -> None:
        relay = chat(stall())
        for _ in range(steps):
            await anext(relay)
        await relay.aclose()
        await relay.aclose()
        async with contextlib.aclosing(aiter(relay)) as same:  # type: ignore[type-var]
            assert [data async for data in same] == []
        await no_thread_of_a_relay()

    asyncio.run(leave())
    assert fault_server.wait_for_disconnects(1)


def test_aclose_from_another_task_ends_the_step(chat: Chat, fault_server: FaultServer) -> None:
    """Its task learns of the end, and of no error."""

    async def leave() -> list[bytes]:
        relay = chat(stall())
        await anext(relay)
        reader = asyncio.create_task(read_on(relay))
        while repr(relay) != "<EventRelay stepping>":
            await asyncio.sleep(0.001)
        await relay.aclose()
        return await asyncio.wait_for(reader, 0.5)

    assert asyncio.run(leave()) == []
    assert fault_server.wait_for_disconnects(1)


@pytest.mark.slow
def test_the_event_loop_never_waits(chat: Chat) -> None:
    """It waits neither for a token nor for the rest of a whole answer that does not end."""

    async def listen() -> None:
        relay = chat(sse(chunk("Hi"), 0.2, chunk(finish="stop"), threading.Event(), done=False))
        assert await anext(relay) == FIRST
        await anext(relay)
        await relay.aclose()  # reads on for a tenth of a second

    async def measured() -> float:
        return await longest_pause(listen())

    in_time(asyncio.run(measured()), 0.05)


@pytest.mark.parametrize("ending", [None, "reset"])
def test_no_thread_is_left_after_the_last_event(chat: Chat, ending: Any) -> None:
    """A response may be kept for long after its end, as by a test client."""

    async def listen() -> EventRelay:
        relay = chat(sse(chunk("Hi"), done=ending is None, ending=ending))
        assert len(await read_on(relay)) == 2
        await no_thread_of_a_relay()
        return relay

    assert repr(asyncio.run(listen())) == "<EventRelay ended>"


@pytest.mark.slow
def test_stalled_relays_do_not_wait_for_each_other() -> None:
    """An event loop has six threads of its own on two cores; name resolution needs them, too."""

    async def beats(relay: EventRelay) -> None:
        iterator = aiter(relay)
        assert await anext(iterator) == FIRST
        assert await anext(iterator) == COMMENT

    async def gather(relays: list[EventRelay]) -> None:
        await asyncio.wait_for(asyncio.gather(*map(beats, relays)), 5.0)
        waiting = [asyncio.create_task(read_on(relay)) for relay in relays]
        assert await asyncio.wait_for(asyncio.to_thread(int, "7"), 1.0) == 7
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await no_thread_of_a_relay()

    with FaultServer(default=stall()) as server, mounted(pool_maxsize=40) as session:
        relays = [
            EventRelay(stream_chat(session, server.url, **ASK, heartbeat=0.3)) for _ in range(40)
        ]
        asyncio.run(gather(relays))
        assert server.wait_for_disconnects(40)


def test_render_sees_the_context_of_the_task(chat: Chat) -> None:
    """Tracing and translation live there."""
    language = contextvars.ContextVar("language", default="none")

    async def listen() -> list[bytes]:
        relay = chat(sse(chunk("a")), render=lambda delta: f"{language.get()} {delta.content}")
        language.set("en")
        return await read_on(relay)

    assert asyncio.run(listen())[0] == b"en a"


def test_a_loop_that_would_block_the_event_loop_is_refused(chat: Chat) -> None:
    """A refused `iter` raises TypeError, after which Django tries `aiter`."""

    async def listen() -> None:
        for _ in relay:
            pytest.fail("it has begun")

    relay = chat(sse())
    with pytest.raises(TypeError, match="async for"):
        asyncio.run(listen())
    relay.close()


def test_what_aiter_returns_is_no_iterable(chat: Chat) -> None:
    """A synchronous view under ASGI runs in a thread, where `iter` would be none the wiser."""
    relay = chat(sse())
    found: Any = aiter(relay)

    with pytest.raises(TypeError):
        iter(found)
    found.close()
    assert repr(relay) == "<EventRelay ended>"
