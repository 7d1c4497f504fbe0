"""The plan of the house: imports point down, modules stay small, each says what it is."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from house_plan import FLOORS

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "resilient_requests"
ROOT = Path(__file__).resolve().parents[2] / PACKAGE

SIDEWAYS: dict[str, frozenset[str]] = {
    # importer: what it may import on its own floor, or, for `testing`, at all
    "_keepalive": frozenset({"_checks"}),
    "_budget": frozenset({"_checks"}),
    "_failures": frozenset({"_attempt"}),
    "_timeouts": frozenset({"_attempt"}),
    "_connection": frozenset({"_exchange"}),
    "_register": frozenset({"_connection"}),
    "_operation": frozenset({"_retry"}),
    "_reader": frozenset({"_body"}),
    "_stream": frozenset({"_body", "_reader"}),
    "_loops": frozenset({"_body", "_reader"}),
    "_response": frozenset({"_body", "_loops", "_reader", "_stream"}),
    "__main__": frozenset({"cli"}),
    "cli": frozenset({"__init__", "testing"}),
    "testing": frozenset(),
}
"""Every import that does not point down. A unit that is not named here imports nothing sideways."""

MAX_MODULE_LINES = 450
MAX_FUNCTION_LINES = 60
OPTIONAL = "# optional:"
"""An import in a function carries a comment that starts like this and names the extra."""


class Source(NamedTuple):
    """One module: its path from the package's root, without the suffix and with dots, and its text."""

    name: str
    text: str
    is_package: bool = False

    @property
    def unit(self) -> str:
        """The module, or the subpackage that it belongs to."""
        return self.name.partition(".")[0]

    @property
    def parent(self) -> list[str]:
        """The dotted path, below the package, that one leading dot of an import stands for."""
        parts = [] if self.name == "__init__" else self.name.split(".")
        return parts if self.is_package else parts[:-1]


def source_of(path: Path) -> Source:
    """Read a module of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if is_package else parts) or "__init__"
    return Source(name, path.read_text(encoding="utf-8"), is_package)


def floor_of(unit: str) -> int | None:
    """The floor that a unit is on; None for one that the plan does not know."""
    return next((number for number, units in enumerate(FLOORS) if unit in units), None)


def _absolute(source: Source, node: ast.ImportFrom) -> list[str] | None:
    """The path below the package that a from-import starts at; None where it leads out of the package."""
    parts = node.module.split(".") if node.module else []
    if node.level == 0:
        return parts[1:] if parts[0] == PACKAGE else None
    parent = source.parent
    return parent[: len(parent) - (node.level - 1)] + parts


def _targets(
    source: Source, node: ast.Import | ast.ImportFrom, units: frozenset[str]
) -> Iterator[str]:
    """Yield the units that an import statement names."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            first, *rest = alias.name.split(".")
            if first == PACKAGE:
                yield rest[0] if rest else "__init__"
        return
    path = _absolute(source, node)
    if path is None:
        return
    if path:
        yield path[0]
        return
    for alias in node.names:  # `from . import x`: a module, or a name of the package itself
        yield alias.name if alias.name in units else "__init__"


def import_errors(source: Source, units: frozenset[str]) -> Iterator[str]:
    """Yield each import that points up, or sideways without being listed; type-only imports count too."""
    own = floor_of(source.unit)
    if own is None and source.unit != "testing":
        yield f"{source.unit} is on no floor"
        return
    allowed = SIDEWAYS.get(source.unit, frozenset())
    for node in ast.walk(ast.parse(source.text)):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for target in _targets(source, node, units):
            if target == source.unit or target in allowed:
                continue
            floor = floor_of(target)
            if own is None or floor is None or floor >= own:
                yield f"line {node.lineno}: {source.unit} must not import {target}"


