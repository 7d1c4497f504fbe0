"""The demonstration as its users run it, and its judgement of its own results."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from requests.adapters import HTTPAdapter
from terminal import terminal

from resilient_requests import cli
from resilient_requests.cli import demo
from resilient_requests.cli._output import show
from resilient_requests.cli.demo._incidents import INCIDENTS
from resilient_requests.cli.demo._stage import Incident, Outcome, Promise, Row, Stage, play

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from resilient_requests.cli._output import Line

    Form = Callable[[Sequence[Row]], Iterable[Line]]

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
    """Return the outcome of a fault; of one call, unless given otherwise."""
    return Outcome(outcome=said, seconds=seconds, requests=requests, applied=applied)


def row(as_promised: bool | None) -> Row:
    """Return a row that was judged so."""
    return Row(
        incident="A fault", plain=outcome("hangs"), resilient=outcome(), as_promised=as_promised
    )


def text_of(lines: Iterable[Line]) -> list[str]:
    """Return lines without their styles."""
    return ["".join(text for text, _ in line) for line in lines]


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
    """A newcomer runs this first: the real command, its one JSON object, and its exit code."""
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
    """The first command works without extras, and a pipe gets plain text."""
    # Escape sequences in a log are noise, even if the environment claims a colour terminal.
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"}

    done = run("-c", BLOCKED + ONE + COMMAND, env=environment)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("as promised")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stderr == f"[1/1] {INCIDENTS[0].title}: as promised\n"
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_broken_promise_is_an_exit_code() -> None:
    """A demonstration that cannot fail shows nothing: it must fail with a plain adapter."""
    done = run("-c", ONE + BROKEN)

    assert done.returncode == 1
    (shown,) = json.loads(done.stdout)["rows"]
    assert shown["as_promised"] is False
    assert shown["resilient"]["outcome"].startswith("ConnectionError")


def test_where_the_server_cannot_run_the_command_says_so() -> None:
    """Windows has no poll(), which the server needs; the other commands need no server."""
    no_poll = (
        "import select; "
        "[delattr(select, name) for name in dir(select) if name.lower().startswith('poll')]; "
    )

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

    shown = play(incident(hang, limit=0.1, within=0.2), lambda **_: HTTPAdapter())

    assert shown.plain.outcome == "still hanging after 0.1 s"
    assert shown.resilient.outcome == "still hanging after 0.2 s"
    assert shown.as_promised is False


def test_an_error_is_named_and_its_attempts_are_counted() -> None:
    """The reader's own code will see that class; the message may hold a URL."""

    def refuse(stage: Stage) -> str:
        session = stage.session()
        stage.begin()
        return str(session.get("http://127.0.0.1:1"))

    shown = play(incident(refuse))

    assert shown.plain.outcome == "ConnectionError(ECONNREFUSED)"
    assert shown.resilient.outcome == "ConnectionError(ECONNREFUSED) after 3 attempts"


def test_requests_that_warm_the_pool_are_not_counted() -> None:
    """The counts are about the incident."""

    def warm(stage: Stage) -> str:
        stage.session().get(stage.serve().url + "/warm-up")
        return "200"

    assert play(incident(warm)).resilient.requests == 0


def test_what_a_platform_cannot_do_is_skipped() -> None:
    """Windows has no fork: that breaks no promise, and keeps none."""
    shown = play(incident(answered, possible=False))

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


@pytest.mark.parametrize("form", [demo.table, demo.listing])
@pytest.mark.parametrize(
    ("rows", "last"),
    [
        ([row(True), row(True)], "2 of 2 as promised"),
        ([row(True), row(False)], "1 of 2 as promised"),
        ([row(True), row(None)], "1 of 1 as promised, 1 skipped"),
    ],
)
def test_a_table_ends_with_a_count(form: Form, rows: list[Row], last: str) -> None:
    """A reader of the last line alone knows the result."""
    assert text_of(form(rows))[-1] == last


@pytest.mark.parametrize("form", [demo.table, demo.listing])
def test_a_table_marks_a_broken_promise(form: Form) -> None:
    """It must not take an exit code to see which row it was."""
    text = "\n".join(text_of(form([row(True), row(False)])))

    assert text.count("NOT AS PROMISED") == 1


@pytest.mark.parametrize("rows", [[row(True), row(False), row(None)]])
def test_a_terminal_gets_a_coloured_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, rows: list[Row]
) -> None:
    """The colours come from rich; without them it is the same table."""
    show(demo.table(rows))
    plain = capsys.readouterr().out
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)

    show(demo.table(rows))

    shown = capsys.readouterr().out
    assert "\x1b[" in shown
    without_colours = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert [line.rstrip() for line in without_colours.splitlines()] == plain.splitlines()


def typical(promise: Promise) -> Outcome:
    """Return an outcome that is as long as those of a real run, and longer."""
    said = {"ConnectionError": "ConnectionError(ECONNRESET) after 3 attempts"}
    words = said.get(promise.outcome, promise.outcome)
    return outcome(words, seconds=1.0, requests=promise.requests, applied=promise.applied)


def test_the_table_fits_a_terminal_of_80_by_24() -> None:
    """Its head is still there when the shell prompts again, on the last line."""
    plain = outcome("ConnectionError(ECONNRESET)", seconds=2.0)
    rows = [
        Row(incident=each.title, plain=plain, resilient=typical(each.promise), as_promised=True)
        for each in INCIDENTS
    ]

    lines = text_of(demo.table(rows))

    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    "name", ["ConnectionError", "StreamProtocolError", "ConnectionRefusedError(ECONNREFUSED)"]
)
def test_the_name_of_an_error_is_never_cut(name: str) -> None:
    """A reader looks for it in the documentation."""
    found = outcome(f"{name} after 3 attempts")
    row = Row(incident="A fault", plain=found, resilient=found, as_promised=True)

    text = "\n".join(text_of(demo.table([row])))

    assert len(re.findall(rf"\b{name.partition('(')[0]}\b", text)) == 2


@pytest.mark.slow
def test_a_terminal_of_80_by_24_shows_all_of_the_table() -> None:
    """The real command on a real terminal."""
    with terminal([sys.executable, "-m", "resilient_requests", "demo"], stderr_apart=True) as shown:
        code = shown.end()

    lines = shown.text.splitlines()
    assert code == 0
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    assert "Plain requests" in lines[0]
    assert lines[-1] == f"{len(INCIDENTS)} of {len(INCIDENTS)} as promised"


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 9], ids=["a hanging call", "two processes"])
def test_ctrl_c_ends_an_incident(number: int) -> None:
    """It also ends everything that the incident has started."""
    two = (
        f"from resilient_requests.cli import demo; demo.INCIDENTS = demo.INCIDENTS[{number - 1}:]; "
    )
    with terminal([sys.executable, "-c", two + COMMAND]) as shown:
        code = shown.wait_for("[1/").press_ctrl_c().end()

    assert code == 130
    assert "Traceback" not in shown.text


def test_interrupting_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell reports Ctrl-C as 130."""

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "play", interrupted)

    assert cli.main(["demo"]) == 130


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="closes the reading end of a pipe")
def test_a_reader_that_leaves_is_no_traceback() -> None:
    """People run ``resilient-requests demo | head -1``."""
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
