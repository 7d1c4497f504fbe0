"""The incidents: their staging, how either client meets them, and our promise for each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import requests
import tenacity
import urllib3
from requests.adapters import HTTPAdapter

from resilient_requests.call import CancelScope, Timeouts
from resilient_requests.chat import stream_chat
from resilient_requests.cli.demo._stage import WARM_UP, Incident, Promise
from resilient_requests.retry import RetryPolicy
from resilient_requests.testing import FaultServer, ReceivedRequest, Reply, reset, respond, sse
from resilient_requests.transport import KeepAlivePolicy

if TYPE_CHECKING:
    from resilient_requests.cli.demo._stage import Play, Stage

__all__ = ["INCIDENTS"]

# The idle limit of the simulated middlebox, in seconds; real ones have half a minute to an hour.
_FORGETS_AFTER = 0.3
_IDLE = 0.5
_POOLED = 6
_CANCEL_AFTER = 0.3
_FORKED = "resilient_requests.cli.demo._forked"
_CALLS = 20  # in each process
_JSON: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "?"}],
    "stream": True,
}
_HALF = "It is"
_KEY = "Idempotency-Key"


def _answer(response: requests.Response) -> str:
    attempts = len(getattr(response, "attempts", ()))
    return (
        f"{response.status_code} at attempt {attempts}"
        if attempts > 1
        else str(response.status_code)
    )


def _idle_reset(stage: Stage) -> str:
    server = stage.serve(idle_limit=_FORGETS_AFTER, idle_fault="reset")
    session = stage.session()
    session.post(server.url + WARM_UP)
    time.sleep(_IDLE)
    stage.begin()
    return _answer(session.post(server.url, json=_JSON))


def _idle_dropped(stage: Stage) -> str:
    server = stage.serve(idle_limit=_FORGETS_AFTER, idle_fault="drop")
    session = stage.session(keepalive=KeepAlivePolicy(expiry=_FORGETS_AFTER))
    session.post(server.url + WARM_UP)
    time.sleep(_IDLE)
    stage.begin()
    return _answer(session.post(server.url, json=_JSON))


def _six_dead(stage: Stage) -> str:
    server = stage.serve(default=respond(b"ok", head_pause=0.1), idle_limit=_FORGETS_AFTER)
    session = stage.session()
    for response in [session.get(server.url + WARM_UP, stream=True) for _ in range(_POOLED)]:
        _ = response.content  # reading to the end returns each connection to the pool
    time.sleep(_IDLE)

    def call(_: int) -> int:
        try:
            return len(getattr(session.get(server.url), "attempts", "1"))
        except requests.ConnectionError:
            return 0

    stage.begin()
    with ThreadPoolExecutor(_POOLED - 1) as pool:
        attempts = [call(0), *pool.map(call, range(1, _POOLED))]
    answered = sum(map(bool, attempts))
    return f"{answered} of {_POOLED} answered" + (
        f", {sum(attempts)} attempts" if answered == _POOLED else ""
    )


def _get_reset(stage: Stage) -> str:
    server = stage.serve(reset(applies=False))
    session = stage.session()
    stage.begin()
    return _answer(session.get(server.url))


def _acts_and_resets(stage: Stage) -> FaultServer:
    """Serve an API that acts on the first request and resets; it acts once for each key."""
    server = stage.serve(reset(applies=True))

    def answer(request: ReceivedRequest) -> Reply:
        key = request.header(_KEY)
        return respond(b"ok", applies=key is None or not server.applied_keys[key])

    server.default = answer
    return server


def _bare_post_reset(stage: Stage) -> str:
    server = _acts_and_resets(stage)
    session = stage.session()
    stage.begin()
    return _answer(session.post(server.url, json=_JSON))


def _streamed_post_reset(stage: Stage) -> str:
    server = _acts_and_resets(stage)
    session = stage.session()
    stage.begin()
    with session.post(server.url, json=_JSON, stream=True) as response:
        keys = {request.header(_KEY) for request in server.requests}
        return _answer(response) + (", same key" if len(keys - {None}) == len(keys) == 1 else "")


def _reset_always(stage: Stage) -> str:
    server = stage.serve(default=reset(applies=False))
    session = stage.session()
    stage.begin()
    return _answer(session.get(server.url))


def _stalled(stage: Stage) -> str:
    server = stage.serve(sse("one", "two", done=False, ending="silence"))
    session = stage.session(timeouts=Timeouts(idle=0.5))
    stage.begin()
    with session.post(server.url, json=_JSON, stream=True) as response:
        lines = [line for line in response.iter_lines() if line]
    return f"{response.status_code}, {len(lines)} events"


def _cut_answer(stage: Stage) -> str:
    """Return the URL of an API with a truncated answer that only the connection's end delimits."""
    chunk = {"choices": [{"index": 0, "delta": {"content": _HALF}, "finish_reason": None}]}
    return stage.serve(sse(chunk, done=False, framing="close")).url


