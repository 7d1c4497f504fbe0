"""What is known to fail, in one list, whose entries must fail."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadScopeScheduling

from packages.cell import ADAPTERS
from packages.faults import Way
from packages.host import is_foreign
from packages.known import read

if TYPE_CHECKING:
    from requests.adapters import HTTPAdapter

pytest_plugins = ["resilient_requests.testing.plugin"]

LIST = Path(__file__).with_name("known.txt")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the machine's proxies, certificate bundles and our own variables from a test."""
    for name in filter(is_foreign, list(os.environ)):
        monkeypatch.delenv(name)


@pytest.fixture(params=list(Way), ids=[way.value for way in Way])
def adapter(request: pytest.FixtureRequest) -> type[HTTPAdapter]:
    """The class of the adapter: what is right with the plain one is right with ours."""
    return ADAPTERS[request.param]


class _Scheduler(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types for it
    """Hands out test by test, but all tests of a client to one process: it plays them at once."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, name = nodeid.partition("::")
        client = name.partition("[")[2].partition("-")[0]
        return client if file.endswith("test_clients.py") else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _Scheduler:
    """Have ``-n`` schedule so."""
    return _Scheduler(config, log)


def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Expect the tests of the list to fail: one that passes is an error, as is an unknown name."""
    reasons = read(LIST)
    for item in items:
        reason = reasons.pop(item.name, None)
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
    whole = all(Path(each.partition("::")[0]) == LIST.parent for each in session.config.args)
    if reasons and whole and not session.config.option.keyword:
        raise pytest.UsageError(f"{LIST.name} names tests that there are not: {sorted(reasons)}")
