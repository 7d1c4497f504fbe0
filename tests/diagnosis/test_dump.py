"""dump and dump_on: text for people, also from a signal handler while a call hangs."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clients import Client, Running, until

from resilient_requests import dump, dump_on
from resilient_requests.diagnosis import _dump
from resilient_requests.testing import FaultServer, silence, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).resolve().parents[1] / "support" / "hanging_script.py"
ENDLESS = stream([b"data: one\n\n"], ending="silence")
NOBODY = r"resilient_requests: no calls in flight in process \d+, \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n"
signals = pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="the platform has no SIGUSR2")


@pytest.fixture
def usr2() -> Iterator[signal.Signals]:
    """A signal whose handler is put back."""
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    yield signal.SIGUSR2
    signal.signal(signal.SIGUSR2, before)


def test_dump_tells_each_call(server: FaultServer, client: Client) -> None:
    """A heading, then of each call its name, its phase, the kernel's view and the judgement."""
    server.script(ENDLESS, ENDLESS)
    text = io.StringIO()
    with client.get(stream=True), client.get(stream=True):
        first, second = client.adapter.in_flight()
        dump(text)

    heading, *lines = text.getvalue().splitlines()
    assert heading.startswith(f"resilient_requests: 2 calls in flight in process {os.getpid()}, ")
    firsts = [line for line in lines if not line.startswith(" ")]
    assert [line.split()[1] for line in firsts] == [first.call_id, second.call_id]
    assert all(f"to {client.url}: attempt 1, body, in " in line for line in firsts)
    assert sum("the consumer holds the stream" in line for line in lines) == 2
    if sys.platform == "linux":
        assert sum(line.startswith("  tcp ESTABLISHED: ") for line in lines) == 2


def test_dump_of_nothing_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    """By default it goes to the present sys.stderr."""
    dump()

    assert re.fullmatch(NOBODY, capfd.readouterr().err)


def test_dump_writes_to_files_and_descriptors(tmp_path: Path) -> None:
    """A file with a descriptor is written to past its buffer, whose lock may be held."""
    with (tmp_path / "dump").open("w+", encoding="ascii") as file:
        dump(file)
        dump(file.fileno())
        at_once = (tmp_path / "dump").read_text(encoding="ascii")

    assert re.fullmatch(NOBODY * 2, at_once)


@pytest.mark.parametrize("file", ["name", b"name", 1.5, True, object()])
def test_dump_refuses_what_is_no_file(file: Any) -> None:
    """The error names the parameter; a path is no file."""
    with pytest.raises(TypeError, match="file must be"):
        dump(file)


def test_dump_refuses_a_negative_descriptor() -> None:
    """The error names the parameter."""
    with pytest.raises(ValueError, match="file must be"):
        dump(-1)


def test_dump_swallows_what_goes_wrong_in_writing(tmp_path: Path) -> None:
    """The program that is looked at goes on."""
    closed = (tmp_path / "closed").open("w", encoding="ascii")
    closed.close()
    ours, theirs = os.pipe()
    os.close(ours)
    os.close(theirs)

    dump(closed)
    dump(theirs)


def test_dump_without_a_console_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without a console has no sys.stderr."""
    monkeypatch.setattr(sys, "stderr", None)

    dump()


def test_dump_says_where_the_system_does_not_tell(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS and Windows a dump has phases and limits, no view of the path, and says why."""
    text = io.StringIO()
    fault_server.script(ENDLESS)
    with Client(fault_server) as client, client.get(stream=True) as response:
        reader = Running(lambda: list(response.iter_lines()))
        until(lambda: not client.adapter.in_flight()[0].is_held)
        monkeypatch.setattr(sys, "platform", "darwin")
        dump(text)
        monkeypatch.undo()
        client.adapter.shutdown()
        reader.seconds_to_end()

    heading, *lines = text.getvalue().splitlines()
    assert heading.endswith("; darwin does not tell of its paths")
    assert lines[-1] == "  waiting for more of the body, the idle limit ends it"
    assert not any("tcp" in line for line in lines)


