"""A Flask view that passes the answer of a language model on to a browser.

    python chat_flask.py

Needs Flask, which is not among our extras for users; without it the example says so and ends.
"""

from __future__ import annotations

import requests

from resilient_requests import ResilientAdapter, stream_chat
from resilient_requests.testing import FaultServer, respond, sse
from resilient_requests.web import EventRelay

try:
    import flask
except ImportError:
    raise SystemExit(print("Flask is not installed: nothing to show")) from None

app = flask.Flask(__name__)
session = requests.Session()  # one for the life of the process
session.mount("http://", ResilientAdapter())


@app.post("/chat")
def chat() -> flask.Response:
    """Answer a prompt, which comes as JSON: URLs end up in logs."""
    messages = [{"role": "user", "content": flask.request.get_json()["prompt"]}]
    heartbeat = app.config.get("HEARTBEAT", 15)
    try:
        # Checks status and content type: until here trouble is a proper 502.
        stream = stream_chat(
            session, app.config["UPSTREAM"], model="m", messages=messages, heartbeat=heartbeat
        )
    except requests.RequestException as error:
        return flask.Response(type(error).__name__, status=502)
    relay = EventRelay(stream)
    return flask.Response(relay, headers=relay.headers)


def chunk(text: str = "", finish: str | None = None) -> dict[str, object]:
    """A chunk, as providers send it."""
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


if __name__ == "__main__":
    client = app.test_client()
    whole = sse(chunk("Hi"), chunk(finish="stop"))
    cut = sse(chunk("Hi"), done=False, ending="reset")
    silent = sse(chunk("Hi"), done=False, ending="silence")
    with FaultServer(whole, cut, respond(status=401), silent) as server:
        app.config.update(UPSTREAM=server.url, HEARTBEAT=0.1)

        body = client.post("/chat", json={"prompt": "hello"}).text
        print(body)
        assert body.endswith('event: done\ndata: {"finish_reason": "stop"}\n\n')

        body = client.post("/chat", json={"prompt": "hello"}).text
        print(body)
        assert 'event: error\ndata: {"type": "StreamBroken", "reason": "' in body

        assert client.post("/chat", json={"prompt": "hello"}).status_code == 502

        response = client.post("/chat", json={"prompt": "hello"}, buffered=False)
        written = response.iter_encoded()
        assert next(written) == b'data: {"content": "Hi"}\n\n'
        assert next(written) == b": keep-alive\n\n"
        ended = sum(connection.ended is not None for connection in server.connections)
        response.close()  # the browser leaves
        assert server.wait_for_disconnects(ended + 1)
        print("the browser has left, and the upstream connection is closed")
    session.close()
