"""A client process: one contender in one measure, kept alive over all rounds."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace

from benchmarks.contenders._contender import Contender, Upstream
from benchmarks.measures import MEASURES

__all__ = ["main"]


def _contender(name: str, upstream: Upstream) -> Contender:
    made: Contender = importlib.import_module(f"benchmarks.contenders.{name}").Contender(upstream)
    return made


def main() -> None:
    """Print a line when ready, then run once per line of standard input.

    Each run prints its figures as JSON.
    """
    measure = MEASURES[sys.argv[1]]
    try:
        upstream = Upstream(**json.loads(sys.argv[3]))
        contender = _contender(
            sys.argv[2], upstream if measure.is_tls else replace(upstream, https=0)
        )
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), flush=True)
        return
    able = measure.is_able(contender)
    print(json.dumps({} if able else {"missing": "it has nothing of the kind"}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure.run(contender)), flush=True)


if __name__ == "__main__":
    main()