def _cut_plain(stage: Stage) -> str:
    url, session = _cut_answer(stage), stage.session()
    stage.begin()
    with session.post(url, json=_JSON, stream=True) as response:
        events = [json.loads(line[len(b"data: ") :]) for line in response.iter_lines() if line]
    text = "".join(event["choices"][0]["delta"]["content"] for event in events)
    return f"{response.status_code}, looks complete: {text!r}"


def _cut(stage: Stage) -> str:
    url, session = _cut_answer(stage), stage.session()
    stage.begin()
    with stream_chat(session, url, model=_JSON["model"], messages=_JSON["messages"]) as stream:
        return f"looks complete: {''.join(stream.iter_text())!r}"


def _backoff_plain(stage: Stage) -> str:
    server = stage.serve(default=reset(applies=False))
    retries = urllib3.Retry(3, backoff_factor=1.5, allowed_methods=None)
    session = stage.mounted(HTTPAdapter(max_retries=retries))
    stage.begin()
    timer = threading.Timer(_CANCEL_AFTER, session.close)  # requests offers no other means
    timer.start()
    return _answer(session.get(server.url))


def _backoff(stage: Stage) -> str:
    server = stage.serve(default=reset(applies=False))
    session = stage.session(max_retries=RetryPolicy(wait=tenacity.wait_fixed(60)))
    stage.begin()
    with CancelScope() as scope:
        timer = threading.Timer(_CANCEL_AFTER, scope.cancel)
        timer.start()
        return _answer(session.get(server.url))


def _echo(request: ReceivedRequest) -> Reply:
    # The pause makes both processes wait for an answer at the same time.
    return respond(request.target, head_pause=0.02)


def _after_fork(stage: Stage) -> str:
    server = stage.serve(default=_echo)
    command = [sys.executable, "-m", _FORKED, stage.adapter_name(), server.url, str(_CALLS)]
    stage.begin()
    done = subprocess.run(  # noqa: S603  # our own module
        command, capture_output=True, text=True, check=True, timeout=20
    )
    wrong = 2 * _CALLS - sum(map(int, done.stdout.split()))
    if wrong:
        return f"{wrong} of {2 * _CALLS} answers were wrong"
    return f"all {2 * _CALLS} answers right"


def _same(play: Play, title: str, promise: Promise) -> Incident:
    """Return an incident with the same code for both clients: only the adapter differs."""
    return Incident(title=title, plain=play, resilient=play, promise=promise)


INCIDENTS = (
    _same(
        _idle_reset,
        "Idle connection, reset on use",
        Promise(outcome="200 at attempt 2", requests=1, applied=1),
    ),
    _same(
        _idle_dropped,
        "Idle connection, packets vanish",
        Promise(outcome="200", requests=1, applied=1),
    ),
    _same(
        _six_dead,
        "Six dead connections: one call, then five at once",
        Promise(outcome="6 of 6 answered", requests=6, applied=6),
    ),
    _same(
        _get_reset,
        "A GET is reset, not answered",
        Promise(outcome="200 at attempt 2", requests=2, applied=1),
    ),
    _same(
        _bare_post_reset,
        "Bare POST, reset after the server acted: not sent again",
        Promise(outcome="ConnectionError", requests=1, applied=1),
    ),
    _same(
        _streamed_post_reset,
        "The same with stream=True: sent again with the same key",
        Promise(outcome="200 at attempt 2, same key", requests=2, applied=1),
    ),
    _same(
        _reset_always,
        "Every connection is reset",
        Promise(outcome="ConnectionError", requests=3, applied=0),
    ),
    _same(
        _stalled,
        "A stream goes silent; its limit is 0.5 s",
        Promise(outcome="StreamIdle", requests=1, applied=1),
    ),
    Incident(
        title="An answer is cut off, and its end looks like any other",
        plain=_cut_plain,
        resilient=_cut,
        promise=Promise(outcome="StreamTruncated", requests=1, applied=1),
    ),
    Incident(
        title="A session is used by parent and child after a fork",
        plain=_after_fork,
        resilient=_after_fork,
        promise=Promise(outcome="all 40 answers right", requests=40, applied=40, within=20.0),
        limit=10.0,
        possible=hasattr(os, "fork"),
    ),
    Incident(
        title="Cancelled after 0.3 s, while waiting for the next retry",
        plain=_backoff_plain,
        resilient=_backoff,
        promise=Promise(outcome="Cancelled", requests=1, applied=0),
    ),
)
