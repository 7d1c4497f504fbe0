"""A Python program that takes over this process as if python had been started with it."""

from __future__ import annotations

import builtins
import os
import pkgutil
import re
import runpy
import shutil
import sys
import types
import zipfile
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resilient_requests.adapter import install
from resilient_requests.cli._arguments import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Program"]

# The first line of a script on the PATH. If the path is too long for the kernel, or has a blank in
# it, pip writes a line for /bin/sh that Python reads as a string.
_INTERPRETER = re.compile(rb"#!(?:/bin/sh\n'''exec')?\s*[\"']?([^\"'\n]*python[^\s\"'/]*)")
_HEAD = 2048


class Program:
    """A program and its arguments; ``run`` is called once, at the end of this process.

    ``name``: a file, a directory or zip file with a ``__main__``, or a command on the PATH; with
    ``is_module`` the name of a module. Raises UsageError if there is no such program.
    """

    def __init__(self, name: str, arguments: Sequence[str], *, is_module: bool) -> None:
        self._name = name if is_module else _found(name)
        self._arguments = list(arguments)
        self._is_module = is_module

    def run(self) -> int:
        """Install the adapter, and run the program; returns 0 if the program ends normally.

        Any exception of the program passes to python, which gives it its usual exit code. The
        traceback omits the lines of this package.
        """
        install()
        sys.argv = [self._name, *self._arguments]
        # It stays until the process ends: threads may still use its names.
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        vars(main)["__builtins__"] = builtins
        try:
            self._run(main)
        except BaseException as error:
            _hide_ours(error)
            raise
        return 0

    def _run(self, main: types.ModuleType) -> None:
        # The function that python itself calls for -m, and for directories and zip files.
        as_main: Any = runpy._run_module_as_main  # type: ignore[attr-defined]
        path = Path(self._name).absolute()
        if self._is_module:
            _search(Path.cwd())
            as_main(self._name)
        elif pkgutil.get_importer(str(path)) is not None:
            _search(path, always=True)
            as_main("__main__", alter_argv=False)
        else:
            _search(path.resolve().parent)
            _execute(str(path), main)


def _found(name: str) -> str:
    """Return the path of a program; as a file first, as python does, then as a command."""
    if Path(name).is_file() or (name and Path(name, "__main__.py").is_file()):
        return name
    # This interpreter's own commands come first: its environment may not be activated.
    own = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    command = shutil.which(name, path=own)
    if command is not None:
        _check(name, command)
        return command
    raise UsageError(f"there is no program {name}, nor such a command on the PATH")


def _check(name: str, command: str) -> None:
    """Raise UsageError if a command is not a program of this interpreter."""
    with Path(command).open("rb") as file:
        head = file.read(_HEAD)
    found = _INTERPRETER.match(head)
    if found is None:
        if zipfile.is_zipfile(command):  # pip makes such files on Windows
            return
        raise UsageError(f"{name} is no Python program: {command}")
    theirs = Path(os.fsdecode(found[1]))
    if theirs.is_file() and not theirs.parent.samefile(Path(sys.executable).parent):
        raise UsageError(
            f"{command} belongs to {theirs}: install resilient_requests there, "
            "or name the file to run it in this Python"
        )


def _search(directory: Path, *, always: bool = False) -> None:
    """Search for modules in the places where python searches for those beside a program.

    ``always``: even if Python was told to leave such places alone (-P, -I).
    """
    if not getattr(sys.flags, "safe_path", sys.flags.isolated):
        sys.path[0] = str(directory)  # the entry was that of this command
    elif always:
        sys.path.insert(0, str(directory))


def _execute(path: str, main: types.ModuleType) -> None:
    """Run the code of a file in a module, as python does with a script."""
    loader: SourceFileLoader | SourcelessFileLoader
    if path.endswith(".pyc"):
        loader = SourcelessFileLoader("__main__", path)
        code: Any = loader.get_code("__main__")
    else:
        loader = SourceFileLoader("__main__", path)
        code = loader.source_to_code(loader.get_data(path), path)  # writes no file into __pycache__
    vars(main).update(__file__=path, __cached__=None, __loader__=loader)
    exec(code, vars(main))  # noqa: S102  # running the program is its purpose


def _hide_ours(error: BaseException) -> None:
    """Let the traceback of an error that ends the process begin in the program."""
    below = error.__traceback__ and error.__traceback__.tb_next
    own = (__file__, runpy.__file__, "<frozen ")
    while below is not None and below.tb_frame.f_code.co_filename.startswith(own):
        below = below.tb_next
    hook = sys.excepthook

    def show(kind: type[BaseException], value: BaseException, _: object) -> None:
        hook(kind, value.with_traceback(below), below)

    sys.excepthook = show