def _local_imports(tree: ast.AST, inside: bool = False) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the import statements within functions."""
    for node in ast.iter_child_nodes(tree):
        if inside and isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _local_imports(node, inside=inside or function)


def local_import_errors(source: Source) -> Iterator[str]:
    """Yield each import within a function that is not marked as that of an optional extra."""
    lines = source.text.splitlines()
    for node in _local_imports(ast.parse(source.text)):
        statement = lines[node.lineno - 1 : node.end_lineno]
        if not any(OPTIONAL in line for line in statement):
            yield f"line {node.lineno}: import within a function"


def size_errors(source: Source) -> Iterator[str]:
    """Yield what is too long: the module, or a function with its docstring and decorators."""
    length = len(source.text.splitlines())
    if length > MAX_MODULE_LINES:
        yield f"{length} lines, over {MAX_MODULE_LINES}"
    for node in ast.walk(ast.parse(source.text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            length = (node.end_lineno or node.lineno) - first + 1
            if length > MAX_FUNCTION_LINES:
                yield f"line {first}: {node.name} has {length} lines, over {MAX_FUNCTION_LINES}"


def docstring_errors(source: Source) -> Iterator[str]:
    """Yield a complaint about a module that does not say what it is."""
    if not (ast.get_docstring(ast.parse(source.text)) or "").strip():
        yield "no docstring"


SOURCES = [source_of(path) for path in sorted(ROOT.rglob("*.py"))]
UNITS = frozenset(source.unit for source in SOURCES)
each_module = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)


@each_module
def test_imports_point_down(source: Source) -> None:
    """A module that knows only what is below it can be understood, and tested, without what is above."""
    assert list(import_errors(source, UNITS)) == []


@each_module
def test_imports_stand_at_the_top(source: Source) -> None:
    """A hidden import is a hidden cycle; only an optional extra is looked for at its use."""
    assert list(local_import_errors(source)) == []


@each_module
def test_modules_and_functions_stay_small(source: Source) -> None:
    """What does not fit on a few screens is two things."""
    assert list(size_errors(source)) == []


@each_module
def test_each_module_says_what_it_is(source: Source) -> None:
    """One module, one sentence."""
    assert list(docstring_errors(source)) == []


def test_the_plan_names_each_unit_once() -> None:
    """A unit on two floors could import itself downwards."""
    units = [unit for floor in FLOORS for unit in floor]

    assert len(units) == len(set(units))
    assert set(SIDEWAYS) <= {*units, "testing"}


def test_sideways_imports_have_no_cycle() -> None:
    """What two modules of one floor may do to each other, they do."""

    def reach(unit: str, seen: tuple[str, ...] = ()) -> None:
        assert unit not in seen, " -> ".join([*seen, unit])
        for target in SIDEWAYS.get(unit, frozenset()):
            reach(target, (*seen, unit))

    for unit in SIDEWAYS:
        reach(unit)


KNOWN = frozenset().union(*FLOORS) | {"testing"}

BAD_IMPORTS = {
    "up": Source("_pool", "from ._adapter import ResilientAdapter"),
    "up, absolute": Source("_pool", "import resilient_requests._adapter"),
    "up, absolute from": Source(
        "_pool", "from resilient_requests._adapter import ResilientAdapter"
    ),
    "up, by the package": Source("_pool", "from . import _adapter"),
    "up, by a name of the package": Source("_adapter", "from . import ResilientAdapter"),
    "up, by the whole package": Source("_adapter", "import resilient_requests"),
    "up, for types only": Source("_pool", "if TYPE_CHECKING:\n    from ._adapter import X"),
    "up, in a function": Source("_pool", "def f():\n    from ._adapter import X"),
    "up, from a subpackage": Source("chat._openai", "from ..cli import main"),
    "up, from a subpackage's own init": Source("chat", "from ..cli import main", is_package=True),
    "sideways": Source("_failures", "from ._timeouts import Timeouts"),
    "sideways, in the cellar": Source("_budget", "from ._clock import now"),
    "to a unit without a floor": Source("_adapter", "from ._utils import helper"),
    "testing, to ours": Source("testing.server", "from .._clock import now"),
    "testing, to the package": Source(
        "testing.plugin", "from resilient_requests import ResilientAdapter"
    ),
    "ours, to testing": Source("_adapter", "from .testing import FaultServer"),
    "from a unit without a floor": Source("_utils", "import os"),
}


@pytest.mark.parametrize("source", BAD_IMPORTS.values(), ids=BAD_IMPORTS)
def test_the_checker_sees_a_bad_import(source: Source) -> None:
    """A checker that never complains proves nothing."""
    assert len(list(import_errors(source, KNOWN))) == 1


GOOD_IMPORTS = {
    "down": Source("_adapter", "from ._pool import X\nfrom . import _clock"),
    "down, from a subpackage": Source(
        "chat._openai", "from .._stream import X\nfrom ._wire import Y"
    ),
    "within a subpackage": Source(
        "chat", "from ._openai import X\nfrom . import _wire", is_package=True
    ),
    "sideways, listed": Source("_transport", "from ._response import X"),
    "of others": Source("_budget", "import os.path\nfrom urllib3.util import Timeout"),
    "testing, within": Source("testing.plugin", "from .server import FaultServer"),
    "all, by the package": Source(
        "__init__", "from ._adapter import X\nfrom .chat import Y", is_package=True
    ),
}


@pytest.mark.parametrize("source", GOOD_IMPORTS.values(), ids=GOOD_IMPORTS)
def test_the_checker_allows_a_good_import(source: Source) -> None:
    """A checker that always complains proves nothing either."""
    assert list(import_errors(source, KNOWN)) == []


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
    assert len(list(local_import_errors(Source("_pool", text)))) == errors


@pytest.mark.parametrize(
    ("lines", "errors"), [(MAX_FUNCTION_LINES, 0), (MAX_FUNCTION_LINES + 1, 1)]
)
def test_the_checker_sees_a_long_function(lines: int, errors: int) -> None:
    """Decorators count: they are read with the function."""
    text = "@decorator\ndef f():\n" + "    pass\n" * (lines - 2)

    assert len(list(size_errors(Source("_pool", text)))) == errors


@pytest.mark.parametrize(("lines", "errors"), [(MAX_MODULE_LINES, 0), (MAX_MODULE_LINES + 1, 1)])
def test_the_checker_sees_a_long_module(lines: int, errors: int) -> None:
    """Comments and blank lines count: they are read too."""
    assert len(list(size_errors(Source("_pool", "#\n" * lines)))) == errors


@pytest.mark.parametrize(
    ("text", "errors"), [('"""One sentence."""', 0), ('""" """', 1), ("x = 1", 1), ("", 1)]
)
def test_the_checker_sees_a_missing_docstring(text: str, errors: int) -> None:
    """An empty one says nothing."""
    assert len(list(docstring_errors(Source("_pool", text)))) == errors
