"""Pass a slow stream on to a browser: 502 before the first byte, a last event after it, and no thread left behind.

    python flask_view.py

Needs Flask, which is not among our extras; without it the example says so and ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests

from resilient_requests import HEARTBEAT, EventStream, ResilientAdapter, iter_events
from resilient_requests.testing import FaultServer, sse

try:
    import flask
except ImportError:
    raise SystemExit(print("Flask is not installed: nothing to show")) from None

if TYPE_CHECKING:
    from typing_extensions import Self

app = flask.Flask(__name__)
session = requests.Session()
session.mount("http://", ResilientAdapter())


class Relay:
    """The body of a response: an object with close(), which a web server calls when the browser has left.

    A generator would not do: one that has never been started does not run its ``finally``.
    """

    def __init__(self, events: EventStream) -> None:
        self._events = events
        self._failed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._failed:
            raise StopIteration
        try:
            event = next(self._events)
        except requests.RequestException as error:  # a StreamError, or a DeadlineExceeded
            self._failed = True
            return b"event: error\ndata: %b\n\n" % type(error).__name__.encode()
        if event is HEARTBEAT:
            return (
                b": keep-alive\n\n"  # to write is the only way to notice that the browser is gone
            )
        return b"data: %b\n\n" % event.data.encode()

    def close(self) -> None:
        """Give the upstream connection back."""
        self._events.close()


@app.get("/progress")
def progress() -> flask.Response:
    """Relay the upstream's events."""
    try:
        upstream = session.get(app.config["UPSTREAM"], stream=True)
        upstream.raise_for_status()
        events = iter_events(upstream, idle_timeout=60, heartbeat=15)
    except requests.RequestException as error:
        return flask.Response(type(error).__name__, status=502)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return flask.Response(Relay(events), mimetype="text/event-stream", headers=headers)


if __name__ == "__main__":
    with FaultServer(sse("one", "two", done=False, ending="reset")) as server:
        app.config["UPSTREAM"] = server.url
        body = app.test_client().get("/progress").text
        print(body)
        assert body == "data: one\n\ndata: two\n\nevent: error\ndata: StreamBroken\n\n"
    session.close()
