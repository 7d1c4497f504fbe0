"""A WSGI application with a session that was used before the fork, for test_workers.py.

``UPSTREAM`` is the URL of a FaultServer that echoes requests. ``/ask/...`` answers with the process
id and that echo. ``/stream`` relays the upstream's stream with a heartbeat. ``/work`` takes two
seconds without the upstream. ``/hooks`` gives the number of at-fork hooks that ran in this process.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import requests

from resilient_requests import ResilientAdapter, iter_events
from resilient_requests.web import EventRelay

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

UPSTREAM = os.environ["UPSTREAM"]
HEARTBEAT_SECONDS = 0.3

hooked: list[int] = []
os.register_at_fork(after_in_child=lambda: hooked.append(os.getpid()))

adapter = ResilientAdapter()
session = requests.Session()
session.mount("http://", adapter)
session.get(
    UPSTREAM, timeout=5
)  # with --preload, and under uWSGI, this is the parent of all workers


def work() -> Iterator[bytes]:
    """Be busy for longer than streams may go on, and for less than gunicorn waits."""
    yield b"begun\n"
    time.sleep(2.0)
    yield b"done\n"


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer one request."""
    target = environ["PATH_INFO"]
    if target == "/hooks":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{os.getpid()} {hooked.count(os.getpid())}".encode()]
    if target == "/work":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return work()
    try:
        upstream = session.get(UPSTREAM + target, stream=target.startswith("/stream"), timeout=20)
    except requests.RequestException as error:
        start_response("502 Bad Gateway", [("Content-Type", "text/plain")])
        return [repr(error).encode()]
    if target.startswith("/stream"):
        relay = EventRelay(iter_events(upstream, heartbeat=HEARTBEAT_SECONDS))
        start_response("200 OK", list(relay.headers.items()))
        return relay
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} ".encode() + upstream.content]
