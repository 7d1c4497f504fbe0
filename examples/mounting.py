"""Mount the adapter, so that a forgotten connection no longer fails a call.

    python mounting.py

The code below the line that mounts it stays the same. The server plays a NAT that forgets idle
connections after 0.2 s and answers their next packet with a reset.
"""

import time
from typing import cast

import requests

from resilient_requests import ResilientAdapter, ResilientResponse
from resilient_requests.testing import FaultServer

with FaultServer(idle_limit=0.2) as server, requests.Session() as session:
    session.mount("http://", ResilientAdapter())  # in earnest: "https://"

    session.get(server.url)
    time.sleep(0.4)
    # The cast is for type checkers: requests' own annotations know nothing of `attempts`.
    response = cast("ResilientResponse", session.post(server.url, json={"name": "report"}))

    for attempt in response.attempts:
        idle = (
            "a new connection"
            if attempt.idle_for is None
            else f"a connection idle for {attempt.idle_for:.1f} s"
        )
        print(f"attempt {attempt.number} on {idle}: {attempt.error or attempt.status}")
    assert [attempt.reused for attempt in response.attempts] == [True, False]
    assert server.applied == 2, "the GET and the POST, each once"
