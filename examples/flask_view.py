"""Pass a slow stream on to a browser: 502 before the first byte, a last event after it.

    python flask_view.py

Needs Flask, which is not among our extras; without it the example says so and ends.
"""

from __future__ import annotations

import requests

from resilient_requests import ResilientAdapter, iter_events
from resilient_requests.testing import FaultServer, sse
from resilient_requests.web import EventRelay

try:
    import flask
except ImportError:
    raise SystemExit(print("Flask is not installed: nothing to show")) from None

app = flask.Flask(__name__)
session = requests.Session()
session.mount("http://", ResilientAdapter())


@app.get("/progress")
def progress() -> flask.Response:
    """Relay the upstream's events."""
    try:
        upstream = session.get(app.config["UPSTREAM"], stream=True)
        upstream.raise_for_status()
        events = iter_events(upstream, idle_timeout=60, heartbeat=15)
    except requests.RequestException as error:
        return flask.Response(type(error).__name__, status=502)
    relay = EventRelay(events)
    return flask.Response(relay, headers=relay.headers)


if __name__ == "__main__":
    with FaultServer(sse("one", "two", done=False, ending="reset")) as server:
        app.config["UPSTREAM"] = server.url
        body = app.test_client().get("/progress").text
        print(body)
        assert body.startswith("data: one\n\ndata: two\n\nevent: error\n")
        assert '{"type": "StreamBroken", "reason": "the connection was lost' in body
    session.close()
