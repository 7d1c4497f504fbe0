"""Clients that read streams get whole chunks, obey their own timeouts, and resume after a stall."""

from __future__ import annotations

import base64
import io
import json
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3

from packages.clients._client import load, mount
from resilient_requests.testing import Pause, Reply, Send, Silence, respond, stream

if TYPE_CHECKING:
    from requests.adapters import HTTPAdapter

    from resilient_requests.testing import FaultServer
    from resilient_requests.testing._request import ReceivedRequest

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


# -- chunk boundaries ---------------------------------------------------------------------------


def watched(*values: bytes) -> bytes:
    """Return one message of etcd's watch with an event for each value."""
    events = [
        {"kv": {"key": base64.b64encode(b"key").decode(), "value": base64.b64encode(v).decode()}}
        for v in values
    ]
    return json.dumps({"result": {"events": events}}).encode() + b"\n"


CREATED = chunk(json.dumps({"result": {"created": True}}).encode() + b"\n")
BIG = watched(b"x" * 300_000)
WATCHES = {
    "chunks in one packet": (Send(CREATED + chunk(watched(b"1")) + chunk(watched(b"2"))),),
    "a chunk in many packets": (
        Send(CREATED + chunk(BIG)[:100_000]),
        Pause(0.05),
        Send(chunk(BIG)[100_000:] + chunk(watched(b"2"))),
    ),
    "a chunk cut in its size": (
        Send(CREATED + chunk(watched(b"1"))[:1]),
        Pause(0.05),
        Send(chunk(watched(b"1"))[1:] + chunk(watched(b"2"))),
    ),
}


@pytest.mark.parametrize("case", WATCHES)
def test_etcd3gw_sees_each_event(
    fault_server: FaultServer, adapter: type[HTTPAdapter], case: str
) -> None:
    """It parses each item of ``iter_content(None)`` as JSON, in a thread that dies in silence."""
    fault_server.default = Reply((Send(HEAD), *WATCHES[case], Silence()))
    session = mount(requests.Session(), adapter)
    client = load("etcd3gw").client(
        "127.0.0.1", fault_server.port, session=session, api_path="/v3/"
    )
    events: list[Any] = []
    came = threading.Semaphore(0)

    def callback(event: Any) -> None:
        events.append(event)
        came.release()

    watcher = load("etcd3gw.watch").Watcher(client, "key", callback)
    both = came.acquire(timeout=3) and came.acquire(timeout=3)
    fault_server.close()
    watcher.stop()

    assert both
    assert [len(event["kv"]["value"]) for event in events] in ([1, 1], [300_000, 1])


# -- timeouts that a client sets on the socket ---------------------------------------------------


def frame(text: bytes) -> bytes:
    """Return text as docker multiplexes it."""
    return struct.pack(">BxxxL", 1, len(text)) + text


@pytest.mark.parametrize("tty", [False, True], ids=["multiplexed", "tty"])
def test_docker_follows_logs_through_silence(
    fault_server: FaultServer, adapter: type[HTTPAdapter], tty: bool
) -> None:
    """docker-py sets the socket's timeout to None once the logs have begun."""
    first, second = (b"one", b"two") if tty else (frame(b"one"), frame(b"two"))
    logs = (Send(HEAD + chunk(first)), Pause(1.2), Send(chunk(second) + LAST))
    fault_server.route("/v1.44/containers/c/json", respond(json.dumps({"Config": {"Tty": tty}})))
    fault_server.default = Reply(logs)
    address = fault_server.url.replace("http", "tcp")
    client = load("docker").DockerClient(base_url=address, version="1.44", timeout=0.4)
    mount(client.api, adapter)

    parts = list(client.api.logs("c", follow=True, stream=True))

    assert "".join(part if isinstance(part, str) else part.decode() for part in parts) == "onetwo"


# -- resuming after a stall ----------------------------------------------------------------------

WHOLE = bytes(range(256)) * 64


