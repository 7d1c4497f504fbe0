"""The command line as a whole: help, completion, a pipe whose reader leaves, Ctrl-C."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from terminal import terminal

from resilient_requests import cli

SLOWEST = 30.0
COMMAND = (sys.executable, "-W", "error", "-m", "resilient_requests")
# With PYTHONUNBUFFERED nothing is left for Python to flush at exit, where it would complain aloud.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the real command in a process of its own."""
    return subprocess.run(
        [*COMMAND, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        timeout=SLOWEST,
        check=False,
        **{"stdout": subprocess.PIPE, "env": BUFFERED, **options},
    )


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), (["--version"], 0), ([], 2), (["unknown"], 2)]
)
def test_usage(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit codes are those of every command line: 0 for help, 2 for wrong usage."""
    with pytest.raises(SystemExit) as exited:
        cli.main(arguments)

    assert exited.value.code == code
    shown = capsys.readouterr()
    assert "resilient-requests" in (shown.err if code else shown.out)


def test_a_bare_call_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """A newcomer types the name of the command, and looks."""
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main([])

    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", text)
    for command in ("demo", "chat", "probe", "run"):
        assert f"\n    {command} " in text


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["probe", "--help"]])
def test_a_reader_that_has_left_is_no_traceback(arguments: list[str]) -> None:
    """``resilient-requests --help | head -1``; Python's own complaint at exit would be one."""
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = run(*arguments, stdout=theirs)
    finally:
        os.close(theirs)

    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_named() -> None:
    """It must not look like success, nor like a bug."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = run("--help", stdout=full)

    said = "resilient-requests: OSError(ENOSPC): No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


def completed(typed: str, answer: Path) -> set[str]:
    """Return the words that the command offers to a shell, as bash asks for them."""
    pytest.importorskip("argcomplete")
    environment = {
        **BUFFERED,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": typed,
        "COMP_POINT": str(len(typed)),
        "COMP_TYPE": "9",
    }
    run(env=environment)
    return set(answer.read_text().split("\n")) - {""}


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("resilient-requests ", {"demo", "chat", "probe", "run", "-h", "--help", "--version"}),
        ("resilient-requests pr", {"probe"}),
        ("resilient-requests probe --me", {"--method"}),
        ("resilient-requests probe --method O", {"OPTIONS"}),
        ("resilient-requests chat --dialect ol", {"ollama"}),
        ("resilient-requests probe --ru", set()),  # for tests only
    ],
)
def test_a_shell_completes_words(typed: str, offered: set[str], tmp_path: Path) -> None:
    """Commands, options and their choices, by argcomplete."""
    assert completed(typed, tmp_path / "answer") == offered


def test_a_url_is_not_completed_with_names_of_files(tmp_path: Path) -> None:
    """By itself, argcomplete would complete it so."""
    words = completed("resilient-requests probe ", tmp_path / "answer")

    assert "--max-idle" in words
    assert {word for word in words if not word.startswith("-")} == set()


def test_a_program_is_completed_with_names_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one, mostly."""
    (tmp_path / "program.py").touch()
    monkeypatch.chdir(tmp_path)

    assert "program.py" in completed("resilient-requests run pro", tmp_path / "answer")


def test_without_argcomplete_a_shell_gets_no_answer() -> None:
    """The core dependencies suffice, and nothing is run by a press of the Tab key."""
    code = (
        "import sys; sys.modules['argcomplete'] = None; "
        "from resilient_requests.cli import main; raise SystemExit(main([]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=SLOWEST,
        check=False,
        env={**BUFFERED, "_ARGCOMPLETE": "1"},
    )

    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "module", ["resilient_requests.cli", "resilient_requests.cli.probe", "argparse"]
)
def test_interrupting_the_imports_is_130(module: str) -> None:
    """They take a good part of a second, in which people notice a mistyped command."""
    code = (
        f"import sys\n"
        f"import resilient_requests\n"
        f"class Interrupted:\n"
        f"    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}:\n"
        f"            raise KeyboardInterrupt\n"
        f"sys.meta_path.insert(0, Interrupted())\n"
        f"sys.modules.pop('argparse', None)\n"
        f"from resilient_requests.__main__ import main"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=SLOWEST, check=False
    )

    assert (done.returncode, done.stderr) == (130, b"")


def test_interrupting_a_prompt_from_the_keyboard_is_130() -> None:
    """``chat -`` waits for somebody who has changed their mind."""
    code = (
        "import sys\n"
        "from resilient_requests.cli import main\n"
        "class Keyboard:\n"
        "    def read(self, keyboard=sys.stdin):\n"
        "        print('ready', flush=True)\n"
        "        return keyboard.read()\n"
        "sys.stdin = Keyboard()\n"
        "sys.exit(main(['chat', '-']))"
    )
    with terminal([sys.executable, "-c", code]) as shown:
        ended = shown.wait_for("ready").press_ctrl_c().end()

    assert ended == 130
    assert "Traceback" not in shown.text
