"""Retries that clients ask for mean what urllib3 means by them; nothing is done twice."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3

from packages.clients import CLIENTS
from packages.clients._client import load, mount
from packages.server import Reply as Answer
from packages.server import Request, Server, listen
from resilient_requests import ResilientAdapter, RetryPolicy
from resilient_requests.testing import FaultServer, reset, respond, silence, sse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from requests.adapters import HTTPAdapter

FORBIDDEN = {"message": "Resource not accessible by integration"}
LIMITED = {"message": "You have exceeded a secondary rate limit."}


# -- keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Twilio", "Telegram", "Trino"])
def test_a_message_carries_no_key(fault_server: FaultServer, name: str) -> None:
    """These servers ignore the header, so it would declare what is not so."""
    client = CLIENTS[name]()
    fault_server.default = lambda request: respond(
        client.answer(Request("POST", request.path, {}, request.body)).body
    )
    client.api = client.make(fault_server.url, ResilientAdapter)
    client.write("item00000001")

    assert [each.header("Idempotency-Key") for each in fault_server.requests] == [None]


def test_a_streamed_completion_carries_one_key_on_all_attempts(fault_server: FaultServer) -> None:
    """The openai SDK of the days of requests streams with ``stream=True``."""
    choices = {"choices": [{"index": 0, "delta": {"content": "Hello"}}]}
    fault_server.script(reset(), sse(choices))
    client = CLIENTS["OpenAI"]()
    openai = client.make(fault_server.url, ResilientAdapter)
    chunks = list(openai.ChatCompletion.create(model="m", messages=[], stream=True))
    keys = [each.header("Idempotency-Key") for each in fault_server.requests]

    assert [each.choices[0].delta.content for each in chunks] == ["Hello"]
    assert len(keys) == 2
    assert keys[0] == keys[1] is not None


# -- a Retry of their own ------------------------------------------------------------------------


def github(url: str, adapter: type[HTTPAdapter]) -> Any:
    """Return PyGithub with a short wait for rate limits."""
    retry = load("github.GithubRetry").GithubRetry(total=3, secondary_rate_wait=0.5)
    client = load("github").Github(base_url=url, retry=retry, seconds_between_requests=None)
    client.requester._Requester__createConnection()
    mount(client.requester._Requester__connection.session, adapter)
    return client


def test_pygithub_does_not_repeat_a_plain_403(
    fault_server: FaultServer, adapter: type[HTTPAdapter]
) -> None:
    """``GithubRetry.increment`` reads the body of the 403 and raises."""
    fault_server.default = respond(json.dumps(FORBIDDEN), status=403)
    with pytest.raises(load("github").GithubException) as caught:
        github(fault_server.url, adapter).get_user("me").login  # noqa: B018  # it asks

    assert caught.value.status == 403
    assert len(fault_server.requests) == 1


def test_pygithub_waits_for_a_rate_limit(
    fault_server: FaultServer, adapter: type[HTTPAdapter]
) -> None:
    """``GithubRetry.increment`` returns a Retry with a wait of its own."""
    found = respond(json.dumps({"login": "me", "url": fault_server.url}))
    fault_server.script(respond(json.dumps(LIMITED), status=403), found)
    since = time.monotonic()
    login = github(fault_server.url, adapter).get_user("me").login

    assert login == "me"
    assert len(fault_server.requests) == 2
    assert time.monotonic() - since >= 0.5


def test_posthog_gets_its_retry_of_a_silent_server(
    fault_server: FaultServer, adapter: type[HTTPAdapter]
) -> None:
    """``Retry(total=2, connect=2, read=2)`` repeats a GET that has timed out."""
    fault_server.script(silence(), respond(b'{"name": 1}'))
    posthog = load("posthog.request")
    retries = posthog._session.get_adapter("https://").max_retries
    posthog._session.mount("http://", adapter(max_retries=retries))
    answer = posthog.get("key", "/flags", fault_server.url, timeout=0.4)

    assert answer.data == {"name": 1}
    assert len(fault_server.requests) == 2


def test_spotipy_survives_an_idle_connection_that_died(fault_server: FaultServer) -> None:
    """``Retry(read=False)`` says nothing about a request that the server never had."""
    client = CLIENTS["Spotipy"]()
    spotify = client.make(fault_server.url, ResilientAdapter)
    fault_server.default = respond(b'{"name": 1}', headers={"Content-Type": "application/json"})
    spotify.track("6rqhFgbbKwnb9MLmUQDhG6")
    fault_server.script(reset(applies=False))

    assert spotify.track("6rqhFgbbKwnb9MLmUQDhG6") == {"name": 1}


def test_each_call_of_requests_futures_outlives_a_restart(adapter: type[HTTPAdapter]) -> None:
    """Twenty calls at once, two seconds without a server: nobody asked for a budget."""
    session = requests.Session()
    retry = urllib3.Retry(total=6, backoff_factor=0.2)
    session.mount("http://", adapter(max_retries=retry))
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    futures = load("requests_futures.sessions").FuturesSession(session=session, max_workers=20)
    with futures:
        calls = [futures.get(f"http://127.0.0.1:{port}/{n}") for n in range(20)]
        time.sleep(2)
        with Server(Greeter(), socket.create_server(("127.0.0.1", port))):
            statuses = [call.result(timeout=20).status_code for call in calls]

    assert statuses == [200] * 20


class Greeter:
    """Answers at once, or after so many seconds."""

    honours_keys = False

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    def answer(self, request: Request) -> Answer:
        """Wait, and greet."""
        time.sleep(self._seconds)
        return Answer(b"hello")


@pytest.mark.parametrize(("method", "expected"), [("get", 3), ("post", 1)])
def test_requests_futures_writes_the_retries_that_it_is_given(
    fault_server: FaultServer, adapter: type[HTTPAdapter], method: str, expected: int
) -> None:
    """It assigns ``adapter.max_retries``; attempts must not multiply."""
    fault_server.default = reset()
    session = requests.Session()
    session.mount("http://", adapter())
    options = {"max_retries": urllib3.Retry(2)}
    kind = load("requests_futures.sessions").FuturesSession
    with kind(session=session, adapter_kwargs=options) as futures:
        call = getattr(futures, method)(fault_server.url)
        with pytest.raises(requests.ConnectionError):
            call.result(timeout=10)

    assert len(fault_server.requests) == expected


def test_retries_that_google_auth_copies_are_ours() -> None:
    """``configure_mtls_channel`` hands ``max_retries`` to the next adapter, which may be ours."""
    policy = RetryPolicy(max_retries=5, statuses=frozenset({503}))
    read = ResilientAdapter(max_retries=policy).max_retries

    assert isinstance(read, urllib3.Retry)
    assert (read.total, read.read) == (0, False)
    assert ResilientAdapter(max_retries=read).retry_policy == policy


# -- pools of their own --------------------------------------------------------------------------


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[Path, Server]]:
    """A server on a UNIX socket that thinks for longer than its clients wait."""
    path = tmp_path / "s"
    with Server(Greeter(1.0), listen(path)) as server:
        yield path, server


@pytest.mark.parametrize("name", ["DockerUnix", "RequestsUnixsocket"])
def test_a_response_timeout_over_a_unix_socket_is_not_repeated(
    slow: tuple[Path, Server], adapter: type[HTTPAdapter], name: str
) -> None:
    """Their pools make connections that are not ours: only urllib3's classes tell what was sent."""
    path, server = slow
    client = CLIENTS[name]()
    client.api = client.make(str(path), adapter)
    with pytest.raises(requests.ReadTimeout):
        client.write("item00000001")

    assert server.requests == 1