def stalling(body: bytes, after: int) -> Reply:
    """Return an answer with a length, of which no more than so many bytes come."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    return Reply((Send(head + body[:after]), Silence()))


def ranged(request: ReceivedRequest) -> Reply:
    """Answer with a stall in the middle, or with the rest that is asked for."""
    begin = request.header("range")
    if begin is None:
        return stalling(WHOLE, 5000)
    start = int(begin.removeprefix("bytes=").partition("-")[0])
    content_range = f"bytes {start}-{len(WHOLE) - 1}/{len(WHOLE)}"
    return respond(WHOLE[start:], status=206, headers={"Content-Range": content_range})


def test_huggingface_hub_resumes_a_download_that_stalls(
    fault_server: FaultServer, adapter: type[HTTPAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for the rest with ``Range``, after a ``requests.ConnectionError``."""
    constants = load("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)
    load("huggingface_hub").configure_http_backend(lambda: mount(requests.Session(), adapter))
    fault_server.default = ranged
    file = io.BytesIO()

    load("huggingface_hub.file_download").http_get(fault_server.url, file)

    assert file.getvalue() == WHOLE
    assert [each.header("range") for each in fault_server.requests] == [None, "bytes=4096-"]


def test_google_cloud_storage_goes_on_after_a_stall(
    fault_server: FaultServer, adapter: type[HTTPAdapter]
) -> None:
    """Its retries know ``requests.ConnectionError``."""
    replies = iter([stalling(WHOLE, 5000), respond(WHOLE)])
    path = "/download/storage/v1/b/b/o/o"
    fault_server.route(path, lambda request: next(replies))
    session = load("google.auth.transport.requests").AuthorizedSession(
        load("google.auth.credentials").AnonymousCredentials()
    )
    client = load("google.cloud.storage").Client(
        "project",
        credentials=session.credentials,
        _http=mount(session, adapter),
        client_options={"api_endpoint": fault_server.url},
    )

    data = client.bucket("b").blob("o").download_as_bytes(timeout=0.5, checksum=None)

    assert data == WHOLE
    assert len([each for each in fault_server.requests if each.path == path]) == 2


def test_tweepy_reconnects_a_stream_that_stalls(
    fault_server: FaultServer, adapter: type[HTTPAdapter]
) -> None:
    """It knows ``requests.ConnectionError`` and ``Timeout``, and ends on everything else."""
    stalled = stream([b"one\r\n"], content_type="application/json", ending="silence")
    fault_server.script(stalled, stream([b"two\r\n"], content_type="application/json"))
    tweets = load("tweepy.streaming").BaseStream(chunk_size=1, max_retries=3)
    mount(tweets.session, adapter)
    seen: list[bytes] = []

    def on_data(data: bytes) -> None:
        seen.append(data)
        if data == b"two":
            tweets.disconnect()

    tweets.on_data = on_data
    for told in ("connect", "keep_alive", "closed", "connection_error", "exception", "disconnect"):
        setattr(tweets, f"on_{told}", lambda *_: None)
    tweets._connect("GET", fault_server.url, timeout=0.4)

    assert seen == [b"one", b"two"]


STALLS = {
    "length": stalling(b"123456789", 4),
    "chunked": stream([b"1234"], ending="silence"),
}


@pytest.mark.parametrize("framing", STALLS)
def test_a_stall_reads_as_requests_words_it(
    fault_server: FaultServer, adapter: type[HTTPAdapter], framing: str
) -> None:
    """Clients look at the text, at the class, and at ``args[0]``."""
    fault_server.default = STALLS[framing]
    session = mount(requests.Session(), adapter)
    response = session.get(fault_server.url, stream=True, timeout=0.3)
    with pytest.raises(requests.ConnectionError) as caught:
        list(response.iter_content(3))

    assert isinstance(caught.value.args[0], urllib3.exceptions.ReadTimeoutError)
    assert "Read timed out" in str(caught.value)


CUTS = {
    "length": (
        respond(b"123456789", cut=4, ending="fin"),
        "IncompleteRead(4 bytes read, 5 more expected)",
    ),
    "chunked": (stream([b"1234"], ending="fin"), "Response ended prematurely"),
    "reset": (stream([b"1234"], ending="reset"), "Connection reset by peer"),
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_body_reads_as_requests_words_it(
    fault_server: FaultServer, adapter: type[HTTPAdapter], cut: str
) -> None:
    """The same for a connection that is gone."""
    fault_server.default, words = CUTS[cut]
    session = mount(requests.Session(), adapter)
    response = session.get(fault_server.url, stream=True, timeout=2)
    with pytest.raises(requests.exceptions.ChunkedEncodingError) as caught:
        list(response.iter_content(3))

    assert isinstance(caught.value.args[0], urllib3.exceptions.ProtocolError)
    assert words in str(caught.value)
