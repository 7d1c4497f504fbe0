"""A script under gevent or eventlet that dials dead addresses; run by test_dialling.py."""

from __future__ import annotations

import importlib
import sys

if sys.argv[1] == "gevent":
    importlib.import_module("gevent.monkey").patch_all()
if sys.argv[1] == "eventlet":
    importlib.import_module("eventlet").monkey_patch()

import socket
import threading
import time

import requests
from listeners import info, swallowing

from resilient_requests import CancelScope, ResilientAdapter, RetryPolicy
from resilient_requests.exceptions import Cancelled

STOCK = socket.getaddrinfo


def timed(session: requests.Session, url: str) -> tuple[str, float]:
    """Return the outcome of a call, and its seconds."""
    since = time.monotonic()
    try:
        result = str(session.get(url, timeout=(5, 5)).status_code)
    except (Cancelled, requests.RequestException) as error:
        result = type(error).__name__
    return result, time.monotonic() - since


def ticking(session: requests.Session, url: str) -> tuple[str, float, int]:
    """The same, and how often another greenlet has run meanwhile, every 10 ms."""
    ticks = []
    is_on = True

    def tick() -> None:
        while is_on:
            ticks.append(1)
            time.sleep(0.01)

    thread = threading.Thread(target=tick)
    thread.start()
    result, seconds = timed(session, url)
    is_on = False
    thread.join()
    return result, seconds, len(ticks)


def main(port: int, silent_port: int) -> None:
    """Print a word for each check that holds; ``silent_port`` answers no handshake."""
    session = requests.Session()
    adapter = ResilientAdapter(max_retries=RetryPolicy(max_retries=0))
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    with swallowing("127.0.0.2") as one, swallowing("127.0.0.3") as two:
        names = {
            "half.test": [one.info, info("127.0.0.1", port)],
            "dead.test": [one.info, two.info],
        }
        socket.getaddrinfo = lambda host, *args, **kwargs: (  # type: ignore[assignment]
            names.get(host) or STOCK(host, *args, **kwargs)
        )
        result, seconds, ticks = ticking(session, "http://half.test/")
        good = result == "200" and seconds < 2.0 and ticks > 5
        print("passed" if good else (result, seconds, ticks))  # noqa: T201
        for word, url in (
            ("cancelled", "http://dead.test/"),
            ("handshake", f"https://127.0.0.1:{silent_port}/"),
        ):
            scope = CancelScope()
            threading.Timer(0.5, scope.cancel).start()
            with scope:
                result, seconds, ticks = ticking(session, url)
            # To load the CA bundle, before a handshake, holds all greenlets back.
            good = result == "Cancelled" and seconds < 2.0 and (ticks > 10 or word == "handshake")
            print(word if good else (result, seconds, ticks))  # noqa: T201


main(*map(int, sys.argv[2:]))
