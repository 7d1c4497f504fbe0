"""The plan of the house: imports point down, modules stay small, each says what it is."""

from __future__ import annotations

import ast

import pytest
from house import FLOORS, Module, circles, graph_of, read, upward_imports

MODULES = read()
MAX_MODULE_LINES = 470
MAX_FUNCTION_LINES = 60


def test_the_plan_names_each_room_once() -> None:
    """A room on two floors could import itself downwards; one that is gone would mislead."""
    planned = [room for floor in FLOORS for room in floor]

    assert sorted(planned) == sorted({module.room for module in MODULES})


def test_imports_point_down() -> None:
    """A module that knows only what is below it can be understood, and tested, without the rest."""
    assert list(upward_imports(MODULES)) == []


def test_no_modules_import_each_other() -> None:
    """Also within a folder, and for types only: what imports each other is one module."""
    assert circles(graph_of(MODULES)) == []


def test_imports_stand_at_the_top() -> None:
    """A hidden import is a hidden circle; only an optional extra is looked for at its use."""
    assert {each.name: found for each in MODULES if (found := list(each.local_imports()))} == {}


def test_modules_and_functions_stay_small() -> None:
    """A reader keeps one screen in mind, not four."""
    long = {each.name: len(each.text.splitlines()) for each in MODULES}
    functions = dict(pair for each in MODULES for pair in each.functions())

    assert {name: lines for name, lines in long.items() if lines > MAX_MODULE_LINES} == {}
    assert {name: lines for name, lines in functions.items() if lines > MAX_FUNCTION_LINES} == {}


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
    """Of two, of three, and no path that only leads into one."""
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
