"""A Django view that passes the answer of a language model on to a browser.

    python chat_django.py

Needs Django, which is not among our extras for users; without it the example says so and ends.
"""

# Django has no types: pyright guesses them from its code.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import json

import requests

from resilient_requests import ResilientAdapter, stream_chat
from resilient_requests.testing import FaultServer, respond, sse
from resilient_requests.web import EventRelay

try:
    import django
    from django.conf import settings
    from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
    from django.test import Client
    from django.urls import path
except ImportError:
    raise SystemExit(print("Django is not installed: nothing to show")) from None

session = requests.Session()  # one for the life of the process
session.mount("http://", ResilientAdapter())


def chat(request: HttpRequest) -> HttpResponseBase:
    """Answer a prompt, which comes as JSON: URLs end up in logs."""
    messages = [{"role": "user", "content": json.loads(request.body)["prompt"]}]
    try:
        # Checks status and content type: until here trouble is a proper 502.
        stream = stream_chat(
            session, settings.UPSTREAM, model="m", messages=messages, heartbeat=settings.HEARTBEAT
        )
    except requests.RequestException as error:
        return HttpResponse(type(error).__name__, status=502)
    relay = EventRelay(stream)
    # GZipMiddleware would collect the whole answer where there is no encoding.
    headers = {**relay.headers, "Content-Encoding": "identity"}
    return StreamingHttpResponse(relay, headers=headers)


urlpatterns = [path("chat", chat)]


def chunk(text: str = "", finish: str | None = None) -> dict[str, object]:
    """A chunk, as providers send it."""
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


if __name__ == "__main__":
    whole = sse(chunk("Hi"), chunk(finish="stop"))
    cut = sse(chunk("Hi"), done=False, ending="reset")
    silent = sse(chunk("Hi"), done=False, ending="silence")
    with FaultServer(whole, cut, respond(status=401), silent) as server:
        settings.configure(
            ALLOWED_HOSTS=["testserver"],
            HEARTBEAT=0.1,  # in earnest: 15
            MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"],
            ROOT_URLCONF=__name__,
            UPSTREAM=server.url,
        )
        django.setup()
        client = Client(headers={"Accept-Encoding": "gzip"})
        hello = {"prompt": "hello"}

        body = b"".join(client.post("/chat", hello, "application/json")).decode()
        print(body)
        assert body.endswith('event: done\ndata: {"finish_reason": "stop"}\n\n')

        body = b"".join(client.post("/chat", hello, "application/json")).decode()
        print(body)
        assert 'event: error\ndata: {"type": "StreamBroken", "reason": "' in body

        assert client.post("/chat", hello, "application/json").status_code == 502

        response = client.post("/chat", hello, "application/json")
        written = iter(response)
        assert next(written) == b'data: {"content": "Hi"}\n\n'
        assert next(written) == b": keep-alive\n\n"
        ended = sum(connection.ended is not None for connection in server.connections)
        response.close()  # the browser leaves
        assert server.wait_for_disconnects(ended + 1)
        print("the browser has left, and the upstream connection is closed")
    session.close()
