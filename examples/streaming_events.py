"""Read server-sent events, notice silence in time, and tell it from a proper end.

    python streaming_events.py

The server sends two events, and is never heard of again.
"""

import requests

from resilient_requests import HEARTBEAT, ResilientAdapter, StreamIdle, iter_events
from resilient_requests.testing import FaultServer, sse

with FaultServer(sse({"progress": 10}, {"progress": 20}, done=False, ending="silence")) as server:
    session = requests.Session()
    session.mount("http://", ResilientAdapter())
    response = session.get(server.url, stream=True)
    try:
        # In earnest: a minute or more, and a heartbeat of 15 s.
        with iter_events(response, idle_timeout=0.5, heartbeat=0.2) as events:
            for event in events:
                if event is HEARTBEAT:
                    print("nothing yet: the time to see whether our own reader is still there")
                else:
                    print("progress", event.json()["progress"])
    except StreamIdle as error:
        print(f"{type(error).__name__}: {error}")
        assert error.events_received == 2
    else:
        raise SystemExit("the silence should have been noticed")
    finally:
        session.close()
