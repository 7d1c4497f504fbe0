"""A Django view that passes the answer of a language model on to a browser.

    python chat_django.py

Needs Django, which is not among our extras for users; without it the example says so and ends.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import requests

from resilient_requests import HEARTBEAT, ChatStream, ResilientAdapter, stream_chat
from resilient_requests.testing import FaultServer, respond, sse

try:
    import django
    from django.conf import settings
    from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
    from django.test import Client
    from django.urls import path
except ImportError:
    raise SystemExit(print("Django is not installed: nothing to show")) from None

if TYPE_CHECKING:
    from typing_extensions import Self

session = requests.Session()  # one for the life of the process
session.mount("http://", ResilientAdapter())


class Relay:
    """The events for a browser: an object with close(), which Django calls when the browser has left."""

    def __init__(self, stream: ChatStream) -> None:
        self._stream = stream
        self._is_over = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._is_over:
            raise StopIteration
        try:
            delta = next(self._stream)
        except StopIteration:
            self._is_over = True
            return event("done", finish_reason=self._stream.completion.finish_reason)
        except requests.RequestException as error:
            self._is_over = (
                True  # the status has gone out long ago: the browser must learn it from an event
            )
            return event("error", type=type(error).__name__)
        if delta is HEARTBEAT or not delta.content:
            return (
                b": keep-alive\n\n"  # to write is the only way to notice that the browser has left
            )
        return event("text", text=delta.content)

    def close(self) -> None:
        """End the upstream's answer too, which costs money as long as it goes on."""
        self._stream.close()


def event(name: str, **data: object) -> bytes:
    """A server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def chat(request: HttpRequest) -> HttpResponseBase:
    """Answer ``?prompt=``."""
    messages = [{"role": "user", "content": request.GET["prompt"]}]
    try:
        # Status and content type are checked in here: trouble until now is still a proper 502.
        stream = stream_chat(
            session, settings.UPSTREAM, model="m", messages=messages, heartbeat=settings.HEARTBEAT
        )
    except requests.RequestException as error:
        return HttpResponse(type(error).__name__, status=502)
    response = StreamingHttpResponse(Relay(stream), content_type="text/event-stream")
    response["Cache-Control"] = "no-cache"
    response["X-Accel-Buffering"] = "no"
    response["Content-Encoding"] = "identity"  # GZipMiddleware would collect the whole answer first
    return response


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

        body = b"".join(client.get("/chat?prompt=hello")).decode()
        print(body)
        assert body.endswith('event: done\ndata: {"finish_reason": "stop"}\n\n')

        body = b"".join(client.get("/chat?prompt=hello")).decode()
        print(body)
        assert body.endswith('event: error\ndata: {"type": "StreamBroken"}\n\n')

        assert client.get("/chat?prompt=hello").status_code == 502

        response = client.get("/chat?prompt=hello")
        written = iter(response)
        assert next(written).startswith(b"event: text")
        assert next(written) == b": keep-alive\n\n"
        ended = sum(connection.ended is not None for connection in server.connections)
        response.close()  # the browser leaves
        assert server.wait_for_disconnects(ended + 1)
        print("the browser has left, and the upstream connection is closed")
    session.close()
