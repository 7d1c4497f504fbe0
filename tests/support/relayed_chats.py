"""Fixtures: a session over our adapter, and chats that are relayed from a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from chat_wires import ASK, mounted

from resilient_requests import stream_chat
from resilient_requests.web import EventRelay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests

    from resilient_requests.testing import FaultServer, Reply


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A session over our adapter."""
    with mounted() as session:
        yield session


@pytest.fixture
def chat(session: requests.Session, fault_server: FaultServer) -> Callable[..., EventRelay]:
    """Relays a chat with the given reply as its answer; other options are the stream's."""

    def relay(reply: Reply, *, render: Any = None, **options: Any) -> EventRelay:
        fault_server.script(reply)
        return EventRelay(stream_chat(session, fault_server.url, **ASK, **options), render=render)

    return relay
