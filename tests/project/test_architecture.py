"""The plan of the house: imports point down, modules stay small, each states its purpose."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from house import (
    FLOORS,
    Module,
    circles,
    folders,
    graph_of,
    private_imports,
    read,
    upward_imports,
)

MODULES = read()
TESTS = Path(__file__).resolve().parents[1]
MAX_FOLDER = 13
MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 30
LONG_MODULES = {
    "adapter._adapter": "half of it is what users read in help()",
    "call._attempt": "one object has all facts, and only its own methods write them",
    "retry._call": "the state of one call, and all that changes it",
    "stream._reader": "one reading loop under one set of clocks",
    "transport._generations": "the state of all pools under one lock",
}
LONG_FUNCTIONS = {
    "adapter._adapter:__init__": "its parameters",
    "adapter._adapter:send": "its parameters, which are requests' own",
    "adapter._adapter:warm": "its parameters and what users read of them",
    "chat._api:complete_chat": "its parameters and what users read of them",
    "chat._api:stream_chat": "its parameters and what users read of them",
    "chat._request:build": "one request, from top to bottom",
    "otel:__init__": "its instruments, one a line",
    "retry._call:_once": "one attempt from beginning to end, in one try statement",
    "retry._loop:repeat": "tenacity's options, one a line",
    "stream._framing:feed": "a call for each line would cost as much as all else",
    "stream._reader:read": "the way of each event: a call more is a tenth of its cost",
    "stream.events._sse:feed": "the way of each event",
    "testing._script:respond": "its parameters and what users read of them",
    "testing._script:stream": "its parameters and what users read of them",
    "testing._script:sse": "its parameters and what users read of them",
    "testing._server:__init__": "its parameters",
    "transport._socket:recv": "the way of each event",
    "transport.dial._dial:connect": "one race from beginning to end",
}
"""Those that would not become clearer by a cut, and why."""


def test_the_plan_names_each_room_once() -> None:
    """A room on two floors could import itself downwards; one that is gone would mislead."""
    planned = [room for floor in FLOORS for room in floor]

    assert sorted(planned) == sorted({module.room for module in MODULES})


def test_imports_point_down() -> None:
    """A module that knows only lower modules can be understood, and tested, without the rest."""
    assert list(upward_imports(MODULES)) == []


def test_no_modules_import_each_other() -> None:
    """Two modules that import each other are one.

    The rule holds within a folder, too, and for imports of types.
    """
    assert circles(graph_of(MODULES)) == []


def test_imports_stand_at_the_top() -> None:
    """A hidden import is a hidden circle; only an optional extra is looked for at its use."""
    assert {each.name: found for each in MODULES if (found := list(each.local_imports()))} == {}


def test_modules_and_functions_stay_small() -> None:
    """A reader keeps one screen in mind, not four."""
    modules = {each.name for each in MODULES if len(each.text.splitlines()) > MAX_MODULE_LINES}
    functions = {name for each in MODULES for name, n in each.functions() if n > MAX_FUNCTION_LINES}

    assert modules == set(LONG_MODULES)
    assert functions == set(LONG_FUNCTIONS)


def test_folders_stay_small() -> None:
    """More names than that are not taken in at a glance."""
    assert {name: n for name, n in folders(MODULES).items() if n > MAX_FOLDER} == {}


def test_rooms_show_what_others_may_use() -> None:
    """A maintainer of a room can then cut, join or rename its private modules."""
    assert list(private_imports(MODULES)) == []


def test_tests_import_private_modules_of_their_own_room_only() -> None:
    """A test of another room would hold it in its present form."""
    rooms = {each.room for each in MODULES}
    found = []
    for path in sorted(TESTS.rglob("*.py")):
        room = path.relative_to(TESTS).parts[0]
        if room in rooms:  # the proof is exempt, since it attacks every part
            module = Module(room, path.read_text(encoding="utf-8"))
            found += [f"{path.name}: {each}" for each in private_imports([module], MODULES)]

    assert found == []


def test_each_module_says_what_it_is() -> None:
    """One module, one sentence."""
    assert [each.name for each in MODULES if not (ast.get_docstring(each.tree) or "").strip()] == []


@pytest.mark.parametrize(
    ("module", "errors"),
    [
        (Module("transport._pool", "from resilient_requests.adapter import X"), 1),
        (Module("transport._pool", "import resilient_requests.adapter"), 1),
        (Module("transport._pool", "from ..adapter import X"), 1),
        (Module("transport._pool", "from .. import adapter"), 1),
        (Module("transport._pool", "if TYPE_CHECKING:\n    from ..adapter import X"), 1),
        (Module("transport._pool", "def f():\n    from ..adapter import X"), 1),
        (Module("adapter", "from resilient_requests import ResilientAdapter"), 1),
        (Module("adapter", "import resilient_requests"), 1),
        (Module("stream._body", "from resilient_requests.retry import decide"), 1),
        (Module("testing._server", "from resilient_requests import _checks"), 1),
        (Module("_utils", "from resilient_requests import exceptions"), 1),
        (Module("adapter", "from ._utils import helper"), 1),
        (
            Module("adapter", "from resilient_requests.transport import X\nfrom . import _checks"),
            0,
        ),
        (Module("transport._pool", "from ._head import X\nimport os.path, urllib3.util"), 0),
        (Module("transport", "from . import _head", is_package=True), 0),
        (Module("__init__", "from .adapter import X\nfrom .chat import Y", is_package=True), 0),
    ],
)
def test_the_checker_tells_good_imports_from_bad_ones(module: Module, errors: int) -> None:
    """A checker that never complains proves nothing, nor one that always does."""
    rooms = [Module(room, "") for floor in FLOORS for room in floor if room != module.name]

    assert len(list(upward_imports([module, *rooms]))) == errors


def test_the_checker_sees_circles() -> None:
    """It sees circles of two and of three, and no path that only leads into one."""
    graph = {"a": {"b"}, "b": {"a"}, "c": {"d"}, "d": {"e"}, "e": {"c"}, "f": {"a"}, "g": set()}

    assert circles(graph) == [["a", "b"], ["c", "d", "e"]]


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("import json", 0),
        ("if True:\n    import json", 0),
        ("def f():\n    import json", 1),
        ("class A:\n    def f(self):\n        if self:\n            from json import loads", 1),
        ("async def f():\n    import json", 1),
        ("def f():\n    import rich  # optional: the extra `cli`", 0),
        ("def f():\n    from rich import (  # optional: the extra `cli`\n        table,\n    )", 0),
        ("def f():\n    import rich  # not optional: needed", 1),
    ],
)
def test_the_checker_sees_an_import_in_a_function(text: str, errors: int) -> None:
    """Only the comment that names an extra makes an exception."""
    assert len(list(Module("_pool", text).local_imports())) == errors


def test_the_checker_counts_decorators_and_leaves_overloads_out() -> None:
    """Decorators are read with the function; an overload is a signature."""
    text = "@decorator\ndef f():\n    pass\n\n@overload\ndef g():\n    ...\n"

    assert list(Module("_pool", text).functions()) == [("_pool:f", 3)]
