"""Plants one bug per rule in a copy of the package, and reports the survivors of random schedules.

``python tests/proof/planted.py`` runs it on its own. It prints a table, and exits with 1 if a bug
survives.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "resilient_requests"
MOST = 10_000  # schedules in which a bug is to be found
SEED = 1
JOBS = max(os.cpu_count() or 1, 2)
LONGEST = 1800.0  # a hunt ends then: a bug that has not been found yet survives


@dataclass(frozen=True)
class Bug:
    """A rule, and the edit that breaks it.

    ``tests`` are the tests that must notice a bug that no schedule can show.
    """

    rule: str
    module: str
    old: str
    new: str
    tests: str | None = None


RULES, DECISION, CALL = "retry/_rules.py", "retry/_decision.py", "retry/_call.py"
POOLS, ORIGINS, WINDOW = (
    "transport/_generations.py",
    "transport/_origin.py",
    "transport/_keepalive.py",
)
ATTEMPT, BUDGET = "call/_attempt.py", "retry/_budget.py"

BUGS = (
    Bug(
        "2.1 refused: wait and repeat",
        RULES,
        "Rule(Failure.NO_CONNECTION, When.ALWAYS",
        "Rule(Failure.NO_CONNECTION, When.IDEMPOTENT",
        "tests/retry/test_fault_matrix.py",
    ),
    Bug(
        "2.2 an unknown host is final",
        RULES,
        "Rule(Failure.UNKNOWN_HOST, When.NEVER",
        "Rule(Failure.UNKNOWN_HOST, When.ALWAYS",
        "tests/retry/test_failures.py",
    ),
    Bug(
        "2.3 a cut handshake retires",
        RULES,
        "Rule(Failure.HANDSHAKE_CUT, When.ALWAYS, 1, retires=True)",
        "Rule(Failure.HANDSHAKE_CUT, When.ALWAYS, 1, retires=False)",
    ),
    Bug(
        "2.4 what is past the window is not reused",
        POOLS,
        "if idle_for >= self._window(origin, conn.hint, now.boot):",
        "if idle_for >= 2 * self._window(origin, conn.hint, now.boot):",
    ),
    Bug(
        "2.4 what is retired is not reused",
        POOLS,
        "if conn.generation < self._floor or conn.generation < origin.floor:",
        "if False:",
    ),
    Bug(
        "2.4 what is readable is not reused",
        "transport/_keepalive.py",
        "return not wait_for_read(sock, timeout=0.0) or _has_only_records(sock)",
        "return True",
    ),
    Bug(
        "2.5-7 a failed send proves that nothing was done",
        ATTEMPT,
        "self.send_failed = self.fault is error",
        "self.send_failed = False",
    ),
    Bug(
        "2.8 a stale reuse costs nothing, once",
        DECISION,
        "is_free = rule.at_once and (rule.cost == 0 or not facts.has_retried_free)",
        "is_free = rule.at_once and rule.cost == 0",
    ),
    Bug(
        "2.8 a later death is not stale",
        "retry/_failures.py",
        "attempt.token.boot() - attempt.sent_at <= _STALE_WITHIN",
        "True",
    ),
    Bug(
        "2.10 no second execution without a key",
        RULES,
        "Rule(Failure.DIED, When.IDEMPOTENT",
        "Rule(Failure.DIED, When.ALWAYS",
    ),
    Bug(
        "2.11 a cut head needs idempotence",
        RULES,
        "Rule(Failure.HEAD_CUT, When.IDEMPOTENT",
        "Rule(Failure.HEAD_CUT, When.ALWAYS",
    ),
    Bug(
        "2.11b what is no HTTP is final",
        RULES,
        "Rule(Failure.UNREADABLE, When.NEVER",
        "Rule(Failure.UNREADABLE, When.IDEMPOTENT",
    ),
    Bug(
        "2.12 silence is not repeated",
        RULES,
        "Rule(Failure.RESPONSE_TIMEOUT, When.CONFIGURED",
        "Rule(Failure.RESPONSE_TIMEOUT, When.IDEMPOTENT",
    ),
    Bug(
        "2.13 a broken stream retires",
        ATTEMPT,
        "if self.lease is not None and (silent or isinstance(error, StreamBroken)):",
        "if False:",
    ),
    Bug(
        "2.14 a cut body costs two",
        RULES,
        "Rule(Failure.BODY_CUT, When.IDEMPOTENT, 2",
        "Rule(Failure.BODY_CUT, When.IDEMPOTENT, 1",
    ),
    Bug(
        "2.17 a status is repeated where it was asked for",
        CALL,
        "if is_wanted:",
        "if False:",
    ),
    Bug(
        "2 the retry dials",
        "transport/_pool.py",
        "if reason is None and attempt is not None and attempt.must_dial:",
        "if False:",
    ),
    Bug(
        "2 at most so many retries",
        DECISION,
        "if facts.retries >= policy.max_retries:",
        "if facts.retries > policy.max_retries:",
    ),
    Bug(
        "2 a body that was touched is not repeated",
        ATTEMPT,
        "return self.sends > 1 or (self.sends == 1 and not self.send_failed)",
        "return False",
    ),
    Bug(
        "2 cancelled is decided by the flag",
        CALL,
        "            self._token.check()\n        except (Cancelled, requests.Requ",
        "            pass\n        except (Cancelled, requests.Requ",
    ),
    Bug(
        "2 a deadline in silence retires",
        "retry/_failures.py",
        "if isinstance(ended, DeadlineExceeded) and in_silence:",
        "if False:",
    ),
    Bug(
        "2 a failure retires once",
        POOLS,
        "if generation < max(known.floor, self._floor):",
        "if False:",
    ),
    Bug(
        "2 a key for every POST",
        "retry/_replayable.py",
        '_KEYED_METHODS = frozenset({"POST", "PATCH"})',
        '_KEYED_METHODS = frozenset({"PATCH"})',
    ),
    Bug("4 the budget denies", BUDGET, "if self._tokens < cost:", "if self._tokens < 0:"),
    Bug(
        "4 a clock that steps back adds nothing",
        BUDGET,
        "max(now - self._since, 0.0), now",
        "abs(now - self._since), now",
        "tests/proof/test_schedules.py::test_tokens_are_those_of_their_history",
    ),
    Bug("4 a success earns", BUDGET, "self._tokens + self._budget.deposit", "self._tokens"),
    Bug(
        "7 the age is the largest of three",
        "call/_clock.py",
        "max(now.monotonic - self.monotonic, now.boot - self.boot, now.wall - self.wall, 0.0)",
        "max(now.monotonic - self.monotonic, 0.0)",
    ),
    Bug(
        "window: a hint shortens",
        WINDOW,
        "min(policy.expiry, max(hint - policy.hint_margin, 0.0))",
        "max(hint - policy.hint_margin, policy.expiry)",
    ),
    Bug("window: a stale reuse narrows", ORIGINS, "self.window.stale(idle_for, boot)", "pass"),
    Bug("window: a good reuse is remembered", ORIGINS, "self.window.good(idle_for)", "pass"),
    Bug("window: a lesson is forgotten", WINDOW, "self._limit * 2.0 **", "self._limit * 1.0 **"),
    Bug(
        "rotate: idle connections go",
        POOLS,
        '"rotate()", None, self._close_idle()',
        '"rotate()", None, 0',
    ),
    Bug(
        "rotate: two within a second are one",
        POOLS,
        "0 <= boot - rotated < _COALESCE",
        "False",
    ),
)
FEW = ("2 a body that was touched is not repeated", "window: a hint shortens")


@dataclass(frozen=True)
class Verdict:
    """The verdict on a bug: the schedule or test that found it, if one did, and the effort.

    The effort is a number of schedules and of seconds.
    """

    bug: Bug
    found_by: str | None
    seconds: float
    after: int | None = None


def plant(bug: Bug, directory: Path) -> None:
    """Put a copy of the package with the bug into a directory."""
    shutil.copytree(
        ROOT / PACKAGE, directory / PACKAGE, ignore=shutil.ignore_patterns("__pycache__")
    )
    module = directory / PACKAGE / bug.module
    text = module.read_text(encoding="utf-8")
    assert text.count(bug.old) == 1, (
        f"{bug.module} has {bug.old!r} {text.count(bug.old)} times: rewrite the bug"
    )
    module.write_text(text.replace(bug.old, bug.new), encoding="utf-8")


def hunt(bug: Bug) -> Verdict:
    """Hunt a bug that is planted in a copy."""
    since = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        plant(bug, Path(name))
        after = None
        if bug.tests is None:
            after, found_by = _scheduled(Path(name))
        else:
            found_by = _tested(Path(name), bug.tests)
    return Verdict(bug, found_by, time.monotonic() - since, after)


def _scheduled(directory: Path) -> tuple[int | None, str | None]:
    """Return after how many schedules one fails, and the shortest one that does."""
    command = [
        str(ROOT / "tests" / "proof" / "schedules.py"),
        "--count",
        str(MOST),
        "--seed",
        str(SEED),
    ]
    done = _run(directory, command)
    if done is None or done.returncode == 0:
        return None, None
    assert done.stdout, done.stderr[-2000:]
    found = json.loads(done.stdout)
    return found["schedules"], found["shortest"]


def _tested(directory: Path, tests: str) -> str | None:
    """Return the first test that fails."""
    # One process: bugs are hunted in parallel themselves.
    options = ["-x", "-q", "-p", "no:cacheprovider", "--show-capture=no", "--tb=no", "-rf"]
    options += [
        "-o",
        "addopts=--import-mode=importlib",
        "-c",
        str(ROOT / "pyproject.toml"),
        str(ROOT / tests),
    ]
    done = _run(directory, ["-m", "pytest", *options])
    if done is None or done.returncode == 0:
        return None
    failed = [
        line.split("::", 1)[1].split(" - ")[0]
        for line in done.stdout.splitlines()
        if line.startswith("FAILED")
    ]
    assert failed, done.stdout[-2000:] + done.stderr[-2000:]
    return failed[0]


def _run(directory: Path, arguments: list[str]) -> subprocess.CompletedProcess[str] | None:
    """Run Python with the package in this directory in front of the import path.

    Return None if it does not end.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.endswith("_CA_BUNDLE")
    }
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(directory), str(ROOT / "tests" / "support")]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    where = f"import {PACKAGE}; print({PACKAGE}.__file__)"
    seen = subprocess.run(
        [sys.executable, "-c", where],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(seen.stdout.strip()).resolve().is_relative_to(directory.resolve()), seen.stdout
    command = [sys.executable, *arguments]
    try:
        return subprocess.run(
            command,
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None


def hunt_all(bugs: Sequence[Bug], jobs: int) -> list[Verdict]:
    """Hunt so many at once; tells of each on stderr, since it takes long."""
    with ThreadPoolExecutor(jobs) as workers:
        hunts = [workers.submit(hunt, bug) for bug in bugs]
        for each in as_completed(hunts):
            verdict = each.result()
            sys.stderr.write(f"{verdict.seconds:4.0f} s  {verdict.bug.rule}: {verdict.found_by}\n")
    return [each.result() for each in hunts]


def table(verdicts: list[Verdict]) -> str:
    """Return verdicts as a table in Markdown."""
    rows = ["| rule | schedules until found | the shortest seen to find it |", "|---|--:|---|"]
    for each in verdicts:
        found_by = f"`{each.found_by}`" if each.found_by else "**none: it survives**"
        rows.append(f"| {each.bug.rule} | {each.after or 'a test'} | {found_by} |")
    return "\n".join(rows)


def main() -> int:
    """Hunt all bugs, or those whose rule contains a word; exit with 1 where one survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="hunt only bugs whose rule contains this")
    parser.add_argument("--jobs", type=int, default=JOBS, help="how many are hunted at once")
    options = parser.parse_args()
    bugs = [bug for bug in BUGS if options.only in bug.rule]
    if not bugs:
        parser.error(f"no rule contains {options.only!r}")
    verdicts = hunt_all(bugs, options.jobs)
    survivors = [each for each in verdicts if each.found_by is None]
    print(table(verdicts))  # noqa: T201  # its result
    print(f"\n{len(verdicts) - len(survivors)} of {len(verdicts)} found")  # noqa: T201  # the same
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main())
