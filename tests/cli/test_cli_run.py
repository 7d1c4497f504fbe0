"""The command that runs a program: as python would, but for the adapter in its sessions."""

from __future__ import annotations

import os
import py_compile
import shutil
import signal
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from resilient_requests import cli
from resilient_requests.testing import FaultServer, ReceivedRequest, Reply, reset, respond

if TYPE_CHECKING:
    from collections.abc import Callable

    Write = Callable[..., Path]

SLOWEST = 40.0
OURS = (sys.executable, "-m", "resilient_requests", "run")
PYTHON = (sys.executable,)

# A program can see these traces of the way in which it was started.
LOOK = """
import sys
def function(): pass
print(sys.argv, __file__, __name__, sys.path[0], __package__, __cached__, __doc__)
print(__spec__ and __spec__.name, type(__loader__), type(__builtins__), function.__module__)
print(sys.modules["__main__"].__dict__ is globals())
print(sorted(set(globals()) - {"__annotations__"}))
"""

# A session that nobody could reach: the same connection, which the server resets when it is reused.
CALLS = """
import requests, sys
with requests.Session() as session:
    for _ in range(3):
        print(session.post(sys.argv[1], data=b"x").text, end=" ")
print(type(session.get_adapter("https://")).__name__)
"""


class Ended:
    """The output of a process, and its end."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ended) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return f"{self.code}\n{self.out}\n{self.err}"

    __hash__ = None  # type: ignore[assignment]  # never needed


def run(command: tuple[str, ...], *arguments: str, cwd: Path, **environment: str) -> Ended:
    """Run a command in a directory."""
    done = subprocess.run(
        [*command, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=SLOWEST,
        check=False,
        env={**os.environ, **environment},
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file into the directory of the test."""

    def write(name: str, text: str, *, executable: bool = False) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if executable:
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return write


@pytest.fixture
def forgetful(fault_server: FaultServer) -> FaultServer:
    """Resets, unread, every request on a used connection."""

    def answer(request: ReceivedRequest) -> Reply:
        is_first = fault_server.connections[request.connection - 1].requests == 1
        return respond(b"ok") if is_first else reset(applies=False)

    fault_server.default = answer
    return fault_server


# -- its purpose -----------------------------------------------------------------------------------


@pytest.mark.parametrize("as_module", [False, True])
def test_a_program_survives_stale_connections(
    forgetful: FaultServer, tmp_path: Path, write: Write, *, as_module: bool
) -> None:
    """No line of the program has been changed."""
    write("calls.py", CALLS)
    program = ["-m", "calls"] if as_module else ["calls.py"]
    plain = run(PYTHON, *program, forgetful.url, cwd=tmp_path)
    ours = run(OURS, *program, forgetful.url, cwd=tmp_path)

    assert (plain.code, "ConnectionResetError" in plain.err) == (1, True)
    assert ours == Ended(0, "ok ok ok InstalledAdapter\n", "")


def test_a_package_that_names_its_base_at_import_is_reached(tmp_path: Path, write: Write) -> None:
    """Nothing that the program imports comes before the adapter."""
    write("package.py", "from requests.adapters import HTTPAdapter\nclass Own(HTTPAdapter): pass")
    write("program.py", "import package\nprint([k.__name__ for k in package.Own.__mro__[1:4]])")

    done = run(OURS, "program.py", cwd=tmp_path)
    assert done.out == "['InstalledAdapter', '_AsRequests', 'ResilientAdapter']\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
def test_forked_children_have_it_too(forgetful: FaultServer, tmp_path: Path, write: Write) -> None:
    """The workers of gunicorn and Celery are such children."""
    fork = "import os, sys\nif os.fork(): sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    write("forks.py", fork + CALLS)

    done = run(OURS, "forks.py", forgetful.url, cwd=tmp_path)
    assert done == Ended(0, "ok ok ok InstalledAdapter\n", "")


