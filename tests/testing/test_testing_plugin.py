"""The fixtures that a user's test suite gets from the plugin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from resilient_requests import testing

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilient_requests.testing import FaultServer

SUITE = """
import requests
from resilient_requests.testing import respond

servers = []

def test_plain(fault_server):
    assert requests.get(fault_server.url).text == "ok"
    servers.append(fault_server)

def test_tls(fault_server_tls):
    assert requests.get(fault_server_tls.url, verify=fault_server_tls.ca_path).text == "ok"
    servers.append(fault_server_tls)

def test_factory(fault_server_factory):
    one, two = fault_server_factory(respond(b"1")), fault_server_factory(tls=True, idle_limit=1.0)
    assert requests.get(one.url).text == "1"
    servers.extend([one, two])

def test_all_are_closed():
    for server in servers:
        try:
            requests.get(server.url, verify=False)
        except requests.ConnectionError:
            continue
        raise AssertionError(server)
    assert len(servers) == 4
"""


MISTAKEN = """
import requests

def test_it(fault_server):
    fault_server.script(lambda request: 1 / 0)
    assert requests.get(fault_server.url).text == "ZeroDivisionError"
"""


def run(suite: str, path: Path) -> str:
    """Return the output of pytest for a suite that names the plugin."""
    (path / "conftest.py").write_text('pytest_plugins = ["resilient_requests.testing.plugin"]')
    (path / "test_suite.py").write_text(suite)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(Path(testing.__file__).parents[2])}
    result = subprocess.run(
        command, cwd=path, env=environment, capture_output=True, text=True, timeout=50, check=False
    )
    return result.stdout


def test_fixtures_serve_a_suite_that_names_the_plugin(tmp_path: Path) -> None:
    """Users write one line in a conftest; nothing loads itself."""
    said = run(SUITE, tmp_path)

    assert "4 passed" in said, said


def test_fixtures_fail_the_test_whose_script_fails(tmp_path: Path) -> None:
    """A warning about a thread would be overlooked."""
    said = run(MISTAKEN, tmp_path)

    assert "1 passed, 1 error" in said, said
    assert "ERROR at teardown of test_it" in said
    assert "ZeroDivisionError: division by zero" in said
    assert "Warning" not in said


def test_fixtures_can_be_used_together(
    fault_server: FaultServer,
    fault_server_tls: FaultServer,
    fault_server_factory: Callable[..., FaultServer],
) -> None:
    """They share one factory, and no server."""
    servers = [fault_server, fault_server_tls, fault_server_factory()]
    for server in servers:
        requests.get(server.url, verify=server.ca_path or True, timeout=5).close()

    assert [len(server.requests) for server in servers] == [1, 1, 1]
    assert len({server.port for server in servers}) == 3
