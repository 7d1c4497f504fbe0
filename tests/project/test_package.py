"""The package as it is installed: its names, its metadata, and the cost of its import."""

from __future__ import annotations

import inspect
import json
import re
import runpy
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import resilient_requests

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
OPTIONAL = (
    "rich",
    "trustme",
    "pytest",
    "opentelemetry",
)  # requests itself imports PySocks where it is there

PROBE = """
import json, sys, threading
import resilient_requests
print(json.dumps({"modules": sorted(sys.modules), "threads": threading.active_count()}))
"""


@pytest.mark.parametrize("name", resilient_requests.__all__)
def test_each_public_name_is_there(name: str) -> None:
    """A name in ``__all__`` that does not exist breaks every star import."""
    assert getattr(resilient_requests, name) is not None


def test_each_public_name_stands_once() -> None:
    """The list is the API: it is read, and compared between releases.

    Its order is ruff's business.
    """
    names = resilient_requests.__all__

    assert len(names) == len(set(names))


def handed_over(name: str) -> Iterator[tuple[str, str]]:
    """The types that a public name hands over: a return, fields, properties and methods."""
    found = getattr(resilient_requests, name)
    if not inspect.isclass(found):
        yield name, str(getattr(found, "__annotations__", {}).get("return"))
        return
    for kind in (
        each for each in found.__mro__ if each.__module__.startswith(resilient_requests.__name__)
    ):
        fields = vars(kind).get("__annotations__", {})
        yield from (
            (f"{name}.{field}", str(of))
            for field, of in fields.items()
            if not field.startswith("_")
        )
        for method, value in vars(kind).items():
            if not method.startswith("_") or method == "__next__":
                function = getattr(value, "fget", getattr(value, "__func__", value))
                yield (
                    f"{name}.{method}",
                    str(getattr(function, "__annotations__", {}).get("return")),
                )


def test_what_is_handed_over_can_be_named() -> None:
    """An annotation needs the type of a field, or of a loop's items, as much as a function."""
    modules = [
        module
        for name, module in sys.modules.items()
        if name.startswith(f"{resilient_requests.__name__}.")
    ]
    ours = {
        name for module in modules for name, found in vars(module).items() if inspect.isclass(found)
    }
    ours &= {name for module in modules for name in getattr(module, "__all__", ())}
    types = [
        (where, word)
        for name in resilient_requests.__all__
        for where, annotation in handed_over(name)
        for word in re.findall(r"\w+", annotation)
        if word in ours
    ]

    assert ("AdapterStats.origins", "OriginStats") in types
    unnamed = {(where, word) for where, word in types if word not in resilient_requests.__all__}
    assert unnamed == set()


def test_the_type_marker_is_shipped() -> None:
    """Without py.typed a user's mypy takes every name of ours for Any."""
    assert resources.files("resilient_requests").joinpath("py.typed").is_file()


def test_the_version_is_that_of_the_metadata() -> None:
    """A version that stands in two places differs sooner or later."""
    assert resilient_requests.__version__ == metadata.version("resilient_requests")


FILES = re.compile(r"\]\((?![a-z]+:|#)")


def test_the_page_of_an_index_has_no_link_to_a_file() -> None:
    """The README's own links lead to files beside it, which an index does not have."""
    described = str(metadata.metadata("resilient_requests").json["description"])

    assert described.startswith("# resilient_requests")
    assert not FILES.search(described)


def test_with_an_address_the_page_of_an_index_has_every_link_of_the_readme() -> None:
    """An anchor inside the page stays."""
    for_index = runpy.run_path(str(ROOT / "setup.py"))["for_index"]
    readme = (ROOT / "README.md").read_text("utf-8") + "\n[top](#top) [site](https://a.test)\n"
    described = for_index(readme, "https://code.test/us/ours")

    assert not FILES.search(described)
    assert len(re.findall(r"\]\(", described)) == len(re.findall(r"\]\(", readme))
    assert "[proof](https://code.test/us/ours/blob/HEAD/docs/proof.md)" in described
    assert described.endswith("[top](#top) [site](https://a.test)\n")


def test_the_command_is_declared() -> None:
    """The README's first command calls it."""
    scripts = metadata.entry_points(group="console_scripts", name="resilient-requests")

    assert [script.value for script in scripts] == ["resilient_requests.__main__:main"]


def test_importing_loads_no_extra_and_starts_no_thread() -> None:
    """Every process pays for an import, and no thread survives the fork of a web server."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    seen = json.loads(done.stdout)

    assert [name for name in OPTIONAL if name in seen["modules"]] == []
    assert seen["threads"] == 1
