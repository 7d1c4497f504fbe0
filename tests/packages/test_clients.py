"""No call of a real client is worse off with our adapter than without."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from packages.board import outcomes, play
from packages.clients import CLIENTS
from packages.faults import OK, Call, Cell, Fault, Way
from packages.table import BEGIN, END, title_of
from packages.verdict import worse

CASES = [
    pytest.param(client, fault, call, id=f"{client}-{fault.value}-{call.value}")
    for client, fault, call in product(CLIENTS, Fault, Call)
    if CLIENTS[client].is_judged(fault)
]
PAGE = Path(__file__).parents[2] / "docs" / "packages.md"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")


@pytest.mark.parametrize(("client", "fault", "call"), CASES)
def test_ours_is_never_worse(client: str, fault: Fault, call: Call) -> None:
    """In outcome, in how often the server acted, or in time."""
    pair = Cell(fault, Way.PLAIN, call), Cell(fault, Way.OURS, call)

    assert list(worse(fault, *(outcomes(client)[each] for each in pair))) == []


SAVED = [
    pytest.param(client, fault, id=f"{client}-{fault.value}")
    for client, fault in product(CLIENTS, (Fault.RESET, Fault.SILENT, Fault.FORK))
    if fault not in CLIENTS[client].unsaved
]


@pytest.mark.parametrize(("client", "fault"), SAVED)
def test_ours_answers(client: str, fault: Fault) -> None:
    """A connection that died or fell silent while it was idle, and a fork, cost no call."""
    cells = [Cell(fault, Way.OURS, call) for call in Call]
    results = [outcomes(client)[cell].result for cell in cells]
    if results != [OK, OK]:
        # A busy machine explains a late answer once.
        results = [outcome.result for outcome in play(client, cells).values()]

    assert results == [OK, OK]


def test_the_page_has_a_row_for_each_client() -> None:
    """The program that writes it takes minutes, and runs when somebody starts it."""
    page = PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    titles = [line.split("|")[1].strip() for line in page.splitlines() if "→" in line]

    assert titles == [title_of(name) for name in CLIENTS]


def test_each_client_is_installed_as_pinned() -> None:
    """A client that is not in the list would be whatever version somebody has."""
    pinned = {line.partition("==")[0] for line in REQUIREMENTS.read_text("utf-8").splitlines()}

    assert {each.package for each in CLIENTS.values()} <= pinned
