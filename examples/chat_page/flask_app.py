"""The chat page with Flask.

python flask_app.py
gunicorn --worker-class gthread --threads 8 flask_app:app
"""

from __future__ import annotations

import flask
import requests
from provider import HEARTBEAT, IDLE, PAGE, upstream

from resilient_requests import ResilientAdapter, stream_chat
from resilient_requests.web import EventRelay

app = flask.Flask(__name__)
session = requests.Session()  # one for the life of the process
session.mount("http://", ResilientAdapter())
UPSTREAM = upstream()


@app.get("/")
def page() -> flask.Response:
    """The page."""
    return flask.send_file(PAGE)


@app.post("/chat")
def chat() -> flask.Response:
    """Pass the answer on, event by event."""
    asked = flask.request.get_json()
    messages = [{"role": "user", "content": asked["prompt"]}]
    try:
        # Checks status and content type: until here trouble is a proper 502.
        stream = stream_chat(
            session,
            UPSTREAM,
            model=asked["model"],
            messages=messages,
            heartbeat=HEARTBEAT,
            idle_timeout=IDLE,
        )
    except requests.RequestException as error:
        return flask.Response(type(error).__name__, status=502)
    relay = EventRelay(stream)
    return flask.Response(relay, headers=relay.headers)


if __name__ == "__main__":
    app.run(port=8000)
