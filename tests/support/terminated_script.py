"""A script that is told to end while its main thread is in the middle of a call.

Prints "ready" when the call has come to its place, then the class of its error, and the seconds
since the signal.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import Any

import requests
import tenacity

from resilient_requests import (
    AttemptFailed,
    ConnectionOpened,
    ResilientAdapter,
    RetryPolicy,
    RetryScheduled,
    iter_events,
)


def main(where: str, url: str, grace: float, ca_path: str | bool) -> None:
    """Make the call that is to be interrupted at this place."""
    signalled: list[float] = []

    def tell(event: Any) -> None:
        here = {"backoff": RetryScheduled, "head": ConnectionOpened, "send": ConnectionOpened}
        if isinstance(event, here.get(where, AttemptFailed)):
            print("ready", flush=True)  # noqa: T201

    policy = RetryPolicy(wait=tenacity.wait_fixed(60))
    adapter = ResilientAdapter(
        max_retries=policy,
        observers=[tell],
        pool_maxsize=1,
        pool_block=True,
        idempotency_keys=True,
    )
    session = requests.Session()
    session.mount("http://", adapter)
    session.mount("https://", adapter)

    def end(number: int, frame: object) -> None:
        signalled.append(time.monotonic())
        adapter.shutdown(grace)

    signal.signal(signal.SIGTERM, end)
    try:
        if where == "stream":
            for _ in iter_events(session.get(url, stream=True, verify=ca_path)):
                print("ready", flush=True)  # noqa: T201
        elif where == "pool":
            held = session.get(url, stream=True, verify=ca_path)
            threading.Timer(0.2, print, ["ready"], {"flush": True}).start()
            session.get(url, verify=ca_path)
            held.close()
        else:
            if where in ("connect", "handshake"):
                threading.Timer(0.2, print, ["ready"], {"flush": True}).start()
            body = b"x" * 50_000_000 if where == "send" else b""
            session.post(url, data=body, verify=ca_path, timeout=(30, 30))
    except requests.RequestException as error:
        print(type(error).__name__, time.monotonic() - signalled[0], flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else True)
