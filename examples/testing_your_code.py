"""Test your own code against faults that a mock cannot show.

    pytest testing_your_code.py

The fixtures come from the plugin; in a suite of your own, the line stands in ``conftest.py``.
"""

from collections.abc import Iterator

import pytest
import requests

from resilient_requests import ResilientAdapter, StreamBroken, Timeouts
from resilient_requests.testing import FaultServer, reset, respond, silence, sse

pytest_plugins = ["resilient_requests.testing.plugin"]


class Client:
    """Stands for the code under test."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        # The server honours Idempotency-Key, so a POST may be sent again.
        adapter = ResilientAdapter(timeouts=Timeouts(response=0.2), idempotency_keys=True)
        self.session.mount("http://", adapter)

    def create(self) -> str:
        """Make a job, and return its name."""
        return self.session.post(f"{self.url}/jobs", json={"name": "report"}).text

    def lines(self) -> list[str]:
        """Return the lines that a job sends."""
        with self.session.get(f"{self.url}/jobs/1/events", stream=True) as response:
            return [line.decode() for line in response.iter_lines() if line]


@pytest.fixture
def client(fault_server: FaultServer) -> Iterator[Client]:
    """A client of the server that misbehaves."""
    client = Client(fault_server.url)
    yield client
    client.session.close()


def test_a_reset_before_the_answer_is_survived(client: Client, fault_server: FaultServer) -> None:
    """Two requests, with one key: a server that knows keys acts once."""
    fault_server.script(reset(), respond("job-1"))

    assert client.create() == "job-1"
    assert len(fault_server.requests) == 2
    assert list(fault_server.applied_keys.values()) == [2]


def test_a_silent_server_is_given_up(client: Client, fault_server: FaultServer) -> None:
    """It may be at work on the request, so that is not sent again."""
    fault_server.script(silence())

    with pytest.raises(requests.ReadTimeout):
        client.create()
    assert len(fault_server.requests) == 1


def test_a_broken_stream_is_an_error(client: Client, fault_server: FaultServer) -> None:
    """Half of an answer must not pass for the whole."""
    fault_server.route("/jobs/1/events", sse("one", done=False, ending="reset"))

    with pytest.raises(StreamBroken) as broken:
        client.lines()
    assert broken.value.bytes_received > 0
