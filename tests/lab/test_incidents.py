from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest

from lab.board import Board, Cell
from lab.cell import SCHEMES
from lab.incidents import BY_NAME, INCIDENTS, Family, Incident
from lab.network import why_not
from lab.stage import OK, TRUNCATED, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

REASON = why_not()
LIMIT = 45.0
AT_ONCE = 8

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.skipif(REASON is not None, reason=f"no laboratory here: {REASON}"),
    pytest.mark.timeout(
        180
    ),  # the first test also waits for the incidents that are played before its own
    pytest.mark.leaks(reason="the incidents of other tests are played meanwhile"),
]

Play: TypeAlias = Callable[[Incident, str], Outcome]


def rows(*families: Family) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test for each incident of these families, plain and over TLS."""
    params = [
        pytest.param(
            row,
            scheme,
            id=f"{row.name}-{scheme}",
            marks=()
            if row.is_playable
            else pytest.mark.skip(f"needs {row.needs}: apt-get install {row.package}"),
        )
        for row in INCIDENTS
        if row.family in families
        for scheme in SCHEMES
    ]
    return pytest.mark.parametrize(("row", "scheme"), params)


@pytest.fixture(scope="module")
def board(request: pytest.FixtureRequest) -> Iterator[Board]:
    """All incidents of the chosen tests, played side by side, since each of them mostly waits."""
    params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    wanted = {
        Cell(row.name, "ours", scheme)
        for row, scheme in ((each.get("row"), each.get("scheme")) for each in params)
        if isinstance(row, Incident) and isinstance(scheme, str) and row.is_playable
    }
    with Board(limit=LIMIT, at_once=AT_ONCE) as board:
        # The longest first; the order of the tests is random, and nothing depends on it.
        board.begin(sorted(wanted, key=lambda cell: (-BY_NAME[cell.incident].promise.within, cell)))
        yield board


@pytest.fixture
def play(board: Board) -> Play:
    """Play an incident for our adapter, check every promise of its row, and return the outcome."""

    def play(row: Incident, scheme: str) -> Outcome:
        outcome = board.outcome(Cell(row.name, "ours", scheme))
        assert outcome.result != TRUNCATED
        assert row.promise.broken_by(outcome) == [], outcome
        return outcome

    return play


@rows("idle")
def test_an_idle_connection_that_the_nat_forgot_costs_nothing(
    row: Incident, scheme: str, play: Play
) -> None:
    """The window ends before the NAT's memory does: the dead connection is never tried."""
    outcome = play(row, scheme)

    assert outcome.result == OK
    assert outcome.failed_attempts == 0
    assert outcome.seen == outcome.executed == outcome.calls


@rows("long window")
def test_a_reset_of_an_idle_connection_costs_one_attempt(
    row: Incident, scheme: str, play: Play
) -> None:
    """The NAT forgets before the window ends.

    One attempt meets the reset, and the next one dials.
    """
    outcome = play(row, scheme)

    assert outcome.result == OK
    assert [trial.reused for trial in outcome.trials] == [True, False]
    assert outcome.executed == 1


@rows("dead pool")
def test_a_dead_pool_costs_one_call(row: Incident, scheme: str, play: Play) -> None:
    """The first call that fails retires its siblings.

    Four calls at once then do not each wait for a dead connection.
    """
    assert play(row, scheme).stale_uses == 0


@rows("closed")
def test_a_connection_that_ended_while_it_was_idle_is_replaced(
    row: Incident, scheme: str, play: Play
) -> None:
    """A fault that the kernel knows must not cost an attempt.

    A connection with a fault that the kernel does not know is too old for the window.
    """
    assert play(row, scheme).failed_attempts == 0


@rows("stream")
def test_a_stream_over_a_dead_path_fails_within_the_limit(
    row: Incident, scheme: str, play: Play
) -> None:
    """The peer will never answer.

    Only our own clock or the kernel's probes can end the wait, and they must raise an error.
    """
    outcome = play(row, scheme)

    assert outcome.result != OK
    assert outcome.executed == 1


@rows("frozen")
def test_a_frozen_server_is_asked_once(row: Incident, scheme: str, play: Play) -> None:
    """The server's kernel acknowledges every byte, so only a limit ends the wait.

    A server that is asked again would execute both requests once it thaws.
    """
    outcome = play(row, scheme)

    assert outcome.seconds >= 7.9
    assert outcome.seen == outcome.executed == 1


@rows("silence")
def test_a_silent_thought_is_waited_for(row: Incident, scheme: str, play: Play) -> None:
    """Probes keep the NAT's memory awake, kill no healthy silence, and find a dead path in time."""
    outcome = play(row, scheme)

    assert outcome.executed == 1
    assert outcome.result == OK or outcome.trials[0].elapsed <= 2 + 1 * 3 + 1.5


@rows("proxy")
def test_a_connection_that_a_proxy_forgot_costs_nothing(
    row: Incident, scheme: str, play: Play
) -> None:
    """The proxy's kernel acknowledges bytes that the proxy will never read.

    No socket option notices that, but the window does.
    """
    assert play(row, scheme).failed_attempts == 0


@rows("outage")
def test_an_outage_that_ends_is_survived(row: Incident, scheme: str, play: Play) -> None:
    """TCP recovers from a short outage.

    Our limits must not end the call before that, nor repeat anything.
    """
    outcome = play(row, scheme)

    assert outcome.most_executed <= 1
    assert outcome.result == OK or outcome.executed == 0


@rows("large")
def test_a_server_slow_to_read_is_healthy(row: Incident, scheme: str, play: Play) -> None:
    """The connect timeout is no limit for sending, and an acknowledging peer is not dead."""
    assert play(row, scheme).failed_attempts == 0


@rows("suspend")
def test_no_connection_from_before_a_suspend_is_used(
    row: Incident, scheme: str, play: Play
) -> None:
    """The monotonic clock sleeps with the machine.

    Only boot time knows the age of the connection.
    """
    assert [trial.reused for trial in play(row, scheme).trials] == [False]
