"""The tests can tell a wrong rule from a right one."""

from __future__ import annotations

import re

import planted
import pytest


@pytest.mark.slow
@pytest.mark.timeout(0)  # each run within is bounded
@pytest.mark.parametrize(
    "bug", [bug for bug in planted.BUGS if bug.rule in planted.FEW], ids=lambda bug: bug.rule
)
def test_a_planted_bug_is_found(bug: planted.Bug) -> None:
    """A proof that cannot fail proves nothing; all bugs are planted by ``nox -s proof``."""
    assert planted.hunt(bug).found_by is not None


@pytest.mark.parametrize("bug", planted.BUGS, ids=lambda bug: bug.rule)
def test_every_bug_can_still_be_planted(bug: planted.Bug) -> None:
    """Code that is rewritten takes its bugs along."""
    text = (planted.ROOT / planted.PACKAGE / bug.module).read_text(encoding="utf-8")

    assert text.count(bug.old) == 1
    assert bug.old != bug.new


def test_a_word_that_is_in_no_rule_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing hunted would look like nothing survived."""
    monkeypatch.setattr("sys.argv", ["planted.py", "--only", "nosuch"])

    with pytest.raises(SystemExit) as ended:
        planted.main()
    assert ended.value.code == 2
    assert "no rule contains 'nosuch'" in capsys.readouterr().err


def test_the_page_on_the_proof_tells_of_every_bug() -> None:
    """The figures are made by hand, in many minutes.

    A rule that joins the list must also join the page.
    """
    page = (planted.ROOT / "docs" / "proof.md").read_text(encoding="utf-8")
    _, _, table = page.partition("| rule |")

    assert re.findall(r"(\d+) of (\d+) planted bugs", page) == [(str(len(planted.BUGS)),) * 2]
    assert re.findall(r"^\| ([^|-][^|]*) \|", table, re.MULTILINE) == [
        bug.rule for bug in planted.BUGS
    ]