def test_the_environment_holds_the_settings(tmp_path: Path, write: Write) -> None:
    """The user's program has no place for them."""
    code = "import requests; print(requests.Session().get_adapter('http://').keepalive.expiry)"
    write("settings.py", code)

    done = run(OURS, "settings.py", cwd=tmp_path, RESILIENT_REQUESTS_KEEPALIVE="4")
    assert done == Ended(0, "4.0\n", "")


# -- as python does it -----------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path, write: Write) -> Path:
    """A directory with a program in each form that python takes."""
    script = write("look.py", LOOK)
    write("package/__init__.py", "")
    write("package/__main__.py", LOOK)
    write("package/inner.py", LOOK)
    write("directory/__main__.py", LOOK)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "link").symlink_to(script)
    py_compile.compile(str(script), str(tmp_path / "compiled.pyc"))
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", LOOK)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        "look.py a --b -- -m c",
        "bin/link -h",
        "compiled.pyc",
        "directory --version",
        "archive.zip x",
        "-m look -x --help",
        "-m package y",
        "-m package.inner",
    ],
)
def test_a_program_sees_what_python_would_show_it(programs: Path, arguments: str) -> None:
    """It sees its arguments with options, the path of its modules, and its own ``__main__``."""
    words = arguments.split()
    expected = run(PYTHON, *words, cwd=programs)

    assert (expected.code, expected.err) == (0, "")
    assert run(OURS, *words, cwd=programs) == expected


@pytest.mark.skipif(sys.version_info < (3, 11), reason="-P is of Python 3.11")
@pytest.mark.parametrize("arguments", ["look.py", "directory"])
def test_a_safe_path_stays_safe(programs: Path, arguments: str) -> None:
    """With ``-P``, modules beside a script are not found.

    Those in a directory that is the program are.
    """
    package = str(Path(cli.__file__).parents[2])
    expected = run((sys.executable, "-P"), arguments, cwd=programs, PYTHONPATH=package)
    command = (sys.executable, "-P", *OURS[1:])

    assert run(command, arguments, cwd=programs, PYTHONPATH=package) == expected


ENDS = {
    "falls off": "print('out')",
    "code": "import sys; sys.exit(7)",
    "no code": "import sys; sys.exit()",
    "words": "import sys; sys.exit('words')",
    "error": "def f(): 1/0\nf()",
    "os error": "open('/nowhere/at all')",
    "broken pipe": "raise BrokenPipeError(32, 'Broken pipe')",
    "syntax": "def (",
    "hook": "import sys; sys.excepthook = lambda k, v, t: print(k, t.tb_lineno); raise ValueError",
    "exits in a hook": "import atexit, os; atexit.register(lambda: os._exit(5))",
    "usage": "import argparse; argparse.ArgumentParser(prog='p').parse_args(['--unknown'])",
    "interrupted": "raise KeyboardInterrupt",
    "terminated": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
}


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
def test_a_program_ends_as_in_python(tmp_path: Path, write: Write, end: str) -> None:
    """Its code or signal, its output, and its traceback, in which no line of ours stands."""
    write("ends.py", ENDS[end])
    expected = run(PYTHON, "ends.py", cwd=tmp_path)

    assert run(OURS, "ends.py", cwd=tmp_path) == expected


