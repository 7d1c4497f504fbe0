"""A script under gevent, patched "early" or "late", that tries every way out of a call.

Run by test_gevent.py. Prints one JSON object: each trial with its outcome.
"""

from __future__ import annotations

import sys

if sys.argv[1] == "early":
    from gevent import monkey

    monkey.patch_all()

import json
import time
from typing import Any

import requests

from resilient_requests import CancelScope, ResilientAdapter, iter_events
from resilient_requests.testing import FaultServer, silence, stream

if sys.argv[1] == "late":
    from gevent import monkey

    monkey.patch_all()

import gevent

EVENTS = b"data: 1\n\n"


def outcome(attempt: Any) -> str:
    """Name the outcome of an attempt; "late" if it took as long as the limits."""
    began = time.monotonic()
    try:
        result = str(attempt())
    except (Exception, gevent.Timeout) as error:  # noqa: BLE001  # only its name matters
        result = type(error).__name__
    return result if time.monotonic() - began < 5 else f"late {result}"


def tried(server: FaultServer, framing: Any) -> dict[str, str]:
    """Try everything once, over one framing."""
    adapter = ResilientAdapter()
    session = requests.Session()
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    kept: dict[str, Any] = {"verify": server.ca_path or True}

    def begun(*items: Any, **options: Any) -> Any:
        server.script(stream([EVENTS, *items], framing=framing))
        return iter_events(session.get(server.url, stream=True, **kept), idle_timeout=30, **options)

    results = {}
    events = begun(60.0)
    gevent.spawn_later(0.1, events.cancel)
    results["cancel of a stream"] = outcome(lambda: list(events))
    server.script(stream([EVENTS, 60.0], framing=framing))
    results["stall"] = outcome(
        lambda: list(iter_events(session.get(server.url, stream=True, **kept), idle_timeout=0.2))
    )
    events = begun(0.35, EVENTS, heartbeat=0.1)
    seen = outcome(lambda: [getattr(event, "data", "beat") for event in events])
    results["heartbeat"] = (
        "intact" if seen.startswith("['1', 'beat', 'beat', ") and seen.endswith(", '1']") else seen
    )
    server.script(silence())
    with CancelScope() as scope:
        gevent.spawn_later(0.1, scope.cancel)
        results["cancel before the head"] = outcome(lambda: session.get(server.url, **kept))
    server.script(silence())

    def killed() -> Any:
        with gevent.Timeout(0.2):
            return session.get(server.url, **kept)

    results["gevent.Timeout"] = outcome(killed)
    for kind in (OSError, TimeoutError, requests.Timeout):  # classes of the transport's own errors

        def thrown_into(reply: Any, kind: Any = kind, **options: Any) -> Any:
            server.script(reply)
            with gevent.Timeout(0.2, kind):
                return session.get(server.url, **options, **kept).content

        name = kind.__name__
        results[f"{name} before the head"] = outcome(lambda: thrown_into(silence()))
        results[f"{name} in a body"] = outcome(lambda: thrown_into(stream([EVENTS, 60.0])))
        results[f"{name} in a stream"] = outcome(
            lambda: thrown_into(stream([EVENTS, 60.0]), stream=True)
        )
    server.script(stream([EVENTS, 60.0], framing=framing))
    response = session.get(server.url, stream=True, timeout=30, **kept)
    reading = gevent.spawn(outcome, response.raw.read)
    gevent.sleep(0.1)
    results["close of raw"] = f"{outcome(response.close)}, {reading.get()}"
    events = begun(60.0)
    gevent.spawn_later(0.1, adapter.shutdown)
    results["shutdown"] = outcome(lambda: list(events))
    results["left"] = repr(adapter).partition(" in_flight")[2]
    session.close()
    return results


def main() -> None:
    """Try plain and TLS; without TLS if gevent patches after ssl was loaded, as it cannot then."""
    results = {}
    for tls in (False, True) if sys.argv[1] == "early" else (False,):
        for framing in ("chunked", "close"):
            with FaultServer(tls=tls) as server:
                results[f"{'tls' if tls else 'plain'} {framing}"] = tried(server, framing)
    print(json.dumps(results))  # noqa: T201


main()
