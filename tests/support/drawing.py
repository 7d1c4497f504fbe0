"""Draws the house from its imports; ``python tests/support/drawing.py`` writes the picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from house import FLOORS, Module, graph_of, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "_static" / "house.svg"

# From the left; a room that is not here stands in the last column.
_COLUMNS = (
    "otel exceptions",
    "__init__ adapter retry call _checks",
    "web chat stream transport",
    "",
)
_FRAME = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 740 {height}" width="740" height="{height}" \
role="img" font-family="system-ui, sans-serif" font-size="14" fill="#1f2937" text-anchor="middle">
<title>The rooms of the package on their floors, and what they import</title>
<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0L8 4L0 8z" fill="#6b7280"/></marker>
<rect width="740" height="{height}" rx="10" fill="#ffffff"/>
{boxes}
<g fill="none" stroke="#6b7280" stroke-width="1.5" marker-end="url(#tip)">
{arrows}
</g>
<text x="370" y="{bottom}" font-size="12">{note}</text>
</svg>
"""


def arrows_of(modules: Iterable[Module]) -> dict[str, set[str]]:
    """Return which rooms each room imports."""
    arrows: dict[str, set[str]] = {}
    for name, targets in graph_of(modules).items():
        room = name.partition(".")[0]
        below = {target.partition(".")[0] for target in targets} - {room}
        arrows.setdefault(room, set()).update(below)
    return arrows


def direct(arrows: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Return the arrows that no way over another room replaces."""

    def reached(room: str) -> set[str]:
        return arrows[room].union(*map(reached, arrows[room]))

    return [
        (room, target)
        for room, below in sorted(arrows.items())
        for target in sorted(below.difference(*map(reached, below)))
    ]


def draw(modules: Iterable[Module]) -> str:
    """Return the picture as SVG, on a ground of its own, for light and for dark pages."""
    arrows = arrows_of(modules)
    drawn, total = direct(arrows), sum(map(len, arrows.values()))
    height = 70 * len(FLOORS) + 36
    corners = {
        room: (46 + 170 * _column(room), height - 16 - 70 * floor)
        for floor, rooms in enumerate(FLOORS, 1)
        for room in sorted(rooms)
    }
    note = (
        f"{total} imports between rooms; "
        f"{total - len(drawn)} are not drawn: other arrows lead there, too"
    )
    boxes = "\n".join(_box(room, *corner) for room, corner in corners.items())
    lines = "\n".join(_arrow(*corners[room], *corners[target]) for room, target in drawn)
    return _FRAME.format(height=height, bottom=height - 16, boxes=boxes, arrows=lines, note=note)


def _column(room: str) -> int:
    return next((at for at, rooms in enumerate(_COLUMNS) if room in rooms.split()), 3)


def _box(room: str, x: int, y: int) -> str:
    box = f'<rect x="{x}" y="{y}" width="140" height="34" rx="6" fill="#cfe8d4"/>'
    return f'{box}<text x="{x + 70}" y="{y + 22}">{room}</text>'


def _arrow(x: int, y: int, to_x: int, to_y: int) -> str:
    """Return a curve from below one box to another's top; those that come from aside stay apart."""
    lean = 30 * ((to_x > x) - (to_x < x))
    x, y, to_x = x + 70 + lean, y + 34, to_x + 70 - lean
    return f'<path d="M{x} {y}C{x} {y + 24} {to_x} {to_y - 24} {to_x} {to_y}"/>'


if __name__ == "__main__":
    PICTURE.write_text(draw(read()), encoding="utf-8")