@signals
def test_signal_dumps_and_goes_on_to_the_earlier_handler(usr2: signal.Signals) -> None:
    """A server's own handler keeps its work."""
    heard: list[int] = []

    def handler(number: int, frame: object) -> None:
        heard.append(number)

    text, other = io.StringIO(), io.StringIO()
    signal.signal(usr2, handler)
    assert dump_on(usr2, text) is handler
    signal.raise_signal(usr2)
    assert dump_on(usr2, other) is handler  # in place of the first
    signal.raise_signal(usr2)

    assert heard == [usr2, usr2]
    assert re.fullmatch(NOBODY, text.getvalue())
    assert re.fullmatch(NOBODY, other.getvalue())


@signals
def test_signal_without_a_handler_ends_nothing(usr2: signal.Signals) -> None:
    """The default of SIGUSR2 would end the process."""
    signal.signal(usr2, signal.SIG_DFL)
    text = io.StringIO()

    assert dump_on(usr2, text) is signal.SIG_DFL
    signal.raise_signal(usr2)
    assert re.fullmatch(NOBODY, text.getvalue())


@pytest.mark.parametrize(
    ("number", "kind"),
    [("USR2", TypeError), (None, TypeError), (0, ValueError), (9999, ValueError), (9, ValueError)],
)
def test_dump_on_refuses_what_cannot_be_caught(number: Any, kind: type[Exception]) -> None:
    """No signal, none of this system, and SIGKILL; the error names the parameter."""
    with pytest.raises(kind, match="signal must be"):
        dump_on(number)


@signals
def test_dump_on_refuses_a_bad_file_before_it_installs_anything(usr2: signal.Signals) -> None:
    """An error in the handler would come hours later, when it is needed."""
    with pytest.raises(TypeError, match="file must be"):
        dump_on(usr2, "name")  # type: ignore[arg-type]

    assert signal.getsignal(usr2) is signal.SIG_IGN


@signals
def test_dump_on_belongs_to_the_main_thread(usr2: signal.Signals) -> None:
    """Python installs handlers there alone."""
    errors: list[Exception] = []

    def install() -> None:
        try:
            dump_on(usr2)
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=install)
    thread.start()
    thread.join(5)

    assert "main thread" in str(errors)


@signals
@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("where", ["main", "worker"])
def test_real_signal_dumps_a_process_whose_call_hangs(tls: bool, where: str) -> None:
    """The call may hang in any thread, and goes on hanging: nothing is ended by a look."""
    with FaultServer(tls=tls) as server:
        server.script(silence())
        arguments = [sys.executable, str(SCRIPT), server.url, where, server.ca_path or ""]
        with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                until(lambda: len(server.requests) == 1)
                dumps: list[list[str]] = []
                # The server may have the request before the client knows that it is sent.
                while len(dumps) < 2 or ", wait, " not in dumps[-2][1]:
                    process.send_signal(signal.SIGUSR2)
                    dumps.append([process.stderr.readline() for _ in range(5)])
                still_hangs = process.poll() is None
            finally:
                process.kill()

    thread = "MainThread" if where == "main" else "worker"
    for heading, call, _, tcp, line in dumps[-2:]:
        assert heading.startswith(f"resilient_requests: 1 call in flight in process {process.pid}")
        assert f"to {server.url}: attempt 1, wait, in {thread!r}" in call
        assert tcp.startswith("  tcp ESTABLISHED: ")
        assert line.startswith("  waiting for the first byte; ")
    assert still_hangs


def test_long_text_is_written_whole() -> None:
    """A pipe takes as much as it has room for."""
    ours, theirs = os.pipe()
    got: list[bytes] = []

    def read() -> None:
        with open(ours, "rb") as file:  # noqa: PTH123
            got.append(file.read())

    reader = threading.Thread(target=read)
    reader.start()
    _dump._write(theirs, "é" * 200_000)
    os.close(theirs)
    reader.join(5)

    assert got == ["é".encode() * 200_000]
