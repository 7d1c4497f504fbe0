from __future__ import annotations

from pathlib import Path
from typing import get_args

from lab import test_incidents
from lab.board import Cell
from lab.cell import SCHEMES
from lab.contenders import CONTENDERS, is_installed
from lab.incidents import BY_NAME, INCIDENTS, LONG, Family
from lab.stage import Outcome, Trial
from lab.table import TOPICS, text_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "incidents.md"

FINE = Outcome(result="ok", seconds=0.04, calls=1, seen=1, executed=1, most_executed=1)
HUNG = Outcome(result="HUNG", seconds=60.0, calls=4, seen=3, executed=2, most_executed=1)


def titles(page: str) -> list[str]:
    """The first column of the table."""
    return [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]


def test_the_page_has_a_row_for_each_incident() -> None:
    """The program that writes it takes minutes, and runs when somebody starts it."""
    written = [title for title in titles(PAGE.read_text("utf-8")) if title not in ("", "incident")]

    assert sorted(written) == sorted(row.title for row in INCIDENTS)


def test_each_family_has_a_topic() -> None:
    """Its rows would be on no table."""
    topics = [family for families in TOPICS.values() for family in families]

    assert sorted(topics) == sorted(get_args(Family))


def test_the_page_has_the_words_of_the_program() -> None:
    """Words that are mended on the page alone are lost when it is next made."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, _ = text_of([], {}).partition("\nMeasured with ")
    _, _, after = text_of([], {}).partition("## Settings that differ\n\n")

    assert page.startswith(before)
    assert page.endswith(after)


def test_each_family_of_incidents_has_its_test() -> None:
    """A row that no test plays would stand in the table unchecked."""
    played = {
        param.values[0].family
        for name, test in vars(test_incidents).items()
        if name.startswith("test_")
        for mark in getattr(test, "pytestmark", ())
        if mark.name == "parametrize"
        for param in mark.args[1]
    }

    assert played == set(get_args(Family)) == {row.family for row in INCIDENTS}


def test_a_cell_tells_what_was_done_besides_one_request_per_call() -> None:
    """The number of executions matters most, but it is left out where it is one per call."""
    row = BY_NAME["dead-pool-drop"]
    columns = [each for each in CONTENDERS if is_installed(each)]
    outcomes = {Cell(row.name, each, scheme): FINE for each in columns for scheme in SCHEMES}
    outcomes[Cell(row.name, "plain", "https")] = HUNG
    page = text_of([row], outcomes)

    lines = [line for line in page.splitlines() if line.startswith(("| Pool", "|  |"))]
    assert lines[0].count("| ok 0.0 s ") == len(columns)
    assert "| TLS | ok 0.0 s | **HUNG** 60.0 s, saw 3, executed 2 of 4 |" in lines[1]
    assert f"- {row.title}: window 60 s." in page


def test_a_promise_tells_how_it_was_broken() -> None:
    """A check that never complains proves nothing."""
    row = BY_NAME["long-reset-post"]
    bad = Outcome(
        result="HUNG",
        seconds=45.0,
        calls=1,
        seen=3,
        executed=3,
        most_executed=3,
        trials=(Trial(reused=True, error="ConnectionError", elapsed=1.0),) * 2,
    )

    assert row.settings == LONG
    assert row.promise.broken_by(FINE) == []
    assert len(row.promise.broken_by(bad)) == 4
    assert (
        len(row.promise.broken_by(Outcome(**{**vars(FINE), "executed": 0, "most_executed": 0})))
        == 1
    )
