"""The files for newcomers and for code hosts name only things that exist."""

from __future__ import annotations

import ast
import configparser
import re
from pathlib import Path

import pytest
from house import FLOORS

ROOT = Path(__file__).resolve().parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
CHECKS = ROOT / ".github" / "workflows" / "checks.yml"
WORKFLOW = CHECKS.read_text("utf-8")
COMMANDS = (
    "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest",
    ".venv/bin/pip install nox && .venv/bin/nox -s lint types docs",
)


def sessions() -> list[str]:
    """Return the names of the nox sessions."""
    tree = ast.parse((ROOT / "noxfile.py").read_text("utf-8"))
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any("nox.session" in ast.unparse(each) for each in node.decorator_list)
    ]


def pythons(pattern: str, path: Path) -> list[str]:
    """Return the versions of Python in the lines of a file that a pattern describes."""
    return [
        version
        for line in path.read_text("utf-8").splitlines()
        if re.match(pattern, line)
        for version in re.findall(r"\b3\.\d+\b", line)
    ]


def test_the_two_commands_lead_from_a_clone_to_green() -> None:
    """The first is the README's own, which the checks of a clean clone run."""
    (block,) = re.findall(r"^```sh\n(.*?)^```$", CONTRIBUTING, re.MULTILINE | re.DOTALL)

    assert tuple(block.splitlines()) == COMMANDS


@pytest.mark.parametrize("room", sorted(frozenset.union(*FLOORS) - {"__init__", "__main__"}))
def test_the_table_of_places_has_each_room(room: str) -> None:
    """Nobody finds a room that is not on the plan."""
    assert re.search(rf"`resilient_requests/{room}(/|\.py)`", CONTRIBUTING)


def test_each_place_of_the_table_exists() -> None:
    """A plan of a house that was rebuilt misleads."""
    table = CONTRIBUTING[CONTRIBUTING.index("## Where") : CONTRIBUTING.index("## Run")]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    places = [place for cell in first_cells for place in re.findall(r"`([^`]+)`", cell)]

    assert places
    assert [place for place in places if not (ROOT / place).exists()] == []


@pytest.mark.parametrize("session", sessions())
def test_a_session_is_explained_and_runs_in_the_workflow(session: str) -> None:
    """A session that nobody runs is soon red."""
    run = re.findall(r"^ +(?:- )?(?:session: |run: .* -s )(.*)$", WORKFLOW, re.MULTILINE)

    assert f"nox -s {session}" in CONTRIBUTING
    assert session in re.findall(r"[a-z]+", " ".join(run))


def test_each_system_meets_each_python_in_the_workflow() -> None:
    """Those of the sessions, which may be more than those that have been seen green."""
    assert pythons(r" +python: \[.*,", CHECKS) == pythons("PYTHONS = ", ROOT / "noxfile.py")
    assert "system: [ubuntu-latest, macos-latest, windows-latest]" in WORKFLOW


def test_the_classifiers_name_the_pythons_that_are_tested() -> None:
    """Those of ``.ci/run``: the others are in the workflow on probation."""
    told = pythons(r"    Programming Language :: Python :: 3\.", ROOT / "setup.cfg")

    assert told == pythons("PYTHONS=", ROOT / ".ci" / "run") != []


def test_the_licence_is_an_expression() -> None:
    """PEP 639: a classifier for the licence beside it is an error at the package index."""
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg", encoding="utf-8")

    assert metadata["metadata"]["license_expression"] == "MIT"
    assert "License ::" not in metadata["metadata"]["classifiers"]
    assert (ROOT / metadata["metadata"]["license_files"]).is_file()
