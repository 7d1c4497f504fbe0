"""Whom install() reaches: clients that are as they come, with sessions that nobody has touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from packages.clients import CLIENTS
from packages.faults import OK

TESTS = Path(__file__).resolve().parents[1]
NAMES = [name for name, client in CLIENTS.items() if not client.unix]
# Those with an adapter class of their own, derived from requests' when they are imported.
OF_A_CLASS = ("Databricks", "Github", "Posthog", "Spotipy", "Twilio")


def called(*arguments: str) -> Any:
    """Run ``packages.installed``, and return what it prints."""
    path = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "packages.installed", *arguments],
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("client", NAMES)
def test_a_client_that_is_imported_later_is_reached(client: str) -> None:
    """With its own sessions, and the adapter classes of its own."""
    assert called(client) == {"result": OK, "reached": True}


@pytest.mark.parametrize("client", OF_A_CLASS)
def test_a_class_of_its_own_is_reached_by_its_base_alone(client: str) -> None:
    """To replace what sessions mount is not enough for it."""
    assert called("--sessions-only", client) == {"result": OK, "reached": False}