def test_ctrl_c_is_the_programs_own(tmp_path: Path, write: Write) -> None:
    """This command ends with 130 and without a word otherwise; a program may do as it likes."""
    write("waits.py", "try: print('ready', flush=True); input()\nexcept BaseException: print('me')")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [*OURS, "waits.py"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()

        assert (process.wait(SLOWEST), rest) == (0, b"me\n")


def test_a_thread_that_outlives_the_program_finds_it(tmp_path: Path, write: Write) -> None:
    """Pickle, for one, looks into ``__main__`` for the classes of a program."""
    code = (
        "import atexit, pickle, sys, threading\n"
        "class Thing: pass\n"
        "def work():\n"
        "    threading.main_thread().join()\n"
        "    print(pickle.loads(pickle.dumps(Thing())).__class__ is Thing)\n"
        "atexit.register(lambda: print(sys.modules['__main__'].Thing is Thing))\n"
        "threading.Thread(target=work).start()\n"
        "sys.exit(3)"
    )
    write("threads.py", code)

    assert run(OURS, "threads.py", cwd=tmp_path) == Ended(3, "True\nTrue\n", "")


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_a_closed_stdout_is_the_programs_business(tmp_path: Path, write: Write) -> None:
    """Daemons are started so."""
    write("quiet.py", "import sys; print('x'); sys.exit(9 if sys.stdout is None else 1)")
    done = run(
        ("/bin/sh", "-c", f"{sys.executable} {' '.join(OURS[1:])} quiet.py >&-"), cwd=tmp_path
    )

    assert done == Ended(9, "", "")


# -- commands on the PATH --------------------------------------------------------------------------


def test_a_command_of_this_environment_is_found(tmp_path: Path) -> None:
    """Without activation its directory is not on the PATH."""
    command = shutil.which("pytest", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("pytest has no command here")
    done = run(OURS, "pytest", "--version", cwd=tmp_path, PATH=os.defpath)

    assert done.code == 0
    assert "pytest" in done.out + done.err


SHEBANGS = {
    "a path": f"#!{sys.executable}\n",
    "env": "#!/usr/bin/env python3\n",
    "env with options": "#!/usr/bin/env -S python3 -u\n",
    "a path too long": f"#!/bin/sh\n'''exec' \"{sys.executable}\" \"$0\" \"$@\"\n' '''\n",
}


@pytest.mark.parametrize("first", SHEBANGS)
def test_a_command_is_run_in_this_process(tmp_path: Path, write: Write, first: str) -> None:
    """The path is in ``sys.argv``, and its directory is first in the search for modules."""
    code = "import os, sys; print(sys.argv, sys.path[0], os.getppid())"
    command = write("bin/tool", SHEBANGS[first] + code, executable=True)
    done = run(OURS, "tool", "-x", cwd=tmp_path, PATH=f"{command.parent}{os.pathsep}{os.defpath}")

    assert done == Ended(0, f"{[str(command), '-x']} {command.parent} {os.getpid()}\n", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\necho python\n", "is no Python program"),
        ("\x7fELF", "is no Python program"),
        ("#!{theirs}\nprint(1)\n", "belongs to {theirs}"),
    ],
    ids=["shell", "binary", "another python"],
)
def test_a_command_of_another_interpreter_is_wrong_usage(
    tmp_path: Path, write: Write, text: str, said: str
) -> None:
    """It would fail in a way that says nothing of why."""
    theirs = str(write("other/python3", "", executable=True))
    command = write("bin/tool", text.replace("{theirs}", theirs), executable=True)
    done = run(OURS, "tool", cwd=tmp_path, PATH=f"{command.parent}{os.pathsep}{os.defpath}")

    assert (done.code, done.out) == (2, "")
    assert said.replace("{theirs}", theirs) in done.err
    assert str(command) in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["nosuch"], ["no/such.py"], [""], ["-"], ["-m"], [], ["-x"]])
def test_no_program_is_wrong_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    """Said in the last line, by name; the directory that has none is not meant."""
    (tmp_path / "__main__.py").write_text("raise SystemExit('never')")
    monkeypatch.chdir(tmp_path)
    try:
        code: Any = cli.main(["run", *arguments])
    except SystemExit as exited:
        code = exited.code

    assert code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "resilient-requests run: " in shown.err.splitlines()[-1]


def test_a_module_that_there_is_not_is_pythons_own_error(tmp_path: Path) -> None:
    """The error has Python's words and exit code."""
    expected = run(PYTHON, "-m", "nosuch", cwd=tmp_path)

    assert expected.code == 1
    assert run(OURS, "-m", "nosuch", cwd=tmp_path) == expected


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_ours_before_the_program(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help behind the program's name is that of the program."""
    with pytest.raises(SystemExit) as exited:
        cli.main(["run", option])

    assert exited.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: resilient-requests run [-h] [-m] PROGRAM ...\n")
