"""An adapter that nobody closed, and nobody refers to any more."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import pytest
import requests

from resilient_requests import ResilientAdapter

if TYPE_CHECKING:
    from resilient_requests.testing import FaultServer


@pytest.mark.skipif(os.name != "posix", reason="FaultServer is POSIX only")
@pytest.mark.parametrize("stream", [False, True])
def test_a_dropped_adapter_closes_its_connections(fault_server: FaultServer, stream: bool) -> None:
    """A Session per call, never closed, is what legacy code does: plain requests frees its sockets, and so do we.

    urllib3 holds the queue of each pool in a finalizer, for ever; whatever a pooled connection refers to lives as long.
    """
    session = requests.Session()
    session.mount("http://", ResilientAdapter())
    _ = session.get(fault_server.url, stream=stream).content

    del session
    gc.collect()

    assert fault_server.wait_for_disconnects(1)
