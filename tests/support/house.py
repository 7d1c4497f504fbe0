"""The plan of the house, and the facts read from its files: imports, circles, sizes."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PACKAGE = "resilient_requests"
ROOT = Path(__file__).resolve().parents[2] / PACKAGE

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"exceptions", "_checks", "testing"}),
    frozenset({"call"}),
    frozenset({"transport", "otel", "diagnosis"}),
    frozenset({"retry", "stream"}),
    frozenset({"adapter", "chat"}),
    frozenset({"__init__", "cli", "web"}),
    frozenset({"__main__"}),
)
"""Rooms from the ground up. A room is a folder or a module at the top of the package."""

OPTIONAL = "# optional:"
"""An import in a function carries a comment that starts like this and names the extra."""


class Module:
    """One file of the package: ``name`` is its dotted path below the package."""

    def __init__(self, name: str, text: str, *, is_package: bool = False) -> None:
        self.name, self.text, self.is_package = name, text, is_package

    @property
    def room(self) -> str:
        """The folder or module at the top of the package that it is in."""
        return self.name.partition(".")[0]

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax."""
        return ast.parse(self.text)

    def imports(self, names: Iterable[str]) -> Iterator[tuple[int, str]]:
        """Yield line and target of each import of the package; those for types count too."""
        known = set(names)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (
                    (node.lineno, path) for each in node.names if (path := _inside(each.name))
                )
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                if base is None:
                    continue
                for each in node.names:
                    path = f"{base}.{each.name}".removeprefix("__init__.")
                    yield node.lineno, path if path in known else base

    def _base(self, node: ast.ImportFrom) -> str | None:
        if not node.level:
            return _inside(node.module or "")
        parts = [] if self.name == "__init__" else self.name.split(".")
        parts = parts if self.is_package else parts[:-1]
        parts = parts[: len(parts) - (node.level - 1)]
        return ".".join([*parts, *([node.module] if node.module else [])]) or "__init__"

    def functions(self) -> Iterator[tuple[str, int]]:
        """Yield the name and the lines of each function, decorators and docstring included."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                if not any("overload" in ast.unparse(each) for each in node.decorator_list):
                    yield f"{self.name}:{node.name}", (node.end_lineno or node.lineno) - first + 1

    def local_imports(self) -> Iterator[int]:
        """Yield the line of each import within a function that is not marked as an extra's."""
        lines = self.text.splitlines()
        for function in ast.walk(self.tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                for node in ast.walk(function):
                    if isinstance(node, ast.Import | ast.ImportFrom):
                        statement = lines[node.lineno - 1 : node.end_lineno]
                        if not any(OPTIONAL in line for line in statement):
                            yield node.lineno


def _inside(path: str) -> str | None:
    """Return a dotted path below the package; None where it leads elsewhere."""
    if path == PACKAGE:
        return "__init__"
    return path.removeprefix(f"{PACKAGE}.") if path.startswith(f"{PACKAGE}.") else None


def read() -> list[Module]:
    """Return the modules of the package."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts) or "__init__"
        found.append(Module(name, path.read_text(encoding="utf-8"), is_package=is_package))
    return found


def floor_of(room: str) -> int | None:
    """Return the floor of a room, from 1; None where the plan does not know it."""
    return next((number for number, rooms in enumerate(FLOORS, 1) if room in rooms), None)


def upward_imports(modules: Iterable[Module]) -> Iterator[str]:
    """Yield each import that does not point down, or leads from or to a room without a floor."""
    modules = list(modules)
    names = [each.name for each in modules]
    for module in modules:
        own = floor_of(module.room)
        for line, target in module.imports(names):
            room = target.partition(".")[0]
            floor = floor_of(room)
            if room != module.room and (own is None or floor is None or floor >= own):
                yield f"{module.name}:{line}: {module.room} must not import {room}"


def private_imports(modules: Iterable[Module], others: Iterable[Module] = ()) -> Iterator[str]:
    """Yield each import of another room's private module: a room's ``__init__`` says what it shows.

    ``others``: modules that may be imported, and are not looked at.
    """
    modules = list(modules)
    names = [each.name for each in (*modules, *others)]
    for module in modules:
        for line, target in module.imports(names):
            room, _, inside = target.partition(".")
            if room != module.room and any(each.startswith("_") for each in inside.split(".")):
                yield f"{module.name}:{line}: {target} is private to {room}"


def folders(modules: Iterable[Module]) -> dict[str, int]:
    """Return how many modules each folder has, its ``__init__`` left out."""
    counted = Counter(each.name.rpartition(".")[0] for each in modules if not each.is_package)
    return dict(counted)


def graph_of(modules: Iterable[Module]) -> dict[str, set[str]]:
    """Return the imports of each module."""
    modules = list(modules)
    names = {each.name for each in modules}
    return {
        each.name: {target for _, target in each.imports(names) if target in names} - {each.name}
        for each in modules
    }


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or not."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for each in graph.get(waiting.pop(), set()) - seen:
                seen.add(each)
                waiting.append(each)
        return seen

    reached = {name: reach(name) for name in graph}
    found = {
        tuple(sorted(other for other in reached[name] if name in reached.get(other, set())))
        for name in graph
        if name in reached[name]
    }
    return [list(each) for each in sorted(found)]
