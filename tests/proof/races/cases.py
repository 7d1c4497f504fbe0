"""Races that were found once, and the file in which they are kept."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from known_faults import read as read_known_faults

from races.scenarios import Scenario
from races.trial import Trial, Violation, lines_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from driven_network import Network

    from races.tracing import Place

CORPUS = Path(__file__).with_name("corpus.jsonl")
KNOWN_FAULTS = Path(__file__).with_name("known_faults.txt")


@dataclass(frozen=True)
class Entry:
    """Something that happens in a call, at the lines of a function; ``name`` is unique.

    ``file`` may be the beginning of a path: functions of ours move from one module to another.
    """

    name: str
    scenario: Scenario
    happening: str
    file: str
    function: str
    pause: int = 0
    gap: int = 1

    def dumps(self) -> str:
        """Return its line in the corpus."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, line: str) -> Entry:
        """Return the entry of a line."""
        document = json.loads(line)
        return cls(**{**document, "scenario": Scenario(**document["scenario"])})

    def is_at(self, place: Place) -> bool:
        """Return whether it happens at this line."""
        return place.file.startswith(self.file) and place.function == self.function

    def violation(
        self, networks: Mapping[bool, Network], most: int | None = None
    ) -> Violation | None:
        """Try it at the lines of the function, at most so many; return the first violation.

        None too where the call does not pass the function any more.
        """
        places = lines_of(self.scenario, networks)
        numbers = [numbers[0] for place, numbers in places.items() if self.is_at(place)]
        step = 1 if most is None else -(-len(numbers) // most) or 1
        for number in numbers[::step]:
            try:
                Trial(self.scenario, self.happening, number, self.pause, self.gap).check(networks)
            except Violation as violation:
                return violation
        return None


def corpus() -> list[Entry]:
    """Return the races that were found once."""
    return [Entry.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]


def known_faults() -> frozenset[str]:
    """Return the names of the corpus entries that fail at present."""
    return read_known_faults(KNOWN_FAULTS)
