"""Installs the adapter, imports a client after that, and lets it call with adapters of its own.

``python -m packages.installed [--sessions-only] CLIENT`` prints one JSON object: whether the answer
was right (``result``), and whether the call went through an adapter of ours (``reached``). The call
goes over TLS where the client can, and nothing is mounted.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import requests.adapters

import resilient_requests
from packages.clients import CLIENTS, Client
from packages.clients._client import Stay
from packages.faults import OK
from packages.host import prepare
from packages.server import Server, listen
from resilient_requests.testing._certificates import loopback_tls

NAME = "item00000001"


def call(client: Client) -> str:
    """Return OK, or what the client has made of the answer."""
    listener = listen()
    tls = loopback_tls()[0] if client.has_tls else None
    with Server(client, listener, tls):
        url = f"http{'s' * client.has_tls}://127.0.0.1:{listener.getsockname()[1]}"
        client.api = client.make(url, Stay)
        answer = str(client.read(NAME))
    return OK if NAME in answer else answer


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument(
        "--sessions-only", action="store_true", help="replace the class in requests.sessions alone"
    )
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    plain, events = requests.adapters.HTTPAdapter, list[Any]()
    resilient_requests.install(observers=[events.append])
    if given.sessions_only:
        requests.adapters.HTTPAdapter = plain  # type: ignore[misc]
    client = CLIENTS[given.client]()
    with tempfile.TemporaryDirectory() as directory:
        prepare(client, Path(directory))
        result = call(client)
    reached = any(isinstance(each, resilient_requests.AttemptSucceeded) for each in events)
    sys.stdout.write(json.dumps({"result": result, "reached": reached}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
