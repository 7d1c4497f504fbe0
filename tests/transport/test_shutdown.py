"""A process that is told to end does so in time, wherever its main thread is."""

from __future__ import annotations

import gc
import os
import queue
import random
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3
from clients import in_time, until
from fake_clock import adapter_of, mounted

import resilient_requests
from resilient_requests import iter_events
from resilient_requests.testing import FaultServer, Reply, reset, respond, silence, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from typing_extensions import Self

SCRIPT = Path(__file__).resolve().parents[1] / "support" / "terminated_script.py"
GRACE = 0.2
EVERY = int(
    os.environ.get("INTERRUPTED_LINES", "10")
)  # 1: before each of some 3 000 lines, half a minute

REPLIES: dict[str, Reply] = {
    "head": silence(),
    "send": respond(b"ok", read="head", head_pause=60.0),
    "backoff": reset(),
    "stream": stream([b"data: 1\n\n", 60.0]),
    "pool": stream([b"data: 1\n\n", 60.0]),
}


def terminated(where: str, url: str, *more: str) -> tuple[str, float]:
    """Send SIGTERM to the script when it is ready; its error, and the seconds that it took."""
    command = [sys.executable, "-W", "error", str(SCRIPT), where, url, str(GRACE), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    error, seconds = rest.split()[-2:]
    return error, float(seconds)


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("where", REPLIES)
def test_sigterm_ends_a_call_within_the_grace(where: str, tls: bool) -> None:
    """The handler runs on the thread that it has interrupted, whose locks it must not wait for."""
    with FaultServer(tls=tls, receive_buffer=4096, default=REPLIES[where]) as server:
        error, seconds = terminated(
            where, server.url, *([server.ca_path] if server.ca_path else [])
        )

    assert error == ("StreamBroken" if where == "stream" else "ConnectionError")
    in_time(seconds, GRACE + 1)


@pytest.mark.slow
def test_sigterm_ends_a_dial_within_the_grace() -> None:
    """A dial that nobody accepts stays in SYN_SENT, where a shutdown of the socket wakes it."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        error, seconds = terminated("connect", f"http://127.0.0.1:{address[1]}/")

    assert error == "ConnectionError"
    in_time(seconds, GRACE + 1)


@pytest.mark.slow
def test_sigterm_ends_a_handshake_within_the_grace() -> None:
    """While TLS shakes hands the socket has no descriptor of its own."""
    with FaultServer(tls=True) as server:
        server.on_handshake(silence())
        error, seconds = terminated("handshake", server.url, server.ca_path or "")

    assert error == "ConnectionError"
    in_time(seconds, GRACE + 1)


class Manager:
    """A proxy's pools; does something else when they are cleared."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self.clear = meanwhile


def live_stream(session: requests.Session, server: FaultServer) -> Iterator[Any]:
    """A stream that has begun, and goes on without an end."""
    server.script(stream([b"data: 1\n\n"], ending="silence"))
    lines: Iterator[Any] = session.get(server.url, stream=True).iter_lines()
    assert next(lines) == b"data: 1"
    return lines


@pytest.mark.parametrize("ends", [True, False], ids=["shutdown", "close"])
def test_a_proxy_that_is_new_at_this_moment_is_no_hindrance(
    fault_server: FaultServer, ends: bool
) -> None:
    """Another thread's call may come to know one at any time."""
    with mounted() as session:
        adapter = adapter_of(session)
        lines = live_stream(session, fault_server)
        adapter.proxy_manager["one"] = Manager(
            lambda: adapter.proxy_manager_for("http://new.example:1")
        )
        adapter.proxy_manager["two"] = Manager(lambda: None)
        (adapter.shutdown if ends else adapter.close)()
        del adapter.proxy_manager["one"], adapter.proxy_manager["two"]

        assert adapter.stats().in_flight == 1
        if ends:
            with pytest.raises(resilient_requests.StreamBroken, match="shut down"):
                list(lines)
        lines.close()  # type: ignore[attr-defined]


def test_a_shutdown_ends_calls_whatever_fails_before(fault_server: FaultServer) -> None:
    """No stream goes on, also where a pool manager of somebody else's cannot be cleared."""

    def fail() -> None:
        raise ZeroDivisionError

    with mounted() as session:
        adapter = adapter_of(session)
        lines = live_stream(session, fault_server)
        adapter.proxy_manager["one"] = Manager(fail)
        with pytest.raises(ZeroDivisionError):
            adapter.shutdown()
        del adapter.proxy_manager["one"]

        with pytest.raises(resilient_requests.StreamBroken, match="shut down"):
            list(lines)


class Interruption:
    """Raises SIGUSR1 before the n-th line of the package, of urllib3 or of a queue."""

    ours = (
        str(Path(resilient_requests.__file__).parent),
        str(Path(urllib3.__file__).parent),
        queue.__file__,
    )

    def __init__(self, line: int) -> None:
        self._line = line
        self.lines = 0

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.settrace(self._before)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._run if frame.f_code.co_filename.startswith(self.ours) else None

    def _run(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            self.lines += 1
            if self.lines == self._line:
                signal.raise_signal(signal.SIGUSR1)
        return self._run


def interrupted(server: FaultServer, line: int) -> int:
    """Use a session for all it is good for, and shut it down before that line; the lines seen."""
    with mounted(max_retries=0, pool_maxsize=1, pool_block=True) as session:
        session.verify, adapter = server.ca_path or True, adapter_of(session)
        before = signal.signal(signal.SIGUSR1, lambda *_: adapter.shutdown())
        try:
            # A call that finds the adapter shut down, or that is ended, says so; all else works as
            # ever.
            with (
                suppress(requests.ConnectionError, resilient_requests.StreamBroken),
                Interruption(line) as interruption,
            ):
                session.get(server.url)
                adapter.rotate()
                with iter_events(session.get(f"{server.url}/stream", stream=True)) as events:
                    assert [event.data for event in events] == ["1", "2"]
                adapter.close()
        finally:
            signal.signal(signal.SIGUSR1, before)
        stats = adapter.stats()
        assert (stats.in_flight, stats.idle) == (0, 0), line
    return interruption.lines


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="the platform has no SIGUSR1")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_handler_may_shut_down_before_any_line(tls: bool) -> None:
    """For any lock of the interrupted line, nothing hangs, stays open or is listed for ever."""
    with FaultServer(tls=tls, default=respond(b"ok")) as server:
        server.route("/stream", stream([b"data: 1\n\n", b"data: 2\n\n"]))
        lines = interrupted(server, 0)
        for line in range(random.randint(1, EVERY), lines, EVERY):
            interrupted(server, line)
        until(lambda: server.open_connections == 0)
        gc.collect()  # a response that was dropped open warns

    assert lines > 1000
