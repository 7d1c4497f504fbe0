"""The demonstration as its users run it, and its judgement of what it has shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from requests.adapters import HTTPAdapter

from resilient_requests import cli
from resilient_requests.cli.demo import _rows, _table
from resilient_requests.cli.demo._incidents import INCIDENTS, Incident
from resilient_requests.cli.demo._stage import Outcome, Promise, Stage

SLOWEST = 30.0
BLOCKED = (
    "import sys; [sys.modules.__setitem__(name, None) for name in ('rich', 'trustme', 'pytest')]; "
)
COMMAND = "from resilient_requests.cli import main; raise SystemExit(main(['demo']))"
ONE = "from resilient_requests.cli import demo; demo.INCIDENTS = demo.INCIDENTS[:1]; "
BROKEN = """
import argparse
from requests.adapters import HTTPAdapter
raise SystemExit(demo.run(argparse.Namespace(json=True), lambda **options: HTTPAdapter()))
"""


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own."""
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=SLOWEST,
        check=False,
        **options,
    )


def outcome(
    said: str = "200", *, seconds: float = 0.1, requests: int = 1, applied: int = 1
) -> Outcome:
    """Return what came of a fault; of one call, unless said otherwise."""
    return Outcome(outcome=said, seconds=seconds, requests=requests, applied=applied)


def row(as_promised: bool | None) -> _rows.Row:
    """Return a row that was judged so."""
    return _rows.Row(
        incident="A fault", plain=outcome("hangs"), resilient=outcome(), as_promised=as_promised
    )


def incident(play: Any, *, within: float = 5.0, **facts: Any) -> Incident:
    """Return an incident that promises one call and a 200."""
    promise = Promise(outcome="200", requests=1, applied=1, within=within)
    return Incident(title="A fault", plain=play, resilient=play, promise=promise, **facts)


def answered(stage: Stage) -> str:
    """Play a call that nothing happens to."""
    server = stage.serve()
    session = stage.session()
    stage.begin()
    return str(session.get(server.url).status_code)


@pytest.mark.slow
def test_each_row_is_as_promised() -> None:
    """What a newcomer runs first: the real command, its one JSON object, and its exit code."""
    done = run("-W", "error", "-m", "resilient_requests", "demo", "--json")

    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["incident"] for row in rows] == [incident.title for incident in INCIDENTS]
    for each in rows:
        assert set(each) == {"incident", "plain", "resilient", "as_promised"}
        for side in (each["plain"], each["resilient"]):
            assert set(side) == {"outcome", "seconds", "requests", "applied"}
        assert each["as_promised"] is True or not hasattr(os, "fork")


@pytest.mark.slow
def test_the_core_dependencies_suffice() -> None:
    """The first command of somebody who installed without extras works, and a pipe gets plain text."""
    # Escape sequences in a log or a CI job are noise, whatever the environment claims about the terminal.
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"}

    done = run("-c", BLOCKED + COMMAND, env=environment)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("as promised")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert f"[{len(INCIDENTS)}/{len(INCIDENTS)}]" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_broken_promise_is_an_exit_code() -> None:
    """A demonstration that cannot fail shows nothing: with a plain adapter in the place of ours it must."""
    done = run("-c", ONE + BROKEN)

    assert done.returncode == 1
    (shown,) = json.loads(done.stdout)["rows"]
    assert shown["as_promised"] is False
    assert shown["resilient"]["outcome"].startswith("ConnectionError")


def test_where_the_server_cannot_run_the_command_says_so() -> None:
    """On Windows, which has no poll(); the other commands need no server."""
    no_poll = "import select; [delattr(select, name) for name in dir(select) if name.startswith(('poll', 'POLL'))]; "

    done = run("-c", no_poll + COMMAND)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "the demonstration needs a POSIX system, for its server\n"


def test_a_hanging_side_is_bounded() -> None:
    """Plain requests may hang for ever: the demonstration may not."""

    def hang(stage: Stage) -> str:
        server = stage.serve(idle_limit=0.0, idle_fault="drop")
        session = stage.session()
        stage.begin()
        return str(session.get(server.url))

    shown = _rows.play(incident(hang, limit=0.1, within=0.2), lambda **_: HTTPAdapter())

    assert shown.plain.outcome == "still hanging after 0.1 s"
    assert shown.resilient.outcome == "still hanging after 0.2 s"
    assert shown.as_promised is False


