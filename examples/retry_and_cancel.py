"""Watch a call being retried, and end it from another thread while it waits for the next attempt.

    python retry_and_cancel.py

The server resets every connection after it has read the request.
"""

import threading

import requests
import tenacity

from resilient_requests import Cancelled, CancelScope, ResilientAdapter, RetryPolicy, RetryScheduled
from resilient_requests.testing import FaultServer, reset

about_to_wait = threading.Event()


def watch(event: object) -> None:
    """Print each event; an observer may take any of them."""
    print(event)
    if isinstance(event, RetryScheduled) and event.wait > 1:
        about_to_wait.set()


patient = RetryPolicy(
    max_retries=3, wait=tenacity.wait_chain(tenacity.wait_fixed(0.1), tenacity.wait_fixed(3600))
)

with FaultServer(default=reset()) as server, requests.Session() as session:
    session.mount("http://", ResilientAdapter(max_retries=patient, observers=[watch]))
    scope = CancelScope()

    def cancel() -> None:
        """Play a "stop" button."""
        about_to_wait.wait()
        scope.cancel()

    threading.Thread(target=cancel).start()
    try:
        with scope:
            session.get(server.url)
    except Cancelled as error:
        print(f"cancelled after {len(error.attempts)} attempts, not after an hour")
        assert len(error.attempts) == 2
    else:
        raise SystemExit("the call should have been cancelled")
