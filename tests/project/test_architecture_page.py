"""The page on architecture is true: its rooms, its picture, its journeys, its names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from drawing import PICTURE, draw
from house import FLOORS, ROOT, Module, read
from journeys import JOURNEYS, functions

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT.parent / "docs" / "architecture.md").read_text("utf-8")
FLOOR_ROW = re.compile(r"^\| (\d+) \| `(\w+)` \|", re.MULTILINE)
NAME = re.compile(r"`([\w/]+\.py:[\w.]+)`")
FILE = re.compile(r"`((?:tests/)?\w+(?:/\w+)*\.py)`")
JOURNEY = re.compile(r"^### ([^\n]+)\n\n(.*?)(?=^##)", re.MULTILINE | re.DOTALL)


def classes() -> set[str]:
    """Return the name of each class of the package, as the page has it."""
    return {
        f"{path.relative_to(ROOT).as_posix()}:{name}"
        for path in ROOT.rglob("*.py")
        for name in re.findall(r"^class (\w+)", path.read_text("utf-8"), re.MULTILINE)
    }


def test_the_page_tells_the_plan() -> None:
    """The code is held to the plan, and people read the page."""
    told = {room: int(floor) for floor, room in FLOOR_ROW.findall(PAGE)}

    assert told == {room: floor for floor, rooms in enumerate(FLOORS, 1) for room in rooms}


def test_the_picture_is_drawn_from_the_imports() -> None:
    """A picture that is out of date hides the arrow that somebody has just added."""
    is_current = PICTURE.read_text("utf-8") == draw(read())

    assert is_current, "draw it again: python tests/support/drawing.py"


def test_the_picture_has_a_place_for_each_room() -> None:
    """A room that is drawn over another one cannot be seen."""
    places = re.findall(r'<rect x="(\d+)" y="(\d+)"', draw(read()))

    assert len(set(places)) == len(places) == sum(map(len, FLOORS))


def test_an_arrow_that_others_replace_is_counted_and_not_drawn() -> None:
    """Among three rooms one above the other, the two short arrows imply the long one."""
    modules = [
        Module(room, "") for rooms in FLOORS for room in rooms if room not in ("chat", "cli")
    ]
    modules.append(Module("chat", "from resilient_requests import exceptions, stream"))
    modules.append(Module("cli", "from resilient_requests import chat, exceptions"))

    picture = draw(modules)

    assert picture.count("<path d=") == 1 + 3
    assert "4 imports between rooms; 1 are not drawn" in picture


def test_each_name_on_the_page_exists() -> None:
    """A name that is gone sends its reader astray."""
    known = {*functions().values(), *classes()}

    assert [name for name in NAME.findall(PAGE) if name not in known] == []


def test_each_file_on_the_page_exists() -> None:
    """A file is one of the package, or a test."""
    roots = ROOT, ROOT.parent

    assert [
        each for each in FILE.findall(PAGE) if not any((root / each).exists() for root in roots)
    ] == []


def test_the_page_tells_all_journeys() -> None:
    """It shows no journey that no call has made."""
    assert [heading for heading, _ in JOURNEY.findall(PAGE)] == list(JOURNEYS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # of the fork
@pytest.mark.parametrize("heading", JOURNEYS)
def test_a_journey_passes_what_the_page_tells(heading: str, tmp_path: Path) -> None:
    """The order is that of the page, with others in between: a reader goes from top to bottom."""
    told = NAME.findall(dict(JOURNEY.findall(PAGE))[heading])
    way = iter(passed := JOURNEYS[heading](tmp_path / "way"))
    missed = next((name for name in told if name not in way), None)

    assert missed is None, f"{missed} is not passed {'there' if missed in passed else 'at all'}"
