"""A script whose call hangs, in the main thread or in another, and that dumps on SIGUSR2."""

from __future__ import annotations

import signal
import sys
import threading

import requests

from resilient_requests import ResilientAdapter, dump_on


def main(url: str, where: str, ca_path: str) -> None:
    """Send a request to a server that does not answer."""
    dump_on(signal.SIGUSR2)
    session = requests.Session()
    session.trust_env = False
    session.verify = ca_path or True
    session.mount(url, ResilientAdapter())
    if where == "main":
        session.get(url)
        return
    worker = threading.Thread(target=session.get, args=(url,), name="worker", daemon=True)
    worker.start()
    worker.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
