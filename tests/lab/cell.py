"""Plays one incident for one client in a laboratory of its own.

The command is ``python -m lab.cell INCIDENT CONTENDER SCHEME``. It prints the outcome as one line
of JSON. It is a process of its own, so that a hanging client can be ended.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path

from lab.contenders import CONTENDERS
from lab.incidents import BY_NAME
from lab.network import Lab
from lab.stage import Outcome, Stage

SCHEMES = ("http", "https")


def play(
    incident: str, contender: str, scheme: str, *, limit: float, certificates: Path | None = None
) -> Outcome:
    """Build a laboratory, play the incident, and return its outcome."""
    row = BY_NAME[incident]
    with (
        Lab(memory=row.memory, strangers=row.strangers, certificate_directory=certificates) as lab,
        lab.client.entered(),
    ):
        stage = Stage(lab, contender, scheme, row.settings, limit)
        row.play(stage)
        return stage.outcome()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Play one incident.")
    parser.add_argument("incident", choices=BY_NAME)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("scheme", choices=SCHEMES)
    parser.add_argument(
        "--limit", type=float, default=60.0, help="seconds after which a call counts as hung"
    )
    parser.add_argument("--certificates", type=Path, help="a directory of ready ones")
    given = parser.parse_args()
    # The imports may have run at low priority, so as not to disturb the measurements of others. The
    # incident itself must run at normal priority.
    os.setpriority(os.PRIO_PROCESS, 0, 0)
    outcome = play(
        given.incident,
        given.contender,
        given.scheme,
        limit=given.limit,
        certificates=given.certificates,
    )
    sys.stdout.write(json.dumps(dataclasses.asdict(outcome)) + "\n")
    sys.stdout.flush()
    os._exit(0)  # threads of hung calls are still about


if __name__ == "__main__":
    main()
