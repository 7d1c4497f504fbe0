"""An adapter or a response that nobody closed, and that nobody refers to any more."""

from __future__ import annotations

import gc
import os
import weakref
from typing import TYPE_CHECKING

import pytest
import requests
from clients import Client
from urllib3 import Retry

from resilient_requests import ResilientAdapter
from resilient_requests.testing import fin, reset, respond, stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilient_requests.testing import FaultServer, Reply


@pytest.mark.skipif(os.name != "posix", reason="FaultServer is POSIX only")
@pytest.mark.parametrize("stream", [False, True])
def test_a_dropped_adapter_closes_its_connections(fault_server: FaultServer, stream: bool) -> None:
    """Legacy code makes a Session per call and never closes it; requests frees its sockets.

    urllib3 holds the queue of each pool in a finalizer, for ever. Every object that a pooled
    connection refers to lives as long.
    """
    session = requests.Session()
    session.mount("http://", ResilientAdapter())
    _ = session.get(fault_server.url, stream=stream).content

    del session
    gc.collect()

    assert fault_server.wait_for_disconnects(1)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    "fault",
    [reset, fin, lambda: respond(status=500)],
    ids=["reset", "end", "status"],
)
def test_a_response_that_took_a_retry_is_freed_at_once(
    server: FaultServer, fault: Callable[[], Reply]
) -> None:
    """A stream that is dropped closes its connection now, and not when the collector comes by."""
    with Client(server, max_retries=Retry(3, status_forcelist=[500])) as client:
        server.script(fault(), fault(), stream([b"first"], ending="silence"))
        try:
            int("none")
        except ValueError as error:  # a call in a handler keeps the traceback of the handled error
            response = client.get(stream=True)
            traceback = error.__traceback__
        freed: list[weakref.ref[object]] = [weakref.ref(response), weakref.ref(response.request)]
        del response

        assert [each() for each in freed] == [None, None]
        assert traceback is not None
        assert server.wait_for_disconnects(3)
