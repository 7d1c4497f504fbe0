"""Who visits many hosts: what is remembered of them, and for how long."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from resilient_requests import ResilientAdapter
from resilient_requests._register import Place


class FakePool:
    """A pool of one place, without connections."""

    def __init__(self, number: int) -> None:
        self.place = Place("http", f"{number}.example", 80)
        self.idle: dict[Any, None] = {}

    def close_idle(self) -> int:
        """Close none."""
        return 0

    def after_fork(self) -> None:
        """Forget none."""


def test_who_visits_many_hosts_once_does_not_remember_them_all() -> None:
    """But those with a pool, those that came last, and the counts of all."""
    register = ResilientAdapter().register
    kept = FakePool(0)
    register.add_pool(kept)
    for number in range(1, 2000):
        register.add_pool(FakePool(number))
        register.retried(Place("http", f"{number}.example", 80))
    stats = register.stats()

    assert len(stats.origins) <= 514
    assert {str(kept.place), "http://1999.example:80", "*"} <= set(stats.origins)
    assert stats.retries == 1999


def test_a_host_that_is_visited_again_is_remembered_longer() -> None:
    """What is forgotten first is what was not visited for the longest time."""
    register = ResilientAdapter().register
    for number in range(2000):
        register.add_pool(FakePool(number))
        register.add_pool(FakePool(7))

    assert "http://7.example:80" in register.stats().origins


def test_connections_of_a_forgotten_origin_stay_retired() -> None:
    """Whoever still holds one, and wherever it returns to."""
    register = ResilientAdapter().register
    place = FakePool(0).place
    conn: Any = SimpleNamespace(
        sock=object(), pid=os.getpid(), place=place, generation=0, hint=None, born=None, idle_since=register.clock()
    )
    register.add_pool(FakePool(0))
    fresh = register.reason_to_close(conn, register.clock())
    register.retire(place, 0, "reset")
    for number in range(1, 2000):
        register.add_pool(FakePool(number))
    assert str(place) not in register.stats().origins
    register.add_pool(FakePool(0))

    assert fresh is None
    assert register.reason_to_close(conn, register.clock()) == "retired"
    conn.generation = register.generation
    assert register.reason_to_close(conn, register.clock()) is None


def test_the_budgets_of_many_origins_are_not_all_kept() -> None:
    """A full one says nothing; of those that were drawn on, the oldest go."""
    adapter = ResilientAdapter()
    for number in range(2000):
        bucket = adapter.bucket(f"http://{number}.example:80", create=True)
        assert bucket is not None
        if number % 2:
            assert bucket.withdraw(1, adapter.register.clock().boot)

    assert len(adapter._buckets) <= 512
    assert adapter.bucket("http://1999.example:80", create=False) is bucket