def test_an_error_is_named_and_its_attempts_are_counted() -> None:
    """The class is what the reader's own code will see; the message may hold a URL."""

    def refuse(stage: Stage) -> str:
        session = stage.session()
        stage.begin()
        return str(session.get("http://127.0.0.1:1"))

    shown = _rows.play(incident(refuse))

    assert shown.plain.outcome == "ConnectionError(ECONNREFUSED)"
    assert shown.resilient.outcome == "ConnectionError(ECONNREFUSED) after 3 attempts"


def test_requests_that_warm_the_pool_are_not_counted() -> None:
    """The counts are about the incident."""

    def warm(stage: Stage) -> str:
        stage.session().get(stage.serve().url + "/warm-up")
        return "200"

    assert _rows.play(incident(warm)).resilient.requests == 0


def test_what_a_platform_cannot_do_is_skipped() -> None:
    """Windows has no fork: that breaks no promise, and keeps none."""
    shown = _rows.play(incident(answered, possible=False))

    assert shown.as_promised is None
    assert shown.resilient.outcome.startswith("skipped")


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        (outcome(), True),
        (outcome("200 at attempt 2"), True),
        (outcome(seconds=1.0), True),
        (outcome(seconds=1.01), False),
        (outcome("ConnectionError"), False),
        (outcome(requests=2), False),
        (outcome(applied=2), False),
    ],
)
def test_a_promise_is_exact(found: Outcome, kept: bool) -> None:
    """A request too many or a second too late is a broken promise."""
    assert Promise(outcome="200", requests=1, applied=1, within=1.0).is_kept_by(found) is kept


@pytest.mark.parametrize(
    ("rows", "last"),
    [
        ([row(True), row(True)], "2 of 2 as promised"),
        ([row(True), row(False)], "1 of 2 as promised"),
        ([row(True), row(None)], "1 of 1 as promised, 1 skipped"),
    ],
)
def test_the_table_ends_with_a_count(
    capsys: pytest.CaptureFixture[str], rows: list[_rows.Row], last: str
) -> None:
    """Who reads only the last line knows the result."""
    _table.show(rows)

    assert capsys.readouterr().out.splitlines()[-1] == last


def test_the_table_marks_a_broken_promise(capsys: pytest.CaptureFixture[str]) -> None:
    """It must not take an exit code to see which row it was."""
    _table.show([row(True), row(False)])

    assert capsys.readouterr().out.count("NOT AS PROMISED") == 1


@pytest.mark.parametrize("rows", [[row(True), row(False), row(None)]])
def test_a_terminal_gets_a_drawn_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, rows: list[_rows.Row]
) -> None:
    """With rich installed; the same facts stand in it."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)

    with _table.progress(1) as progress:
        progress.started("A fault")
        progress.finished(as_promised=True)
    _table.show(rows)

    shown = capsys.readouterr()
    assert "Plain requests" in shown.out
    assert "hangs" in shown.out
    assert "A fault" in shown.err


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), (["--version"], 0), ([], 2), (["unknown"], 2)]
)
def test_usage(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """As every command line does: 0 for what was asked for, 2 for what was not understood."""
    with pytest.raises(SystemExit) as exited:
        cli.main(arguments)

    assert exited.value.code == code
    shown = capsys.readouterr()
    assert "resilient-requests" in (shown.err if code else shown.out)


def test_interrupting_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """130 is what a shell makes of Ctrl-C."""

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(_rows, "play", interrupted)

    assert cli.main(["demo"]) == 130


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="closes the reading end of a pipe")
def test_a_reader_that_leaves_is_no_traceback() -> None:
    """``resilient-requests demo | head -1`` is what people do."""
    with subprocess.Popen(
        [sys.executable, "-c", ONE + COMMAND],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
        code = process.wait(SLOWEST)

    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors
    assert code == 1
