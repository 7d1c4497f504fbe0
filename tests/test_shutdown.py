"""A process that is told to end does so in time, wherever its main thread is; the recipe of the documentation."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from resilient_requests.testing import FaultServer, Reply, reset, respond, silence, stream

SCRIPT = Path(__file__).with_name("terminated.py")
GRACE = 0.2

REPLIES: dict[str, Reply] = {
    "head": silence(),
    "send": respond(b"ok", read="head", head_pause=60.0),
    "backoff": reset(),
    "stream": stream([b"data: 1\n\n", 60.0]),
    "pool": stream([b"data: 1\n\n", 60.0]),
}


def terminated(where: str, url: str, *more: str) -> tuple[str, float]:
    """Run the script, send SIGTERM when it is ready; what the call raised, and after how many seconds."""
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
    """The handler runs on the thread that it has interrupted: it must wait for nothing that this thread holds."""
    with FaultServer(tls=tls, receive_buffer=4096, default=REPLIES[where]) as server:
        error, seconds = terminated(where, server.url, *([server.ca_path] if server.ca_path else []))

    assert error == ("StreamBroken" if where == "stream" else "ConnectionError")
    assert seconds < GRACE + 1


@pytest.mark.slow
def test_sigterm_ends_a_dial_within_the_grace() -> None:
    """A connection that nobody accepts stays in SYN_SENT, where only a shutdown of the socket wakes it."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        error, seconds = terminated("connect", f"http://127.0.0.1:{address[1]}/")

    assert error == "ConnectionError"
    assert seconds < GRACE + 1


@pytest.mark.slow
def test_sigterm_ends_a_handshake_within_the_grace() -> None:
    """While TLS shakes hands the socket has no descriptor of its own."""
    with FaultServer(tls=True) as server:
        server.on_handshake(silence())
        error, seconds = terminated("handshake", server.url, server.ca_path or "")

    assert error == "ConnectionError"
    assert seconds < GRACE + 1
