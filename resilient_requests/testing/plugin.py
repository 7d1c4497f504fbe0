"""pytest fixtures; load them with ``pytest_plugins = ["resilient_requests.testing.plugin"]``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from resilient_requests.testing._server import FaultServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def fault_server_factory() -> Iterator[Callable[..., FaultServer]]:
    """Builds servers with the arguments of FaultServer; all are closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *replies, **options: stack.enter_context(FaultServer(*replies, **options))


@pytest.fixture
def fault_server(fault_server_factory: Callable[..., FaultServer]) -> FaultServer:
    """A server that answers 200 with the body ``ok`` until told otherwise."""
    return fault_server_factory()


@pytest.fixture
def fault_server_tls(fault_server_factory: Callable[..., FaultServer]) -> FaultServer:
    """The same server over TLS; ``ca_path`` is for ``verify=``."""
    return fault_server_factory(tls=True)
